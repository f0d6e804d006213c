"""One stage as a process: `moodwire run STAGE`."""

import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from moodwire.errors import AssignmentLost, BadInput, StreamError
from moodwire.settings import Place, Settings
from moodwire.stage import Context
from moodwire.store.db import Store
from moodwire.store.health import Pulse
from moodwire.stream.embedded import EmbeddedLog
from moodwire.stream.log import Log

STAGES = ("ingest", "classifier", "trends", "alerts", "dashboard")  # in the order of the flow


class Replay(NamedTuple):
    """Files to bring in instead of live sources; speed None: as fast as it goes."""

    files: tuple[Path, ...]
    speed: float | None
    limit: int | None


def now() -> datetime:
    return datetime.now(UTC)


def open_log(place: Place, settings: Settings, instance: str = "look") -> Log:
    """The log of the configuration. instance: by which Kafka knows a consumer again. Raises StreamError."""
    stream, retention_s = settings.stream, settings.retention.stream_days * 86_400
    if stream.kind == "embedded":
        return EmbeddedLog(place.log, retention_s=retention_s)
    try:
        from moodwire.stream.kafka import Broker, KafkaLog
    except ImportError as error:
        raise StreamError(f"Kafka needs an extra ({error}): pip install 'moodwire[kafka]'") from error
    security = msgspec.structs.asdict(stream.security)
    return KafkaLog(
        Broker(stream.servers, stream.prefix, stream.partitions, stream.replication, security), instance, retention_s
    )


def instance_of(stage: str, settings: Settings) -> str:
    """Classifiers share the work, each by a name of its own; of the other stages one works at a time."""
    return (settings.stream.instance or socket.gethostname()) if stage == "classifier" else stage


def open_store(place: Place, settings: Settings) -> Store:
    """The store, brought to this version."""
    place.data.mkdir(parents=True, exist_ok=True)
    store = Store(place.store_url(settings))
    store.upgrade()
    return store


def run_stage(
    name: str, place: Place, settings: Settings, replay: Replay | None = None, notify_replayed: bool = False
) -> None:
    """Until SIGTERM or SIGINT, or until the parent is gone; then what is in hand is finished."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    for chatty in ("alembic", "httpx", "kafka"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    _watch_parent(stop)
    gc.set_threshold(50_000)  # a batch makes many records and no cycles: looking for some took a tenth of the time
    store = open_store(place, settings)
    context = Context(
        place=place,
        settings=settings,
        store=store,
        log=open_log(place, settings, instance_of(name, settings)),
        clock=now,
        pulse=Pulse(store, name, now),
        stop=stop,
    )
    context.pulse.beat(now=True)
    try:
        _work(name, replay, notify_replayed)(context)
    except AssignmentLost as error:
        logging.getLogger(name).warning("%s", error)
        raise
    finally:
        context.pulse.note = "stopped" if stop.is_set() else context.pulse.note
        context.pulse.beat(now=True)
        context.log.close()
        store.close()


def _work(name: str, replay: Replay | None, notify_replayed: bool) -> Callable[[Context], None]:
    if name == "ingest" and replay is not None:
        from ingest.replay import replay as run_replay

        given = replay
        return lambda context: run_replay(context, given.files, given.speed, _note_lines(context), given.limit)
    if name == "ingest":
        from ingest import stage as ingest

        return ingest.run
    if name == "classifier":
        from classifier import stage as classifier

        return classifier.run
    if name == "trends":
        from trends import flink, stage

        return lambda context: (flink if context.settings.windows.engine == "flink" else stage).run(context)
    if name == "alerts":
        from alerts import stage as alerts

        return lambda context: alerts.run(context, notify_replayed)
    if name == "dashboard":
        from dashboard import stage as dashboard

        return dashboard.run
    raise BadInput(f"there is no stage {name!r}; stages are {', '.join(STAGES)}")


def _note_lines(context: Context) -> Callable[[int], None]:
    def note(lines: int) -> None:
        context.pulse.note = f"{lines} lines"

    return note


def _watch_parent(stop: threading.Event) -> None:
    """A stage that a supervisor started does not outlive it."""
    parent = os.environ.get("MOODWIRE_SUPERVISOR")
    if parent is None:
        return

    def watch() -> None:
        while not stop.wait(1.0):
            if os.getppid() != int(parent):
                stop.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()

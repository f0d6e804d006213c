"""One stage as a process: `moodwire run STAGE`."""

import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import msgspec

from moodwire import loglines, metrics
from moodwire.errors import AssignmentLost, BadInput, ConfigError, LeaseLost, StoreError, StreamError
from moodwire.lookout import Lookout
from moodwire.settings import Heartbeat, Place, Settings
from moodwire.stage import Context
from moodwire.store import lease
from moodwire.store.db import Store
from moodwire.store.health import Pulse
from moodwire.stream.embedded import EmbeddedLog
from moodwire.stream.log import Log

STAGES = ("ingest", "classifier", "trends", "alerts", "dashboard")  # in the order of the flow
SINGLETONS = frozenset(("ingest", "trends", "alerts"))  # one works at a time, by a lease; others wait


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


def instance_of(settings: Settings) -> str:
    """This host's name among those that run the same stages."""
    return settings.stream.instance or socket.gethostname()


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
    instance = instance_of(settings)
    loglines.begin(name, instance, settings.log.level)
    stop = lease.Stop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    _watch_parent(stop)
    gc.set_threshold(50_000)  # a batch makes many records and no cycles: looking for some took a tenth of the time
    store = open_store(place, settings)
    context = Context(
        place=place,
        settings=settings,
        store=store,
        # Of a singleton one works at a time: whichever it is, Kafka knows it as the one that was there before.
        log=open_log(place, settings, name if name in SINGLETONS else instance),
        clock=now,
        pulse=Pulse(store, name, now, instance),
        stop=stop,
    )
    server = _served(name, settings, context.pulse)
    over = threading.Event()
    try:
        _alone(context, instance, _work(name, replay, notify_replayed), over)
        context.pulse.state = "stopped"
    except (AssignmentLost, LeaseLost) as error:
        logging.getLogger(name).warning("%s", error)
        raise
    finally:
        over.set()
        if server is not None:
            server.shutdown()
            server.server_close()
        with suppress(StoreError):  # what ended the stage is told, not what follows from it
            context.pulse.beat(now=True)
        context.log.close()
        store.close()


def _served(name: str, settings: Settings, pulse: Pulse) -> ThreadingHTTPServer | None:
    """/metrics and /health of a stage, where they are wanted."""
    host, port = settings.metrics.host, settings.metrics.port
    if not port:
        return None
    try:
        server = metrics.serve(host, port + STAGES.index(name), pulse.metrics, pulse.health)
    except OSError as error:
        raise ConfigError([f"metrics.host {host}: nothing can listen there: {error}; 127.0.0.1 is usual"]) from error
    where = f"http://{host}:{server.server_address[1]}"
    logging.getLogger("metrics").info("%s/metrics and %s/health", where, where)
    return server


def _alone(context: Context, instance: str, work: Callable[[Context], None], over: threading.Event) -> None:
    """The work of a stage, a singleton's under its lease; until `over` it looks at the others. Raises LeaseLost."""
    name, pulse = context.pulse.stage, context.pulse

    def look(heartbeat: Heartbeat | None) -> None:
        lookout = Lookout(context.store, context.clock, pulse.metrics, heartbeat)
        threading.Thread(target=lookout.run, args=(over,), name="lookout", daemon=True).start()

    if name not in SINGLETONS:
        pulse.works()
        look(None)
        work(context)
        return
    assert isinstance(context.stop, lease.Stop)
    mine = lease.Lease(context.store, name, instance, lease.LEASE_S)
    if lease.wait(mine, context.stop, pulse.waits):
        with lease.held(mine, context.store, context.stop):
            pulse.works()
            # The alerts stage gives the sign of life: that it lives is what must be known above all.
            look(context.settings.heartbeat if name == "alerts" else None)
            work(context)


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

"""`moodwire replay`: files through all the stages, until all is stored."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from rich.console import Console

from cli.stages import Replay, open_log, open_store
from cli.supervisor import Supervisor, command
from moodwire.errors import BadInput
from moodwire.settings import Place, Settings
from moodwire.store import schema
from moodwire.store.db import Store
from moodwire.store.health import stage_health
from moodwire.stream.log import Log
from trends.flink import COUNTED, MARKS

READERS = (("articles", "classifier"), ("scored", "trends"), ("windows", "alerts"))
FLINK_READERS = (*READERS[:2], (COUNTED, "trends"), (MARKS, "trends"), READERS[2])


def replay_words(replay: Replay) -> list[str]:
    """The ingest stage's words for a replay."""
    speed = "max" if replay.speed is None else f"{replay.speed:g}"
    limit = [] if replay.limit is None else ["--limit", str(replay.limit)]
    return ["run", "ingest", "--speed", speed, *limit, "--replay", *(str(path.resolve()) for path in replay.files)]


def replay_files(
    place: Place, settings: Settings, replay: Replay, notify: bool, stop: threading.Event, console: Console
) -> bool:
    """Run the stages until the files are stored, windows and alerts too; whether it came to that before the stop."""
    for path in replay.files:
        if not path.is_file():
            raise BadInput(f"{path} is no file")
    store = open_store(place, settings)
    log = open_log(place, settings)
    commands = {
        "ingest": command(place, *replay_words(replay)),
        "classifier": command(place, "run", "classifier"),
        "trends": command(place, "run", "trends"),
        "alerts": command(place, "run", "alerts", *(["--notify-replayed"] if notify else [])),
    }
    readers = FLINK_READERS if settings.windows.engine == "flink" else READERS
    finished = False
    began = time.monotonic()

    def done() -> bool:
        nonlocal finished
        finished = "ingest" in supervisor.done and drained(log, readers)
        return finished

    with Supervisor(place, commands, once=["ingest"], tell=console.print) as supervisor, shown(console) as show:

        def each() -> bool:
            health = {stage.name: stage for stage in stage_health(store)}
            scored = health["classifier"].processed if "classifier" in health else 0
            took = time.monotonic() - began
            read = health["ingest"].note if "ingest" in health else "starting"
            behind = sum(log.lag(topic, group) for topic, group in readers)
            show(f"{read} read, {scored} classified, {scored / took:.0f}/s, {behind} records behind, {took:.0f} s")
            return done()

        supervisor.run(stop, each)
    log.close()
    if finished:
        console.print(f"stored: {summary(store)} (in {time.monotonic() - began:.1f} s)")
    store.close()
    return finished


def drained(log: Log, readers: Sequence[tuple[str, str]] = READERS) -> bool:
    """Whether every stage has worked off its topic. Each appends before it commits, so in this order it is safe."""
    return all(log.lag(topic, group) == 0 for topic, group in readers)


def summary(store: Store) -> str:
    tables = (schema.articles, schema.scores, schema.windows, schema.alerts)
    with store.read() as connection:
        counts = [(t.name, connection.execute(sa.select(sa.func.count()).select_from(t)).scalar_one()) for t in tables]
    return ", ".join(f"{count} {name}" for name, count in counts)


@contextmanager
def shown(console: Console) -> Iterator[Callable[[str], None]]:
    """A way to show progress: one living line on a terminal, a line every ten seconds otherwise."""
    if console.is_terminal:
        with console.status("") as status:
            yield status.update
        return
    last = 0.0

    def line(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= 10:
            last = time.monotonic()
            console.print(text)

    yield line

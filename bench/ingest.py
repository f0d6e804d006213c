"""Whether the way in can be left alone: hundreds of sources that misbehave, over simulated hours.

./run bench ingest [--sources 300] [--hours 10] [--interval 600]

The live ingest stage runs against a seeded server on loopback (bench/newsworld.py, in a process of its own), by a clock
that stands still while anybody works and jumps to the next moment when all wait. The time-outs are in real time: an
answer that the server sent to its end after the client had given up on it, for the time-out, was not had. Those are
told apart: their items are owed if they stood in another complete response too, as nearly all do.
"""

import argparse
import heapq
import multiprocessing
import re
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import sqlalchemy as sa

from bench.newsworld import KINDS, World, rude
from ingest import stage
from ingest.fetch import Failed, Fetched, Fetcher
from ingest.stories import OPEN
from moodwire.settings import Fetching, Place, Settings, Windows, host_of
from moodwire.stage import Context
from moodwire.store import schema
from moodwire.store.db import Store
from moodwire.store.health import Pulse
from moodwire.stream.embedded import EmbeddedLog

START = datetime(2026, 3, 2, tzinfo=UTC)
DELAY_S = 1.0
PAUSE_S = 10.0  # simulated, between two looks at what is due
PATIENCE_S = 0.6  # real seconds, of the fetcher
_TIME_OUT = re.compile(r"(Connect|Read|Write)Timeout|not done after|^stopped$")
_processes = multiprocessing.get_context("spawn")


class VirtualTime:
    """A clock that stands still while anybody works, and jumps to the next moment that somebody waits for."""

    def __init__(self, start: datetime, end: datetime, elapsed_s: "Synchronized[float]") -> None:
        self.now = start
        self._elapsed_s = elapsed_s  # since START, for the server's process
        self.over = threading.Event()
        self._end = end
        self._working = 1  # the stage's own loop
        self._moments: list[datetime] = []
        self._changed = threading.Condition()

    def wait(self, seconds: float) -> None:
        with self._changed:
            moment = self.now + timedelta(seconds=seconds)
            heapq.heappush(self._moments, moment)
            self._jump()
            while self.now < moment and not self.over.is_set():
                self._changed.wait()

    def begin(self) -> None:
        with self._changed:
            self._working += 1

    def end(self, _: object = None) -> None:
        with self._changed:
            self._working -= 1
            self._jump()

    def _jump(self) -> None:
        if self._moments and len(self._moments) >= self._working:
            self.now = self._moments[0]
            self._elapsed_s.value = (self.now - START).total_seconds()
            while self._moments and self._moments[0] <= self.now:
                heapq.heappop(self._moments)
            if self.now >= self._end:
                self.over.set()
            self._changed.notify_all()


class Stop(threading.Event):
    """A stop whose waits pass in simulated time."""

    def __init__(self, time_: VirtualTime) -> None:
        super().__init__()
        self._time = time_

    def is_set(self) -> bool:
        return super().is_set() or self._time.over.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        self._time.wait(timeout or 0.0)
        return self.is_set()


class Pool(ThreadPoolExecutor):
    """Workers of whom the clock knows that they work."""

    def __init__(self, time_: VirtualTime) -> None:
        super().__init__(stage.WORKERS)
        self._time = time_

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._time.begin()

        def work() -> Any:
            try:
                return fn(*args, **kwargs)
            finally:
                self._time.end()

        return super().submit(work)


class Watched(Fetcher):
    """A fetcher that notes which answers it gave up on."""

    given_up: dict[tuple[str, datetime], str]  # by host and time: why

    def get(self, url: str, etag: str = "", last_modified: str = "") -> Fetched | Failed:
        outcome = super().get(url, etag, last_modified)
        if isinstance(outcome, Failed):
            self.given_up[host_of(url), self._clock()] = outcome.reason
        return outcome


class Result(NamedTuple):
    lost: list[str]  # tokens that stood in a complete response and are in no article
    doubled: list[str]  # tokens in more than one article
    rude: list[str]
    items: int  # in complete responses
    articles: int
    revisions: int
    requests: int
    late: list[str]  # complete answers on which the client's time was over
    states: dict[str, int]  # HTTP statuses
    memory_mb: list[int]  # of ingest, at each simulated hour
    open_stories: list[int]  # that it has in mind then
    errors: dict[str, str]  # by kind of source: the last error that was told
    reasons: set[str]  # for which answers were given up, ever


def simulate(folder: Path, count: int, hours: float, interval_s: float) -> Result:
    """The stage over simulated hours, stopped and started again in the middle; and what came of it."""
    middle, end = START + timedelta(hours=hours / 2), START + timedelta(hours=hours)
    elapsed_s: Synchronized[float] = _processes.Value("d", 0.0)
    memory: list[int] = []
    with _world(count, hours, elapsed_s) as world, _noted() as given_up:
        world.restarts.append(middle)
        fetching = Fetching(timeout_s=PATIENCE_S, host_delay_s=DELAY_S, contact="bench@example.org")
        settings = Settings(sources=world.sources(interval_s), fetching=fetching, windows=Windows(tick_s=60.0))
        store = Store(f"sqlite:///{folder / 'moodwire.db'}")
        store.upgrade()
        log = EmbeddedLog(folder / "log")
        for leg in (VirtualTime(START, middle, elapsed_s), VirtualTime(middle, end, elapsed_s)):
            _run(Place(folder), settings, store, log, leg, memory)
    result = judged(store, world, given_up, memory)
    store.close()
    return result


@contextmanager
def _world(count: int, hours: float, elapsed_s: "Synchronized[float]") -> Iterator[World]:
    """The sources, answered for by another process; their log is here at the end."""
    ours, theirs = _processes.Pipe()
    server = _processes.Process(target=_serve, args=(theirs, count, hours, elapsed_s), daemon=True)
    server.start()
    theirs.close()
    world = World(count, START, hours, lambda: START)
    try:
        world.port = ours.recv()
        yield world
        ours.send("over")
        world.log, world.complete, world.broken = ours.recv()
        server.join()
    finally:
        server.kill()


def _serve(pipe: Connection, count: int, hours: float, elapsed_s: "Synchronized[float]") -> None:
    world = World(count, START, hours, lambda: START + timedelta(seconds=elapsed_s.value))
    world.open()
    pipe.send(world.port)
    pipe.recv()
    world.stop()
    pipe.send((world.log, world.complete, world.broken))


@contextmanager
def _noted() -> Iterator[dict[tuple[str, datetime], str]]:
    """What fetchers give up on in here, and the stage's own pause simulated."""
    Watched.given_up = {}
    whole = stage.Fetcher, stage.PAUSE_S
    stage.Fetcher, stage.PAUSE_S = Watched, PAUSE_S  # type: ignore[misc]
    try:
        yield Watched.given_up
    finally:
        stage.Fetcher, stage.PAUSE_S = whole  # type: ignore[misc]


def _run(
    place: Place, settings: Settings, store: Store, log: EmbeddedLog, time_: VirtualTime, memory: list[int]
) -> None:
    """The stage until the time is over. memory: in MB, at each whole hour."""
    pulse = Pulse(store, "ingest", lambda: time_.now)
    context = Context(place, settings, store, log, lambda: time_.now, pulse, Stop(time_))
    watcher = threading.Thread(target=_watch, args=(time_, memory))
    watcher.start()
    pool = Pool(time_)
    try:
        stage.run(context, pool)
    finally:
        time_.over.set()
        watcher.join()
        pool.shutdown(wait=True)


def _watch(time_: VirtualTime, memory: list[int]) -> None:
    process = psutil.Process()
    while not time_.over.wait(0.2):
        while len(memory) <= (time_.now - START) // timedelta(hours=1):
            memory.append(process.memory_info().rss // 2**20)


def judged(store: Store, world: World, given_up: Mapping[tuple[str, datetime], str], memory: list[int]) -> Result:
    """What came of it. given_up: by host and time, why the client had no use for the answer."""
    a, f = schema.articles.c, schema.feeds.c
    ids: defaultdict[str, set[str]] = defaultdict(set)
    with store.read() as connection:
        rows = connection.execute(sa.select(a.id, a.title, a.revision, a.story_id, a.seen_at)).all()
        errors = {
            world.kind(int(source[1:])): error
            for source, error in connection.execute(sa.select(f.source, f.error).where(f.error != ""))
        }
    for row in rows:
        if token := re.match(r"N\d+I\d+X", row.title):
            ids[token.group()].add(row.id)
    begun = [row.seen_at for row in rows if row.id == row.story_id and row.revision == 1]
    hours = [START + timedelta(hours=hour) for hour in range(len(memory))]
    late, owed = [], set()
    for answer in world.complete:
        reason = given_up.get((answer.host, answer.at), "")
        if _TIME_OUT.search(reason):
            late.append(f"{answer.host} at {answer.at:%H:%M:%S}: {reason}")
        else:
            owed |= answer.tokens
    return Result(
        lost=sorted(owed - set(ids)),
        doubled=sorted(token for token, found in ids.items() if len(found) > 1),
        rude=rude(world, DELAY_S),
        items=len(owed),
        articles=len({row.id for row in rows}),
        revisions=sum(row.revision > 1 for row in rows),
        requests=len(world.log),
        late=late,
        states=dict(Counter(asked.status for asked in world.log)),
        memory_mb=memory,
        open_stories=[sum(hour - OPEN < at <= hour for at in begun) for hour in hours],
        errors=errors,
        reasons=set(given_up.values()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=300)
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--interval", type=float, default=600.0, metavar="S", help="between two fetches of a source")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = simulate(Path(folder), options.sources, options.hours, options.interval)
    print(
        f"{options.sources} sources of {len(KINDS)} kinds, {options.hours:g} simulated hours "
        f"in {time.monotonic() - began:.0f} s; {result.requests} requests: "
        + ", ".join(f"{count} × {status or 'broken'}" for status, count in sorted(result.states.items()))
    )
    print(
        f"{result.items} items stood in a complete response; {result.articles} articles, {result.revisions} revisions"
    )
    print(
        f"{len(result.late)} of the complete responses came after the client's time-out", *result.late[:9], sep="\n  "
    )
    print(f"lost: {len(result.lost)} (goal 0) {' '.join(result.lost[:9])}")
    print(f"more than once: {len(result.doubled)} (goal 0) {' '.join(result.doubled[:9])}")
    print(f"manners broken: {len(result.rude)} (goal 0)", *result.rude[:9], sep="\n  ")
    print("ingest's memory by simulated hour, MB (open stories):")
    print("  " + ", ".join(f"{mb} ({count})" for mb, count in zip(result.memory_mb, result.open_stories, strict=True)))
    sys.exit(bool(result.lost or result.doubled or result.rude))


if __name__ == "__main__":
    main()

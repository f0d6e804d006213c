"""How the stages are doing, as rows that `moodwire status` and the dashboard read."""

import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import psutil
import sqlalchemy as sa

from moodwire.metrics import Health, Metrics
from moodwire.store import schema
from moodwire.store.db import Store, upsert

BEAT_S = 1.0
STILL_S = 60.0  # without a beat a stage is not well: a batch takes less
FORGET = timedelta(hours=1)  # an instance that is gone, where another of its stage runs


class Pulse:
    """One stage's health; `beat()` is cheap and writes at most once a second."""

    def __init__(self, store: Store, stage: str, clock: Callable[[], datetime], instance: str = "") -> None:
        self.stage = stage
        self.instance = instance  # its name among those of its stage
        self.state = "works"
        self.lags: Callable[[], Mapping[int, int]] = dict  # by partition
        self.queued: Callable[[], int] = lambda: 0
        self.note = ""
        self.metrics = Metrics()
        self._store = store
        self._clock = clock
        self._process = psutil.Process()
        self._started = clock()
        self._count = 0
        self._dead = 0
        self._next = 0.0
        self._last = time.monotonic()

    def processed(self, count: int) -> None:
        self._count += count
        self.metrics.processed.inc(count)

    def dead_letter(self) -> None:
        self._dead += 1
        self.metrics.dead_letters.inc()

    def health(self) -> Health:
        """From any thread."""
        still_s = time.monotonic() - self._last
        fault = f"no sign of life for {still_s:.0f} s" if still_s > STILL_S and self.state != "stopped" else ""
        return Health(self.stage, self.instance, self.state, fault, self.note)

    def waits(self, why: str) -> None:
        """For its lease: under a name of its own, for the one who works may have the same."""
        self.state, self.note = "waits", why
        own, self.instance = self.instance, f"{self.instance} #{os.getpid()}"
        self.beat()
        self.instance = own

    def works(self) -> None:
        self.state, self.note = "works", ""
        self.beat(now=True)

    def beat(self, now: bool = False) -> None:
        if not now and time.monotonic() < self._next:
            return
        self._last = time.monotonic()
        self._next = self._last + BEAT_S
        at, lags = self._clock(), self.lags()
        for partition, count in lags.items():
            self.metrics.lag.labels(partition).set(count)
        self.metrics.queued.set(self.queued())
        row = {
            "name": self.stage,
            "instance": self.instance,
            "state": self.state,
            "pid": os.getpid(),
            "started_at": self._started,
            "beat_at": at,
            "processed": self._count,
            "dead_letters": self._dead,
            "lag": sum(lags.values()),
            "memory_mb": self._process.memory_info().rss // 2**20,
            "note": self.note,
        }
        s = schema.stages.c
        others = sa.and_(s.name == self.stage, s.instance != self.instance)
        mine = f"{self.instance} #{os.getpid()}"  # as which it waited
        gone = sa.or_(s.state == "stopped", s.beat_at < at - FORGET, s.instance == mine)
        with self._store.write() as connection:
            upsert(connection, schema.stages, [row])
            if self.state == "works":
                connection.execute(sa.delete(schema.stages).where(others, gone))


class StageHealth(NamedTuple):
    name: str
    instance: str
    state: str  # works, waits, stopped
    pid: int
    started_at: datetime
    beat_at: datetime
    processed: int
    dead_letters: int
    lag: int
    memory_mb: int
    note: str


def stage_health(store: Store) -> list[StageHealth]:
    with store.ask() as connection:
        rows = connection.execute(sa.select(schema.stages).order_by(schema.stages.c.name, schema.stages.c.instance))
        return [StageHealth(*row) for row in rows]

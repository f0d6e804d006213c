"""How the stages are doing, as rows that `moodwire status` and the dashboard read."""

import os
import time
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import psutil
import sqlalchemy as sa

from moodwire.store import schema
from moodwire.store.db import Store, upsert

BEAT_S = 1.0


class Pulse:
    """One stage's health; `beat()` is cheap and writes at most once a second."""

    def __init__(self, store: Store, stage: str, clock: Callable[[], datetime]) -> None:
        self.stage = stage
        self.lag: Callable[[], int] = lambda: 0
        self.note = ""
        self._store = store
        self._clock = clock
        self._process = psutil.Process()
        self._started = clock()
        self._count = 0
        self._dead = 0
        self._next = 0.0

    def processed(self, count: int) -> None:
        self._count += count

    def dead_letter(self) -> None:
        self._dead += 1

    def beat(self, now: bool = False) -> None:
        if not now and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + BEAT_S
        row = {
            "name": self.stage,
            "pid": os.getpid(),
            "started_at": self._started,
            "beat_at": self._clock(),
            "processed": self._count,
            "dead_letters": self._dead,
            "lag": self.lag(),
            "memory_mb": self._process.memory_info().rss // 2**20,
            "note": self.note,
        }
        with self._store.write() as connection:
            upsert(connection, schema.stages, [row])


class StageHealth(NamedTuple):
    name: str
    pid: int
    started_at: datetime
    beat_at: datetime
    processed: int
    dead_letters: int
    lag: int
    memory_mb: int
    note: str


def stage_health(store: Store) -> list[StageHealth]:
    with store.read() as connection:
        rows = connection.execute(sa.select(schema.stages).order_by(schema.stages.c.name))
        return [StageHealth(*row) for row in rows]

"""A stage in which faults strike at chosen moments: a process of the tests.

A fault strikes when its stage is about to do an append, a commit or a store transaction for the COUNT-th time since the
fault before it, of those done with records in hand; and once: a file then says what was in hand.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import classifier.stage
import dashboard.data  # noqa: F401  what the processes are forked with
import ingest.replay
import trends.stage  # noqa: F401
from classifier.engine import Scores
from cli import stages
from cli.main import main
from moodwire.store import db
from moodwire.store.db import Store
from moodwire.stream import kafka
from moodwire.stream.embedded import EmbeddedConsumer, EmbeddedLog
from moodwire.stream.kafka import KafkaConsumer, KafkaLog

BATCH = 50  # articles that ingest stores at once, and records that a stage takes: many, so that the moments come
MANY = 10  # records: fewer are heartbeats, whose order says nothing
WAIT_S = 120.0
OWN = {"moodwire.store.health", "moodwire.store.lease"}  # their transactions come by the clock


class Fault(NamedTuple):
    """kill: the process dies by SIGKILL. full: the disk is full for what it writes next. shuffle: what it appends next
    comes in another order. All others are the driver's (flow.py): the stage waits for it, then goes on.
    """

    number: int
    kind: str
    stage: str
    point: str  # append, commit, write
    count: int
    what: str = ""  # which topic, which poison
    seconds: float = 0.0  # how long it lasts

    def file(self, folder: Path, suffix: str) -> Path:
        return folder / f"fault-{self.number}.{suffix}"


class Striker:
    def __init__(self, plan: Sequence[Fault], stage: str, folder: Path) -> None:
        self._stage = stage
        self._folder = folder
        self._due = [fault for fault in plan if fault.stage == stage and not fault.file(folder, "hit").exists()]
        self._calls = 0
        self.in_hand = 0

    def at(self, point: str, in_hand: int) -> Fault | None:
        """The fault that strikes here; it is one's own to carry out, or is over."""
        if not self._due or self._due[0].point != point or in_hand < (MANY if self._due[0].kind == "shuffle" else 1):
            return None
        self._calls += 1
        if self._calls < self._due[0].count:
            return None
        fault, self._calls = self._due.pop(0), 0
        told(fault.file(self._folder, "hit"), f"{self._stage} at {point} {fault.count}, {in_hand} records in hand")
        if fault.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.kind in {"full", "shuffle"}:
            return fault
        until = time.monotonic() + WAIT_S
        while not fault.file(self._folder, "go").exists():
            if time.monotonic() > until:
                sys.exit(f"the driver did not answer to {fault}")
            time.sleep(0.01)
        return None

    def fell(self, fault: Fault, error: Exception) -> None:
        told(fault.file(self._folder, "fell"), str(error))


def told(path: Path, text: str) -> None:
    """Written at once as a whole."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)


def arm(striker: Striker) -> None:
    for log in (EmbeddedLog, KafkaLog):
        log.append = _append(striker, log.append)  # type: ignore[method-assign, assignment]
    ends: dict[int, int] = {}  # a stage has one consumer
    for consumer in (EmbeddedConsumer, KafkaConsumer):
        consumer.poll = _poll(striker, consumer.poll, ends)  # type: ignore[method-assign, assignment]
        consumer.commit = _commit(striker, consumer.commit, ends)  # type: ignore[method-assign, assignment]
    Store.write = _write(striker, Store.write)  # type: ignore[method-assign, assignment]


def _append(striker: Striker, real: Callable[..., Any]) -> Callable[..., Any]:
    def append(self: Any, topic: str, entries: Sequence[Any]) -> Any:
        fault = striker.at("append", len(entries))
        if fault is not None and fault.kind == "shuffle":
            entries = random.Random(fault.number).sample(list(entries), len(entries))
        elif fault is not None:
            database = self.topic_database(topic)
            pages = database.execute("PRAGMA page_count").fetchone()[0]
            database.execute(f"PRAGMA max_page_count={pages}")
            try:  # what is appended alone might still fit into the last page
                return real(self, topic, [*entries, ("k", bytes(100_000), None)])
            except Exception as error:
                striker.fell(fault, error)
                raise
        return real(self, topic, entries)

    return append


def _poll(striker: Striker, real: Callable[..., Any], ends: dict[int, int]) -> Callable[..., Any]:
    """Records are in hand until they are committed. ends: of those that were taken, by partition."""

    def poll(self: Any, max_records: int, timeout_s: float) -> Any:
        messages = real(self, min(max_records, BATCH), timeout_s)
        if messages:
            striker.in_hand = len(messages)
            ends.update({message.partition: message.offset + 1 for message in messages})
        return messages

    return poll


def _commit(striker: Striker, real: Callable[..., Any], ends: dict[int, int]) -> Callable[..., Any]:
    def commit(self: Any, positions: Any) -> Any:
        striker.at("commit", striker.in_hand)
        real(self, positions)
        for partition, position in positions.items():
            if position >= ends.get(partition, 0):
                ends.pop(partition, None)
        if not ends:
            striker.in_hand = 0

    return commit


def _write(striker: Striker, real: Callable[..., Any]) -> Callable[..., Any]:
    def write(self: Any) -> Any:
        caller = sys._getframe(1)
        if caller.f_globals["__name__"] not in OWN:
            striker.at("write", striker.in_hand or len(caller.f_locals.get("drafts", ())))
        return real(self)

    return write


def commit_first() -> None:
    """The fault that the design forbids: records are committed as soon as they are read."""
    for consumer in (EmbeddedConsumer, KafkaConsumer):

        def poll(self: Any, max_records: int, timeout_s: float, real: Any = consumer.poll) -> Any:
            messages = real(self, max_records, timeout_s)
            if messages:
                self.commit({message.partition: message.offset + 1 for message in messages})
            return messages

        consumer.poll = poll  # type: ignore[method-assign, assignment]


def restless() -> None:
    """The engine's probabilities differ a little from process to process, as a GPU's do by how its batches fall."""
    mix = 1e-4 * (1 + os.getpid() % 97)
    real = classifier.stage.OneAtATime.score

    def score(self: Any, texts: Sequence[str], spans: Any) -> list[Scores]:
        return [
            found._replace(sentiment=tuple((1 - mix) * p + mix / 3 for p in found.sentiment))
            for found in real(self, texts, spans)
        ]

    classifier.stage.OneAtATime.score = score  # type: ignore[method-assign]


def shift_clock(file: Path) -> None:
    """The machine's clock, as the stages read it, is ahead by the seconds in a file."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=float(file.read_text()) if file.exists() else 0.0)

    db.datetime = Shifted  # type: ignore[misc, attr-defined]
    stages.datetime = Shifted  # type: ignore[misc, attr-defined]


def run(stage: str, plan: Sequence[Fault], folder: Path, words: list[str], name: str, options: Sequence[str]) -> None:
    """What such a process does: `moodwire WORDS` until a fault ends it. name: of its instance."""
    output = os.open(folder / f"{stage}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ |= {"MOODWIRE_SUPERVISOR": str(os.getppid()), "MOODWIRE_STREAM_INSTANCE": name}
    kafka.GIVE_UP_S, kafka.REQUEST_S, kafka.SESSION_S = 8.0, 4.0, 6.0
    ingest.replay.BATCH = BATCH
    if "commit-first" in options:
        commit_first()
    if "restless" in options:
        restless()
    arm(Striker(plan, stage, folder))
    shift_clock(folder / "clock")
    main(words)

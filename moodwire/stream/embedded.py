"""The log on one machine: SQLite in WAL, a file a topic, offsets in a file of their own."""

import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from moodwire.errors import AssignmentLost, BadInput, StreamError
from moodwire.records import MAX_RECORD_BYTES
from moodwire.stream.log import Entry, Message, partition_of

BUSY_S = 30
POLL_S = (0.002, 0.05)  # shortest and longest pause between looks at an idle topic
PRUNE_EVERY_S = 60.0

_TOPIC = """
CREATE TABLE IF NOT EXISTS records (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    partition INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, at REAL NOT NULL)
"""
_OFFSETS = """
CREATE TABLE IF NOT EXISTS offsets (
    topic TEXT, reader TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, reader, partition));
CREATE TABLE IF NOT EXISTS readers (
    topic TEXT, reader TEXT, generation INTEGER NOT NULL, PRIMARY KEY (topic, reader));
"""


class EmbeddedLog:
    """A log in a folder. A record's offset is its position in the topic, whatever its partition.

    Records are kept for `retention_s` and until every group that ever read the topic has committed past them.
    Safe to use from several threads and processes.
    """

    def __init__(self, folder: Path, partitions: int = 1, retention_s: float = 7 * 86400.0) -> None:
        self._folder = folder
        self._partitions = partitions
        self._retention_s = retention_s
        self._pruned: dict[str, float] = {}
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        folder.mkdir(parents=True, exist_ok=True)

    def partitions(self, topic: str) -> int:
        return self._partitions

    def append(self, topic: str, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        now = time.time()
        rows = []
        for key, value, partition in entries:
            if len(value) > MAX_RECORD_BYTES:
                raise BadInput(f"a record of {len(value)} bytes for topic {topic} is over {MAX_RECORD_BYTES}")
            rows.append((partition_of(key, self._partitions) if partition is None else partition, key, value, now))
        database = self.topic_database(topic)
        with _transaction(database, topic):
            database.executemany("INSERT INTO records (partition, key, value, at) VALUES (?, ?, ?, ?)", rows)
        if now - self._pruned.get(topic, 0.0) > PRUNE_EVERY_S:
            self._pruned[topic] = now
            self._prune(topic, now)

    def read(self, topic: str, start: int, max_records: int) -> list[Message]:
        """Records from an offset on, for no group."""
        rows = self.topic_database(topic).execute(
            "SELECT partition, position, key, value FROM records WHERE position >= ? ORDER BY position LIMIT ?",
            (start, max_records),
        )
        return [Message(*row) for row in rows]

    def records(self, topic: str) -> Iterator[Message]:
        """All that is kept of a topic now, for no group."""
        start, end = 0, self.end(topic)
        while messages := [message for message in self.read(topic, start, 500) if message.offset <= end]:
            yield from messages
            start = messages[-1].offset + 1

    def record(self, topic: str, partition: int, offset: int) -> Message | None:
        found = self.read(topic, offset, 1)
        return found[0] if found and found[0][:2] == (partition, offset) else None

    def consumer(self, topic: str, group: str) -> "EmbeddedConsumer":
        return EmbeddedConsumer(self, topic, group)

    def lag(self, topic: str, group: str) -> int:
        end = self.end(topic)
        committed = self.committed(topic, group)
        if not committed:
            return self._count(topic, 0)
        if max(committed.values()) > end:
            return 0
        return self._count(topic, max(committed.values()))

    def lags(self, topic: str, group: str) -> dict[int, int]:
        committed = self.committed(topic, group)
        query = "SELECT count(*) FROM records WHERE partition = ? AND position >= ?"
        database = self.topic_database(topic)
        return {
            partition: int(database.execute(query, (partition, committed.get(partition, 0))).fetchone()[0])
            for partition in range(self._partitions)
        }

    def end(self, topic: str) -> int:
        """The offset of the newest record ever appended; 0 if there was none."""
        row = self.topic_database(topic).execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'").fetchone()
        return int(row[0]) if row else 0

    def committed(self, topic: str, group: str) -> dict[int, int]:
        rows = self.offsets_database().execute(
            "SELECT partition, next FROM offsets WHERE topic = ? AND reader = ?", (topic, group)
        )
        return dict(rows.fetchall())

    def close(self) -> None:
        for database in self._opened:
            database.close()
        self._opened.clear()
        self._local = threading.local()

    def topic_database(self, topic: str) -> sqlite3.Connection:
        return self._database(f"{topic}.db", _TOPIC)

    def offsets_database(self) -> sqlite3.Connection:
        return self._database("offsets.db", _OFFSETS)

    def _count(self, topic: str, start: int) -> int:
        query = "SELECT count(*) FROM records WHERE position >= ?"
        return int(self.topic_database(topic).execute(query, (start,)).fetchone()[0])

    def _prune(self, topic: str, now: float) -> None:
        rows = self.offsets_database().execute(
            "SELECT min(next) FROM (SELECT max(next) AS next FROM offsets WHERE topic = ? GROUP BY reader)", (topic,)
        )
        consumed = rows.fetchone()[0]
        if consumed is None:
            return
        database = self.topic_database(topic)
        with _transaction(database, topic):
            database.execute(
                # Up to the first that is young: what is kept is not gone through, nobody can append meanwhile.
                "DELETE FROM records WHERE position < min(?, coalesce("
                "(SELECT position FROM records WHERE at >= ? ORDER BY position LIMIT 1), ?))",
                (consumed, now - self._retention_s, consumed),
            )

    def _database(self, name: str, script: str) -> sqlite3.Connection:
        known: dict[str, sqlite3.Connection] = self._local.__dict__.setdefault("known", {})
        if name not in known:
            path = self._folder / name
            try:
                database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
                _switch_to_wal(database)
                database.execute("PRAGMA synchronous=FULL")  # durable when append returns, power cut included
                database.executescript(script)
            except sqlite3.Error as error:
                raise StreamError(f"the log file {path} cannot be opened: {error}") from error
            known[name] = database
            self._opened.append(database)
        return known[name]


def _switch_to_wal(database: sqlite3.Connection) -> None:
    """SQLite does not wait by itself here: who opens a new file at the same moment has it locked for an instant."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class EmbeddedConsumer:
    """Reads a topic for a group. A newer consumer of the same group takes over: this one's commits are then refused."""

    def __init__(self, log: EmbeddedLog, topic: str, group: str) -> None:
        self._log = log
        self._topic = topic
        self._group = group
        offsets = log.offsets_database()
        with _transaction(offsets, topic):
            offsets.execute(
                "INSERT INTO readers VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET generation = generation + 1",
                (topic, group),
            )
            self._generation = self._current()
        self._committed = log.committed(topic, group)
        # Offsets are shared by the partitions; records that a partition had committed are passed over below.
        known = [self._committed.get(partition, 0) for partition in range(log.partitions(topic))]
        self._next = min(known, default=0)

    def poll(self, max_records: int, timeout_s: float) -> list[Message]:
        until = time.monotonic() + timeout_s
        pause = POLL_S[0]
        while True:
            messages = self._log.read(self._topic, self._next, max_records)
            if messages:
                self._next = messages[-1].offset + 1
                found = [message for message in messages if message.offset >= self._committed.get(message.partition, 0)]
                if found:
                    return found
                continue
            left = until - time.monotonic()
            if left <= 0:
                return []
            time.sleep(min(pause, left))
            pause = min(pause * 2, POLL_S[1])

    def commit(self, positions: Mapping[int, int]) -> None:
        offsets = self._log.offsets_database()
        with _transaction(offsets, self._topic):
            if self._current() != self._generation:
                raise AssignmentLost(
                    f"group {self._group} on topic {self._topic} was taken over by another consumer; "
                    "what was not committed is done again there"
                )
            offsets.executemany(
                "INSERT INTO offsets VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET next = excluded.next",
                [(self._topic, self._group, partition, offset) for partition, offset in positions.items()],
            )
        self._committed.update(positions)

    def hold(self, partitions: Collection[int]) -> None:
        """Nothing is fetched ahead; the partitions share their offsets and are read together."""

    def lags(self) -> dict[int, int]:
        return self._log.lags(self._topic, self._group)

    def queued(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing is held open; what was polled and not committed is read again by the next consumer."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _current(self) -> int:
        row = self._log.offsets_database().execute(
            "SELECT generation FROM readers WHERE topic = ? AND reader = ?", (self._topic, self._group)
        )
        return int(row.fetchone()[0])


@contextmanager
def _transaction(database: sqlite3.Connection, topic: str) -> Iterator[None]:
    try:
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if database.in_transaction:  # on a full disk SQLite has ended it by itself
                database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")
    except sqlite3.Error as error:
        raise StreamError(f"the log of topic {topic} cannot be written: {error}") from error

"""The log: topics of records, kept, read in order by groups. Every implementation passes tests/moodwire/stream.

Promised, and no more: an append is durable when it returns; order holds within a partition; offsets grow, not
densely; a commit is per group; after a lost assignment a commit is refused with AssignmentLost; a record is at most
1 MB.
"""

import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

Entry = tuple[str, bytes, int | None]  # key, value, partition (None: by key)


class Message(NamedTuple):
    partition: int
    offset: int
    key: str
    value: bytes


class Consumer(Protocol):
    def poll(self, max_records: int, timeout_s: float) -> list[Message]:
        """The next records; waits up to `timeout_s` for the first one."""

    def commit(self, positions: Mapping[int, int]) -> None:
        """Keep, by partition, the offset to go on from. Raises AssignmentLost."""

    def hold(self, partitions: Collection[int]) -> None:
        """Of these partitions fetch no more, until this is said anew; what was fetched may still be given out."""

    def lags(self) -> dict[int, int]:
        """By partition, records between this group's commits and the end of the topic, approximately."""

    def queued(self) -> int:
        """Records fetched and not given out yet."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Log(Protocol):
    def append(self, topic: str, entries: Sequence[Entry]) -> None:
        """Add records; all are durable when it returns. Raises StreamError."""

    def partitions(self, topic: str) -> int: ...

    def consumer(self, topic: str, group: str) -> Consumer:
        """Take the topic over for the group; whoever had it can no longer commit."""

    def lag(self, topic: str, group: str) -> int: ...

    def lags(self, topic: str, group: str) -> dict[int, int]:
        """The same by partition."""

    def records(self, topic: str) -> Iterator[Message]:
        """All that is kept of a topic now, for no group."""

    def record(self, topic: str, partition: int, offset: int) -> Message | None:
        """The record at a place; None if it is not kept any more, or never was."""

    def close(self) -> None: ...


def partition_of(key: str, partitions: int) -> int:
    return zlib.crc32(key.encode("utf-8", "surrogatepass")) % partitions

"""Several partitions read as one, in the order of their times: what is counted at a tick does not hang on which of
them runs ahead. Pure.
"""

from collections import deque
from collections.abc import Iterator
from datetime import datetime
from heapq import merge
from typing import Generic, NamedTuple, TypeVar

R = TypeVar("R")
MOST_HELD = 20_000  # records of a partition that runs ahead; then no more of it is fetched


class Placed(NamedTuple, Generic[R]):
    """A record with its time and place; they are ordered by these."""

    at: datetime  # or that of a record before it in its partition, where that is later
    partition: int
    offset: int
    record: R


class Merge(Generic[R]):
    """Holds records until no partition can bring an earlier one any more.

    A partition's time is that of its latest record. As long as one has brought none, nothing is given out.
    """

    def __init__(self, partitions: int) -> None:
        self._held: list[deque[Placed[R]]] = [deque() for _ in range(partitions)]
        self._times: dict[int, datetime] = {}

    def take(self, partition: int, offset: int, at: datetime, record: R) -> None:
        at = max(at, self._times.get(partition, at))
        self._times[partition] = at
        self._held[partition].append(Placed(at, partition, offset, record))

    def ready(self) -> Iterator[Placed[R]]:
        """What is in order now, once each."""
        if len(self._times) < len(self._held):
            return
        until = min(self._times.values())
        parts = [self._until(held, until) for held in self._held]
        yield from merge(*parts, key=lambda placed: placed[:3])

    def ahead(self) -> set[int]:
        """The partitions of which enough is held."""
        return {partition for partition, held in enumerate(self._held) if len(held) >= MOST_HELD}

    @staticmethod
    def _until(held: "deque[Placed[R]]", until: datetime) -> Iterator[Placed[R]]:
        while held and held[0].at <= until:
            yield held.popleft()

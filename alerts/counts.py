"""The counts of many series over time: the newest by cell (60 s live), the baseline's by hour. Arrays, no clock."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

HOUR_S = 3600
DAY_S = 86_400


class Count(NamedTuple):
    stories: int
    negative: int


class Track:
    """Stories and negative stories of many series in cells of one length; old cells fall off the left."""

    def __init__(self, cell_s: int, keep_s: int, dtype: Any) -> None:
        self._keep = math.ceil(keep_s / cell_s) + 2
        self._first = 0  # number of the leftmost cell
        self._begun = False
        self._cells = np.zeros((2, 0, self._keep + max(self._keep // 4, 64)), dtype)  # room, so that shifts are rare

    def rows(self, count: int) -> None:
        """Room for so many series."""
        if count > (have := self._cells.shape[1]):
            self._cells = np.pad(self._cells, ((0, 0), (0, max(count, have * 2, 16) - have), (0, 0)))

    def put(self, row: Any, cell: int, stories: Any, negative: Any, add: bool = False) -> bool:
        """Set (or add to) the counts of a cell, of one series or of a slice; False when the cell is gone already."""
        if not self._begun:
            self._first, self._begun = cell - self._keep, True
        at = cell - self._first
        if at < 0:
            return False
        if at >= self._cells.shape[2]:
            self._shift(cell)
            at = cell - self._first
        if add:
            stories, negative = self._cells[0, row, at] + stories, self._cells[1, row, at] + negative
        self._cells[0, row, at] = stories
        self._cells[1, row, at] = negative
        return True

    def get(self, row: int, cell: int) -> Count:
        at = cell - self._first
        if not self._begun or not 0 <= at < self._cells.shape[2]:
            return Count(0, 0)
        return Count(int(self._cells[0, row, at]), int(self._cells[1, row, at]))

    def between(self, rows: Any, since: int, until: int) -> NDArray[np.float64]:
        """(2, rows, cells): stories and negative ones of the cells numbered [since, until)."""
        width = self._cells.shape[2]
        low, high = (min(max(cell - self._first, 0), width) for cell in (since, until))
        part = self._cells[:, rows, low:high]
        before, behind = max(min(low + self._first, until) - since, 0), 0
        behind = until - since - before - part.shape[2]
        return np.pad(part, ((0, 0), (0, 0), (before, behind))) if before or behind else part

    def sums(self, rows: Any, since: int, until: int) -> NDArray[np.float64]:
        """(2, rows): the sums over the cells numbered [since, until)."""
        width = self._cells.shape[2]
        low, high = (min(max(cell - self._first, 0), width) for cell in (since, until))
        return self._cells[:, rows, low:high].sum(axis=2, dtype=self._cells.dtype)  # type: ignore[no-any-return]

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows, in this order."""
        self._cells = np.ascontiguousarray(self._cells[:, list(rows)])

    def size(self) -> int:
        """Cells that are not zero."""
        return int(np.count_nonzero(self._cells[0]))

    def _shift(self, cell: int) -> None:
        """Move to the left so that `cell` is in, with room behind it."""
        by = cell - self._first - self._keep + 1
        fresh = np.zeros_like(self._cells)
        if by < self._cells.shape[2]:
            fresh[:, :, : self._cells.shape[2] - by] = self._cells[:, :, by:]
        self._cells, self._first = fresh, self._first + by


class Counts:
    """Counts by series. Cells are numbered from 1970; times in seconds since 1970."""

    def __init__(self, cell_s: int, fine_s: int, hours_s: int, dtype: Any = np.int32) -> None:
        self.cell_s = cell_s
        self.names: list[str] = []
        self._rows: dict[str, int] = {}
        self.fine = Track(cell_s, fine_s, dtype)
        self.hours = Track(HOUR_S, hours_s, dtype)

    def row(self, series: str) -> int:
        """The series' place; it gets one if it has none."""
        if series not in self._rows:
            self._rows[series] = len(self.names)
            self.names.append(series)
            self.fine.rows(len(self.names))
            self.hours.rows(len(self.names))
        return self._rows[series]

    def known(self, series: str) -> int | None:
        return self._rows.get(series)

    def grow(self, series: str, start_s: int, count: Count) -> Count | None:
        """A window's counts; they replace those it had, which are returned, where they are more; else None."""
        row, cell = self.row(series), start_s // self.cell_s
        old = self.fine.get(row, cell)
        if count.stories <= old.stories and count.negative <= old.negative:
            return None
        self.fine.put(row, cell, count.stories, count.negative)
        self.hours.put(row, start_s // HOUR_S, count.stories - old.stories, count.negative - old.negative, add=True)
        return old

    def put_all(self, start_s: int, stories: NDArray[Any], negative: NDArray[Any]) -> None:
        """One cell of all series at once, in the order of `names`; it must be new."""
        rows = slice(0, len(self.names))
        self.fine.put(rows, start_s // self.cell_s, stories, negative)
        self.hours.put(rows, start_s // HOUR_S, stories, negative, add=True)

    def starts(self, row: int, since_s: int, until_s: int) -> list[int]:
        """The begins of a series' cells with negative stories, in [since, until)."""
        first, last = cells(since_s, until_s, self.cell_s)
        negative = self.fine.between([row], first, last)[1, 0]
        return [(first + int(cell)) * self.cell_s for cell in np.flatnonzero(negative)]

    def alive(self, since_s: int, until_s: int) -> list[int]:
        """The rows with stories in [since, until)."""
        stories = self.hours.between(slice(0, len(self.names)), since_s // HOUR_S, until_s // HOUR_S)[0]
        return [int(row) for row in np.flatnonzero(stories.any(axis=1))]

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows, in this order."""
        for track in (self.fine, self.hours):
            track.keep(rows)
        self.names = [self.names[row] for row in rows]
        self._rows = {name: row for row, name in enumerate(self.names)}


def cells(since_s: float, until_s: float, cell_s: int) -> tuple[int, int]:
    """The cells that start in [since, until), as numbers from and until."""
    return math.ceil(since_s / cell_s), math.ceil(until_s / cell_s)

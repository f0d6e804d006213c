"""The news as a whole: what is usual of it, and when it was silent: no data, neither news nor calm. No clock."""

from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from alerts.baseline import RHYTHM_FROM_H, Baseline, fit
from alerts.counts import HOUR_S, Counts
from alerts.detect import SETTLED_S, Course, Span, course_over, hours_of_week

FLOW = "all"  # the series of all stories
SILENCE = 14.0  # stories that are expected and do not come: no data (a chance of 1 in a million)


class Flow:
    """The rhythm of all stories, learnt when a watch's baselines are made. Times in seconds since 1970."""

    def __init__(self, counts: Counts, zone: ZoneInfo) -> None:
        self._counts = counts
        self._zone = zone
        self._baseline: Baseline | None = None
        self._course: Course | None = None

    def learn(self, at_s: int, began_s: int, since_s: int) -> list[Span]:
        """From what was before `at_s` and not before `since_s`; returns when it was silent in that time."""
        row = self._counts.known(FLOW)
        last = (at_s - SETTLED_S) // HOUR_S
        first = max(began_s // HOUR_S + 1, since_s // HOUR_S)
        self._baseline = self._course = None
        if row is None or last - first < RHYTHM_FROM_H:
            return []
        stories = self._counts.hours.between([row], first, last)[0]
        clock = hours_of_week(range(first, last), self._zone)
        live = np.ones(last - first, bool)
        silent: list[Span] = []
        for _ in range(2):  # a second time without the silences
            self._baseline = fit(stories, stories, live, None, clock, [1.0])
            course = course_over(None, self._baseline, self._zone, first * HOUR_S, last * HOUR_S)
            silent = silences(np.flatnonzero(stories[0]), first, last, HOUR_S, course)
            for start, end in silent:
                live[start // HOUR_S - first : end // HOUR_S - first] = False
            if not silent:
                break
        return silent

    def silences(self, since_s: int, now_s: int) -> list[Span]:
        """When it was silent since then; one that lasts ends at `now_s` or behind it."""
        row = self._counts.known(FLOW)
        if row is None or self._baseline is None:
            return []
        cell_s = self._counts.cell_s
        first, last = since_s // cell_s, -(-now_s // cell_s)
        self._course = course_over(self._course, self._baseline, self._zone, first * cell_s, last * cell_s)
        stories = self._counts.fine.between(slice(row, row + 1), first, last)[0, 0]
        return silences(np.flatnonzero(stories), first, last, cell_s, self._course)


def silences(filled: NDArray[np.int64], first: int, last: int, cell_s: int, course: Course) -> list[Span]:
    """The stretches without a story in which so many were expected that chance does not leave them out.

    filled: cells with stories, counted from number `first`; last: number of the cell behind the last one.
    """
    marks = np.concatenate(([-1], filled, [last - first])) + first
    # No stretch shorter than this is long enough, be it at the busiest hour.
    least = SILENCE / max(course.most[0], 1e-9) * HOUR_S / cell_s
    wide = np.flatnonzero(np.diff(marks) > least)
    if not len(wide):
        return []
    begin, end = marks[wide] + 1, marks[wide + 1]
    upto = course.upto(0, np.concatenate((begin, end)) * cell_s)
    silent = np.flatnonzero(upto[len(begin) :] - upto[: len(begin)] >= SILENCE)
    return [(int(begin[at]) * cell_s, int(end[at]) * cell_s) for at in silent]

"""Whether a series' negative stories surge: pure. Only fresh stories count, by their publication time.

A detector looks at many series at once: their counts in several windows against what their baselines expect, and how
improbable that is, recalibrated on how often it came up in the rule's past. It scores before it learns: baselines and
calibration are made, at the times that `due` names, from what lies before the longest window.
"""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from alerts.baseline import Baseline, fit, joined
from alerts.calibration import BLOCK_S, FLOOR, LOOKS, WEEK_S, Curve, curve, quiet, summits
from alerts.counts import DAY_S, HOUR_S, Counts, cells
from alerts.tails import LN10, count_for, log10_lower, log10_tail
from moodwire.settings import Rule

YOUNG_S = 14 * DAY_S  # a history shorter than this changes much in a day
SETTLED_S = 3 * HOUR_S  # counts change no more after it: a story is fresh for less
MINIMUM_HISTORY_S = DAY_S  # in the baseline, before anything may fire
LONGEST_SPIKE_S = 7 * DAY_S  # of an incident, so much stays out of the baseline
COMPANIONS = 256  # series that are fitted together
LOWER_SHARE = 0.05  # a share of negative stories this improbably low vetoes: busy, not bad
HOLD = 1.0  # an incident holds while what it sees comes up at most 10 times as often as what fires
LEAST = 1e-6  # stories expected in a window
CATCH_UP_S = 900  # windows that begin so soon after a gap reach back over it

Span = tuple[int, int]  # seconds since 1970, from and until
Array = NDArray[Any]


class Verdict(NamedTuple):
    fires: bool
    holds: bool  # still strange enough for an incident to stay open
    observed: int  # negative stories in the window
    expected: float
    log10_tail: float  # log10 of P(count >= observed), as the model has it
    reason: str
    window_s: int = 0  # the window that decides
    score: float = -math.inf  # log10 of the weeks in which quiet times bring such a thing once to the rule
    no_data: bool = False  # the feed is silent: neither news nor calm


class Peak(NamedTuple):
    """The highest score of a series in a block of six hours, by window; series "" marks that the block was watched."""

    series: str
    block: int
    window_s: int
    score: float


class Look(NamedTuple):
    """What a detector sees of some series at one moment; (series, windows) unless said otherwise."""

    observed: Array  # negative stories
    stories: Array
    expected: Array
    dispersion: Array
    tail: Array  # log10
    vetoed: Array
    rarity: Array  # log10 of the weeks in which one window alone brings this once to the rule
    score: Array  # (series,) the same of all windows together


def due(now_s: int, began_s: int) -> int:
    """When the baselines that hold now are made: every six hours while the history is young, then once a day."""
    every = BLOCK_S if now_s - began_s < YOUNG_S else DAY_S
    return now_s // every * every


class Course:
    """What is expected of some series over a stretch of hours, summed up from its begin."""

    def __init__(self, hourly: Array, first: int) -> None:
        """hourly: (S, H) expected in each hour; first: number of the first hour, from 1970."""
        self._first = first
        self.most = hourly.max(axis=1)  # (S,) expected in any hour of the stretch
        sums = np.cumsum(hourly, axis=1)
        self._sums = np.concatenate([np.zeros((len(hourly), 1)), sums, sums[:, -1:]], axis=1)

    def covers(self, since_s: int, until_s: int) -> bool:
        hours = self._sums.shape[1] - 2
        return self._first * HOUR_S <= since_s and until_s <= (self._first + hours) * HOUR_S

    def upto(self, series: Any, times_s: Any) -> Array:
        """Expected from the begin to these times; both are broadcast together."""
        hours, rest = np.divmod(times_s, HOUR_S)
        at = hours - self._first
        low = self._sums[series, at]
        return low + (self._sums[series, at + 1] - low) * (rest / HOUR_S)  # type: ignore[no-any-return]


def course_over(held: Course | None, baseline: Baseline, zone: ZoneInfo, since_s: int, until_s: int) -> Course:
    """Of all series of a baseline: the one that is held where it covers these times, else another, to a day behind."""
    if held is not None and held.covers(since_s, until_s):
        return held
    hours = range(since_s // HOUR_S, until_s // HOUR_S + 25)
    return Course(baseline.rhythm[:, hours_of_week(hours, zone)] * baseline.level[:, None], hours.start)


class Detector:
    """One rule's baselines and calibration."""

    def __init__(self, rule: Rule, counts: Counts) -> None:
        self.rule = rule
        self.windows = tuple(sorted({round(window) for window in rule.windows}))
        self._counts = counts
        self.zone = ZoneInfo(rule.timezone)
        self._gap_h = math.ceil(max(self.windows[-1], SETTLED_S) / HOUR_S)
        self._baseline_h = round(rule.baseline_days * 24)
        self._blocks = math.ceil(self._baseline_h * HOUR_S / BLOCK_S)
        self._peaks = np.zeros((0, self._blocks + 1, len(self.windows)))
        self._watched = np.zeros(self._blocks + 1, bool)
        self._block = 0  # number of the newest block, in the last place
        self._raised: dict[tuple[str, int, int], float] = {}
        self._slots = np.zeros(1, np.int64)  # by row of the counts: place in the baseline; behind them a newcomer's
        self._baseline: Baseline | None = None
        self._course: Course | None = None
        self._curves: list[Curve] = []  # by window
        self._lines = np.zeros((3, 0))  # the same as arrays: start, log10 of the rate, slope by log10
        self._together = Curve(0.0, 1.0, 1.0)

    @property
    def ready(self) -> bool:
        return self._baseline is not None

    # --- what is learnt, when it is due -------------------------------------------------------------------------------

    def refresh(
        self,
        at_s: int,
        began_s: int,
        rows: Sequence[int],
        spikes: Mapping[str, Sequence[Span]],
        silent: Sequence[Span] = (),
    ) -> None:
        """Make baselines and calibration anew from what was before `at_s`.

        rows: of the series of this rule. spikes: when each was in an incident. silent: when there were no data.
        """
        last = at_s // HOUR_S - self._gap_h
        first = max(math.ceil(began_s / HOUR_S), last - self._baseline_h)
        self._turn(at_s // BLOCK_S)
        self._course = None
        if (last - first) * HOUR_S < MINIMUM_HISTORY_S:
            self._baseline = None
            return
        names = self._counts.names
        known = sorted(rows, key=names.__getitem__)  # sums do not depend on which series came first
        stories, negative = self._counts.hours.between(known, first, last)
        some = stories.any(axis=1)
        known = [row for row, alive in zip(known, some, strict=True) if alive]
        live = np.ones(last - first, bool)
        for span in silent:
            live[_hours(span, first, last)] = False
        spared = np.ones((len(known), last - first), bool) if spikes else None
        for place, row in enumerate(known):
            for span in spikes.get(names[row], ()):
                assert spared is not None
                # What lasts longer is no spike but how things are now.
                spared[place, _hours((span[0], min(span[1], span[0] + LONGEST_SPIKE_S)), first, last)] = False
        clock = hours_of_week(range(first, last), self.zone)
        lengths = [window / HOUR_S for window in self.windows]
        # Of companions there need not be more than some hundreds; so many at once are quick.
        groups = np.array_split(np.arange(len(known)), max(1, math.ceil(len(known) / COMPANIONS)))
        alive = np.flatnonzero(some)
        self._baseline = joined(
            [
                fit(
                    negative[alive[group]],
                    stories[alive[group]],
                    live,
                    None if spared is None else spared[group],
                    clock,
                    lengths,
                )
                for group in groups
            ]
        )
        self._slots = np.full(len(names) + 1, len(known))
        self._slots[known] = np.arange(len(known))
        self._calibrate(len(known), at_s // BLOCK_S)

    def _calibrate(self, series: int, block: int) -> None:
        """On the blocks before this one, whatever came since."""
        before = self._peaks.shape[1] - 1 - (self._block - block)
        past, rate = self._peaks[self._peaks.any(axis=(1, 2)), :before], self.rule.false_alarms_per_week
        tops = [summits(past[:, :, place], max(1, window // BLOCK_S)) for place, window in enumerate(self.windows)]
        use = quiet(np.maximum.reduce(tops), self._watched[:before])
        weeks = float(use.sum()) * BLOCK_S / WEEK_S
        rarity = np.full(past.shape, -np.inf)
        self._curves = []
        for place, window in enumerate(self.windows):
            found = curve(_told(tops[place][:, use]), weeks, rate, LOOKS * max(series, 1) * WEEK_S / window)
            self._curves.append(found)
            scores = past[:, :, place]
            rarity[:, :, place] = np.where(scores >= FLOOR, -found.log10_rate(scores), -np.inf)
        self._lines = np.array([(each.start, math.log10(each.rate), each.slope / LN10) for each in self._curves]).T
        together = summits(rarity.max(axis=2), max(1, self.windows[-1] // BLOCK_S // 2), -math.inf)
        self._together = curve(_told(together[:, use]), weeks, rate, float(len(self.windows)), 0.0)

    # --- what is seen -------------------------------------------------------------------------------------------------

    def look(
        self, rows: Sequence[int], now_s: int, told: Mapping[int, int] | None = None, silent: Sequence[Span] = ()
    ) -> Look:
        """The series in these rows at this moment; the detector must be ready.

        told: by row, until when its stories were part of an incident that is over: they count no second time.
        silent: when there were no data; windows that touch such a time reach back to its start.
        """
        base = self._baseline
        assert base is not None
        places = np.asarray(rows, np.int64)
        slots = self._slots_of(places)
        span = self._whole(places)
        since = [_before(now_s - window, silent) for window in self.windows]
        begins = [cells(begin, now_s, self._counts.cell_s)[0] for begin in since]
        end = max(cells(now_s, now_s, self._counts.cell_s)[0], *begins)
        both = self._counts.fine.between(span, min(begins), end)
        sums = [both[:, :, begin - min(begins) :].sum(axis=2, dtype=both.dtype) for begin in begins]
        stories, observed = np.stack(sums, axis=2).astype(np.float64)
        course = self._course_over(min(since), now_s)
        upto = course.upto(slots[:, None], np.array([*since, now_s]))
        expected = upto[:, -1:] - upto[:, :-1]
        for at, row in enumerate(rows if told else ()):
            cut = (told or {}).get(row, 0)
            for window, begin in enumerate(since):
                if begin < cut:
                    both = self._counts.fine.sums([row], *cells(cut, now_s, self._counts.cell_s))
                    stories[at, window], observed[at, window] = both[:, 0]
                    expected[at, window] = upto[at, -1] - course.upto(slots[at], cut)
        return self._rated(observed, stories, np.maximum(expected, LEAST), base.dispersion[slots], base.share[slots])

    def busy(self, rows: Sequence[int], now_s: int) -> Array:
        """Of the series in these rows, which have negative stories enough for a rule to fire in any window."""
        since, until = cells(now_s - self.windows[-1] - CATCH_UP_S, now_s, self._counts.cell_s)
        return self._counts.fine.sums(list(rows), since, until)[1] >= self.rule.minimum_stories  # type: ignore[no-any-return]

    def expected(
        self, rows: Sequence[int], times_s: Sequence[int], silent: Sequence[Sequence[Span]] | None = None
    ) -> tuple[Array, Array]:
        """Of series at times, one for each: what is expected in each window that ends then, and its dispersion.

        (len(rows), windows) each; the detector must be ready. silent: for each, when there were no data.
        """
        base = self._baseline
        assert base is not None
        slots = self._slots_of(np.asarray(rows, np.int64))
        until = np.asarray(times_s, np.int64)
        since = until[:, None] - np.array(self.windows)
        for at, spans in enumerate(silent or ()):
            if spans:
                since[at] = [_before(int(begin), spans) for begin in since[at]]
        course = self._course_over(int(since.min()), int(until.max()))
        expected = course.upto(slots, until)[:, None] - course.upto(slots[:, None], since)
        return np.maximum(expected, LEAST), base.dispersion[slots]

    def expected_between(self, row: int, since_s: int, until_s: int) -> float:
        """Negative stories expected of a series between two times; the detector must be ready."""
        (slot,) = self._slots_of(np.array([row]))
        course = self._course_over(since_s, until_s)
        return float(course.upto(slot, until_s) - course.upto(slot, since_s))

    def _slots_of(self, places: Array) -> Array:
        """The places in the baseline of the series in these rows."""
        return self._slots.take(places, mode="clip")

    def _course_over(self, since_s: int, until_s: int) -> Course:
        """Of all series, over a stretch that holds these times."""
        assert self._baseline is not None
        self._course = course_over(self._course, self._baseline, self.zone, since_s, until_s)
        return self._course

    def _rated(self, observed: Array, stories: Array, expected: Array, dispersion: Array, share: Array) -> Look:
        tail = np.zeros(observed.shape)
        vetoed = np.zeros(observed.shape, bool)
        rarity = np.full(observed.shape, -np.inf)
        enough = np.nonzero((observed >= self.rule.minimum_stories) & (observed > expected))
        series, window = enough
        if not len(series):
            return Look(observed, stories, expected, dispersion, tail, vetoed, rarity, rarity.max(axis=1))
        seen = observed[enough]
        tails = log10_tail(seen, expected[enough], dispersion[enough])
        lower = log10_lower(stories[enough], seen, share[series]) < math.log10(LOWER_SHARE)
        tail[enough], vetoed[enough] = tails, lower
        start, rate, slope = self._lines[:, window]
        rarity[enough] = np.where(lower, -np.inf, slope * (-tails - start) - rate)
        score = -self._together.log10_rate(rarity.max(axis=1))
        return Look(observed, stories, expected, dispersion, tail, vetoed, rarity, score)

    def _whole(self, places: Array) -> Any:
        """All rows as a slice, where they are: it spares a copy."""
        count = len(places)
        return slice(0, count) if count > 1 and np.array_equal(places, np.arange(count)) else places

    @property
    def needed(self) -> float:
        """The score from which on the rule fires."""
        return -math.log10(self.rule.false_alarms_per_week)

    def threshold(self, expected: Any, dispersion: Any, window: int | None = None) -> Array:
        """The negative stories from which on a window alone fires; all windows, in the last axis, if none is named."""
        rarity = self._together.score(self.rule.false_alarms_per_week)
        scores = np.array([found.score(10**-rarity) for found in self._curves])
        scores = scores if window is None else scores[window]
        return count_for(np.minimum(-scores, -1e-9), expected, dispersion, self.rule.minimum_stories)

    def verdict(self, look: Look, at: int, holding_s: int | None = None) -> Verdict:
        """Of the series in place `at`; holding_s: the window of its open incident, which longer ones do not hold."""
        rarities = look.rarity[at]
        window = int(np.argmax(rarities)) if np.isfinite(rarities).any() else self._shown(look, at, holding_s)
        observed = round(float(look.observed[at, window]))
        # Rounded, so that it does not depend on how many series were looked at together.
        expected = float(f"{look.expected[at, window]:.6g}")
        tail = float(f"{look.tail[at, window]:.6g}")
        score = float(f"{look.score[at]:.6g}")
        length = self.windows[window]
        upto = sum(other <= holding_s for other in self.windows) if holding_s else len(self.windows)
        held = float(rarities[:upto].max(initial=-np.inf))
        holds = math.isfinite(held) and -self._together.log10_rate(held) >= self.needed - HOLD
        told = f"{observed} negative stories in {length_text(length)} where {expected:.2g} are expected"

        def verdict(fires: bool, reason: str) -> Verdict:
            return Verdict(fires, holds, observed, expected, tail, reason, length, score)

        if observed < self.rule.minimum_stories:
            return verdict(False, f"{observed} negative stories, fewer than {self.rule.minimum_stories}")
        if not math.isfinite(score):
            if look.vetoed[at].any():
                return verdict(False, f"{told}; but the share of negative ones is below the usual: busy, not bad")
            return verdict(False, told)
        if score < self.needed:
            threshold = int(self.threshold(look.expected[at, window], look.dispersion[at, window], window))
            return verdict(False, f"{told}: {often(score)}; {threshold} would fire")
        return verdict(True, f"{told}: {often(score)}")

    def _shown(self, look: Look, at: int, holding_s: int | None) -> int:
        """The window to speak of when none is strange."""
        if holding_s in self.windows:
            return self.windows.index(holding_s)
        vetoed = np.flatnonzero(look.vetoed[at])
        return int(vetoed[0]) if len(vetoed) else len(self.windows) - 1

    # --- peaks, from which the calibration is made --------------------------------------------------------------------

    def attend(self, now_s: int) -> None:
        """Mark that news of the rule's series came in this block: what does not peak in it was quiet."""
        block = now_s // BLOCK_S
        self._turn(block)
        if not self._watched[-1]:
            self._watched[-1] = True
            self._raised["", block, 0] = 0.0

    def note(self, rows: Sequence[int], now_s: int, look: Look) -> None:
        """Keep the scores for the calibration."""
        self.attend(now_s)
        block = now_s // BLOCK_S
        # Rounded, so that it does not depend on where the sums of what is expected began.
        scores = np.where(look.vetoed, 0.0, -look.tail).round(6)
        places = np.asarray(rows, np.int64)
        for at, window in np.argwhere((scores >= FLOOR) & (scores > self._peaks[places, -1])):
            row, score = int(places[at]), float(scores[at, window])
            self._peaks[row, -1, window] = score
            self._raised[self._counts.names[row], block, self.windows[window]] = score

    def raised(self) -> list[Peak]:
        """The peaks that rose since this was last asked."""
        found = [Peak(*key, score) for key, score in self._raised.items()]
        self._raised.clear()
        return found

    def restore(self, peaks: Iterable[Peak], now_s: int) -> None:
        """Take peaks that were kept."""
        self._turn(now_s // BLOCK_S)
        for peak in peaks:
            at = peak.block - self._block - 1
            if -self._peaks.shape[1] <= at < 0:
                if not peak.series:
                    self._watched[at] = True
                elif peak.window_s in self.windows:
                    row = self._counts.row(peak.series)
                    self._room()
                    self._peaks[row, at, self.windows.index(peak.window_s)] = peak.score

    def keep(self, rows: Sequence[int]) -> None:
        """The counts keep only these rows."""
        self._room()
        self._peaks = np.ascontiguousarray(self._peaks[list(rows)])
        self._slots = np.append(self._slots_of(np.asarray(rows, np.int64)), self._slots[-1])

    def _turn(self, block: int) -> None:
        """Make `block` the newest."""
        if block > self._block:
            by = min(block - self._block, self._peaks.shape[1])
            for part in (self._peaks.swapaxes(0, 1), self._watched):
                part[: len(part) - by] = part[by:].copy()
                part[len(part) - by :] = 0
            self._block = block
        self._room()

    def _room(self) -> None:
        missing = len(self._counts.names) - len(self._peaks)
        if missing > 0:
            self._peaks = np.pad(self._peaks, ((0, max(missing, len(self._peaks), 16)), (0, 0), (0, 0)))


def hours_of_week(hours: Iterable[int], zone: ZoneInfo) -> Array:
    """The local hour of the week, 0 to 167, of hours numbered from 1970."""
    return np.array([_hour_of_week(hour, zone) for hour in hours])


@functools.lru_cache(maxsize=10_000)
def _hour_of_week(hour: int, zone: ZoneInfo) -> int:
    local = datetime.fromtimestamp(hour * HOUR_S, UTC).astimezone(zone)
    return local.weekday() * 24 + local.hour


def _told(peaks: Array) -> Array:
    return peaks[np.isfinite(peaks)]


def _before(since_s: int, silent: Sequence[Span]) -> int:
    """Where a window begins: what a silence held back may come with its end."""
    for start, end in silent:
        if start < since_s <= end + CATCH_UP_S:
            return start
    return since_s


def _hours(span: Span, first: int, last: int) -> slice:
    low, high = span[0] // HOUR_S - first, math.ceil(span[1] / HOUR_S) - first
    return slice(min(max(low, 0), last - first), min(max(high, 0), last - first))


def often(score: float) -> str:
    """How often quiet times bring such a thing to the rule, in words; score: log10 of the weeks between two."""
    if score > 7:
        return "quiet times bring that less than once in 100,000 years"
    weeks = 10**score
    if f"{weeks:.2g}" == "1" or f"{1 / weeks:.2g}" == "1":
        return "quiet times bring that once a week"
    if weeks < 1:
        return f"quiet times bring that {1 / weeks:.2g} times a week"
    years = weeks / 52.18
    return (
        f"quiet times bring that once in {weeks:.2g} weeks"
        if years < 2
        else (f"quiet times bring that once in {float(f'{years:.2g}'):,.12g} years")
    )


def length_text(window_s: int) -> str:
    return f"{window_s / 60:g} min" if window_s <= HOUR_S else f"{window_s / HOUR_S:g} h"


def matches(series: str, patterns: Sequence[str]) -> bool:
    """Whether a series is one of a rule's: `entity:AAPL`, or `entity:*` for all of the kind."""
    return any(series == p or (p.endswith("*") and series.startswith(p[:-1])) for p in patterns)

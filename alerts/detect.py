"""Whether a series' negative stories surge: pure. Only fresh stories count, by their publication time."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy.special import betainc

from moodwire.settings import Rule

HOUR_S = 3600
DAY_S = 86_400
MINIMUM_HISTORY_S = DAY_S  # of the whole flow, before anything may fire
BY_HOUR_FROM_S = 7 * DAY_S  # of history, before the hour of the day is looked at
PRIOR_STORIES = 0.5  # the prior's weight: this many stories in PRIOR_HOURS
PRIOR_HOURS = 24.0
LOWER_SHARE = 0.05  # a share of negative stories this improbably low vetoes: busy, not bad
HOLD = 100.0  # an incident holds while the tail is at most this many times the rule's
FLOOR = -300.0  # of log10 tail probabilities: below it doubles run out

Span = tuple[int, int]  # seconds since 1970, from and until


class Count(NamedTuple):
    stories: int
    negative: int


class Verdict(NamedTuple):
    fires: bool
    holds: bool  # still strange enough for an incident to stay open
    observed: int  # negative stories in the window
    expected: float
    log10_tail: float  # log10 of P(count >= observed)
    reason: str


class History:
    """A series' counts: the latest by 60 s window, all of the baseline by hour. Times in seconds since 1970."""

    def __init__(self) -> None:
        self.recent: dict[int, Count] = {}
        self.hours: dict[int, Count] = {}  # hour number -> counts; hours without stories are left out

    def put(self, start_s: int, count: Count) -> None:
        """The window's counts as they are now; they replace those it had."""
        old = self.recent.get(start_s, Count(0, 0))
        self.recent[start_s] = count
        hour = self.hours.get(start_s // HOUR_S, Count(0, 0))
        self.hours[start_s // HOUR_S] = Count(
            hour.stories + count.stories - old.stories, hour.negative + count.negative - old.negative
        )

    def forget(self, before_recent_s: int, before_hours_s: int) -> None:
        """Drop windows and hours that no rule looks at any more."""
        for start in [start for start in self.recent if start < before_recent_s]:
            del self.recent[start]
        for hour in [hour for hour in self.hours if hour < before_hours_s // HOUR_S]:
            del self.hours[hour]

    def within(self, since_s: int, until_s: int) -> Count:
        """Counts of the windows that start in [since, until)."""
        stories = negative = 0
        for start, count in self.recent.items():
            if since_s <= start < until_s:
                stories += count.stories
                negative += count.negative
        return Count(stories, negative)


class Baseline(NamedTuple):
    rate: float  # negative stories an hour, shrunk towards the prior
    shape: float  # of the negative binomial's gamma
    share: float  # negative among all stories


def baseline(history: History, rule: Rule, now_s: int, began_s: int, spikes: Sequence[Span]) -> Baseline:
    """What the series did before the judged window, without the hours of its own earlier spikes.

    The rate has a gamma prior (Gelman et al., Bayesian Data Analysis, 3rd ed., section 2.6); a dispersion above
    Poisson's, by the method of moments over hours, lowers the shape.
    """
    last = (now_s - round(rule.window_s)) // HOUR_S  # hours before this one
    first = max(began_s, now_s - round(rule.baseline_days * DAY_S)) // HOUR_S
    outside = {
        hour for since, until in spikes for hour in range(since // HOUR_S, until // HOUR_S + 1) if first <= hour < last
    }
    hours = max(last - first - len(outside), 0)
    stories = negative = squares = same = 0
    hour_of_day = now_s // HOUR_S % 24
    for hour, count in history.hours.items():
        if first <= hour < last and hour not in outside:
            stories += count.stories
            negative += count.negative
            squares += count.negative**2
            if hour % 24 == hour_of_day:
                same += count.negative
    shape, weight = PRIOR_STORIES + negative, PRIOR_HOURS + hours
    rate = shape / weight
    if hours * HOUR_S >= BY_HOUR_FROM_S:
        # The busy hour of the day must not wake anyone.
        rate = max(rate, (PRIOR_STORIES / 24 + same) / (weight / 24))
    if hours > 1:
        mean = negative / hours
        variance = (squares - hours * mean**2) / (hours - 1)
        if variance > mean > 0:
            shape = min(shape, mean**2 / (variance - mean) * max(rule.window_s / HOUR_S, 1))
    return Baseline(rate, shape, negative / stories if stories else 0.0)


def judge(history: History, rule: Rule, now_s: int, began_s: int, spikes: Sequence[Span] = ()) -> Verdict:
    """The series' last `rule.window_s` before `now_s` against its baseline since `began_s`, the history's begin."""
    since = now_s - round(rule.window_s)
    observed = history.within(since, now_s)
    if observed.negative < rule.minimum_stories:
        reason = f"{observed.negative} negative stories, fewer than {rule.minimum_stories}"
        return Verdict(False, False, observed.negative, math.nan, 0.0, reason)
    known = baseline(history, rule, now_s, began_s, spikes)
    expected = known.rate * rule.window_s / HOUR_S
    tail = log10_tail(observed.negative, expected, known.shape)
    holds = tail <= math.log10(rule.tail * HOLD)
    told = f"{observed.negative} negative stories in {rule.window_s / 60:g} min where {expected:.2g} are expected"

    def verdict(fires: bool, reason: str) -> Verdict:
        return Verdict(fires, holds, observed.negative, expected, tail, reason)

    if now_s - began_s < MINIMUM_HISTORY_S:
        return verdict(False, f"{told}; but the history is shorter than a day")
    if tail > math.log10(rule.tail):
        return verdict(False, f"{told}: {odds(tail)}, not rarer than {rule.tail:g}")
    if log10_lower(observed, known.share) < math.log10(LOWER_SHARE):
        return verdict(False, f"{told}; but their share is below the usual {known.share:.0%}: busy, not bad")
    return verdict(True, f"{told}: {odds(tail)}")


def odds(log10_p: float) -> str:
    """A probability in words."""
    if log10_p < -12:
        return "a chance of less than 1 in a trillion"
    count = 10**-log10_p
    for unit, name in ((1e9, " billion"), (1e6, " million"), (1, "")):
        if count >= unit:
            return f"a chance of 1 in {float(f'{count / unit:.2g}'):,.12g}{name}"
    return "a chance of 1 in 1"


def log10_tail(count: int, mean: float, shape: float) -> float:
    """log10 P(N >= count) of a negative binomial of this mean and shape (its gamma's)."""
    if count <= 0:
        return 0.0
    p = float(betainc(count, shape, mean / (mean + shape)))
    return max(math.log10(p), FLOOR) if p > 0 else FLOOR


def log10_lower(observed: Count, share: float) -> float:
    """log10 P(negative <= observed) when each story is negative with probability `share`."""
    if observed.negative >= observed.stories or share <= 0:
        return 0.0
    p = float(betainc(observed.stories - observed.negative, observed.negative + 1, 1 - share))
    return max(math.log10(p), FLOOR) if p > 0 else FLOOR


def matches(series: str, patterns: Sequence[str]) -> bool:
    """Whether a series is one of a rule's: `entity:AAPL`, or `entity:*` for all of the kind."""
    return any(series == p or (p.endswith("*") and series.startswith(p[:-1])) for p in patterns)


def moments(recent: Mapping[int, Count], window_s: int, after_s: int, until_s: int) -> list[int]:
    """When a silent series' count changes in (after, until]: as windows leave the span; and `until` itself."""
    leaving = {start + window_s + 1 for start in recent}
    return sorted({moment for moment in leaving if after_s < moment <= until_s} | {until_s})

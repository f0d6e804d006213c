"""The detector alone: tails, baselines, calibration, and what it says of a count."""

import copy
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from alerts.baseline import fit
from alerts.calibration import curve, quiet, summits
from alerts.counts import Count, Counts, Track
from alerts.detect import Course, Detector, Verdict, due, length_text, matches, often
from alerts.flow import silences
from alerts.tails import count_for, log10_lower, log10_tail
from moodwire.settings import Rule

HOUR, DAY = 3600, 86_400
T0 = 1_704_067_200  # a Monday
CELL = 900


def rule(**changes: Any) -> Rule:
    return Rule(**{"name": "r", "series": ("*",), "timezone": "UTC", **changes})


class Past:
    """Poisson stories of some series, cell by cell, seen by a detector as they come."""

    def __init__(self, series: int, seed: int = 1, **changes: Any) -> None:
        self.counts = Counts(CELL, 2 * DAY, 40 * DAY)
        self.detector = Detector(rule(**changes), self.counts)
        self.rows = [self.counts.row(f"s{number:03d}") for number in range(series)]
        self.rng = np.random.default_rng(seed)
        self.now = T0

    def run(self, days: float, rate: Any, share: float = 1 / 3, look: bool = True) -> int:
        """So many days at a rate an hour (a number, or a function of the time); how often it fired."""
        fired = 0
        for _ in range(round(days * DAY / CELL)):
            mean = (rate(self.now) if callable(rate) else rate) * CELL / HOUR
            negative = self.rng.poisson(mean, len(self.rows))
            fired += self.put(negative + self.rng.poisson(mean * (1 - share) / share, len(self.rows)), negative, look)
        return fired

    def put(self, stories: Any, negative: Any, look: bool = True) -> int:
        self.counts.put_all(self.now, np.asarray(stories), np.asarray(negative))
        self.now += CELL
        if due(self.now, T0) == self.now:
            self.detector.refresh(self.now, T0, self.rows, {})
        if not look or not self.detector.ready:
            return 0
        seen = self.detector.look(self.rows, self.now)
        self.detector.note(self.rows, self.now, seen)
        return int((seen.score >= self.detector.needed).sum())

    def verdict(self, row: int = 0, **told: Any) -> Verdict:
        return self.detector.verdict(self.detector.look([row], self.now, **told), 0)


# --- tails ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.floats(0.01, 200), st.floats(0.001, 5))
def test_the_tail_is_the_negative_binomial_s(count: int, mean: float, dispersion: float) -> None:
    shape = 1 / dispersion
    exact = stats.nbinom.logsf(count - 1, shape, shape / (shape + mean)) / math.log(10)
    found = float(log10_tail(count, mean, dispersion))
    if exact > -200:
        assert found == pytest.approx(exact, rel=1e-6, abs=1e-9)


@given(st.integers(1, 2000), st.floats(0.001, 5), st.floats(0.001, 2))
def test_the_tail_never_saturates_and_never_turns(count: int, mean: float, dispersion: float) -> None:
    tails = log10_tail([count, count + 1], mean, dispersion)
    assert tails[1] < tails[0] <= 0 or tails[0] > -1e-9


@given(st.integers(1, 80), st.integers(0, 80), st.floats(0.01, 0.99))
def test_the_share_s_tail_is_the_binomial_s(stories: int, negative: int, share: float) -> None:
    negative = min(negative, stories)
    exact = stats.binom.logcdf(negative, stories, share) / math.log(10)
    assert float(log10_lower(stories, negative, share)) == pytest.approx(max(exact, -250), rel=1e-6, abs=1e-9)


@given(st.floats(-60, -0.1), st.floats(0.01, 100), st.floats(0.001, 2))
def test_the_threshold_is_the_first_count_that_is_rare_enough(goal: float, mean: float, dispersion: float) -> None:
    count = float(count_for(goal, mean, dispersion))
    assert log10_tail(count, mean, dispersion) <= goal
    assert log10_tail(count - 1, mean, dispersion) > goal


# --- counts -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400), st.integers(0, 9)), max_size=60), st.data())
def test_a_track_is_a_table_that_forgets_the_old(puts: list[tuple[int, int, int]], data: st.DataObject) -> None:
    track, kept, newest = Track(60, 100 * 60, np.int32), {}, 0
    track.rows(4)
    for row, step, value in puts:
        cell = max(newest - 90, 0) + step
        newest = max(newest, cell)
        track.put(row, 10_000 + cell, value, value // 2)
        kept[row, cell] = value
    since = data.draw(st.integers(max(newest - 100, 0), newest))
    until = data.draw(st.integers(since, newest + 5))
    for row in range(4):
        total = sum(value for (of, cell), value in kept.items() if of == row and since <= cell < until)
        assert track.sums([row], 10_000 + since, 10_000 + until)[0, 0] == total
        assert track.between([row], 10_000 + since, 10_000 + until).shape == (2, 1, until - since)


def test_a_window_s_greater_counts_replace_those_it_had() -> None:
    counts = Counts(60, DAY, 10 * DAY)
    for count in (Count(2, 1), Count(5, 3), Count(4, 3)):
        counts.grow("s", T0 + 60, count)
    assert counts.hours.sums([0], T0 // HOUR, T0 // HOUR + 1)[:, 0].tolist() == [5, 3]


# --- baselines --------------------------------------------------------------------------------------------------------

LIVE = np.ones(28 * 24, bool)
CLOCK = np.arange(28 * 24) % 168


def fitted(negative: Any, live: Any = LIVE, spared: Any = None, clock: Any = CLOCK) -> Any:
    negative = np.asarray(negative)
    return fit(negative, 3 * negative, live, spared, clock, [0.25, 1, 4, 24])


def poisson(mean: Any, series: int = 30, seed: int = 2) -> Any:
    return np.random.default_rng(seed).poisson(np.broadcast_to(mean, (series, 28 * 24)))


def test_a_steady_rate_is_found_without_rhythm_or_dispersion() -> None:
    found = fitted(poisson(2.0))
    assert found.level[:-1] == pytest.approx(2.0, rel=0.15)
    assert found.level[:-1].mean() == pytest.approx(2.0, rel=0.02)
    assert np.abs(found.rhythm - 1).max() < 0.2
    assert found.dispersion[:-1].max() < 0.05
    assert found.share == pytest.approx(1 / 3, rel=0.01)


def test_the_rhythm_of_the_week_is_found() -> None:
    shape = np.where(np.arange(168) % 24 < 12, 0.5, 1.5) * np.where(np.arange(168) >= 120, 0.4, 1.0)
    shape /= shape.mean()
    found = fitted(poisson(1.0 * shape[CLOCK]))
    assert np.abs(found.rhythm[:-1].mean(axis=0) / shape - 1).mean() < 0.12
    assert np.abs(1 / shape - 1).mean() > 0.5, "as far off would be no rhythm at all"


def test_past_outliers_weigh_little() -> None:
    calm = poisson(1.0)
    stormy = calm.copy()
    stormy[0, 300:304] += 25
    assert stormy[0].sum() > 1.1 * calm[0].sum()
    assert fitted(stormy).level[0] == pytest.approx(fitted(calm).level[0], rel=0.03)


def test_hours_of_a_spike_and_of_silence_do_not_count() -> None:
    counts = poisson(1.0)
    spared = np.ones(counts.shape, bool)
    live = LIVE.copy()
    gone = counts.copy()
    gone[0, 100:200] += 3
    spared[0, 100:200] = False
    gone[:, 400:450] = 0
    live[400:450] = False
    found = fitted(gone, live, spared)
    assert found.level[:-1].mean() == pytest.approx(1.0, rel=0.03)
    assert found.level[0] == pytest.approx(fitted(counts).level[0], rel=0.1)
    assert fitted(gone).level[:-1].mean() < 0.97, "else the silence would not matter here"


def test_over_dispersed_counts_are_seen_to_be() -> None:
    rng = np.random.default_rng(3)
    counts = rng.poisson(rng.gamma(2.0, 1.0, (30, 28 * 24)))
    found = fitted(counts)
    assert found.dispersion[:-1, 1].mean() == pytest.approx(0.5, rel=0.25)
    assert found.dispersion[:-1, 2].mean() == pytest.approx(0.125, rel=0.4)


def test_a_short_history_is_drawn_to_the_companions() -> None:
    rates = np.repeat([0.9, 1.0, 1.1], 10)[:, None]
    counts = np.random.default_rng(4).poisson(np.broadcast_to(rates, (30, 28 * 24)))
    counts[0] = 0
    spared = np.ones(counts.shape, bool)
    spared[0, :-3] = False  # of this series three hours are known
    found = fitted(counts, LIVE, spared)
    assert 0.6 < found.level[0] < 1.1
    assert found.level[-1] == pytest.approx(1.0, rel=0.1), "as of a series that is not known at all"


# --- calibration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.7, 1.0, 1.4])
def test_the_curve_tells_how_often_a_score_comes_up(slope: float) -> None:
    """Peaks whose rate falls by 10 for each 1/slope of score."""
    rng = np.random.default_rng(5)
    logs = []
    for _ in range(30):
        peaks = 1 + rng.exponential(1 / (slope * math.log(10)), rng.poisson(400))
        found = curve(peaks, 4.0, 1.0, 1e4)
        logs.append(found.log10_rate(1 + 2 / slope))  # true: 100 a week at score 1, 1 a week here
    assert abs(float(np.mean(logs))) < math.log10(1.5)


def test_true_surges_in_the_past_count_but_not_how_high_they_were() -> None:
    peaks = 1 + np.random.default_rng(5).exponential(1 / math.log(10), 400)
    plain = curve(peaks, 4.0, 1.0, 1e4)
    peaks[:5] = 12
    some = curve(peaks, 4.0, 1.0, 1e4)
    peaks[:5] = 300
    assert curve(peaks, 4.0, 1.0, 1e4) == some
    assert plain.score(1.0) < some.score(1.0) < plain.score(1.0) + 0.6


def test_without_a_past_the_theory_holds() -> None:
    found = curve(np.array([]), 0.0, 1.0, 1e4)
    assert found.score(1.0) == pytest.approx(4.0)


def test_a_peak_counts_once_however_many_blocks_it_spans() -> None:
    blocks = np.array([[0, 3, 5, 4, 0, 0, 0, 0, 0, 2, 0], [5, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0]], float)
    assert sorted(blocks[np.isfinite(summits(blocks, 2))]) == [2, 5, 5]


def test_blocks_in_which_all_surge_at_once_are_no_quiet_times() -> None:
    rng = np.random.default_rng(6)
    peaks = rng.exponential(1.0, (200, 100)) + 1
    peaks[:, 40] += 5
    use = quiet(peaks, np.ones(100, bool))
    assert not use[40]
    assert use.sum() >= 97


@pytest.mark.parametrize(
    ("name", "rate"), [("steady", 1.0), ("daily", lambda now: 1 + math.sin(2 * math.pi * (now % DAY) / DAY))]
)
def test_false_alarms_come_about_as_often_as_set(name: str, rate: Any) -> None:
    """Four weeks to learn, then eight in which 3 a week, 24 in all, are allowed."""
    past = Past(30, false_alarms_per_week=3.0)
    past.run(28, rate)
    began = 0
    above = np.zeros(30, bool)
    calm = np.zeros(30)
    for _ in range(8 * 7 * 96):
        past.run(CELL / DAY, rate)
        seen = past.detector.look(past.rows, past.now).score >= past.detector.needed
        began += int((seen & ~above & (calm > 96)).sum())
        calm = np.where(seen, 0, calm + 1)
        above = seen
    assert 10 <= began <= 45


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calm() -> Past:
    past = Past(20)
    past.run(21, 0.5)
    return past


def added(past: Past, negative: int, stories: int, cells: int = 1) -> Past:
    """The same past and, in its first series, some cells more."""
    other = copy.deepcopy(past)
    for _ in range(cells):
        both = np.zeros((2, 20))
        both[:, 0] = stories, negative
        other.put(*both)
    return other


def test_a_surge_fires_with_its_reason_and_quiet_does_not(calm: Past) -> None:
    assert not calm.verdict().fires
    found = added(calm, 12, 14).verdict()
    assert found.fires
    assert found.window_s == 900
    assert found.expected < 1
    assert "12 negative stories in 15 min where" in found.reason
    assert "quiet times bring that" in found.reason


def test_what_falls_short_says_how_many_would_fire(calm: Past) -> None:
    short = added(calm, 3, 5).verdict()
    told = re.search(r"; (\d+) would fire$", short.reason)
    assert not short.fires
    assert told is not None and int(told[1]) > short.observed


def test_a_slow_burn_is_told_by_its_long_window(calm: Past) -> None:
    found = added(calm, 1, 2, 60)
    verdict = found.verdict()
    assert verdict.fires
    assert verdict.window_s > 3600


def test_below_the_minimum_nothing_fires(calm: Past) -> None:
    past = Past(20, minimum_stories=30)
    past.run(14, 0.01)
    found = added(past, 25, 25).verdict()
    assert not found.fires
    assert "fewer than 30" in found.reason


def test_more_is_never_less_strange(calm: Past) -> None:
    scores = [added(calm, count, 2 * count).verdict().score for count in range(4, 200, 14)]
    assert scores == sorted(scores)
    assert len(set(scores)) == len(scores)


def test_good_news_and_much_ordinary_news_do_not_fire(calm: Past) -> None:
    assert not added(calm, 0, 60).verdict().fires
    busy = added(calm, 12, 300).verdict()
    assert not busy.fires
    assert "busy, not bad" in busy.reason


def test_stories_that_were_told_count_no_second_time(calm: Past) -> None:
    past = added(calm, 15, 20)
    assert past.verdict().fires
    assert not past.verdict(told={0: past.now}).fires
    past.put(*np.full((2, 20), [[30.0], [20.0]]))
    assert past.verdict(told={0: past.now - CELL}).fires


def test_a_silence_is_found_and_windows_reach_back_over_it(calm: Past) -> None:
    filled = np.flatnonzero([3, 0, 2, 0, 0, 0, 4, 1, 0, 0])
    for expected, found in ((6.0, [(103, 106)]), (2.0, []), (8.0, [(103, 106), (108, 110)])):
        course = Course(np.full((1, 10), expected), 100)
        assert silences(filled, 100, 110, HOUR, course) == [(since * HOUR, until * HOUR) for since, until in found]
    past = added(calm, 6, 8)
    plain = past.verdict()
    held_back = past.verdict(silent=[(past.now - 12 * HOUR, past.now - CELL)])
    assert plain.fires
    assert not held_back.fires
    assert held_back.expected > plain.expected


def test_times_and_lengths_in_words() -> None:
    assert often(-0.5) == "quiet times bring that 3.2 times a week"
    assert {often(score) for score in (-0.01, 0, 0.01)} == {"quiet times bring that once a week"}
    assert often(0.1) == "quiet times bring that once in 1.3 weeks"
    assert often(1) == "quiet times bring that once in 10 weeks"
    assert often(4) == "quiet times bring that once in 190 years"
    assert often(50) == "quiet times bring that less than once in 100,000 years"
    assert [length_text(900), length_text(3600), length_text(86_400)] == ["15 min", "60 min", "24 h"]


def test_patterns() -> None:
    assert matches("entity:AAPL", ["entity:*"])
    assert matches("all", ["all"])
    assert not matches("entity:AAPL", ["entity:A", "topic:*"])

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from alerts.detect import Count, History, judge, log10_lower, log10_tail, matches, moments, odds
from alerts.incidents import Incident, advance
from alerts.watch import Watch
from moodwire.settings import Rule

HOUR, DAY = 3600, 86_400
RULE = Rule(name="r", series=("s",), window_s=3600, minimum_stories=4, tail=1e-5, baseline_days=14, cooldown_s=1800)
NOW = 100 * DAY


def quiet(per_hour: float, share: float = 0.3, days: int = 14, seed: int = 1) -> History:
    """Poisson stories at a steady rate of negative ones."""
    rng = random.Random(seed)
    history = History()
    minute = per_hour / 60
    for start in range(NOW - days * DAY, NOW, 60):
        negative = int(rng.random() < minute)
        history.put(start, Count(negative + int(rng.random() < minute * (1 - share) / share), negative))
    return history


def burst(history: History, negative: int, stories: int | None = None, ago_s: int = 1800) -> None:
    """Stories in one minute of the window."""
    start = (NOW - ago_s) // 60 * 60
    old = history.recent.get(start, Count(0, 0))
    history.put(start, Count(old.stories + (negative if stories is None else stories), old.negative + negative))


@given(st.integers(0, 60), st.floats(0.01, 50), st.floats(0.1, 200))
def test_the_tail_is_the_negative_binomial_s(count: int, mean: float, shape: float) -> None:
    exact = stats.nbinom.logsf(count - 1, shape, shape / (shape + mean)) / math.log(10)
    assert log10_tail(count, mean, shape) == pytest.approx(max(exact, -300), rel=1e-6, abs=1e-9)


@given(st.integers(1, 80), st.integers(0, 80), st.floats(0.01, 0.99))
def test_the_share_s_tail_is_the_binomial_s(stories: int, negative: int, share: float) -> None:
    negative = min(negative, stories)
    exact = stats.binom.logcdf(negative, stories, share) / math.log(10)
    assert log10_lower(Count(stories, negative), share) == pytest.approx(max(exact, -300), rel=1e-6, abs=1e-9)


def test_a_chance_is_told_in_words() -> None:
    assert odds(-10.5) == "a chance of 1 in 32 billion"
    assert odds(-6) == "a chance of 1 in 1 million"
    assert odds(math.log10(1 / 2300)) == "a chance of 1 in 2,300"
    assert odds(0) == "a chance of 1 in 1"
    assert odds(-300) == "a chance of less than 1 in a trillion"


def test_a_surge_fires_with_its_reason_and_quiet_does_not() -> None:
    history = quiet(0.5)
    calm = judge(history, RULE, NOW, NOW - 14 * DAY)
    assert not calm.fires
    burst(history, 12)
    verdict = judge(history, RULE, NOW, NOW - 14 * DAY)
    assert verdict.fires
    assert verdict.observed >= 12
    assert 0.2 < verdict.expected < 3
    assert f"{verdict.observed} negative stories in 60 min" in verdict.reason


@given(st.integers(0, 3))
def test_below_the_minimum_nothing_fires(count: int) -> None:
    history = History()
    burst(history, count)
    verdict = judge(history, RULE, NOW, NOW - 30 * DAY)
    assert not verdict.fires
    assert "fewer than 4" in verdict.reason


@given(st.integers(4, 40))
def test_more_is_never_less_strange(count: int) -> None:
    tails = []
    for negative in (count, count + 1):
        history = quiet(0.2)
        burst(history, negative)
        tails.append(judge(history, RULE, NOW, NOW - 14 * DAY).log10_tail)
    assert tails[1] <= tails[0]


def test_good_news_and_much_ordinary_news_do_not_fire() -> None:
    good = quiet(1, share=0.5)
    burst(good, 0, stories=60)
    assert not judge(good, RULE, NOW, NOW - 14 * DAY).fires
    busy = quiet(0.5, share=0.5)
    burst(busy, 12, stories=200)
    verdict = judge(busy, RULE, NOW, NOW - 14 * DAY)
    assert not verdict.fires
    assert "busy, not bad" in verdict.reason


def test_a_cold_start_does_not_fire() -> None:
    history = History()
    burst(history, 50)
    verdict = judge(history, RULE, NOW, NOW - 6 * HOUR)
    assert not verdict.fires
    assert "shorter than a day" in verdict.reason


def test_the_baseline_does_not_learn_from_the_spike() -> None:
    spiked, spared = quiet(0.5), quiet(0.5)
    for hour in range(30, 36):
        burst(spiked, 20, ago_s=hour * HOUR)
    spikes = [(NOW - 37 * HOUR, NOW - 29 * HOUR)]
    burst(spiked, 10)
    burst(spared, 10)
    with_memory = judge(spiked, RULE, NOW, NOW - 14 * DAY, spikes)
    assert with_memory.expected == pytest.approx(judge(spared, RULE, NOW, NOW - 14 * DAY).expected, rel=0.1)
    assert judge(spiked, RULE, NOW, NOW - 14 * DAY).expected > 1.3 * with_memory.expected


def test_quiet_series_rarely_fire() -> None:
    """A year of Poisson hours in all at a tail of 1e-5: not one alarm is to be expected (.09 of one)."""
    fired = 0
    for seed in range(4):
        watch = Watch([RULE], 7200)
        rng = random.Random(seed)
        for hour in range(90 * 24):
            at = NOW + hour * HOUR
            count = sum(rng.random() < 1 / 60 for _ in range(60))
            watch.take("s", at, Count(2 * count, count), 1)
            fired += len([c for c in watch.tick(at + HOUR - 60) if c.step.changed == "firing"])
    assert fired == 0


def test_an_incident_opens_holds_ends_and_rests() -> None:
    history = quiet(0.2)
    burst(history, 12, ago_s=600)
    began = NOW - 14 * DAY
    incident, at = None, NOW
    states = []
    for minute in range(0, 240, 5):
        at = NOW + minute * 60
        step = advance(incident, judge(history, RULE, at, began), RULE, at)
        incident = step.incident
        if step.changed:
            states.append((step.changed, step.at_s - NOW))
    (fired, fired_at), (resolved, resolved_at) = states
    assert (fired, fired_at) == ("firing", 0)
    assert resolved == "resolved"
    assert 50 * 60 + 1800 <= resolved_at <= 60 * 60 + 1800
    again = quiet(0.2)
    burst(again, 12, ago_s=600)
    strange = judge(again, RULE, NOW, began)
    ended = Incident(since_s=NOW - DAY, until_s=NOW - 60)
    rest = advance(ended, strange, RULE, NOW)
    assert rest.changed == ""
    assert "resting" in rest.reason
    assert advance(ended, strange, RULE, NOW + 3600).changed == "firing"


def transitions(gaps: list[int]) -> list[tuple[str, str, int]]:
    """What becomes of one surge when, behind it, ticks come with these gaps."""
    watch = Watch([RULE], 7200)
    rng = random.Random(3)
    for start in range(NOW - 3 * DAY, NOW, 600):
        watch.take("s", start, Count(2, int(rng.random() < 0.1)), 1)
    found = []
    for step in range(12):
        watch.take("s", NOW + 60 * step, Count(1, 1), 1)
        found += watch.tick(NOW + 60 * step + 60)
    at = NOW + 720
    while at < NOW + DAY:
        at += gaps[0]
        gaps = [*gaps[1:], gaps[0]]
        found += watch.tick(at)
    return [(change.step.changed, change.series, change.step.at_s) for change in found]


@given(st.lists(st.integers(2, 40_000), min_size=1, max_size=8))
def test_an_incident_does_not_depend_on_how_ticks_are_spaced_in_silence(gaps: list[int]) -> None:
    dense = transitions([60])
    assert [state for state, _, _ in dense] == ["firing", "resolved"]
    spaced = transitions(gaps)
    assert [state for state, _, _ in spaced] == ["firing", "resolved"]
    assert abs(spaced[1][2] - dense[1][2]) <= 60


def test_repeats_and_older_revisions_change_nothing() -> None:
    watch, doubled = Watch([RULE], 7200), Watch([RULE], 7200)
    found, again = [], []
    for step in range(40):
        start = NOW + 60 * step
        watch.take("s", start, Count(3, 3), 3)
        found += watch.tick(start + 60)
        for count in (3, 1, 3, 2):
            doubled.take("s", start, Count(count, count), count)
        again += doubled.tick(start + 60)
        again += doubled.tick(start + 60)
        again += doubled.tick(start)
    assert [(c.step, c.verdict) for c in found] == [(c.step, c.verdict) for c in again]


def test_memory_does_not_grow() -> None:
    watch = Watch([Rule(name="r", series=("*",), baseline_days=2)], 7200)
    sizes = []
    for day in range(12):
        for minute in range(0, 1440, 5):
            at = NOW + day * DAY + minute * 60
            watch.take(f"entity:{minute % 7}", at, Count(2, 1), 1)
            watch.tick(at + 60)
        sizes.append(watch.size())
    assert sizes[-1] <= 1.05 * sizes[5]


def test_patterns() -> None:
    assert matches("entity:AAPL", ["entity:*"])
    assert matches("all", ["all"])
    assert not matches("entity:AAPL", ["entity:A", "topic:*"])


def test_moments_are_when_windows_leave() -> None:
    assert moments({100: Count(1, 1), 200: Count(1, 1)}, 60, 150, 1000) == [161, 261, 1000]
    assert moments({100: Count(1, 1)}, 60, 161, 1000) == [1000]

"""The watch: windows and ticks in, changes of incidents out, however ticks are spaced and windows come."""

import copy
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.counts import Count
from alerts.detect import Peak
from alerts.incidents import Incident, advance
from alerts.watch import Change, Learnt, Watch
from moodwire.settings import Rule

HOUR, DAY = 3600, 86_400
RULE = Rule(name="r", series=("s", "t"), baseline_days=14, cooldown_s=7200, false_alarms_per_week=0.2, timezone="UTC")
NOW = 100 * DAY


def feed(watch: Watch, since: int, until: int, seed: int = 3, step: int = 600, flow: int = 3) -> list[Change]:
    """Ordinary news: of two series, and of the whole flow; a tick behind each step."""
    rng = random.Random(seed)
    found: list[Change] = []
    for start in range(since, until, step):
        for series in ("s", "t"):
            watch.take(series, start, Count(1, int(rng.random() < 0.1)))
        watch.take("all", start, Count(flow, 1))
        found += watch.tick(start + 60)
    return found


def surge(watch: Watch, at: int, count: int = 10, series: str = "s") -> list[Change]:
    """Negative stories, one a minute."""
    found: list[Change] = []
    for minute in range(count):
        watch.take(series, at + 60 * minute, Count(1, 1))
        found += watch.tick(at + 60 * minute + 60)
    return found


def told(changes: Sequence[Change]) -> list[tuple[str, str, int]]:
    return [(change.step.changed, change.series, change.step.at_s) for change in changes]


@pytest.fixture(scope="module")
def grown() -> Watch:
    """Sixteen days old."""
    watch = Watch([RULE], 7200)
    assert feed(watch, NOW - 16 * DAY, NOW) == []
    return watch


def test_a_surge_fires_holds_ends_and_is_not_told_again(grown: Watch) -> None:
    watch = copy.deepcopy(grown)
    found = surge(watch, NOW) + feed(watch, NOW + HOUR, NOW + 2 * DAY, seed=4)
    (fired, series, at), (ended, _, ended_at) = told(found)
    assert (fired, series, ended) == ("firing", "s", "resolved")
    assert at <= NOW + 600
    window = found[0].verdict.window_s
    assert at + window - 600 + 7200 <= ended_at <= NOW + 600 + window + 7200 + 2 * HOUR
    assert found[0].verdict.observed >= 4


def test_a_cold_start_does_not_fire() -> None:
    watch = Watch([RULE], 7200)
    feed(watch, NOW, NOW + 12 * HOUR)
    assert surge(watch, NOW + 12 * HOUR, 50) == []


def test_only_the_watched_series_fire(grown: Watch) -> None:
    assert surge(copy.deepcopy(grown), NOW, 12, "entity:OTHER") == []


@pytest.fixture(scope="module")
def surged() -> tuple[Watch, list[tuple[str, str, int]]]:
    """Three days old, of two series alone (so no silence of the whole flow), with a surge; and what became of it."""
    watch = Watch([RULE], 7200)
    rng = random.Random(3)
    for start in range(NOW - 3 * DAY, NOW, 600):
        watch.take("s", start, Count(2, int(rng.random() < 0.1)))
    assert [state for state, _, _ in told(surge(watch, NOW))] == ["firing"]
    return watch, followed(watch, [60])


def followed(watch: Watch, gaps: Sequence[int]) -> list[tuple[str, str, int]]:
    """What becomes of an open incident when ticks come with these gaps."""
    watch = copy.deepcopy(watch)
    found, at, turn = [], NOW + 600, 0
    while at < NOW + 12 * HOUR:
        at, turn = at + gaps[turn % len(gaps)], turn + 1
        found += watch.tick(at)
    return told(found)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(120, 40_000), min_size=1, max_size=6))
def test_an_incident_does_not_depend_on_how_ticks_are_spaced_in_silence(
    surged: tuple[Watch, list[tuple[str, str, int]]], gaps: list[int]
) -> None:
    watch, dense = surged
    spaced = followed(watch, gaps)
    assert [state for state, _, _ in dense] == ["resolved"]
    assert [state for state, _, _ in spaced] == ["resolved"]
    assert abs(spaced[0][2] - dense[0][2]) <= 60


def test_repeats_and_older_revisions_change_nothing(grown: Watch) -> None:
    watch, doubled = copy.deepcopy(grown), copy.deepcopy(grown)
    found, again = [], []
    for step in range(40):
        start = NOW + 60 * step
        watch.take("s", start, Count(3, 3))
        found += watch.tick(start + 60)
        for count in (3, 1, 3, 2):
            doubled.take("s", start, Count(count, count))
        again += doubled.tick(start + 60)
        again += doubled.tick(start + 60)
        again += doubled.tick(start)
    assert found
    assert [(c.step, c.verdict) for c in found] == [(c.step, c.verdict) for c in again]


@pytest.mark.parametrize("cut", [7 * HOUR, 20 * HOUR, 20 * HOUR + 300, 30 * HOUR])
def test_a_watch_that_starts_again_goes_on_as_if_it_had_not_stopped(cut: int) -> None:
    """What is kept (counts, incidents, peaks) is enough: the same changes with the same figures, the same learning."""

    def events() -> list[tuple[str, int, Count]]:
        rng = random.Random(9)
        found = []
        for start in range(NOW - 10 * DAY, NOW + 2 * DAY, 600):
            hot = 0.9 if NOW + 19 * HOUR <= start < NOW + 22 * HOUR else 0.1
            found += [(series, start, Count(1, int(rng.random() < hot))) for series in ("s", "t", "u")]
        return found

    steady = Rule(name="r", series=("*",), baseline_days=7, false_alarms_per_week=0.5, timezone="UTC")
    watch, kept, counts, incidents, windows, peaks = Watch([steady], 7200), [], [], {}, {}, {}
    other: Watch | None = None
    again: list[Change] = []
    learnt: list[Learnt] = []
    learnt_again: list[Learnt] = []
    told: list[tuple[str, int, Count]] = []
    for series, start, count in events():
        steps = [(series, start, Count(1, 0)), (series, start, Count(2, 2 * count.negative))]
        counts.append((series, start, steps[-1][2]))
        told += steps
        for step in steps:
            watch.take(*step)
            if other is not None:
                other.take(*step)
        if series != "u":
            continue
        changes = watch.tick(start + 60)
        kept += changes
        learnt.append(watch.learnt())
        for change in changes:
            assert change.step.incident is not None
            if change.step.changed == "firing":
                windows[change.rule.name, change.series, change.step.incident.since_s] = change.verdict.window_s
            incidents[change.series, change.step.incident.since_s] = (
                change.rule.name, change.series, change.step.incident
            )  # fmt: skip
        for name, series_, incident in watch.open_incidents():
            incidents[series_, incident.since_s] = (name, series_, incident)
        for name, peak in learnt[-1].peaks:
            peaks[name, peak.series, peak.block, peak.window_s] = (name, peak)
        if other is not None:
            again += other.tick(start + 60)
            learnt_again.append(other.learnt())
        elif start + 60 >= NOW + cut:
            other = Watch([steady], 7200)
            known = [each for each in counts if each[1] >= start + 60 - other.memory_s]
            random.Random(1).shuffle(known)
            other.restore(start + 60, known, list(incidents.values()), windows, list(peaks.values()))
            for step in told[-20:]:  # what was read and not committed comes again
                other.take(*step)
            assert other.tick(start + 60) == []
            kept.clear()
            learnt.clear()
    assert other is not None
    assert [(c.series, c.step, c.verdict) for c in kept] == [(c.series, c.step, c.verdict) for c in again]
    assert [part.peaks for part in learnt] == [part.peaks for part in learnt_again]
    if cut < 19 * HOUR:
        assert "firing" in [change.step.changed for change in again], "else little would be compared"


def test_a_silent_feed_is_no_data_and_neither_fires_nor_ends_an_incident(grown: Watch) -> None:
    watch = copy.deepcopy(grown)
    assert [change.step.changed for change in surge(watch, NOW)] == ["firing"]
    found = [change for hour in range(1, 40) for change in watch.tick(NOW + 600 + hour * HOUR)]
    assert [change for change in found if change.step.at_s > NOW + 5 * HOUR] == []
    assert watch.open_incidents()
    back = feed(watch, NOW + 41 * HOUR, NOW + 60 * HOUR, seed=5)
    assert [change.step.changed for change in back] == ["resolved"]


def test_an_outage_and_its_catch_up_do_not_fire(grown: Watch) -> None:
    """Ten hours without a feed; then what was held back comes at once, half of it without a date of its own."""
    watch = copy.deepcopy(grown)
    found = [change for hour in range(10) for change in watch.tick(NOW + hour * HOUR + 60)]
    back = NOW + 10 * HOUR
    watch.take("s", back, Count(33, 4))
    watch.take("all", back, Count(90, 30))
    found += watch.tick(back + 60)
    found += feed(watch, back + 600, back + 2 * DAY, seed=6)
    assert found == []
    with_feed = copy.deepcopy(grown)
    feed(with_feed, NOW, back, seed=7)
    with_feed.take("s", back, Count(8, 6))
    assert with_feed.tick(back + 60), "the same without an outage is a surge"


def test_old_news_never_fires(grown: Watch) -> None:
    """A back-fill revises old windows, in which nothing is fresh: their counts stay as they were."""
    watch = copy.deepcopy(grown)
    for start in range(NOW - 300 * DAY, NOW - 2 * DAY, 6 * HOUR):
        watch.take("s", start, Count(0, 0))
    assert watch.tick(NOW + 60) == []
    for start in range(NOW - 10 * DAY, NOW - 2 * DAY, HOUR):
        watch.take("s", start, Count(50, 50))
    assert watch.tick(NOW + 120) == []


def test_what_is_expected_is_told_once_in_a_quarter_of_an_hour(grown: Watch) -> None:
    watch = copy.deepcopy(grown)
    watch.learnt()
    surge(watch, NOW, 30)
    told = [each for each in watch.learnt().expectations if each.series == "s"]
    assert [each.at_s - NOW for each in told] == [60, 900, 1800]
    for each in told:
        windows, expected, thresholds = zip(*each.by_window, strict=True)
        assert windows == (900, 3600, 14_400, 86_400)
        assert expected[0] > 0 and list(expected) == sorted(expected)
        assert all(value < threshold for value, threshold in zip(expected, thresholds, strict=True))


def test_memory_does_not_grow() -> None:
    watch = Watch([Rule(name="r", series=("*",), baseline_days=2, windows=(900, 3600))], 7200)
    sizes = []
    for day in range(14):
        for minute in range(0, 1440, 20):
            at = NOW + day * DAY + minute * 60
            watch.take(f"entity:{day}:{minute % 7}", at, Count(2, 1))
            watch.tick(at + 60)
        sizes.append((watch.size(), len(watch._counts.names), watch._counts.fine._cells.nbytes))
    assert all(last <= 1.2 * earlier for last, earlier in zip(sizes[-1], sizes[7], strict=True))


def test_peaks_are_kept_by_block_and_only_when_they_rise(grown: Watch) -> None:
    watch = copy.deepcopy(grown)
    watch.learnt()
    surge(watch, NOW)
    peaks = [peak for _, peak in watch.learnt().peaks if peak.series == "s"]
    assert {peak.block for peak in peaks} == {NOW // (6 * HOUR)}
    assert max(peak.score for peak in peaks) > 4
    watch.tick(NOW + 700)
    assert watch.learnt().peaks == []
    assert isinstance(peaks[0], Peak)


def test_an_incident_rests_after_its_end(grown: Watch) -> None:
    watch = copy.deepcopy(grown)
    verdict = surge(watch, NOW)[0].verdict
    ended = Incident(since_s=NOW - DAY, until_s=NOW - 60)
    rest = advance(ended, verdict, RULE, NOW)
    assert rest.changed == ""
    assert "resting" in rest.reason
    assert advance(ended, verdict, RULE, NOW + 7200).changed == "firing"


@pytest.mark.parametrize("gap", [60, 2 * HOUR])
def test_a_pending_incident_fires_when_its_time_is_over_however_far_apart_ticks_are(gap: int) -> None:
    rule = Rule(name="r", series=("s",), baseline_days=14, windows=(3600,), pending_s=1200, timezone="UTC")
    watch = Watch([rule], 7200)
    rng = random.Random(3)
    for start in range(NOW - 3 * DAY, NOW, 600):
        watch.take("s", start, Count(2, int(rng.random() < 0.1)))
    assert surge(watch, NOW) == []
    ((_, _, pending),) = watch.open_incidents()
    assert pending.pending
    found = [change for at in range(NOW + 600 + gap, NOW + 3 * HOUR, gap) for change in watch.tick(at)]
    assert told(found)[0] == ("firing", "s", pending.since_s + 1200)

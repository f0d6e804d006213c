"""The backtest runs the very same watch over what was known at each moment."""

import random

from alerts.backtest import FACTORS, Story, run, summaries
from alerts.counts import Count
from alerts.watch import Watch
from moodwire.settings import Rule

HOUR, DAY = 3600, 86_400
T0 = 1_704_067_200
RULE = Rule(name="r", series=("a", "b"), baseline_days=7, false_alarms_per_week=0.5, timezone="UTC")


def past(days: int = 12) -> list[Story]:
    """Quiet news of two series, with a surge of one on the tenth day."""
    rng = random.Random(5)
    found = []
    for start in range(T0, T0 + days * DAY, 900):
        for series in ("a", "b"):
            if rng.random() < 0.3:
                found.append(Story(start + 5, series, start // 60 * 60, rng.random() < 0.4))
    found += [Story(T0 + 10 * DAY + 60 * n, "a", T0 + 10 * DAY + 60 * n, True) for n in range(15)]
    return sorted(found)


def test_the_surge_is_found_with_its_end_and_why() -> None:
    alarms = run([RULE], past(), 7200, 60, T0 + 12 * DAY)
    (own,) = [alarm for alarm in alarms if alarm.factor == 1 and alarm.at_s >= T0 + 10 * DAY]
    assert own.series == "a"
    assert T0 + 10 * DAY < own.at_s < T0 + 10 * DAY + 900
    assert own.until_s is not None
    assert own.until_s > own.at_s
    assert "negative stories in" in own.reason


def test_a_stricter_setting_never_has_more_alarms() -> None:
    rows = summaries([RULE], run([RULE], past(), 7200, 60, T0 + 12 * DAY), 12 * DAY)
    counts = [row.alarms for row in rows]
    assert [row.factor for row in rows] == list(FACTORS)
    assert counts == sorted(counts)
    assert counts[-1] >= 1
    assert rows[-1].weekly == counts[-1] / (12 / 7)


def test_it_says_what_the_live_watch_said() -> None:
    """Windows as trends makes them, ticks as they come: the same alarms at the same moments."""
    stories = past()
    watch, live, counts = Watch([RULE], 7200), [], {}
    for at in range(T0 // 60 * 60, T0 + 12 * DAY, 60):
        for story in [story for story in stories if at - 60 <= story.seen_s < at]:
            old = counts.get((story.series, story.start_s), Count(0, 0))
            new = Count(old.stories + 1, old.negative + story.negative)
            counts[story.series, story.start_s] = new
            watch.take(story.series, story.start_s, new)
        live += [(c.series, c.step.at_s, c.verdict) for c in watch.tick(at) if c.step.changed == "firing"]
    own = [alarm for alarm in run([RULE], stories, 7200, 60, T0 + 12 * DAY) if alarm.factor == 1]
    assert [(a.series, a.at_s, a.observed, a.expected) for a in own] == [
        (series, at, verdict.observed, verdict.expected) for series, at, verdict in live
    ]
    assert own

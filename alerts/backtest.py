"""What rules would have said about the past: the same watch, fed with what was known at each moment. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from alerts.calibration import WEEK_S
from alerts.counts import Count
from alerts.watch import Watch
from moodwire.settings import Rule

FACTORS = (0.25, 1.0, 4.0)  # of the rule's false alarms a week: what other settings would have done


class Story(NamedTuple):
    """A fresh story's part in one series; times in seconds since 1970."""

    seen_s: int
    series: str
    start_s: int  # of its window
    negative: bool


class Alarm(NamedTuple):
    """One incident of a rule at a setting."""

    rule: str
    per_week: float  # the setting
    factor: float  # by which it differs from the rule's own
    series: str
    at_s: int
    until_s: int | None  # None: still open at the end
    window_s: int
    observed: int
    expected: float
    score: float
    reason: str


class Summary(NamedTuple):
    """A rule at one setting."""

    rule: str
    per_week: float
    factor: float
    alarms: int
    weekly: float
    by_series: list[tuple[str, int]]  # most first


def run(rules: Sequence[Rule], stories: Iterable[Story], fresh_s: float, tick_s: int, end_s: int) -> list[Alarm]:
    """The alarms of each rule at each setting up to `end_s`; stories in the order in which they were seen."""
    variants = {}
    for rule in rules:
        for factor in FACTORS:
            per_week = rule.false_alarms_per_week * factor
            variant = msgspec.structs.replace(
                rule, name=f"{rule.name} at {per_week:g} a week", false_alarms_per_week=per_week
            )
            variants[variant.name] = (rule.name, per_week, factor, variant)
    watch = Watch([variant for *_, variant in variants.values()], fresh_s)
    counts: defaultdict[tuple[str, int], Count] = defaultdict(lambda: Count(0, 0))
    found: dict[tuple[str, str, int], Alarm] = {}

    def tick(now_s: int) -> None:
        for change in watch.tick(now_s):
            incident = change.step.incident
            assert incident is not None
            key = (change.rule.name, change.series, incident.since_s)
            if change.step.changed == "resolved" and key in found:
                found[key] = found[key]._replace(until_s=change.step.at_s)
            elif key not in found:
                name, per_week, factor, _ = variants[change.rule.name]
                verdict = change.verdict
                found[key] = Alarm(
                    name, per_week, factor, change.series, change.step.at_s, None, verdict.window_s,
                    verdict.observed, verdict.expected, verdict.score, verdict.reason,
                )  # fmt: skip
        watch.learnt()

    due: int | None = None
    for story in stories:
        after = (story.seen_s // tick_s + 1) * tick_s
        if due is not None and after > due:
            tick(due)
        due = after
        key = (story.series, story.start_s)
        old = counts[key]
        counts[key] = Count(old.stories + 1, old.negative + story.negative)
        watch.take(story.series, story.start_s, counts[key], counts[key].stories)
    if due is not None:
        tick(due)
    tick(end_s)
    return sorted(found.values(), key=lambda alarm: (alarm.at_s, alarm.rule, alarm.factor, alarm.series))


def summaries(rules: Sequence[Rule], alarms: Sequence[Alarm], span_s: float) -> list[Summary]:
    """Each rule at each setting, over so many seconds."""
    rows = []
    for rule in rules:
        for factor in FACTORS:
            some = [alarm for alarm in alarms if alarm.rule == rule.name and alarm.factor == factor]
            by_series: defaultdict[str, int] = defaultdict(int)
            for alarm in some:
                by_series[alarm.series] += 1
            most = sorted(by_series.items(), key=lambda item: (-item[1], item[0]))
            weekly = len(some) / (span_s / WEEK_S) if span_s > 0 else 0.0
            rows.append(Summary(rule.name, rule.false_alarms_per_week * factor, factor, len(some), weekly, most))
    return rows

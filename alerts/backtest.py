"""What rules would have said about the past: the same watch, fed with what was known at each moment. Pure."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec

from alerts import plain
from alerts.calibration import WEEK_S
from alerts.counts import Count
from alerts.plain import PlainWatch
from alerts.watch import Change, Watch
from moodwire.settings import AnyStoryRule, ArticleRule, Rule

AnyTried = Rule | AnyStoryRule
_START = attrgetter("start_s")
Key = tuple[str, str, int]  # rule at its setting, series, begin
FACTORS = (0.25, 1.0, 4.0)  # of the rule's false alarms a week: what other settings would have done


class Story(NamedTuple):
    """A fresh story's part in one series; times in seconds since 1970."""

    seen_s: int
    series: str
    start_s: int  # of its window
    negative: bool


class Copy(NamedTuple):
    """A fresh article's part in one series; times in seconds since 1970."""

    seen_s: int
    series: str
    start_s: int  # of its window
    story_id: str
    source: str
    label: int  # -1 negative, 0 neutral, 1 positive
    score: float
    first: bool  # the one by which the story counts


class Alarm(NamedTuple):
    """One incident of a rule at a setting."""

    rule: str
    per_week: float | None  # the setting; plain rules have none
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
    per_week: float | None
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
    found: dict[Key, Alarm] = {}

    def tick(now_s: int) -> None:
        for change in watch.tick(now_s):
            name, per_week, factor, _ = variants[change.rule.name]
            _keep(found, change, name, per_week, factor, change.verdict.window_s)
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
        watch.take(story.series, story.start_s, counts[key])
    if due is not None:
        tick(due)
    tick(end_s)
    return _in_order(found)


def run_plain(rules: Sequence[AnyStoryRule], copies: Iterable[Copy], tick_s: int, end_s: int) -> list[Alarm]:
    """The alarms of plain rules up to `end_s`; copies in the order in which they were seen."""
    watch = PlainWatch(rules)
    held: defaultdict[str, list[Copy]] = defaultdict(list)  # by series, in the order of their windows
    found: dict[Key, Alarm] = {}

    def between(series: str, since_s: int, until_s: int) -> list[Copy]:
        known = held[series]
        return known[bisect_left(known, since_s, key=_START) : bisect_left(known, until_s, key=_START)]

    def ask(rule: AnyStoryRule, series: str, since_s: int, until_s: int) -> list[plain.Story]:
        some = between(series, since_s, until_s)
        carried: defaultdict[str, set[str]] = defaultdict(set)
        for each in some:
            carried[each.story_id].add(each.source)
        of_topic = set()
        if isinstance(rule, ArticleRule):
            topic = between(f"topic:{rule.topic}", since_s, until_s)
            of_topic = {each.story_id for each in topic if each.first}
        return [
            plain.Story(c.story_id, c.start_s, c.label, c.score, len(carried[c.story_id]), c.story_id in of_topic)
            for c in some
            if c.first
        ]

    def tick(now_s: int) -> None:
        for each in watch.tick(now_s, ask, {}):
            rule = each.change.rule
            _keep(found, each.change, rule.name, None, 1.0, round(rule.window_s))  # type: ignore[union-attr]

    due: int | None = None
    for copy in copies:
        after = (copy.seen_s // tick_s + 1) * tick_s
        while due is not None and due < after:  # each tick: what must hold for a while is looked at again
            tick(due)
            due += tick_s
        due = after
        insort(held[copy.series], copy, key=_START)
        watch.take(copy.series)
    while due is not None and due < end_s:
        tick(due)
        due += tick_s
    tick(end_s)
    return _in_order(found)


def _keep(
    found: dict[Key, Alarm], change: Change, name: str, per_week: float | None, factor: float, window_s: int
) -> None:
    """An incident that began, or the end of one."""
    incident, verdict = change.step.incident, change.verdict
    assert incident is not None
    key = (change.rule.name, change.series, incident.since_s)
    if change.step.changed == "resolved" and key in found:
        found[key] = found[key]._replace(until_s=change.step.at_s)
    elif key not in found:
        found[key] = Alarm(
            name, per_week, factor, change.series, change.step.at_s, None, window_s,
            verdict.observed, verdict.expected, verdict.score, verdict.reason,
        )  # fmt: skip


def _in_order(found: dict[Key, Alarm]) -> list[Alarm]:
    return sorted(found.values(), key=lambda alarm: (alarm.at_s, alarm.rule, alarm.factor, alarm.series))


def summaries(rules: Sequence[AnyTried], alarms: Sequence[Alarm], span_s: float) -> list[Summary]:
    """Each rule at each setting, over so many seconds."""
    rows = []
    for rule in rules:
        for factor in FACTORS if isinstance(rule, Rule) else (1.0,):
            some = [alarm for alarm in alarms if alarm.rule == rule.name and alarm.factor == factor]
            by_series: defaultdict[str, int] = defaultdict(int)
            for alarm in some:
                by_series[alarm.series] += 1
            most = sorted(by_series.items(), key=lambda item: (-item[1], item[0]))
            weekly = len(some) / (span_s / WEEK_S) if span_s > 0 else 0.0
            per_week = rule.false_alarms_per_week * factor if isinstance(rule, Rule) else None
            rows.append(Summary(rule.name, per_week, factor, len(some), weekly, most))
    return rows

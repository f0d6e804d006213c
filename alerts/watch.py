"""What the alarms know between ticks: counts by series, and incidents. No clock, no store."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from alerts.detect import HOUR_S, Count, History, Span, Verdict, baseline, judge, matches, moments
from alerts.incidents import Incident, Step, advance
from moodwire.settings import AnyRule, Rule

FORGET_EVERY_S = 6 * HOUR_S


class Change(NamedTuple):
    rule: AnyRule
    series: str
    step: Step
    verdict: Verdict
    previous: Incident | None


class Watch:
    """Takes windows and ticks in order and gives the incidents' changes of state. Times in seconds since 1970."""

    def __init__(self, rules: Iterable[Rule], fresh_s: float) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._histories: defaultdict[str, History] = defaultdict(History)
        self._revisions: dict[tuple[str, int], int] = {}
        self._rules_of: dict[str, tuple[Rule, ...]] = {}
        self._changed: dict[str, None] = {}
        self._incidents: dict[tuple[str, str], Incident] = {}
        self._spikes: defaultdict[tuple[str, str], list[Span]] = defaultdict(list)
        self._window_s = max((round(rule.window_s) for rule in self._rules.values()), default=0)
        self._baseline_s = max((round(rule.baseline_days * 86_400) for rule in self._rules.values()), default=0)
        # Counts of windows older than this change no more: a story is fresh for `fresh_s` only.
        self._recent_s = self._window_s + round(fresh_s) + HOUR_S
        self._began_s: int | None = None
        self._forgot_s = 0
        self.last_s: int | None = None  # the tick last looked at

    @property
    def memory_s(self) -> int:
        """How far back a start needs the counts."""
        return self._window_s + self._baseline_s

    def restore(
        self, last_s: int, counts: Iterable[tuple[str, int, Count]], incidents: Iterable[tuple[str, str, Incident]]
    ) -> None:
        """Go on from a tick: fresh counts by series and window start, incidents of (rule, series)."""
        self.last_s = last_s
        for series, start_s, count in counts:
            self._put(series, start_s, count)
        self._changed.clear()
        for name, series, incident in incidents:
            if name in self._rules:
                self._incidents[name, series] = incident
                if incident.pending:
                    continue
                began_s = incident.since_s - round(self._rules[name].window_s)
                self._spikes[name, series].append((began_s, incident.until_s or last_s))

    def take(self, series: str, start_s: int, count: Count, revision: int) -> None:
        """A window's counts; an older revision than the one known is passed over."""
        key = (series, start_s)
        too_old = self.last_s is not None and start_s < self.last_s - self._recent_s
        if too_old or revision < self._revisions.get(key, 0):
            return
        self._revisions[key] = revision
        self._put(series, start_s, count)

    def tick(self, now_s: int) -> list[Change]:
        """Look at what changed and at open incidents; a tick that was looked at before gives nothing."""
        if self.last_s is not None and now_s <= self.last_s:
            return []
        before, self.last_s = self.last_s, now_s
        changes: list[Change] = []
        for (name, series), incident in list(self._incidents.items()):
            if incident.alive:
                changes += self._follow(self._rules[name], series, before or now_s, now_s)
        for series in self._changed:
            for rule in self._applying(series):
                known = self._incidents.get((rule.name, series))
                if known is None or not known.open:
                    changes += self._look(rule, series, now_s)
        self._changed.clear()
        if now_s - self._forgot_s >= FORGET_EVERY_S:
            self._forget(now_s)
        return changes

    def size(self) -> int:
        """Windows and hours in memory."""
        return sum(len(history.recent) + len(history.hours) for history in self._histories.values())

    def open_incidents(self) -> list[tuple[str, str, Incident]]:
        """Rule, series and incident of each that is open or pending."""
        return [(rule, series, known) for (rule, series), known in self._incidents.items() if known.alive]

    def incident(self, rule: str, series: str) -> Incident | None:
        return self._incidents.get((rule, series))

    def put_incident(self, rule: str, series: str, incident: Incident) -> None:
        """An open incident as someone left it, acknowledged."""
        self._incidents[rule, series] = incident

    def _follow(self, rule: Rule, series: str, before_s: int, now_s: int) -> list[Change]:
        """An open incident from the last tick to this one, at the moments at which its count falls."""
        changes: list[Change] = []
        # Windows that came with this tick count from it on.
        steps = (
            [now_s]
            if series in self._changed
            else moments(self._histories[series].recent, round(rule.window_s), before_s, now_s)
        )
        for moment_s in steps:
            changes += self._look(rule, series, moment_s)
            known = self._incidents.get((rule.name, series))
            if known is None or not known.alive:
                break
        return changes

    def _look(self, rule: Rule, series: str, now_s: int) -> list[Change]:
        key = (rule.name, series)
        previous = self._incidents.get(key)
        began_s = now_s if self._began_s is None else self._began_s
        spikes = self._spikes.get(key, [])
        if previous is not None and previous.open:
            spikes = [*spikes[:-1], (spikes[-1][0], now_s)]
        verdict = judge(self._histories[series], rule, now_s, began_s, spikes)
        step = advance(previous, verdict, rule, now_s)
        if step.incident is None:
            self._incidents.pop(key, None)  # it was pending and did not last
            return []
        self._incidents[key] = step.incident
        if not step.changed:
            return []
        if math.isnan(verdict.expected):  # too few stories to be judged; the end of an incident still tells the usual
            usual = baseline(self._histories[series], rule, now_s, began_s, spikes)
            verdict = verdict._replace(expected=usual.rate * rule.window_s / HOUR_S)
        kept = self._spikes[key]
        if step.changed == "firing":
            # The surge began before it was noticed: its whole window stays out of later baselines.
            kept.append((now_s - round(rule.window_s), now_s))
        elif step.changed == "resolved":
            kept[-1] = (kept[-1][0], step.at_s)
        return [Change(rule, series, step, verdict, previous)]

    def _put(self, series: str, start_s: int, count: Count) -> None:
        if not self._applying(series):
            return
        if self._histories[series].recent.get(start_s) == count:
            return  # read again after a restart: it is no news, or open incidents would end later than without one
        self._histories[series].put(start_s, count)
        if count.stories:
            self._began_s = start_s if self._began_s is None else min(self._began_s, start_s)
        self._changed[series] = None

    def _applying(self, series: str) -> tuple[Rule, ...]:
        if series not in self._rules_of:
            self._rules_of[series] = tuple(rule for rule in self._rules.values() if matches(series, rule.series))
        return self._rules_of[series]

    def _forget(self, now_s: int) -> None:
        """Keep memory flat: what no rule looks at goes."""
        self._forgot_s = now_s
        recent_s = now_s - self._recent_s
        hours_s = now_s - self.memory_s - HOUR_S
        for series, history in list(self._histories.items()):
            history.forget(recent_s, hours_s)
            if not history.hours:
                del self._histories[series]
        for key in [key for key in self._revisions if key[1] < recent_s]:
            del self._revisions[key]
        self._began_s = None if self._began_s is None else max(self._began_s, hours_s)
        for (rule, series), incident in list(self._incidents.items()):
            if incident.until_s is not None and incident.until_s < hours_s:
                del self._incidents[rule, series]
                self._spikes.pop((rule, series), None)

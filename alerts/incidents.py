"""The life of an incident: pure. pending -> firing -> acknowledged -> resolved, and quiet for a while after.

It fires once the condition has held for the rule's `pending_s`. What worsens is told again, and opens an acknowledged
incident anew.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from alerts.detect import Verdict
from moodwire.settings import AnyRule

WORSE = 3  # times as many as when it was last told of, and no less strange: it worsens


@dataclass(frozen=True)
class Incident:
    """Of one rule and series. Times in seconds since 1970."""

    since_s: int
    quiet_since_s: int | None = None  # since when the condition no longer holds
    until_s: int | None = None  # when it was resolved
    state: str = "firing"  # pending, firing, acknowledged, resolved
    number: int = 1  # of its changes so far
    told_tail: float = 0.0  # log10 of the tail probability, and the count, when it was last told of
    told_observed: int = 0

    @property
    def open(self) -> bool:
        """Whether it fires, acknowledged or not."""
        return self.until_s is None and self.state != "pending"

    @property
    def pending(self) -> bool:
        return self.state == "pending"

    @property
    def alive(self) -> bool:
        """Whether it fires or may yet: it is looked at at every tick."""
        return self.until_s is None


class Step(NamedTuple):
    incident: Incident | None
    changed: str  # firing, worse, acknowledged, resolved, or nothing
    at_s: int
    reason: str


def advance(incident: Incident | None, verdict: Verdict, rule: AnyRule, now_s: int) -> Step:
    """What becomes of it at this moment, and why."""
    if incident is None or not incident.open:
        return _begin(incident, verdict, rule, now_s)
    cooldown = round(rule.cooldown_s)
    quiet_since = None if verdict.no_data else incident.quiet_since_s  # a feed that is silent ends nothing
    if quiet_since is not None and now_s >= quiet_since + cooldown:
        # Resolved at the moment the quiet was long enough, however late it is looked at.
        until = quiet_since + cooldown
        over = replace(incident, until_s=until, state="resolved", number=incident.number + 1)
        return Step(over, "resolved", until, f"quiet for {cooldown // 60} min")
    if not verdict.holds:
        quiet = now_s if incident.quiet_since_s is None else incident.quiet_since_s
        return Step(replace(incident, quiet_since_s=quiet), "", now_s, verdict.reason)
    incident = replace(incident, quiet_since_s=None)
    if not verdict.fires or not _worse(incident, verdict):
        return Step(incident, "", now_s, verdict.reason)
    worse = replace(_telling(incident, verdict), state="firing", number=incident.number + 1)
    return Step(worse, "worse", now_s, f"it worsens: {verdict.reason}")


def acknowledge(incident: Incident | None, now_s: int) -> Step:
    """What becomes of it when someone takes it on, and why."""
    if incident is None or not incident.open:
        return Step(incident, "", now_s, "it is over")
    if incident.state == "acknowledged":
        return Step(incident, "", now_s, "it was acknowledged before")
    taken = replace(incident, state="acknowledged", number=incident.number + 1)
    return Step(taken, "acknowledged", now_s, "acknowledged")


def _begin(incident: Incident | None, verdict: Verdict, rule: AnyRule, now_s: int) -> Step:
    if incident is not None and incident.pending:
        if not verdict.fires:
            return Step(None, "", now_s, f"it did not last: {verdict.reason}")
        if now_s < incident.since_s + round(rule.pending_s):
            return Step(incident, "", now_s, f"pending; {verdict.reason}")
    elif incident is not None and incident.until_s is not None and now_s < incident.until_s + round(rule.cooldown_s):
        return Step(incident, "", now_s, f"resting after the last one; {verdict.reason}")
    elif not verdict.fires:
        return Step(incident, "", now_s, verdict.reason)
    elif rule.pending_s:
        return Step(Incident(since_s=now_s, state="pending", number=0), "", now_s, f"pending; {verdict.reason}")
    return Step(_telling(Incident(since_s=now_s), verdict), "firing", now_s, verdict.reason)


def _worse(incident: Incident, verdict: Verdict) -> bool:
    return verdict.observed >= WORSE * max(incident.told_observed, 1) and verdict.log10_tail <= incident.told_tail


def _telling(incident: Incident, verdict: Verdict) -> Incident:
    return replace(incident, told_tail=verdict.log10_tail, told_observed=verdict.observed)

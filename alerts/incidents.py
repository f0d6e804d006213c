"""The life of an incident: pure. (nothing) -> firing -> resolved, and quiet for a while after."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from alerts.detect import Verdict
from moodwire.settings import Rule


@dataclass(frozen=True)
class Incident:
    """Of one rule and series. Times in seconds since 1970."""

    since_s: int
    quiet_since_s: int | None = None  # since when the condition no longer holds
    until_s: int | None = None  # when it was resolved

    @property
    def open(self) -> bool:
        return self.until_s is None


class Step(NamedTuple):
    incident: Incident | None
    changed: str  # firing, resolved, or nothing
    at_s: int
    reason: str


def advance(incident: Incident | None, verdict: Verdict, rule: Rule, now_s: int) -> Step:
    """What becomes of it at this moment, and why."""
    cooldown = round(rule.cooldown_s)
    if incident is None or incident.until_s is not None:
        resting = incident is not None and incident.until_s is not None and now_s < incident.until_s + cooldown
        if not verdict.fires or resting:
            return Step(
                incident, "", now_s, f"resting after the last one; {verdict.reason}" if resting else verdict.reason
            )
        return Step(Incident(since_s=now_s), "firing", now_s, verdict.reason)
    if incident.quiet_since_s is not None and now_s >= incident.quiet_since_s + cooldown:
        # Resolved at the moment the quiet was long enough, however late it is looked at.
        until = incident.quiet_since_s + cooldown
        return Step(replace(incident, until_s=until), "resolved", until, f"quiet for {cooldown // 60} min")
    if verdict.holds:
        return Step(replace(incident, quiet_since_s=None), "", now_s, verdict.reason)
    quiet = now_s if incident.quiet_since_s is None else incident.quiet_since_s
    return Step(replace(incident, quiet_since_s=quiet), "", now_s, verdict.reason)

"""Whom to tell of what, and when: grouping, silences, quiet hours, inhibition, repeats. Pure; as in Alertmanager.

A group of one channel's incidents is told `group_wait_s` after a change, at least `group_interval_s` after its last
message, and again after `repeat_interval_s` while something fires that nobody acknowledged.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from scipy.special import pdtrc

from moodwire.matchers import match, parse
from moodwire.records import Alert
from moodwire.settings import Notifications, QuietHours
from moodwire.store.incidents import Notice, SilenceRow

EXPLAINED = 0.01  # a member's count at least this probable, at the rate of the rest of its group, is explained by it
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Mute(NamedTuple):
    """Why nothing is sent about an incident now."""

    reason: str
    by: str = ""  # the group whose alarm explains it


class Decision(NamedTuple):
    """What is done about one group of one channel."""

    tell: tuple[Alert, ...]  # in one message: what changed, or all that fires if it is a repeat
    drop: tuple[Alert, ...]  # over before anyone was told
    repeat: bool
    reason: str


def group_of(alert: Alert, settings: Notifications) -> str:
    labels = _labels(alert)
    return "/".join(f"{label}={labels[label]}" for label in settings.group_by)


def silenced(alert: Alert, silences: Iterable[SilenceRow], now: datetime) -> Mute | None:
    for silence in silences:
        if silence.starts_at <= now < silence.ends_at and match(map(parse, silence.matchers), _labels(alert)):
            return Mute(f"silence {silence.id} until {silence.ends_at:%Y-%m-%d %H:%M} UTC: {silence.reason}")
    return None


def quiet(alert: Alert, hours: Iterable[QuietHours], now: datetime) -> Mute | None:
    """Whether one of the quiet hours is on for the alert's rule and severity."""
    for each in hours:
        concerns = (not each.rules or alert.rule in each.rules) and alert.severity in each.severities
        if concerns and _within(each, now):
            return Mute(f"quiet hours {each.name} until {each.end} {each.timezone}")
    return None


def inhibited(alert: Alert, firing: Iterable[Alert], groups: Mapping[str, Sequence[str]]) -> Mute | None:
    """Whether the alarm of one of the series' groups explains it: its count is one to expect at the rate of the rest.

    firing: the alarms of the same channel that are not muted themselves. groups: by series, its groups.
    """
    if alert.kind != "surge" or alert.state == "resolved":
        return None
    for other in firing:
        if other.series not in groups.get(alert.series, ()) or other.kind != "surge" or other.state == "resolved":
            continue
        spans = other.window_s / alert.window_s
        # The rest: without what the member itself brought, or it would explain itself.
        observed = max(other.observed - alert.observed * min(spans, 1.0), 0.0)
        expected = max(other.expected - alert.expected * spans, 0.1 * other.expected)
        if expected <= 0:
            continue
        mean = alert.expected * max(observed / expected, 1.0)
        if pdtrc(alert.observed - 1, mean) >= EXPLAINED:
            told = f"{other.series} as a whole has {other.observed} where {other.expected:.2g} are expected"
            return Mute(f"explained by its group: {told}", by=other.incident_id)
    return None


def mutes(
    notices: Sequence[Notice],
    silences: Sequence[SilenceRow],
    hours: Sequence[QuietHours],
    groups: Mapping[str, Sequence[str]],
    now: datetime,
) -> dict[str, Mute]:
    """By incident: why one channel hears nothing of it now."""
    found: dict[str, Mute] = {}
    heard: list[Alert] = []
    for notice in notices:
        alert = notice.alert
        if mute := silenced(alert, silences, now) or quiet(alert, hours, now):
            found[alert.incident_id] = mute
        else:
            heard.append(alert)
    for alert in heard:
        if mute := inhibited(alert, heard, groups):
            found[alert.incident_id] = mute
    return found


def decide(group: Sequence[Notice], muted: Mapping[str, Mute], settings: Notifications, now: datetime) -> Decision:
    """What one channel is told now of one group of its notices."""
    drop = tuple(n.alert for n in group if n.alert.state == "resolved" and not n.told)
    audible = [n for n in group if n.alert.incident_id not in muted]
    changed = [n for n in audible if n.alert.number > n.told and n.alert not in drop]
    last = max((n.told_at for n in group if n.told_at), default=None)
    spaced = last is None or now >= last + timedelta(seconds=settings.group_interval_s)
    if changed:
        due = min(n.changed_at for n in changed) + timedelta(seconds=settings.group_wait_s)
        if now >= due and spaced:
            return Decision(tuple(n.alert for n in changed), drop, False, f"{len(changed)} changed")
        return Decision((), drop, False, "waiting for more to join" if now < due else "too soon after the last message")
    again = now - timedelta(seconds=settings.repeat_interval_s)
    if any(n.told_at and n.told_at <= again and n.alert.state == "firing" for n in audible):
        return Decision(tuple(n.alert for n in audible if n.alert.state == "firing"), drop, True, "it still fires")
    return Decision((), drop, False, "nothing new")


def _labels(alert: Alert) -> dict[str, str]:
    return {"rule": alert.rule, "series": alert.series, "severity": alert.severity}


def _within(hours: QuietHours, now: datetime) -> bool:
    local = now.astimezone(ZoneInfo(hours.timezone))
    clock = f"{local:%H:%M}"
    if hours.start < hours.end:
        return hours.start <= clock < hours.end and DAYS[local.weekday()] in hours.days
    if clock >= hours.start:
        return DAYS[local.weekday()] in hours.days
    return clock < hours.end and DAYS[local.weekday() - 1] in hours.days

"""How a source is doing against its usual: pure."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from moodwire.records import floor_time
from moodwire.store.sources import DAY_S, Day

USUAL = timedelta(days=28)  # by which the usual is told
ENOUGH_DAYS = 3  # whole ones with fetches; fewer tell no usual
MISSED = 12.0  # items that should have come: chance alone leaves them out once in e^12
SHORTEST = timedelta(hours=18)  # of a silence: evening, night and morning have fewer items than their share of a day
UNREACHED = timedelta(hours=6)  # without an answer that could be used
WEEKEND = 5  # the first weekday of it


def usual(days: Sequence[Day], now: datetime) -> float | None:
    """Items on a day of the week's kind that `now` is in (working day or weekend), on average; None for not known."""
    today = floor_time(now, DAY_S)
    whole = [day for day in days if day.day < today and day.fetches > day.failures][1:]  # the first began midway
    if len(whole) < ENOUGH_DAYS:
        return None
    alike = [day.items for day in whole if _weekend(day.day) == _weekend(now)]
    return sum(alike) / len(alike) if alike else sum(day.items for day in whole) / len(whole)


def silence(interval_s: float, state: Mapping[str, Any], days: Sequence[Day], now: datetime) -> str:
    """Why nothing comes from a source any more; empty if it does, or may be expected to be quiet.

    state: its row of `feeds`; days: those of the last `USUAL`, in order.
    """
    success_at, item_at = state.get("success_at"), state.get("item_at")
    patience = max(UNREACHED, timedelta(seconds=3 * interval_s))
    if state.get("failures"):
        began = success_at or state.get("first_at") or now
        told = f"for {_hours(now - began)}" if success_at else "ever"
        return f"not had {told}: {state.get('error')}" if now - began > patience else ""
    if success_at is None or item_at is None or now - success_at > patience or now - item_at < SHORTEST:
        return ""
    before = [day for day in days if day.day < floor_time(item_at, DAY_S)]  # the silence is not its own usual
    had = {day.day for day in days if day.fetches > day.failures}
    missed = _expected(before, had, item_at, now)
    rate = max(usual(before, item_at) or 0.0, usual(before, now) or 0.0)
    if missed - rate * SHORTEST.total_seconds() / DAY_S < MISSED:
        return ""
    return f"nothing new for {_hours(now - item_at)}, in which {missed:.0f} items are usual"


def _expected(before: Sequence[Day], had: Collection[datetime], since: datetime, now: datetime) -> float:
    """The items that usually come between two times. had: the days on which the source was had; no others count."""
    expected, at = 0.0, since
    while at < now:
        end = min(floor_time(at, DAY_S) + timedelta(seconds=DAY_S), now)
        rate = usual(before, at) if floor_time(at, DAY_S) in had else None
        expected += (rate or 0.0) * (end - at).total_seconds() / DAY_S
        at = end
    return expected


def _weekend(day: datetime) -> bool:
    return day.weekday() >= WEEKEND


def _hours(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"

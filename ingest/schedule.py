"""When to fetch what: pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from moodwire.settings import Source

MAX_BACKOFF_S = 3600.0


def due(sources: Sequence[Source], states: Mapping[str, Mapping[str, Any]], now: datetime) -> list[Source]:
    """The sources whose time has come, the longest waiting first."""
    waiting = []
    for source in sources:
        next_at = states.get(source.name, {}).get("next_at")
        if next_at is None or next_at <= now:
            waiting.append((next_at or datetime.min.replace(tzinfo=now.tzinfo), source))
    return [source for _, source in sorted(waiting, key=lambda pair: pair[0])]


def next_time(interval_s: float, failures: int, now: datetime) -> datetime:
    """When to fetch next: after the interval, doubled with each failure in a row, at most an hour."""
    wait = interval_s if failures == 0 else min(interval_s * 2 ** min(failures, 20), max(MAX_BACKOFF_S, interval_s))
    return now + timedelta(seconds=wait)

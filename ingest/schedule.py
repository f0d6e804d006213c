"""When to fetch what: pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from moodwire.settings import Source

MAX_BACKOFF_S = 3600.0
SLOWER_BY = 0.1  # of the interval, for each time in a row that nothing was new
SLOWEST = 2.0  # times the interval: news that breaks in a quiet feed must not wait long
JITTER = 0.1  # of the wait: sources that began together drift apart


def due(sources: Sequence[Source], states: Mapping[str, Mapping[str, Any]], now: datetime) -> list[Source]:
    """The sources whose time has come, the longest waiting first."""
    waiting = []
    for source in sources:
        next_at = states.get(source.name, {}).get("next_at")
        if next_at is None or next_at <= now:
            waiting.append((next_at or datetime.min.replace(tzinfo=now.tzinfo), source))
    return [source for _, source in sorted(waiting, key=lambda pair: pair[0])]


def after_success(interval_s: float, unchanged: int, now: datetime, chance: float) -> datetime:
    """When to fetch next. unchanged: times in a row that nothing was new; chance: in [0, 1), for the jitter."""
    wait_s = interval_s * min(1 + SLOWER_BY * unchanged, SLOWEST)
    return now + timedelta(seconds=wait_s * (1 + JITTER * (chance - 0.5)))


def after_failure(interval_s: float, failures: int, now: datetime, asked_s: float | None = None) -> datetime:
    """When to try again: the interval doubled with each failure in a row, at most an hour, or as the host asked."""
    wait_s = min(interval_s * 2 ** min(failures, 20), max(MAX_BACKOFF_S, interval_s))
    return now + timedelta(seconds=max(wait_s, asked_s or 0.0))

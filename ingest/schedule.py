"""When to fetch what: pure."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from moodwire.settings import Source

MAX_BACKOFF_S = 3600.0
SLOWEST = 2.0  # times the interval: news that breaks in a quiet feed must not wait long
FASTEST = 0.25  # times the interval, where more comes than the feed can list
HALF = 0.5  # of what a feed lists may be new when it is asked: the rest is for bursts
MEMORY_S = 21_600.0  # in which what was learnt of a feed's pace fades to 1/e: night and day differ
JITTER = 0.1  # of the wait: sources that began together drift apart


def due(sources: Sequence[Source], states: Mapping[str, Mapping[str, Any]], now: datetime) -> list[Source]:
    """The sources whose time has come, the longest waiting first."""
    waiting = []
    for source in sources:
        next_at = states.get(source.name, {}).get("next_at")
        if next_at is None or next_at <= now:
            waiting.append((next_at or datetime.min.replace(tzinfo=now.tzinfo), source))
    return [source for _, source in sorted(waiting, key=lambda pair: pair[0])]


def pace(known: float | None, new: int, span_s: float, interval_s: float) -> float:
    """How many new articles a feed brings in an hour, by what was known of it and what came in the last span.

    One of which nothing is known is taken to bring one in each interval.
    """
    before = 3600 / interval_s if known is None else known
    faded = math.exp(-max(span_s, 1.0) / MEMORY_S)
    return before * faded + new * 3600 / max(span_s, 1.0) * (1 - faded)


def after_success(interval_s: float, pace: float | None, listed: int, now: datetime, chance: float) -> datetime:
    """When to fetch next: when something new is to be expected, but before half of what the feed lists is new.

    pace: new articles an hour, None for not known; listed: items in the feed, 0 for not known; chance: in [0, 1), for
    the jitter.
    """
    wait_s = interval_s
    if pace is not None:
        wait_s = interval_s * SLOWEST if pace <= 0 else min(max(3600 / pace, interval_s), interval_s * SLOWEST)
        if pace > 0 and listed:
            wait_s = min(wait_s, max(3600 * HALF * listed / pace, interval_s * FASTEST))
    return now + timedelta(seconds=wait_s * (1 + JITTER * (chance - 0.5)))


def after_failure(interval_s: float, failures: int, now: datetime, asked_s: float | None = None) -> datetime:
    """When to try again: the interval doubled with each failure in a row, at most an hour, or as the host asked."""
    wait_s = min(interval_s * 2 ** min(failures, 20), max(MAX_BACKOFF_S, interval_s))
    return now + timedelta(seconds=max(wait_s, asked_s or 0.0))

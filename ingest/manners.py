"""How to treat a host: when it may be asked again. Pure; times are seconds since 1970."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

FAILURES = 5  # in a row, after which a host is left alone
FIRST_PAUSE_S = 60.0
LAST_PAUSE_S = 3600.0
MOST_WAIT_S = 86_400.0  # that a host may ask for
MOST_CRAWL_DELAY_S = 60.0
CLOCK_OFF_S = 300.0  # from which on a host's clock counts as wrong
MOST_CLOCK_OFF_S = 90_000.0

Answer = Literal["good", "bad"]  # bad: no answer, or one that says that the host is in trouble or has enough


class Host(NamedTuple):
    """What is known of a host."""

    failures: int = 0  # in a row
    free_at_s: float = 0.0  # not to be asked before
    told_to_wait: bool = False


def after(host: Host, answer: Answer, now_s: float, delay_s: float, wait_s: float | None = None) -> Host:
    """The host after an answer. delay_s: between two requests; wait_s: what its Retry-After asked for."""
    if answer == "good":
        return Host(0, now_s + delay_s)
    failures = host.failures + 1
    if wait_s is not None:
        return Host(failures, now_s + max(min(wait_s, MOST_WAIT_S), delay_s), True)
    pause_s = delay_s if failures < FAILURES else min(FIRST_PAUSE_S * 2.0 ** (failures - FAILURES), LAST_PAUSE_S)
    return Host(failures, now_s + max(pause_s, delay_s))


def refusal(host: Host, now_s: float) -> str:
    """Why the host is not asked now; empty if it may be (after at most its delay)."""
    left_s = host.free_at_s - now_s
    if left_s <= 0 or not (host.told_to_wait or host.failures >= FAILURES):
        return ""
    why = "asked to be left alone" if host.told_to_wait else f"failed {host.failures} times in a row"
    return f"the host {why}; it is asked again in {left_s:.0f} s"


def ahead_s(date: str, now: datetime) -> float:
    """What a host's clock is ahead of ours, by its Date header; 0 where that is little or nonsense.

    One behind may be a cache's, and is left alone.
    """
    try:
        said = parsedate_to_datetime(date)
    except ValueError:
        return 0.0
    ahead = (said.replace(tzinfo=said.tzinfo or UTC) - now).total_seconds()
    return ahead if CLOCK_OFF_S <= ahead <= MOST_CLOCK_OFF_S else 0.0

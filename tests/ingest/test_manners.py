"""When a host and a feed are asked again: pure decisions."""

from datetime import timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.manners import (
    FAILURES,
    FIRST_PAUSE_S,
    LAST_PAUSE_S,
    MOST_WAIT_S,
    Host,
    after,
    ahead_s,
    refusal,
)
from ingest.schedule import FASTEST, JITTER, SLOWEST, after_failure, after_success, due, pace
from moodwire.settings import Source
from moodwire.web import retry_after_s
from tests.helpers import T0
from tests.helpers import after as at


def failed(times: int, now_s: float = 0.0) -> Host:
    host = Host()
    for _ in range(times):
        host = after(host, "bad", now_s, 1.0)
    return host


def test_between_two_requests_there_is_the_delay_and_no_refusal() -> None:
    host = after(Host(), "good", 100.0, 1.5)
    assert host == Host(0, 101.5)
    assert refusal(host, 100.1) == "", "it waits its turn"


def test_a_host_that_fails_again_and_again_is_left_alone_longer_and_longer() -> None:
    assert [failed(n).free_at_s for n in range(1, FAILURES)] == [1.0] * (FAILURES - 1)
    pauses = [failed(n).free_at_s for n in range(FAILURES, FAILURES + 8)]
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses[-1] == LAST_PAUSE_S
    assert refusal(failed(FAILURES), 10.0) == "the host failed 5 times in a row; it is asked again in 50 s"
    assert refusal(failed(FAILURES), FIRST_PAUSE_S) == ""


def test_one_good_answer_makes_up_for_all() -> None:
    assert after(failed(20), "good", 5.0, 1.0) == Host(0, 6.0)


def test_a_host_that_asks_for_a_wait_gets_it_up_to_a_day() -> None:
    host = after(Host(), "bad", 0.0, 1.0, wait_s=300.0)
    assert refusal(host, 100.0) == "the host asked to be left alone; it is asked again in 200 s"
    assert after(Host(), "bad", 0.0, 1.0, wait_s=1e9).free_at_s == MOST_WAIT_S
    assert after(Host(), "bad", 0.0, 1.0, wait_s=0.0).free_at_s == 1.0


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after_s("120", T0) == 120
    assert retry_after_s(format_datetime(at(90), usegmt=True), T0) == 90
    assert retry_after_s(format_datetime(at(-90), usegmt=True), T0) == 0
    for nonsense in ("", "soon", "-5", "1e3"):
        assert retry_after_s(nonsense, T0) is None


def test_a_clock_that_is_ahead_is_told_and_one_that_is_behind_is_left_alone() -> None:
    assert ahead_s(format_datetime(at(3600), usegmt=True), T0) == 3600
    for little_or_nonsense in (format_datetime(at(60)), format_datetime(at(-3600)), format_datetime(at(1e6)), "", "x"):
        assert ahead_s(little_or_nonsense, T0) == 0


def test_the_longest_waiting_source_comes_first() -> None:
    sources = [Source(name=name, url="http://e.org/") for name in "abc"]
    states = {"a": {"next_at": at(10)}, "b": {"next_at": at(5)}}
    assert [source.name for source in due(sources, states, at(10))] == ["c", "b", "a"]
    assert [source.name for source in due(sources, states, at(6))] == ["c", "b"]


def test_failures_double_the_wait_up_to_an_hour() -> None:
    waits = [(after_failure(60, failures, T0) - T0).total_seconds() for failures in range(1, 12)]
    assert waits[:3] == [120, 240, 480]
    assert waits[-1] == 3600
    assert (after_failure(7200, 9, T0) - T0).total_seconds() == 7200, "never sooner than usual"
    assert (after_failure(60, 1, T0, asked_s=9000) - T0).total_seconds() == 9000


intervals = st.floats(10, 1e5)
paces = st.none() | st.floats(0, 1e4)
chances = st.floats(0, 1, exclude_max=True)


@given(intervals, paces, st.integers(0, 500), chances)
def test_a_feed_is_asked_at_most_four_times_and_at_least_half_as_often_as_is_configured(
    interval_s: float, pace_: float | None, listed: int, chance: float
) -> None:
    wait_s = (after_success(interval_s, pace_, listed, T0, chance) - T0).total_seconds()
    assert interval_s * FASTEST * (1 - JITTER / 2) - 0.001 <= wait_s <= interval_s * SLOWEST * (1 + JITTER / 2) + 0.001


@given(intervals, st.floats(0, 1e4), st.floats(0, 1e4), st.integers(0, 500), chances)
def test_a_feed_that_brings_less_is_never_asked_more_often(
    interval_s: float, one: float, other: float, listed: int, chance: float
) -> None:
    waits = [after_success(interval_s, each, listed, T0, chance) for each in sorted((one, other))]
    assert waits[0] >= waits[1]


def test_what_a_feed_brings_decides_when_it_is_asked() -> None:
    def wait_s(pace_: float | None, listed: int = 20) -> float:
        return (after_success(300, pace_, listed, T0, 0.5) - T0).total_seconds()

    assert wait_s(None) == 300, "as configured until something is known"
    assert wait_s(12) == 300, "one in five minutes"
    assert wait_s(8) == 450
    assert wait_s(0) == wait_s(0.1) == 600
    assert wait_s(60) == 300
    assert wait_s(180) == 200, "ten of its twenty are new by then"
    assert wait_s(180, listed=0) == 300
    assert wait_s(5000) == 75
    assert after_success(300, None, 0, T0, 0.9) > after_success(300, None, 0, T0, 0.1), "two feeds drift apart"


@pytest.mark.parametrize(("first", "then"), [(6, 60), (60, 6), (12, 0)])
def test_the_pace_of_a_feed_is_learnt_and_learnt_anew(first: float, then: float) -> None:
    """Each for a day and a half, asked as it is decided, new items evenly spread."""
    known, now, owed = None, T0, 0.0
    for rate in (first, then):
        end = now + timedelta(days=1.5)
        while now < end:
            next_at = after_success(300, known, 12, now, 0.5)
            span_s = (next_at - now).total_seconds()
            owed += rate * span_s / 3600
            known, owed, now = pace(known, int(owed), span_s, 300), owed % 1, next_at
        assert known == pytest.approx(rate, rel=0.1, abs=0.5)

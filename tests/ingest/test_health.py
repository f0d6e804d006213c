"""When a source counts as silent, against its usual; and that it is kept, cleared and read."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import stage
from ingest.health import SHORTEST, UNREACHED, silence, usual
from moodwire.settings import Settings, Source
from moodwire.store.articles import feed_states, save_feed
from moodwire.store.sources import Day, Fetch, days_of, hosts_in_trouble, save_host, set_silences, silent_sources
from tests.helpers import STORES, T0, context

MONDAY = datetime(2024, 3, 4, tzinfo=UTC)
NOW = MONDAY + timedelta(days=28, hours=15)  # a Monday afternoon


def history(working: int, weekend: int, until: datetime = NOW, days: int = 28) -> list[Day]:
    start = until.replace(hour=0) - timedelta(days=days)
    each = [start + timedelta(days=n) for n in range(days + 1)]
    return [Day(day, 100, 0, 1000, working if day.weekday() < 5 else weekend) for day in each]


def state(item_h: float, **more: Any) -> dict[str, Any]:
    return {"success_at": NOW, "item_at": NOW - timedelta(hours=item_h), "failures": 0, **more}


def test_a_busy_source_that_stops_is_silent_and_a_slow_one_is_not() -> None:
    assert "nothing new for 24 h, in which 94 items" in silence(300, state(24), history(96, 90), NOW)
    assert silence(300, state(17), history(960, 960), NOW) == "", "nights are quiet"
    assert silence(300, state(48), history(2, 1), NOW) == ""
    assert silence(300, state(24 * 14), history(2, 1), NOW)


def test_a_source_that_rests_at_the_weekend_is_not_silent_on_monday_morning() -> None:
    morning = NOW.replace(hour=6)
    friday = morning - timedelta(hours=62)
    days = history(30, 0, morning)
    had = {"success_at": morning, "item_at": friday, "failures": 0}
    assert usual(days, friday) == 30
    assert usual(days, morning - timedelta(days=1)) == 0
    assert silence(300, had, days, morning) == ""
    assert silence(300, had, history(30, 28, morning), morning)


def test_an_unknown_usual_and_a_time_without_fetches_tell_nothing() -> None:
    assert usual(history(50, 50, days=3), NOW) is None
    assert silence(300, state(48), history(50, 50, days=3), NOW) == ""
    off = [day._replace(fetches=0) if day.day >= NOW - timedelta(days=4) else day for day in history(50, 50)]
    assert silence(300, state(90), off, NOW) == "", "moodwire itself was off"
    assert silence(300, state(48, success_at=NOW - timedelta(hours=40)), history(50, 50), NOW) == "", "not had since"


def test_a_source_that_cannot_be_had_is_silent_with_its_error() -> None:
    failing = state(9, success_at=NOW - timedelta(hours=9), failures=7, error="HTTP 503")
    assert silence(300, failing, history(5, 5), NOW) == "not had for 9 h: HTTP 503"
    assert silence(300, {**failing, "success_at": NOW - UNREACHED / 2}, history(5, 5), NOW) == ""
    never = state(0, success_at=None, item_at=None, failures=9, error="HTTP 404", first_at=NOW - timedelta(hours=7))
    assert silence(300, never, history(0, 0, days=1), NOW) == "not had ever: HTTP 404"
    assert silence(300, {**never, "first_at": NOW - timedelta(hours=1)}, history(0, 0, days=1), NOW) == ""


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0, 500))
def test_a_longer_quiet_is_never_less_suspicious(working: int, weekend: int, hours: float) -> None:
    days = history(working, weekend)
    if silence(300, state(hours), days, NOW):
        assert hours >= SHORTEST.total_seconds() / 3600
        assert silence(300, state(hours + 24), days, NOW) or hours > 24 * 23, "unless no usual is left before it"


@pytest.mark.parametrize("kind", STORES)
def test_silence_is_kept_from_its_beginning_and_cleared(tmp_path: Path, kind: str) -> None:
    source = Source(name="wire", url="https://wire.example/feed")
    clock = [T0]
    c = context(tmp_path, Settings(sources=(source,)), lambda: clock[0], kind=kind)
    row = {"source": "wire", "url": source.url, "failures": 9, "error": "HTTP 503", "next_at": T0}
    save_feed(c.store, {**row, "success_at": T0 - timedelta(hours=7)}, Fetch("wire", T0, False))
    for minutes in (0, 1):
        stage.look_for_silence(c, T0 + timedelta(minutes=minutes))
    (silent,) = silent_sources(c.store)
    assert (silent.source, silent.since, silent.reason) == ("wire", T0, "not had for 7 h: HTTP 503")
    save_feed(c.store, {**row, "failures": 0, "error": "", "success_at": T0}, Fetch("wire", T0, True, 0.25))
    assert feed_states(c.store)["wire"]["silence"], "a fetch alone does not clear it"
    stage.look_for_silence(c, T0 + timedelta(minutes=2))
    assert silent_sources(c.store) == []
    assert feed_states(c.store)["wire"]["first_at"] == T0
    save_feed(c.store, {**row, "source": "dropped", "success_at": T0}, Fetch("dropped", T0, False))
    set_silences(c.store, {"dropped": "not had for 9 h: HTTP 404"}, T0)
    stage.look_for_silence(c, T0)
    assert silent_sources(c.store) == [], "what is configured no more is not waited for"
    (day,) = days_of(c.store, T0 - timedelta(days=1))["wire"]
    assert (day.fetches, day.failures, day.took_ms, day.items) == (2, 1, 250, 0)
    save_host(c.store, {"origin": "https://wire.example", "failures": 2, "free_at": T0, "told_to_wait": True})
    assert [host["free_at"] for host in hosts_in_trouble(c.store)] == [T0]
    c.store.close()

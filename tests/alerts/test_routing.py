"""Whom to tell of what, and when."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from alerts.routing import Mute, decide, group_of, inhibited, mutes, quiet, silenced
from moodwire.errors import BadInput
from moodwire.matchers import match, parse
from moodwire.records import Alert
from moodwire.settings import Notifications, QuietHours
from moodwire.store.incidents import Notice, SilenceRow
from tests.helpers import T0
from tests.helpers import after as at

TIMES = Notifications(group_wait_s=10, group_interval_s=300, repeat_interval_s=3600)


def alert(id_: str = "a", **more: Any) -> Alert:
    known: dict[str, Any] = {
        "incident_id": id_,
        "rule": "surge",
        "series": f"entity:{id_}",
        "state": "firing",
        "at": T0,
        "since": T0,
        "window_s": 3600,
        "observed": 9,
        "expected": 0.5,
        "log10_tail": -8.0,
        "reason": "r",
    }
    return Alert(**{**known, **more})


def notice(each: Alert, told: int = 0, told_at: datetime | None = None, changed_at: datetime = T0) -> Notice:
    return Notice("desk", each, changed_at, told, told_at)


def told(notices: list[Notice], now: float, muted: dict[str, Mute] | None = None) -> list[str]:
    return [each.incident_id for each in decide(notices, muted or {}, TIMES, at(now)).tell]


OVER = alert("a", state="resolved", change="over", number=2)


def test_a_change_waits_for_others_to_join() -> None:
    first, second = notice(alert("a")), notice(alert("b"), changed_at=at(8))
    assert told([first], 9.9) == []
    assert told([first, second], 10) == ["a", "b"]


def test_two_messages_of_a_group_are_an_interval_apart() -> None:
    before = notice(alert("a"), told=1, told_at=T0)
    later = notice(alert("b"), changed_at=at(60))
    assert told([before, later], 299) == []
    assert told([before, later], 300) == ["b"], "only what changed"
    assert told([before, notice(alert("b"), changed_at=at(1000))], 1009) == []
    assert told([before, notice(alert("b"), changed_at=at(1000))], 1010) == ["b"]


def test_what_was_over_before_anyone_heard_is_never_told() -> None:
    decision = decide([notice(OVER)], {}, TIMES, at(1000))
    assert (decision.tell, decision.drop) == ((), (OVER,))
    assert told([notice(OVER, told=1, told_at=T0, changed_at=at(500))], 600) == ["a"]


def test_what_still_fires_is_repeated_unless_acknowledged() -> None:
    firing = notice(alert("a"), told=1, told_at=T0)
    assert told([firing], 3599) == []
    decision = decide([firing, notice(alert("b"), told=1, told_at=at(3000))], {}, TIMES, at(3600))
    assert [each.incident_id for each in decision.tell] == ["a", "b"]
    assert decision.repeat
    taken = alert("a", state="acknowledged", change="acknowledged", number=2)
    assert told([notice(taken, told=2, told_at=T0)], 10_000) == []
    assert told([notice(taken, told=1, told_at=T0, changed_at=at(400))], 410) == ["a"], "that it was acknowledged"


def test_what_is_muted_waits_and_is_told_when_it_is_no_longer() -> None:
    mute = {"a": Mute("a silence")}
    assert told([notice(alert("a"))], 100, mute) == []
    assert told([notice(alert("a")), notice(alert("b"))], 100, mute) == ["b"]
    assert told([notice(alert("a"))], 100) == ["a"]
    assert told([notice(alert("a"), told=1, told_at=T0)], 9999, mute) == [], "nor is it repeated"


def test_groups_are_by_the_labels_that_were_asked_for() -> None:
    a, b = alert("a"), alert("b", severity="critical")
    assert group_of(a, TIMES) == group_of(b, TIMES) == "rule=surge"
    by = Notifications(group_by=("series", "severity"))
    assert (group_of(a, by), group_of(b, by)) == (
        "series=entity:a/severity=warning",
        "series=entity:b/severity=critical",
    )


# --- silences


@pytest.mark.parametrize(
    ("matchers", "holds"),
    [
        (("series=entity:a",), True),
        (("series=entity:A",), False),
        (("series=~entity:.*", "severity!=critical"), True),
        (("series=~entity",), False),  # the whole value, as in Alertmanager
        (("rule!~surge|other",), False),
        (("rule=surge", "series=all"), False),
    ],
)
def test_a_silence_holds_where_all_its_matchers_match_until_its_end(matchers: tuple[str, ...], holds: bool) -> None:
    silence = SilenceRow(7, matchers, at(0), at(60), "ana", "maintenance of the feed")
    mute = silenced(alert("a"), [silence], at(0))
    assert (mute is not None) == holds
    if mute:
        assert "silence 7" in mute.reason
        assert "maintenance of the feed" in mute.reason
    assert silenced(alert("a"), [silence], at(60)) is None
    assert silenced(alert("a"), [silence], at(-1)) is None


@pytest.mark.parametrize("text", ["", "series", "series=", "colour=red", "series=~(", "=x"])
def test_what_matches_nothing_is_refused_with_how_to_write_it(text: str) -> None:
    with pytest.raises(BadInput, match=r"give rule, series or severity|no regular expression"):
        parse(text)


@given(st.sampled_from(["rule", "series", "severity"]), st.text(min_size=1).filter(lambda s: s.strip() == s))
def test_equal_and_unequal_are_opposites(label: str, value: str) -> None:
    if "\n" in value or value.startswith(("~", "=")):
        return
    labels = {"rule": "x", "series": "y", "severity": "z", label: value}
    assert match([parse(f"{label}={value}")], labels)
    assert not match([parse(f"{label}!={value}")], labels)


# --- quiet hours


def berlin(day: int, hour: int, minute: int = 0) -> datetime:
    """March 2024, winter time: UTC+1."""
    return T0.replace(day=day, hour=hour, minute=minute)


def test_quiet_hours_are_local_and_go_over_midnight_into_the_next_day() -> None:
    night = QuietHours(name="night", start="22:00", end="07:00", days=("fri",), timezone="Europe/Berlin")
    assert quiet(alert(), [night], berlin(8, 20, 59)) is None  # Friday, 21:59 there
    assert quiet(alert(), [night], berlin(8, 21)) is not None
    assert quiet(alert(), [night], berlin(9, 5, 59)) is not None  # Saturday, 06:59 there
    assert quiet(alert(), [night], berlin(9, 6)) is None
    assert quiet(alert(), [night], berlin(9, 21)) is None, "Saturday night is not asked for"


def test_quiet_hours_are_for_the_rules_and_severities_that_are_named() -> None:
    noon = QuietHours(name="noon", start="11:00", end="13:00", rules=("surge",), severities=("info", "warning"))
    mute = quiet(alert(), [noon], T0)
    assert mute is not None
    assert "quiet hours noon until 13:00 UTC" in mute.reason
    assert quiet(alert(severity="critical"), [noon], T0) is None
    assert quiet(alert(rule="other"), [noon], T0) is None


# --- inhibition

GROUPS = {"entity:a": ("group:tech",), "entity:b": ("group:tech",)}


def group(observed: int, expected: float, **more: Any) -> Alert:
    return alert("g", series="group:tech", observed=observed, expected=expected, **more)


def test_a_group_mutes_a_member_as_far_as_its_excess_explains_it() -> None:
    member = alert("a", observed=5, expected=0.8)
    mute = inhibited(member, [group(60, 10.0)], GROUPS)
    assert mute is not None
    assert mute.by == "g"
    assert "group:tech as a whole has 60 where 10 are expected" in mute.reason
    assert inhibited(alert("a", observed=30, expected=0.8), [group(60, 10.0)], GROUPS) is None, "more than its part"


def test_a_member_that_is_all_of_its_group_s_excess_is_not_explained_by_it() -> None:
    assert inhibited(alert("a", observed=10, expected=1.0), [group(11, 2.0)], GROUPS) is None


def test_only_a_surge_of_a_group_that_is_told_of_mutes_its_own_members() -> None:
    member, whole = alert("a", observed=5, expected=0.8), group(60, 10.0)
    assert inhibited(alert("c", observed=5, expected=0.8), [whole], GROUPS) is None
    assert inhibited(member, [replace(whole, state="resolved")], GROUPS) is None
    assert inhibited(replace(member, state="resolved"), [whole], GROUPS) is None, "that it is over is told"
    assert inhibited(replace(member, kind="score"), [whole], GROUPS) is None
    both = [notice(member), notice(whole)]
    assert mutes(both, [], [], GROUPS, T0)["a"].by == "g"
    silence = SilenceRow(1, ("series=group:tech",), at(-1), at(60), "ana", "r")
    assert set(mutes(both, [silence], [], GROUPS, T0)) == {"g"}, "a group that is silenced mutes nobody"


@given(st.integers(1, 60), st.floats(0.01, 20), st.integers(1, 300), st.floats(0.01, 100))
def test_more_stories_are_never_better_explained(count: int, expected: float, whole: int, usual: float) -> None:
    def explained(observed: int) -> bool:
        member = alert("a", observed=observed, expected=expected)
        return inhibited(member, [group(max(whole, observed), usual)], GROUPS) is not None

    assert explained(count) or not explained(count + 5)

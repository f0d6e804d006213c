"""The life of an incident, and the words that its alert tells."""

import itertools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from alerts.detect import Verdict
from alerts.evidence import ends_when, telling_words
from alerts.incidents import WORSE, Incident, acknowledge, advance
from moodwire.settings import ArticleRule, PickupRule, Rule, ScoreRule, ShareRule, SilenceRule

RULE = Rule(name="r", cooldown_s=600)
SLOW = Rule(name="r", cooldown_s=600, pending_s=120)


def verdict(observed: int = 5, tail: float = -6.0, fires: bool = True, holds: bool | None = None) -> Verdict:
    return Verdict(fires, fires if holds is None else holds, observed, 0.5, tail, f"{observed} stories")


CALM = verdict(0, 0.0, fires=False)


def test_what_must_hold_for_a_while_is_pending_first_and_fires_then() -> None:
    pending = advance(None, verdict(), SLOW, 1000)
    assert pending.changed == ""
    assert pending.incident is not None
    assert pending.incident.pending
    assert not pending.incident.open
    assert advance(pending.incident, verdict(), SLOW, 1119).incident == pending.incident
    fired = advance(pending.incident, verdict(), SLOW, 1120)
    assert fired.changed == "firing"
    assert fired.incident is not None
    assert (fired.incident.since_s, fired.incident.state, fired.incident.number) == (1120, "firing", 1)
    gone = advance(pending.incident, CALM, SLOW, 1119)
    assert (gone.incident, gone.changed) == (None, "")
    assert "did not last" in gone.reason


def test_it_worsens_at_three_times_the_count_that_was_told_and_opens_anew() -> None:
    incident = advance(None, verdict(5), RULE, 0).incident
    taken = acknowledge(incident, 10)
    assert (taken.changed, taken.reason) == ("acknowledged", "acknowledged")
    same = advance(taken.incident, verdict(14, -20), RULE, 20)
    assert same.changed == ""
    worse = advance(same.incident, verdict(15, -20), RULE, 30)
    assert worse.changed == "worse"
    assert worse.incident is not None
    assert (worse.incident.state, worse.incident.number, worse.incident.told_observed) == ("firing", 3, 15)
    assert advance(worse.incident, verdict(44, -50), RULE, 40).changed == ""
    assert advance(worse.incident, verdict(45, -50), RULE, 40).changed == "worse"
    assert advance(worse.incident, verdict(45, -19), RULE, 40).changed == "", "more, and yet less strange"


def test_a_silent_feed_ends_nothing() -> None:
    quiet = advance(Incident(since_s=0), CALM, RULE, 100).incident
    silent = verdict(0, 0.0, fires=False, holds=True)._replace(no_data=True)
    held = advance(quiet, silent, RULE, 5000)
    assert held.changed == ""
    assert held.incident is not None
    assert held.incident.open
    assert advance(held.incident, CALM, RULE, 5060).changed == "", "the quiet begins anew"


def test_an_acknowledged_incident_ends_as_any_other() -> None:
    incident = acknowledge(Incident(since_s=0), 10).incident
    quiet = advance(incident, CALM, RULE, 100)
    assert quiet.changed == ""
    over = advance(quiet.incident, CALM, RULE, 2000)
    assert (over.changed, over.at_s) == ("resolved", 700)
    assert over.incident is not None
    assert (over.incident.state, over.incident.number) == ("resolved", 3)
    assert acknowledge(over.incident, 2001).reason == "it is over"
    assert acknowledge(None, 0).reason == "it is over"
    assert acknowledge(incident, 20).reason == "it was acknowledged before"


@given(st.lists(st.tuples(st.integers(1, 900), st.integers(0, 60), st.booleans(), st.booleans()), max_size=60))
def test_numbers_count_the_changes_and_states_follow_one_another(steps: list[tuple[int, int, bool, bool]]) -> None:
    """Whatever the verdicts and whenever someone acknowledges: nothing is skipped, nothing is told twice."""
    incident, now, told = None, 0, []
    for gap, observed, fires, ack in steps:
        now += gap
        step = advance(incident, verdict(observed, -float(observed), fires, holds=fires or observed > 30), SLOW, now)
        for done in (step, acknowledge(step.incident, now) if ack and step.incident else step._replace(changed="")):
            incident = done.incident
            if done.changed:
                assert incident is not None
                told.append((done.changed, incident.number))
    for (before, number), (change, next_number) in itertools.pairwise(told):
        assert next_number == (1 if before == "resolved" else number + 1)
        assert (change == "firing") == (before == "resolved")
        assert not (before == change == "acknowledged")
    assert not told or told[0] == ("firing", 1)


def test_a_story_told_again_and_again_does_not_worsen() -> None:
    incident = replace(Incident(since_s=0), told_observed=2, told_tail=0.0)
    assert advance(incident, verdict(2 * WORSE, 0.0), RULE, 1).changed == "worse"
    assert advance(incident, verdict(2 * WORSE - 1, 0.0), RULE, 1).changed == ""


def test_the_words_tell_the_stories_from_the_earlier_ones() -> None:
    earlier = [f"Acme and the market: item {n} about quarterly results" for n in range(60)]
    earlier += ["Acme opens a plant", "Acme recall rumours denied by the board"]
    titles = [
        "Acme recall widens after brake failures",
        "Regulator looks into brake failures at Acme",
        "Acme shares fall, brake supplier blamed for recall",
        "Quarterly results of Acme and the market: item one",
    ]
    words = telling_words(titles, earlier)
    assert words[0] == "brake"
    assert {"brake", "failures", "recall"} <= set(words)
    assert not {"acme", "market", "quarterly", "results", "item"} & set(words)
    assert "supplier" not in words, "one story is no mark"
    assert telling_words([], earlier) == ()
    assert telling_words(titles[:2], []) != ()


@given(st.lists(st.text(max_size=60), max_size=12), st.lists(st.text(max_size=60), max_size=12))
def test_any_titles_have_at_most_six_words_and_each_stands_in_two_of_them(
    titles: list[str], earlier: list[str]
) -> None:
    words = telling_words(titles, earlier)
    assert len(words) <= 6
    for word in words:
        assert sum(word in title.lower() for title in titles) >= 2


def test_every_kind_of_rule_says_what_would_end_its_incident() -> None:
    told = [
        ends_when(rule)
        for rule in (
            RULE,
            ScoreRule(name="a", below=-0.5),
            ShareRule(name="b", above=0.8),
            ArticleRule(name="c", topic="fraud"),
            PickupRule(name="d", sources=5),
            SilenceRule(name="e"),
        )
    ]
    assert len(set(told)) == 6
    assert all("min" in text for text in told)
    assert "-0.5" in told[1]
    assert "80%" in told[2]
    assert "5 sources" in told[4]

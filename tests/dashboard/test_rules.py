"""Rules of every kind that looks at news can be tried, as they are written in moodwire.toml."""

import pytest
from dash.development.base_component import Component

from dashboard.pages.rules import both, outcome, read, snippet, tryout
from dashboard.view import View
from moodwire.errors import BadInput
from moodwire.settings import AnyStoryRule, ArticleRule, PickupRule, Rule, ScoreRule, ShareRule
from moodwire.trial import Trial, TrialAlarm, TrialSetting
from tests.helpers import after

RULES = [
    Rule(name="surge"),
    ScoreRule(name="score", below=-0.4, minimum_stories=3),
    ShareRule(name="share", above=0.6, channels=("desk",)),
    ArticleRule(name="article", topic="fraud", series=("entity:ACME",)),
    PickupRule(name="pickup", sources=3, pending_s=60),
]


def text_of(parts: object) -> str:
    if isinstance(parts, list | tuple):
        return "".join(map(text_of, parts))
    return text_of(parts.children) if isinstance(parts, Component) and hasattr(parts, "children") else str(parts or "")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_is_read_as_the_page_writes_it(rule: Rule | AnyStoryRule) -> None:
    assert read(snippet(rule)) == rule
    assert both(rule, read(snippet(rule))) == (rule,)
    assert rule.name in str(tryout([rule]))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[[rules]]\nname = "a"\nkind = "silence"', "Invalid value 'silence'"),
        ('[[rules]]\nname = "a"\nkind = "score"', "missing required field below"),
        ('[[rules]]\nname = "a"\nkind = "pickup"\nsources = 1', ">= 2"),
        ("", "one \\[\\[rules\\]\\], please"),
        ("x", "not TOML"),
    ],
)
def test_what_cannot_be_tried_is_told(text: str, fault: str) -> None:
    with pytest.raises(BadInput, match=fault):
        read(text)


def test_a_plain_rule_may_be_set_beside_a_surge() -> None:
    own, changed = both(RULES[0], read('[[rules]]\nname = "surge"\nkind = "share"\nabove = 0.5'))
    assert (own.name, changed.name) == ("surge", "surge changed")
    found = Trial(
        start=after(0),
        end=after(9),
        stories=5,
        settings=(
            TrialSetting(rule="surge", per_week=1.0, own=True, alarms=0, weekly=0.0, series=()),
            TrialSetting(rule="share", per_week=None, own=True, alarms=2, weekly=0.5, series=(("all", 2),)),
        ),
        alarms=(TrialAlarm(rule="share", series="all", at=after(1), until=None, reason="3 of 4 are negative"),),
    )
    shown = text_of(outcome(found, {}, View()))
    assert "surge1 (so it is set)00.00–share–20.50All news 2" in shown
    assert "3 of 4 are negative" in shown

"""The plain rules, on stories given and through a real store."""

from hypothesis import given
from hypothesis import strategies as st

from alerts.plain import PlainWatch, Story, judge
from moodwire.settings import AnyStoryRule, ArticleRule, PickupRule, ScoreRule, ShareRule, SilenceRule

NOW = 1_000_000
SCORE = ScoreRule(name="score", series=("entity:*",), below=-0.4, minimum_stories=3, window_s=3600, cooldown_s=600)
SHARE = ShareRule(name="share", above=0.6, minimum_stories=3, window_s=3600)
ARTICLE = ArticleRule(name="article", topic="fraud", series=("entity:ACME",), window_s=3600, cooldown_s=600)
PICKUP = PickupRule(name="pickup", sources=3, window_s=1800)


def story(n: int, score: float = -0.8, ago_s: int = 600, sources: int = 1, of_topic: bool = False) -> Story:
    label = -1 if score < -0.2 else 1 if score > 0.2 else 0
    return Story(f"s{n}", NOW - ago_s, label, score, sources, of_topic)


def test_a_score_below_its_limit_fires_with_stories_enough() -> None:
    verdict, speak = judge(SCORE, [story(1), story(2), story(3, 0.3)], NOW)
    assert verdict.fires
    assert verdict.reason == "mean score -0.43 of 3 stories in 60 min; the limit is -0.40"
    assert speak is None
    assert not judge(SCORE, [story(1), story(2), story(3, 0.5)], NOW)[0].fires
    few = judge(SCORE, [story(1), story(2)], NOW)[0]
    assert not few.fires
    assert few.reason == "2 stories in 60 min, fewer than 3"


def test_a_share_above_its_limit_fires() -> None:
    assert judge(SHARE, [story(1), story(2), story(3, 0.5)], NOW)[0].fires
    half = judge(SHARE, [story(1), story(2, 0.5), story(3), story(4, 0.5)], NOW)[0]
    assert not half.fires
    assert "2 of 4 stories in 60 min are negative (50%)" in half.reason


def test_any_article_of_the_topic_fires_and_is_what_speaks_for_it() -> None:
    verdict, speak = judge(ARTICLE, [story(1, 0.9, of_topic=True), story(2)], NOW)
    assert (verdict.fires, verdict.observed, speak) == (True, 1, {"s1"})
    assert not judge(ARTICLE, [story(2)], NOW)[0].fires


def test_a_story_carried_by_enough_sources_fires() -> None:
    verdict, speak = judge(PICKUP, [story(1, sources=3), story(2, sources=2)], NOW)
    assert (verdict.fires, verdict.observed, speak) == (True, 3, {"s1"})
    assert not judge(PICKUP, [story(1, sources=2), story(2, sources=2)], NOW)[0].fires


@given(
    st.sampled_from([SCORE, SHARE, ARTICLE, PICKUP]),
    st.lists(st.tuples(st.floats(-1, 1), st.integers(-50, 9000), st.integers(1, 9), st.booleans()), max_size=12),
)
def test_only_the_window_counts(rule: AnyStoryRule, rows: list[tuple[float, int, int, bool]]) -> None:
    stories = [story(n, score, ago, sources, topic) for n, (score, ago, sources, topic) in enumerate(rows)]
    inside = [each for each in stories if NOW - rule.window_s <= each.start_s < NOW]
    assert judge(rule, stories, NOW) == judge(rule, inside, NOW)
    verdict, speak = judge(rule, stories, NOW)
    if verdict.fires:
        assert inside
        assert speak is None or speak <= {each.story_id for each in inside}


def test_an_incident_of_a_plain_rule_fires_once_and_ends_in_silence() -> None:
    watch = PlainWatch([ARTICLE])
    stories = [Story("s1", NOW - 60, -1, -0.5, 1, True)]
    asked = []

    def ask(rule: AnyStoryRule, series: str, since_s: int, until_s: int) -> list[Story]:
        asked.append(series)
        return [each for each in stories if since_s <= each.start_s < until_s]

    watch.take("entity:OTHER")
    watch.take("entity:ACME")
    (fired,) = watch.tick(NOW, ask, {})
    assert fired.change.step.changed == "firing"
    assert fired.story_ids == {"s1"}
    assert set(asked) == {"entity:ACME"}
    watch.take("entity:ACME")
    assert watch.tick(NOW + 2, ask, {}) == []
    assert watch.tick(NOW + 2, ask, {}) == [], "the same tick again"
    (over,) = watch.tick(NOW + 20_000, ask, {}) or watch.tick(NOW + 20_001, ask, {})
    left = NOW - 60 + 3600 + 1
    assert (over.change.step.changed, over.change.step.at_s) == ("resolved", left + 600)
    assert watch.open_incidents() == []


def test_it_goes_on_from_what_was_kept() -> None:
    first, second = PlainWatch([ARTICLE]), PlainWatch([ARTICLE])
    ask = lambda *_: [Story("s1", NOW - 60, -1, -0.5, 1, True)]  # noqa: E731
    first.take("entity:ACME")
    assert first.tick(NOW, ask, {})
    second.restore(NOW, first.open_incidents())
    second.take("entity:ACME")
    assert second.tick(NOW + 2, ask, {}) == []
    assert second.open_incidents() == first.open_incidents()


def test_what_is_read_again_after_a_restart_is_not_looked_at_again() -> None:
    """Fewer stories are in the window by then: the rule might hold of these alone."""
    watch, asked = PlainWatch([ARTICLE]), []

    def ask(rule: AnyStoryRule, series: str, since_s: int, until_s: int) -> list[Story]:
        asked.append(until_s)
        return []

    watch.restore(NOW, [])
    watch.take("entity:ACME")
    watch.tick(NOW, ask, {})
    watch.tick(NOW + 2, ask, {})
    assert asked == []
    watch.take("entity:ACME")
    watch.tick(NOW + 2, ask, {})
    watch.tick(NOW + 4, ask, {})
    assert asked == [NOW + 4], "a tick that comes twice later on loses nothing"


def test_a_silent_source_is_an_incident_until_it_was_heard_for_the_cooldown() -> None:
    def ask(rule: AnyStoryRule, series: str, since_s: int, until_s: int) -> list[Story]:
        raise AssertionError("no story is asked for")

    rule = SilenceRule(name="silent", series=("source:wire", "source:post"), cooldown_s=600)
    watch = PlainWatch([rule, ARTICLE])
    assert watch.tick(NOW, ask, {"source:other": "nothing new for 24 h"}) == []
    (fired,) = watch.tick(NOW + 60, ask, {"source:wire": "not had for 7 h: HTTP 503"})
    assert (fired.change.series, fired.change.step.changed) == ("source:wire", "firing")
    assert (fired.change.step.reason, fired.story_ids) == ("not had for 7 h: HTTP 503", frozenset())
    assert watch.tick(NOW + 120, ask, {"source:wire": "not had for 8 h: HTTP 503"}) == [], "told once"
    assert watch.tick(NOW + 180, ask, {}) == []
    assert watch.tick(NOW + 300, ask, {"source:wire": "not had for 9 h: HTTP 503"}) == [], "heard too short a time"
    assert watch.tick(NOW + 360, ask, {}) == []
    (over,) = watch.tick(NOW + 960, ask, {})
    assert over.change.step.changed == "resolved"

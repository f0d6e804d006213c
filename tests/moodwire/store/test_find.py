"""Finding stories by series, crossing, source, sentiment and words, and the labels that people give."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bench import years
from moodwire.store import labels, queries, schema
from moodwire.store.articles import Draft, store_articles
from moodwire.store.db import Store
from moodwire.store.find import Filter, course, courses, find, has_words, match_of
from moodwire.store.labels import Correction
from moodwire.store.scores import store_scores
from tests.helpers import STORES, T0, after, scored

NEWS = (  # title, source, label, series beside `all`
    ("Refinery burns down", "Wire", "negative", ("entity:X", "topic:energy")),
    ("Bank wins the contract", "Wire", "positive", ("entity:Y", "topic:energy")),
    ("Bank burns through cash", "Post", "negative", ("entity:Y", "entity:X")),
    ("Über die Märkte", "Post", "neutral", ("topic:energy",)),
)


@pytest.fixture(scope="module", params=STORES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Filled, and only to be read."""
    with filled(request.param, tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture(params=STORES)
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Filled, and the test's own."""
    with filled(request.param, tmp_path) as store:
        yield store


@contextmanager
def filled(kind: str, folder: Path) -> Iterator[Store]:
    store = Store(STORES[kind](folder))
    store.upgrade()
    fill(store)
    yield store
    store.close()


def fill(store: Store) -> None:
    for number, (title, source, label, series) in enumerate(NEWS):
        draft = Draft(f"a{number}", source, "", title, "", "en", after(60 * number), after(60 * number + 1))
        store_articles(store, [draft], lambda new: new.id)
        record = replace(scored(number, 60 * number, label, ("all", *series)), source=source)
        store_scores(store, [record], timedelta(hours=2))


def titles(store: Store, wanted: Filter) -> list[str]:
    return list(find(store, wanted, T0, T0 + timedelta(hours=1))["title"])


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), [3, 2, 1, 0]),
        (Filter("entity:X"), [2, 0]),
        (Filter("entity:X+topic:energy"), [0]),
        (Filter("topic:energy+source:Wire"), [1, 0]),
        (Filter("source:Post"), [3, 2]),
        (Filter(source="Post", label="negative"), [2]),
        (Filter(words="burn"), [2, 0]),
        (Filter(words='"burns down"'), [0]),
        (Filter(words="burns -cash"), [0]),
        (Filter(words="uber markte"), [3]),
        (Filter("entity:Y", "positive", "bank"), [1]),
        (Filter(words="bank cont"), [1]),
        (Filter(words="burns OR wins"), []),
        (Filter(words="-cash"), []),
        (Filter(words="&"), []),
    ],
)
def test_what_is_wanted_is_found(store: Store, wanted: Filter, found: list[int]) -> None:
    assert titles(store, wanted) == [NEWS[number][0] for number in found]


@pytest.mark.parametrize("kind", STORES)
def test_several_courses_are_those_that_each_one_has(kind: str, tmp_path: Path) -> None:
    store = Store(STORES[kind](tmp_path))
    store.upgrade()
    years.fill(store, 600, T0, timedelta(hours=5))
    names = ["entity:C0", "all", f"topic:{years.TOPICS[0]}", f"topic:{years.TOPICS[0]}+entity:C0", "entity:none"]
    together = courses(store, names, after(-18_000), T0, 300)
    for name, frame in zip(names, together, strict=True):
        pd.testing.assert_frame_equal(frame, course(store, name, after(-18_000), T0, 300))
    assert [frame["stories"].sum() > 0 for frame in together] == [True, True, True, True, False]
    store.close()


def test_a_crossing_has_a_course_of_its_stories(store: Store) -> None:
    end = T0 + timedelta(minutes=4)
    frame = course(store, "topic:energy+source:Wire", T0, end, 60)
    assert list(frame["stories"]) == [1, 1, 0, 0, 0]
    assert list(frame["negative"]) == [1, 0, 0, 0, 0]
    assert frame["score"].iloc[0] == pytest.approx(-0.7)


def test_what_was_seen_long_after_its_publication_is_found_by_its_words(own: Store) -> None:
    late = after(90 * 86_400)
    store_articles(own, [Draft("late", "Wire", "", "An old letter", "", "en", after(5), late)], lambda new: new.id)
    store_scores(own, [scored(9, 5, id_="late", seen=90 * 86_400)], timedelta(hours=2))
    assert titles(own, Filter(words="letter")) == ["An old letter"]


@given(st.text(max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_nothing_that_is_typed_is_an_error(store: Store, words: str) -> None:
    found = titles(store, Filter(words=words))
    if not words.strip():
        assert len(found) == (0 if words else 4)


@given(st.lists(st.sampled_from(["AND", "NOT", "OR", "NEAR(", "*", "^", "a:", '"', "-x", "word"]), max_size=6))
def test_operators_are_words(parts: list[str]) -> None:
    outside = match_of(" ".join(parts)).split('"')[::2]
    assert set("".join(outside).split()) <= {"AND", "NOT", "*"}


def test_the_index_of_words_follows_the_articles(own: Store) -> None:
    with own.write() as connection:
        connection.execute(sa.delete(schema.articles).where(schema.articles.c.id == "a0"))
        connection.execute(sa.update(schema.articles).where(schema.articles.c.id == "a1").values(title="Ship sinks"))
        if own.sqlite:
            check = "insert into articles_words(articles_words, rank) values ('integrity-check', 1)"
            connection.execute(sa.text(check))
    assert titles(own, Filter(words="burns")) == ["Bank burns through cash"]
    assert titles(own, Filter(words="sinking")) == ["Ship sinks"]
    assert titles(own, Filter(words="contract")) == []


def test_postgresql_looks_words_up_in_its_index(tmp_path: Path) -> None:
    with filled("postgresql", tmp_path) as store, store.read() as connection:
        connection.execute(sa.text("set local enable_seqscan = off"))  # which is quicker for four articles
        query = sa.select(schema.articles.c.id).where(has_words(store, "burns"))
        compiled = query.compile(store.engine)
        explained = connection.exec_driver_sql(f"explain {compiled}", compiled.params).scalars().all()
        assert "Bitmap Index Scan" in "\n".join(explained)
        assert connection.execute(query.order_by(schema.articles.c.id)).scalars().all() == ["a0", "a2"]


def test_the_last_word_on_an_article_counts_and_only_ones_own_is_taken_back(own: Store) -> None:

    def say(id_: str, label: str, who: str, at: float) -> int:
        return labels.correct(own, Correction(id_, 1, "sentiment", label, "negative", "m@1", who, after(at)))

    def held() -> list[tuple[str, str, str]]:
        frame = labels.corrections(own, None, None, None, None)
        return list(zip(frame["id"], frame["label"], frame["who"], strict=True))

    say("a0", "neutral", "Ada", 1)
    second = say("a0", "positive", "Bob", 2)
    say("a2", "neutral", "Ada", 3)
    assert held() == [("a2", "neutral", "Ada"), ("a0", "positive", "Bob")]
    assert not labels.take_back(own, second, "Ada", after(9))
    assert labels.take_back(own, second, "Bob", after(9))
    assert held() == [("a2", "neutral", "Ada"), ("a0", "neutral", "Ada")]
    waiting = labels.to_label(own, after(600), timedelta(days=1), 10)
    assert set(waiting["id"]) == {"a1", "a3"}
    assert len(queries.stories(own)) == 4  # what was counted stays

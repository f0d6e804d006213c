"""Near-duplicates are one story; other news about the same company on the same day is not."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from ingest.stories import OPEN, StoryIndex, same, shape_of, title_key
from moodwire.store import schema
from moodwire.store.articles import Draft
from moodwire.store.db import Store
from tests.helpers import after

HOUR = 3600
WORDS = [
    "profit",
    "market",
    "shares",
    "bank",
    "quarter",
    "growth",
    "deal",
    "rates",
    "oil",
    "board",
    "chief",
    "analyst",
    "region",
    "demand",
    "supply",
    "cost",
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'moodwire.db'}")
    store.upgrade()
    yield store
    store.close()


def draft(id_: str, title: str, body: str = "", at: float = 0) -> Draft:
    return Draft(id_, "s", "", title, body, "en", after(at), after(at))


def text(seed: int, sentences: int = 20) -> list[str]:
    """Sentences that share words with other texts, as news do, but not whole phrases."""
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) + str(rng.randint(0, 30)) for _ in range(12)) + "." for _ in range(sentences)]


def stories(index: StoryIndex, *drafts: Draft) -> list[str]:
    return [index.story_of(each) for each in drafts]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Acme: Profit UP!", "acme profit up"),
        ("Acme profit up 5% in the quarter", "RT @desk: Acme profit up 5% in the quarter https://t.co/x1"),
        ("Acme recalls cars", "UPDATE 2-Acme recalls cars"),
        ("Acme recalls cars", "(Reuters) Acme recalls cars"),
        ("Société Générale: résultats", "société générale résultats"),
    ],
)
def test_titles_are_equal_beneath_their_dress(one: str, other: str) -> None:
    assert title_key(one) == title_key(other)


def test_a_cut_retweet_and_a_small_correction_belong_to_the_story(store: Store) -> None:
    long = "Acme to recall two million cars in Europe and Asia over a fault in the brakes of its newest model"
    index = StoryIndex(store)
    assert stories(
        index,
        draft("a", long),
        draft("b", f"RT @desk: {long[:70]}…", at=HOUR),
        draft("c", long.replace("two million", "three million"), at=2 * HOUR),
        draft("d", "Acme to recall nobody, says chief executive of the car maker on Monday", at=3 * HOUR),
    ) == ["a", "a", "a", "d"]


def test_short_titles_must_be_equal(store: Store) -> None:
    index = StoryIndex(store)
    assert stories(index, draft("a", "Acme falls 3%"), draft("b", "Acme falls 4%"), draft("c", "ACME falls 3%")) == [
        "a",
        "b",
        "a",
    ]


def test_titles_without_words_are_stories_of_their_own(store: Store) -> None:
    assert stories(StoryIndex(store), draft("a", "!!!"), draft("b", "???")) == ["a", "b"]


def test_an_edited_and_an_extended_text_are_the_story_and_another_text_is_not(store: Store) -> None:
    original = text(1)
    edited = [*original[:4], *text(2, 2), *original[7:], "A closing word."]
    index = StoryIndex(store)
    assert stories(
        index,
        draft("a", "Acme in trouble over its accounts", " ".join(original)),
        draft("b", "Acme: what we know about the trouble", " ".join(edited), HOUR),
        draft("c", "Acme in even more trouble now", " ".join([*original, *text(3, 15)]), 2 * HOUR),
        draft("d", "Acme chief executive steps down", " ".join([*original[:3], *text(4, 20)]), 3 * HOUR),
    ) == ["a", "a", "a", "d"]


def test_a_daily_column_is_a_new_story_each_day_and_two_outlets_own_words_are_one(store: Store) -> None:
    column = "Stocks making the biggest moves at midday"
    index = StoryIndex(store)
    first, second, third = (" ".join(text(seed)) for seed in (1, 2, 3))
    assert stories(
        index, draft("a", column, first), draft("b", column, second, HOUR), draft("c", column, third, 24 * HOUR)
    ) == ["a", "a", "c"]


def test_a_story_closes_72_hours_after_its_first_copy_however_many_come(store: Store) -> None:
    index = StoryIndex(store)
    hours = [0, 30, 60, 72, 73, 100]
    found = stories(index, *(draft(str(h), "Acme recalls cars", at=h * HOUR) for h in hours))
    assert found == ["0", "0", "0", "0", "73", "73"]


def test_the_reason_is_told() -> None:
    one, other = (shape_of("Title of the one", " ".join(text(1)[start:])) for start in (0, 2))
    assert "word triples are shared" in same(one, other, OPEN)
    assert same(one, other, OPEN * 2) == ""
    assert same(shape_of("A b", ""), shape_of("a B", ""), OPEN) == "equal titles"


def test_memory_is_that_of_72_hours(store: Store) -> None:
    index = StoryIndex(store)
    sizes = []
    for hour in range(24 * 12):
        index.story_of(draft(f"a{hour}", f"Headline number {hour} on something else", at=hour * HOUR))
        sizes.append(len(index))
    assert max(sizes) <= 72 + 2


def test_a_restart_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    rng = random.Random(5)
    drafts = []
    for number in range(300):
        seed = rng.randint(0, 60)
        sentences = text(seed)
        if rng.random() < 0.5:
            sentences[rng.randrange(20)] = text(number + 1000, 1)[0]
        body = " ".join(sentences) if seed % 2 else ""
        drafts.append(draft(f"a{number}", f"Company {seed} and the matter of item {seed}", body, number * HOUR))

    def run(name: str, restarts: set[int]) -> list[str]:
        store = Store(f"sqlite:///{tmp_path / name}")
        store.upgrade()
        index = StoryIndex(store)
        for number, each in enumerate(drafts):
            if number in restarts:
                index = StoryIndex(store)
            index.store([each])
        a = schema.articles.c
        with store.read() as connection:
            found = list(connection.execute(sa.select(a.story_id).order_by(a.seq)).scalars())
        store.close()
        return found

    in_peace = run("peace.db", set())
    assert run("restarted.db", set(range(0, 300, 7))) == in_peace
    assert 60 < len(set(in_peace)) < 300


def test_a_transaction_that_fails_leaves_no_story_behind(store: Store) -> None:
    index = StoryIndex(store)
    with pytest.raises(sa.exc.ProgrammingError):
        index.store([draft("a", "Acme recalls cars")], feed={"source": "s", "url": object()})
    assert len(index) == 0
    assert index.store([draft("b", "Acme recalls cars")]).new == 1
    assert index.story_of(draft("c", "Acme recalls cars", at=1)) == "b"

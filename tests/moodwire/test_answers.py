"""What analysts ask, against the definitions counted by hand."""

from datetime import datetime, timedelta

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from moodwire import answers, tables
from moodwire.errors import BadInput
from moodwire.records import Scored, floor_time
from moodwire.store.articles import Draft, store_articles
from moodwire.store.db import Store
from moodwire.store.find import Filter
from moodwire.store.scores import store_scores
from tests.helpers import STORES, T0, after, scored

HOUR = timedelta(hours=1)


def put(store: Store, records: list[Scored]) -> None:
    for record in records:
        draft = Draft(record.id, record.source, "", f"title {record.id}", "", "en", record.published_at, record.seen_at)
        store_articles(store, [draft], lambda _, story=record.story_id: story)  # type: ignore[misc]
        store_scores(store, [record], timedelta(hours=2))


def counted(records: list[Scored], series: str, as_of: datetime) -> dict[datetime, tuple[int, int, int, int, int, int]]:
    """By hour, as the definitions say: articles, stories, negative, neutral, positive, sum of scores in 1e-4."""
    found: dict[datetime, list[int]] = {}
    articles: set[str] = set()
    stories: set[str] = set()
    for record in sorted(records, key=lambda r: r.offset):
        if record.seen_at > as_of:  # replayed: it is known when it is seen
            continue
        mine = next((each for each in record.series if each.name == series), None)
        if mine is None:
            continue
        sums = found.setdefault(floor_time(record.published_at, 3600), [0] * 6)
        if record.id not in articles:
            articles.add(record.id)
            sums[0] += 1
        if record.story_id not in stories:
            stories.add(record.story_id)
            sums[1] += 1
            sums[2 + ("negative", "neutral", "positive").index(mine.label)] += 1
            sums[5] += mine.score_e4
    return {hour: tuple(sums) for hour, sums in found.items()}  # type: ignore[misc]


@st.composite
def records(draw: st.DrawFn) -> list[Scored]:
    """A stream: seen in the order of its offsets, published at any time before."""
    seen = 0.0
    made = []
    for number in range(draw(st.integers(1, 12))):
        seen += draw(st.floats(0, 5000))
        story = f"s{draw(st.integers(0, 4))}"
        label = draw(st.sampled_from(["negative", "neutral", "positive"]))
        series = ("all", *draw(st.sets(st.sampled_from(["entity:X", "topic:legal"]))))
        made.append(scored(number, seen - draw(st.floats(0, 9000)), label, series, story, seen=seen))
    return made


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records(), st.floats(0, 60_000))
def test_a_course_as_of_a_time_is_what_was_known_then(
    tmp_path_factory: pytest.TempPathFactory, stream: list[Scored], moment: float
) -> None:
    store = Store(STORES["sqlite"](tmp_path_factory.mktemp("store")))
    store.upgrade()
    put(store, stream)
    as_of = after(moment)
    begin, end = after(-9000), after(70_000)
    for series in ("all", "entity:X"):
        table = answers.sentiment(store, [series], "1h", begin, end, as_of)
        got = {
            row["start"]: (
                row["articles"],
                row["stories"],
                row["negative"],
                row["neutral"],
                row["positive"],
                0 if row["score"] is None else round(row["score"] * row["stories"] * 1e4),
            )
            for row in tables.rows_of(table)
            if row["articles"]
        }
        wanted = {hour: sums for hour, sums in counted(stream, series, as_of).items() if sums[0]}
        assert got == wanted
        names = {row["story_id"] for row in tables.rows_of(answers.stories(store, Filter(series), as_of=as_of).table)}
        known = [r for r in stream if r.seen_at <= as_of and series in {each.name for each in r.series}]
        assert names == {record.story_id for record in known}
    store.close()


def test_a_course_as_of_now_is_the_course(store: Store) -> None:
    stream = [scored(n, 1000 * n, ("negative", "positive")[n % 2], ("all", "entity:X"), f"s{n // 2}") for n in range(9)]
    put(store, stream)
    ask = (T0, after(20_000))
    for series in ("all", "X", "entity:X+source:s"):
        then = answers.sentiment(store, [series], "1h", *ask, as_of=store.now())
        assert sum(then["stories"].to_pylist()) == 5
        if "+" in series:  # windows are trends' work; a crossing is counted at once
            assert then.equals(answers.sentiment(store, [series], "1h", *ask))
    assert sum(answers.sentiment(store, ["all"], "1h", *ask, as_of=T0)["stories"].to_pylist()) == 0


def test_spans_are_whole_and_without_gaps(store: Store) -> None:
    put(store, [scored(0, 0), scored(1, 3 * 3600)])
    table = answers.sentiment(
        store, ["all", "Y"], "1h", T0 + timedelta(minutes=20), T0 + 3 * HOUR + HOUR / 2, store.now()
    )
    rows = tables.rows_of(table)
    assert [(row["series"], row["start"]) for row in rows] == [
        (name, T0 + n * HOUR) for name in ("all", "Y") for n in range(4)
    ]
    assert [row["stories"] for row in rows] == [1, 0, 0, 1, 0, 0, 0, 0]
    assert [row["score"] for row in rows[:2]] == [pytest.approx(-0.7), None]
    assert table.schema.equals(tables.SENTIMENT.schema)


@pytest.mark.parametrize(
    ("series", "freq", "days", "told"),
    [
        (["all"], "1 hour", 1, "whole minutes, hours or days"),
        (["all"], "0h", 1, "whole minutes, hours or days"),
        (["all"], "1min", 30, "more than 20000 spans"),
        (list("ABCDEFG"), "1h", 1, "at most 6"),
        (["all"], "66905d", 7, "too long"),
    ],
)
def test_what_cannot_be_answered_is_told(store: Store, series: list[str], freq: str, days: int, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        answers.sentiment(store, series, freq, T0, T0 + timedelta(days=days))


@pytest.mark.parametrize("size", [1, 3, 100])
def test_pages_hold_every_story_once_while_more_come(store: Store, size: int) -> None:
    stream = [scored(n, 20 * n, series=("all",)) for n in range(8)]  # three a minute
    put(store, stream)
    found, cursor = [], None
    while True:
        page = answers.stories(store, Filter(), limit=size, cursor=cursor)
        assert page.table.num_rows <= size
        found += page.table["id"].to_pylist()
        put(store, [scored(100 + len(found), 3600)])  # newer than all
        cursor = page.next
        if cursor is None:
            break
    assert sorted(found) == sorted(record.id for record in stream)
    starts = [floor_time(stream[int(id_[1:])].published_at, 60) for id_ in found]
    assert starts == sorted(starts, reverse=True)


def test_a_story_scored_by_two_models_is_one(store: Store) -> None:
    first = scored(0, 0, "negative")
    put(store, [first, replace(scored(0, 0, "positive"), model="later@1", replayed=False)])
    (row,) = tables.rows_of(answers.stories(store, Filter()).table)
    assert (row["label"], row["copies"], row["p_negative"]) == ("negative", 1, 0.8)


@given(st.text(max_size=60))
def test_any_cursor_is_taken_or_told(text: str) -> None:
    try:
        answers.parts(tables.SERIES.schema.empty_table(), "series", 5, text)
    except BadInput as error:
        assert "no cursor" in str(error)


def test_parts_of_a_table_are_all_of_it() -> None:
    table = tables.plain_table(pd.DataFrame({"source": list("abcde")}))
    found, cursor = [], None
    for _ in range(3):
        page = answers.parts(table, "source", 2, cursor)
        found += page.table["source"].to_pylist()
        cursor = page.next
    assert (found, cursor) == (list("abcde"), None)

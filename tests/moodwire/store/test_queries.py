"""What is asked by indices alone gives what a look at every row would."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from bench import years
from moodwire.records import floor_time
from moodwire.store import queries, schema, watching
from moodwire.store.db import Store
from moodwire.store.scores import store_scores
from moodwire.store.windows import store_windows, totals_until, window_of
from tests.helpers import STORES, T0, after, scored


@pytest.fixture(scope="module", params=STORES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    filled = Store(STORES[request.param](tmp_path_factory.mktemp("queries")))
    filled.upgrade()
    years.fill(filled, 3000, T0, timedelta(days=40))
    yield filled
    filled.close()


def rows(store: Store, table: sa.Table) -> pd.DataFrame:
    return queries.fetch(store, sa.select(table))


def test_the_sources_are_those_of_the_articles(store: Store) -> None:
    assert watching.sources(store) == sorted(set(rows(store, schema.articles)["source"]))


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(days=3)])
def test_the_supply_is_counted_by_source(store: Store, ago: timedelta) -> None:
    now, every = T0 - ago, rows(store, schema.articles)
    late = every[every["published_at"] >= now - timedelta(days=30)]
    newest = late.groupby("source")["seen_at"].max()
    day = late[late["published_at"] >= now - timedelta(days=1)].groupby("source").size()
    found = watching.supply(store, now)
    assert found == {source: (int(day.get(source, 0)), seen.to_pydatetime()) for source, seen in newest.items()}


@pytest.mark.parametrize("span", [timedelta(hours=7), timedelta(days=1), timedelta(days=9)])
def test_the_overview_sums_up_the_windows(store: Store, span: timedelta) -> None:
    now, every = T0 - timedelta(days=1), rows(store, schema.windows)
    every = every[(every["length_s"] == 60) & (every["start"] < now) & (every["start"] >= now - 2 * span)]
    last = every[every["start"] >= now - span]
    bins = 1 if span < timedelta(days=1) else 24
    found = queries.overview(store, now, span, bins).set_index("series")
    stories = last.groupby("series")["stories"].sum()
    exact = bins == 1 or span.total_seconds() / bins < 7 * 300  # else the windows are rolled up, and blur the edges
    if exact:
        assert set(found.index) == set(every["series"])
        assert found["stories"].to_dict() == {name: int(stories.get(name, 0)) for name in found.index}
        total = last.groupby("series")["score_sum_e4"].sum()
        for name in stories.index:
            assert found.loc[name, "score"] == pytest.approx(total[name] / stories[name] / 1e4)
    assert all(sum(row.volume) == row.stories for row in found.itertuples())
    names = queries.busiest(store, now, span)
    assert abs(len(names) - len(set(every["series"]))) <= len(names) // 7
    assert names[0] == "all"


@pytest.mark.parametrize("length_s", [60, 3600])
@pytest.mark.parametrize("days", [0.3, 1, 1.5, 2.5, 9])
def test_whole_days_are_summed_up_by_their_own_windows(store: Store, length_s: int, days: float) -> None:
    every = rows(store, schema.windows)
    every = every[every["length_s"] == length_s]
    for back in (timedelta(0), timedelta(hours=7), timedelta(days=3)):
        end = floor_time(T0, 86_400) - back
        start = end - timedelta(days=days)
        inside = every[(every["start"] >= start) & (every["start"] < end)].groupby("series")
        expected = inside[["stories", "score_sum_e4"]].sum()
        found = queries.story_sums(store, start, end, length_s)
        assert found == {row.Index: (row.stories, row.score_sum_e4) for row in expected.itertuples()}
        assert queries.story_sums(store, start, end, length_s, "all") == {"all": found["all"]}


def test_where_nothing_is_nothing_is_found(store: Store) -> None:
    then = T0 - timedelta(days=4000)
    assert queries.overview(store, then, timedelta(days=1)).empty
    assert queries.busiest(store, then, timedelta(days=1)) == []


@pytest.mark.parametrize("kind", STORES)
def test_stories_that_came_too_late_are_told_by_the_time_they_tell_of(kind: str, tmp_path: Path) -> None:
    filled = Store(STORES[kind](tmp_path))
    filled.upgrade()
    hour = 3600.0
    records = [
        scored(0, 0),
        scored(1, 10, seen=3 * hour),
        scored(2, 20, seen=3 * hour, story="a1"),  # a copy
        scored(3, 1.5 * hour, seen=1.6 * hour),
        scored(4, 2.5 * hour, seen=9 * hour),
        scored(5, 2.6 * hour, seen=9 * hour),
        scored(6, 2.7 * hour, seen=9 * hour, series=("topic:x",)),
    ]
    store_scores(filled, records, timedelta(hours=2))
    keys = {(one.name, floor_time(r.published_at, 60)) for r in records for one in r.series}
    with filled.read() as connection:
        totals = totals_until(connection, keys, {0: 6})
    store_windows(filled, [window_of(key, found) for key, found in totals.items()])
    for freq_s in (60, 900, 3600):
        found = watching.revised(filled, "all", T0, after(2.9 * hour), freq_s)
        times = [after(0), floor_time(after(2.5 * hour), freq_s), floor_time(after(2.6 * hour), freq_s)]
        assert [*found["start"]] == sorted(set(times)), freq_s
        assert found["stories"].sum() == 3
    assert watching.revised(filled, "all", after(hour), after(2 * hour), 3600).empty
    filled.close()

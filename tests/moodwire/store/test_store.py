"""The store's contract. Every kind of store is put under these tests: add it to `STORES`."""

import operator
import random
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from moodwire.errors import StoreError
from moodwire.records import WINDOW_S, Article, Scored, Window, decode, floor_time
from moodwire.store import queries, schema, windows
from moodwire.store.articles import Draft, Stored, drain, first_copies, marks, store_articles
from moodwire.store.check import faults
from moodwire.store.db import Store, fact, set_fact
from moodwire.store.health import Pulse, stage_health
from moodwire.store.scores import store_scores
from moodwire.store.windows import ROLLUPS_S, Totals, save_positions, store_windows, window_of
from moodwire.stream.embedded import EmbeddedLog
from tests.helpers import STORES, T0, after, scored

FRESH = timedelta(hours=2)


def draft(id_: str, title: str, at: float = 0, body: str = "") -> Draft:
    return Draft(id_, "s", "", title, body, "en", after(at), after(at))


def put(store: Store, *drafts: Draft) -> Stored:
    """Store articles, each its own story."""
    return store_articles(store, drafts, lambda draft: draft.id)


def held_articles(store: Store) -> list[tuple[str, int, str]]:
    a = schema.articles.c
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(sa.select(a.id, a.revision, a.story_id).order_by(a.seq))]


def test_the_schema_is_the_migrations_last_word(store: Store) -> None:
    store.upgrade()  # a second time: nothing to do
    with store.read() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), schema.metadata)
    assert {(what, *_names(of)) for what, of in found} == BESIDE[store.url.get_backend_name()]


# What is there and not in the tables' description: the words, and what PostgreSQL's partitions need.
BESIDE = {
    "sqlite": {
        ("remove_table", "articles_words"),
        *(("remove_table", f"articles_words_{part}") for part in ("config", "data", "docsize", "idx")),
    },
    "postgresql": {
        ("remove_table", "registry"),
        ("remove_index", "registry_story"),
        ("remove_index", "articles_seq"),
        ("remove_index", "articles_words"),
        ("add_constraint", "articles", "id", "revision"),
    },
}


def _names(of: sa.schema.SchemaItem) -> tuple[str, ...]:
    if isinstance(of, sa.UniqueConstraint):
        return (of.table.name, *of.columns.keys())
    return (str(getattr(of, "name", of)),)


def test_times_come_back_in_utc_to_the_microsecond(store: Store) -> None:
    seen = T0 + timedelta(microseconds=1)
    put(store, draft("a", "t")._replace(seen_at=seen))
    found = queries.last_article(store)
    assert found == seen
    assert found.tzinfo is UTC, "whatever the server's zone"


def test_a_transaction_is_kept_whole_or_not_at_all(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.write() as connection:
        set_fact(connection, "n", "1")
        raise ZeroDivisionError
    with store.read() as connection:
        assert fact(connection, "n", "none") == "none"


def test_an_equal_article_is_known_and_another_text_is_a_revision(store: Store) -> None:
    assert put(store, draft("a", "One"), draft("a", "One")) == (1, 0, 1)
    assert put(store, draft("a", "One", body="more")) == (0, 1, 0)
    assert put(store, draft("a", "One")) == (0, 0, 1), "back to a text that was had before"
    assert [row[:2] for row in held_articles(store)] == [("a", 1), ("a", 2)]


def edits(store: Store, *drafts: Draft) -> Stored:
    """As `put`, where a text that begins otherwise is no edit."""
    return store_articles(
        store, drafts, lambda draft: draft.id, is_edit=lambda old, new: old.title[:3] == new.title[:3]
    )


def test_an_id_that_stands_for_other_content_each_time_loses_nothing(store: Store) -> None:
    one, two, three = draft("a", "One"), draft("a", "Two"), draft("a", "Three")
    assert edits(store, one, two) == (2, 0, 0)
    assert edits(store, two, one) == (0, 0, 2), "each once, in whatever order"
    assert edits(store, draft("a", "One, corrected"), three, two, three) == (1, 1, 2)
    ids = [row[0] for row in held_articles(store)]
    assert len(set(ids)) == 3
    assert ids.count("a") == 2, "the first keeps the id, and its edit is a revision"


def test_what_had_an_id_of_its_own_is_known_when_it_would_now_be_an_edit(store: Store) -> None:
    first, other, later = draft("a", "One"), draft("a", "Two plus"), draft("a", "One plus")

    def again(*drafts: Draft) -> Stored:
        return store_articles(
            store,
            drafts,
            lambda draft: draft.id,
            is_edit=lambda old, new: not {*old.title.split()}.isdisjoint(new.title.split()),
        )

    assert again(first, other) == (2, 0, 0)
    assert again(later) == (0, 1, 0)
    assert again(other) == (0, 0, 1), "a stretch that comes twice doubles nothing"


def test_another_source_s_version_of_an_article_is_no_revision(store: Store) -> None:
    edits(store, draft("a", "One"))
    assert edits(store, draft("a", "One, told elsewhere")._replace(source="other")) == (0, 0, 1)
    assert edits(store, draft("a", "Two")._replace(source="other")) == (1, 0, 0), "an address that both repeat"


def test_a_source_whose_ids_change_gives_each_text_once(store: Store) -> None:
    loose = [draft(id_, "One")._replace(loose=True) for id_ in "abc"]
    assert edits(store, *loose[:2]) == (1, 0, 1)
    assert edits(store, loose[2]) == (0, 0, 1)
    assert edits(store, draft("d", "One")) == (1, 0, 0), "where ids are sure, equal texts are several articles"
    assert edits(store, loose[0]._replace(source="other", id="e")) == (1, 0, 0)


def test_what_was_said_of_an_article_is_kept(store: Store) -> None:
    put(store, draft("a", "One")._replace(mark="m1"), draft("b", "Two"))
    put(store, draft("a", "One", 60)._replace(mark="m2"))
    assert marks(store, {"a", "b", "c"}) == {"a": {"m1": after(0), "m2": after(60)}}


def test_a_new_article_gets_the_story_it_is_told_and_a_revision_keeps_it(store: Store) -> None:
    put(store, draft("a", "One"))
    told = iter(["a", "c"])
    store_articles(store, [draft("b", "Two"), draft("a", "One, corrected"), draft("c", "Three")], lambda _: next(told))
    assert held_articles(store) == [("a", 1, "a"), ("b", 1, "a"), ("a", 2, "a"), ("c", 1, "c")]
    assert [first.id for first in first_copies(store, timedelta(hours=1))] == ["a", "c"]


def test_first_copies_are_those_seen_shortly_before_the_newest_article(store: Store) -> None:
    put(store, draft("a", "One", 0), draft("b", "Two", 3600), draft("c", "Three", 7200))
    assert [(first.id, first.title) for first in first_copies(store, timedelta(hours=1))] == [
        ("b", "Two"),
        ("c", "Three"),
    ]


def test_the_outbox_gives_each_article_to_the_log_in_order_and_again_after_a_crash(
    store: Store, tmp_path: Path
) -> None:
    log = EmbeddedLog(tmp_path / "log")
    put(store, *(draft(f"a{n}", f"title {n}", n) for n in range(5)))
    assert drain(store, log, limit=3) == 3
    with store.write() as connection:
        set_fact(connection, "outbox", "0")  # the crash: appended, not noted
    assert drain(store, log) == 5
    assert drain(store, log) == 0
    appended = [decode(message.value) for message in log.read("articles", 0, 100)]
    assert [a.id for a in appended if isinstance(a, Article)] == ["a0", "a1", "a2", "a0", "a1", "a2", "a3", "a4"]


def test_the_first_score_of_a_key_stays(store: Store) -> None:
    first = scored(1, 0, "negative")
    again = replace(first, sentiment=scored(1, 0, "positive").sentiment, offset=9)
    assert store_scores(store, [first], FRESH) == [first]
    assert store_scores(store, [again, first], FRESH) == [first, first]


counts = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.sets(st.sampled_from(["all", "entity:X", "topic:t"]))),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts, st.integers(1, 6))
def test_an_article_and_a_story_count_once_a_series_by_their_first_record(
    store: Store, rows: list[tuple[int, int, set[str]]], batch: int
) -> None:
    with store.write() as connection:  # of the example before
        connection.execute(sa.delete(schema.scores))
        connection.execute(sa.delete(schema.counted))
    revisions: dict[int, int] = {}
    records: list[Scored] = []
    for offset, (id_, story, series) in enumerate(rows):
        revisions[id_] = revisions.get(id_, 0) + 1
        records.append(
            scored(
                offset, offset, series=tuple(sorted(series)), story=f"s{story}", id_=f"i{id_}", revision=revisions[id_]
            )
        )
    for at in range(0, len(records), batch):
        store_scores(store, records[at : at + batch], FRESH)
    c = schema.counted.c
    with store.read() as connection:
        got = connection.execute(sa.select(c.series, c.offset, c.id, c.story_id, c.first_article, c.first_story)).all()
    assert len(got) == sum(len(series) for _, _, series in rows)
    articles: set[tuple[str, str]] = set()
    stories: set[tuple[str, str]] = set()
    for series_, _, id__, story_, first_article, first_story in sorted(got, key=lambda row: row[1]):
        assert first_article == ((series_, id__) not in articles)
        assert first_story == ((series_, story_) not in stories)
        articles.add((series_, id__))
        stories.add((series_, story_))


def test_known_at_is_the_clock_s_live_and_the_data_s_in_a_replay(store: Store) -> None:
    live = replace(scored(1, 0), replayed=False)
    before = store.now()
    store_scores(store, [live, scored(2, 0)], FRESH)
    s = schema.scores.c
    with store.read() as connection:
        known = {row.id: row.known_at for row in connection.execute(sa.select(s.id, s.known_at))}
    assert before <= known["a1"] <= store.now()
    assert known["a2"] == after(1)


def test_queries_give_what_was_stored_with_the_records_names(store: Store) -> None:
    drafts = [draft("a1", "One", 0), draft("a2", "Two", 120), draft("a3", "one", 60)]
    store_articles(store, drafts, lambda new: "a1" if new.id == "a3" else new.id)
    store_scores(
        store,
        [
            scored(1, 0, "negative", ("all", "entity:X"), seen=0),
            scored(2, 120, "positive", seen=120),
            scored(3, 60, "negative", story="a1", seen=60),
        ],
        FRESH,
    )
    articles = queries.articles(store)
    assert list(articles["id"]) == ["a2", "a3", "a1"]
    assert {"id", "title", "published_at", "score", "topic", "model", "known_at", "entities"} <= set(articles.columns)
    assert articles["score"].tolist() == pytest.approx([0.7, -0.7, -0.7])
    assert list(queries.articles(store, "entity:X")["id"]) == ["a1"]
    assert list(queries.articles(store, None, after(60), after(120))["id"]) == ["a3"]
    assert list(queries.articles(store, limit=1)["id"]) == ["a2"]
    stories = queries.stories(store)
    assert dict(zip(stories["id"], stories["copies"], strict=True)) == {"a2": 1, "a1": 2}
    assert articles["entities"][0] == [{"symbol": "X", "score": 0.7}]


def window(start: float, stories: int, score_e4: int, series: str = "all") -> Window:
    totals = Totals(articles=stories, negative=stories, score_sum_e4=score_e4)
    return window_of((series, floor_time(after(start), 60)), totals)


def rolled(store: Store) -> dict[tuple[str, int], list[tuple[float, int, int]]]:
    """By series and length: seconds from T0, articles and score sum of each window."""
    w = schema.windows.c
    found: dict[tuple[str, int], list[tuple[float, int, int]]] = {}
    with store.read() as connection:
        rows = connection.execute(
            sa.select(w.series, w.length_s, w.start, w.articles, w.score_sum_e4).order_by(w.start)
        )
        for series, length, start, articles, score in rows:
            found.setdefault((series, length), []).append(((start - T0).total_seconds(), articles, score))
    return found


def test_rollups_stay_right_when_a_late_article_revises_a_window(store: Store) -> None:
    store_windows(store, [window(0, 1, -7), window(60, 2, 5), window(299, 1, 1), window(4000, 1, 9)])
    store_windows(store, [window(0, 1, 3, "entity:X")])
    store_windows(store, [window(60, 3, 50)])  # late
    store_windows(store, [window(60, 2, 5)])  # an older revision, again: passed over
    found = rolled(store)
    assert found["all", 300] == [(0, 5, 44), (3900, 1, 9)]
    assert found["all", 3600] == [(0, 5, 44), (3600, 1, 9)]
    assert found["all", 86_400] == [(-43_200, 6, 53)]
    assert found["entity:X", 86_400] == [(-43_200, 1, 3)]
    assert len(queries.windows(store, "all")) == 4, "the query shows windows of 60 s"
    assert queries.mood(store, "all", after(0), after(7200), 3600)["articles"].tolist()[:2] == [5, 1]


def summed_anew(store: Store) -> dict[tuple[str, int, datetime], list[int]]:
    """The longer windows, each as the sum of the windows of 60 s that lie in it."""
    w = schema.windows.c
    found: dict[tuple[str, int, datetime], list[int]] = {}
    with store.read() as connection:
        for series, _, start, *counts in connection.execute(sa.select(schema.windows).where(w.length_s == WINDOW_S)):
            for length_s in ROLLUPS_S:
                sums = found.setdefault((series, length_s, floor_time(start, length_s)), [0] * len(counts))
                sums[:] = [a + b for a, b in zip(sums, counts, strict=True)]
    return found


def rollups(store: Store) -> dict[tuple[str, int, datetime], list[int]]:
    query = sa.select(schema.windows).where(schema.windows.c.length_s != WINDOW_S)
    with store.read() as connection:
        return {tuple(key): counts for *key, counts in ((*row[:3], list(row[3:])) for row in connection.execute(query))}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rng=st.randoms(use_true_random=False))
def test_rollups_are_their_parts_summed_whatever_comes_late_twice_or_from_long_ago(
    store: Store, rng: random.Random
) -> None:
    with store.write() as connection:
        connection.execute(sa.delete(schema.windows))
    now: dict[tuple[str, datetime], Totals] = {}
    written: list[list[Window]] = []
    for step in range(10):
        keys = set()
        for _ in range(rng.choice([1, 5, 120])):  # few and many rows take other ways into the store
            minutes = 600 * step + rng.choice([rng.randrange(20), -rng.randrange(3000), -rng.randrange(200_000)])
            keys.add((rng.choice(["all", "entity:X", "topic:t"]), floor_time(after(60 * minutes), WINDOW_S)))
        for key in keys:
            more = Totals(*(rng.randrange(3) for _ in Totals._fields[:-1]), score_sum_e4=rng.randrange(-9000, 9000))
            now[key] = Totals(*map(operator.add, now.get(key, Totals()), more))  # or of no more articles, but stories
        written.append([window_of(key, now[key]) for key in keys])
        if rng.random() < 0.3:  # it fell while writing: all of it is written again
            with pytest.raises(ZeroDivisionError), pytest.MonkeyPatch.context() as patch:
                patch.setattr(windows, "add_up", lambda *_: 1 / 0)
                store_windows(store, written[-1])
        store_windows(store, written[-1])
        if rng.random() < 0.5:
            store_windows(store, rng.choice(written))  # doubled, and where a newer revision is held, passed over
    w = schema.windows.c
    query = sa.select(w.series, w.start, w.articles, w.score_sum_e4).where(w.length_s == WINDOW_S)
    with store.read() as connection:
        held = {(series, start): tuple(counts) for series, start, *counts in connection.execute(query)}
    assert held.keys() == now.keys()
    assert {key: counts[0] for key, counts in held.items()} == {key: totals.articles for key, totals in now.items()}
    assert rollups(store) == summed_anew(store)


def test_as_of_shows_what_was_known_then(store: Store) -> None:
    first, second = scored(1, 0, seen=1), scored(2, 5, "positive", seen=100)
    store_scores(store, [first, second], FRESH)
    store_scores(store, [scored(3, 10, story="a1", seen=200)], FRESH)
    frame = queries.windows_as_of(store, as_of=after(150))
    assert frame[["articles", "stories", "negative", "positive", "score_sum_e4"]].to_numpy().tolist() == [
        [2, 2, 1, 1, 0]
    ]
    assert queries.windows_as_of(store, as_of=after(50))["articles"].tolist() == [1]
    assert queries.windows_as_of(store, as_of=after(300))["articles"].tolist() == [3]
    assert queries.windows_as_of(store, as_of=after(0)).empty


def test_many_rows_at_once_are_as_few(store: Store) -> None:
    records = [scored(number, number, "negative" if number % 3 else "positive") for number in range(300)]
    assert store_scores(store, records[:120], FRESH) == records[:120]
    again = [replace(record, sentiment=scored(1, 0, "neutral").sentiment) for record in records[:120]]
    assert store_scores(store, [*again, *records[120:]], FRESH) == records, "the first written stays"
    assert faults(store) == []
    store_windows(store, [window(60 * number, 1, number) for number in range(200)])
    store_windows(store, [window(60 * number, 2, -number) for number in range(200)])
    assert [row[2] for row in rolled(store)["all", 60]] == [-number for number in range(200)]


def test_what_does_not_fit_together_is_told(store: Store) -> None:
    store_scores(store, [scored(1, 0), scored(2, 60), scored(3, 120)], FRESH)
    store_windows(store, [window(0, 2, 5)])
    with store.write() as connection:
        save_positions(connection, "trends", after(100), {0: 2})
        connection.execute(sa.delete(schema.scores))
        connection.execute(sa.delete(schema.windows).where(schema.windows.c.length_s == 300))
    found = "\n".join(faults(store))
    assert "3 counted articles have no score" in found
    assert "window all 2024-03-04 12:00: it counts more articles than there are" in found
    assert "window all 2024-03-04 12:01: it counts fewer articles than there are" in found
    assert "12:02" not in found, "trends has not come to it"
    assert "windows of 300 s are not the sum" in found


def test_writers_at_once_leave_nothing_out_of_the_outbox(store: Store, tmp_path: Path) -> None:
    """Who began first and ends last must not be passed over: its articles stand behind those of the other."""
    log = EmbeddedLog(tmp_path / "log")
    slow_began, drained_once = threading.Event(), threading.Event()

    def slow_story(draft_: Draft) -> str:
        slow_began.set()
        drained_once.wait(0.5)  # on SQLite and with turns the other waits for this one
        return draft_.id

    slow = threading.Thread(target=store_articles, args=(store, [draft("slow", "One")], slow_story))
    slow.start()
    slow_began.wait(30)
    put(store, draft("quick", "Two"))
    drain(store, log)
    drained_once.set()
    slow.join()
    drain(store, log)
    appended = {getattr(decode(message.value), "id", "") for message in log.read("articles", 0, 100)}
    assert appended == {"slow", "quick"}


def test_several_bring_the_schema_up_at_once(tmp_path: Path) -> None:
    for address in STORES.values():
        url = address(tmp_path)
        stores = [Store(url) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(Store.upgrade, stores))
        assert put(stores[0], draft("a", "One")).new == 1
        for one in stores:
            one.close()


def test_a_pulse_is_seen(store: Store) -> None:
    pulse = Pulse(store, "trends", lambda: T0)
    pulse.processed(3)
    pulse.dead_letter()
    pulse.note = "busy"
    pulse.beat(now=True)
    (health,) = stage_health(store)
    assert (health.name, health.processed, health.dead_letters, health.note) == ("trends", 3, 1, "busy")
    assert health.memory_mb > 10


def test_a_locked_database_is_told_in_words(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'm.db'}", busy_s=0.05)
    store.upgrade()
    holder = sqlite3.connect(tmp_path / "m.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match=r"is locked by another program.*close what holds it") as caught:
        put(store, draft("a", "One"))
    assert caught.value.exit_code == 5
    holder.execute("ROLLBACK")
    assert put(store, draft("a", "One")).new == 1
    holder.close()
    store.close()


def test_a_file_that_is_no_database_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "m.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        Store(f"sqlite:///{tmp_path / 'm.db'}").upgrade()

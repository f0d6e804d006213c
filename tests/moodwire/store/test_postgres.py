"""What only PostgreSQL does: months, their end, the way from the first schema; TimescaleDB where it is."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib.resources import as_file, files
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from moodwire.settings import Retention
from moodwire.store import partitions, schema, timescale
from moodwire.store.check import faults
from moodwire.store.db import Store
from moodwire.store.retention import prune
from moodwire.store.scores import store_scores
from tests import services
from tests.helpers import T0, scored

FRESH = timedelta(hours=2)
DAY = 86_400.0


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store(services.postgres().database())
    store.upgrade()
    yield store
    store.close()


def native(store: Store) -> None:
    """Passed over where TimescaleDB makes the partitions."""
    with store.read() as connection:
        if timescale.is_available(connection):
            pytest.skip("TimescaleDB is loaded in this PostgreSQL and makes the months: ours are NOT tested here")


def months(store: Store, table: str) -> set[str]:
    with store.read() as connection:
        return partitions.partitions(connection, table)


@pytest.mark.parametrize("at", [datetime(2024, 12, 31, 23, 59, tzinfo=UTC), datetime(1999, 1, 1, tzinfo=UTC)])
def test_a_month_ends_where_the_next_begins(at: datetime) -> None:
    begin = partitions.month(at)
    assert begin <= at < partitions.after(begin)
    assert partitions.after(begin).day == 1
    assert partitions.month_of("scores", partitions.name("scores", begin)) == begin


def test_months_are_made_as_rows_need_them_and_go_as_a_whole(store: Store) -> None:
    native(store)
    store_scores(store, [scored(days, -DAY * days) for days in (0, 1, 40, 100)], FRESH)  # from March back
    assert months(store, "scores") == {"scores_2024_03", "scores_2024_01", "scores_2023_11"}
    deleted = prune(store, Retention(scores_days=33), T0)  # since 31 January: that month is cut, the one before dropped
    assert (deleted["scores"], deleted["counted"]) == (2, 2)
    assert months(store, "scores") == {"scores_2024_03", "scores_2024_01"}
    store_scores(store, [scored(7, -DAY * 100)], FRESH)  # late, into the month that was dropped
    assert faults(store) == []


def test_an_earlier_record_counts_however_many_months_ago_it_was(store: Store) -> None:
    store_scores(store, [scored(1, -100 * DAY, story="s")], FRESH)
    with store.write() as connection:
        row = {"id": "a1", "revision": 1, "source": "s", "content_hash": "x", "story_id": "s"}
        times = {"seen_at": scored(1, -100 * DAY).seen_at, "published_at": scored(1, -100 * DAY).published_at}
        connection.execute(sa.insert(partitions.registry), [{**row, **times}])
    store_scores(store, [scored(2, 0, story="s")], FRESH)
    c = schema.counted.c
    with store.read() as connection:
        assert dict(connection.execute(sa.select(c.id, c.first_story)).all()) == {"a1": True, "a2": False}


def test_the_first_schema_is_brought_here_with_what_it_holds() -> None:
    store = Store(services.postgres().database())
    native(store)
    with as_file(files("moodwire.store") / "migrations") as scripts, store.write() as connection:
        config = Config()
        config.set_main_option("script_location", str(scripts))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        text = "'', '', '', '', '', '', '', false, '', 'h'"
        columns = "source, url, title, body, language, story_id, tickers, replayed, date_note, content_hash"
        for id_, at in (("a", "2023-11-05"), ("b", "2024-03-01")):
            connection.exec_driver_sql(
                f"INSERT INTO articles (id, revision, published_at, seen_at, {columns}) "
                f"VALUES ('{id_}', 1, '{at}Z', '{at}Z', {text})"
            )
            connection.exec_driver_sql(
                f"INSERT INTO windows VALUES ('all', 60, '{at}Z', 1, 1, 1, 0, 0, 1, 1, 0, 0, -5, 1)"
            )
    store.upgrade()
    w = schema.windows.c
    with store.read() as connection:
        assert connection.execute(sa.select(schema.articles.c.id).order_by(schema.articles.c.seq)).scalars().all() == [
            "a",
            "b",
        ]
        assert connection.execute(sa.select(partitions.registry.c.id)).scalars().all() == ["a", "b"]
        lengths = connection.execute(sa.select(w.length_s, sa.func.count()).group_by(w.length_s)).all()
        assert dict(lengths) == {60: 2, 300: 2, 3600: 2, 86_400: 2}
    assert months(store, "articles") == {"articles_2023_11", "articles_2024_03"}
    store.close()


def test_two_classifiers_at_once_store_each_record_once(store: Store) -> None:
    """As after a rebalance, when the one before still works on what the next one has begun."""
    records = [scored(number, number % 600, story=f"s{number % 50}") for number in range(400)]
    other = Store(store.url.render_as_string(hide_password=False))

    def work(mine: Store, size: int) -> None:
        for at in range(0, len(records), size):
            store_scores(mine, records[at : at + size], FRESH)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, store, 60), pool.submit(work, other, 100)]:
            done.result()
    other.close()
    c = schema.counted.c
    with store.read() as connection:
        rows = connection.execute(sa.select(c.offset, c.first_story).order_by(c.offset)).all()
    assert [offset for offset, _ in rows] == list(range(400))
    assert [offset for offset, first in rows if first] == list(range(50))


def with_timescale(store: Store) -> None:
    with store.read() as connection:
        if not timescale.is_available(connection):
            pytest.skip("TimescaleDB is not installed in this PostgreSQL: its statements are NOT tested here")


def test_timescaledb_makes_and_drops_the_months_where_it_is(store: Store) -> None:
    with_timescale(store)
    with store.read() as connection:
        assert all(timescale.is_hypertable(connection, table) for table in partitions.TIMES)
    store_scores(store, [scored(days, -DAY * days) for days in (0, 1, 40, 100)], FRESH)
    prune(store, Retention(scores_days=33), T0)
    with store.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(schema.scores)).scalar_one() == 2


def test_what_timescaledb_packed_is_counted_and_added_to_as_ever(store: Store, tmp_path: Path) -> None:
    with_timescale(store)
    plain = Store(f"sqlite:///{tmp_path / 'plain.db'}")
    plain.upgrade()
    first = [scored(number, -DAY * number, story=f"s{number % 7}") for number in range(100)]
    # Doubles, a story's later copy and news of its own, all of months that are packed by then.
    late = [*first[40:60], *(scored(200 + number, -DAY * number - 60, story=f"s{number}") for number in range(50, 90))]
    for one in (store, plain):
        store_scores(one, first, FRESH)
        if one is store:
            with store.write() as connection:
                packed = "SELECT count(compress_chunk(chunk)) FROM show_chunks('counted') chunk"
                assert connection.exec_driver_sql(packed).scalar_one() >= 4
        store_scores(one, late, FRESH)
    keys = list(schema.counted.primary_key)
    rows = []
    for one in (store, plain):
        with one.read() as connection:
            rows.append(connection.execute(sa.select(schema.counted).order_by(*keys)).all())
    assert rows[0] == rows[1]
    prune(store, Retention(scores_days=33), T0)
    with store.read() as connection:
        least = connection.execute(sa.select(sa.func.min(schema.counted.c.start))).scalar_one()
    assert least >= T0 - timedelta(days=33)
    plain.close()


def test_a_timescaledb_that_packed_articles_and_scores_has_them_unpacked(store: Store) -> None:
    with_timescale(store)
    store_scores(store, [scored(days, -DAY * days) for days in (0, 40)], FRESH)
    with store.write() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE scores SET (timescaledb.compress, timescaledb.compress_orderby = 'seen_at')"
        )
        connection.exec_driver_sql("SELECT add_compression_policy('scores', INTERVAL '35 days')")
        connection.exec_driver_sql("SELECT compress_chunk(chunk) FROM show_chunks('scores') chunk")
        timescale.pack(connection)
        packed = "SELECT hypertable_name FROM timescaledb_information.jobs WHERE proc_name ~ 'compress'"
        assert connection.exec_driver_sql(packed).scalars().all() == ["counted"]
        still = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"
        assert connection.exec_driver_sql(still).scalar_one() == 0

"""The views, and the role that reads them."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

import moodwire
from moodwire.client import Client
from moodwire.errors import BadInput
from moodwire.store.articles import Draft, store_articles
from moodwire.store.db import Store
from moodwire.store.reader import VIEWS, make_reader
from moodwire.store.scores import store_scores
from moodwire.store.windows import store_windows
from tests import services
from tests.helpers import STORES, T0, after, scored
from trends.count import Totals, window_of


def fill(store: Store) -> None:
    draft = Draft("a0", "Wire", "https://x.example/a", "Title", "the body", "en", T0, after(1))
    store_articles(store, [draft], lambda new: new.id)
    store_scores(store, [scored(0, 0, series=("all", "entity:X"))], timedelta(hours=2))
    store_windows(store, [window_of(("all", T0), Totals(2, 1, 0, 0, 1, 0, 0, -7000))])


def test_the_views_say_what_the_tables_hold(store: Store) -> None:
    fill(store)
    with store.read() as connection:
        hourly = connection.execute(sa.text("select * from v_sentiment_hourly")).mappings().all()
        stories = connection.execute(sa.text("select * from v_stories order by series")).mappings().all()
        for view in VIEWS:
            connection.execute(sa.text(f"select * from {view}")).all()
    (row,) = hourly
    assert (row["series"], row["stories"], row["articles"], float(row["score"])) == ("all", 1, 2, -0.7)
    start = row["start"]
    assert (start if isinstance(start, str) else start.isoformat())[:13] == "2024-03-04T12"
    told = [(row["series"], row["title"], row["label"], float(row["score"])) for row in stories]
    assert told == [("all", "Title", "negative", -0.7), ("entity:X", "Title", "negative", -0.7)]


@pytest.fixture
def reader() -> Iterator[tuple[Store, str]]:
    """A store of PostgreSQL, and a name for a role that reads it; the role goes when the test ends."""
    name = f"reader_{services.free_port()}"
    store = Store(services.postgres().database())
    store.upgrade()
    fill(store)
    yield store, name
    with store.write() as connection:
        connection.exec_driver_sql(f"drop owned by {name}")
        connection.exec_driver_sql(f"drop role {name}")
    store.close()


def connected(store: Store, name: str, password: str) -> Client:
    url = store.url.set(username=name, password=password, drivername="postgresql")
    return moodwire.connect(url.render_as_string(hide_password=False))


def test_a_reader_of_an_older_schema_reads_on_after_the_upgrade(reader: tuple[Store, str]) -> None:
    store, name = reader
    password = make_reader(store, name)
    with store.write() as connection:  # as it was in 0012
        connection.exec_driver_sql(f"REVOKE SELECT ON registry FROM {name}")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0012_packed'")
    store.upgrade()
    with connected(store, name, password) as news:
        assert list(news.stories()["title"]) == ["Title"]


def test_a_reader_reads_news_and_nothing_else(reader: tuple[Store, str]) -> None:
    store, name = reader
    old = make_reader(store, name)
    password = make_reader(store, name)
    assert password != old, "a new one"
    with connected(store, name, password) as news:
        assert list(news.stories()["title"]) == ["Title"]
        assert news.sentiment("X", start=T0, end=T0 + timedelta(hours=1), as_of=store.now())["stories"].sum() == 1
        assert news.incidents().empty
    engine = sa.create_engine(store.url.set(username=name, password=password))
    refused = (
        "select body from articles",
        "select * from tokens",
        "select * from audit",
        "select * from deliveries",
        "delete from windows",
        "create table mine (a int)",
    )
    for statement in refused:
        with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError, match=r"permission denied|read-only"):
            connection.exec_driver_sql(statement)
    engine.dispose()
    with pytest.raises(BadInput, match="begins with a letter"):
        make_reader(store, 'x"; drop table articles; --')


def test_sqlite_has_no_roles(tmp_path: object) -> None:
    with pytest.raises(BadInput, match="has no roles"):
        make_reader(Store(STORES["sqlite"](tmp_path)), "ada")  # type: ignore[arg-type]

"""Dropping what is older than the configuration keeps."""

import sys
from datetime import datetime, timedelta

import sqlalchemy as sa

from moodwire.records import WINDOW_S
from moodwire.settings import Retention
from moodwire.store import partitions, schema, timescale
from moodwire.store.db import Store
from moodwire.store.windows import ROLLUPS_S

CHUNK = 5_000  # rows a transaction, so that no stage waits long


def prune(store: Store, keep: Retention, now: datetime, most: int = sys.maxsize) -> dict[str, int]:
    """Delete articles, scores and windows by their age; returns rows deleted by table.

    most: of a table at once, whole months aside; where so many went there may be more.
    """
    articles = now - timedelta(days=keep.articles_days)
    scores = now - timedelta(days=keep.scores_days)
    # An old item that a feed still lists would else come in anew each time.
    old_article = sa.and_(schema.articles.c.published_at < articles, schema.articles.c.seen_at < articles)
    w = schema.windows.c
    old_window = sa.and_(w.length_s.in_((WINDOW_S, *ROLLUPS_S)), w.start < scores)
    rules: list[tuple[sa.Table, sa.ColumnElement[bool], datetime]] = [
        (schema.articles, old_article, articles),
        (schema.entries, schema.entries.c.at < articles, articles),
        (schema.feed_days, schema.feed_days.c.day < articles, articles),
        (schema.scores, schema.scores.c.published_at < scores, scores),
        (schema.counted, sa.and_(schema.counted.c.series.in_(_series()), schema.counted.c.start < scores), scores),
        (schema.windows, old_window, scores),
        (schema.peaks, schema.peaks.c.at < scores, scores),
        (schema.expectations, schema.expectations.c.at < scores, scores),
    ]
    deleted = {}
    for table, old, limit in rules:
        dropped = 0
        if not store.sqlite and table.name in partitions.TIMES:
            with store.write() as connection:
                if timescale.is_hypertable(connection, table.name):
                    timescale.drop(connection, table.name, limit)
                dropped = partitions.drop_before(connection, table, limit, old)
        deleted[table.name] = dropped + _delete(store, table, old, most)
    if not store.sqlite:  # known for as long as anything of it is kept
        r, limit = partitions.registry.c, min(articles, scores)
        _delete(store, partitions.registry, sa.and_(r.published_at < limit, r.seen_at < limit), most)
    return deleted


def _series() -> sa.Select[tuple[str]]:
    """The names in `counted`, each found from the one before: its key begins with them, and its times alone have no
    index, so that to look for old rows by time only would go through the whole table while nobody else can write.
    """
    c = schema.counted.c
    names = sa.select(sa.func.min(c.series).label("name")).cte("names", recursive=True, nesting=True)
    following = sa.select(sa.func.min(c.series)).where(c.series > names.c.name).scalar_subquery()
    names = names.union_all(sa.select(following).where(names.c.name.is_not(None)))
    return sa.select(names.c.name).where(names.c.name.is_not(None))


def _delete(store: Store, table: sa.Table, old: sa.ColumnElement[bool], most: int) -> int:
    keys = list(table.primary_key)
    some = sa.select(*keys).where(old).limit(sa.bindparam("size"))
    delete = sa.delete(table).where(sa.tuple_(*keys).in_(some))
    deleted = 0
    while deleted < most:
        size = min(CHUNK, most - deleted)
        with store.write() as connection:
            count = connection.execute(delete, {"size": size}).rowcount
        deleted += count
        if count < size:
            break
    return deleted

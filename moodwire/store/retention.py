"""Dropping what is older than the configuration keeps."""

from datetime import datetime, timedelta

import sqlalchemy as sa

from moodwire.settings import Retention
from moodwire.store import schema
from moodwire.store.db import Store

CHUNK = 5_000  # rows a transaction, so that no stage waits long


def prune(store: Store, keep: Retention, now: datetime) -> dict[str, int]:
    """Delete articles, scores and windows by their age; returns rows deleted by table."""
    articles = now - timedelta(days=keep.articles_days)
    scores = now - timedelta(days=keep.scores_days)
    # An old item that a feed still lists would else come in anew each time.
    old_article = sa.and_(schema.articles.c.published_at < articles, schema.articles.c.seen_at < articles)
    rules: list[tuple[sa.Table, sa.ColumnElement[bool]]] = [
        (schema.articles, old_article),
        (schema.entries, schema.entries.c.at < articles),
        (schema.feed_days, schema.feed_days.c.day < articles),
        (schema.scores, schema.scores.c.published_at < scores),
        (schema.counted, schema.counted.c.start < scores),
        (schema.windows, schema.windows.c.start < scores),
        (schema.peaks, schema.peaks.c.at < scores),
        (schema.expectations, schema.expectations.c.at < scores),
    ]
    return {table.name: _delete(store, table, old) for table, old in rules}


def _delete(store: Store, table: sa.Table, old: sa.ColumnElement[bool]) -> int:
    keys = list(table.primary_key)
    some = sa.delete(table).where(sa.tuple_(*keys).in_(sa.select(*keys).where(old).limit(CHUNK)))
    deleted = 0
    while True:
        with store.write() as connection:
            count = connection.execute(some).rowcount
        deleted += count
        if count < CHUNK:
            return deleted

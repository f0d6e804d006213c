"""What has come since: scored articles and changes of incidents, in the order in which they were known."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from moodwire.records import Scored, decode
from moodwire.store import schema
from moodwire.store.db import Store

MANY = 500  # scored articles at once
SETTLE = timedelta(seconds=10)  # of several classifiers, one may write later what it knew before


class Place(NamedTuple):
    """Up to where one has been told."""

    known_at: datetime
    id: str
    revision: int
    alert: int  # sequence number


class ScoredArticle(NamedTuple):
    known_at: datetime
    record: Scored
    title: str
    url: str

    @property
    def key(self) -> tuple[datetime, str, int]:
        return (self.known_at, self.record.id, self.record.revision)


def place_now(store: Store) -> Place:
    """From here on only what is still to come is told."""
    with store.read() as connection:
        alert = connection.execute(sa.select(sa.func.max(schema.alerts.c.seq))).scalar()
    return Place(store.now(), "", 0, alert or 0)


def scored_after(store: Store, place: Place) -> list[ScoredArticle]:
    """At most MANY of them behind the place, in order.

    With several classifiers (PostgreSQL) also those known up to SETTLE before it, which may have been told already.
    """
    s = schema.scores.c
    order = (s.known_at, s.id, s.revision)
    values = (sa.literal(value, column.type) for value, column in zip(place[:3], order, strict=True))
    behind = sa.and_(s.known_at >= place.known_at, sa.tuple_(*order) > sa.tuple_(*values))
    with store.read() as connection:
        found = _rows(connection, behind, MANY)
        if not store.sqlite:
            late = sa.and_(s.known_at > place.known_at - SETTLE, s.known_at <= place.known_at, sa.not_(behind))
            found = [*_rows(connection, late, None), *found]
    return found


def _rows(connection: sa.Connection, wanted: sa.ColumnElement[bool], limit: int | None) -> list[ScoredArticle]:
    s, a = schema.scores.c, schema.articles.c
    query: sa.Select[Any] = (
        sa.select(s.known_at, s.record, a.title, a.url)
        .join_from(schema.scores, schema.articles, sa.and_(a.id == s.id, a.revision == s.revision))
        .where(wanted)
        .order_by(s.known_at, s.id, s.revision)
        .limit(limit)
    )
    found = []
    for known_at, data, title, url in connection.execute(query):
        record = decode(data)
        assert isinstance(record, Scored)
        found.append(ScoredArticle(known_at, record, title, url))
    return found

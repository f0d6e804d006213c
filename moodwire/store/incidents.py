"""Incidents, their alerts, and the outbox of messages."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from moodwire.records import Alert, Evidence, decode, encode
from moodwire.store import schema
from moodwire.store.db import Store, insert_absent, upsert
from moodwire.store.windows import Positions, save_positions, within

EVIDENCE = 6  # stories of an alert


class FreshCount(NamedTuple):
    series: str
    start: datetime
    stories: int
    negative: int


class Delivery(NamedTuple):
    """A message on its way."""

    key: str
    channel: str
    alert: Alert
    attempts: int
    created_at: datetime


def fresh_counts(store: Store, since: datetime, positions: Positions) -> list[FreshCount]:
    """Fresh stories by series and window, over articles up to and with the positions."""
    c = schema.counted.c
    counts = sa.and_(c.first_story, c.fresh)
    query = (
        sa.select(c.series, c.start, sa.func.count(), sa.func.count().filter(c.label == -1))
        .where(counts, c.start >= since, within(positions))
        .group_by(c.series, c.start)
    )
    with store.read() as connection:
        return [FreshCount(*row) for row in connection.execute(query)]


def incident_rows(store: Store, since: datetime) -> list[dict[str, Any]]:
    """Incidents that are open or ended after `since`, oldest first."""
    i = schema.incidents.c
    query = sa.select(schema.incidents).where(sa.or_(i.until.is_(None), i.until >= since)).order_by(i.since)
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def evidence(
    connection: sa.Connection, series: str, since: datetime, until: datetime, positions: Positions
) -> tuple[Evidence, ...]:
    """The negative stories of a series published in [since, until): most negative and most copied first."""
    c, a = schema.counted.c, schema.articles.c
    span = sa.and_(c.series == series, c.start >= since, c.start < until, within(positions))
    query = (
        sa.select(c.id, c.story_id, c.score_e4, a.title, a.url, a.source, a.published_at)
        .join_from(schema.counted, schema.articles, sa.and_(a.id == c.id, a.revision == c.revision))
        .where(span, c.first_story, c.label == -1)
    )
    rows = connection.execute(query).all()
    counts = sa.select(c.story_id, sa.func.count()).where(span, c.first_article).group_by(c.story_id)
    copies: dict[str, int] = {story: count for story, count in connection.execute(counts)}
    ranked = sorted(rows, key=lambda row: (row.score_e4 * (1 + copies.get(row.story_id, 1)) ** 0.5, row.id))
    return tuple(
        Evidence(
            story_id=row.story_id,
            article_id=row.id,
            title=row.title,
            url=row.url,
            source=row.source,
            published_at=row.published_at,
            score=row.score_e4 / 1e4,
            copies=copies.get(row.story_id, 1),
        )
        for row in ranked[:EVIDENCE]
    )


def store_alerts(
    connection: sa.Connection,
    alerts: Sequence[Alert],
    incidents: Sequence[Mapping[str, Any]],
    channels: Mapping[str, Sequence[str]],
    known_at: datetime,
    tick: tuple[str, datetime, Positions],
) -> None:
    """Changes of state, their messages and the tick that decided them, in the caller's transaction.

    channels: by incident, the names of the channels to tell.
    """
    rows = [
        {
            "incident_id": alert.incident_id,
            "state": alert.state,
            "rule": alert.rule,
            "series": alert.series,
            "at": alert.at,
            "record": encode(alert),
            "known_at": alert.at if alert.replayed else known_at,
        }
        for alert in alerts
    ]
    insert_absent(connection, schema.alerts, rows)
    upsert(connection, schema.incidents, [dict(row) for row in incidents])
    messages = [
        {
            "key": f"{alert.incident_id}/{alert.state}/{channel}",
            "channel": channel,
            "incident_id": alert.incident_id,
            "state": alert.state,
            "record": encode(alert),
            "status": "waiting",
            "attempts": 0,
            "next_at": known_at,
            "created_at": known_at,
            "delivered_at": None,
            "last_error": "",
        }
        for alert in alerts
        for channel in channels.get(alert.incident_id, ())
    ]
    insert_absent(connection, schema.deliveries, messages)
    save_positions(connection, *tick)


def alerts_after(store: Store, after: datetime) -> list[Alert]:
    """Alerts decided after a time, in order."""
    query = sa.select(schema.alerts.c.record).where(schema.alerts.c.at > after).order_by(schema.alerts.c.at)
    with store.read() as connection:
        return [_alert(data) for (data,) in connection.execute(query)]


def due_deliveries(store: Store, now: datetime, limit: int = 20) -> list[Delivery]:
    d = schema.deliveries.c
    query = (
        sa.select(d.key, d.channel, d.record, d.attempts, d.created_at)
        .where(d.status == "waiting", d.next_at <= now)
        .order_by(d.next_at)
        .limit(limit)
    )
    with store.read() as connection:
        return [
            Delivery(row.key, row.channel, _alert(row.record), row.attempts, row.created_at)
            for row in connection.execute(query)
        ]


def mark_delivery(
    store: Store, key: str, status: str, attempts: int, next_at: datetime, now: datetime, error: str
) -> None:
    """What became of a delivery; status: waiting, delivered or failed."""
    values = {
        "status": status,
        "attempts": attempts,
        "next_at": next_at,
        "delivered_at": now if status == "delivered" else None,
        "last_error": error,
    }
    with store.write() as connection:
        connection.execute(sa.update(schema.deliveries).where(schema.deliveries.c.key == key).values(**values))


def _alert(data: bytes) -> Alert:
    record = decode(data)
    assert isinstance(record, Alert)
    return record

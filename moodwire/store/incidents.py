"""Incidents, their alerts, what the channels have heard of them, and the outbox of messages."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from moodwire.records import Alert, Course, Evidence, decode, encode
from moodwire.store import schema
from moodwire.store.db import Store, insert_absent, upsert
from moodwire.store.windows import Positions, within

EVIDENCE = 6  # stories of an alert
EARLIER = 300  # stories of a series that its new ones are told from
EARLIER_DAYS = 14
COURSE_STEPS = 24
COURSE_WINDOWS = 4  # the course of a series goes back so many windows
MOST_SOURCES = 10


class FreshCount(NamedTuple):
    series: str
    start: datetime
    stories: int
    negative: int


class FreshStory(NamedTuple):
    """A story that counts for a series, by its first record there."""

    story_id: str
    id: str
    start: datetime  # of its 60 s window
    label: int  # -1 negative, 0 neutral, 1 positive
    score_e4: int
    sources: frozenset[str]  # that carried it in the span that was asked for


class Surroundings(NamedTuple):
    """What else an alert tells of its window."""

    stories: tuple[Evidence, ...]
    sources: tuple[str, ...]
    share: float | None
    titles: tuple[str, ...]  # of all the stories that speak for it
    earlier: tuple[str, ...]  # titles of the series' stories before
    course: Course


class Notice(NamedTuple):
    """What a channel has to hear of an incident, and has heard."""

    channel: str
    alert: Alert  # the latest change
    changed_at: datetime
    told: int  # the number of the change last told; 0: none
    told_at: datetime | None


class SilenceRow(NamedTuple):
    id: int
    matchers: tuple[str, ...]
    starts_at: datetime
    ends_at: datetime
    by: str
    reason: str


class Delivery(NamedTuple):
    """A message on its way."""

    key: str
    channel: str
    record: bytes
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


def fresh_stories(
    connection: sa.Connection, series: str, since: datetime, until: datetime, positions: Positions
) -> list[FreshStory]:
    """A series' fresh stories in [since, until), each with the sources that carried it there."""
    c, a = schema.counted.c, schema.articles.c
    span = sa.and_(c.series == series, c.start >= since, c.start < until, c.fresh, within(positions))
    carried: dict[str, set[str]] = {}
    query = (
        sa.select(c.story_id, a.source)
        .join_from(schema.counted, schema.articles, sa.and_(a.id == c.id, a.revision == c.revision))
        .where(span)
    )
    for story, source in connection.execute(query):
        carried.setdefault(story, set()).add(source)
    first = sa.select(c.story_id, c.id, c.start, c.label, c.score_e4).where(span, c.first_story)
    return [
        FreshStory(*row, frozenset(carried.get(row.story_id, ()))) for row in connection.execute(first.order_by(c.id))
    ]


def incident_rows(store: Store, since: datetime) -> list[dict[str, Any]]:
    """Incidents that are open or ended after `since`, oldest first."""
    i = schema.incidents.c
    query = sa.select(schema.incidents).where(sa.or_(i.until.is_(None), i.until >= since)).order_by(i.since)
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def surroundings(
    connection: sa.Connection,
    series: str,
    since: datetime,
    until: datetime,
    positions: Positions,
    story_ids: Collection[str] | None = None,
) -> Surroundings:
    """What speaks for an alert about a series' fresh stories in [since, until): the negative ones, or those given.

    The stories are ranked most negative and most copied first.
    """
    c, a = schema.counted.c, schema.articles.c
    joined = schema.counted.join(schema.articles, sa.and_(a.id == c.id, a.revision == c.revision))
    known = sa.and_(c.series == series, within(positions))
    span = sa.and_(known, c.start >= since, c.start < until)
    query = (
        sa.select(c.id, c.story_id, c.label, c.score_e4, a.title, a.url, a.source, a.published_at)
        .select_from(joined)
        .where(span, c.first_story, c.fresh)
    )
    rows = connection.execute(query).all()
    spoken = [row for row in rows if (row.label == -1 if story_ids is None else row.story_id in story_ids)]
    stories = {row.story_id for row in spoken}
    copies: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    articles = sa.select(c.story_id, a.source).select_from(joined).where(span, c.first_article)
    for story, source in connection.execute(articles):
        if story in stories:
            copies[story] += 1
            sources[source] += 1
    ranked = sorted(spoken, key=lambda row: (row.score_e4 * (1 + max(copies[row.story_id], 1)) ** 0.5, row.id))
    before = (
        sa.select(a.title)
        .select_from(joined)
        .where(known, c.start >= since - timedelta(days=EARLIER_DAYS), c.start < since, c.first_story)
        .order_by(c.start.desc(), c.id)
        .limit(EARLIER)
    )
    return Surroundings(
        stories=tuple(
            Evidence(
                story_id=row.story_id,
                article_id=row.id,
                title=row.title,
                url=row.url,
                source=row.source,
                published_at=row.published_at,
                score=row.score_e4 / 1e4,
                copies=max(copies[row.story_id], 1),
            )
            for row in ranked[:EVIDENCE]
        ),
        sources=tuple(sorted(sources, key=lambda source: (-sources[source], source))[:MOST_SOURCES]),
        share=sum(row.label == -1 for row in rows) / len(rows) if rows else None,
        titles=tuple(row.title for row in ranked),
        earlier=tuple(connection.execute(before).scalars()),
        course=_course(connection, known, until, until - since),
    )


def _course(connection: sa.Connection, known: sa.ColumnElement[bool], until: datetime, window: timedelta) -> Course:
    c = schema.counted.c
    step_s = max(round(window.total_seconds() * COURSE_WINDOWS / COURSE_STEPS), 60)
    start = until - timedelta(seconds=step_s * COURSE_STEPS)
    query = sa.select(c.start).where(known, c.start >= start, c.start < until, c.first_story, c.fresh, c.label == -1)
    counts = [0] * COURSE_STEPS
    for at in connection.execute(query).scalars():
        counts[int((at - start).total_seconds() // step_s)] += 1
    return Course(start=start, step_s=step_s, negative=tuple(counts))


def store_alerts(
    connection: sa.Connection,
    alerts: Sequence[Alert],
    incidents: Iterable[Mapping[str, Any]],
    channels: Mapping[str, Sequence[str]],
    known_at: datetime,
    now: datetime,
    keep_pending: bool = False,
) -> None:
    """Changes of state, and the notices of whom they are to be told to, in the caller's transaction.

    incidents: their rows; stored ones that are pending are forgotten before, unless told to be kept.
    channels: by incident, the names of the channels to tell. now: by the clock that the outbox goes by.
    """
    rows = [
        {
            "incident_id": alert.incident_id,
            "number": alert.number,
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
    if not keep_pending:
        connection.execute(sa.delete(schema.incidents).where(schema.incidents.c.state == "pending"))
    upsert(connection, schema.incidents, [dict(row) for row in incidents])
    n = schema.notices.c
    for alert in alerts:
        change = {"number": alert.number, "changed_at": now}
        for channel in channels.get(alert.incident_id, ()):
            row = {"channel": channel, "incident_id": alert.incident_id, "told": 0, "told_at": None, **change}
            insert_absent(connection, schema.notices, [row])
        # Who has heard of it hears how it goes on, whatever the configuration says by now.
        connection.execute(
            sa.update(schema.notices)
            .where(n.incident_id == alert.incident_id, n.number < alert.number)
            .values(**change)
        )


def alerts_after(store: Store, seq: int, limit: int | None = None) -> list[tuple[int, Alert]]:
    """Alerts stored after the one of this sequence number, in order, with theirs."""
    a = schema.alerts.c
    with store.read() as connection:
        rows = connection.execute(sa.select(a.seq, a.record).where(a.seq > seq).order_by(a.seq).limit(limit)).all()
    return [(row.seq, alert_of(row.record)) for row in rows]


def last_alert(connection: sa.Connection, incident_id: str) -> Alert | None:
    a = schema.alerts.c
    query = sa.select(a.record).where(a.incident_id == incident_id).order_by(a.number.desc()).limit(1)
    data = connection.execute(query).scalar()
    return None if data is None else alert_of(data)


def notices(connection: sa.Connection) -> list[Notice]:
    """What the channels have heard, or have to hear, of the incidents that are not over and told."""
    n, a = schema.notices.c, schema.alerts.c
    query = (
        sa.select(n.channel, a.record, n.changed_at, n.told, n.told_at)
        .join_from(schema.notices, schema.alerts, sa.and_(a.incident_id == n.incident_id, a.number == n.number))
        .order_by(n.channel, n.incident_id)
    )
    return [Notice(row[0], alert_of(row[1]), *row[2:]) for row in connection.execute(query)]


def post(
    connection: sa.Connection, channel: str, key: str, record: bytes, told: Sequence[Alert], now: datetime
) -> None:
    """A message for a channel, and that it has then heard of these changes, in the caller's transaction."""
    row = {
        "key": key,
        "channel": channel,
        "incidents": "\n".join(alert.incident_id for alert in told),
        "record": record,
        "status": "waiting",
        "attempts": 0,
        "next_at": now,
        "created_at": now,
        "delivered_at": None,
        "last_error": "",
    }
    insert_absent(connection, schema.deliveries, [row])
    n = schema.notices.c
    for alert in told:
        same = sa.and_(n.channel == channel, n.incident_id == alert.incident_id)
        if alert.state == "resolved":
            connection.execute(sa.delete(schema.notices).where(same))
        else:
            connection.execute(sa.update(schema.notices).where(same).values(told=alert.number, told_at=now))


def forget_notice(connection: sa.Connection, channel: str, incident_id: str) -> None:
    """There is nothing to tell: it was over before the channel heard of it."""
    n = schema.notices.c
    connection.execute(sa.delete(schema.notices).where(n.channel == channel, n.incident_id == incident_id))


def silences(connection: sa.Connection, now: datetime) -> list[SilenceRow]:
    """Those that are not over."""
    s = schema.silences.c
    query = sa.select(schema.silences).where(s.ends_at > now).order_by(s.id)
    return [
        SilenceRow(row.id, tuple(row.matchers.split("\n")), row.starts_at, row.ends_at, row.by, row.reason)
        for row in connection.execute(query)
    ]


def due_deliveries(store: Store, channel: str, now: datetime, limit: int = 20) -> list[Delivery]:
    """The least tried come first: a message that nobody takes does not hold up those behind it."""
    d = schema.deliveries.c
    query = (
        sa.select(d.key, d.channel, d.record, d.attempts, d.created_at)
        .where(d.channel == channel, d.status == "waiting", d.next_at <= now)
        .order_by(d.attempts, d.next_at, d.key)
        .limit(limit)
    )
    with store.read() as connection:
        return [Delivery(*row) for row in connection.execute(query)]


def fail_deliveries(store: Store, channels: Collection[str], reason: str) -> None:
    """Nothing can be sent to channels other than these."""
    d = schema.deliveries.c
    lost = sa.and_(d.status == "waiting", d.channel.not_in(list(channels)))
    with store.write() as connection:
        connection.execute(sa.update(schema.deliveries).where(lost).values(status="failed", last_error=reason))


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


def alert_of(data: bytes) -> Alert:
    """The alert in a row of `alerts`."""
    record = decode(data)
    assert isinstance(record, Alert)
    return record

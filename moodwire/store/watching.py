"""What the pages ask beside charts: whether anything changed, how the parts are doing, incidents with all they left."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import pandas as pd
import sqlalchemy as sa

from moodwire.matchers import match, parse
from moodwire.records import WINDOW_S, Alert, Scored, decode, floor_time
from moodwire.store import queries, schema
from moodwire.store.db import Store
from moodwire.store.incidents import SilenceRow, alert_of, silences

HOUR_S = 3600
SCORE_BINS = 20  # of [-1, 1]


class _Told(msgspec.Struct):
    incident_id: str
    change: str = "fires"  # what is as usual is not written


class _Sent(msgspec.Struct):
    """What is read of a message."""

    alerts: list[_Told] = []
    repeat: bool = False


class Sending(NamedTuple):
    """A message about an incident, and what became of it."""

    channel: str
    changes: tuple[str, ...]  # of the incident, that it tells
    repeat: bool
    status: str  # waiting, delivered, failed
    attempts: int
    created_at: datetime
    delivered_at: datetime | None
    next_at: datetime
    last_error: str


class IncidentFile(NamedTuple):
    """All that an incident left."""

    row: Mapping[str, Any]  # of `incidents`
    alerts: list[Alert]  # its changes of state, oldest first
    comments: list[Any]  # rows: at, by, text
    deliveries: list[Sending]
    silences: list[SilenceRow]  # that are for it and not over


def mark(store: Store) -> str:
    """A text that changes when there is something new to show; cheap enough to ask several times a second."""
    t, a, d, c = schema.ticks.c, schema.articles.c, schema.deliveries.c, schema.commands.c
    with store.read() as connection:
        trends = connection.execute(sa.select(t.positions).where(t.name == "trends")).scalar()
        newest = connection.execute(sa.select(sa.func.max(schema.alerts.c.seq))).scalar()
        sent = connection.execute(sa.select(sa.func.count()).where(d.status == "waiting")).scalar()
        asked = connection.execute(sa.select(sa.func.max(c.seq))).scalar()
        undone = connection.execute(sa.select(sa.func.count(), sa.func.max(c.result)).where(c.done_at.is_(None))).one()
        done = connection.execute(sa.select(sa.func.max(schema.audit.c.seq))).scalar()
        label = connection.execute(sa.select(sa.func.max(schema.labels.c.seq))).scalar()
        article = None if trends else connection.execute(sa.select(sa.func.max(a.seq))).scalar()
    return f"{trends} {article} {newest} {sent} {asked} {undone} {label} {done}"


def incidents(
    store: Store,
    series: str | None,
    start: datetime | None,
    end: datetime | None,
    limit: int | None,
    state: str | None = None,
    before: tuple[datetime, str] | None = None,
) -> pd.DataFrame:
    """One row an incident, newest first, with the figures and reason of its first alarm.

    before: since and id of one; only those behind it.
    """
    i, a = schema.incidents.c, schema.alerts.c
    query = (
        sa.select(i.incident_id, i.rule, i.series, i.state, i.since, i.until, a.record)
        .join_from(
            schema.incidents,
            schema.alerts,
            sa.and_(a.incident_id == i.incident_id, a.number == 1),
            isouter=True,
        )
        .order_by(i.since.desc(), i.incident_id)
        .limit(limit)
    )
    if series:
        query = query.where(i.series == series)
    if start is not None:  # it lasted into the span
        query = query.where(sa.or_(i.until.is_(None), i.until >= start))
    if end is not None:
        query = query.where(i.since < end)
    if state:
        query = query.where(i.state == state)
    if before is not None:
        since, id_ = before
        query = query.where(sa.or_(i.since < since, sa.and_(i.since == since, i.incident_id > id_)))
    frame = queries.fetch(store, query)
    found = [alert_of(data) if data else None for data in frame.pop("record")]
    frame["observed"] = [alert.observed if alert else None for alert in found]
    frame["expected"] = [alert.expected if alert else None for alert in found]
    frame["log10_tail"] = [alert.log10_tail if alert else None for alert in found]
    frame["reason"] = [alert.reason if alert else "" for alert in found]
    return frame


def incident(store: Store, incident_id: str, now: datetime) -> IncidentFile | None:
    i, a, c, d = schema.incidents.c, schema.alerts.c, schema.comments.c, schema.deliveries.c
    changes = sa.select(a.record).where(a.incident_id == incident_id).order_by(a.number)
    said = sa.select(c.at, c.by, c.text).where(c.incident_id == incident_id).order_by(c.id)
    columns = ("channel", "status", "attempts", "created_at", "delivered_at", "next_at", "last_error", "record")
    lines = "\n" + d.incidents + "\n"
    sent = sa.select(*(d[name] for name in columns)).where(lines.contains(f"\n{incident_id}\n", autoescape=True))
    with store.read() as connection:
        row = connection.execute(sa.select(schema.incidents).where(i.incident_id == incident_id)).mappings().first()
        if row is None:
            return None
        alerts = [alert_of(data) for data in connection.execute(changes).scalars()]
        comments = list(connection.execute(said).all())
        messages = connection.execute(sent.order_by(d.created_at, d.key)).mappings().all()
        held = silences(connection, now)
    labels = {"rule": row["rule"], "series": row["series"], "severity": alerts[-1].severity if alerts else ""}
    return IncidentFile(
        dict(row),
        alerts,
        comments,
        [_sending(incident_id, dict(message)) for message in messages],
        [each for each in held if match(map(parse, each.matchers), labels)],
    )


def _sending(incident_id: str, message: Mapping[str, Any]) -> Sending:
    said = msgspec.json.decode(message["record"], type=_Sent)
    changes = tuple(alert.change for alert in said.alerts if alert.incident_id == incident_id)
    fate = {name: message[name] for name in message if name != "record"}
    return Sending(changes=changes, repeat=said.repeat, **fate)


def scored_of(store: Store, id_: str, revision: int) -> Scored | None:
    """What was first made of an article."""
    s = schema.scores.c
    query = sa.select(s.record).where(s.id == id_, s.revision == revision).order_by(s.known_at, s.model).limit(1)
    with store.ask() as connection:
        data = connection.execute(query).scalar()
    record = None if data is None else decode(data)
    assert record is None or isinstance(record, Scored)
    return record


def usual(store: Store, start: datetime, end: datetime, series: str | None = None) -> dict[str, float]:
    """By series, or of one: the mean score of the stories published in a span, of whole hours."""
    found = queries.story_sums(store, floor_time(start, HOUR_S), floor_time(end, HOUR_S), HOUR_S, series)
    return {name: total / count / 1e4 for name, (count, total) in found.items() if count >= queries.COMPARABLE}


def begun(store: Store, series: str) -> datetime | None:
    """The first window of a series."""
    w = schema.windows.c
    with store.ask() as connection:
        query = sa.select(w.start).where(w.series == series, w.length_s == WINDOW_S).order_by(w.start).limit(1)
        return connection.execute(query).scalar()


def revised(store: Store, series: str, start: datetime, end: datetime, freq_s: int) -> pd.DataFrame:
    """Stories by the time they tell of that came too late to be fresh: columns start, stories."""
    w = schema.windows.c
    length_s = queries.longest_in(freq_s)
    late = sa.func.sum(w.stories - w.fresh_stories)
    query = (
        sa.select(queries.bin_of(store, w.start, freq_s).label("bin"), late.label("stories"))
        .where(w.series == series, w.length_s == length_s, w.start >= floor_time(start, length_s), w.start < end)
        .group_by("bin")
        .having(late > 0)
        .order_by("bin")
    )
    rows = queries.fetch(store, query)
    times = pd.to_datetime(rows["bin"].astype("int64") * freq_s, unit="s", utc=True)
    return pd.DataFrame({"start": times, "stories": rows["stories"].astype("int64")})


def supply(store: Store, now: datetime) -> dict[str, tuple[int, datetime]]:
    """By source, of those heard of in the last 30 days: articles of the last 24 hours, and when the newest was seen."""
    a = schema.articles.c
    source = queries.each(a.source).c.value

    def since(what: Any, days: int) -> Any:
        return sa.select(what).where(a.source == source, a.published_at >= now - timedelta(days=days)).scalar_subquery()

    query = sa.select(source, since(sa.func.count(), 1), since(sa.func.max(a.seen_at), 30))
    with store.ask() as connection:
        return {source: (count, last) for source, count, last in connection.execute(query) if last is not None}


def score_shares(store: Store, start: datetime, end: datetime) -> pd.DataFrame:
    """How many scores of each model fall in each of SCORE_BINS parts of [-1, 1]: columns model, bin, count."""
    s = schema.scores.c
    part = (s.score + 1) * (SCORE_BINS / 2)
    raw = sa.cast(part if store.sqlite else sa.func.floor(part), sa.Integer)  # SQLite cuts off, PostgreSQL rounds
    query = (
        sa.select(s.model, raw.label("bin"), sa.func.count().label("count"))
        .where(s.published_at >= start, s.published_at < end)
        .group_by(s.model, "bin")
    )
    frame = queries.fetch(store, query)
    frame["bin"] = frame["bin"].astype("int64").clip(0, SCORE_BINS - 1)
    return frame.groupby(["model", "bin"], as_index=False)["count"].sum()


def sources(store: Store) -> list[str]:
    """The names under which articles came in."""
    a = schema.articles.c
    with store.ask() as connection:
        return list(connection.execute(sa.select(queries.each(a.source).c.value)).scalars())

"""What the alarms learn and keep with each tick: peaks for the calibration, and what was expected."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from moodwire.records import WINDOW_S
from moodwire.store import queries, schema
from moodwire.store.db import Store, upsert
from moodwire.store.incidents import alert_of


class PeakRow(NamedTuple):
    rule: str
    at: datetime
    series: str
    window_s: int
    score: float


class Expectation(NamedTuple):
    """What a rule expected of a series in the windows that end at `at`."""

    series: str
    rule: str
    at: datetime
    by_window: Sequence[tuple[int, float, int]]  # length in s, expected, threshold


class Expected(NamedTuple):
    """Of the window that ends at `at`: negative stories expected, and from which count on the rule would fire."""

    rule: str
    window_s: int
    at: datetime
    expected: float
    threshold: int


def store_learnt(connection: sa.Connection, peaks: Sequence[PeakRow], expectations: Sequence[Expectation]) -> None:
    """In the transaction of the tick."""
    upsert(connection, schema.peaks, [row._asdict() for row in peaks])
    rows = [{**each._asdict(), "by_window": msgspec.json.encode(each.by_window).decode()} for each in expectations]
    upsert(connection, schema.expectations, rows)


def load_peaks(store: Store, since: datetime) -> list[PeakRow]:
    p = schema.peaks.c
    query = sa.select(p.rule, p.at, p.series, p.window_s, p.score).where(p.at >= since)
    with store.ask() as connection:
        return [PeakRow(*row) for row in connection.execute(query)]


def firing_windows(store: Store, since: datetime) -> dict[tuple[str, str, datetime], int]:
    """By rule, series and begin of each incident that fired after `since` or is open: the window that it came from."""
    a, i = schema.alerts.c, schema.incidents.c
    known = sa.select(i.incident_id).where(sa.or_(i.until.is_(None), i.until >= since))
    query = sa.select(a.record).where(a.state == "firing", a.incident_id.in_(known)).order_by(a.at)
    found: dict[tuple[str, str, datetime], int] = {}
    with store.ask() as connection:
        for (data,) in connection.execute(query):
            alert = alert_of(data)
            found.setdefault((alert.rule, alert.series, alert.since), alert.window_s)
    return found


_by_window = msgspec.json.Decoder(list[tuple[int, float, int]])


class FreshStory(NamedTuple):
    """A fresh story's part in one series."""

    seen_at: datetime
    series: str
    start: datetime  # of its window
    negative: bool


def fresh_stories(store: Store, since: datetime, until: datetime, fresh: timedelta) -> list[FreshStory]:
    """Fresh stories seen in [since, until), in the order in which they were seen; fresh: within this of publication."""
    c, a = schema.counted.c, schema.articles.c
    query = sa.select(a.seen_at, c.series, c.start, c.label == -1).where(c.first_story)
    with store.ask() as connection:
        return [FreshStory(*row) for row in connection.execute(_fresh(query, ["*"], since, until, fresh))]


class FreshCopy(NamedTuple):
    """A fresh article's part in one series."""

    seen_at: datetime
    series: str
    start: datetime  # of its window
    story_id: str
    source: str
    label: int  # -1 negative, 0 neutral, 1 positive
    score_e4: int
    first_story: bool  # the one by which the story counts


def fresh_copies(
    store: Store, patterns: Collection[str], since: datetime, until: datetime, fresh: timedelta
) -> list[FreshCopy]:
    """Fresh articles seen in [since, until), in that order, of the series that rules name so: `all`, `entity:*`."""
    c, a = schema.counted.c, schema.articles.c
    columns = (a.seen_at, c.series, c.start, c.story_id, a.source, c.label, c.score_e4, c.first_story)
    with store.ask() as connection:
        rows = connection.execute(_fresh(sa.select(*columns), patterns, since, until, fresh))
        return [FreshCopy(*row) for row in rows]


def _fresh(
    query: sa.Select[Any], patterns: Collection[str], since: datetime, until: datetime, fresh: timedelta
) -> sa.Select[Any]:
    c, a, name = schema.counted.c, schema.articles.c, queries.each(schema.counted.c.series).c.value
    wanted = [
        name.startswith(pattern[:-1], autoescape=True) if pattern.endswith("*") else name == pattern
        for pattern in patterns
    ]
    begin = since - fresh
    return (
        query.join_from(schema.counted, schema.articles, sa.and_(a.id == c.id, a.revision == c.revision))
        .where(c.series.in_(sa.select(name).where(sa.or_(*wanted))))
        .where(c.start >= begin - timedelta(seconds=WINDOW_S), a.published_at >= begin)
        .where(c.fresh, a.seen_at >= since, a.seen_at < until)
        .order_by(a.seen_at, c.partition, c.offset, c.series)
    )


def expected(store: Store, series: str, since: datetime, until: datetime) -> list[Expected]:
    """What the rules expected of a series in [since, until), oldest first."""
    e = schema.expectations.c
    query = (
        sa.select(e.rule, e.at, e.by_window)
        .where(e.series == series, e.at >= since, e.at < until)
        .order_by(e.at, e.rule)
    )
    with store.ask() as connection:
        rows = connection.execute(query).all()
    return [
        Expected(rule, window_s, at, value, threshold)
        for rule, at, data in rows
        for window_s, value, threshold in sorted(_by_window.decode(data))
    ]

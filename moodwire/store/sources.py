"""How sources and hosts are doing, as ingest writes it and `moodwire sources`, `status` and the alarms read it."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from moodwire.records import floor_time
from moodwire.store import schema
from moodwire.store.bulk import Columns
from moodwire.store.db import Store, add_up, upsert

DAY_S = 86_400


class Fetch(NamedTuple):
    """That a source was asked."""

    source: str
    at: datetime
    good: bool
    took_s: float = 0.0


class Day(NamedTuple):
    """What a source did on a day."""

    day: datetime
    fetches: int
    failures: int
    took_ms: int
    items: int


class Silent(NamedTuple):
    """A source from which nothing comes: an incident of its own kind for as long as it is listed."""

    source: str
    since: datetime
    reason: str


def count_fetch(connection: sa.Connection, fetch: Fetch) -> None:
    took_ms = round(fetch.took_s * 1000) if fetch.good else 0
    columns: Columns = {
        "source": [fetch.source],
        "day": [floor_time(fetch.at, DAY_S)],
        "fetches": [1],
        "failures": [int(not fetch.good)],
        "took_ms": [took_ms],
    }
    add_up(connection, schema.feed_days, columns)


def count_items(connection: sa.Connection, source: str, at: datetime, items: int) -> None:
    add_up(connection, schema.feed_days, {"source": [source], "day": [floor_time(at, DAY_S)], "items": [items]})


def days_of(store: Store, since: datetime) -> dict[str, list[Day]]:
    """By source: its days from `since` on, in order."""
    d = schema.feed_days.c
    found: defaultdict[str, list[Day]] = defaultdict(list)
    with store.ask() as connection:
        for source, *day in connection.execute(sa.select(schema.feed_days).where(d.day >= since).order_by(d.day)):
            found[source].append(Day(*day))
    return dict(found)


def set_silences(store: Store, reasons: Mapping[str, str], now: datetime) -> None:
    """By source: why it counts as silent now, empty if it does not. A silence that goes on keeps its beginning."""
    f = schema.feeds.c
    with store.write() as connection:
        for source, reason in reasons.items():
            since = sa.func.coalesce(f.silent_since, sa.literal(now, schema.UtcTime())) if reason else None
            connection.execute(
                sa.update(schema.feeds).where(f.source == source).values(silent_since=since, silence=reason)
            )


def failing_sources(store: Store) -> list[str]:
    """The sources that could not be fetched when last tried, those that failed most often first."""
    f = schema.feeds.c
    query = sa.select(f.source).where(f.failures > 0).order_by(f.failures.desc(), f.source)
    with store.ask() as connection:
        return list(connection.execute(query).scalars())


def silent_sources(store: Store) -> list[Silent]:
    """The sources that are silent now, the longest silent first."""
    f = schema.feeds.c
    query = sa.select(f.source, f.silent_since, f.silence).where(f.silent_since.is_not(None)).order_by(f.silent_since)
    with store.ask() as connection:
        return [Silent(*row) for row in connection.execute(query)]


def hosts_in_trouble(store: Store) -> list[Mapping[str, Any]]:
    """The rows of `hosts`."""
    with store.ask() as connection:
        return [dict(row) for row in connection.execute(sa.select(schema.hosts)).mappings()]


def save_host(store: Store, host: Mapping[str, Any]) -> None:
    """Keep a host in trouble; one without failures is forgotten."""
    with store.write() as connection:
        if host["failures"]:
            upsert(connection, schema.hosts, [dict(host)])
        else:
            connection.execute(sa.delete(schema.hosts).where(schema.hosts.c.origin == host["origin"]))

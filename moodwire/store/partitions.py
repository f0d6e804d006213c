"""The big tables of PostgreSQL stand in partitions by month, so that old ones go at once; and what that asks for.

A partitioned table's key must hold its time, so what is unique is kept in a small table beside: `registry`.
SQLite knows nothing of this. Where TimescaleDB is, it makes the partitions (timescale.py).
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import sqlalchemy as sa

from moodwire.records import EPOCH
from moodwire.store.schema import UtcTime

TIMES = {"articles": "seen_at", "scores": "seen_at", "counted": "start"}  # by table, the column that decides the month

# Which articles there ever were: id and revision, wherever the article itself stands.
registry = sa.Table(
    "registry",
    sa.MetaData(),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("content_hash", sa.String, nullable=False),
    sa.Column("story_id", sa.String, nullable=False),
    sa.Column("seen_at", UtcTime, nullable=False),
    sa.Column("published_at", UtcTime, nullable=False),
    sa.Index("registry_story", "story_id"),
)


def month(time: datetime) -> datetime:
    time = time.astimezone(UTC)
    return datetime(time.year, time.month, 1, tzinfo=UTC)


def after(month_: datetime) -> datetime:
    """The month after."""
    return datetime(month_.year + month_.month // 12, month_.month % 12 + 1, 1, tzinfo=UTC)


def name(table: str, month_: datetime) -> str:
    return f"{table}_{month_:%Y_%m}"


def month_of(table: str, partition: str) -> datetime:
    return datetime.strptime(partition.removeprefix(f"{table}_"), "%Y_%m").replace(tzinfo=UTC)


def make(connection: sa.Connection, table: str, month_: datetime) -> None:
    connection.exec_driver_sql(
        f'CREATE TABLE IF NOT EXISTS "{name(table, month_)}" PARTITION OF "{table}" '
        f"FOR VALUES FROM ('{month_.isoformat()}') TO ('{after(month_).isoformat()}')"
    )


def partitions(connection: sa.Connection, table: str) -> set[str]:
    """The names of a table's partitions; none where it is not partitioned by us."""
    query = sa.text(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname = :name AND p.relkind = 'p' "
        "AND p.relnamespace = current_schema()::regnamespace"
    )
    return set(connection.execute(query, {"name": table}).scalars())


def seen_in(
    connection: sa.Connection, start: datetime, end: datetime, now: datetime
) -> list[tuple[datetime, datetime]]:
    """The months in which articles were seen that were published from start to end: begin and end of each.

    None is seen before it is published (`ingest.clean.date`); late ones may be seen in any month since.
    """
    begins = [month(max(start, EPOCH))]
    while begins[-1] <= now:  # and one behind it: a machine's clock may be ahead
        begins.append(after(begins[-1]))
    query = sa.text(
        "SELECT month.begin "
        "FROM unnest(CAST(:begins AS timestamptz[]), CAST(:ends AS timestamptz[])) month(begin, past) "
        "CROSS JOIN LATERAL (SELECT FROM articles WHERE published_at >= :start AND published_at < :end "
        "AND seen_at >= month.begin AND seen_at < month.past LIMIT 1) there"
    )
    given = {"begins": begins, "ends": [after(begin) for begin in begins], "start": start, "end": end}
    return [(month(begin), after(month(begin))) for begin in connection.execute(query, given).scalars()]


def is_partitioned(connection: sa.Connection, table: str) -> bool:
    query = sa.text("SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(:name)")
    return bool(connection.execute(query, {"name": table}).scalar())


def missing(connection: sa.Connection, table: str, times: Iterable[datetime]) -> list[datetime]:
    """The months that rows of these times need and that are not there; none where we do not partition."""
    needed = {month(time) for time in times}
    there = partitions(connection, table)
    new = sorted(one for one in needed if name(table, one) not in there)
    return new if new and is_partitioned(connection, table) else []


def drop_before(connection: sa.Connection, table: sa.Table, limit: datetime, old: sa.ColumnElement[bool]) -> int:
    """Drop the months that end before the limit and hold only rows that are old; returns the rows that went."""
    time = table.c[TIMES[table.name]]
    gone = 0
    for partition in partitions(connection, table.name):
        begin = month_of(table.name, partition)
        if after(begin) > limit:
            continue
        span = sa.and_(time >= begin, time < after(begin))
        young = sa.func.count().filter(sa.not_(old))
        count, kept = connection.execute(sa.select(sa.func.count(), young).where(span)).one()
        if not kept:
            connection.exec_driver_sql(f'DROP TABLE "{partition}"')
            gone += count
    return gone

"""What trends reads of the counted articles, and the windows it keeps."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from moodwire.records import Window, micros
from moodwire.store import schema
from moodwire.store.db import Store, upsert

Key = tuple[str, datetime]  # series, start of the window
Positions = Mapping[int, int]  # partition -> offset in `articles`, inclusive


class Counted(NamedTuple):
    """One article's part in one window."""

    series: str
    start: datetime
    partition: int
    offset: int
    label: int  # -1 negative, 0 neutral, 1 positive
    score_e4: int
    fresh: bool
    first_article: bool
    first_story: bool


class Totals(NamedTuple):
    """The integers of a window; adding articles adds to them."""

    articles: int = 0
    negative: int = 0
    neutral: int = 0
    positive: int = 0
    fresh_negative: int = 0
    fresh_neutral: int = 0
    fresh_positive: int = 0
    score_sum_e4: int = 0


def totals_until(connection: sa.Connection, keys: Collection[Key], consumed: Positions) -> dict[Key, Totals]:
    """The totals of windows over articles up to and with the consumed positions."""
    c = schema.counted.c
    story = c.first_story

    def stories(label: int, *more: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.count().filter(story, c.label == label, *more)

    touched = _touched(connection, keys)
    query = (
        sa.select(
            c.series,
            c.start,
            sa.func.count().filter(c.first_article),
            stories(-1),
            stories(0),
            stories(1),
            stories(-1, c.fresh),
            stories(0, c.fresh),
            stories(1, c.fresh),
            sa.func.coalesce(sa.func.sum(c.score_e4).filter(story), 0),
        )
        .join_from(touched, schema.counted, _same(touched))
        .where(within(consumed))
        .group_by(c.series, c.start)
    )
    return {(series, start): Totals(*numbers) for series, start, *numbers in connection.execute(query)}


def counted_between(
    connection: sa.Connection, keys: Collection[Key], after: Positions, until: Positions
) -> list[Counted]:
    """What counts for the windows from behind the positions `after` up to and with `until`."""
    c = schema.counted.c
    touched = _touched(connection, keys)
    query = (
        sa.select(*(c[name] for name in Counted._fields))
        .join_from(touched, schema.counted, _same(touched))
        .where(within(until), sa.not_(within(after)))
    )
    return [Counted(*row) for row in connection.execute(query)]


def within(positions: Positions) -> sa.ColumnElement[bool]:
    """Whether a row of `counted` stands at or before the positions."""
    c = schema.counted.c
    return sa.or_(
        sa.false(), *(sa.and_(c.partition == partition, c.offset <= offset) for partition, offset in positions.items())
    )


def store_windows(store: Store, windows: Sequence[Window]) -> None:
    """Keep each window's newest revision."""
    rows = [msgspec.structs.asdict(window) for window in windows]  # the table's columns are the record's fields
    with store.write() as connection:
        upsert(connection, schema.windows, rows, newer=schema.windows.c.revision)


def load_positions(store: Store, name: str) -> tuple[datetime | None, dict[int, int]]:
    """The last tick and the positions in `articles` that stage `name` has finished with."""
    query = sa.select(schema.ticks.c.at, schema.ticks.c.positions).where(schema.ticks.c.name == name)
    with store.read() as connection:
        row = connection.execute(query).first()
    return (row[0], msgspec.json.decode(row[1], type=dict[int, int])) if row else (None, {})


def save_positions(connection: sa.Connection, name: str, at: datetime, positions: Positions) -> None:
    row = {"name": name, "at": at, "positions": msgspec.json.encode(dict(positions)).decode()}
    upsert(connection, schema.ticks, [row])


def _touched(connection: sa.Connection, keys: Collection[Key]) -> sa.FromClause:
    """The windows as a table of two columns, passed as one parameter however many they are."""
    if connection.dialect.name == "sqlite":
        listed = msgspec.json.encode([(series, micros(start)) for series, start in keys]).decode()
        each = sa.func.json_each(listed).table_valued("value")
        series = sa.func.json_extract(each.c.value, "$[0]").label("series")
        return sa.select(series, sa.func.json_extract(each.c.value, "$[1]").label("start")).subquery("touched")
    names = sa.cast([series for series, _ in keys], ARRAY(sa.String))
    starts = sa.cast([start for _, start in keys], ARRAY(sa.DateTime(timezone=True)))
    return sa.func.unnest(names, starts).table_valued("series", "start").render_derived("touched")


def _same(touched: sa.FromClause) -> sa.ColumnElement[bool]:
    c = schema.counted.c
    return sa.and_(c.series == touched.c.series, c.start == touched.c.start)

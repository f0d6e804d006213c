"""What trends reads of the counted articles, and the windows it keeps."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import repeat
from operator import sub
from typing import Any, NamedTuple

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from moodwire.records import WINDOW_S, Window, from_micros, micros
from moodwire.store import schema
from moodwire.store.db import Store, add_up, upsert, upsert_columns

ROLLUPS_S = (300, 3600, 86_400)  # windows that are kept beside those of 60 s; each a multiple of the one before
_KEYS = 3  # of a window's fields: series, start and length; the others are sums
_SUMS = Window.__struct_fields__[_KEYS:]
Key = tuple[str, datetime]  # series, start of the window
Positions = Mapping[int, int]  # partition -> offset in `articles`, inclusive


class Counted(NamedTuple):
    """One article's part in one window: that of its publication."""

    series: str
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


def window_of(key: Key, totals: Totals) -> Window:
    return Window(
        series=key[0],
        start=key[1],
        length_s=WINDOW_S,
        articles=totals.articles,
        stories=totals.negative + totals.neutral + totals.positive,
        negative=totals.negative,
        neutral=totals.neutral,
        positive=totals.positive,
        fresh_stories=totals.fresh_negative + totals.fresh_neutral + totals.fresh_positive,
        fresh_negative=totals.fresh_negative,
        fresh_neutral=totals.fresh_neutral,
        fresh_positive=totals.fresh_positive,
        score_sum_e4=totals.score_sum_e4,
        revision=totals.articles,
    )


def totals_until(connection: sa.Connection, keys: Collection[Key], consumed: Positions) -> dict[Key, Totals]:
    """The totals of windows over articles up to and with the consumed positions."""
    return _totals(connection, _touched(connection, keys), consumed)


def _totals(connection: sa.Connection, touched: sa.FromClause, consumed: Positions) -> dict[Key, Totals]:
    c = schema.counted.c
    query = (
        sa.select(c.series, c.start, *counts())
        .join_from(touched, schema.counted, _same(touched))
        .where(within(consumed))
        .group_by(c.series, c.start)
    )
    return {(series, start): Totals(*numbers) for series, start, *numbers in connection.execute(query).all()}


def held(connection: sa.Connection, keys: Collection[Key]) -> dict[Key, tuple[int, ...]]:
    """The numbers of the stored windows of 60 s among these, the revision last."""
    if not keys:
        return {}
    w = schema.windows.c
    touched = _touched(connection, keys)
    same = sa.and_(w.series == touched.c.series, w.start == touched.c.start, w.length_s == WINDOW_S)
    # An outer join, and a condition that does not show that it could be an inner one: SQLite may begin that with all
    # windows, and look through the touched ones for each.
    query = (
        sa.select(w.series, w.start, *(w[name] for name in _SUMS))
        .join_from(touched, schema.windows, same, isouter=True)
        .where(sa.func.coalesce(w.revision, -1) >= 0)
    )
    return {(series, start): tuple(sums) for series, start, *sums in connection.execute(query).all()}


def counts() -> list[sa.ColumnElement[int]]:
    """The totals of a group of rows of `counted`, in the order of `Totals`."""
    c = schema.counted.c
    story = c.first_story

    def stories(label: int, *more: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.count().filter(story, c.label == label, *more)

    return [
        sa.func.count().filter(c.first_article),
        stories(-1),
        stories(0),
        stories(1),
        stories(-1, c.fresh),
        stories(0, c.fresh),
        stories(1, c.fresh),
        sa.func.coalesce(sa.func.sum(c.score_e4).filter(story), 0),
    ]


def totals_and_counted(
    connection: sa.Connection, keys: Collection[Key], after: Positions, until: Positions
) -> tuple[dict[Key, Totals], list[Counted]]:
    """The totals of windows at the positions `after`, and what counts for them behind these, up to and with `until`."""
    c = schema.counted.c
    touched = _touched(connection, keys)
    # As the driver gives them: making booleans of 0 and 1 takes as long as to read the row, and they are only added.
    truths = [sa.type_coerce(column, sa.Integer) for column in (c.fresh, c.first_article, c.first_story)]
    query = (
        sa.select(c.series, c.partition, c.offset, c.label, c.score_e4, *truths)
        .join_from(touched, schema.counted, _same(touched))
        .where(within(until), sa.not_(within(after)))
    )
    return _totals(connection, touched, after), list(map(Counted._make, connection.execute(query).all()))


def within(positions: Positions) -> sa.ColumnElement[bool]:
    """Whether a row of `counted` stands at or before the positions."""
    c = schema.counted.c
    return sa.or_(
        sa.false(), *(sa.and_(c.partition == partition, c.offset <= offset) for partition, offset in positions.items())
    )


def store_windows(store: Store, windows: Sequence[Window]) -> None:
    """Keep each window's newest revision (here the last), and add what it changes to the longer windows it lies in.

    In one transaction, so the difference from what is held is just what the longer windows lack. One that retention has
    dropped begins again with what is added.
    """
    if not windows:
        return
    newest = {(window.series, window.start): window for window in windows}
    # By key: neighbours in the table are written together, and what lies in one longer window stands together.
    rows = {key: msgspec.structs.astuple(newest[key]) for key in sorted(newest)}
    with store.write() as connection:
        stored = held(connection, rows)
        # The table's columns are the record's fields.
        columns = dict(zip(Window.__struct_fields__, zip(*rows.values(), strict=True), strict=True))
        upsert_columns(connection, schema.windows, columns, newer=schema.windows.c.revision)
        added: dict[Key, tuple[int, ...]] = {}
        for key, row in rows.items():
            sums, before = row[_KEYS:], stored.get(key)
            if before is None:
                added[key] = sums
            elif sums[-1] >= before[-1]:  # the revision
                added[key] = tuple(map(sub, sums, before))
        _roll_up(connection, added)


def _roll_up(connection: sa.Connection, added: Mapping[Key, tuple[int, ...]]) -> None:
    """Add to the longer windows what was added to those of 60 s, which come by key; a length sums up the one below."""
    if not added:
        return
    series = np.array([name for name, _ in added], object)
    starts = np.array([micros(start) for _, start in added])
    sums = np.array(list(added.values()))
    longer: list[tuple[Any, ...]] = []
    for length_s in ROLLUPS_S:
        starts = starts - starts % (length_s * 1_000_000)
        begins = np.flatnonzero(np.r_[True, (series[1:] != series[:-1]) | (starts[1:] != starts[:-1])])
        series, starts, sums = series[begins], starts[begins], np.add.reduceat(sums, begins)
        longer += zip(series, repeat(length_s), map(cache(from_micros), starts.tolist()), *sums.T.tolist())
    names = ("series", "length_s", "start", *_SUMS)
    add_up(connection, schema.windows, dict(zip(names, zip(*longer, strict=True), strict=True)))


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
        times = {start: micros(start) for start in {start for _, start in keys}}
        listed = msgspec.json.encode([(series, times[start]) for series, start in keys]).decode()
        each = sa.func.json_each(listed).table_valued("value")
        series = sa.func.json_extract(each.c.value, "$[0]").label("series")
        return sa.select(series, sa.func.json_extract(each.c.value, "$[1]").label("start")).subquery("touched")
    names = sa.cast([series for series, _ in keys], ARRAY(sa.String))
    starts = sa.cast([start for _, start in keys], ARRAY(sa.DateTime(timezone=True)))
    return sa.func.unnest(names, starts).table_valued("series", "start").render_derived("touched")


def _same(touched: sa.FromClause) -> sa.ColumnElement[bool]:
    c = schema.counted.c
    return sa.and_(c.series == touched.c.series, c.start == touched.c.start)

"""The questions of analysts, put to a store: the API and the client ask these, so that both give the same answers."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

import msgspec
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from moodwire import symbology, tables
from moodwire.errors import BadInput
from moodwire.licence import shown
from moodwire.records import floor_time, from_micros, micros
from moodwire.settings import Display
from moodwire.store import queries, schema, watching
from moodwire.store.db import Store
from moodwire.store.find import Filter, course, page

WEEK = timedelta(days=7)
COMPARED = 6  # series in one question, at most
POINTS = 20_000  # spans of one series, at most
LONGEST_S = 3660 * 86_400  # of a span: ten years
PAGE = 1000  # rows of a page, at most
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Text = Annotated[str, msgspec.Meta(max_length=400, pattern=r"^[^\x00]*$")]
_FREQ = re.compile(r"([1-9][0-9]{0,5})(min|h|d)")
_UNIT_S = {"min": 60, "h": 3600, "d": 86_400}


class Page(NamedTuple):
    table: pa.Table
    next: str | None  # the cursor that the next page begins at; None: there is none


def freq_seconds(text: str) -> int:
    """Of `15min`, `1h`, `1d`. Raises BadInput."""
    found = _FREQ.fullmatch(text.strip().lower())
    if found is None:
        raise BadInput(f"{text!r} is no length of time; give whole minutes, hours or days: 15min, 1h, 1d")
    seconds = int(found.group(1)) * _UNIT_S[found.group(2)]
    if seconds > LONGEST_S:
        raise BadInput(f"spans of {text} are too long; at most {LONGEST_S // 86_400}d")
    return seconds


def series_name(text: str) -> str:
    """`AAPL` is short for `entity:AAPL`; all else stands as it is."""
    return text if text == "all" or ":" in text else f"entity:{text}"


def span(
    start: datetime | None, end: datetime | None, as_of: datetime | None, now: datetime
) -> tuple[datetime, datetime]:
    """The week before now, or before `as_of`, where nothing else is said. Raises BadInput."""
    until = end or as_of or now
    begin = start or until - WEEK
    if begin >= until:
        raise BadInput(f"the span must end after it starts: {begin.isoformat()} to {until.isoformat()}")
    return begin, until


def sentiment(
    store: Store,
    series: Sequence[str],
    freq: str,
    start: datetime,
    end: datetime,
    as_of: datetime | None = None,
) -> pa.Table:
    """Columns of SENTIMENT: the course of each series by spans of `freq`, without gaps.

    Spans are counted from 1970 and whole: the first is the one that `start` falls in, the last holds what is before
    `end`. as_of: counted anew from the scores that were known then; exact for times more than 10 s ago.
    Raises BadInput for a freq that cannot be read and for more than POINTS spans or COMPARED series.
    """
    freq_s = freq_seconds(freq)
    begin, last = floor_time(start, freq_s), end - timedelta(microseconds=1)
    until = floor_time(last, freq_s) + timedelta(seconds=freq_s)
    if (until - begin).total_seconds() / freq_s > POINTS:
        raise BadInput(f"more than {POINTS} spans of {freq}: ask for longer ones, or for less time")
    if len(series) > COMPARED:
        raise BadInput(f"{len(series)} series; at most {COMPARED} in one question")
    found = []
    for name in series:
        frame = course(store, series_name(name), begin, until - timedelta(microseconds=1), freq_s, as_of)
        found.append(tables.SENTIMENT.of(frame.assign(series=name)))
    return tables.in_order(found, tables.SENTIMENT)


def stories(
    store: Store,
    wanted: Filter,
    start: datetime | None = None,
    end: datetime | None = None,
    as_of: datetime | None = None,
    limit: int = PAGE,
    cursor: str | None = None,
) -> Page:
    """Columns of STORIES, newest first by the minute of publication. Raises BadInput for a cursor not of ours."""
    before = None
    if cursor is not None:
        start_us, partition, offset = _opened(cursor, tuple[Whole, Whole, Whole])
        before = (_time(start_us), partition, offset)
    frame = page(store, wanted, start, end, limit + 1, before, as_of)
    frame = frame.sort_values([*queries.PLACE], ascending=False, ignore_index=True)
    return _cut(frame, tables.STORIES, limit, lambda last: [_us(last["start"]), last["partition"], last["offset"]])


def article(store: Store, id_: str, displays: Mapping[str, Display]) -> pa.Table:
    """Columns of ARTICLES: each revision of an article, the first first; none where it is not known."""
    a = schema.articles.c
    frame = queries.fetch(store, sa.select(schema.articles).where(a.id == id_).order_by(a.revision))
    allowed: list[Display] = [displays.get(source, "full") for source in frame["source"]]
    texts = [shown(body, display) for body, display in zip(frame["body"], allowed, strict=True)]
    return tables.ARTICLES.of(frame.assign(text=texts, display=allowed))


def incidents(
    store: Store,
    series: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    state: str | None = None,
    limit: int = PAGE,
    cursor: str | None = None,
) -> Page:
    """Columns of INCIDENTS, newest first: those that lasted into the span. Raises BadInput for a cursor not of ours."""
    before = None
    if cursor is not None:
        since_us, id_ = _opened(cursor, tuple[Whole, Text])
        before = (_time(since_us), id_)
    name = series_name(series) if series else None
    frame = watching.incidents(store, name, start, end, limit + 1, state, before)
    return _cut(frame, tables.INCIDENTS, limit, lambda last: [_us(last["since"]), last["incident_id"]])


def series(store: Store, now: datetime, length: timedelta) -> pa.Table:
    """Columns of SERIES: those with stories in the last two spans of this length, by name."""
    frame = queries.overview(store, now, length).sort_values("series", ignore_index=True)
    return tables.SERIES.of(frame)


def entities(store: Store, now: datetime, length: timedelta, names: Mapping[str, str]) -> pa.Table:
    """Columns of ENTITIES_NOW, by symbol; names: of the watchlist's companies, by symbol."""
    frame = queries.overview(store, now, length)
    frame = frame[frame["series"].str.startswith("entity:")].sort_values("series", ignore_index=True)
    symbols = [name.removeprefix("entity:") for name in frame["series"]]
    own = symbology.companies()
    known = [names.get(symbol) or (own[symbol].name if symbol in own else "") for symbol in symbols]
    return tables.ENTITIES_NOW.of(frame.assign(symbol=symbols, name=known))


def sources(store: Store, now: datetime, displays: Mapping[str, str]) -> pa.Table:
    """Columns of SOURCES, by name; displays: how much of its text may be shown, by source."""
    came = watching.supply(store, now)
    feeds = {row.source: row for row in queries.feeds(store).itertuples()}
    rows = []
    for name in sorted({*came, *feeds, *watching.sources(store), *displays}):
        feed = feeds.get(name)
        count, seen = came.get(name, (0, None))
        rows.append(
            {
                "source": name,
                "articles_day": count,
                "seen_at": seen,
                "failures": feed.failures if feed else 0,
                "error": feed.error if feed and feed.failures else "",
                "silent_since": feed.silent_since if feed else None,
                "display": displays.get(name, "full"),
            }
        )
    return tables.SOURCES.of(pd.DataFrame(rows, columns=tables.SOURCES.schema.names))


def trail(store: Store, limit: int, cursor: str | None) -> Page:
    """Columns of TRAIL, the newest first. Raises BadInput for a cursor not of ours."""
    frame = queries.trail(store, limit + 1, None if cursor is None else _opened(cursor, tuple[Whole])[0])
    return _cut(frame, tables.TRAIL, limit, lambda last: [last["seq"]])


def parts(table: pa.Table, key: str, limit: int, cursor: str | None) -> Page:
    """A page of a table that is in the order of a column of texts, each there once. Raises BadInput."""
    after = "" if cursor is None else _opened(cursor, tuple[Text])[0]
    names = table[key].to_pylist()
    begin = sum(name <= after for name in names) if cursor is not None else 0
    rest = len(names) - begin
    following = packed([names[begin + limit - 1]]) if rest > limit else None
    return Page(table.slice(begin, limit), following)


def whole(ask: Callable[[int, str | None], Page], columns: tables.Columns, limit: int | None) -> pa.Table:
    """All pages, up to so many rows; ask: for the page of a size that begins at a cursor."""
    return tables.in_order(_pages(ask, limit), columns)


def _pages(ask: Callable[[int, str | None], Page], limit: int | None) -> Iterator[pa.Table]:
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        found = ask(PAGE if left is None else min(PAGE, left), cursor)
        yield found.table
        cursor = found.next
        left = None if left is None else left - found.table.num_rows
        if cursor is None:
            return


def version(store: Store) -> str:
    """The schema's, as the store says; empty where it is no store of moodwire's."""
    try:
        with store.read() as connection:
            return str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() or "")
    except Exception:  # each database has its own error for a table that is not there
        return ""


def _cut(frame: pd.DataFrame, columns: tables.Columns, limit: int, place: Callable[[Any], list[Any]]) -> Page:
    """The first `limit` rows, and the place of the last of them if there are more."""
    rows = frame.head(limit)
    return Page(columns.of(rows), packed(place(rows.iloc[-1])) if len(frame) > limit else None)


def packed(place: Sequence[Any]) -> str:
    """A place as text that may stand in an address."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place, enc_hook=int)).rstrip(b"=").decode()


def unpacked(text: str, kind: Any) -> Any:
    """A place out of its text. Raises ValueError."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{error}") from error


def _opened(cursor: str, kind: Any) -> Any:
    try:
        return unpacked(cursor, kind)
    except ValueError as error:
        raise BadInput(f"{cursor!r} is no cursor of this question; take the one that the page before gave") from error


def _us(time: pd.Timestamp) -> int:
    return micros(time.to_pydatetime())


def _time(value_us: int) -> datetime:
    try:
        return from_micros(value_us)
    except OverflowError as error:
        raise BadInput("no cursor of this question; take the one that the page before gave") from error


def utc(time: datetime) -> datetime:
    """A time without a zone is UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)

"""The tables that analysts get, with what each column means, and the forms they are written in.

The same columns come from a store, from the API and from `moodwire query`; the API's documents are made from them.
"""

import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec
import pandas as pd
import pyarrow as pa
from pyarrow import ipc, parquet

from moodwire.csvfile import csv_of

Format = Literal["json", "csv", "parquet", "arrow"]
MEDIA: dict[str, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}

TIME = pa.timestamp("us", tz="UTC")
ENTITIES = pa.list_(pa.struct([("symbol", pa.string()), ("score", pa.float64())]))


class Column(NamedTuple):
    name: str
    type: pa.DataType
    what: str  # with its unit
    example: Any
    nullable: bool = False


class Columns(NamedTuple):
    """The columns of a table, in order."""

    name: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(
            [pa.field(c.name, c.type, nullable=c.nullable, metadata={"what": c.what}) for c in self.columns]
        )

    def of(self, frame: pd.DataFrame) -> pa.Table:
        """A frame that holds the columns, and maybe others, as a table."""
        values = [_array(frame[column.name], column.type) for column in self.columns]
        return pa.Table.from_arrays(values, schema=self.schema)

    def example(self) -> dict[str, Any]:
        return {column.name: column.example for column in self.columns}


_SERIES = Column("series", pa.string(), "`all`, `topic:X`, `entity:Y`, `group:Z`", "entity:AAPL")
_SCORE = "P(positive) − P(negative), from −1 to 1"

SENTIMENT = Columns(
    "Sentiment",
    (
        _SERIES._replace(what="as it was asked for"),
        Column("start", TIME, "begin of the span, UTC, by time of publication", "2026-03-02T14:00:00Z"),
        Column("score", pa.float64(), f"mean of the stories' scores ({_SCORE}); null without stories", -0.31, True),
        Column("stories", pa.int64(), "stories published in the span: copies count once", 12),
        Column("negative", pa.int64(), "of these, negative", 6),
        Column("neutral", pa.int64(), "of these, neutral", 4),
        Column("positive", pa.int64(), "of these, positive", 2),
        Column("articles", pa.int64(), "articles, copies too; of crossed series, stories", 19),
    ),
)
STORIES = Columns(
    "Stories",
    (
        Column("story_id", pa.string(), "the id of its first article", "3f9c0d5e"),
        Column("id", pa.string(), "of the article by which the story counts here", "3f9c0d5e"),
        Column("revision", pa.int64(), "of that article, from 1", 1),
        Column("source", pa.string(), "", "Wire"),
        Column("url", pa.string(), "as the source gave it: not to be trusted", "https://www.example.org/a"),
        Column("title", pa.string(), "as the source gave it: not to be trusted", "Acme recalls 40,000 cars"),
        Column("published_at", TIME, "UTC, as the source says, cleaned", "2026-03-02T14:03:11Z"),
        Column("seen_at", TIME, "UTC, when moodwire first had it", "2026-03-02T14:04:02Z"),
        Column("known_at", TIME, "UTC, when its score was in the store", "2026-03-02T14:04:03Z"),
        Column("language", pa.string(), "ISO 639-1, empty if unknown", "en"),
        Column("label", pa.string(), "towards the series: negative, neutral or positive", "negative"),
        Column("score", pa.float64(), f"towards the series: {_SCORE}", -0.71),
        Column("p_negative", pa.float64(), "of the whole text, from 0 to 1; the three add up to 1", 0.78),
        Column("p_neutral", pa.float64(), "of the whole text", 0.15),
        Column("p_positive", pa.float64(), "of the whole text", 0.07),
        Column("topic", pa.string(), "the most probable; empty if none is", "product-recall"),
        Column("p_topic", pa.float64(), "its probability, from 0 to 1", 0.91),
        Column(
            "entities", ENTITIES, "companies named, with the score towards each", [{"symbol": "ACME", "score": -0.8}]
        ),
        Column("copies", pa.int64(), "articles of the story, this one among them", 3),
    ),
)
ARTICLES = Columns(
    "Article",
    (
        *(c for c in STORIES.columns if c.name in {"story_id", "id", "revision", "source", "url", "title"}),
        Column("text", pa.string(), "as much of it as the source's licence lets us show", "Acme recalls …"),
        Column("display", pa.string(), "how much that is: title (nothing), excerpt or full", "excerpt"),
        *(c for c in STORIES.columns if c.name in {"published_at", "seen_at", "language"}),
    ),
)
INCIDENTS = Columns(
    "Incidents",
    (
        Column("incident_id", pa.string(), "", "companies/entity:ACME/1772460060"),
        Column("rule", pa.string(), "", "companies"),
        _SERIES,
        Column("state", pa.string(), "pending, firing, acknowledged or resolved", "firing"),
        Column("since", TIME, "UTC", "2026-03-02T14:01:00Z"),
        Column("until", TIME, "UTC; null while it goes on", None, True),
        Column("observed", pa.int64(), "what its first alarm counted; null while it is pending", 9, True),
        Column("expected", pa.float64(), "what the baseline expected then", 0.6, True),
        Column("log10_tail", pa.float64(), "log10 of the probability of so many by chance", -8.2, True),
        Column("reason", pa.string(), "in words", "9 where 0.6 are expected"),
    ),
)
SERIES = Columns(
    "Series",
    (
        _SERIES,
        Column("score", pa.float64(), f"mean of the stories of the span ({_SCORE})", -0.12, True),
        Column("change", pa.float64(), "against the span before; null where that had fewer than 5 stories", -0.2, True),
        Column("stories", pa.int64(), "in the span", 40),
        Column("negative", pa.int64(), "of these, negative", 17),
    ),
)
ENTITIES_NOW = Columns(
    "Entities",
    (
        Column("symbol", pa.string(), "", "ACME"),
        Column(
            "name", pa.string(), "as the watchlist or moodwire's own list has it; empty if neither does", "Acme Corp"
        ),
        *(column for column in SERIES.columns if column.name != "series"),
    ),
)
SOURCES = Columns(
    "Sources",
    (
        Column("source", pa.string(), "", "Wire"),
        Column("articles_day", pa.int64(), "published in the last 24 hours", 212),
        Column("seen_at", TIME, "UTC, when its newest article came; null if none did in 30 days", None, True),
        Column("failures", pa.int64(), "fetches failed in a row", 0),
        Column("error", pa.string(), "of the last fetch, if it failed", ""),
        Column("silent_since", TIME, "UTC; null where it is not silent", None, True),
        Column("display", pa.string(), "how much of a text may be shown: title, excerpt or full", "full"),
    ),
)

TRAIL = Columns(
    "Trail",
    (
        Column("seq", pa.int64(), "in the order in which it was done", 17),
        Column("at", TIME, "UTC", "2026-03-02T14:05:00Z"),
        Column("by", pa.string(), "a token's name, or who was named; empty where nobody was logged in", "ada"),
        Column("what", pa.string(), "", "acknowledge"),
        Column("about", pa.string(), "", "companies/entity:ACME/1772460060"),
    ),
)


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Times as datetimes; no value, NaN among them, as None."""
    rows: list[dict[str, Any]] = table.to_pylist()
    return [{name: None if value != value else value for name, value in row.items()} for row in rows]


def write(table: pa.Table, form: str) -> bytes:
    """The table in one of the forms of MEDIA; JSON is a list of rows. Raises KeyError for another form."""
    return {"json": _json, "csv": _csv, "parquet": _parquet, "arrow": _arrow}[form](table)


def read_arrow(data: bytes) -> pa.Table:
    """What `write(…, "arrow")` wrote."""
    with ipc.open_stream(data) as reader:
        return reader.read_all()


def plain_table(frame: pd.DataFrame) -> pa.Table:
    """Any frame as a table; what Arrow has no kind for (a list of mixed things) goes as JSON."""
    whole = frame.copy()
    for name in whole.columns:
        try:
            pa.array(whole[name], from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            whole[name] = [msgspec.json.encode(value).decode() for value in whole[name]]
    return pa.Table.from_pandas(whole, preserve_index=False)


def in_order(tables: Iterable[pa.Table], columns: Columns) -> pa.Table:
    """Tables of the same columns, one after the other."""
    return pa.concat_tables([columns.schema.empty_table(), *tables])


def _array(values: pd.Series, kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        times: Sequence[datetime | None] = [
            None if value is None or value is pd.NaT or value != value else pd.Timestamp(value).to_pydatetime()
            for value in values
        ]
        return pa.array(times, kind)
    if pa.types.is_nested(kind):
        return pa.array(list(values), kind)
    found = pa.array(values, from_pandas=True)
    return found if found.type == kind else found.cast(kind)


def _json(table: pa.Table) -> bytes:
    return msgspec.json.encode(rows_of(table))


def _csv(table: pa.Table) -> bytes:
    return csv_of(table.to_pandas()).encode()


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    parquet.write_table(table, out, compression="zstd")
    return out.getvalue()


def _arrow(table: pa.Table) -> bytes:
    out = io.BytesIO()
    with ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()

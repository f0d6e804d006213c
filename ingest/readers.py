"""News out of files: JSONL, CSV, JSON lists, StockNet's stream; plain or gzipped."""

import csv
import gzip
import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ingest.clean import Item
from moodwire.errors import BadInput
from moodwire.records import EPOCH

# Field names as they are found in the wild, the first one present counts.
FIELDS = {
    "title": ("title", "headline", "text"),
    "body": ("body", "content", "article"),
    "url": ("url", "link"),
    "guid": ("id", "guid"),
    "source": ("source", "publisher", "outlet"),
    "language": ("lang", "language"),
    "time": ("published_at", "published", "ts", "date_publish", "timestamp", "time", "date", "created_at"),
    "tickers": ("tickers", "ticker", "symbol"),
}


class Line(NamedTuple):
    """One record of a file: its number from 1, and the item or what is wrong with it."""

    number: int
    item: Item | None
    fault: str = ""
    excerpt: str = ""


def read(path: Path) -> Iterator[Line]:
    """The records of a file, in its order; lines of one item under several tickers become one.

    Raises BadInput where the file cannot be read at all.
    """
    try:
        yield from _merged(_lines(path))
    except (OSError, EOFError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error


def item_of(fields: dict[str, Any], default_source: str) -> Item:
    """Raises ValueError saying which field cannot be used."""

    def get(name: str) -> Any:
        return next((fields[key] for key in FIELDS[name] if fields.get(key) not in (None, "")), None)

    tickers = get("tickers") or ()
    if isinstance(tickers, str):
        tickers = tickers.replace(",", " ").split()
    return Item(
        source=str(get("source") or default_source)[:64],
        title=str(get("title") or ""),
        body=str(get("body") or ""),
        url=str(get("url") or ""),
        guid=str(get("guid") or ""),
        language=str(get("language") or ""),
        published_at=time_of(get("time")),
        tickers=tuple(str(ticker).lstrip("$").upper() for ticker in tickers),
    )


def time_of(value: Any) -> datetime | None:
    """A time in ISO 8601 (UTC where it names no zone) or in seconds since 1970; None for none. Raises ValueError."""
    if value in (None, ""):
        return None
    try:
        if isinstance(value, int | float) or str(value).replace(".", "", 1).isdigit():
            return datetime.fromtimestamp(float(value), UTC)
        found = datetime.fromisoformat(str(value).strip())
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"not a time: {str(value)[:60]!r} (ISO 8601 or seconds since 1970)") from error


def line_of(number: int, data: bytes, name: str) -> Line:
    """One line of a JSONL file."""
    try:
        fields = json.loads(data)
        if not isinstance(fields, dict):
            raise ValueError("not a JSON object")
        return Line(number, item_of(fields, name))
    except (ValueError, RecursionError) as error:
        return Line(number, None, str(error), data[:2048].decode("utf-8", "backslashreplace"))


def _lines(path: Path) -> Iterator[Line]:
    name = path.name.removesuffix(".gz")
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as raw:
        if name.endswith(".csv"):
            yield from _csv(raw, name)
        elif name.endswith(".json"):
            yield from _json(raw, name)
        else:
            for number, data in enumerate(raw, 1):
                if data.strip():
                    yield line_of(number, data, name)


def _json(raw: Any, name: str) -> Iterator[Line]:
    try:
        rows = json.loads(raw.read())
    except ValueError as error:
        raise BadInput(f"{name} is not JSON: {error}") from error
    if not isinstance(rows, list):
        raise BadInput(f"{name} holds no JSON list of articles")
    lines = [line_of(number, json.dumps(row).encode(), name) for number, row in enumerate(rows, 1)]
    # A list is in memory as a whole, so it can come in the order of its times.
    lines.sort(key=lambda line: (line.item.published_at if line.item else None) or EPOCH)
    for number, line in enumerate(lines, 1):
        yield line._replace(number=number)


def _csv(raw: Any, name: str) -> Iterator[Line]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="")
    for number, row in enumerate(csv.DictReader(text), 2):
        try:
            fields = {key.strip().lower(): value for key, value in row.items() if isinstance(key, str)}
            yield Line(number, item_of(fields, name))
        except ValueError as error:
            yield Line(number, None, str(error), str(row)[:2048])


def _merged(lines: Iterator[Line]) -> Iterator[Line]:
    """Consecutive lines of one id, title and time are one item under several tickers."""
    held: Line | None = None
    for line in lines:
        if held is not None and held.item is not None and line.item is not None and _same(held.item, line.item):
            tickers = dict.fromkeys((*held.item.tickers, *line.item.tickers))
            held = Line(line.number, held.item._replace(tickers=tuple(tickers)))
            continue
        if held is not None:
            yield held
        held = line
    if held is not None:
        yield held


def _same(a: Item, b: Item) -> bool:
    return a.guid != "" and a._replace(tickers=()) == b._replace(tickers=())

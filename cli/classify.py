"""`moodwire classify`: scores for the rows of a CSV or JSONL file."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from classifier.engine import Engine, Scores, open_engine
from classifier.entities import Watchlist
from classifier.labels import SENTIMENTS, TOPICS
from cli.replay import shown
from moodwire import symbology
from moodwire.errors import BadInput
from moodwire.settings import Settings

COLUMNS = (
    "sentiment",
    "p_negative",
    "p_neutral",
    "p_positive",
    "score",
    "topic",
    "p_topic",
    "entities",
    "model",
)
BATCH = 512


def run(settings: Settings, file: Path, text_column: str, entity_column: str | None, out: Path) -> int:
    """A row out for each row in, in order: its columns, then COLUMNS. Raises BadInput, ModelError."""
    engine = open_engine(settings.model.engine, threads=settings.model.threads or None)
    companies = settings.watchlist.companies
    watchlist = Watchlist(companies, symbology.companies().values())
    rows = read_rows(file, [text_column, *([entity_column] if entity_column else [])])
    count = 0
    with out.open("w", encoding="utf-8", newline="") as target, shown(Console(stderr=True)) as show:
        write = _writer(target, out)
        while batch := list(islice(rows, BATCH)):
            for row in _scored(engine, watchlist, batch, text_column, entity_column):
                write(row)
            count += len(batch)
            show(f"{count} rows scored")
    print(f"{count} rows scored by {engine.model} into {out}", file=sys.stderr)
    return 0


def _scored(
    engine: Engine, watchlist: Watchlist, rows: list[dict[str, Any]], text_column: str, entity_column: str | None
) -> Iterator[dict[str, Any]]:
    texts = [str(row[text_column] or "") for row in rows]
    mentions = [[m for m in watchlist.find(text) if m.start >= 0] for text in texts]
    spans = [[(m.start, m.end) for m in found] for found in mentions]
    if entity_column:
        asked = [str(row[entity_column] or "") for row in rows]
        places = [text.lower().find(name.lower()) if name else -1 for text, name in zip(texts, asked, strict=True)]
        spans = [
            [*own, (at, at + len(name))] if at >= 0 else own for own, at, name in zip(spans, places, asked, strict=True)
        ]
    for number, (row, found, result) in enumerate(zip(rows, mentions, engine.score(texts, spans), strict=True)):
        # Towards the entity asked for, where it stands in the text; else of the whole text.
        asked_for = entity_column is not None and places[number] >= 0
        yield {**row, **_columns(engine.model, found, result, asked_for)}


def _columns(model: str, mentions: list[Any], result: Scores, asked_for: bool) -> dict[str, Any]:
    triple = result.entities[-1] if asked_for else result.sentiment
    topic = max(range(len(TOPICS)), key=lambda i: result.topics[i])
    entities = [
        {"symbol": m.symbol, "surface": m.surface, "start": m.start, "end": m.end, "score": round(e[2] - e[0], 4)}
        for m, e, p in zip(mentions, result.entities, result.names, strict=False)
        if p >= m.least
    ]
    values = (
        SENTIMENTS[max(range(3), key=lambda i: triple[i])],
        *(round(p, 6) for p in triple),
        round(triple[2] - triple[0], 6),
        TOPICS[topic],
        round(result.topics[topic], 6),
        json.dumps(entities, ensure_ascii=False),
        model,
    )
    return dict(zip(COLUMNS, values, strict=True))


def read_rows(file: Path, needed: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of a CSV or JSONL file. Raises BadInput where it cannot be read or lacks a column that is needed."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            found = _jsonl(lines, file) if file.suffix in {".jsonl", ".ndjson"} else csv.DictReader(lines)
            for number, row in enumerate(found, 1):
                for name in needed:
                    if name not in row:
                        there = ", ".join(str(key) for key in row)
                        raise BadInput(f"{file}, row {number}: there is no column {name!r}; there are {there}")
                yield row
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error}") from error
    except csv.Error as error:
        raise BadInput(f"{file} is not CSV: {error}") from error


def _jsonl(lines: TextIO, file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{file}, line {number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise BadInput(f"{file}, line {number}: not a JSON object")
        yield row


def _writer(target: TextIO, out: Path) -> Any:
    if out.suffix in {".jsonl", ".ndjson"}:

        def write_json(row: dict[str, Any]) -> None:
            target.write(json.dumps({**row, "entities": json.loads(row["entities"])}, ensure_ascii=False) + "\n")

        return write_json
    writer: csv.DictWriter[str] | None = None

    def write_csv(row: dict[str, Any]) -> None:
        nonlocal writer
        if writer is None:
            writer = csv.DictWriter(target, [str(key) for key in row], extrasaction="ignore")
            writer.writeheader()
        writer.writerow(row)

    return write_csv

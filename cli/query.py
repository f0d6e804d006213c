"""`moodwire query`: what the store holds, as a table, CSV, JSON or Parquet."""

import sys
from functools import partial

import pandas as pd
from rich.console import Console
from rich.table import Table

from cli.stages import open_store
from cli.times import given_time
from moodwire import tables
from moodwire.errors import BadInput
from moodwire.settings import Place, Settings
from moodwire.store import labels, queries


def run(
    place: Place,
    settings: Settings,
    what: str,
    series: str | None,
    start: str | None,
    end: str | None,
    format_: str,
    limit: int | None,
    as_of: str | None,
) -> int:
    """Raises BadInput for a time that cannot be read."""
    store = open_store(place, settings)
    known = given_time(as_of)
    if known is not None and what != "windows":
        raise BadInput("--as-of goes with windows: they are counted anew from the scores that were known then")
    ask = {
        "articles": queries.articles,
        "stories": queries.stories,
        "windows": queries.windows if known is None else partial(queries.windows_as_of, as_of=known),
        "alerts": queries.alerts,
        "labels": labels.corrections,
    }[what]
    frame = ask(store, series=series, start=given_time(start), end=given_time(end), limit=limit)
    if format_ == "csv":
        frame.to_csv(sys.stdout, index=False, date_format="%Y-%m-%dT%H:%M:%S.%f%z")
    elif format_ == "parquet":
        if sys.stdout.isatty():
            raise BadInput("Parquet is not for a terminal: add > FILE.parquet")
        sys.stdout.buffer.write(tables.write(tables.plain_table(frame), "parquet"))
    elif format_ == "json":
        frame.to_json(sys.stdout, orient="records", date_format="iso", date_unit="us", indent=1)
        print()
    else:
        _print(frame)
    return 0


def _print(frame: pd.DataFrame) -> None:
    table = Table(box=None, pad_edge=False)
    shown = [name for name in frame.columns if name not in {"evidence", "seen_at", "known_at", "language", "model"}]
    for name in shown:
        table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=60)
    for row in frame[shown].itertuples(index=False):
        table.add_row(*(_cell(value) for value in row))
    console = Console(width=None if sys.stdout.isatty() else 240)
    console.print(table, markup=False)
    print(f"{len(frame)} rows")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return str(value).replace("[", "\\[") if isinstance(value, str) else str(value)

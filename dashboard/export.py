"""All rows of a page as CSV or Parquet, not only those that it loaded; the address says the same as the page's."""

import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Literal

import pandas as pd
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse
from pyarrow import parquet

from dashboard.data import Data
from dashboard.view import View, parse
from moodwire.csvfile import csv_of
from moodwire.store import labels, queries, watching
from moodwire.store.find import course, find
from moodwire.tables import MEDIA, STORIES, plain_table

BLOCK = 1 << 20  # bytes
SLICE = timedelta(days=1)  # of stories, so that no export holds a year of them
Frames = Iterator[pd.DataFrame]


def router(data: Data) -> APIRouter:
    routes = APIRouter()

    @routes.get("/export/{what}.{form}", include_in_schema=False)
    def export(what: str, form: Literal["csv", "parquet"], request: Request) -> StreamingResponse:
        ask = EXPORTS.get(what)
        if ask is None:
            raise HTTPException(404, f"there is no export {what!r}; there are {', '.join(EXPORTS)}")
        view = parse(request.url.query)
        frames = ask(data, view, data.clock())
        body: Iterator[str | bytes] = _parquet(what, frames)
        if form == "csv":
            body = (csv_of(frame, header=at == 0) for at, frame in enumerate(frames))
        name = f'attachment; filename="moodwire-{what}.{form}"'
        return StreamingResponse(body, media_type=MEDIA[form], headers={"Content-Disposition": name})

    return routes


def _parquet(what: str, frames: Frames) -> Iterator[str | bytes]:
    """Through a file, so that no export is held in memory."""
    with tempfile.TemporaryFile() as file:
        writer: parquet.ParquetWriter | None = None
        for frame in frames:
            table = STORIES.of(frame) if what == "stories" else plain_table(frame)
            if writer is None:
                writer = parquet.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table)
        if writer is not None:
            writer.close()
        file.seek(0)
        while block := file.read(BLOCK):
            yield block


def _stories(data: Data, view: View, now: datetime) -> Frames:
    begin, end = view.times(now)
    if not view.filter.is_window_series:  # a story's first wanted article must be known for the whole
        yield find(data.store, view.filter, begin, end)
        return
    while True:
        start = max(begin, end - SLICE)
        yield find(data.store, view.filter, start, end)
        if start == begin:
            return
        end = start


def _course(data: Data, view: View, now: datetime) -> Frames:
    yield course(data.store, view.series or "all", *view.times(now), view.freq_s)


def _overview(data: Data, view: View, now: datetime) -> Frames:
    begin, end = view.times(now)
    yield queries.overview(data.store, end, end - begin).drop(columns=["trend", "volume"])


def _incidents(data: Data, view: View, now: datetime) -> Frames:
    begin, end = view.between or (None, None)
    yield watching.incidents(data.store, None, begin, end, None)


def _labels(data: Data, view: View, now: datetime) -> Frames:
    frame = labels.corrections(data.store, None, None, None, None)
    texts = zip(frame["body"], frame["source"], strict=True)
    yield frame.assign(body=[data.shown(body, source) for body, source in texts])


EXPORTS: dict[str, Callable[[Data, View, datetime], Frames]] = {
    "stories": _stories,
    "course": _course,
    "overview": _overview,
    "incidents": _incidents,
    "labels": _labels,
}

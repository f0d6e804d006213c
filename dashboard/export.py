"""All rows of a page as CSV, not only those that it loaded; the address says the same as the page's."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pandas as pd
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse

from dashboard.data import Data
from dashboard.view import View, parse
from moodwire.csvfile import csv_of
from moodwire.licence import shown
from moodwire.store import labels, queries, watching
from moodwire.store.find import course, find

SLICE = timedelta(days=1)  # of stories, so that no export holds a year of them
Frames = Iterator[pd.DataFrame]


def router(data: Data) -> APIRouter:
    routes = APIRouter()

    @routes.get("/export/{what}.csv", include_in_schema=False)
    def export(what: str, request: Request) -> StreamingResponse:
        ask = EXPORTS.get(what)
        if ask is None:
            raise HTTPException(404, f"there is no export {what!r}; there are {', '.join(EXPORTS)}")
        view = parse(request.url.query)
        body = (csv_of(frame, header=at == 0) for at, frame in enumerate(ask(data, view, data.clock())))
        name = f'attachment; filename="moodwire-{what}.csv"'
        return StreamingResponse(body, media_type="text/csv; charset=utf-8", headers={"Content-Disposition": name})

    return routes


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
    yield frame.assign(body=[shown(body, data.displays.get(source, "full")) for body, source in texts])


EXPORTS: dict[str, Callable[[Data, View, datetime], Frames]] = {
    "stories": _stories,
    "course": _course,
    "overview": _overview,
    "incidents": _incidents,
    "labels": _labels,
}

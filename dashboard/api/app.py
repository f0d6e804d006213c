"""The REST API under /api/v1: what analysts ask (moodwire.answers), as JSON, CSV, Parquet or Arrow."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

import msgspec
import pyarrow as pa
from fastapi import FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from dashboard import person
from dashboard.api import problems
from dashboard.api.asked import (
    TEXT,
    Asked,
    AskedIncidents,
    AskedLive,
    AskedNow,
    AskedSearch,
    AskedSentiment,
    AskedStories,
    Paged,
)
from dashboard.api.follow import Follower, opened
from dashboard.api.problems import declared, problem
from dashboard.data import Data
from dashboard.live import Live
from moodwire import answers, tables
from moodwire.answers import Page
from moodwire.records import floor_time
from moodwire.store.find import Filter
from moodwire.store.watching import mark
from moodwire.tables import Columns

PREFIX = "/api/v1"
STREAMS = 200  # open at once
DESCRIPTION = """\
The mood of financial news, as moodwire's store has it. A *story* is an article with its near-duplicates: copies count
once. A *score* is P(positive) − P(negative), from −1 to 1. Times are UTC.

Lists come in pages: `next` in the JSON, and a `Link` header with `rel="next"` in every form, lead to the page after.
`format`, or else `Accept`, chooses between JSON, CSV, Parquet and Arrow (a stream). What a store that nothing came to
would answer again is told by `ETag`. In CSV, text that a spreadsheet would run as a formula has an apostrophe before.
"""
_TYPES = {"string": "string", "int64": "integer", "double": "number"}


def build(data: Data, live: Live) -> FastAPI:
    """An application of its own, to be mounted at PREFIX."""
    api = FastAPI(
        title="moodwire",
        version="1",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": PREFIX}],
        root_path_in_servers=False,
    )
    problems.register(api)
    _tables(api, data)
    _stream(api, data, live)
    return api


def _tables(api: FastAPI, data: Data) -> None:
    store = data.store

    @api.get(
        "/sentiment", summary="Series over time", responses=_of(tables.SENTIMENT, paged=False), response_class=Response
    )
    def sentiment(request: Request, asked: Annotated[AskedSentiment, Query()]) -> Response:
        """The course of up to six series by equal spans, without gaps; `as_of`: as it was known then."""
        begin, end = answers.span(asked.start, asked.end, asked.as_of, floor_time(data.clock(), 60))

        def ask() -> Page:
            table = answers.sentiment(store, list(dict.fromkeys(asked.series)), asked.freq, begin, end, asked.as_of)
            return Page(table, None)

        return _unless_known(request, asked, data, ask, f"{begin} {end}")

    @api.get("/stories", summary="Stories, newest first", responses=_of(tables.STORIES), response_class=Response)
    def stories(request: Request, asked: Annotated[AskedStories, Query()]) -> Response:
        """Of a series, or of several crossed; by label, source, words and time; `as_of`: what was known then."""
        return _stories(request, asked)

    @api.get("/search", summary="Stories by their words", responses=_of(tables.STORIES), response_class=Response)
    def search(request: Request, asked: Annotated[AskedSearch, Query()]) -> Response:
        """As /stories, where the words are what is asked for."""
        return _stories(request, asked)

    def _stories(request: Request, asked: AskedStories) -> Response:
        wanted = Filter(answers.series_name(asked.series or "all"), asked.label, asked.words, asked.source)

        def ask() -> Page:
            return answers.stories(store, wanted, asked.start, asked.end, asked.as_of, asked.limit, asked.cursor)

        return _unless_known(request, asked, data, ask)

    @api.get(
        "/articles/{id:path}",
        summary="One article, with its revisions",
        responses={**_of(tables.ARTICLES, paged=False), **declared(404)},
        response_class=Response,
    )
    def article(
        request: Request,
        id: Annotated[str, Path(max_length=300, pattern=TEXT)],
        asked: Annotated[Asked, Query()],
    ) -> Response:
        """Its text as far as its source's licence lets us show it (`display`)."""
        table = answers.article(store, id, data.displays)
        if not table.num_rows:
            return problem(404, f"there is no article {id!r:.80}")
        return _answer(request, asked, Page(table, None))

    @api.get("/incidents", summary="Incidents, newest first", responses=_of(tables.INCIDENTS), response_class=Response)
    def incidents(request: Request, asked: Annotated[AskedIncidents, Query()]) -> Response:
        """Those that lasted into the span, with the figures and reason of their first alarm."""
        found = answers.incidents(store, asked.series, asked.start, asked.end, asked.state, asked.limit, asked.cursor)
        return _answer(request, asked, found)

    @api.get("/series", summary="The mood now, by series", responses=_of(tables.SERIES), response_class=Response)
    def series(request: Request, asked: Annotated[AskedNow, Query()]) -> Response:
        """Every series with stories in the last two spans, by name."""
        now, length = floor_time(data.clock(), 60), timedelta(hours=asked.hours)

        def ask() -> Page:
            return answers.parts(answers.series(store, now, length), "series", asked.limit, asked.cursor)

        return _unless_known(request, asked, data, ask, f"{now}")

    @api.get(
        "/entities", summary="The mood now, by company", responses=_of(tables.ENTITIES_NOW), response_class=Response
    )
    def entities(request: Request, asked: Annotated[AskedNow, Query()]) -> Response:
        """Every company with stories in the last two spans, by symbol."""
        now, length = floor_time(data.clock(), 60), timedelta(hours=asked.hours)

        def ask() -> Page:
            table = answers.entities(store, now, length, data.names)
            return answers.parts(table, "symbol", asked.limit, asked.cursor)

        return _unless_known(request, asked, data, ask, f"{now}")

    @api.get("/sources", summary="Sources, and how they do", responses=_of(tables.SOURCES), response_class=Response)
    def sources(request: Request, asked: Annotated[Paged, Query()]) -> Response:
        """Every source that articles came from, and those that are configured."""
        table = answers.sources(store, data.clock(), data.displays)
        return _answer(request, asked, answers.parts(table, "source", asked.limit, asked.cursor))

    @api.get("/trail", summary="Who changed what, newest first", responses=_of(tables.TRAIL), response_class=Response)
    def trail(request: Request, asked: Annotated[Paged, Query()]) -> Response:
        """For admins only."""
        if not person.may("admin"):
            return problem(403, "the trail is for admins")
        return _answer(request, asked, answers.trail(store, asked.limit, asked.cursor))


def _stream(api: FastAPI, data: Data, live: Live) -> None:
    open_streams = 0
    event = "id: eyJhIjoxfQ\nevent: article\ndata: {…}\n\n"
    told: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "Events `article` (an article has been scored) and `incident` (one changed its state), as "
            "JSON. After a break, `Last-Event-ID` goes on behind the event of that id: nothing is left out; with "
            "several classifiers an article of the ten seconds before may come a second time (same `id`, `revision`). "
            "Replayed history is not told.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": event}},
        }
    }

    @api.get(
        "/live",
        summary="What comes, as it comes (server-sent events)",
        responses={**told, **declared(401, 403, 422, 429, 503)},
        response_class=StreamingResponse,
    )
    async def follow(
        asked: Annotated[AskedLive, Query()], last_event_id: Annotated[str | None, Header(max_length=1000)] = None
    ) -> Response:
        """A stream that does not end. A comment line comes at least every ten seconds."""
        nonlocal open_streams
        if open_streams >= STREAMS:
            return problem(503, f"{STREAMS} listen already", headers={"Retry-After": "30"})
        place = opened(last_event_id) if last_event_id else None
        name = answers.series_name(asked.series) if asked.series else None
        follower = Follower(data, name, place)

        async def events() -> Any:
            nonlocal open_streams
            open_streams += 1
            try:
                async for text in follower.events(live):
                    yield text
            finally:
                open_streams -= 1

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def _unless_known(request: Request, asked: Asked, data: Data, ask: Callable[[], Page], more: str = "") -> Response:
    """304 where the asker has the answer already and nothing came since; what is asked stands in the address.

    more: what the answer depends on besides.
    """
    parts = (mark(data.store), more, str(request.url.query), request.url.path, _form(request, asked))
    tag = f'W/"{hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()}"'
    held = request.headers.get("If-None-Match", "")
    if tag in {each.strip() for each in held.split(",")}:
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "private, no-cache"})
    return _answer(request, asked, ask(), tag)


def _answer(request: Request, asked: Asked, page: Page, tag: str = "") -> Response:
    form = _form(request, asked)
    headers = {"Cache-Control": "private, no-cache", "Vary": "Accept"}
    if tag:
        headers["ETag"] = tag
    if page.next is not None:
        url = request.url.include_query_params(cursor=page.next)
        headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    if form == "json":
        body: dict[str, Any] = {"data": tables.rows_of(page.table)}
        if isinstance(asked, Paged):
            body["next"] = page.next
        return Response(msgspec.json.encode(body), headers=headers, media_type=tables.MEDIA["json"])
    if form != "arrow":
        name = f"moodwire-{request.url.path.removeprefix(PREFIX).split('/')[1]}.{form}"
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return Response(tables.write(page.table, form), headers=headers, media_type=tables.MEDIA[form])


def _form(request: Request, asked: Asked) -> str:
    if asked.format is not None:
        return asked.format
    accepted = request.headers.get("Accept", "")
    return next((form for form, media in tables.MEDIA.items() if media.split(";")[0] in accepted), "json")


def _of(columns: Columns, paged: bool = True) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`: what its table holds."""
    properties = {c.name: {**_kind(c.type, c.nullable), "description": c.what} for c in columns.columns}
    row = {"type": "object", "title": columns.name, "required": list(properties), "properties": properties}
    body: dict[str, Any] = {
        "type": "object",
        "required": ["data"],
        "properties": {"data": {"type": "array", "items": row}},
    }
    example: dict[str, Any] = {"data": [columns.example()]}
    if paged:
        body["required"].append("next")
        body["properties"]["next"] = {"type": ["string", "null"], "description": "the cursor of the page after"}
        example["next"] = None
    content: dict[str, Any] = {"application/json": {"schema": body, "example": example}}
    for form in ("csv", "parquet", "arrow"):
        content[tables.MEDIA[form].split(";", maxsplit=1)[0]] = {"schema": {"type": "string", "format": "binary"}}
    headers = {
        "ETag": {"schema": {"type": "string"}, "description": "where asking again with `If-None-Match` pays"},
        "Link": {"schema": {"type": "string"}, "description": 'the page after, `rel="next"`'},
    }
    return {
        200: {"description": "The rows.", "content": content, "headers": headers},
        304: {"description": "Nothing has changed since the answer of this `If-None-Match`."},
        **declared(401, 403, 422, 429, 503),
    }


def _kind(kind: pa.DataType, nullable: bool) -> dict[str, Any]:
    if pa.types.is_list(kind):
        fields = {field.name: _kind(field.type, False) for field in kind.value_type}
        return {"type": "array", "items": {"type": "object", "properties": fields}}
    if pa.types.is_timestamp(kind):
        found: dict[str, Any] = {"type": "string", "format": "date-time"}
    else:
        found = {"type": _TYPES[str(kind)]}
    return {**found, "type": [found["type"], "null"]} if nullable else found

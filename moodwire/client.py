"""Asking moodwire from Python: mood, stories and incidents as pandas frames, from a store or from the API alike.

    import moodwire
    news = moodwire.connect("sqlite:///moodwire-data/moodwire.db")
    hourly = news.sentiment("AAPL", freq="1h", start="2026-03-01", as_of="2026-03-08T12:00Z")

A score is P(positive) - P(negative), from -1 to 1; a mean score is over stories, copies counting once. Times are UTC;
one given without a zone is taken as UTC. What each column means stands in moodwire/tables.py and in the API's
documents (`/api/v1/openapi.json`).
"""

import os
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from moodwire import answers, tables
from moodwire.errors import BadInput, MoodwireError, StoreError
from moodwire.store.db import Store
from moodwire.store.find import LABELS, Filter
from moodwire.web import LOOPBACK

Time = datetime | date | str
TIMEOUT_S = 120.0


class Client:
    """What can be asked. Safe to use from several threads; `close` it, or use it in a `with`."""

    def __init__(self, source: "_Source") -> None:
        self._source = source

    def sentiment(
        self,
        series: str = "all",
        freq: str = "1h",
        start: Time | None = None,
        end: Time | None = None,
        as_of: Time | None = None,
    ) -> pd.DataFrame:
        """A series over time, without gaps: one row a span, indexed by its `start` (UTC, time of publication).

        series: a symbol (`AAPL`), `all`, `topic:X`, `entity:Y`, `group:Z`, `source:N`, or several joined by `+`, which
        asks for the stories that count for each. freq: whole minutes, hours or days (`15min`, `1h`, `1d`), counted from
        1970; the first and last span are whole. start, end: by default the week before now, or before `as_of`.
        as_of: as it was known then, counted anew from the scores that were known; exact for times more than 10 s ago.

        Columns: score (mean of the stories' scores, -1 to 1; NaN without stories), stories, negative, neutral,
        positive, articles (counts). Raises BadInput.
        """
        table = self._source.sentiment([series], freq, _time(start), _time(end), _time(as_of))
        frame: pd.DataFrame = table.drop_columns(["series"]).to_pandas()
        return frame.set_index("start")

    def compare(
        self,
        series: Sequence[str],
        freq: str = "1h",
        start: Time | None = None,
        end: Time | None = None,
        as_of: Time | None = None,
    ) -> pd.DataFrame:
        """The mean scores of up to six series side by side: one row a span, a column a series. As `sentiment`."""
        names = list(dict.fromkeys(series))
        table = self._source.sentiment(names, freq, _time(start), _time(end), _time(as_of))
        frame: pd.DataFrame = table.to_pandas()
        return frame.pivot(index="start", columns="series", values="score")[names].rename_axis(columns=None)

    def stories(
        self,
        series: str = "all",
        start: Time | None = None,
        end: Time | None = None,
        as_of: Time | None = None,
        *,
        words: str = "",
        label: str = "",
        source: str = "",
        limit: int | None = 1000,
    ) -> pd.DataFrame:
        """One row a story, the newest first: the article by which it counts for the series, and how many copies.

        words: in title or text: words, "phrases", -without. label: negative, neutral or positive. source: a source's
        name. limit: rows; None: all. as_of: only what was known then, copies too.

        Columns: those of moodwire.tables.STORIES; titles and addresses are as the source gave them. Raises BadInput.
        """
        wanted = Filter(answers.series_name(series), label, words, source)
        table = self._source.stories(wanted, _time(start), _time(end), _time(as_of), limit)
        return table.to_pandas()

    def incidents(
        self,
        series: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        *,
        state: str | None = None,
        limit: int | None = 1000,
    ) -> pd.DataFrame:
        """One row an incident, the newest first: those that lasted into the span, with the figures of the first alarm.

        state: pending, firing, acknowledged or resolved. Columns: those of moodwire.tables.INCIDENTS. Raises BadInput.
        """
        return self._source.incidents(series, _time(start), _time(end), state, limit).to_pandas()

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(address: str, token: str | None) -> Client:
    """See moodwire.connect."""
    scheme = urlsplit(address).scheme
    if scheme in {"http", "https"}:
        return Client(_Api(address, token or os.environ.get("MOODWIRE_TOKEN", "")))
    return Client(_Direct(_store(address)))


class _Source(Protocol):
    """Where answers come from."""

    def sentiment(
        self, series: Sequence[str], freq: str, start: datetime | None, end: datetime | None, as_of: datetime | None
    ) -> pa.Table: ...

    def stories(
        self,
        wanted: Filter,
        start: datetime | None,
        end: datetime | None,
        as_of: datetime | None,
        limit: int | None,
    ) -> pa.Table: ...

    def incidents(
        self,
        series: str | None,
        start: datetime | None,
        end: datetime | None,
        state: str | None,
        limit: int | None,
    ) -> pa.Table: ...

    def close(self) -> None: ...


class _Direct:
    def __init__(self, store: Store) -> None:
        self._store = store

    def sentiment(
        self, series: Sequence[str], freq: str, start: datetime | None, end: datetime | None, as_of: datetime | None
    ) -> pa.Table:
        begin, until = answers.span(start, end, as_of, self._store.now())
        return answers.sentiment(self._store, series, freq, begin, until, as_of)

    def stories(
        self,
        wanted: Filter,
        start: datetime | None,
        end: datetime | None,
        as_of: datetime | None,
        limit: int | None,
    ) -> pa.Table:
        if wanted.label and wanted.label not in LABELS:
            raise BadInput(f"{wanted.label!r} is no label; there are {', '.join(LABELS)}")

        def page(size: int, cursor: str | None) -> answers.Page:
            return answers.stories(self._store, wanted, start, end, as_of, size, cursor)

        return answers.whole(page, tables.STORIES, limit)

    def incidents(
        self,
        series: str | None,
        start: datetime | None,
        end: datetime | None,
        state: str | None,
        limit: int | None,
    ) -> pa.Table:
        def page(size: int, cursor: str | None) -> answers.Page:
            return answers.incidents(self._store, series, start, end, state, size, cursor)

        return answers.whole(page, tables.INCIDENTS, limit)

    def close(self) -> None:
        self._store.close()


class _Api:
    def __init__(self, address: str, token: str) -> None:
        url = httpx.URL(address)
        if token and url.scheme == "http" and url.host not in LOOPBACK:
            raise BadInput(f"{address}: a token would go over the network in the open; use https")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(base_url=f"{address.rstrip('/')}/api/v1/", headers=headers, timeout=TIMEOUT_S)

    def sentiment(
        self, series: Sequence[str], freq: str, start: datetime | None, end: datetime | None, as_of: datetime | None
    ) -> pa.Table:
        words = {"series": list(series), "freq": freq, "start": start, "end": end, "as_of": as_of}
        return tables.in_order([self._page("sentiment", words).table], tables.SENTIMENT)

    def stories(
        self,
        wanted: Filter,
        start: datetime | None,
        end: datetime | None,
        as_of: datetime | None,
        limit: int | None,
    ) -> pa.Table:
        words = {**wanted._asdict(), "start": start, "end": end, "as_of": as_of}
        return self._whole("stories", words, tables.STORIES, limit)

    def incidents(
        self,
        series: str | None,
        start: datetime | None,
        end: datetime | None,
        state: str | None,
        limit: int | None,
    ) -> pa.Table:
        words = {"series": series, "start": start, "end": end, "state": state}
        return self._whole("incidents", words, tables.INCIDENTS, limit)

    def close(self) -> None:
        self._client.close()

    def _whole(self, path: str, words: dict[str, Any], columns: tables.Columns, limit: int | None) -> pa.Table:
        def page(size: int, cursor: str | None) -> answers.Page:
            return self._page(path, {**words, "limit": size, "cursor": cursor})

        return answers.whole(page, columns, limit)

    def _page(self, path: str, words: dict[str, Any]) -> answers.Page:
        given = {name: _word(value) for name, value in words.items() if value}
        answer = self._get(path, {**given, "format": "arrow"})
        following = answer.links.get("next")
        cursor = None if following is None else httpx.URL(following["url"]).params["cursor"]
        return answers.Page(tables.read_arrow(answer.content), cursor)

    def _get(self, path: str, words: dict[str, Any]) -> httpx.Response:
        where = f"{self._client.base_url}{path}"
        try:
            answer = self._client.get(path, params=words)
        except httpx.HTTPError as error:
            raise StoreError(f"{where} does not answer: {error}; is the dashboard running there?") from error
        if answer.is_success:
            return answer
        try:
            told = answer.json().get("detail", "")
        except ValueError:
            told = answer.text[:200]
        if answer.status_code in {400, 422}:
            raise BadInput(told)
        if answer.status_code in {401, 403}:
            raise BadInput(f"{where}: {told} Give a token: moodwire.connect(address, token=…), or MOODWIRE_TOKEN.")
        raise MoodwireError(f"{where} answered {answer.status_code}: {told}")


def _store(address: str) -> Store:
    try:
        url = sa.make_url(address)
    except sa.exc.ArgumentError as error:
        raise BadInput(f"{address!r} is no address: give sqlite:///…, postgresql://… or https://…") from error
    if url.drivername in {"postgresql", "postgres"}:
        url = url.set(drivername="postgresql+psycopg")
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).is_file()):
        raise BadInput(f"{shown}: there is no such file; a store is moodwire.db in the data folder")
    try:
        store = Store(url.render_as_string(hide_password=False))
    except ImportError as error:
        raise StoreError(f"{shown} needs an extra ({error}): pip install 'moodwire[postgres]'") from error
    if not answers.version(store):
        store.close()
        raise StoreError(f"{shown} is no store of moodwire's, or cannot be reached")
    return store


def _time(value: Time | None) -> datetime | None:
    if value is None:
        return None
    try:
        stamp = pd.Timestamp(value)
    except (ValueError, TypeError) as error:
        raise BadInput(f"{value!r} is no time, for example 2026-03-01 or 2026-03-01T09:30Z") from error
    time: datetime = stamp.to_pydatetime()
    return answers.utc(time)


def _word(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value

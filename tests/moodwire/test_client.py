"""The same answers from a store and from the API over it."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import moodwire
from moodwire.client import Client
from moodwire.errors import BadInput, StoreError
from tests.dashboard.site import HOSTILE, NOW, SETTINGS, add, alarm, served
from tests.helpers import STORES, context


@pytest.fixture(scope="module", params=STORES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Client]]:
    c = context(tmp_path_factory.mktemp("site"), SETTINGS, lambda: datetime.now(UTC), "dashboard", request.param)
    for number in range(1, 12):
        label = ("negative", "neutral", "positive")[number % 3]
        add(c, number * 7, f"Story {number}", label=label, series=("all", "entity:X") if number % 2 else ("all",))
    add(c, 100, HOSTILE, source="Post")
    alarm(c)
    with ExitStack() as stack:
        url = stack.enter_context(served(c))
        store = c.store.url.render_as_string(hide_password=False).replace("+psycopg", "")
        yield stack.enter_context(moodwire.connect(store)), stack.enter_context(moodwire.connect(url))


SPAN = {"start": NOW - timedelta(hours=3), "end": NOW + timedelta(minutes=1)}


@pytest.mark.parametrize(
    ("ask", "rows"),
    [
        (lambda c: c.sentiment(start=SPAN["start"], end=SPAN["end"], freq="15min"), 13),
        (lambda c: c.sentiment("X", start=SPAN["start"].isoformat(), end=SPAN["end"], as_of=NOW), 4),
        (lambda c: c.sentiment("entity:X+source:Wire", **SPAN, as_of=NOW - timedelta(minutes=40)), 4),
        (lambda c: c.compare(["X", "all", "topic:none"], freq="1h", **SPAN), 4),
        (lambda c: c.stories(**SPAN), 12),
        (lambda c: c.stories("X", **SPAN, label="negative", limit=None), 2),
        (lambda c: c.stories(words='"Story 11"'), 1),
        (lambda c: c.stories(as_of=NOW - timedelta(minutes=40), limit=3), 3),
        (lambda c: c.stories("entity:NOBODY"), 0),
        (lambda c: c.incidents(), 1),
        (lambda c: c.incidents("X", state="resolved"), 0),
    ],
)
def test_a_store_and_the_api_answer_alike(both: tuple[Client, Client], ask: object, rows: int) -> None:
    direct, over_http = (ask(client) for client in both)  # type: ignore[operator]
    assert isinstance(direct, pd.DataFrame)
    assert_frame_equal(direct, over_http)
    assert len(direct) in {rows, rows + 1}, "a span more where the hour turns"


def test_all_pages_are_read(both: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [client.stories(limit=None) for client in both]
    monkeypatch.setattr("moodwire.answers.PAGE", 5)
    for client, before in zip(both, whole, strict=True):
        assert_frame_equal(client.stories(limit=None), before)
        assert list(client.stories(limit=7)["id"]) == list(before["id"][:7])


def test_frames_have_the_types_that_analysis_needs(both: tuple[Client, Client]) -> None:
    for client in both:
        course = client.sentiment("X", **SPAN)
        assert isinstance(course.index, pd.DatetimeIndex)
        assert (str(course.index.tz), course.index.name) == ("UTC", "start")
        assert course["score"].dtype == "float64"
        assert course["stories"].dtype == "int64"
        assert course.loc[course["stories"] == 0, "score"].isna().all()
        assert list(client.compare(["all", "X"], **SPAN).columns) == ["all", "X"]
        assert str(client.stories()["published_at"].dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.sentiment(freq="1 fortnight"),
        lambda c: c.sentiment(start="never"),
        lambda c: c.sentiment(start="2026-01-02", end="2026-01-01"),
        lambda c: c.stories(label="angry"),
        lambda c: c.compare([f"S{n}" for n in range(7)]),
    ],
)
def test_what_cannot_be_asked_is_told_alike(both: tuple[Client, Client], ask: object) -> None:
    for client in both:
        with pytest.raises(BadInput):
            ask(client)  # type: ignore[operator]


def test_a_wrong_address_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no such file"):
        moodwire.connect(f"sqlite:///{tmp_path}/none.db")
    assert not list(tmp_path.iterdir()), "asking makes no file"
    (tmp_path / "other.db").write_bytes(b"")
    with pytest.raises(StoreError, match=r"no store of moodwire's"):
        moodwire.connect(f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(BadInput, match="is no address"):
        moodwire.connect("my store")
    with pytest.raises(StoreError, match="is the dashboard running there"):
        moodwire.connect("http://127.0.0.1:9").sentiment()
    with pytest.raises(BadInput, match="use https"):
        moodwire.connect("http://mood.example.org", "mw_secret")

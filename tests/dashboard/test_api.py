"""The API over a real store, served by the real stage."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from msgspec.structs import replace
from pyarrow import ipc, parquet

from dashboard.data import Data
from dashboard.pages.label import waiting
from moodwire import tables
from moodwire.settings import Source
from moodwire.stage import Context
from moodwire.store import labels
from moodwire.store.articles import Draft, store_articles
from moodwire.store.labels import Correction
from tests.dashboard.site import FORMULA, HOSTILE, INCIDENT_ID, NOW, SETTINGS, add, alarm, served
from tests.helpers import context

Api = tuple[Context, httpx.Client]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    c = context(tmp_path, SETTINGS, lambda: datetime.now(UTC), "dashboard")
    add(c, 30, "Plain story")
    with served(c) as url, httpx.Client(base_url=f"{url}/api/v1", timeout=20) as client:
        yield c, client


def rows(client: httpx.Client, path: str, **words: Any) -> list[dict[str, Any]]:
    answer = client.get(path, params=words)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_what_is_asked_by_the_address_is_answered(api: Api) -> None:
    c, client = api
    add(c, 20, "Bank wins", label="positive", source="Post", series=("all",))
    alarm(c)
    assert [row["title"] for row in rows(client, "/stories")] == ["Bank wins", "Plain story"]
    assert [row["title"] for row in rows(client, "/stories", series="X")] == ["Plain story"]
    assert [row["title"] for row in rows(client, "/stories", label="positive")] == ["Bank wins"]
    assert [row["title"] for row in rows(client, "/search", words="plain", source="Wire")] == ["Plain story"]
    points = rows(client, "/sentiment", series=["all", "X"], freq="1d", start=(NOW - timedelta(hours=1)).isoformat())
    assert {(row["series"], row["stories"]) for row in points if row["stories"]} >= {("all", 2), ("X", 1)}
    assert [row["state"] for row in rows(client, "/incidents", series="X", state="firing")] == ["firing"]
    assert rows(client, "/incidents", state="resolved") == []
    assert {row["series"] for row in rows(client, "/series")} == {"all", "entity:X", "topic:legal"}
    assert [(row["symbol"], row["name"]) for row in rows(client, "/entities")] == [("X", "Xenon Motors")]
    assert [(row["source"], row["articles_day"]) for row in rows(client, "/sources")] == [("Post", 1), ("Wire", 1)]


def test_as_of_leaves_out_what_was_not_known_then(api: Api) -> None:
    _, client = api
    then = (NOW - timedelta(minutes=31)).isoformat()
    assert rows(client, "/stories", as_of=then) == []
    assert len(rows(client, "/stories", as_of=NOW.isoformat())) == 1
    assert sum(row["stories"] for row in rows(client, "/sentiment", as_of=then)) == 0


@pytest.mark.parametrize("asked", ["parameter", "header"])
def test_every_form_holds_the_same(api: Api, asked: str) -> None:
    c, client = api
    add(c, 20, FORMULA)
    held = {}
    for form, media in tables.MEDIA.items():
        if asked == "header":
            answer = client.get("/stories", headers={"Accept": media})
        else:
            answer = client.get("/stories", params={"format": form})
        assert answer.headers["Content-Type"] == media
        held[form] = answer.content
    wanted = json.loads(held["json"])["data"]
    for table in (parquet.read_table(io.BytesIO(held["parquet"])), ipc.open_stream(held["arrow"]).read_all()):
        assert isinstance(table, pa.Table)
        assert table.schema.equals(tables.STORIES.schema)
        assert json.loads(tables.write(table, "json")) == wanted
    lines = list(csv.DictReader(io.StringIO(held["csv"].decode())))
    assert [line["title"] for line in lines] == ["'" + FORMULA, "Plain story"]
    assert [line["id"] for line in lines] == [row["id"] for row in wanted]


def test_hostile_titles_stay_text(api: Api) -> None:
    c, client = api
    add(c, 20, HOSTILE, url="javascript:alert(1)")
    answer = client.get("/stories")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["data"][0]["title"] == HOSTILE
    told = client.get("/stories", params={"format": "csv"})
    assert "attachment" in told.headers["Content-Disposition"]
    assert next(csv.DictReader(io.StringIO(told.text)))["title"] == HOSTILE


def test_pages_lead_on_and_end(api: Api) -> None:
    c, client = api
    for number in range(20, 27):
        add(c, number, f"Story {number}")
    titles: list[str] = []
    where: str | None = "/stories?limit=3"
    while where:
        answer = client.get(where)
        titles += [row["title"] for row in answer.json()["data"]]
        link = answer.links.get("next")
        assert (link is None) == (answer.json()["next"] is None)
        where = link["url"].removeprefix("/api/v1") if link else None
    assert titles == [*(f"Story {number}" for number in range(20, 27)), "Plain story"]
    for path, key in (("/series", "series"), ("/sources", "source"), ("/entities", "symbol")):
        first = client.get(path, params={"limit": 1}).json()
        every = [row[key] for row in rows(client, path)]
        assert first["data"][0][key] == every[0]
        assert (first["next"] is None) == (len(every) == 1)


def test_what_has_not_changed_is_not_sent_again(api: Api) -> None:
    c, client = api
    first = client.get("/stories")
    tag = {"If-None-Match": first.headers["ETag"]}
    assert client.get("/stories", headers=tag).status_code == 304
    assert client.get("/stories?limit=5", headers=tag).status_code == 200
    assert client.get("/stories", headers={**tag, "Accept": "text/csv"}).status_code == 200
    add(c, 1, "Later")
    again = client.get("/stories", headers=tag)
    assert (again.status_code, len(again.json()["data"])) == (200, 2)


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/stories?limit=0", 422, "query.limit"),
        ("/stories?limit=1001", 422, "1000"),
        ("/stories?serie=all", 422, "serie"),
        ("/stories?cursor=abc", 422, "no cursor"),
        ("/stories?start=yesterday", 422, "2026-03-01T09:30:00Z"),
        ("/stories?start=0001-01-01T00:00:00%2B14:00", 422, "a year between"),
        ("/stories?words=%00", 422, "query.words"),
        ("/search", 422, "query.words"),
        ("/sentiment?freq=1week", 422, "query.freq"),
        ("/sentiment?freq=1min&start=2020-01-01", 422, "more than 20000 spans"),
        ("/sentiment?start=2026-01-02&end=2026-01-01", 422, "must end after it starts"),
        ("/nothing", 404, "Not Found"),
        ("/live?last=1", 422, "last"),
    ],
)
def test_errors_are_problems_that_say_what_is_wrong(api: Api, path: str, status: int, told: str) -> None:
    answer = api[1].get(path)
    problem = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.status_code, problem["status"]) == (status, status)
    assert told in problem["detail"]
    assert problem["title"] and problem["type"] == "about:blank"


def test_a_broken_store_is_a_problem_too(api: Api) -> None:
    c, client = api
    with c.store.write() as connection:
        connection.exec_driver_sql("alter table windows rename to gone")
    answer = client.get("/series")
    assert (answer.status_code, answer.json()["status"]) == (503, 503)


def events(client: httpx.Client, count: int, last: str | None = None, **words: str) -> list[dict[str, str]]:
    """The next events of the feed; asserts that it ends each with an id."""
    headers = {"Last-Event-ID": last} if last else {}
    found: list[dict[str, str]] = []
    with client.stream("GET", "/live", params=words, headers=headers) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name not in {"", ":"}:
                event[name] = value
            elif "data" in event:
                found.append(event)
                event = {}
            if len(found) == count:
                return found
    return found


def test_the_feed_tells_what_comes_and_goes_on_where_it_broke_off(api: Api) -> None:
    c, client = api
    start = live_place(client)
    add(c, 5, "First", live=True)
    add(c, 4, HOSTILE, series=("all",), live=True)
    alarm(c)
    one, two, three = events(client, 3, start)
    assert [event["event"] for event in (one, two, three)] == ["article", "article", "incident"]
    assert json.loads(one["data"])["title"] == "First"
    assert json.loads(two["data"])["title"] == HOSTILE
    assert json.loads(three["data"])["incident_id"] == INCIDENT_ID
    assert events(client, 2, one["id"]) == [two, three]
    add(c, 3, "Last", live=True)
    (last,) = events(client, 1, three["id"])
    assert json.loads(last["data"])["title"] == "Last"
    of_x = events(client, 3, start, series="X")
    assert {json.loads(event["data"]).get("title") for event in of_x} == {"First", None, "Last"}


def live_place(client: httpx.Client) -> str:
    """An id from before anything was told."""
    from dashboard.api.follow import closed
    from moodwire.store.following import Place

    return closed(Place(datetime.now(UTC), "", 0, 0))


def test_an_open_feed_is_told_within_a_beat(api: Api) -> None:
    c, client = api
    with client.stream("GET", "/live") as answer:
        lines = answer.iter_lines()
        assert next(lines) == ":"
        add(c, 2, "While it listens", live=True)
        while not (line := next(lines)).startswith("data"):
            pass
        assert json.loads(line.removeprefix("data: "))["title"] == "While it listens"


def test_a_listener_that_goes_leaves_nothing_behind(api: Api) -> None:
    _, client = api
    for _ in range(3):
        with client.stream("GET", "/live") as answer:
            assert next(answer.iter_lines()) == ":"
    assert client.get("/live", headers={"Last-Event-ID": "nonsense"}).status_code == 422


def test_the_document_has_an_example_for_each_answer(api: Api) -> None:
    _, client = api
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) >= {
        "/sentiment",
        "/stories",
        "/search",
        "/incidents",
        "/series",
        "/entities",
        "/live",
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                for media, content in answer.get("content", {}).items():
                    if "json" in media or "event" in media:
                        assert "example" in content, (path, status, media)


LONG = "The whole story, word for word. " * 40


@pytest.mark.parametrize(("display", "most"), [("title", 0), ("excerpt", 302), ("full", len(LONG) + 40)])
def test_no_more_is_shown_of_a_text_than_its_source_allows(tmp_path: Path, display: Any, most: int) -> None:
    source = Source(name="Wire", url="https://example.org/feed", display=display)
    c = context(tmp_path, replace(SETTINGS, sources=(source,)), lambda: datetime.now(UTC), "dashboard")
    add(c, 5, LONG[:200] + LONG)
    labels.correct(c.store, Correction("a5", 1, "topic", "legal", "", "m", "ada", NOW))
    with served(c) as url, httpx.Client(base_url=url) as client:
        assert [row["display"] for row in rows(client, "/api/v1/sources")] == [display]
        (article,) = rows(client, "/api/v1/articles/a5")
        given = csv.DictReader(io.StringIO(client.get("/export/labels.csv").text))
        for text in (article["text"], *(row["body"] for row in given)):
            assert len(text) <= most + 250 * (display == "full")
            assert (text == "") == (display == "title")
        told = "".join(client.get(f"/api/v1{path}").text for path in ("/stories", "/search?words=story"))
        assert "The body of" not in told, "lists hold no text"
        queue = waiting(Data(c.store, c.settings, c.clock), c.clock())
        assert all(len(item["body"]) <= most for item in queue)


def test_an_article_comes_with_its_revisions_or_not_at_all(api: Api) -> None:
    c, client = api
    at = NOW - timedelta(minutes=30)
    edited = Draft("a30", "Wire", "https://example.org/a", "Plain story, corrected", "New", "en", at, at)
    store_articles(c.store, [edited], lambda new: new.id)
    assert [(row["revision"], row["title"]) for row in rows(client, "/articles/a30")] == [
        (1, "Plain story"),
        (2, "Plain story, corrected"),
    ]
    assert client.get("/articles/none/such").status_code == 404

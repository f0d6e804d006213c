"""Live ingest against a real server that misbehaves: each fault gets its named reason, and the good news comes in."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa

from ingest import stage
from ingest.stories import StoryIndex
from moodwire.records import Article, DeadLetter, Heartbeat, decode
from moodwire.settings import Fetching, Settings, Source
from moodwire.stage import Context
from moodwire.store import schema
from moodwire.store.articles import feed_states
from tests.helpers import context

NOW = datetime.now(UTC)
LIMITS = Fetching(timeout_s=1.0, max_bytes=100_000, host_delay_s=0)


def item(title: str, link: str = "", date: str = "") -> str:
    link = f"<link>{link}</link>" if link else ""
    return f"<item><title>{title}</title>{link}{f'<pubDate>{date}</pubDate>' if date else ''}</item>"


def rss(*items: str, encoding: str = "utf-8") -> bytes:
    text = f"<?xml version='1.0'?><rss version='2.0'><channel><title>t</title>{''.join(items)}</channel></rss>"
    return text.encode(encoding)


class Server(ThreadingHTTPServer):
    """Answers by path; `hits` counts."""

    def __init__(self) -> None:
        self.hits: list[tuple[str, str]] = []
        self.release = threading.Event()
        self.edition = ""
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.hits.append((self.path, self.headers.get("If-None-Match", "")))
        url = self.server.url
        page = "<html><body><article><h1>Good</h1>" + "<p>The company said profit rose.</p>" * 20
        bodies = {
            "/good": rss(item("Good &amp; <b>bold</b> title", f"{url}/page", format_datetime(NOW))),
            "/page": (page + "</article></body></html>").encode(),
            "/not-xml": b"just words, no feed",
            "/html": b"<html><body><h1>Sorry</h1></body></html>",
            "/latin": b"<?xml version='1.0' encoding='iso-8859-1'?><rss version='2.0'><channel>"
            + "<item><title>Société Générale</title></item></channel></rss>".encode("latin-1"),
            "/no-title": rss("<item><description>Only a description here</description></item>", "<item/>"),
            "/dates": rss(
                item("Old", date="Thu, 01 Jan 1970 00:00:00 GMT"), item("New", date="Fri, 01 Jan 2090 00:00:00 GMT")
            ),
            "/controls": rss(item("Ding &#x1b; &lt;script&gt;alert(1)&lt;/script&gt;&#x202e; dong")),
            "/pages": rss(
                item("Big page", f"{url}/huge"), item("Slow page", f"{url}/drip"), item("Gone page", f"{url}/404")
            ),
        }
        if self.path == "/slow-last":
            items = item("Quick page", f"{url}/page"), item("Slow page", f"{url}/drip")
            return self.answer(200, rss(*items), ETag='"v1"')
        if self.path == "/edited":
            return self.answer(
                200, rss(item(f"Profit of the company said to rise{self.server.edition}", f"{url}/page"))
            )
        if self.path == "/huge":
            return self.answer(200, b"x" * 200_000)
        if self.path == "/drip":
            return self.drip()
        if self.path == "/loop":
            return self.answer(302, b"", Location="/loop")
        if self.path == "/inward":
            return self.answer(302, b"", Location="http://localhost:1/secret")
        if self.path == "/etag" and self.headers.get("If-None-Match") == '"v1"':
            return self.answer(304, b"")
        if self.path == "/etag":
            return self.answer(200, rss(item("Tagged")), ETag='"v1"')
        if self.path in bodies:
            return self.answer(200, bodies[self.path])
        return self.answer(404, b"")

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def drip(self) -> None:
        """A page that never ends: a byte now and then, until the test is over."""
        self.send_response(200)
        self.end_headers()
        try:
            while not self.server.release.wait(0.05):
                self.wfile.write(b"x")
        except OSError:
            pass

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


def ingested(folder: Path, server: Server, *paths: str) -> Context:
    """A context after each of the paths was fetched once by the running stage."""
    sources = tuple(Source(name=path.strip("/"), url=server.url + path, interval_s=3600) for path in paths)
    c = context(folder, Settings(sources=sources, fetching=LIMITS), lambda: datetime.now(UTC), "ingest")
    thread = threading.Thread(target=stage.run, args=(c,))
    thread.start()
    waiting = threading.Event()
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    while not _had(c, len(sources)) or _undrained(c):
        assert thread.is_alive()
        assert datetime.now(UTC) < deadline, f"only {sorted(feed_states(c.store))} were fetched"
        waiting.wait(0.02)
    c.stop.set()
    thread.join(10)
    assert not thread.is_alive()
    return c


def _had(c: Context, sources: int) -> bool:
    """Whether each feed was had to its end: the next time is set then."""
    states = feed_states(c.store).values()
    return len(states) == sources and all(state["next_at"] > datetime.now(UTC) for state in states)


def _undrained(c: Context) -> bool:
    stored = sum(state["items"] for state in feed_states(c.store).values())
    return len(articles(c)) < stored


def articles(c: Context) -> list[Article]:
    found = [decode(message.value) for message in c.log.read("articles", 0, 10_000)]
    assert any(isinstance(record, Heartbeat) for record in found) or not found
    return [record for record in found if isinstance(record, Article)]


def letters(c: Context) -> dict[str, str]:
    found = [decode(message.value) for message in c.log.read("dead_letters", 0, 10_000)]
    return {letter.topic: letter.reason for letter in found if isinstance(letter, DeadLetter)}


def test_the_article_s_text_comes_from_its_page(tmp_path: Path, server: Server) -> None:
    (article,) = articles(ingested(tmp_path, server, "/good"))
    assert article.title == "Good & bold title"
    assert "profit rose" in article.body
    assert abs(article.published_at - NOW) < timedelta(seconds=1)
    assert article.seen_at >= article.published_at


def test_each_bad_feed_has_its_reason_and_the_good_one_comes_in(tmp_path: Path, server: Server) -> None:
    c = ingested(tmp_path, server, "/not-xml", "/html", "/missing", "/loop", "/inward", "/huge", "/drip", "/good")
    errors = {name: state["error"] for name, state in feed_states(c.store).items()}
    assert errors.pop("good") == ""
    for name, told in {
        "not-xml": "not a feed",
        "html": "not a feed",
        "missing": "HTTP 404",
        "loop": "redirects",
        "inward": "not a public address",
        "huge": "larger than",
        "drip": "not done after",
    }.items():
        assert told in errors.pop(name), name
    assert errors == {}
    assert set(letters(c)) == {"not-xml", "html"}
    assert [article.source for article in articles(c)] == ["good"]


def test_bad_items_are_mended_or_named(tmp_path: Path, server: Server) -> None:
    c = ingested(tmp_path, server, "/latin", "/no-title", "/dates", "/controls")
    by_title = {article.title: article for article in articles(c)}
    titles = {"Société Générale", "Only a description here", "Old", "New", "Ding alert(1) dong"}
    assert set(by_title) == titles
    assert "before 1990" in by_title["Old"].date_note
    assert "in the future" in by_title["New"].date_note
    assert (
        by_title["New"].published_at == by_title["New"].seen_at
        or by_title["New"].published_at < by_title["New"].seen_at
    )
    assert "no date" in by_title["Société Générale"].date_note
    assert letters(c) == {"no-title": "neither a title nor a text"}


def test_a_page_that_cannot_be_had_leaves_the_feed_s_text(tmp_path: Path, server: Server) -> None:
    c = ingested(tmp_path, server, "/pages")
    assert sorted(article.title for article in articles(c)) == ["Big page", "Gone page", "Slow page"]
    assert "the feed's text is used" in letters(c)["pages"]


def test_an_article_does_not_wait_for_the_pages_of_the_others(tmp_path: Path, server: Server) -> None:
    """The second page drips for as long as it may; the first article is in the log by then."""
    source = Source(name="pages", url=f"{server.url}/slow-last", interval_s=3600)
    c = context(tmp_path, Settings(sources=(source,), fetching=LIMITS), lambda: datetime.now(UTC), "ingest")
    thread = threading.Thread(target=stage.run, args=(c,))
    thread.start()
    waiting = threading.Event()
    deadline = datetime.now(UTC) + timedelta(seconds=30)
    while not articles(c):
        assert datetime.now(UTC) < deadline
        waiting.wait(0.01)
    assert [article.title for article in articles(c)] == ["Quick page"]
    assert feed_states(c.store)["pages"]["etag"] == "", "had to its end only when the last page is stored"
    c.stop.set()
    thread.join(10)
    assert not thread.is_alive()
    while [worker for worker in threading.enumerate() if worker.name.startswith("fetch")]:
        assert datetime.now(UTC) < deadline
        waiting.wait(0.01)
    assert len(letters(c)) == 0, "a stop is not the source's fault"
    assert feed_states(c.store)["pages"]["failures"] == 0
    with c.store.read() as connection:
        assert connection.execute(sa.select(schema.articles.c.title)).scalars().all() == ["Quick page"]


def test_an_edited_headline_brings_the_page_again_as_a_revision(tmp_path: Path, server: Server) -> None:
    source = Source(name="wire", url=f"{server.url}/edited")
    c = context(tmp_path, Settings(sources=(source,), fetching=LIMITS), lambda: datetime.now(UTC), "ingest")
    fetcher, stories = stage.fetcher_of(c), StoryIndex(c.store)
    for edition in ("", "", ", corrected", ", corrected"):
        server.edition = edition
        stage.take(c, fetcher, stories, source)
    with c.store.read() as connection:
        a = schema.articles.c
        rows = connection.execute(sa.select(a.revision, a.title, a.story_id).order_by(a.revision)).all()
    assert [(row.revision, row.title) for row in rows] == [
        (1, "Profit of the company said to rise"),
        (2, "Profit of the company said to rise, corrected"),
    ]
    assert rows[0].story_id == rows[1].story_id
    assert [path for path, _ in server.hits].count("/page") == 2, "an unchanged item's page is not fetched again"

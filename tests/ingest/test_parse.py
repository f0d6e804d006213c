"""What each kind of source answers becomes items, or a reason; nothing that stands in it does harm."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.parse import KINDS, Found, feeds_of, items, page
from moodwire.settings import JsonApi, ListPage, Sitemap, Source
from tests.helpers import T0

URL = "https://news.example/list"
FEED = Source(name="s", url=URL)
MAP = Sitemap(name="s", url=URL)
LIST = ListPage(name="s", url=URL, selector="h3 a")
API = JsonApi(name="s", url=URL, items="data.list", title="head.line", address="link", published_at="at", id="key")

RSS = b"<rss version='2.0'><channel><language>en</language><item><title>One</title><link>https://a.example/1</link></item></channel></rss>"
ATOM = b"<feed xmlns='http://www.w3.org/2005/Atom'><entry><title>Two</title><id>t:2</id></entry></feed>"
JSON_FEED = json.dumps(
    {
        "version": "https://jsonfeed.org/version/1.1",
        "items": [{"id": "3", "title": "Three", "content_text": "Body", "date_published": "2024-03-04T10:00:00Z"}],
    }
).encode()
SITEMAP = f"""<?xml version='1.0'?><urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'
 xmlns:n='http://www.google.com/schemas/sitemap-news/0.9'>
<url><loc> https://a.example/new </loc>
<n:news><n:publication_date>{(T0 - timedelta(hours=1)).isoformat()}</n:publication_date>
<n:title>Fresh</n:title></n:news></url>
<url><loc>https://a.example/changed</loc><lastmod>{(T0 - timedelta(hours=30)).date()}</lastmod></url>
<url><loc>https://a.example/old</loc><lastmod>2001-01-01</lastmod></url></urlset>""".encode()
HTML = b"""<html><body><nav><a href='/about'>About</a></nav><h3><a href='/n/1'>First <b>story</b></a></h3>
<h3><a href='https://b.example/2'>Second</a></h3><h3><a href='/n/1'>First again</a></h3>
<h3><a>no address</a></h3></body></html>"""
ANSWER = {"data": {"list": [{"head": {"line": "Head"}, "link": "/x/1", "at": 1_709_546_400, "key": 7}, {"link": None}]}}


def found(source: Source, data: bytes) -> Found:
    return items(source, data, "", T0)


def test_feeds_of_three_kinds() -> None:
    assert [(i.title, i.url, i.language) for i in found(FEED, RSS).items] == [("One", "https://a.example/1", "en")]
    assert [(i.title, i.guid) for i in found(FEED, ATOM).items] == [("Two", "t:2")]
    (item,) = found(FEED, JSON_FEED).items
    assert (item.title, item.body, item.guid) == ("Three", "Body", "3")
    assert item.published_at == datetime(2024, 3, 4, 10, tzinfo=UTC)


def test_a_sitemap_gives_what_is_new() -> None:
    new, changed = found(MAP, SITEMAP).items
    assert (new.title, new.url, new.published_at) == ("Fresh", "https://a.example/new", T0 - timedelta(hours=1))
    assert (changed.title, changed.url, changed.published_at) == ("", "https://a.example/changed", None)


def test_a_page_gives_the_links_that_match_once_each() -> None:
    got = [(item.title, item.url) for item in found(LIST, HTML).items]
    assert got == [("First story", "https://news.example/n/1"), ("Second", "https://b.example/2")]


def test_an_api_is_read_by_its_paths() -> None:
    one, empty = found(API, json.dumps(ANSWER).encode()).items
    assert (one.title, one.url, one.guid) == ("Head", "https://news.example/x/1", "7")
    assert one.published_at == datetime(2024, 3, 4, 10, tzinfo=UTC)
    assert (empty.title, empty.url) == ("", "")


@pytest.mark.parametrize(
    ("source", "data", "told"),
    [
        (FEED, b"just words", "not a feed"),
        (FEED, b'{"hello": 1}', "no JSON Feed"),
        (FEED, b'{"cut', "it cannot be read: JSONDecodeError"),
        (MAP, b"<html/>", "not a sitemap: its root is html"),
        (
            MAP,
            b"<sitemapindex xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><sitemap><loc>https://a.example/m1.xml</loc>"
            b"</sitemap></sitemapindex>",
            "name one of them as the source's url: https://a.example/m1.xml",
        ),
        (MAP, b"<urlset", "it cannot be read: XMLSyntaxError"),
        (LIST, b"<html><body>nothing</body></html>", "no link matches the selector 'h3 a'"),
        (ListPage(name="s", url=URL, selector="h3 >"), HTML, "it cannot be read: SelectorSyntaxError"),
        (API, b"[]", "no list stands at items = 'data.list'"),
    ],
)
def test_what_is_not_of_the_kind_is_told(source: Source, data: bytes, told: str) -> None:
    got = found(source, data)
    assert got.items == []
    assert told in got.fault


def test_xml_entities_are_not_expanded() -> None:
    bomb = b"<!DOCTYPE u [<!ENTITY a 'aaaaaaaaaa'>" + b"".join(
        b"<!ENTITY %c '%s'>" % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
    )
    sitemap = bomb + b"]><urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><url><loc>&j;</loc></url></urlset>"
    feed = bomb + b"]><rss version='2.0'><channel><item><title>x&j;</title></item></channel></rss>"
    for source, data in ((MAP, sitemap), (FEED, feed)):
        assert all(len(item.title) + len(item.url) < 1000 for item in found(source, data).items)
    secret = b"<!DOCTYPE u [<!ENTITY s SYSTEM 'file:///etc/passwd'>]>"
    for item in found(MAP, sitemap.replace(bomb + b"]>", secret).replace(b"&j;", b"&s;")).items:
        assert "root" not in item.url


def test_very_deep_xml_ends() -> None:
    for source in (FEED, MAP, LIST):
        assert found(source, b"<a>" * 10_000).items == []


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([(FEED, RSS), (FEED, ATOM), (FEED, JSON_FEED), (MAP, SITEMAP), (LIST, HTML)]),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 20)), max_size=8),
)
def test_no_damage_stops_the_reader(whole: tuple[Source, bytes], edits: list[tuple[float, bytes, int]]) -> None:
    source, data = whole
    for place, inserted, removed in edits:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + removed :]
    got = found(source, data)
    assert isinstance(got.fault, str)
    for item in got.items:
        assert isinstance(item.title, str)


def test_every_kind_of_the_configuration_has_a_reader() -> None:
    assert set(KINDS) == {Source, Sitemap, ListPage, JsonApi}


def test_a_page_tells_its_text_title_and_time() -> None:
    paragraphs = "<p>The company said that profit rose in the quarter.</p>" * 10
    head = "<title>T</title><meta property='article:published_time' content='2024-03-04T11:00:00+02:00'>"
    got = page(
        f"<html lang='en'><head>{head}</head><body><article><h1>Real</h1>{paragraphs}</article></body></html>".encode()
    )
    assert "profit rose" in got.text
    assert got.title
    assert got.published_at == datetime(2024, 3, 4, 9, tzinfo=UTC)
    assert got.language == "en"
    assert page(b"").text == page(b"\x00\xff").text == ""


def test_a_page_names_its_feeds() -> None:
    links = "<link rel='alternate' type='application/rss+xml' href='/feed.xml'><link rel='alternate' href='/fr'>"
    assert feeds_of(f"<html><head>{links}</head></html>".encode(), URL) == ["https://news.example/feed.xml"]
    assert feeds_of(b"", URL) == []

"""What each kind of source answers becomes items, or a reason; nothing that stands in it does harm."""

import gzip
import json
import textwrap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.clean import Item, Refused, draft
from ingest.parse import KINDS, Found, Page, feeds_of, foreign, items, page
from moodwire.settings import AnySource, Files, JsonApi, KafkaTopic, ListPage, Sitemap, Source
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
BITS = [b"<a>", b"</item>", b"<![CDATA[", b"&#x1F600;", b"&lt;", b"<!--", b"]]>", b"\xff\xfe", b"{", b"<item>", b"\0"]
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


def test_a_sitemap_may_be_a_packed_file_of_reasonable_size() -> None:
    assert found(MAP, gzip.compress(SITEMAP)) == found(MAP, SITEMAP)
    assert "more than 10000000 bytes" in found(MAP, gzip.compress(bytes(20_000_000))).fault
    assert "cannot be read" in found(MAP, gzip.compress(SITEMAP)[:60]).fault


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


PAGE = (
    "<html lang='en'><head><script type='application/ld+json'>{\"datePublished\": \"2024-03-04T09:00:00Z\"}"
    "</script></head><body><article>" + "<p>The company said that profit rose.</p>" * 9 + "</article></body></html>"
).encode()
WHOLE = [(FEED, RSS), (FEED, ATOM), (FEED, JSON_FEED), (MAP, SITEMAP), (LIST, HTML), (API, json.dumps(ANSWER).encode())]
LIMIT_S = 20.0  # of real time for one document, on a machine that does much else
damage = st.lists(
    st.tuples(st.floats(0, 1), st.binary(max_size=6) | st.sampled_from(BITS), st.integers(0, 20)), max_size=9
)


def damaged(data: bytes, edits: list[tuple[float, bytes, int]], times: int) -> bytes:
    for place, inserted, removed in edits:
        at = int(place * len(data))
        data = data[:at] + inserted * times + data[at + removed :]
    return data


def read_damaged(whole: tuple[Source, bytes], edits: list[tuple[float, bytes, int]], times: int, kind: str) -> None:
    began = time.monotonic()
    source, data = whole
    got = items(source, damaged(data, edits, times), kind, T0)
    assert isinstance(got.fault, str)
    for item in got.items:
        made = draft(item, T0)
        assert isinstance(made, Refused) or made.published_at <= T0
    assert isinstance(page(damaged(PAGE, edits, times), kind).text, str)
    assert time.monotonic() - began < LIMIT_S


fuzzed = given(
    st.sampled_from(WHOLE), damage, st.sampled_from([1, 1, 50, 3000]), st.sampled_from(["", "text/xml; charset=utf-16"])
)


@settings(max_examples=60, deadline=None)
@fuzzed
def test_no_damage_stops_the_reader(
    whole: tuple[Source, bytes], edits: list[tuple[float, bytes, int]], times: int, kind: str
) -> None:
    read_damaged(whole, edits, times, kind)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(max_examples=1000, deadline=None)
@fuzzed
def test_no_damage_of_a_thousand_stops_the_reader(
    whole: tuple[Source, bytes], edits: list[tuple[float, bytes, int]], times: int, kind: str
) -> None:
    read_damaged(whole, edits, times, kind)


def test_the_new_kind_of_the_documents_works() -> None:
    text = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
    code = textwrap.dedent(text[text.index("    class Lines") :])
    place: dict[str, Any] = {
        "Source": Source,
        "Found": Found,
        "Item": Item,
        "datetime": datetime,
        "__name__": "documents",
    }
    exec(compile(code, "docs/sources.md", "exec"), place)
    got = place["lines"](place["Lines"](name="l", url=URL), b"One\nTwo", "", T0)
    assert [item.title for item in got.items] == ["One", "Two"]


def test_every_kind_of_the_configuration_has_a_reader() -> None:
    assert {*KINDS, Files, KafkaTopic} == set(AnySource.__args__)


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
    assert page(b"").text == page(b"<html><body></body></html>").text == ""
    assert page(b"").fault


def test_a_page_names_its_feeds() -> None:
    links = "<link rel='alternate' type='application/rss+xml' href='/feed.xml'><link rel='alternate' href='/fr'>"
    assert feeds_of(f"<html><head>{links}</head></html>".encode(), URL) == ["https://news.example/feed.xml"]
    assert feeds_of(b"", URL) == []


def encoded(encoding: str, declared: str, text: str = "Société €") -> bytes:
    item = f"<item><title>{text}</title><link>/a</link></item>"
    return f"<?xml version='1.0' encoding='{declared}'?><rss version='2.0'><channel>{item}</channel></rss>".encode(
        encoding
    )


@pytest.mark.parametrize(
    ("data", "content_type", "title"),
    [
        (encoded("utf-8", "utf-8"), "text/xml; charset=iso-8859-1", "Société €"),
        (encoded("utf-8", "iso-8859-1"), "text/xml", "Société €"),
        (encoded("utf-8-sig", "iso-8859-1"), "text/html; charset=latin1", "Société €"),
        (encoded("cp1252", "utf-8"), "text/xml; charset=utf-8", "Société €"),
        (encoded("cp1252", "iso-8859-1"), "application/rss+xml", "Société €"),
        (encoded("utf-16", "utf-16"), "application/xml", "Société €"),
        (encoded("cp1251", "windows-1251", "Привет"), "", "Привет"),
        (encoded("shift_jis", "shift_jis", "日本"), "application/xml", "日本"),
        (encoded("iso-2022-jp", "iso-2022-jp", "日本"), "application/xml", "日本"),
    ],
)
def test_a_feed_is_read_in_the_encoding_that_it_is_in(data: bytes, content_type: str, title: str) -> None:
    (item,) = items(FEED, data, content_type, T0).items
    assert item.title == title
    assert item.url == "https://news.example/a", "relative to the feed's address"


@pytest.mark.parametrize(
    ("encoding", "declared", "content_type"),
    [
        ("utf-8", "", "text/html; charset=iso-8859-1"),
        ("utf-8-sig", "latin1", ""),
        ("cp1252", "utf-8", "text/html; charset=utf-8"),
        ("cp1252", "iso-8859-1", ""),
        ("utf-16", "", ""),
    ],
)
def test_a_page_is_read_in_the_encoding_that_it_is_in(encoding: str, declared: str, content_type: str) -> None:
    text = "<p>Société Générale said profit rose by € 3 in the quarter.</p>" * 10
    html = f"<html><head><meta charset='{declared}'></head><body><article>{text}</article></body></html>"
    assert "Société Générale said profit rose by € 3" in page(html.encode(encoding), content_type).text


@pytest.mark.parametrize(("whole", "name"), [(RSS, b"item>"), (ATOM, b"entry>")])
def test_an_item_that_is_cut_is_left_for_the_next_time(whole: bytes, name: bytes) -> None:
    begin, end = whole.index(b"<" + name), whole.index(b"</" + name) + len(b"</" + name)
    title = found(FEED, whole).items[0].title
    for cut in range(end - begin - 1):
        data = whole[:end] + whole[begin:end] + whole[begin : begin + cut]
        assert [item.title for item in found(FEED, data).items] == [title, title], data
    empty = whole[:end] + b"<" + name[:-1] + b"/>" + whole[end:]
    assert [item.title for item in found(FEED, empty).items] == [title, ""], (
        "an item without anything is none that is cut"
    )


def test_a_byte_order_mark_does_not_hide_a_json_feed() -> None:
    assert [item.title for item in found(FEED, b"\xef\xbb\xbf" + JSON_FEED).items] == ["Three"]


@pytest.mark.parametrize(
    "head",
    [
        "<meta property='article:published_time' content='2024-03-04T11:00:00+02:00'>",
        "<meta itemprop='datePublished' content='2024-03-04T09:00:00Z'>",
        "<meta name='parsely-pub-date' content='2024-03-04T09:00:00Z'>",
        """<script type='application/ld+json'>[1, {"a": {"datePublished": "2024-03-04T09:00:00Z"}}]</script>""",
        "<script type='application/ld+json'>{</script><time itemprop='datePublished' datetime='2024-03-04T09:00:00Z'>",
        "<meta property='article:published_time' content='soon: 5'><meta name='pubdate' content='2024-03-04 09:00:00'>",
    ],
)
def test_a_page_s_date_is_found_where_pages_tell_it(head: str) -> None:
    text = "<article>" + "<p>The company said that profit rose in the quarter.</p>" * 9 + "</article>"
    assert page(f"<html><body>{head}{text}</body></html>".encode()).published_at == datetime(2024, 3, 4, 9, tzinfo=UTC)
    only_a_day = head.replace("T09:00:00Z", "").replace("T11:00:00+02:00", "").replace(" 09:00:00", "")
    assert page(f"<html><body>{only_a_day}{text}</body></html>".encode()).published_at is None


def test_a_date_of_an_update_is_told_from_that_of_publication() -> None:
    atom = ATOM.replace(b"</entry>", b"<updated>2024-03-04T09:00:00Z</updated></entry>")
    (item,) = found(FEED, atom).items
    assert item.published_at == datetime(2024, 3, 4, 9, tzinfo=UTC)
    assert "only when it was updated" in item.date_note
    (item,) = found(FEED, atom.replace(b"</entry>", b"<published>2024-03-04T08:00:00Z</published></entry>")).items
    assert (item.published_at, item.date_note) == (datetime(2024, 3, 4, 8, tzinfo=UTC), "")


def test_a_wall_before_the_page_is_told_from_the_page() -> None:
    wall = Page("We value your privacy. Accept all cookies to continue reading.", "Before you continue")
    assert foreign("Voltrix Energy raises full-year outlook", wall)
    assert not foreign("Voltrix Energy raises full-year outlook", Page("Shares of Voltrix rose."))
    assert not foreign("Voltrix up", wall), "a headline of few words says nothing"


@pytest.mark.parametrize(
    "data", [b"<rss>" + b"<p>" * 200_000, b"<rss><item " + b" ".join(b"a%d='1'" % n for n in range(5000)) + b"/></rss>"]
)
def test_a_feed_that_would_take_minutes_is_not_read(data: bytes) -> None:
    assert "not read" in found(FEED, data).fault


def test_no_text_is_looked_for_in_a_page_without_end() -> None:
    assert "elements" in page(b"<html><body>" + b"<p>" * 20_000).fault

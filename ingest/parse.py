"""What sources answer: bytes in, items and text out; never an exception for what stands in them.

A new kind of source is a section in moodwire/settings.py and a function here, named in KINDS.
"""

import codecs
import io
import json
import re
import zlib
from calendar import timegm
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urljoin

import feedparser
import trafilatura
from lxml import etree, html
from lxml.cssselect import CSSSelector
from trafilatura.settings import Document

from ingest.clean import Item
from ingest.readers import time_of
from moodwire.settings import AnySource, JsonApi, ListPage, Sitemap, Source

MAX_ITEMS = 500
MAX_ELEMENTS = 15_000  # of a page: looking for the article among more takes too long
MAX_TAGS = 150_000  # of a feed, and …
MAX_TAG_BYTES = 20_000  # … of each: the feed reader takes seconds for so many, and no real feed has them
MAX_DEPTH = 100  # of nested JSON in a page
MAX_UNPACKED = 10_000_000  # bytes of a sitemap that is a packed file
_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_LONG_TAG = re.compile(rb"<[^<>!][^<>]{%d}" % MAX_TAG_BYTES)
_END = re.compile(rb"</(?:rss|channel|feed|rdf:RDF)\s*>", re.IGNORECASE)
_LONG_WORD = re.compile(r"\w{4,}")
FEW_WORDS = 3  # of a headline, too few to judge a page by
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_PUBLISHED = (  # where pages tell when an article was published, the surest first
    "//meta[@property='article:published_time']/@content",
    "//meta[@itemprop='datePublished' or @property='og:article:published_time']/@content",
    "//meta[@name='article:published_time' or @name='datePublished' or @name='parsely-pub-date'"
    " or @name='pubdate' or @name='publish-date' or @name='dc.date.issued' or @name='DC.date.issued']/@content",
    "//*[@itemprop='datePublished']/@datetime",
    "//article//time/@datetime",
)
_NEWS = "{http://www.google.com/schemas/sitemap-news/0.9}"
_SITEMAP = "{http://www.sitemaps.org/schemas/sitemap/0.9}"


class Found(NamedTuple):
    items: list[Item]
    fault: str  # why there is nothing in it; empty if there is
    title: str = ""  # of the source, as it says


class Page(NamedTuple):
    """What an article's page says; empty where it does not say."""

    text: str
    title: str = ""
    published_at: datetime | None = None
    language: str = ""
    fault: str = ""  # why there is no text


def items(source: AnySource, data: bytes, content_type: str, now: datetime) -> Found:
    """What a source lists."""
    try:
        found = KINDS[type(source)](source, data, content_type, now)
    except Exception as error:  # whatever a stranger's bytes make a parser do
        return Found([], f"it cannot be read: {type(error).__name__}: {error}")
    return found._replace(items=found.items[:MAX_ITEMS])


def feed(source: Source, data: bytes, content_type: str, now: datetime) -> Found:
    """An RSS or Atom feed, or a JSON Feed (jsonfeed.org, version 1.1)."""
    if data.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{":
        return _json_feed(source, data)
    if (tags := data.count(b"<")) > MAX_TAGS or _LONG_TAG.search(data):
        return Found([], f"not read: it has {tags} tags (at most {MAX_TAGS}) or one over {MAX_TAG_BYTES} bytes")
    # The address is what relative links in it are relative to.
    headers = {"content-type": _feed_type(data, content_type), "content-location": source.url}
    parsed = feedparser.parse(
        io.BytesIO(_whole_items(data)), response_headers=headers, sanitize_html=False, resolve_relative_uris=False
    )
    language = str(parsed.feed.get("language", ""))
    found = [_item(entry, source.name, language) for entry in parsed.entries]
    if found or parsed.get("version"):
        return Found(found, "", str(parsed.feed.get("title", "")))
    return Found([], f"not a feed: {parsed.get('bozo_exception', 'neither RSS nor Atom was found in it')}")


def _whole_items(data: bytes) -> bytes:
    """A feed that was cut without the item in which it was: what is left of that one would make another article."""
    begun, ended = (max(data.rfind(mark + name) for name in (b"item", b"entry")) for mark in (b"<", b"</"))
    return data[:begun] if begun > ended and not _END.search(data, begun) else data


def _json_feed(source: Source, data: bytes) -> Found:
    content = json.loads(data)
    if "jsonfeed.org" not in str(content.get("version", "")):
        return Found([], "not a feed: JSON, but no JSON Feed")
    found = [
        Item(
            source=source.name,
            title=str(entry.get("title") or ""),
            body=str(entry.get("content_html") or entry.get("content_text") or entry.get("summary") or ""),
            url=_joined(source.url, str(entry.get("url") or entry.get("external_url") or "")),
            guid=str(entry.get("id") or ""),
            language=str(entry.get("language") or content.get("language") or ""),
            **_dated(_time_or_none(entry.get("date_published")), _time_or_none(entry.get("date_modified"))),
        )
        for entry in content.get("items", [])
    ]
    return Found(found, "", str(content.get("title") or ""))


def sitemap(source: Sitemap, data: bytes, content_type: str, now: datetime) -> Found:
    """The newest addresses of a sitemap (sitemaps.org), with what a news sitemap says of them."""
    root = etree.fromstring(_unpacked(data), etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False))
    if root.tag == f"{_SITEMAP}sitemapindex":
        listed = [str(place.text).strip() for place in root.iter(f"{_SITEMAP}loc")]
        return Found([], f"an index of sitemaps; name one of them as the source's url: {', '.join(listed[:5])}")
    if root.tag != f"{_SITEMAP}urlset":
        return Found([], f"not a sitemap: its root is {root.tag}")
    found = []
    for entry in root.iter(f"{_SITEMAP}url"):
        published_at = _time_or_none(entry.findtext(f".//{_NEWS}publication_date"))
        newest = published_at or _time_or_none(entry.findtext(f"{_SITEMAP}lastmod"))
        if newest is None or now - newest <= timedelta(days=source.newest_days):
            found.append(
                Item(
                    source=source.name,
                    title=entry.findtext(f".//{_NEWS}title") or "",
                    url=(entry.findtext(f"{_SITEMAP}loc") or "").strip(),
                    language=entry.findtext(f".//{_NEWS}language") or "",
                    published_at=published_at,
                )
            )
    return Found(found, "")


def _unpacked(data: bytes) -> bytes:
    """A sitemap, out of its gzip where it comes as a packed file. Raises zlib.error, ValueError."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    found = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, MAX_UNPACKED + 1)
    if len(found) > MAX_UNPACKED:
        raise ValueError(f"more than {MAX_UNPACKED} bytes unpacked")
    return found


def links(source: ListPage, data: bytes, content_type: str, now: datetime) -> Found:
    """The links of a page that match the selector, each address once; the link's words are the title."""
    tree = _tree(data, content_type)
    found: dict[str, Item] = {}
    for link in CSSSelector(source.selector)(tree):
        anchor = link if link.tag == "a" else next(link.iter("a"), None)
        if anchor is not None and anchor.get("href"):
            address = urljoin(source.url, anchor.get("href"))
            found.setdefault(
                address, Item(source=source.name, title=" ".join(link.text_content().split()), url=address)
            )
    return Found(list(found.values()), "" if found else f"no link matches the selector {source.selector!r}")


def api(source: JsonApi, data: bytes, content_type: str, now: datetime) -> Found:
    """The items of a JSON answer, by the paths that the source names."""
    listed = at_path(json.loads(data), source.items)
    if not isinstance(listed, list):
        return Found([], f"no list stands at items = {source.items!r}")
    found = [
        Item(
            source=source.name,
            title=text_at(entry, source.title),
            body=text_at(entry, source.body),
            url=_joined(source.url, text_at(entry, source.address)),
            guid=text_at(entry, source.id),
            published_at=_time_or_none(at_path(entry, source.published_at) if source.published_at else None),
        )
        for entry in listed
    ]
    return Found(found, "")


KINDS: Mapping[type[Source], Callable[[Any, bytes, str, datetime], Found]] = {
    Source: feed,
    Sitemap: sitemap,
    ListPage: links,
    JsonApi: api,
}


def page(data: bytes, content_type: str = "") -> Page:
    """The article's text, title and date out of an HTML page; empty where none is found."""
    try:
        tree = _tree(data, content_type)
        # A date without a time of day would make news of this minute look hours old: it is not used.
        when = next((time for text in _published(tree) if ":" in text and (time := _time_or_none(text))), None)
        language = str(tree.xpath("string(/html/@lang)"))
        if (size := int(tree.xpath("count(//*)"))) > MAX_ELEMENTS:
            return Page(
                "", "", when, language, f"it has {size} elements; in more than {MAX_ELEMENTS} no text is looked for"
            )
        read = trafilatura.bare_extraction(
            tree, with_metadata=True, include_comments=False, include_tables=False, fast=True
        )
        if not isinstance(read, Document) or not read.text:
            return Page("", "", when, language, "no article is found in it")
        return Page(read.text, read.title or "", when, language)
    except Exception as error:  # whatever a stranger's bytes make a parser do
        return Page("", fault=f"it cannot be read: {type(error).__name__}: {error}"[:300])


def foreign(title: str, found: Page) -> bool:
    """Whether a page has no word of the headline that led to it: it is another page, a wall of consent for example."""
    words = set(_LONG_WORD.findall(title.casefold()))
    return len(words) >= FEW_WORDS and not words & set(_LONG_WORD.findall(f"{found.title} {found.text}".casefold()))


def charset(data: bytes, content_type: str) -> str:
    """The encoding that a document is in: by its mark, by its bytes, by its header, by what it says itself."""
    for bom, name in _BOMS.items():
        if data.startswith(bom):
            return name
    try:
        data.decode("utf-8")
        return "utf-8"  # no other encoding looks like it by chance, whatever the header says
    except UnicodeDecodeError as error:
        if error.end >= len(data) and error.reason == "unexpected end of data":
            return "utf-8"  # cut in the middle of a character
    for said in (content_type, data[:2048].decode("ascii", "replace")):
        named = _CHARSET.search(said)
        if named and (name := _codec(named.group(1))) not in {"", "utf-8"}:
            return name
    return "cp1252"


def feeds_of(data: bytes, url: str) -> list[str]:
    """The feeds that a page names."""
    try:
        tree = _tree(data, "")
    except (etree.LxmlError, ValueError):
        return []
    kinds = ("application/rss+xml", "application/atom+xml", "application/feed+json")
    named = tree.xpath("//link[@rel='alternate' and @href]")
    return [urljoin(url, link.get("href")) for link in named if link.get("type") in kinds]


def _tree(data: bytes, content_type: str) -> Any:
    """Raises etree.LxmlError, ValueError."""
    text = data.decode(charset(data, content_type), "replace").lstrip("\ufeff")
    return html.document_fromstring(text.encode("utf-8", "replace"), parser=html.HTMLParser(encoding="utf-8"))


def _feed_type(data: bytes, content_type: str) -> str:
    """A content type that names the feed's encoding where its bytes tell it better than its header."""
    if data.isascii() or b"\0" in data or data.startswith(tuple(_BOMS)):
        return content_type or "application/xml"
    if charset(data, "") == "utf-8":
        return "application/xml; charset=utf-8"
    named = _CHARSET.search(content_type)
    return content_type if named and _codec(named.group(1)) not in {"", "utf-8"} else "application/xml"


def _codec(name: str) -> str:
    """Python's name of an encoding; empty for none that it knows. What calls itself Latin-1 is Windows' on the web."""
    try:
        known = codecs.lookup(name).name
    except LookupError:
        return ""
    return {"iso8859-1": "cp1252", "ascii": "cp1252"}.get(known, known)


def _published(tree: Any) -> Iterator[str]:
    """What a page says of its publication, the surest first."""
    yield from map(str, tree.xpath(_PUBLISHED[0]))
    for script in tree.xpath("//script[@type='application/ld+json']/text()"):
        try:
            yield from _values(json.loads(str(script)), "datePublished", 0)
        except (ValueError, RecursionError):
            continue
    for path in _PUBLISHED[1:]:
        yield from map(str, tree.xpath(path))


def _values(value: Any, name: str, depth: int) -> Iterator[str]:
    """The texts that stand under a name in nested JSON."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, dict) and isinstance(value.get(name), str):
        yield value[name]
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _values(inner, name, depth + 1)


def _item(entry: Any, source: str, language: str) -> Item:
    content = entry.get("content") or [{}]
    return Item(
        source=source,
        title=str(entry.get("title", "")),
        body=str(content[0].get("value") or entry.get("summary", "")),
        url=str(entry.get("link", "")),
        guid=str(entry.get("id", "")),
        language=str(content[0].get("language") or language or ""),
        **_dated(_time(entry.get("published_parsed")), _time(dict.get(entry, "updated_parsed"))),
    )


def _dated(published_at: datetime | None, updated_at: datetime | None) -> dict[str, Any]:
    """An item's date, and what it is where it is not that of its publication."""
    if published_at is None and updated_at is not None:
        return {"published_at": updated_at, "date_note": "the source says only when it was updated"}
    return {"published_at": published_at}


def _joined(base: str, address: str) -> str:
    try:
        return urljoin(base, address) if address else ""
    except ValueError:
        return ""


def at_path(value: Any, path: str) -> Any:
    """What stands at a dotted path; None where nothing does."""
    for part in filter(None, path.split(".")):
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            return None
    return value


def text_at(entry: Any, path: str) -> str:
    found = at_path(entry, path) if path else None
    return "" if found is None else str(found)


def _time_or_none(value: Any) -> datetime | None:
    try:
        return time_of(value)
    except ValueError:
        return None


def _time(parsed: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(timegm(parsed), UTC) if parsed else None
    except (ValueError, OverflowError, OSError):
        return None

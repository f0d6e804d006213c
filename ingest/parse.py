"""What sources answer: bytes in, items and text out; never an exception for what stands in them.

A new kind of source is a section in moodwire/settings.py and a function here, named in KINDS.
"""

import io
import json
from calendar import timegm
from collections.abc import Callable, Mapping
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
_NEWS = "{http://www.google.com/schemas/sitemap-news/0.9}"
_SITEMAP = "{http://www.sitemaps.org/schemas/sitemap/0.9}"


class Found(NamedTuple):
    items: list[Item]
    fault: str  # why there is nothing in it; empty if there is


class Page(NamedTuple):
    """What an article's page says; empty where it does not say."""

    text: str
    title: str = ""
    published_at: datetime | None = None
    language: str = ""


def items(source: AnySource, data: bytes, content_type: str, now: datetime) -> Found:
    """What a source lists."""
    try:
        found = KINDS[type(source)](source, data, content_type, now)
    except Exception as error:  # whatever a stranger's bytes make a parser do
        return Found([], f"it cannot be read: {type(error).__name__}: {error}")
    return found._replace(items=found.items[:MAX_ITEMS])


def feed(source: Source, data: bytes, content_type: str, now: datetime) -> Found:
    """An RSS or Atom feed, or a JSON Feed (jsonfeed.org, version 1.1)."""
    if data.lstrip()[:1] == b"{":
        return _json_feed(source, data)
    headers = {"content-type": content_type} if content_type else {}
    parsed = feedparser.parse(io.BytesIO(data), response_headers=headers, sanitize_html=False)
    language = str(parsed.feed.get("language", ""))
    found = [_item(entry, source.name, language) for entry in parsed.entries]
    if found or parsed.get("version"):
        return Found(found, "")
    return Found([], f"not a feed: {parsed.get('bozo_exception', 'neither RSS nor Atom was found in it')}")


def _json_feed(source: Source, data: bytes) -> Found:
    content = json.loads(data)
    if "jsonfeed.org" not in str(content.get("version", "")):
        return Found([], "not a feed: JSON, but no JSON Feed")
    found = [
        Item(
            source=source.name,
            title=str(entry.get("title") or ""),
            body=str(entry.get("content_html") or entry.get("content_text") or entry.get("summary") or ""),
            url=str(entry.get("url") or entry.get("external_url") or ""),
            guid=str(entry.get("id") or ""),
            language=str(entry.get("language") or content.get("language") or ""),
            published_at=_time_or_none(entry.get("date_published")),
        )
        for entry in content.get("items", [])
    ]
    return Found(found, "")


def sitemap(source: Sitemap, data: bytes, content_type: str, now: datetime) -> Found:
    """The newest addresses of a sitemap (sitemaps.org), with what a news sitemap says of them."""
    root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False))
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


def links(source: ListPage, data: bytes, content_type: str, now: datetime) -> Found:
    """The links of a page that match the selector, each address once; the link's words are the title."""
    tree = html.fromstring(data)
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
    listed = _at(json.loads(data), source.items)
    if not isinstance(listed, list):
        return Found([], f"no list stands at items = {source.items!r}")
    found = [
        Item(
            source=source.name,
            title=_text(entry, source.title),
            body=_text(entry, source.body),
            url=urljoin(source.url, _text(entry, source.address)) if _text(entry, source.address) else "",
            guid=_text(entry, source.id),
            published_at=_time_or_none(_at(entry, source.published_at) if source.published_at else None),
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


def page(data: bytes) -> Page:
    """The article's text, title and date out of an HTML page; empty where none is found."""
    try:
        read = trafilatura.bare_extraction(
            data, with_metadata=True, include_comments=False, include_tables=False, fast=True
        )
        if not isinstance(read, Document):
            return Page("")
        tree = html.fromstring(data)
        when = tree.xpath("string(//meta[@property='article:published_time']/@content)")
        language = str(tree.xpath("string(/html/@lang)"))
        # A date without a time of day would make news of this minute look hours old: it is not used.
        return Page(read.text or "", read.title or "", _time_or_none(when), language)
    except Exception:  # whatever a stranger's bytes make a parser do
        return Page("")


def feeds_of(data: bytes, url: str) -> list[str]:
    """The feeds that a page names."""
    try:
        tree = html.fromstring(data)
    except (etree.ParserError, ValueError):
        return []
    kinds = ("application/rss+xml", "application/atom+xml", "application/feed+json")
    named = tree.xpath("//link[@rel='alternate' and @href]")
    return [urljoin(url, link.get("href")) for link in named if link.get("type") in kinds]


def _item(entry: Any, source: str, language: str) -> Item:
    content = entry.get("content") or [{}]
    return Item(
        source=source,
        title=str(entry.get("title", "")),
        body=str(content[0].get("value") or entry.get("summary", "")),
        url=str(entry.get("link", "")),
        guid=str(entry.get("id", "")),
        language=str(content[0].get("language") or language or ""),
        published_at=_time(entry.get("published_parsed") or entry.get("updated_parsed")),
    )


def _at(value: Any, path: str) -> Any:
    """What stands at a dotted path; None where nothing does."""
    for part in filter(None, path.split(".")):
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            return None
    return value


def _text(entry: Any, path: str) -> str:
    found = _at(entry, path) if path else None
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

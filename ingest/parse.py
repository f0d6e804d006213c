"""Feeds and pages: bytes in, items and text out; never an exception for what stands in them."""

import io
from calendar import timegm
from datetime import UTC, datetime
from typing import Any, NamedTuple

import feedparser
import trafilatura

from ingest.clean import Item

MAX_ITEMS = 500


class Feed(NamedTuple):
    items: list[Item]
    fault: str  # why there is nothing in it; empty if there is


def feed(data: bytes, source: str, content_type: str = "") -> Feed:
    """The items of an RSS or Atom feed."""
    headers = {"content-type": content_type} if content_type else {}
    try:
        parsed = feedparser.parse(io.BytesIO(data), response_headers=headers, sanitize_html=False)
    except Exception as error:  # whatever a stranger's bytes make a parser do
        return Feed([], f"the feed cannot be parsed: {error}")
    language = str(parsed.feed.get("language", ""))
    items = [_item(entry, source, language) for entry in parsed.entries[:MAX_ITEMS]]
    if items or parsed.get("version"):
        return Feed(items, "")
    return Feed([], f"not a feed: {parsed.get('bozo_exception', 'neither RSS nor Atom was found in it')}")


def page_text(data: bytes) -> str:
    """The article's text out of an HTML page; empty where none is found."""
    try:
        return trafilatura.extract(data, include_comments=False, include_tables=False, fast=True) or ""
    except Exception:  # whatever a stranger's bytes make a parser do
        return ""


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


def _time(parsed: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(timegm(parsed), UTC) if parsed else None
    except (ValueError, OverflowError, OSError):
        return None

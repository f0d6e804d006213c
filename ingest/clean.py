"""From what a source says to a clean draft: pure; what was changed has a reason."""

import hashlib
import html
import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from moodwire.records import MAX_BODY_BYTES
from moodwire.store.articles import Draft

MAX_TITLE_CHARS = 1000
FUTURE = timedelta(hours=24)
ANCIENT = datetime(1990, 1, 1, tzinfo=UTC)
_TAG = re.compile(r"<(?:/?[A-Za-z][^<>]*|!--.*?--)>", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_BLANK = re.compile(r"[^\S\n]+")
_TRACKING = re.compile(r"^(utm_|fbclid|gclid|mc_|cmpid|ocid|ref$|source$)", re.IGNORECASE)


class Item(NamedTuple):
    """A piece of news as a source gave it, nothing checked yet."""

    source: str
    title: str = ""
    body: str = ""
    url: str = ""
    guid: str = ""
    language: str = ""
    published_at: datetime | None = None
    tickers: tuple[str, ...] = ()


class Refused(NamedTuple):
    reason: str


def draft(item: Item, seen_at: datetime, replayed: bool = False) -> Draft | Refused:
    """The item cleaned, or why it cannot be used."""
    body = cap(plain(item.body))
    title = " ".join(plain(item.title).split())[:MAX_TITLE_CHARS]
    if not title:
        title = " ".join(body.split()[:15])
    if not title:
        return Refused("neither a title nor a text")
    published_at, note = date(item.published_at, seen_at)
    url = canonical(item.url)
    return Draft(
        id=identity(item.source, url, item.guid, title),
        source=item.source,
        url=url,
        title=title,
        body=body,
        language=item.language[:16],
        published_at=published_at,
        seen_at=seen_at,
        tickers=item.tickers,
        replayed=replayed,
        date_note=note,
    )


def item_id(item: Item) -> str:
    """The id that the item's article will have."""
    return identity(item.source, canonical(item.url), item.guid, item.title)


def plain(text: str) -> str:
    """Text without markup, entities and control characters, blanks folded, lines kept."""
    if "<" in text or "&" in text:
        text = html.unescape(_TAG.sub(" ", text))
    return _BLANK.sub(" ", _CONTROL.sub("", text)).strip()


def cap(text: str, limit: int = MAX_BODY_BYTES) -> str:
    """At most `limit` bytes of UTF-8, cut between characters."""
    data = text.encode()
    return text if len(data) <= limit else data[:limit].decode("utf-8", "ignore")


def date(published_at: datetime | None, seen_at: datetime) -> tuple[datetime, str]:
    """The publication time to use, and why it is not the source's where it is not."""
    if published_at is None:
        return seen_at, "no date given; the time it was first seen is used"
    if published_at < ANCIENT:
        return seen_at, f"dated {published_at.isoformat()}, before 1990; the time it was first seen is used"
    if published_at - seen_at > FUTURE:
        return seen_at, f"dated {published_at.isoformat()}, in the future; the time it was first seen is used"
    return published_at, ""


def canonical(url: str) -> str:
    """The address without fragment and tracking parameters; empty where it is no http address."""
    try:
        parts = urlsplit(url.strip())
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            return ""
        kept = [(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if not _TRACKING.match(k)]
        clean = urlunsplit((parts.scheme, parts.netloc.lower(), parts.path or "/", urlencode(kept), ""))
    except ValueError:
        return ""
    return clean.encode("utf-8", "replace").decode()


def identity(source: str, url: str, guid: str, title: str) -> str:
    """The article's id: by its address; else by the source's own id; else by its title at that source."""
    if url:
        return _digest(url)
    return _digest(f"{source}\0{guid}" if guid else f"{source}\0{title}")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=10).hexdigest()

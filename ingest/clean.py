"""From what a source says to a clean draft: pure; what was changed has a reason."""

import hashlib
import html
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from moodwire.records import MAX_BODY_BYTES
from moodwire.store.articles import Draft

MAX_TITLE_CHARS = 1000
AGAIN = timedelta(hours=1)  # after which a known article is looked at again where only its summary was changed
SURE = 0.6  # probability from which a language counts as detected …
SURER = 0.9  # … where the source declares one
ENGLISH = 5  # one word in so many tells that a text is English, where it is declared so …
UNDECLARED = 5  # … and where it is not, at least so many must
DETECTED_CHARS = 240  # of a text, by which its language is told
ANCIENT = datetime(1990, 1, 1, tzinfo=UTC)
_TAG = re.compile(r"<(?:/?[A-Za-z][^<>]*|!--.*?--)>", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_BLANK = re.compile(r"[^\S\n]+")
# Words that stand in most English sentences or headlines and in few of any other language.
_ENGLISH = frozenset(
    (
        *("the", "of", "and", "with", "from", "that", "this", "these", "those", "are", "were", "have", "has"),
        *("had", "been", "its", "their", "they", "which", "what", "when", "where", "who", "how", "why", "would"),
        *("could", "should", "about", "into", "than", "then", "because", "out", "over", "your", "you", "our"),
        *("not", "new", "says", "said", "to", "is", "it", "be", "on", "by", "up", "just", "for", "after", "before"),
        *("will", "can", "get", "my", "was", "if", "now", "see", "all", "more", "some", "there", "here", "still"),
        *("today", "news", "stock", "stocks", "shares", "share", "earnings", "buy", "sell", "market", "markets"),
        *("trading", "traders", "trade", "price", "prices", "report", "reports", "research", "quarter", "year"),
        *("growth", "company", "rating", "rated", "raised", "cuts", "sales", "revenue", "results", "profit"),
        *("higher", "lower", "high", "low", "down", "off", "next", "last", "back", "between", "amid", "week", "day"),
    )
)
_MARKS = ".,:;!?\"'()-"
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
    date_note: str = ""  # where the date comes from, if not from the source's word on its publication
    mark: str = ""  # of what the source said of it, as in `mark_of`


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
    if item.published_at is not None:
        note = "; ".join(filter(None, (item.date_note, note)))
    url = canonical(item.url)
    return Draft(
        id=identity(item.source, url, item.guid, title),
        source=item.source,
        url=url,
        title=title,
        body=body,
        language=language(f"{title}\n{body}", item.language),
        published_at=published_at,
        seen_at=seen_at,
        tickers=item.tickers,
        replayed=replayed,
        date_note=note,
        mark=item.mark,
    )


def item_id(item: Item) -> str:
    """The id that the item's article will have."""
    return identity(item.source, canonical(item.url), item.guid, " ".join(plain(item.title).split())[:MAX_TITLE_CHARS])


def mark_of(item: Item) -> str:
    """What a source says of an article, beside its date, as `title mark.text mark`."""
    return f"{_digest(plain(item.title))}.{_digest(plain(item.body))}"


def unread(mark: str) -> str:
    """The mark of an item whose page could not be had for now."""
    return f"{mark.partition('.')[0]}."


def look_again(mark: str, known: Mapping[str, datetime], now: datetime) -> str:
    """Why an article's page is fetched; empty if it need not be. known: marks of it and when they were looked at."""
    if mark in known:
        return ""
    title = f"{mark.partition('.')[0]}."
    if not any(other.startswith(title) for other in known):
        return "its headline is new"
    # Some feeds count comments in their summaries.
    return "its summary was changed" if now - max(known.values()) >= AGAIN else ""


def by_host_s_clock(item: Item, ahead_s: float) -> Item:
    """The item with its date set right by what the clock of its host is ahead of ours."""
    if not ahead_s or item.published_at is None:
        return item
    way = "ahead" if ahead_s > 0 else "behind"
    note = f"the host's clock is {abs(ahead_s) / 60:.0f} min {way}: dated {item.published_at.isoformat()}"
    return item._replace(published_at=item.published_at - timedelta(seconds=ahead_s), date_note=note)


def language(text: str, declared: str) -> str:
    """The language (ISO 639-1) that a text is in; the declared one where it cannot be told; empty for neither."""
    declared = declared.strip().casefold().replace("_", "-").partition("-")[0][:16]
    if declared in {"en", ""} and _reads_english(text[:DETECTED_CHARS], 1 if declared else UNDECLARED):
        return "en"  # the detector takes a good part of ingest's time
    found, probability = detector().classify(text[:DETECTED_CHARS])
    return str(found) if probability >= (SURER if declared else SURE) else declared


def _reads_english(text: str, least: int) -> bool:
    """Whether one word in five is one of those, at least so many; cashtags, users' names and addresses are no words."""
    words = [word.strip(_MARKS) for word in text.casefold().split() if not word.startswith(("$", "@", "#", "http"))]
    known = sum(word in _ENGLISH for word in words)
    return known >= least and ENGLISH * known >= len(words)


@cache
def detector() -> LanguageIdentifier:
    """It takes most of a second to read: to be had before several threads want it at once."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


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
    """The publication time to use, and why it is not the one given where it is not."""
    if published_at is None:
        return seen_at, "no date given; the time it was first seen is used"
    if published_at < ANCIENT:
        return seen_at, f"dated {published_at.isoformat()}, before 1990; the time it was first seen is used"
    if published_at > seen_at:
        return seen_at, f"dated {published_at.isoformat()}, in the future; the time it was first seen is used"
    return published_at, ""


def canonical(url: str) -> str:
    """The address without fragment and tracking parameters; empty where it is no http address."""
    try:
        parts = urlsplit(url.strip())
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            return ""
        kept = [(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if not _TRACKING.match(k)]
        place = parts.netloc.rpartition("@")[2].lower().removesuffix({"http": ":80", "https": ":443"}[parts.scheme])
        clean = urlunsplit((parts.scheme, place, parts.path or "/", urlencode(kept), ""))
    except ValueError:
        return ""
    return clean.encode("utf-8", "replace").decode()


def identity(source: str, url: str, guid: str, title: str) -> str:
    """The article's id: by its address; else by the source's own id; else by its title at that source.

    http or https, a slash at the end and the order of a query make no other article.
    """
    if url:
        parts = urlsplit(url)
        return _digest(f"{parts.netloc}{parts.path.rstrip('/')}?{'&'.join(sorted(parts.query.split('&')))}")
    return _digest(f"{source}\0{guid}" if guid else f"{source}\0{title}")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=10).hexdigest()

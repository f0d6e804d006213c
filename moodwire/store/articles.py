"""Articles as ingest writes them: revisions, stories, feed state, and the outbox that leads to the log."""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from moodwire.records import MAX_RECORD_BYTES, STORY_HOURS, Article, encode
from moodwire.store import schema
from moodwire.store.db import Store, fact, set_fact, upsert
from moodwire.stream.log import Log

_CHUNK = 500
_RETWEET = re.compile(r"^rt @\w+:?\s*")
_NOT_WORD = re.compile(r"https?://\S+|[^\w$%]+")
_OUTBOX = "outbox"


class Draft(NamedTuple):
    """A cleaned article before it has a revision and a story."""

    id: str
    source: str
    url: str
    title: str
    body: str
    language: str
    published_at: datetime
    seen_at: datetime
    tickers: tuple[str, ...] = ()
    replayed: bool = False
    date_note: str = ""


class Stored(NamedTuple):
    new: int
    revised: int
    known: int


def title_key(title: str) -> str:
    """What titles of one story share: no case, punctuation, links or retweet mark."""
    return _NOT_WORD.sub(" ", _RETWEET.sub("", title.casefold())).strip()


def store_articles(
    store: Store,
    drafts: Sequence[Draft],
    feed: Mapping[str, Any] | None = None,
    facts: Mapping[str, str] | None = None,
) -> Stored:
    """Store what is new, with the feed's state and facts in the same transaction.

    An id with the same title and body is known; with others it is a new revision. A story is the articles of equal
    normalised title within 72 h of its first copy; it has that copy's id.
    """
    with store.write() as connection:
        held = _held(connection, {draft.id for draft in drafts})
        keys = [title_key(draft.title) or draft.id for draft in drafts]
        stories = _stories(connection, set(keys))
        rows: list[dict[str, Any]] = []
        begun: dict[str, dict[str, Any]] = {}
        revised = 0
        for draft, key in zip(drafts, keys, strict=True):
            content = _content_hash(draft)
            revision, contents = held.get(draft.id, (0, frozenset[str]()))
            if content in contents:
                continue
            held[draft.id] = (revision + 1, contents | {content})
            revised += revision > 0
            story = stories.get(key)
            if story is None or draft.seen_at - story[1] > timedelta(hours=STORY_HOURS):
                story = stories[key] = (draft.id, draft.seen_at)
                begun[key] = {"title_key": key, "story_id": story[0], "first_seen_at": story[1]}
            rows.append(_row(draft, revision + 1, story[0], content))
        if rows:
            connection.execute(sa.insert(schema.articles), rows)
        upsert(connection, schema.stories, list(begun.values()))
        if feed is not None:
            upsert(connection, schema.feeds, [{**feed, "items": _items(connection, feed["source"]) + len(rows)}])
        for name, value in (facts or {}).items():
            set_fact(connection, name, value)
    return Stored(len(rows) - revised, revised, len(drafts) - len(rows))


def drain(store: Store, log: Log, limit: int = 1000) -> int:
    """Append to the log what is stored and not appended yet; returns how many.

    The position is kept after the append: after a crash between the two, articles are appended again.
    """
    a = schema.articles.c
    with store.read() as connection:
        position = int(fact(connection, _OUTBOX, "0"))
        rows = connection.execute(sa.select(schema.articles).where(a.seq > position).order_by(a.seq).limit(limit)).all()
    if not rows:
        return 0
    entries = []
    for row in rows:
        article = Article(
            id=row.id,
            revision=row.revision,
            source=row.source,
            url=row.url,
            title=row.title,
            body=row.body,
            language=row.language,
            published_at=row.published_at,
            seen_at=row.seen_at,
            story_id=row.story_id,
            tickers=tuple(row.tickers.split()),
            replayed=row.replayed,
            date_note=row.date_note,
        )
        entries.append((row.story_id, encode(article), None))
    size = 0
    group: list[tuple[str, bytes, int | None]] = []
    for entry in entries:  # a batch of long articles goes in several appends
        if size + len(entry[1]) > 8 * MAX_RECORD_BYTES:
            log.append("articles", group)
            size, group = 0, []
        size += len(entry[1])
        group.append(entry)
    log.append("articles", group)
    with store.write() as connection:
        set_fact(connection, _OUTBOX, str(rows[-1].seq))
    return len(rows)


def is_empty(connection: sa.Connection) -> bool:
    return connection.execute(sa.select(schema.articles.c.seq).limit(1)).first() is None


def feed_states(store: Store) -> dict[str, dict[str, Any]]:
    """By source: the row of `feeds`."""
    with store.read() as connection:
        return {row["source"]: dict(row) for row in connection.execute(sa.select(schema.feeds)).mappings()}


def save_feed(store: Store, feed: Mapping[str, Any]) -> None:
    """A feed's state where nothing was ingested with it."""
    store_articles(store, (), feed)


def known_ids(store: Store, ids: Collection[str]) -> set[str]:
    with store.read() as connection:
        return set(_held(connection, set(ids)))


def _row(draft: Draft, revision: int, story_id: str, content: str) -> dict[str, Any]:
    return {
        "id": draft.id,
        "revision": revision,
        "source": draft.source,
        "url": draft.url,
        "title": draft.title,
        "body": draft.body,
        "language": draft.language,
        "published_at": draft.published_at,
        "seen_at": draft.seen_at,
        "story_id": story_id,
        "tickers": " ".join(draft.tickers),
        "replayed": draft.replayed,
        "date_note": draft.date_note,
        "content_hash": content,
    }


def _content_hash(draft: Draft) -> str:
    return hashlib.blake2b(f"{draft.title}\0{draft.body}".encode(), digest_size=12).hexdigest()


def _held(connection: sa.Connection, ids: set[str]) -> dict[str, tuple[int, frozenset[str]]]:
    """By article id: the newest revision, and the content hashes of all."""
    a = schema.articles.c
    held: dict[str, tuple[int, frozenset[str]]] = {}
    for chunk in _chunks(ids):
        for id_, revision, content in connection.execute(
            sa.select(a.id, a.revision, a.content_hash).where(a.id.in_(chunk))
        ):
            newest, contents = held.get(id_, (0, frozenset[str]()))
            held[id_] = (max(newest, revision), contents | {content})
    return held


def _stories(connection: sa.Connection, keys: set[str]) -> dict[str, tuple[str, datetime]]:
    s = schema.stories.c
    found: dict[str, tuple[str, datetime]] = {}
    for chunk in _chunks(keys):
        query = sa.select(s.title_key, s.story_id, s.first_seen_at).where(s.title_key.in_(chunk))
        found.update({key: (story, first) for key, story, first in connection.execute(query)})
    return found


def _items(connection: sa.Connection, source: str) -> int:
    query = sa.select(schema.feeds.c["items"]).where(schema.feeds.c.source == source)
    return int(connection.execute(query).scalar() or 0)


def _chunks(values: set[str]) -> list[list[str]]:
    ordered = sorted(values)
    return [ordered[at : at + _CHUNK] for at in range(0, len(ordered), _CHUNK)]

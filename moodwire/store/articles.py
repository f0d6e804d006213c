"""Articles as ingest writes them: revisions, stories, feed state, and the outbox that leads to the log."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from moodwire.records import MAX_RECORD_BYTES, Article, encode
from moodwire.store import schema
from moodwire.store.db import Store, fact, insert_absent, set_fact, take_turns, upsert
from moodwire.store.partitions import registry
from moodwire.stream.log import Log

_CHUNK = 500
_OUTBOX = "outbox"
_REGISTERED = tuple(registry.c.keys())
_COMPARED = ("id", "title", "body", "seen_at")  # of a first copy


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


class _Held(NamedTuple):
    """What is stored of an article."""

    revision: int  # the newest
    contents: frozenset[str]  # hashes, of all revisions
    story_id: str


class Stored(NamedTuple):
    new: int
    revised: int
    known: int


def store_articles(
    store: Store,
    drafts: Sequence[Draft],
    story_of: Callable[[Draft], str],
    feed: Mapping[str, Any] | None = None,
    facts: Mapping[str, str] | None = None,
) -> Stored:
    """Store what is new, with the feed's state and facts in the same transaction.

    An id with the same title and body is known; with others it is a new revision, of the same story. `story_of` is
    asked, in order, for the story of each new article: its own id if it is the first copy.
    """
    store.make_room(schema.articles, (draft.seen_at for draft in drafts))
    with store.write() as connection:
        # `seq` must grow as transactions end: the outbox would pass over what is kept later with a smaller one.
        take_turns(connection, "articles")
        held = _held(connection, {draft.id for draft in drafts})
        rows: list[dict[str, Any]] = []
        revised = 0
        for draft in drafts:
            content = _content_hash(draft)
            known = held.get(draft.id)
            if known is not None and content in known.contents:
                continue
            story = known.story_id if known else story_of(draft)
            revision, contents = (known.revision, known.contents) if known else (0, frozenset[str]())
            held[draft.id] = _Held(revision + 1, contents | {content}, story)
            revised += revision > 0
            rows.append(_row(draft, revision + 1, story, content))
        if rows:
            insert_absent(connection, schema.articles, rows)
            if not store.sqlite:
                insert_absent(connection, registry, [{name: row[name] for name in _REGISTERED} for row in rows])
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


def first_copies(store: Store, within: timedelta) -> Iterator[Draft]:
    """The first copies of stories seen so long before the newest article, in the order in which they were stored."""
    a = schema.articles.c
    with store.read() as connection:
        newest = connection.execute(sa.select(a.seen_at).order_by(a.seq.desc()).limit(1)).scalar()
        if newest is None:
            return
        first = sa.and_(a.id == a.story_id, a.revision == 1, a.seen_at >= newest - within)
        for row in connection.execute(sa.select(*(a[name] for name in _COMPARED)).where(first).order_by(a.seq)):
            yield Draft(**row._mapping, url="", language="", published_at=row.seen_at, source="")


def save_feed(store: Store, feed: Mapping[str, Any]) -> None:
    """A feed's state where nothing was ingested with it."""
    store_articles(store, (), lambda draft: draft.id, feed)


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


def _held(connection: sa.Connection, ids: set[str]) -> dict[str, _Held]:
    """By article id."""
    # PostgreSQL: the registry has no partitions to look through.
    a = schema.articles.c if connection.dialect.name == "sqlite" else registry.c
    held: dict[str, _Held] = {}
    for chunk in _chunks(ids):
        query = sa.select(a.id, a.revision, a.content_hash, a.story_id).where(a.id.in_(chunk))
        for id_, revision, content, story in connection.execute(query):
            known = held.get(id_)
            contents = known.contents | {content} if known else frozenset([content])
            held[id_] = _Held(max(revision, known.revision if known else 0), contents, story)
    return held


def _items(connection: sa.Connection, source: str) -> int:
    query = sa.select(schema.feeds.c["items"]).where(schema.feeds.c.source == source)
    return int(connection.execute(query).scalar() or 0)


def _chunks(values: set[str]) -> list[list[str]]:
    ordered = sorted(values)
    return [ordered[at : at + _CHUNK] for at in range(0, len(ordered), _CHUNK)]

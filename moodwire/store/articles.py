"""Articles as ingest writes them: revisions, stories, feed state, and the outbox that leads to the log."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from moodwire.records import MAX_RECORD_BYTES, Article, encode
from moodwire.store import schema
from moodwire.store.db import Store, among, fact, insert_absent, set_fact, take_turns, upsert
from moodwire.store.partitions import registry
from moodwire.store.sources import Fetch, count_fetch, count_items
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
    mark: str = ""  # of what the source said of it, where its page was looked at
    loose: bool = False  # its source may name it otherwise next time: an equal text from there is the same article


class _Held(NamedTuple):
    """What is stored of an article."""

    source: str  # that brought it first
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
    is_edit: Callable[[Draft, Draft], bool] = lambda old, new: True,
    fetch: Fetch | None = None,
) -> Stored:
    """Store what is new, with the feed's state, its fetch and facts in the same transaction.

    An id with the same title and body is known. With others it is a new revision, of the same story, if `is_edit` of
    what is stored and the source is the one that brought it; an edit by another source is known; and what is no edit is
    an article of its own, under an id made of both. `story_of` is asked, in order, for the story of each new article:
    its own id if it is the first copy.
    """
    store.make_room(schema.articles, (draft.seen_at for draft in drafts))
    with store.write() as connection:
        # `seq` must grow as transactions end: the outbox would pass over what is kept later with a smaller one.
        take_turns(connection, "articles")
        shelf = _Shelf(connection, drafts)
        rows: list[dict[str, Any]] = []
        revised = 0
        for draft in drafts:
            content = _content_hash(draft)
            id_ = shelf.place(draft, content, is_edit)
            if id_ is None:
                continue
            known = shelf.held.get(id_)
            placed = draft._replace(id=id_)
            story = known.story_id if known else story_of(placed)
            revision = shelf.put(placed, content, story)
            revised += revision > 1
            rows.append(_row(placed, revision, story, content))
        if rows:
            insert_absent(connection, schema.articles, rows)
            if not store.sqlite:
                insert_absent(connection, registry, [{name: row[name] for name in _REGISTERED} for row in rows])
        marks = {(draft.id, draft.mark): draft.seen_at for draft in drafts if draft.mark}
        upsert(connection, schema.entries, [{"id": id_, "mark": m, "at": at} for (id_, m), at in marks.items()])
        if feed is not None:
            _store_feed(connection, feed, rows, fetch)
        if fetch is not None:
            count_fetch(connection, fetch)
        for name, value in (facts or {}).items():
            set_fact(connection, name, value)
    return Stored(len(rows) - revised, revised, len(drafts) - len(rows))


class _Shelf:
    """What is stored under the ids of some drafts, and where each of them belongs."""

    def __init__(self, connection: sa.Connection, drafts: Sequence[Draft]) -> None:
        self.held = _held(connection, {draft.id for draft in drafts})
        self._connection = connection
        self._put: dict[str, Draft] = {}  # not in the table yet
        self._contents: set[tuple[str, str]] = set()

    def place(self, draft: Draft, content: str, is_edit: Callable[[Draft, Draft], bool]) -> str | None:
        """The id to store a draft under; None if it is known."""
        known = self.held.get(draft.id)
        if known is None:
            return None if draft.loose and self._given_before(draft, content) else draft.id
        if content in known.contents:
            return None
        other = hashlib.blake2b(f"{draft.id}\0{content}".encode(), digest_size=10).hexdigest()
        self.held |= _held(self._connection, {other}) if other not in self.held else {}
        if other in self.held:  # it came before, and was no edit of what stood there then
            return None
        if is_edit(self._newest(draft.id, known.revision), draft):
            return draft.id if known.source == draft.source else None
        return other

    def put(self, draft: Draft, content: str, story_id: str) -> int:
        """Keep in mind what will be stored; returns its revision."""
        known = self.held.get(draft.id) or _Held(draft.source, 0, frozenset(), story_id)
        self.held[draft.id] = known._replace(revision=known.revision + 1, contents=known.contents | {content})
        self._put[draft.id] = draft
        self._contents.add((draft.source, content))
        return known.revision + 1

    def _given_before(self, draft: Draft, content: str) -> bool:
        """Whether the source gave the same text without an address before: its ids change."""
        a = schema.articles.c
        same = sa.and_(a.content_hash == content, a.url == "", a.source == draft.source)
        if (draft.source, content) in self._contents:
            return True
        return self._connection.execute(sa.select(a.seq).where(same).limit(1)).first() is not None

    def _newest(self, id_: str, revision: int) -> Draft:
        if id_ in self._put:
            return self._put[id_]
        a = schema.articles.c
        query = sa.select(*(a[name] for name in _COMPARED)).where(a.id == id_, a.revision == revision)
        return _compared(self._connection.execute(query).one())


def _store_feed(
    connection: sa.Connection, feed: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], fetch: Fetch | None
) -> None:
    f = schema.feeds.c
    query = sa.select(f["items"], f.item_at, f.first_at).where(f.source == feed["source"])
    items, item_at, first_at = connection.execute(query).one_or_none() or (0, None, None)
    first_at = first_at or (fetch.at if fetch else None)
    if rows:
        item_at = max(row["seen_at"] for row in rows)
        count_items(connection, feed["source"], item_at, len(rows))
    kept = {"items": items + len(rows), "item_at": item_at, "first_at": first_at}
    upsert(connection, schema.feeds, [{**feed, **kept}])


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
            yield _compared(row)


def save_feed(store: Store, feed: Mapping[str, Any], fetch: Fetch | None = None) -> None:
    """A feed's state where nothing was ingested with it, and its fetch where one was done."""
    store_articles(store, (), lambda draft: draft.id, feed, fetch=fetch)


def marks(store: Store, ids: Collection[str]) -> dict[str, dict[str, datetime]]:
    """By article id: what was said of it, as marks, and when it was looked at for it."""
    e = schema.entries.c
    found: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    with store.read() as connection:
        for chunk in _chunks(set(ids)):
            for id_, mark, at in connection.execute(sa.select(e.id, e.mark, e.at).where(e.id.in_(chunk))):
                found[id_][mark] = at
    return dict(found)


def _compared(row: Any) -> Draft:
    return Draft(**row._mapping, url="", language="", published_at=row.seen_at, source="")


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
        query = sa.select(a.id, a.source, a.revision, a.content_hash, a.story_id).where(among(connection, a.id, chunk))
        for id_, source, revision, content, story in connection.execute(query.order_by(a.revision)):
            known = held.get(id_) or _Held(source, 0, frozenset(), story)
            held[id_] = known._replace(revision=revision, contents=known.contents | {content})
    return held


def _chunks(values: set[str]) -> list[list[str]]:
    ordered = sorted(values)
    return [ordered[at : at + _CHUNK] for at in range(0, len(ordered), _CHUNK)]

"""Scores as the classifier writes them: immutable, the first written of a key stays."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from moodwire.records import WINDOW_S, Scored, decode, encode, floor_time
from moodwire.store import schema
from moodwire.store.db import Store, among, insert_absent
from moodwire.store.partitions import registry

_LABEL = {"negative": -1, "neutral": 0, "positive": 1}
_CHUNK = 500


def store_scores(store: Store, scored: Sequence[Scored], fresh: timedelta) -> list[Scored]:
    """Store what is not there yet, in one transaction; returns what the store then holds, in the given order.

    Also decides by which record an article and a story count for each series: the first one in the order of
    `articles` offsets. A story's records stand in one partition and are stored in its order, so the first stored is
    the first.
    """
    if not scored:
        return []
    known_at = store.now()
    store.make_room(schema.scores, (record.seen_at for record in scored))
    store.make_room(schema.counted, (record.published_at for record in scored))
    with store.write() as connection:
        held = _held(connection, scored)
        new: dict[tuple[str, int, str], Scored] = {}
        for record in scored:
            key = (record.id, record.revision, record.model)
            if key not in held:
                new.setdefault(key, record)
        by_article, by_story = _counted_for(connection, new.values())
        score_rows: list[dict[str, Any]] = []
        counted_rows: list[dict[str, Any]] = []
        for record in new.values():
            score_rows.append(_score_row(record, record.seen_at if record.replayed else known_at))
            start = floor_time(record.published_at, WINDOW_S)
            is_fresh = record.seen_at - record.published_at <= fresh
            article, story = by_article[record.id], by_story[record.story_id]
            for series in record.series:
                counted_rows.append(
                    {
                        "series": series.name,
                        "start": start,
                        "partition": record.partition,
                        "offset": record.offset,
                        "id": record.id,
                        "revision": record.revision,
                        "story_id": record.story_id,
                        "label": _LABEL[series.label],
                        "score_e4": series.score_e4,
                        "fresh": is_fresh,
                        "first_article": series.name not in article,
                        "first_story": series.name not in story,
                    }
                )
                article.add(series.name)
                story.add(series.name)
        insert_absent(connection, schema.scores, score_rows)
        insert_absent(connection, schema.counted, counted_rows)
        # Another classifier may have been first meanwhile, after a rebalance: what it wrote stays.
        held.update(new if store.sqlite else _held(connection, list(new.values())))
    return [held[record.id, record.revision, record.model] for record in scored]


def _score_row(record: Scored, known_at: Any) -> dict[str, Any]:
    top = max(record.topics, key=lambda topic: topic.p, default=None)
    return {
        "id": record.id,
        "revision": record.revision,
        "model": record.model,
        "source": record.source,
        "story_id": record.story_id,
        "published_at": record.published_at,
        "seen_at": record.seen_at,
        "p_negative": record.sentiment.negative,
        "p_neutral": record.sentiment.neutral,
        "p_positive": record.sentiment.positive,
        "score": record.sentiment.score,
        "topic": top.name if top else "",
        "p_topic": top.p if top else 0.0,
        "record": encode(record),
        "scored_at": record.scored_at,
        "known_at": known_at,
    }


def _held(connection: sa.Connection, scored: Sequence[Scored]) -> dict[tuple[str, int, str], Scored]:
    held: dict[tuple[str, int, str], Scored] = {}
    since = min((record.seen_at for record in scored), default=None)
    for record in _records(connection, schema.scores.c.id, {record.id for record in scored}, since):
        held[record.id, record.revision, record.model] = record
    return held


def _counted_for(
    connection: sa.Connection, records: Iterable[Scored]
) -> tuple[defaultdict[str, set[str]], defaultdict[str, set[str]]]:
    """By article id and by story id: the series they are counted for already."""
    by_article: defaultdict[str, set[str]] = defaultdict(set)
    by_story: defaultdict[str, set[str]] = defaultdict(set)
    ids, stories = {record.id for record in records}, {record.story_id for record in records}
    since = _first_seen(connection, ids, stories)
    for earlier in _records(connection, schema.scores.c.id, ids, since):
        by_article[earlier.id].update(series.name for series in earlier.series)
    for earlier in _records(connection, schema.scores.c.story_id, stories, since):
        by_story[earlier.story_id].update(series.name for series in earlier.series)
    return by_article, by_story


def _first_seen(connection: sa.Connection, ids: set[str], stories: set[str]) -> datetime | None:
    """PostgreSQL: before this none of the articles and stories was seen, so older partitions need no look."""
    if connection.dialect.name == "sqlite" or not ids:
        return None
    r = registry.c
    known = sa.or_(r.id == sa.any_(sa.literal(sorted(ids))), r.story_id == sa.any_(sa.literal(sorted(stories))))
    return connection.execute(sa.select(sa.func.min(r.seen_at)).where(known)).scalar()


def _records(
    connection: sa.Connection, column: sa.Column[Any], values: Iterable[str], since: datetime | None
) -> Iterable[Scored]:
    wanted = sorted(values)
    for at in range(0, len(wanted), _CHUNK):
        query = sa.select(schema.scores.c.record).where(among(connection, column, wanted[at : at + _CHUNK]))
        if since is not None and connection.dialect.name == "postgresql":
            query = query.where(schema.scores.c.seen_at >= since)
        for (data,) in connection.execute(query):
            record = decode(data)
            assert isinstance(record, Scored)
            yield record

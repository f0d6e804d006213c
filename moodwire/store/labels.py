"""Labels as people correct them: kept with who and when, for training; past series never change by them."""

from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import pandas as pd
import sqlalchemy as sa

from moodwire.store import queries, schema
from moodwire.store.access import note
from moodwire.store.db import Store

Head = Literal["sentiment", "topic"]
_OF_MODEL = ("id", "revision", "model", "p_negative", "p_neutral", "p_positive", "topic", "p_topic")


class Correction(NamedTuple):
    id: str
    revision: int
    head: Head
    label: str
    was: str  # what the model said
    model: str
    who: str
    at: datetime


def correct(store: Store, correction: Correction) -> int:
    """Keep it; returns its number. A later one of the same article and head outweighs it."""
    with store.write() as connection:
        result = connection.execute(sa.insert(schema.labels).values(**correction._asdict()))
        about = f"{correction.id} {correction.revision}: {correction.head} {correction.label}, not {correction.was}"
        note(connection, correction.at, correction.who, "label", about)
        return int(result.inserted_primary_key[0])  # type: ignore[index]


def take_back(store: Store, number: int, who: str, now: datetime) -> bool:
    """Forget one's own correction; False if it is not there or someone else's."""
    ours = sa.and_(schema.labels.c.seq == number, schema.labels.c.who == who)
    with store.write() as connection:
        if not connection.execute(sa.delete(schema.labels).where(ours)).rowcount:
            return False
        note(connection, now, who, "take label back", f"{number}")
        return True


def corrections(
    store: Store, series: str | None, start: datetime | None, end: datetime | None, limit: int | None
) -> pd.DataFrame:
    """The last word on each article and head, newest first, with the text that it is about. `series` is not asked."""
    c, a = schema.labels.c, schema.articles.c
    newest = sa.select(sa.func.max(c.seq)).group_by(c.id, c.revision, c.head)
    query = (
        sa.select(c.at, c.who, c.head, c.label, c.was, c.model, c.id, c.revision, a.source, a.title, a.body)
        .join_from(schema.labels, schema.articles, sa.and_(a.id == c.id, a.revision == c.revision))
        .where(c.seq.in_(newest))
        .order_by(c.seq.desc())
        .limit(limit)
    )
    if start is not None:
        query = query.where(c.at >= start)
    if end is not None:
        query = query.where(c.at < end)
    return queries.fetch(store, query)


def to_label(store: Store, now: datetime, within: timedelta, limit: int) -> pd.DataFrame:
    """First copies of recent stories that no one has labelled, those first of which the model is least sure.

    Columns: the article's id, revision, source, url, title, body, published_at, and the model's opinion.
    """
    s, a, given = schema.scores.c, schema.articles.c, schema.labels.c
    done = sa.exists().where(given.id == s.id, given.revision == s.revision)
    surest = sa.case(
        (sa.and_(s.p_neutral >= s.p_negative, s.p_neutral >= s.p_positive), s.p_neutral),
        (s.p_negative >= s.p_positive, s.p_negative),
        else_=s.p_positive,
    ).label("surest")
    scores = (
        sa.select(*(s[name] for name in _OF_MODEL), surest)
        .where(s.published_at >= now - within, s.id == s.story_id, ~done)
        .order_by(surest, s.id)
        .limit(limit)
        .subquery()
    )
    query = (
        sa.select(*(scores.c[name] for name in _OF_MODEL), a.source, a.url, a.title, a.body, a.published_at)
        .join_from(scores, schema.articles, sa.and_(a.id == scores.c.id, a.revision == scores.c.revision))
        .order_by(scores.c.surest, scores.c.id)
    )
    return queries.fetch(store, query)


def sentiment_of(row: Any) -> str:
    """The model's label of a row with its probabilities; a tie goes to neutral, then negative."""
    if row.p_neutral >= row.p_negative and row.p_neutral >= row.p_positive:
        return "neutral"
    return "negative" if row.p_negative >= row.p_positive else "positive"

"""Forgetting the text of a source or of an article. What was counted stays counted."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from moodwire.errors import BadInput
from moodwire.records import Alert, Evidence, encode
from moodwire.store import schema
from moodwire.store.access import note
from moodwire.store.db import Store
from moodwire.store.incidents import alert_of

FORGOTTEN = "(forgotten)"  # in place of a title
CHUNK = 1000  # rows a transaction, so that no stage waits long


class Counts(NamedTuple):
    articles: int  # revisions
    alerts: int
    messages: int


def found(store: Store, what: str) -> sa.ColumnElement[bool]:
    """Which articles are meant: that of an id, or all of a source. Raises BadInput where there are none."""
    a = schema.articles.c
    with store.read() as connection:
        for which in (a.id == what, a.source == what):
            if connection.execute(sa.select(a.seq).where(which).limit(1)).first() is not None:
                return which
    raise BadInput(f"there is neither an article nor a source {what!r}; see `moodwire query articles`")


def count(store: Store, what: str) -> int:
    """Revisions of articles that would be forgotten. Raises BadInput where there are none."""
    with store.read() as connection:
        query = sa.select(sa.func.count()).select_from(schema.articles).where(found(store, what))
        return connection.execute(query).scalar_one()


def forget(store: Store, what: str, by: str, now: datetime) -> Counts:
    """Delete titles, texts and addresses, also from alerts and messages. Raises BadInput where there are none.

    The content's hash stays, so that the same text does not come in anew. The stream keeps its records for as long as
    it keeps any.
    """
    which = found(store, what)
    a = schema.articles.c
    with store.write() as connection:
        note(connection, now, by, "forget", what)
    articles = 0
    left = sa.and_(which, sa.or_(a.title != FORGOTTEN, a.body != "", a.url != ""))
    while True:
        with store.write() as connection:
            some = list(connection.execute(sa.select(a.seq).where(left).limit(CHUNK)).scalars())
            change = sa.update(schema.articles).where(which, a.seq.in_(some))
            connection.execute(change.values(title=FORGOTTEN, body="", url=""))
        articles += len(some)
        if len(some) < CHUNK:
            break

    def is_meant(story: Evidence) -> bool:
        return what in {story.article_id, story.source}

    return Counts(articles, _in_alerts(store, is_meant), _in_messages(store, is_meant))


def _in_alerts(store: Store, is_meant: Callable[[Evidence], bool]) -> int:
    a = schema.alerts.c
    changed = after = 0
    while True:
        with store.write() as connection:
            query = sa.select(a.seq, a.record).where(a.seq > after).order_by(a.seq).limit(CHUNK)
            rows = connection.execute(query).all()
            for row in rows:
                old = alert_of(row.record)
                if (new := without(old, is_meant)) != old:
                    changed += 1
                    connection.execute(sa.update(schema.alerts).where(a.seq == row.seq).values(record=encode(new)))
        if len(rows) < CHUNK:
            return changed
        after = rows[-1].seq


def _in_messages(store: Store, is_meant: Callable[[Evidence], bool]) -> int:
    d = schema.deliveries.c
    changed, after = 0, ""
    while True:
        with store.write() as connection:
            query = sa.select(d.key, d.record).where(d.key > after).order_by(d.key).limit(CHUNK)
            rows = connection.execute(query).all()
            for row in rows:
                message: dict[str, Any] = msgspec.json.decode(row.record)
                old = [msgspec.convert(alert, Alert) for alert in message["alerts"]]
                new = [without(alert, is_meant) for alert in old]
                if new != old:
                    changed += 1
                    record = msgspec.json.encode({**message, "alerts": new})
                    connection.execute(sa.update(schema.deliveries).where(d.key == row.key).values(record=record))
        if len(rows) < CHUNK:
            return changed
        after = rows[-1].key


def without(alert: Alert, is_meant: Callable[[Evidence], bool]) -> Alert:
    """An alert that no longer tells these stories, nor words of them."""
    if not any(is_meant(story) and story.title != FORGOTTEN for story in alert.evidence):
        return alert
    evidence = tuple(
        msgspec.structs.replace(story, title=FORGOTTEN, url="") if is_meant(story) else story
        for story in alert.evidence
    )
    return msgspec.structs.replace(alert, evidence=evidence, words=())

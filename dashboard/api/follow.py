"""The live feed: server-sent events that can be taken up again where they broke off."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

import msgspec

from dashboard.data import Data
from dashboard.live import Live
from moodwire.answers import packed, unpacked
from moodwire.errors import BadInput, MoodwireError
from moodwire.records import Alert, from_micros, micros
from moodwire.store.following import MANY, SETTLE, Place, ScoredArticle, place_now, scored_after
from moodwire.store.incidents import alerts_after

Whole = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Text = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^\x00]*$")]
QUIET = ":\n\n"  # a comment: the connection is alive


class Follower:
    """One listener: up to where it has been told, and what of that may come up again."""

    def __init__(self, data: Data, series: str | None, place: Place | None) -> None:
        self._data = data
        self._series = series
        self._place = place
        self._told: dict[tuple[datetime, str, int], None] = {}

    async def events(self, live: Live) -> AsyncIterator[str]:
        """Text of the stream, without end. What the listener missed comes at once, the rest with the beats."""
        if self._place is None:
            self._place = await asyncio.to_thread(place_now, self._data.store)
        yield QUIET
        at = live.now()
        turns = live.turns()
        try:
            while True:
                found, more = await asyncio.to_thread(self.found, at)
                for text in found or ([] if more else [QUIET]):
                    yield text
                if not more:
                    at = await anext(turns)
        finally:
            await turns.aclose()

    def found(self, at: datetime) -> tuple[list[str], bool]:
        """The events that have come up to a beat, and whether there may be more of them."""
        assert self._place is not None
        try:
            articles = self._data.ask_at(at, scored_after, self._place)
            alerts = self._data.ask_at(at, alerts_after, self._place.alert, MANY)
        except MoodwireError:  # the store is away for a while; the next beat tells
            return [], False
        texts = []
        for article in articles:
            if article.key in self._told:
                continue
            self._told[article.key] = None
            if article.key > self._place[:3]:
                self._place = self._place._replace(
                    known_at=article.known_at, id=article.record.id, revision=article.record.revision
                )
            if self._wants([series.name for series in article.record.series]):
                texts.append(self._event("article", _article(article)))
        for number, alert in alerts:
            self._place = self._place._replace(alert=number)
            if self._wants([alert.series]):
                texts.append(self._event("incident", _incident(alert)))
        self._told = {key: None for key in self._told if key[0] > self._place.known_at - SETTLE}
        return texts, max(len(articles), len(alerts)) >= MANY

    def _wants(self, series: list[str]) -> bool:
        return self._series is None or self._series in series

    def _event(self, kind: str, what: dict[str, Any]) -> str:
        assert self._place is not None
        return f"id: {closed(self._place)}\nevent: {kind}\ndata: {msgspec.json.encode(what).decode()}\n\n"


def closed(place: Place) -> str:
    """As an event's id."""
    return packed([micros(place.known_at), *place[1:]])


def opened(text: str) -> Place:
    """Raises BadInput for what is no event's id."""
    try:
        known_us, *rest = unpacked(text, tuple[Whole, Text, Whole, Whole])
        return Place(from_micros(known_us), *rest)
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{text!r:.60} is no id of an event of ours; leave Last-Event-ID out to begin now") from error


def _article(article: ScoredArticle) -> dict[str, Any]:
    record = article.record
    return {
        "id": record.id,
        "revision": record.revision,
        "story_id": record.story_id,
        "first": record.id == record.story_id and record.revision == 1,
        "source": record.source,
        "url": article.url,
        "title": article.title,
        "published_at": record.published_at,
        "known_at": article.known_at,
        "score": round(record.sentiment.score, 4),
        "label": record.sentiment.label,
        "topics": [topic.name for topic in record.topics[:1]],
        "series": [
            {"series": series.name, "label": series.label, "score": series.score_e4 / 1e4} for series in record.series
        ],
    }


def _incident(alert: Alert) -> dict[str, Any]:
    names = ("incident_id", "rule", "series", "state", "change", "at", "since", "observed", "expected", "reason")
    return {name: getattr(alert, name) for name in names}

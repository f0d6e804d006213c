"""The classifier as a stage: articles in, scored articles out, in the order in which they came."""

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

from classifier import explain
from classifier.engine import Engine, Scores, Span, open_engine
from classifier.entities import Mention, Watchlist
from classifier.labels import TOPICS
from moodwire import symbology
from moodwire.records import (
    Article,
    Entity,
    Heartbeat,
    Scored,
    Sentiment,
    Series,
    Topic,
    encode,
)
from moodwire.stage import Context, Taken, consume
from moodwire.store.commands import JOIN_S
from moodwire.store.scores import store_scores
from moodwire.words import whole

NAME = "classifier"
MINIMUM_RELEVANCE = 0.6  # an article counts for a company named in its headline or lead, not in passing
KEPT_TOPIC = 0.05  # topics below this are not kept in the record


def run(context: Context) -> None:
    """Until the stop: `articles` in, `scored` out. Raises ModelError when the weights are not sound."""
    settings = context.settings
    engine = OneAtATime(open_engine(settings.model.engine, threads=settings.model.threads or None))
    companies = settings.watchlist.companies
    watchlist = Watchlist(companies, symbology.companies().values())
    groups = {company.symbol: company.groups for company in companies}
    context.pulse.note = engine.model

    def handle(batch: Sequence[Taken]) -> None:
        articles = [t for t in batch if isinstance(t.record, Article)]
        fresh = timedelta(seconds=settings.windows.fresh_s)
        scored = score_articles(engine, watchlist, groups, settings.topics.threshold, articles, context.clock())
        held = iter(store_scores(context.store, scored, fresh))
        out: list[tuple[str, bytes, int | None]] = []
        for message, record in batch:
            if isinstance(record, Article):
                out.append((message.key, encode(next(held)), message.partition))
            elif isinstance(record, Heartbeat):
                out.append((message.key, message.value, message.partition))
        context.log.append("scored", out)

    explainer = threading.Thread(target=explain.run, args=(context, engine), name="explain", daemon=True)
    explainer.start()
    consume(context, "articles", NAME, handle, max_records=settings.model.batch)
    explainer.join(JOIN_S)


class OneAtATime:
    """An engine for several threads."""

    def __init__(self, engine: Engine) -> None:
        self.model = engine.model
        self._engine = engine
        self._lock = threading.Lock()

    def score(self, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> list[Scores]:
        with self._lock:
            return self._engine.score(texts, spans)


def score_articles(
    engine: Engine,
    watchlist: Watchlist,
    groups: dict[str, tuple[str, ...]],
    threshold: float,
    articles: Sequence[Taken],
    now: datetime,
) -> list[Scored]:
    """One Scored for each article, in order. `threshold`: the probability from which a topic counts."""
    records = [t.record for t in articles if isinstance(t.record, Article)]
    mentions = [watchlist.find(article.title, article.body, article.tickers) for article in records]
    texts = [whole(article.title, article.body) for article in records]
    spans = [[(mention.start, mention.end) for mention in found if mention.start >= 0] for found in mentions]
    results = engine.score(texts, spans)
    return [
        _scored(taken, article, found, result, engine.model, groups, threshold, now)
        for taken, article, found, result in zip(articles, records, mentions, results, strict=True)
    ]


def _scored(
    taken: Taken,
    article: Article,
    mentions: Sequence[Mention],
    result: Scores,
    model: str,
    groups: dict[str, tuple[str, ...]],
    threshold: float,
    now: datetime,
) -> Scored:
    sentiment = Sentiment(*result.sentiment)
    topics = tuple(
        sorted(
            (Topic(name, p) for name, p in zip(TOPICS, result.topics, strict=True) if p >= KEPT_TOPIC),
            key=lambda topic: -topic.p,
        )
    )
    asked_for = iter(zip(result.entities, result.names, strict=True))
    # A company that only the source names has no place in the text: the whole text's mood stands for it.
    towards = [next(asked_for) if mention.start >= 0 else (result.sentiment, 1.0) for mention in mentions]
    entities = tuple(
        Entity(
            symbol=mention.symbol,
            surface=mention.surface,
            start=mention.start,
            end=mention.end,
            relevance=mention.relevance,
            sentiment=Sentiment(*triple),
        )
        for mention, (triple, p_name) in zip(mentions, towards, strict=True)
        if p_name >= mention.least
    )
    return Scored(
        id=article.id,
        revision=article.revision,
        source=article.source,
        story_id=article.story_id,
        published_at=article.published_at,
        seen_at=article.seen_at,
        partition=taken.message.partition,
        offset=taken.message.offset,
        model=model,
        sentiment=sentiment,
        topics=topics,
        entities=entities,
        series=series_of(sentiment, topics, entities, groups, threshold),
        scored_at=article.seen_at if article.replayed else now,
        replayed=article.replayed,
    )


def series_of(
    sentiment: Sentiment,
    topics: Sequence[Topic],
    entities: Sequence[Entity],
    groups: dict[str, tuple[str, ...]],
    threshold: float,
) -> tuple[Series, ...]:
    """The series that an article counts for: each once.

    A company counts by the mention of highest relevance (the first of equal ones), a group by its company of highest
    relevance, and among those by the lowest score.
    """
    found = {"all": _series("all", sentiment)}
    for topic in topics:
        if topic.p >= threshold:
            found[f"topic:{topic.name}"] = _series(f"topic:{topic.name}", sentiment)
    relevant = sorted(
        (entity for entity in entities if entity.relevance >= MINIMUM_RELEVANCE),
        key=lambda entity: (-entity.relevance, entity.start < 0, entity.start),
    )
    by_symbol: dict[str, Entity] = {}
    for entity in relevant:
        by_symbol.setdefault(entity.symbol, entity)
    for entity in by_symbol.values():
        found[f"entity:{entity.symbol}"] = _series(f"entity:{entity.symbol}", entity.sentiment)
    for entity in sorted(by_symbol.values(), key=lambda entity: (-entity.relevance, entity.sentiment.score)):
        for group in groups.get(entity.symbol, ()):
            found.setdefault(f"group:{group}", _series(f"group:{group}", entity.sentiment))
    return tuple(found.values())


def _series(name: str, sentiment: Sentiment) -> Series:
    return Series(name, sentiment.label, round(sentiment.score * 10_000))

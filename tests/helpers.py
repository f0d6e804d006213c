"""What several tests need: a store, a log and a stage's context, made of real parts in a temporary folder."""

import socket
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from moodwire.records import Article, Entity, Scored, Sentiment, Series
from moodwire.settings import Place, Settings
from moodwire.stage import Context
from moodwire.store.db import Store
from moodwire.store.health import Pulse
from moodwire.stream.embedded import EmbeddedLog
from moodwire.stream.kafka import Broker, KafkaLog
from moodwire.stream.log import partition_of
from tests import services

STORES: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: f"sqlite:///{folder / 'moodwire.db'}",
    "postgresql": lambda folder: services.postgres().database(),
}
T0 = datetime(2024, 3, 4, 12, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def turn_private(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the name turning.test, public when a check ahead of the connection looked it up, is loopback."""
    real, lookups = socket.getaddrinfo, iter(["93.184.216.34", "127.0.0.1"])

    def turning(host: object, *args: object, **more: object) -> object:
        return real(next(lookups, "127.0.0.1") if host == "turning.test" else host, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", turning)
    next(lookups)  # the lookup that a check ahead of the connection would have made


def kafka_log(prefix: str, instance: str = "one", partitions: int = 3) -> KafkaLog:
    """A log on the tests' broker, whose topics begin with the prefix."""
    return KafkaLog(Broker((services.kafka().server,), prefix, partitions), instance)


def context(
    folder: Path,
    settings: Settings | None = None,
    clock: Callable[[], datetime] = lambda: T0,
    stage: str = "test",
    kind: str = "sqlite",
) -> Context:
    store = Store(STORES[kind](folder))
    store.upgrade()
    return Context(
        place=Place(folder),
        settings=settings or Settings(),
        store=store,
        log=EmbeddedLog(folder / "log"),
        clock=clock,
        pulse=Pulse(store, stage, clock),
        stop=threading.Event(),
    )


def scored(
    number: int,
    at: float,
    label: str = "negative",
    series: tuple[str, ...] = ("all",),
    story: str | None = None,
    seen: float | None = None,
    id_: str | None = None,
    revision: int = 1,
    offset: int | None = None,
) -> Scored:
    """A scored article published `at` seconds after T0, at position `number` of partition 0."""
    triple = {
        "negative": Sentiment(0.8, 0.1, 0.1),
        "neutral": Sentiment(0.1, 0.8, 0.1),
        "positive": Sentiment(0.1, 0.1, 0.8),
    }[label]
    return Scored(
        id=id_ or f"a{number}",
        revision=revision,
        source="s",
        story_id=story or id_ or f"a{number}",
        published_at=after(at),
        seen_at=after(at + 1 if seen is None else seen),
        partition=0,
        offset=number if offset is None else offset,
        model="test@1+0",
        sentiment=triple,
        topics=(),
        entities=(Entity(symbol="X", surface="X", start=0, end=1, relevance=1.0, sentiment=triple),),
        series=tuple(Series(name, triple.label, round(triple.score * 10_000)) for name in series),
        scored_at=after(at),
        replayed=True,
    )


def placed(records: Iterable[Scored], partitions: int) -> list[Scored]:
    """With their positions in `articles`, as they would come into so many partitions."""
    ends = [0] * partitions
    found = []
    for record in records:
        part = partition_of(record.story_id, partitions)
        found.append(msgspec.structs.replace(record, partition=part, offset=ends[part]))
        ends[part] += 1
    return found


def until(done: Callable[[], bool], limit_s: float = 60, pause_s: float = 0.02) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(pause_s)


def article(number: int, title: str, at: float) -> Article:
    return Article(
        id=f"a{number}",
        source="s",
        title=title,
        published_at=after(at),
        seen_at=after(at + 1),
        story_id=f"a{number}",
        replayed=True,
    )

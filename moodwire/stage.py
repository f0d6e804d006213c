"""What a stage is given, and the loop that the consuming stages share."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from moodwire.errors import BadInput, Rebalanced
from moodwire.records import AnyRecord, Article, DeadLetter, Scored, Tick, decode, encode, one_by_one
from moodwire.settings import Place, Settings
from moodwire.store.db import Store
from moodwire.store.health import Pulse
from moodwire.stream.log import Consumer, Log, Message

DEAD_LETTERS = "dead_letters"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Context:
    """What a stage works with. `clock` is the only source of the time."""

    place: Place
    settings: Settings
    store: Store
    log: Log
    clock: Callable[[], datetime]
    pulse: Pulse  # tells the store how the stage is doing
    stop: threading.Event = field(default_factory=threading.Event)  # set: finish what is in hand, then return


class Taken(NamedTuple):
    """A record with its place in the topic."""

    message: Message
    record: AnyRecord


Handle = Callable[[Sequence[Taken]], Mapping[int, int] | None]


def consume(  # the order in here is the order of writes of the design: store, append, commit
    context: Context,
    topic: str,
    group: str,
    handle: Handle,
    max_records: int = 2000,
    ahead: Callable[[], Collection[int]] = tuple,
    rest: Callable[[], Mapping[int, int]] = dict,
) -> None:
    """Until the stop: read `topic`, hand each batch to `handle`, which stores and then appends, then commit.

    `handle` may return the positions to commit where it has not finished with all of the batch: by partition, the
    offset to go on from. A message that is no record becomes a dead letter. ahead: the partitions of which it wants
    no more for now. rest: finishes with what it has in hand, and gives the positions; asked when nothing came, and at
    the stop.
    Raises AssignmentLost when another consumer took over the group; where only a part of the topic went to another
    member it goes on.
    """
    with context.log.consumer(topic, group) as consumer:
        context.pulse.lags, context.pulse.queued = consumer.lags, consumer.queued
        finished = Finished()
        while not context.stop.is_set():
            consumer.hold(ahead())
            messages = consumer.poll(max_records, timeout_s=0.25)
            if messages:
                with _measured(context, topic, messages):
                    _commit(consumer, work(context, topic, messages, handle, finished))
                context.pulse.processed(len(messages))
            else:
                _commit(consumer, finished.positions((), (), rest()))
            context.pulse.beat()
        _commit(consumer, finished.positions((), (), rest()))


def _commit(consumer: Consumer, positions: Mapping[int, int]) -> None:
    if positions:
        try:
            consumer.commit(positions)
        except Rebalanced as moved:  # all is idempotent: who has the records now does them again
            log.info("%s", moved)


@contextmanager
def _measured(context: Context, topic: str, messages: Sequence[Message]) -> Iterator[None]:
    metrics, began = context.pulse.metrics, time.monotonic()
    try:
        yield
    except Exception:
        metrics.failed.inc()
        raise
    took_s = time.monotonic() - began
    metrics.batch.observe(len(messages))
    metrics.took.observe(took_s)
    if log.isEnabledFor(logging.DEBUG):
        first = messages[0]
        what = {"article": first.key, "topic": topic, "partition": first.partition, "offset": first.offset}
        log.debug("a batch, from here on", extra={**what, "records": len(messages), "seconds": round(took_s, 4)})


def _age(context: Context, taken: Sequence[Taken]) -> None:
    """Tells how old the oldest of a batch is; nothing of a replay, whose clock is another."""
    for record in (each for one in taken for each in one_by_one(one.record)):
        at = record.at if isinstance(record, Tick) else record.seen_at if isinstance(record, Article | Scored) else None
        if at is not None and not record.replayed:  # type: ignore[union-attr]
            context.pulse.metrics.age.observe(max((context.clock() - at).total_seconds(), 0.0))
            return


class Finished:
    """How far a topic was worked off, by partition, where a handler may keep records back. Pure."""

    def __init__(self) -> None:
        self._kept: dict[int, int] = {}  # the highest offset handed over of what the handler has not finished with
        self._read: dict[int, int] = {}  # up to where was read; bad records at the end are passed over late

    def positions(
        self, messages: Sequence[Message], taken: Sequence[Taken], finished: Mapping[int, int] | None
    ) -> dict[int, int]:
        """What to commit after a batch: a record that could not be read is passed over, but not one kept back."""
        handed = {message.partition: message.offset for message, _ in taken}
        done = {partition: offset + 1 for partition, offset in handed.items()} if finished is None else finished
        self._kept |= handed
        self._read |= {message.partition: message.offset + 1 for message in messages}
        for partition, position in done.items():
            if position > self._kept.get(partition, -1):
                self._kept.pop(partition, None)
        asked = {*done, *(message.partition for message in messages)}
        whole = {p: self._read[p] for p in asked if p in self._read and p not in self._kept}
        return {**done, **whole}


def work(
    context: Context, topic: str, messages: Sequence[Message], handle: Handle, finished: Finished
) -> Mapping[int, int]:
    """Hand on what can be read; returns the positions to commit."""
    taken: list[Taken] = []
    for message in messages:
        try:
            taken.append(Taken(message, decode(message.value)))
        except BadInput as error:
            bury(context, topic, message, str(error))
    done = handle(taken) if taken else {}
    _age(context, taken)
    return finished.positions(messages, taken, done)


def bury(context: Context, topic: str, message: Message, reason: str) -> None:
    """Set a bad record aside, with its place and the reason; the flow goes on."""
    letter = DeadLetter(
        stage=context.pulse.stage,
        topic=topic,
        partition=message.partition,
        offset=message.offset,
        reason=reason,
        at=context.clock(),
        excerpt=message.value[:2048].decode("utf-8", "backslashreplace"),
    )
    place = {"topic": topic, "partition": message.partition, "offset": message.offset}
    log.warning("set aside: %s", reason, extra={"article": message.key, **place})
    context.log.append(DEAD_LETTERS, [(topic, encode(letter), None)])
    context.pulse.dead_letter()

"""From what channels have to hear to what they have taken; a crash at any moment sends again, with the same key.

The router writes a message and what its channel has then heard in one transaction. Each channel has a sender of its
own, so that one that is slow or hangs holds up no other.
"""

import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import msgspec

from alerts import routing
from alerts.channels import Channel, Outcome
from alerts.messages import Mention, Message, new_key
from alerts.routing import Mute
from moodwire.records import Alert, seconds
from moodwire.settings import Settings
from moodwire.store.db import Store
from moodwire.store.incidents import (
    Delivery,
    Notice,
    due_deliveries,
    fail_deliveries,
    forget_notice,
    mark_delivery,
    notices,
    post,
    silences,
)

GIVE_UP = timedelta(hours=24)
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 300.0
PAUSE_S = 0.25
JOIN_S = 2.0
LOG = logging.getLogger("outbox")


class Next(NamedTuple):
    """What becomes of a delivery after an attempt."""

    status: str  # waiting, delivered, failed
    at: datetime  # of the next attempt
    reason: str


def after(delivery: Delivery, outcome: Outcome, now: datetime, jitter: float) -> Next:
    """Waits double from 1 s to 5 min, for a day; what the receiver asks for is kept. jitter: in [0, 1)."""
    if outcome.delivered:
        return Next("delivered", now, outcome.reason)
    ends = delivery.created_at + GIVE_UP
    if not outcome.retry:
        return Next("failed", now, outcome.reason)
    if now >= ends:
        return Next("failed", now, f"given up after {GIVE_UP.total_seconds() / 3600:g} h: {outcome.reason}")
    wait_s = min(FIRST_RETRY_S * 2 ** min(delivery.attempts, 20), LAST_RETRY_S) * (0.5 + jitter / 2)
    # A last attempt is made when the day ends, whatever was asked for.
    return Next("waiting", min(now + timedelta(seconds=max(wait_s, outcome.wait_s or 0.0)), ends), outcome.reason)


def groups_of(settings: Settings) -> dict[str, tuple[str, ...]]:
    """By a company's series: those of its groups."""
    return {f"entity:{c.symbol}": tuple(f"group:{name}" for name in c.groups) for c in settings.watchlist.companies}


def route(store: Store, settings: Settings, groups: Mapping[str, Sequence[str]], now: datetime) -> int:
    """Write the messages that are due; returns how many."""
    with store.read() as connection:
        waiting = notices(connection)
        held = silences(connection, now) if waiting else []
    written = 0
    for channel, of_channel in groupby(waiting, key=lambda notice: notice.channel):
        mine = list(of_channel)
        muted = routing.mutes(mine, held, settings.quiet_hours, groups, now)
        by_group: dict[str, list[Notice]] = {}
        for notice in mine:
            by_group.setdefault(routing.group_of(notice.alert, settings.notifications), []).append(notice)
        for group in by_group.values():
            decision = routing.decide(group, muted, settings.notifications, now)
            if not decision.tell and not decision.drop:
                continue
            with store.write() as connection:
                for alert in decision.drop:
                    forget_notice(connection, channel, alert.incident_id)
                if decision.tell:
                    message = _message(channel, decision.tell, decision.repeat, mine, muted, now)
                    post(connection, channel, message.key, msgspec.json.encode(message), message.alerts, now)
                    written += 1
    return written


def send_due(
    store: Store,
    name: str,
    channel: Channel,
    clock: Callable[[], datetime],
    jitter: Callable[[], float],
    stop: threading.Event | None = None,
) -> datetime | None:
    """Send what is due to a channel; returns until when the receiver asked for a pause."""
    for delivery in due_deliveries(store, name, clock()):
        if stop is not None and stop.is_set():
            return None
        outcome = _sent(channel, msgspec.json.decode(delivery.record, type=Message))
        now = clock()
        then = after(delivery, outcome, now, jitter())
        if then.status == "failed":
            LOG.error("message %s to %s: %s", delivery.key, name, then.reason)
        mark_delivery(store, delivery.key, then.status, delivery.attempts + 1, then.at, now, then.reason)
        if outcome.wait_s:
            return then.at
    return None


def run(
    store: Store,
    settings: Settings,
    channels: Mapping[str, Channel],
    clock: Callable[[], datetime],
    stop: threading.Event,
    carry_out: Callable[[], None],
) -> None:
    """Until the stop. `carry_out`: what people asked for, done before each look."""
    gone = "no channel of this name in moodwire.toml"
    fail_deliveries(store, channels, gone)
    senders = [
        threading.Thread(target=_send, args=(store, name, channel, clock, stop), name=f"sender {name}", daemon=True)
        for name, channel in channels.items()
    ]
    for sender in senders:
        sender.start()
    groups = groups_of(settings)
    while not stop.is_set():
        with _told("the outbox"):
            carry_out()
            if route(store, settings, groups, clock()):
                fail_deliveries(store, channels, gone)
        stop.wait(PAUSE_S)
    for sender in senders:
        sender.join(JOIN_S)


def _send(store: Store, name: str, channel: Channel, clock: Callable[[], datetime], stop: threading.Event) -> None:
    paused_until: datetime | None = None
    while not stop.is_set():
        if paused_until is None or clock() >= paused_until:
            with _told(f"channel {name}"):
                paused_until = send_due(store, name, channel, clock, random.random, stop)
        stop.wait(PAUSE_S)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """A fault is told and the loop goes on: one message, or one moment, must not end all sending."""
    try:
        yield
    except Exception:
        LOG.exception("%s failed; it goes on", what)


def _sent(channel: Channel, message: Message) -> Outcome:
    try:
        return channel.send(message)
    except Exception as error:  # of a channel's library
        LOG.exception("a message could not be sent")
        return Outcome(False, f"{type(error).__name__}: {error}")


def _message(
    channel: str,
    alerts: tuple[Alert, ...],
    repeat: bool,
    of_channel: Sequence[Notice],
    muted: Mapping[str, Mute],
    now: datetime,
) -> Message:
    told = {alert.incident_id for alert in alerts}
    mentions = tuple(
        Mention(incident_id=notice.alert.incident_id, series=notice.alert.series, reason=mute.reason)
        for notice in of_channel
        if (mute := muted.get(notice.alert.incident_id)) and mute.by in told
    )
    key = new_key(channel, alerts, seconds(now))
    return Message(key=key, alerts=alerts, mentions=mentions, repeat=repeat)

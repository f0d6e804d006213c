"""Sending what the store says is to be sent; a crash at any moment sends again, with the same key."""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from alerts.channels import Channel, Outcome
from alerts.messages import Message
from moodwire.store.db import Store
from moodwire.store.incidents import Delivery, due_deliveries, mark_delivery

GIVE_UP = timedelta(hours=24)
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 300.0
PAUSE_S = 0.5


def after(delivery: Delivery, outcome: Outcome, now: datetime) -> tuple[str, datetime]:
    """The delivery's status after an attempt, and when to try again: waits double from 1 s to 5 min, for a day."""
    if outcome.delivered:
        return "delivered", now
    if not outcome.retry or now - delivery.created_at > GIVE_UP:
        return "failed", now
    wait = min(FIRST_RETRY_S * 2 ** min(delivery.attempts, 20), LAST_RETRY_S)
    return "waiting", now + timedelta(seconds=wait)


def send_due(store: Store, channels: Mapping[str, Channel], clock: Callable[[], datetime]) -> int:
    """Send what is due; returns how many attempts were made."""
    due = due_deliveries(store, clock())
    for delivery in due:
        channel = channels.get(delivery.channel)
        if channel is None:
            outcome = Outcome(False, "no channel of this name in moodwire.toml", retry=False)
        else:
            outcome = channel.send(Message(key=delivery.key, alert=delivery.alert))
        now = clock()
        status, next_at = after(delivery, outcome, now)
        mark_delivery(store, delivery.key, status, delivery.attempts + 1, next_at, now, outcome.reason)
    return len(due)


def run(store: Store, channels: Mapping[str, Channel], clock: Callable[[], datetime], stop: threading.Event) -> None:
    """Until the stop."""
    while not stop.is_set():
        if not send_due(store, channels, clock):
            stop.wait(PAUSE_S)

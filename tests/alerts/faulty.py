"""The alerts stage, that dies by SIGKILL at a chosen moment between decision and delivery: a process of the tests.

POINT: write or written (a store transaction, before it and after its commit), send or sent (a message, before it goes
and after its receiver answered), append, commit. It dies at the COUNT-th, once: MARKER then exists.
The options are the faults that the suite must find: messages marked as delivered before they are sent, and a key of
its own for each attempt.
"""

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from alerts import outbox, stage
from alerts.channels import Channel, EmailChannel, Outcome, WebhookChannel
from alerts.messages import Message
from cli.main import main
from moodwire.settings import AnyChannel, Email, Webhook
from moodwire.store.db import Store
from moodwire.stream.embedded import EmbeddedConsumer, EmbeddedLog

TIMEOUT_S = 0.5


class Death:
    """Counts the calls of one point and ends the process at one of them."""

    def __init__(self, point: str, count: int, marker: Path) -> None:
        self._point = point
        self._left = count
        self._marker = marker
        self._lock = threading.Lock()

    def at(self, point: str) -> None:
        if point != self._point or self._marker.exists():
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._marker.write_text(point)
                os.kill(os.getpid(), signal.SIGKILL)


class Mortal:
    """A channel around which one may die."""

    def __init__(self, inner: Channel, death: Death, new_keys: bool) -> None:
        self._inner = inner
        self._death = death
        self._new_keys = new_keys

    def send(self, message: Message) -> Outcome:
        if self._new_keys:
            message = msgspec.structs.replace(message, key=f"{random.SystemRandom().getrandbits(128):032x}")
        self._death.at("send")
        outcome = self._inner.send(message)
        self._death.at("sent")
        return outcome


def arm(death: Death, options: list[str]) -> None:
    write, append, commit = Store.write, EmbeddedLog.append, EmbeddedConsumer.commit

    @contextmanager
    def deadly_write(self: Store) -> Iterator[Any]:
        death.at("write")
        with write(self) as connection:
            yield connection
        death.at("written")

    def before(point: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def deadly(*args: Any, **kwargs: Any) -> Any:
            death.at(point)
            return real(*args, **kwargs)

        return deadly

    def open_channel(settings: AnyChannel, clock: Callable[[], datetime]) -> Channel:
        if isinstance(settings, Email):
            return Mortal(EmailChannel(settings, TIMEOUT_S), death, "--new-keys" in options)
        assert isinstance(settings, Webhook)
        return Mortal(WebhookChannel(settings, clock, timeout_s=TIMEOUT_S), death, "--new-keys" in options)

    Store.write = deadly_write  # type: ignore[method-assign, assignment]
    EmbeddedLog.append = before("append", append)  # type: ignore[method-assign]
    EmbeddedConsumer.commit = before("commit", commit)  # type: ignore[method-assign]
    stage.open_channel = open_channel
    outbox.FIRST_RETRY_S = 0.05
    outbox.PAUSE_S = 0.02
    if "--mark-first" in options:
        due = outbox.due_deliveries

        def marked(store: Store, channel: str, now: datetime) -> Any:
            found = due(store, channel, now)
            for each in found:
                outbox.mark_delivery(store, each.key, "delivered", 1, now, now, "")
            return found

        outbox.due_deliveries = marked


def run(point: str, count: int, marker: Path, options: list[str], words: list[str], errors: Path) -> None:
    """What such a process does: `moodwire WORDS` until it dies."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    arm(Death(point, count, marker), options)
    main(words)

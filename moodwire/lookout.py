"""Stages that watch each other, and the sign of life that somebody outside can miss."""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import httpx

from moodwire.errors import StoreError
from moodwire.metrics import Metrics
from moodwire.settings import Heartbeat
from moodwire.store.db import Store
from moodwire.store.health import StageHealth, stage_health

SILENT = timedelta(seconds=60)  # after which a stage counts as dead: a lease is taken over within 30 s
LOOK_S = 10.0
TIMEOUT_S = 10.0
_LOG = logging.getLogger("lookout")


def silent(stages: Sequence[StageHealth], now: datetime) -> dict[str, str]:
    """By stage, why it counts as dead. One that was stopped, and not started again, does not."""
    found = {}
    for name in dict.fromkeys(stage.name for stage in stages):
        known = [stage for stage in stages if stage.name == name and stage.state != "stopped"]
        working = [stage for stage in known if stage.state == "works"]
        last = max((stage.beat_at for stage in working), default=None)
        if last is not None and now - last > SILENT:
            found[name] = f"no sign of life since {last:%Y-%m-%d %H:%M:%S} UTC"
        elif known and last is None and now - min(stage.started_at for stage in known) > SILENT:
            found[name] = "all its instances wait, and none works"
    return found


class Lookout:
    """Looks at all stages; with settings, the one of all stages that gives the sign of life."""

    def __init__(
        self, store: Store, clock: Callable[[], datetime], metrics: Metrics, heartbeat: Heartbeat | None
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._heartbeat = heartbeat
        self._known: dict[str, str] = {}
        self._next: datetime | None = None

    def look(self) -> None:
        """Once. The sign is given only while every stage is alive and the store can be read."""
        now = self._clock()
        try:
            found = silent(stage_health(self._store), now)
        except StoreError as error:
            _LOG.warning("the other stages cannot be seen: %s", error)
            return
        for name, why in found.items():
            if name not in self._known:
                _LOG.error("stage %s is dead: %s", name, why)
            self._metrics.silent.labels(name).set(1)
        for name in self._known.keys() - found.keys():
            _LOG.info("stage %s is back", name)
            self._metrics.silent.labels(name).set(0)
        self._known = found
        if self._heartbeat is None or found or (self._next is not None and now < self._next):
            return
        self._next = now + timedelta(seconds=self._heartbeat.interval_s)
        self._give(self._heartbeat, now)

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.look()
            except Exception:
                _LOG.exception("a look at the other stages failed; it goes on")
            stop.wait(LOOK_S)

    def _give(self, heartbeat: Heartbeat, now: datetime) -> None:
        if heartbeat.file:
            file = Path(heartbeat.file)
            try:
                part = file.with_name(file.name + ".part")
                part.write_text(now.isoformat() + "\n")
                part.replace(file)
            except OSError as error:
                _LOG.warning("the sign of life cannot be written: %s", error)
        if heartbeat.url:
            try:
                httpx.post(heartbeat.url, json={"alive_at": now.isoformat()}, timeout=TIMEOUT_S).raise_for_status()
            except httpx.HTTPError as error:
                _LOG.warning("the sign of life was not taken: %s", error)

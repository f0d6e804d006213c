"""Who counts as dead, and the sign of life that ceases with any stage."""

import json
import logging
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from moodwire.lookout import Lookout, silent
from moodwire.metrics import Metrics
from moodwire.settings import Heartbeat
from moodwire.store.db import Store
from moodwire.store.health import Pulse, StageHealth
from tests.helpers import T0, after


def row(name: str, state: str, beat: float, instance: str = "one", started: float = -1000) -> StageHealth:
    return StageHealth(name, instance, state, 1, after(started), after(beat), 0, 0, 0, 0, "")


@pytest.mark.parametrize(
    ("rows", "dead"),
    [
        ([], set()),
        ([row("alerts", "works", -59)], set()),
        ([row("alerts", "works", -61)], {"alerts"}),
        ([row("alerts", "stopped", -61)], set()),
        ([row("alerts", "works", -61), row("alerts", "works", -1, "two")], set()),
        ([row("alerts", "works", -61), row("alerts", "waits", -1, "two")], {"alerts"}),
        ([row("alerts", "waits", -1, "two", started=-61)], {"alerts"}),
        ([row("alerts", "waits", -1, "two", started=-10)], set()),
        ([row("alerts", "works", -61), row("trends", "works", -1), row("ingest", "works", -99)], {"alerts", "ingest"}),
    ],
)
def test_who_counts_as_dead(rows: list[StageHealth], dead: set[str]) -> None:
    assert set(silent(rows, T0)) == dead


class Flow:
    """A store with two stages in it, and one who looks; times in seconds after T0."""

    def __init__(self, store: Store, heartbeat: Heartbeat) -> None:
        self.at = 0.0
        self.metrics = Metrics()
        self.pulses = {name: Pulse(store, name, self.now) for name in ("trends", "alerts")}
        self.lookout = Lookout(store, self.now, self.metrics, heartbeat)

    def now(self) -> datetime:
        return after(self.at)

    def look(self, at: float, *alive: str) -> None:
        self.at = at
        for name in alive:
            self.pulses[name].beat(now=True)
        self.lookout.look()

    def dead(self) -> float | None:
        return self.metrics.registry.get_sample_value("moodwire_silent", {"of": "trends"})


def test_a_dead_stage_is_told_and_no_sign_of_life_is_given(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "alive"
    flow = Flow(store, Heartbeat(file=str(file)))
    with caplog.at_level(logging.INFO):
        flow.look(0, "trends", "alerts")
        assert file.read_text() == f"{T0.isoformat()}\n"
        flow.look(59, "alerts")
        assert file.read_text() == f"{T0.isoformat()}\n", "not before the minute is over"
        flow.look(61, "alerts")
        assert file.read_text() == f"{T0.isoformat()}\n", "trends is dead"
        flow.look(71, "alerts")
        assert flow.dead() == 1
        flow.look(80, "alerts", "trends")
        assert file.read_text() == f"{after(80).isoformat()}\n"
        assert flow.dead() == 0
    told = [record.getMessage() for record in caplog.records]
    assert told == ["stage trends is dead: no sign of life since 2024-03-04 12:00:00 UTC", "stage trends is back"]


@pytest.fixture
def outside() -> Iterator[tuple[str, list[bytes]]]:
    """Somebody who takes signs of life: the address, and what came."""
    came: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", came
    server.shutdown()
    server.server_close()


def test_the_sign_of_life_goes_to_an_address(store: Store, outside: tuple[str, list[bytes]]) -> None:
    address, came = outside
    flow = Flow(store, Heartbeat(url=address, interval_s=30))
    flow.look(0, "trends", "alerts")
    flow.look(10, "trends", "alerts")
    flow.look(31, "trends", "alerts")
    assert [json.loads(body) for body in came] == [
        {"alive_at": after(0).isoformat()},
        {"alive_at": after(31).isoformat()},
    ]


def test_an_address_or_file_that_is_not_there_stops_nothing(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flow = Flow(store, Heartbeat(url="http://127.0.0.1:1/", file=str(tmp_path / "no" / "folder")))
    flow.look(0, "trends", "alerts")
    told = [record.getMessage() for record in caplog.records]
    assert [text[:20] for text in told] == ["the sign of life can", "the sign of life was"]

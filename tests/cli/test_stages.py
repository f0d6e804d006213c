"""Stages as processes: of some one works at a time, and all stop when they are told to."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.stages import open_log
from cli.supervisor import command
from moodwire import loglines
from moodwire.configfile import load
from moodwire.metrics import serve
from moodwire.records import encode
from moodwire.settings import Place, Settings
from moodwire.stage import bury
from moodwire.store.db import Store
from moodwire.store.health import StageHealth, stage_health
from moodwire.stream.log import Message
from tests import services
from tests.helpers import STORES, article, context
from tests.services import free_port

STAGES = ("ingest", "trends", "alerts")
PROGRAM = "from moodwire.store import lease; lease.LEASE_S = {}; lease.RENEW_S = 0.5; from cli.main import main; main()"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `moodwire run STAGE` as an instance of that name; what is left is ended."""
    begun: list[subprocess.Popen[bytes]] = []

    def started(stage: str, instance: str, url: str, lease_s: float) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", PROGRAM.format(lease_s), "--data", str(tmp_path), "run", stage]
        named = {"MOODWIRE_STREAM_INSTANCE": instance, "MOODWIRE_STORE_URL": url}
        with (tmp_path / f"{instance}.log").open("ab") as output:
            process = subprocess.Popen(words, stderr=output, env={**os.environ, **named}, cwd=tmp_path)
        begun.append(process)
        return process

    yield started
    for process in begun:
        process.kill()
        process.wait()


def until(store: Store, done: Callable[[dict[str, StageHealth]], bool]) -> None:
    """Until the instances' health, by their names, is as said."""
    deadline = time.monotonic() + 60
    while not done(seen := {health.instance.split(" ")[0]: health for health in stage_health(store)}):
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)


def state(name: str, wanted: str) -> Callable[[dict[str, StageHealth]], bool]:
    return lambda seen: name in seen and seen[name].state == wanted


@pytest.mark.parametrize("stage", [STAGES[1], *(pytest.param(name, marks=pytest.mark.long) for name in STAGES[::2])])
def test_a_second_instance_waits_and_takes_over(stage: str, start: Start, tmp_path: Path) -> None:
    url = STORES["sqlite"](tmp_path)
    store = Store(url)
    store.upgrade()
    one = start(stage, "one", url, lease_s=3)
    until(store, state("one", "works"))
    two = start(stage, "two", url, lease_s=1000)
    until(store, state("two", "waits"))
    assert {health.instance: health.note for health in stage_health(store)}[f"two #{two.pid}"].startswith("one has it")
    one.kill()
    until(store, state("two", "works"))
    three = start(stage, "two", url, lease_s=1000)
    until(store, lambda seen: any(health.state == "waits" for health in stage_health(store)))
    two.kill()
    two.wait()
    until(
        store, lambda seen: any(health.pid == three.pid and health.state == "works" for health in stage_health(store))
    )
    three.terminate()
    assert three.wait(10) == 0
    store.close()


def test_one_that_was_paused_works_no_more(start: Start, tmp_path: Path) -> None:
    url = STORES["postgresql"](tmp_path)
    store = Store(url)
    store.upgrade()
    one = start("trends", "one", url, lease_s=3)
    until(store, state("one", "works"))
    start("trends", "two", url, lease_s=3)
    until(store, state("two", "waits"))
    one.send_signal(signal.SIGSTOP)
    until(store, state("two", "works"))
    one.send_signal(signal.SIGCONT)
    assert one.wait(30) == 5
    assert "one works on stage trends no more" in (tmp_path / "one.log").read_text()
    until(store, state("two", "works"))
    store.close()


@pytest.mark.long
def test_within_thirty_seconds_as_it_is_configured(start: Start, tmp_path: Path) -> None:
    from moodwire.store.lease import LEASE_S

    url = STORES["postgresql"](tmp_path)
    store = Store(url)
    store.upgrade()
    one = start("alerts", "one", url, LEASE_S)
    until(store, state("one", "works"))
    start("alerts", "two", url, LEASE_S)
    until(store, state("two", "waits"))
    one.kill()
    killed = time.monotonic()
    until(store, state("two", "works"))
    assert time.monotonic() - killed < 30
    store.close()


def flow(folder: Path, stream: str) -> tuple[Place, Settings, str]:
    """A place with 3,000 articles that wait for the classifier."""
    url = STORES["sqlite" if stream == "embedded" else "postgresql"](folder)
    config = f'[model]\nengine = "dummy"\nbatch = 2\n[store]\nurl = "{url}"\n[metrics]\nport = {free_port()}\n'
    if stream == "kafka":
        config += f'[stream]\nkind = "kafka"\nservers = ["{services.kafka().server}"]\nprefix = "{folder.name}."\n'
    place = Place(folder, folder / "moodwire.toml")
    assert place.config is not None
    place.config.write_text(config)
    settings = load(place.config, {})
    log = open_log(place, settings)
    log.append("articles", [(f"a{n}", encode(article(n, f"News {n}", n)), None) for n in range(3000)])
    log.append("articles", [("bad", b"not a record", 0)])
    log.close()
    return place, settings, url


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("stream", ["embedded", "kafka"])
def test_a_stage_with_work_in_hand_stops_within_ten_seconds_and_is_seen_until_then(stream: str, tmp_path: Path) -> None:
    place, settings, url = flow(tmp_path, stream)
    store, log = Store(url), open_log(place, settings)
    store.upgrade()
    port = settings.metrics.port + 1
    with (tmp_path / "errors").open("ab") as output:
        process = subprocess.Popen(command(place, "run", "classifier"), stderr=output)
    try:
        until(store, lambda seen: any(health.processed > 0 for health in seen.values()))
        status, body = get(port, "/health")
        assert (status, json.loads(body)["state"]) == (200, "works")
        metrics = get(port, "/metrics")[1]
        process.terminate()
        assert process.wait(10) == 0
        left = log.lag("articles", "classifier")
        assert 0 < left < 3001, "it had work in hand, and left the rest"
        (health,) = stage_health(store)
        assert (health.state, health.processed) == ("stopped", 3001 - left)
        assert float(re.findall(r"^moodwire_processed_total (.*)$", metrics, re.M)[0]) > 0
        assert float(re.findall(r'^moodwire_lag_records{partition="0"} (.*)$', metrics, re.M)[0]) > 0
        for name in (
            "batch_records_count",
            "batch_seconds_bucket",
            "queue_records",
            "dead_letters_total",
            "age_seconds",
        ):
            assert f"\nmoodwire_{name}" in metrics
    finally:
        process.kill()
        process.wait()
        store.close()
        log.close()


def test_what_is_set_aside_is_logged_with_its_stage_and_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    loglines.begin("classifier", "one", "info")
    message = Message(2, 7, "story-1", b"bad")
    bury(context(tmp_path, stage="classifier"), "articles", message, "not a record")
    line = capsys.readouterr().err.strip()
    assert line.split(" ", 3)[2:] == [
        "WARNING",
        "moodwire.stage set aside: not a record "
        'stage="classifier" instance="one" article="story-1" topic="articles" partition=2 offset=7',
    ]


def test_a_stage_that_hangs_is_not_well(tmp_path: Path) -> None:
    pulse = context(tmp_path).pulse
    pulse.works()
    server = serve("127.0.0.1", 0, pulse.metrics, pulse.health)
    port = server.server_address[1]
    assert get(port, "/health")[0] == 200
    pulse._last -= 61
    status, body = get(port, "/health")
    assert (status, json.loads(body)["fault"]) == (503, "no sign of life for 61 s")
    taken = serve("127.0.0.1", port, pulse.metrics, pulse.health)
    assert taken.server_address[1] != port, "another stage of its kind on the host has the port"
    for one in (server, taken):
        one.shutdown()
        one.server_close()

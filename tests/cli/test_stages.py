"""Stages as processes: of some one works at a time, and all stop when they are told to."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moodwire.store.db import Store
from moodwire.store.health import StageHealth, stage_health
from tests.helpers import STORES

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

"""`kill -9` between decision and delivery, with receivers that fail, hang and answer 500, 429, 302.

Each change of state arrives at both, and whatever arrives twice is recognised by its key.
"""

import asyncio
import multiprocessing
import random
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from moodwire.records import Tick, encode
from moodwire.store import commands, schema
from moodwire.store.commands import Acknowledge
from moodwire.store.db import Store
from moodwire.stream.embedded import EmbeddedLog
from tests.alerts import faulty
from tests.alerts.receivers import Hook, Mail
from tests.alerts.test_stage import DAY_S, MOOD, SURGE, Flow, _window, windows_counted
from tests.helpers import after as at

LIMIT_S = 240.0  # a receiver that fails and hangs at random may be asked eight times
SAMPLE = (1, 3)  # a transaction that was committed, a message that was sent
PROCESSES = multiprocessing.get_context("forkserver")  # one that has imported all; each stage is a process of its own
PROCESSES.set_forkserver_preload(["tests.alerts.faulty"])
POINTS = ("write", "written", "send", "sent", "append", "commit")
MOST = {"write": 40, "written": 40, "send": 14, "sent": 14, "append": 4, "commit": 3}
COMPANIES = ("ACME", "BOLT", "CRUX")
# Windows up to a moment, then its tick: three companies surge, one gets worse, all is over.
TICKS = (-60.0, 400.0, 700.0, 3 * 3600.0)
CHANGES = (0, 4, 6, 11)  # told by then, an acknowledgement before the last among them
CONFIG = """
[notifications]
group_wait_s = 0
group_interval_s = 0
[[rules]]
name = "surge"
series = ["entity:*"]
windows = [3600]
minimum_stories = 3
cooldown_s = 600
[[rules]]
kind = "score"
name = "mood"
series = ["entity:ACME"]
below = -0.5
severity = "info"
[[channels]]
kind = "email"
name = "desk"
host = "127.0.0.1"
port = {mail_port}
security = "none"
sender = "moodwire@example.test"
recipients = ["desk@example.test"]
[[channels]]
kind = "webhook"
name = "hook"
url = "http://127.0.0.1:{hook_port}/"
secret = "s"
"""


class Receivers:
    """A mail server and a webhook receiver that fail by a seed; what they accepted, by key."""

    def __init__(self, seed: int, failing: bool = True) -> None:
        rng = random.Random(seed)
        self.mail, self.hook = Mail(21025), Hook()
        self.hook.extra = {"Retry-After": "0"}
        late = asyncio.sleep
        real = self.mail.handle_DATA

        async def handle(server: Any, session: Any, envelope: Any) -> str:
            fault = rng.choice(["451 later", "421 busy", "hang", "", "", ""]) if failing else ""
            if fault and fault != "hang":
                return fault
            answer = await real(server, session, envelope)
            if fault:
                await late(0.8)  # it has the message, and the sender does not know
            return answer

        self.mail.handle_DATA = handle  # type: ignore[method-assign]
        answers: list[int | None] = [500, 429, 302, None, 204, 204, 204, 204]
        self.hook.answer = lambda: rng.choice(answers) if failing else 204

    def stop(self) -> None:
        self.mail.stop()
        self.hook.stop()

    def hooked(self) -> dict[tuple[str, int], set[str]]:
        """By incident and number of its change: the keys under which the webhook accepted it."""
        found: dict[tuple[str, int], set[str]] = defaultdict(set)
        for body in list(self.hook.accepted):
            for alert in body["alerts"]:
                found[alert["incident_id"], alert.get("number", 1)].add(body["key"])
        return found

    def mailed(self) -> dict[tuple[str, str], set[str]]:
        """By incident and what its mail says became of it: the Message-IDs under which it was accepted."""
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        for mail in list(self.mail.got):
            text = mail.get_body(("plain",)).get_content().replace("\r\n", "\n")  # type: ignore[union-attr]
            for section in re.split(r"\n(?=\S.*\n.*\n\nDecided )", "\n" + text)[1:]:
                headline, incident = section.split("\n")[0], re.search(r"^Incident (.*)$", section, re.M)
                assert incident is not None
                found[incident.group(1), headline.split(":")[0]].add(mail["Message-ID"])
        return found

    def heard(self, changes: int) -> bool:
        return min(len(self.hooked()), len(self.mailed())) >= changes


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all the articles and scores, and an empty log."""
    folder = tmp_path_factory.mktemp("prepared")
    flow = Flow(folder, SURGE, MOOD)
    for company in COMPANIES:
        flow.story(-3 * DAY_S, "neutral", (f"entity:{company}",))
    for minute in range(5):
        for company in COMPANIES:
            flow.story(minute * 60, series=(f"entity:{company}",))
    for n in range(11):
        flow.story(500 + n)
    flow.context.log.close()
    flow.context.store.close()
    return folder


def up_to(store: Store, time_: float, since: float) -> list[Any]:
    """The windows published in a span, with the counts that they have in the end, and the tick."""
    start = schema.counted.c.start
    windows = [_window(*row) for row in windows_counted(store, start >= at(since), start < at(time_))]
    return [*windows, Tick(at=at(time_), positions={"0": 1000})]


def run(folder: Path, prepared: Path, words: list[str], receivers: Receivers, limit_s: float = LIMIT_S) -> set[Any]:
    """The whole story in a copy of what is prepared; the stage is started again when it dies. All changes stored."""
    shutil.copytree(prepared, folder)
    config = folder / "moodwire.toml"
    config.write_text(
        CONFIG.format(mail_port=receivers.mail.controller.port, hook_port=receivers.hook.server_address[1])
    )
    store, log = Store(f"sqlite:///{folder / 'moodwire.db'}"), EmbeddedLog(folder / "log")
    point, count, marker, *options = words
    command = ["--config", str(config), "--data", str(folder), "run", "alerts"]

    def started() -> Any:
        given = (point, int(count), Path(marker), options, command, folder / "errors")
        process = PROCESSES.Process(target=faulty.run, args=given, daemon=True)
        process.start()
        return process

    process = started()
    deadline = time.monotonic() + limit_s

    def until(done: Callable[[], bool]) -> None:
        nonlocal process
        while not done() and time.monotonic() < deadline:
            if not process.is_alive():
                assert process.exitcode == -9, (folder / "errors").read_text()[-3000:]
                process = started()
            time.sleep(0.05)

    try:
        since = -4.0 * DAY_S
        for moment, changes in zip(TICKS, CHANGES, strict=True):
            if moment == TICKS[-1]:
                fired = next(alert for alert in stored(store) if "BOLT" in alert[0])
                commands.give(store, "alerts", Acknowledge(incident_id=fired[0]), "ana", at(moment - 60))
                until(partial(receivers.heard, changes - 4))
            log.append("windows", [("", encode(record), 0) for record in up_to(store, moment, since)])
            since = moment
            until(partial(receivers.heard, changes))
        until(lambda: log.lag("windows", "alerts") == 0)
        return stored(store)
    finally:
        process.kill()
        process.join()
        log.close()
        store.close()


def stored(store: Store) -> set[tuple[str, int]]:
    a = schema.alerts.c
    with store.read() as connection:
        rows = connection.execute(sa.select(a.incident_id, a.number)).all()
    return {(row.incident_id, row.number) for row in rows}


def faults(found: set[Any], receivers: Receivers) -> list[str]:
    """What went wrong; empty if each change arrived, and each repeat is recognisable."""
    told, mails = receivers.hooked(), receivers.mailed()
    wrong = [f"not told to the webhook: {change}" for change in found - set(told)]
    wrong += [f"told, and not so: {change}" for change in set(told) - found]
    wrong += [f"{change} came under several keys" for change, keys in told.items() if len(keys) > 1]
    wrong += [f"{change} came under several Message-IDs" for change, ids in mails.items() if len(ids) > 1]
    if len(mails) != len(found):
        wrong.append(f"{len(mails)} changes by mail, {len(found)} decided")
    bodies: Mapping[str, set[str]] = defaultdict(set)
    for body in receivers.hook.accepted:
        bodies[body["key"]].add(repr(body))
    wrong += [f"key {key} came with several bodies" for key, texts in bodies.items() if len(texts) > 1]
    return wrong


def survives(seed: int, prepared: Path, tmp_path: Path) -> None:
    rng = random.Random(seed)
    point = POINTS[seed % len(POINTS)]
    marker = tmp_path / "died"
    receivers = Receivers(seed)
    try:
        words = [point, str(rng.randint(1, MOST[point])), str(marker)]
        found = run(tmp_path / "run", prepared, words, receivers)
        assert marker.exists(), f"it did not die at {words}"
        assert len(found) == CHANGES[-1]
        assert faults(found, receivers) == []
    finally:
        receivers.stop()


@pytest.mark.parametrize("seed", SAMPLE)
def test_each_change_arrives_and_each_repeat_is_recognisable(seed: int, prepared: Path, tmp_path: Path) -> None:
    survives(seed, prepared, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("seed", [seed for seed in range(50) if seed not in SAMPLE])
def test_at_fifty_moments(seed: int, prepared: Path, tmp_path: Path) -> None:
    survives(seed, prepared, tmp_path)


@pytest.mark.parametrize(
    ("option", "point"),
    [
        pytest.param("--mark-first", "send", marks=pytest.mark.long),
        ("--new-keys", "sent"),
    ],  # what is lost is waited for
)
def test_the_suite_finds_a_sender_that_loses_and_one_that_doubles(
    option: str, point: str, prepared: Path, tmp_path: Path
) -> None:
    receivers = Receivers(0, failing=False)
    try:
        words = [point, "2", str(tmp_path / "died"), option]
        assert faults(run(tmp_path / "run", prepared, words, receivers, limit_s=30), receivers) != []
    finally:
        receivers.stop()

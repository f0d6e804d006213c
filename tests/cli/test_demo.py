"""The demo as a newcomer sees it: charts, a crisis, an alarm on the page, in the mailbox and at the webhook."""

import json
import mailbox
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from cli import demo as demos
from cli.demo import free_port
from cli.supervisor import lock
from moodwire.errors import AlreadyRunning

LIMIT_S = 150.0


def test_a_crisis_becomes_an_alarm_everywhere_within_two_minutes(tmp_path: Path) -> None:
    port = free_port(28050)
    words = ["--data", str(tmp_path), "demo", "--port", str(port), "--crisis-after", "5"]
    demo = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said: list[str] = []
    times: dict[str, float] = {}
    ended = threading.Event()

    def listen() -> None:
        assert demo.stdout is not None
        for line in demo.stdout:
            said.append(line)
            for word in ("Now live", "ALARM", "2 messages delivered"):
                if word in line:
                    times.setdefault(word, time.monotonic())
            if "2 messages delivered" in line:
                ended.set()
        ended.set()

    listener = threading.Thread(target=listen)
    listener.start()
    ended.wait(LIMIT_S)
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read() if demo.poll() is None else b""
    processes = children(demo.pid)
    demo.send_signal(signal.SIGINT)
    demo.wait(60)
    listener.join()
    text = "".join(said)
    assert set(times) == {"Now live", "ALARM", "2 messages delivered"}, text
    assert times["2 messages delivered"] - times["Now live"] < 5 + 120, text
    assert demo.returncode == 0, text
    assert f"Open http://127.0.0.1:{port}/" in text
    assert b"moodwire" in page
    assert len(processes) == 5
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]

    (mail,) = mailbox.mbox(tmp_path / "demo" / "mailbox.mbox")
    assert "negative news about" in mail["Subject"]
    (line,) = (tmp_path / "demo" / "webhook.jsonl").read_text().splitlines()
    (alert,) = json.loads(line)["alerts"]
    assert alert["state"] == "firing"
    assert alert["observed"] >= 5
    assert max(story["copies"] for story in alert["evidence"]) > 1, "the copies of a story are counted"
    logs = "".join(path.read_text() for path in (tmp_path / "demo" / "logs").iterdir())
    assert "Traceback" not in logs


def children(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            status = (folder / "status").read_text()
        except OSError:
            continue
        if f"PPid:\t{pid}\n" in status and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def test_a_second_demo_leaves_the_first_ones_folder_alone(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / demos.MARKER).touch()
    with lock(folder), pytest.raises(AlreadyRunning, match="already runs"):
        demos.run(tmp_path, 28060, 0, 0, threading.Event())
    assert {path.name for path in folder.iterdir()} == {demos.MARKER, "lock"}

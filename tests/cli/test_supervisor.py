"""Starting, restarting and stopping stages; real processes, made of one line of Python each."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cli import supervisor
from cli.supervisor import StageFailed, Supervisor, lock, pause
from moodwire.errors import AlreadyRunning
from moodwire.settings import Place

# Says when it is ready and when it is told to stop, each by a line in a shared file.
STAGE = """
import signal, sys, time
name, path = sys.argv[1:]
def say(word):
    with open(path, "a") as file:
        file.write(f"{word} {name}\\n")
def stop(*_):
    say("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
say("ready")
while True:
    time.sleep(60)
"""


def stage(name: str, told: Path) -> list[str]:
    return [sys.executable, "-c", STAGE, name, str(told)]


def code(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def lines(told: Path) -> list[str]:
    return told.read_text().splitlines() if told.exists() else []


def watch(supervisor: Supervisor, until: object) -> None:
    """Run the supervisor until the condition holds; fails after 20 s."""
    late = threading.Event()
    timer = threading.Timer(20, late.set)
    timer.start()
    supervisor.run(late, until, interval_s=0.02)  # type: ignore[arg-type]
    timer.cancel()
    assert not late.is_set()


def test_pauses_double_up_to_half_a_minute() -> None:
    assert [pause(falls) for falls in range(1, 10)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]


def test_a_long_log_is_begun_anew_and_the_one_before_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES", 1000)
    writes = "import time\nfor n in range(10**9): print(n, flush=True); time.sleep(.001)"
    log, before = (tmp_path / "logs" / name for name in ("one.log", "one.log.1"))
    with Supervisor(Place(tmp_path, None), {"one": code(writes)}) as supervised:
        watch(supervised, lambda: before.exists() and log.stat().st_size > 0)
    kept = before.read_text().splitlines()
    assert len(before.read_bytes()) > 1000
    assert kept == [str(number) for number in range(int(kept[0]), int(kept[0]) + len(kept))]
    assert int(log.read_text().splitlines()[0]) > int(kept[-1])


def test_stages_stop_in_the_order_of_the_flow(tmp_path: Path) -> None:
    told = tmp_path / "told"
    names = ["ingest", "classifier", "trends"]
    with Supervisor(Place(tmp_path), {name: stage(name, told) for name in names}) as supervisor:
        watch(supervisor, lambda: len(lines(told)) == 3)
    assert lines(told)[3:] == [f"stopped {name}" for name in names]
    assert supervisor.pids() == {}


def test_a_fallen_stage_starts_again_and_the_others_go_on(tmp_path: Path) -> None:
    told, said = tmp_path / "told", []
    commands = {"one": stage("one", told), "two": stage("two", told)}
    with Supervisor(Place(tmp_path), commands, tell=said.append) as supervisor:
        watch(supervisor, lambda: len(lines(told)) == 2)
        before = supervisor.pids()
        os.kill(before["one"], signal.SIGKILL)
        watch(supervisor, lambda: lines(told).count("ready one") == 2)
        assert supervisor.pids()["two"] == before["two"]
        assert supervisor.pids()["one"] != before["one"]
    assert supervisor.restarts == 1
    assert said[0].startswith("stage one ended with code -9; it starts again in 0.2 s")


def test_a_stage_that_is_done_is_not_started_again(tmp_path: Path) -> None:
    with Supervisor(Place(tmp_path), {"ingest": code("pass")}, once=["ingest"]) as supervisor:
        watch(supervisor, lambda: "ingest" in supervisor.done)
        assert supervisor.restarts == 0


@pytest.mark.parametrize("exit_code", [2, 4, 7])
def test_what_starting_again_does_not_mend_ends_all_with_its_own_words(tmp_path: Path, exit_code: int) -> None:
    fails = code(f"import sys; print('moodwire: the reason', file=sys.stderr); sys.exit({exit_code})")
    with (
        pytest.raises(StageFailed, match="stage dashboard cannot run: moodwire: the reason") as caught,
        Supervisor(Place(tmp_path), {"dashboard": fails}) as supervisor,
    ):
        watch(supervisor, lambda: False)
    assert caught.value.exit_code == exit_code


def test_a_data_folder_has_one_user_at_a_time(tmp_path: Path) -> None:
    with Supervisor(Place(tmp_path), {}):
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}") as caught:
            lock(tmp_path)
        assert caught.value.exit_code == 8
    lock(tmp_path).close()


def test_stages_do_not_outlive_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    """A real stage under a real supervisor: the supervisor dies without a word, the stage ends by itself."""
    program = (
        "import sys, time; from pathlib import Path; from cli.supervisor import Supervisor, command;"
        "from moodwire.settings import Place; place = Place(Path(sys.argv[1]));"
        "s = Supervisor(place, {'trends': command(place, 'run', 'trends')}); s.__enter__();"
        "print(s.pids()['trends'], flush=True); time.sleep(60)"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    pid = int(supervisor.stdout.readline())
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    gone = threading.Event()
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists() or "zombie" in Path(f"/proc/{pid}/status").read_text():
            break
        gone.wait(0.1)
    else:
        os.kill(pid, signal.SIGKILL)
        pytest.fail("the stage lived on")

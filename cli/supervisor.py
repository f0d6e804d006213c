"""Starts the stages as processes, starts them again when they fall, and stops them in the order of the flow."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from moodwire.errors import AlreadyRunning, MoodwireError
from moodwire.settings import Place

FIRST_PAUSE_S = 0.2
LAST_PAUSE_S = 30.0
STEADY_S = 60.0  # alive this long: the next fall counts as the first
STOP_S = 10.0
LOG_BYTES = 20_000_000  # a stage's log; the one before it is kept
FATAL = {2: "the configuration", 4: "the model", 7: "the port"}  # exit codes that starting again does not mend


def pause(falls: int) -> float:
    """Seconds to wait before a stage is started again after so many falls in a row."""
    return min(FIRST_PAUSE_S * 2.0 ** max(falls - 1, 0), LAST_PAUSE_S)


class StageFailed(MoodwireError):
    def __init__(self, stage: str, code: int, log: Path) -> None:
        self.exit_code = code
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        super().__init__(f"stage {stage} cannot run: {lines[-1] if lines else 'see ' + str(log)}")


class Supervisor:
    """commands: by stage, the command line; stages stop in this order.

    once: stages that end by themselves when they are done and are not started again after success.
    Use it as a context: stages run inside it. It holds the data folder's lock.
    """

    def __init__(
        self,
        place: Place,
        commands: Mapping[str, Sequence[str]],
        once: Sequence[str] = (),
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._place = place
        self._commands = dict(commands)
        self._once = frozenset(once)
        self._tell = tell
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, float] = {}
        self._falls: dict[str, int] = dict.fromkeys(commands, 0)
        self._due: dict[str, float] = {}
        self._lock: IO[str] | None = None
        self.done: set[str] = set()
        self.restarts = 0

    def __enter__(self) -> "Supervisor":
        self._place.data.mkdir(parents=True, exist_ok=True)
        self._lock = lock(self._place.data)
        (self._place.data / "logs").mkdir(exist_ok=True)
        for stage in self._commands:
            self._start(stage)
        return self

    def __exit__(self, *_: object) -> None:
        for stage in self._commands:
            self._stop(stage)
        if self._lock is not None:
            self._lock.close()

    def pids(self) -> dict[str, int]:
        return {stage: process.pid for stage, process in self._processes.items() if process.poll() is None}

    def check(self) -> None:
        """Start again what has fallen. Raises StageFailed where starting again does not help."""
        now = time.monotonic()
        for stage, process in list(self._processes.items()):
            self._turn(self._log(stage))
            code = process.poll()
            if code is None:
                continue
            del self._processes[stage]
            if code == 0 and stage in self._once:
                self.done.add(stage)
                continue
            if code in FATAL:
                raise StageFailed(stage, code, self._log(stage))
            steady = now - self._started[stage] > STEADY_S
            self._falls[stage] = 1 if steady else self._falls[stage] + 1
            wait = pause(self._falls[stage])
            self._due[stage] = now + wait
            self._tell(f"stage {stage} ended with code {code}; it starts again in {wait:g} s (see {self._log(stage)})")
        for stage, due in list(self._due.items()):
            if due <= now:
                del self._due[stage]
                self.restarts += 1
                self._start(stage)

    def replace(self, stage: str, command: Sequence[str]) -> None:
        """Run another command as this stage from now on."""
        self._stop(stage)
        self.done.discard(stage)
        self._commands[stage] = command
        self._start(stage)

    def run(self, stop: threading.Event, each: Callable[[], bool] = lambda: False, interval_s: float = 0.2) -> None:
        """Watch over the stages until the stop, or until `each` says that it is done."""
        while not stop.is_set():
            self.check()
            if each():
                return
            stop.wait(interval_s)

    def _log(self, stage: str) -> Path:
        return self._place.data / "logs" / f"{stage}.log"

    def _turn(self, log: Path) -> None:
        """Begin a long log anew. Its content moves, not the file: the stage holds that open, to append."""
        with suppress(FileNotFoundError):  # whoever took it away
            if log.stat().st_size > LOG_BYTES:
                shutil.copyfile(log, log.with_suffix(".log.1"))
                os.truncate(log, 0)

    def _start(self, stage: str) -> None:
        with self._log(stage).open("ab") as output:
            self._processes[stage] = subprocess.Popen(
                list(self._commands[stage]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "MOODWIRE_SUPERVISOR": str(os.getpid())},
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops them in order
            )
        self._started[stage] = time.monotonic()

    def _stop(self, stage: str) -> None:
        process = self._processes.pop(stage, None)
        self._due.pop(stage, None)
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._tell(f"stage {stage} did not stop within {STOP_S:g} s and is ended")
            process.kill()
            process.wait()


def lock(data: Path) -> IO[str]:
    """Hold the data folder. Raises AlreadyRunning, naming who has it."""
    file = (data / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise AlreadyRunning(
            f"moodwire already runs on {data} (process {holder}); stop that one, or name another folder with --data"
        ) from error
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


def command(place: Place, *words: str) -> list[str]:
    """The command line of this program on the same place."""
    config = ["--config", str(place.config)] if place.config else []
    return [sys.executable, "-m", "cli.main", *config, "--data", str(place.data), *words]

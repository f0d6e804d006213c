"""The windows by Flink: starts `flink_job.py` and keeps what it counts: into the store, and into `windows` with ticks.

The job counts what its state still knows. A window that it calls late, or of which it has counted less than the store
holds (its state expired, or it went back to a checkpoint), is counted from the stored scores, as the one-machine runner
counts; such a window stays right whatever the job says of it.
"""

import json
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx
import msgspec

from moodwire.errors import StreamError
from moodwire.records import Tick, Window, encode, floor_time, from_seconds
from moodwire.settings import Place, Settings
from moodwire.stage import Context, bury
from moodwire.store.db import Store
from moodwire.store.windows import (
    Totals,
    held,
    load_positions,
    save_positions,
    store_windows,
    totals_until,
    window_of,
)
from moodwire.stream.log import Message
from trends.count import stretches

NAME = "trends"
COUNTED, MARKS = "counted", "marks"  # the job's topics
KEEP_S = 3 * 86_400  # a story closes 72 h after its first copy: the job need not know it longer
STATE_S = KEEP_S + 86_400  # it goes by the clock, what is counted by it by the news: so state outlives that
HOLD_S = 2.0  # a tick waits so long for the windows that were sent before it by another way
ALL = 2**62  # an offset behind all others
STOP_S = 8.0


class Counted(msgspec.Struct, frozen=True):
    """A window as the job has counted it, in the order of `Totals`. `late`: some of it came when its state may have
    expired.
    """

    series: str
    start_s: int
    articles: int
    negative: int
    neutral: int
    positive: int
    fresh_negative: int
    fresh_neutral: int
    fresh_positive: int
    score_sum_e4: int
    late: bool = False


class Mark(msgspec.Struct, frozen=True):
    """What the job says beside the counts.

    `seen`: all that was seen before `at_s` is on its way, `positions` are the last offsets in `articles` since the mark
    before; `beat`: a heartbeat of a partition; `bad`: a record of `scored` that is none.
    """

    kind: str
    at_s: int | None = None
    positions: tuple[int | None, ...] | None = None
    replayed: bool | None = None
    partition: int | None = None
    offset: int | None = None
    reason: str | None = None


class Waiting(NamedTuple):
    until_s: float
    at: datetime
    positions: dict[int, int]
    replayed: bool


class Clockwork:
    """From marks to ticks: pure. A tick is due HOLD_S after the mark that says so."""

    def __init__(self, partitions: int, tick_s: float, last: datetime | None, positions: dict[int, int]) -> None:
        self.positions = dict(positions)
        self._beats: dict[int, int] = {}
        self._partitions = partitions
        self._tick_s = tick_s
        self._last = last
        self._waiting: deque[Waiting] = deque()

    def take(self, mark: Mark, now_s: float) -> None:
        """now_s: of a clock that never goes back."""
        if mark.kind not in {"seen", "beat"}:
            return
        at_s = mark.at_s
        if mark.kind == "seen":
            new = {part: offset for part, offset in enumerate(mark.positions or ()) if offset is not None}
            self.positions |= {part: max(offset, self.positions.get(part, offset)) for part, offset in new.items()}
        elif mark.kind == "beat" and mark.partition is not None and at_s is not None:
            self._beats[mark.partition] = max(at_s, self._beats.get(mark.partition, at_s))
            at_s = min(self._beats.values()) if len(self._beats) == self._partitions else None
        if at_s is None:
            return
        at = floor_time(from_seconds(at_s), self._tick_s)
        if self._last is None or at > self._last:
            self._last = at
            # A heartbeat overtakes the marks of what was seen before it.
            upto = dict(self.positions) if mark.kind == "seen" else self.positions
            self._waiting.append(Waiting(now_s + HOLD_S, at, upto, bool(mark.replayed)))

    def due(self, now_s: float) -> list[Tick]:
        ticks = []
        while self._waiting and self._waiting[0].until_s <= now_s:
            _, at, upto, replayed = self._waiting.popleft()
            positions = {str(part): offset for part, offset in upto.items()}
            ticks.append(Tick(at=at, positions=positions, replayed=replayed))
        return ticks

    @property
    def waits(self) -> bool:
        return bool(self._waiting)


def run(context: Context) -> None:
    """Until the stop. Raises StreamError when the job cannot run or ends."""
    if context.settings.stream.kind != "kafka":
        raise StreamError('Flink reads Kafka: set kind = "kafka" under [stream], or windows.engine = "one-machine"')
    for topic in ("scored", "windows", COUNTED, MARKS):
        context.log.partitions(topic)  # made, where they are missing
    with Job(context.place, context.settings, context.log.partitions("articles")) as job:
        keep(context, job)


def keep(context: Context, job: "Job") -> None:
    """Take what the job counts, until the stop."""
    last, positions = load_positions(context.store, NAME)
    parts = context.log.partitions("articles")
    clockwork = Clockwork(context.log.partitions("scored"), context.settings.windows.tick_s, last, positions)
    with context.log.consumer(COUNTED, NAME) as counts, context.log.consumer(MARKS, NAME) as marks:
        context.pulse.lags = lambda: context.log.lags("scored", NAME)  # the job commits at its checkpoints
        read: dict[int, int] = {}
        while not context.stop.is_set():
            job.check()
            told = marks.poll(1000, timeout_s=0.0)
            take_marks(context, clockwork, told)
            read |= {message.partition: message.offset + 1 for message in told}
            messages = counts.poll(2000, timeout_s=0.25)
            found = {(row.series, row.start_s): row for row in map(_counted, messages) if row is not None}
            windows = settled(context.store, list(found.values()), parts)
            ticks = clockwork.due(time.monotonic())
            context.log.append("windows", [("", encode(record), 0) for record in stretches([*windows, *ticks])])
            if messages:
                counts.commit({message.partition: message.offset + 1 for message in messages})
            if ticks:
                with context.store.write() as connection:
                    save_positions(
                        connection, NAME, ticks[-1].at, {int(p): at for p, at in ticks[-1].positions.items()}
                    )
            if read and not clockwork.waits:  # marks whose tick still waits are read again after a crash
                marks.commit(read)
                read = {}
            context.pulse.processed(len(messages))
            context.pulse.beat()


def take_marks(context: Context, clockwork: Clockwork, messages: Iterable[Message]) -> None:
    """Note the marks; what the job calls bad is set aside."""
    for message in messages:
        mark = msgspec.json.decode(message.value, type=Mark)
        clockwork.take(mark, time.monotonic())
        if mark.kind == "bad" and mark.partition is not None and mark.offset is not None:
            place = mark.partition, mark.offset
            bury(context, "scored", context.log.record("scored", *place) or Message(*place, "", b""), mark.reason or "")


def settled(store: Store, rows: Sequence[Counted], partitions: int) -> list[Window]:
    """Store the windows; returns them as the store then has them. Those behind it, and the late, are counted anew.

    rows: one a window.
    """
    by_key = {(row.series, from_seconds(row.start_s)): row for row in rows}
    totals = {key: totals_of(row) for key, row in by_key.items()}
    with store.read() as connection:
        revisions = {key: numbers[-1] for key, numbers in held(connection, by_key).items()}
        behind = {key for key, row in by_key.items() if row.late or row.articles < revisions.get(key, 0)}
        if behind:
            totals |= totals_until(connection, behind, dict.fromkeys(range(partitions), ALL))
    found = [window_of(key, each) for key, each in totals.items()]
    if found:
        store_windows(store, found)
    return found


def totals_of(row: Counted) -> Totals:
    _, _, *counts, _ = msgspec.structs.astuple(row)
    return Totals(*counts)


def _counted(message: Message) -> Counted | None:
    return msgspec.json.decode(message.value, type=Counted) if message.value else None


# --- the job ----------------------------------------------------------------------------------------------------------


class Where(NamedTuple):
    """Files that the job needs."""

    python: Path
    connector: Path
    checkpoints: str  # address


def where(place: Place, settings: Settings) -> Where:
    """Raises StreamError for what is not there."""
    flink = settings.flink
    folder = place.config.parent if place.config else Path()
    python, connector = folder / flink.python, folder / flink.connector
    for path, what in ((python, "the Python of the environment with apache-flink"), (connector, "Flink's connector")):
        if not path.is_file():
            raise StreamError(f"{path}: {what} is not there; set [flink] in moodwire.toml (docs/flink.md)")
    return Where(
        python.absolute(), connector.absolute(), flink.checkpoints or (place.data / "flink").absolute().as_uri()
    )


class Job:
    """The Flink job, in a small cluster of its own process here, or on a cluster by address. Use it as a context."""

    def __init__(self, place: Place, settings: Settings, partitions: int, state_s: int = STATE_S) -> None:
        """state_s: seconds after which the job forgets what it has not used since."""
        self._cluster = settings.flink.cluster
        files = where(place, settings)
        self._given = given(settings, files, partitions, state_s)
        self._python = files.python
        self._log_path = place.data / "logs" / "flink.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> "Job":
        if self._cluster and running(self._cluster, self._given["name"]):
            return self
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        self._log = self._log_path.open("ab")
        script = Path(__file__).with_name("flink_job.py")
        self._process = subprocess.Popen(
            [str(self._python), str(script)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # its JVM is of its group
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(self._given).encode())
        self._process.stdin.close()
        return self

    def check(self) -> None:
        """Raises StreamError if the job has ended."""
        code = None if self._process is None else self._process.poll()
        if code is None or (self._cluster and code == 0):  # submitted
            return
        raise StreamError(f"the Flink job ended: see the end of {self._log_path}")

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._log is not None:
            self._log.close()


def given(settings: Settings, files: Where, partitions: int, state_s: int) -> dict[str, object]:
    """What `flink_job.py` is told."""
    stream = settings.stream
    return {
        "name": f"{stream.prefix}trends",
        "connector": str(files.connector),
        "cluster": settings.flink.cluster,
        "parallelism": settings.flink.parallelism,
        "checkpoints": files.checkpoints,
        "restore": newest(files.checkpoints),
        "keep_s": KEEP_S,
        "state_s": state_s,
        "kafka": client(settings),
        "group": f"{stream.prefix}scored.{NAME}",
        "scored": f"{stream.prefix}scored",
        "windows": f"{stream.prefix}{COUNTED}",
        "marks": f"{stream.prefix}{MARKS}",
        "partitions": partitions,
        "fresh_s": settings.windows.fresh_s,
        "tick_s": settings.windows.tick_s,
    }


def client(settings: Settings) -> dict[str, str]:
    """`[stream]` as Kafka's Java client has it."""
    security = settings.stream.security
    found = {"bootstrap.servers": ",".join(settings.stream.servers), "security.protocol": security.security_protocol}
    if security.sasl_mechanism:
        kind = "plain.PlainLoginModule" if security.sasl_mechanism == "PLAIN" else "scram.ScramLoginModule"
        user, password = (
            json.dumps(value or "") for value in (security.sasl_plain_username, security.sasl_plain_password)
        )
        found["sasl.mechanism"] = security.sasl_mechanism
        # The connector has Kafka's classes under another name.
        package = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security"
        found["sasl.jaas.config"] = f"{package}.{kind} required username={user} password={password};"
    if security.ssl_cafile:
        found |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": security.ssl_cafile}
    if not security.ssl_check_hostname:
        found["ssl.endpoint.identification.algorithm"] = ""
    return found


def newest(checkpoints: str) -> str:
    """The address of the newest whole checkpoint in a folder here; empty if there is none."""
    parts = urlsplit(checkpoints)
    if parts.scheme != "file":
        return ""
    found = Path(url2pathname(parts.path)).glob("*/chk-*/_metadata")
    last = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return last.parent.as_uri() if last else ""


def running(cluster: str, name: object) -> bool:
    """Whether a cluster has the job. Raises StreamError if it cannot be asked."""
    try:
        jobs = httpx.get(f"http://{cluster}/jobs/overview", timeout=10).raise_for_status().json()["jobs"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise StreamError(f"the Flink cluster at {cluster} cannot be asked for its jobs: {error}") from error
    live = {"RUNNING", "RESTARTING", "CREATED", "INITIALIZING", "RECONCILING"}
    return any(job["name"] == name and job["state"] in live for job in jobs)

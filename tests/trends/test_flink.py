"""The Flink job against the one-machine runner, on a real broker; and what is kept of what it counts."""

import os
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psutil
import pytest

from moodwire.errors import StreamError
from moodwire.records import DeadLetter, Heartbeat, Scored, Tick, decode, encode
from moodwire.settings import Flink, Place, Security, Settings, Stream, Windows
from moodwire.stage import Context, Taken
from moodwire.store import queries
from moodwire.store.scores import store_scores
from moodwire.stream.log import Message
from tests import services
from tests.helpers import T0, after, context, kafka_log, placed, scored, until
from tests.trends.test_count import told
from trends import flink, stage
from trends.flink import Clockwork, Counted, Mark

FRESH = timedelta(hours=2)
DAY = 86_400
ROOT = Path(__file__).parent.parent.parent
PARTS = 2
LIMIT_S = 300


def mixed(count: int, seed: int) -> list[Scored]:
    """Eight days of news out of order, with copies, revisions, doubles and what comes far too late."""
    rng = random.Random(seed)
    names = ["all", "topic:earnings", "entity:X", "entity:Y", "group:tech"]
    found: list[Scored] = []
    for number in range(count):
        seen = 8 * DAY * number / count
        at = seen - rng.choice((1, 30, 900, 7200, 7201, 20_000, 5 * DAY))
        series = ("all", *rng.sample(names[1:], rng.randint(0, 3)))
        made = scored(number, at, rng.choice(("negative", "neutral", "positive")), series, seen=seen)
        if found and rng.random() < 0.3:
            other = rng.choice(found[-200:])
            made = msgspec.structs.replace(made, story_id=other.story_id)
            if rng.random() < 0.3:
                made = msgspec.structs.replace(made, id=other.id, revision=other.revision + 1000 + number)
        found.append(made)
    return found


def by_one_machine(folder: Path, records: list[Scored]) -> list[tuple[object, ...]]:
    folder.mkdir()
    c = context(folder)
    store_scores(c.store, records, FRESH)
    with stage.Counting(c) as counting:
        counting.handle([Taken(Message(0, number, "k", b""), record) for number, record in enumerate(records)])
    return windows(c)


def windows(c: Context) -> list[tuple[object, ...]]:
    return sorted(queries.windows(c.store).drop(columns="score").itertuples(index=False, name=None))


@pytest.fixture
def by_flink(tmp_path: Path) -> Iterator[Context]:
    """A stage's context whose log is on the tests' broker."""
    made = Flink(python=".venv-flink/bin/python", connector=".services/flink/flink-sql-connector-kafka.jar")
    stream = Stream(kind="kafka", servers=(services.kafka().server,), prefix=f"{tmp_path.name}.")
    settings = Settings(windows=Windows(engine="flink", tick_s=60), flink=made, stream=stream)
    log = kafka_log(stream.prefix, partitions=PARTS)
    c = replace(context(tmp_path, settings, stage="trends"), log=log, place=Place(tmp_path, ROOT / "moodwire.toml"))
    yield c
    c.stop.set()
    log.close()


class Running:
    """The stage in a thread, as its supervisor would hold it."""

    def __init__(self, c: Context) -> None:
        self.context = c
        self.fault: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            flink.run(self.context)
        except StreamError as error:
            self.fault = error

    def drained(self) -> bool:
        assert self.fault is None
        log = self.context.log
        return all(log.lag(topic, "trends") == 0 for topic in ("scored", flink.COUNTED, flink.MARKS))

    def end(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def worked_off(c: Context) -> list[tuple[object, ...]]:
    """The windows, when all that was appended is counted and kept."""
    running = Running(c)
    until(running.drained, LIMIT_S)
    c.stop.set()
    running.end()
    return windows(c)


def append(c: Context, records: list[Scored], doubled: random.Random) -> None:
    sent = [record for record in records for _ in range(1 + (doubled.random() < 0.1))]
    c.log.append("scored", [(record.story_id, encode(record), record.partition) for record in sent])


def end_of_news(c: Context, at: float) -> None:
    beat = encode(Heartbeat(at=after(at), replayed=True))
    c.log.append("scored", [("", beat, partition) for partition in range(PARTS)])


def test_both_engines_count_the_same_and_bad_records_are_set_aside(by_flink: Context, tmp_path: Path) -> None:
    records = mixed(800, seed=1)
    ahead = msgspec.structs.replace(
        records[400], id="ahead", story_id="ahead", seen_at=datetime(2090, 1, 1, tzinfo=UTC)
    )
    records = placed([*records[:400], ahead, *records[400:]], PARTS)  # it must not push the watermark
    store_scores(by_flink.store, records, FRESH)
    wrong = encode(records[0]).replace(b'"series":[', b'"series":null,"was":[')
    by_flink.log.append("scored", [("", b"\xffno JSON", 0), ("", b"[1]", 0), ("", wrong, 1)])
    append(by_flink, records, random.Random(2))
    end_of_news(by_flink, 9 * DAY)
    assert worked_off(by_flink) == by_one_machine(tmp_path / "one", records)
    ticks = [record for record in told(by_flink) if isinstance(record, Tick)]
    assert [tick.at for tick in ticks] == sorted({tick.at for tick in ticks})
    assert ticks[-1].at == after(9 * DAY)
    assert ticks[-1].positions == {
        str(part): max(record.offset for record in records if record.partition == part) for part in range(PARTS)
    }
    letters = [decode(m.value) for m in by_flink.log.records("dead_letters")]
    reasons = sorted((letter.partition, letter.reason) for letter in letters if isinstance(letter, DeadLetter))
    assert reasons == [
        (0, "it is no JSON object"),
        (0, "it is no JSON object"),
        (1, "a field of it is missing or has another type"),
    ]


def job() -> psutil.Process:
    """The newest process started here; the broker came before. Numbers of processes begin anew some day."""
    return max(psutil.Process().children(), key=psutil.Process.create_time)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_a_job_that_is_killed_goes_on(by_flink: Context, tmp_path: Path, seed: int) -> None:
    records = placed(mixed(3000, seed), PARTS)
    store_scores(by_flink.store, records, FRESH)
    rng = random.Random(seed)
    for part in range(3):
        append(by_flink, records[part * 1000 : part * 1000 + 1000], rng)
        running = Running(by_flink)
        until(lambda: job().children(), LIMIT_S)  # until it has its JVM only what the one before had sent is kept
        known = len(windows(by_flink))
        until(lambda known=known: len(windows(by_flink)) > known, LIMIT_S)  # type: ignore[misc]
        its_own = job().children(recursive=True)
        job().send_signal(signal.SIGKILL)
        running.end()
        assert its_own
        assert psutil.wait_procs(its_own, 10)[1] == []  # none is left to count beside the next
        assert "ended" in str(running.fault)
    end_of_news(by_flink, 9 * DAY)
    assert worked_off(by_flink) == by_one_machine(tmp_path / "one", records)


# --- what is kept, and when a tick is due -----------------------------------------------------------------------------


def counted(records: list[Scored], upto: int) -> list[Counted]:
    """What a job says that has counted the first so many records, all of one series."""
    rows = {}
    for record in records[:upto]:
        start_s = int(record.published_at.timestamp()) // 60 * 60
        old = rows.get(start_s, Counted("all", start_s, 0, 0, 0, 0, 0, 0, 0, 0, False))
        rows[start_s] = msgspec.structs.replace(
            old, articles=old.articles + 1, negative=old.negative + 1, fresh_negative=old.fresh_negative + 1
        )
    return list(rows.values())


def test_what_is_behind_the_store_or_late_is_counted_from_the_store(tmp_path: Path) -> None:
    c = context(tmp_path)
    records = [scored(number, 5 * number) for number in range(10)]
    store_scores(c.store, records, FRESH)
    (late,) = flink.settled(c.store, [msgspec.structs.replace(row, late=True) for row in counted(records, 4)], 1)
    assert late.revision == late.negative == 10
    assert late.score_sum_e4 == -70_000
    (behind,) = flink.settled(c.store, counted(records, 4), 1)
    assert behind == late


def test_a_tick_is_due_when_all_partitions_have_come_so_far_and_its_windows_had_time() -> None:
    clockwork = Clockwork(2, 60, None, {})
    at_s = int(T0.timestamp())
    clockwork.take(Mark("seen", at_s + 60, (5, None), False), now_s=0.0)
    assert clockwork.due(flink.HOLD_S - 0.1) == []
    assert clockwork.due(flink.HOLD_S) == [Tick(at=after(60), positions={"0": 5})]
    clockwork.take(Mark("beat", at_s + 300, replayed=True, partition=0), now_s=10.0)
    assert not clockwork.waits  # the other partition has not come so far
    clockwork.take(Mark("beat", at_s + 190, replayed=True, partition=1), now_s=10.0)
    assert clockwork.due(99.0) == [Tick(at=after(180), positions={"0": 5}, replayed=True)]
    clockwork.take(Mark("seen", at_s + 120, (7, 3), False), now_s=20.0)  # behind the last tick
    assert not clockwork.waits
    clockwork.take(Mark("bad", partition=0, offset=9), now_s=20.0)
    assert not clockwork.waits
    assert clockwork.positions == {0: 7, 1: 3}


def test_kafka_s_settings_in_the_words_of_its_java_client() -> None:
    security = Security(
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_plain_username='me"',
        sasl_plain_password="p",
        ssl_cafile="/ca.pem",
        ssl_check_hostname=False,
    )
    found = flink.client(Settings(stream=Stream(kind="kafka", servers=("a:1", "b:2"), security=security)))
    assert found["bootstrap.servers"] == "a:1,b:2"
    assert found["sasl.jaas.config"].endswith('scram.ScramLoginModule required username="me\\"" password="p";')
    assert found["ssl.truststore.location"] == "/ca.pem"
    assert found["ssl.endpoint.identification.algorithm"] == ""


def test_a_job_goes_on_from_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    for number, name in enumerate(("a/chk-9/_metadata", "b/chk-2/_metadata", "b/chk-3/other")):
        (path := tmp_path / name).parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (number, number))
    assert flink.newest(tmp_path.as_uri()) == (tmp_path / "b" / "chk-2").as_uri()
    assert flink.newest((tmp_path / "none").as_uri()) == ""
    assert flink.newest("s3://bucket/flink") == ""


def test_what_flink_needs_and_is_not_there_is_named(tmp_path: Path) -> None:
    c = context(tmp_path, Settings(windows=Windows(engine="flink")))
    with pytest.raises(StreamError, match="Flink reads Kafka"):
        flink.run(c)
    with pytest.raises(StreamError, match=r"python: the Python of the environment with apache-flink is not there"):
        flink.where(Place(tmp_path, tmp_path / "moodwire.toml"), c.settings)
    with pytest.raises(StreamError, match="cannot be asked"):
        flink.running("127.0.0.1:1", "x")

"""The log's contract. Every implementation is put under these tests: add it to `LOGS`."""

import sqlite3
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moodwire.errors import AssignmentLost, BadInput
from moodwire.stream.embedded import EmbeddedLog
from moodwire.stream.log import Log, Message
from tests.helpers import kafka_log

LOGS: dict[str, Callable[[Path], Log]] = {
    "embedded": lambda folder: EmbeddedLog(folder, partitions=3),
    "kafka": lambda folder: kafka_log(f"{folder.name}."),
}


@pytest.fixture(params=LOGS)
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Log]:
    return lambda: LOGS[request.param](tmp_path)


def everything(log: Log, topic: str, group: str) -> list[Message]:
    with log.consumer(topic, group) as consumer:
        found = []
        while messages := consumer.poll(7, timeout_s=0.05):
            found += messages
        return found


def test_order_holds_within_a_partition_and_offsets_grow(open_log: Callable[[], Log]) -> None:
    log = open_log()
    for start in range(0, 60, 10):
        log.append("t", [(f"k{i % 5}", str(i).encode(), None) for i in range(start, start + 10)])
    found = everything(log, "t", "g")
    assert len(found) == 60
    for partition in range(3):
        mine = [message for message in found if message.partition == partition]
        assert [int(m.value) for m in mine] == sorted(int(m.value) for m in mine)
        assert all(a.offset < b.offset for a, b in pairwise(mine))
    assert len({(message.key, message.partition) for message in found}) == 5  # a key has one partition


def test_a_given_partition_is_used(open_log: Callable[[], Log]) -> None:
    log = open_log()
    log.append("t", [("k", b"a", partition) for partition in (2, 0, 1)])
    assert sorted(message.partition for message in everything(log, "t", "g")) == [0, 1, 2]


def test_what_is_not_committed_is_read_again_and_what_is_not(open_log: Callable[[], Log]) -> None:
    log = open_log()
    log.append("t", [("k", str(i).encode(), 1) for i in range(10)])
    with log.consumer("t", "g") as consumer:
        first = consumer.poll(4, timeout_s=1)
        consumer.commit({1: first[-1].offset + 1})
        assert [m.value for m in consumer.poll(3, timeout_s=1)] == [b"4", b"5", b"6"]  # read, never committed
    again = open_log()
    assert [m.value for m in everything(again, "t", "g")] == [str(i).encode() for i in range(4, 10)]


def test_commits_are_per_partition(open_log: Callable[[], Log]) -> None:
    log = open_log()
    log.append("t", [("k", f"{i}".encode(), i % 3) for i in range(9)])
    with log.consumer("t", "g") as consumer:
        messages = [m for m in consumer.poll(100, timeout_s=1)]
        last = max(m.offset for m in messages if m.partition == 2)
        consumer.commit({2: last + 1})
    assert {m.partition for m in everything(log, "t", "g")} == {0, 1}


def test_groups_do_not_see_each_other(open_log: Callable[[], Log]) -> None:
    log = open_log()
    log.append("t", [("k", b"x", None)])
    with log.consumer("t", "one") as consumer:
        (message,) = consumer.poll(10, timeout_s=1)
        consumer.commit({message.partition: message.offset + 1})
    assert everything(log, "t", "one") == []
    assert len(everything(log, "t", "two")) == 1


def test_a_commit_after_a_takeover_is_refused(open_log: Callable[[], Log]) -> None:
    log = open_log()
    log.append("t", [("k", b"x", 0)])
    old = log.consumer("t", "g")
    (message,) = old.poll(10, timeout_s=1)
    new = open_log().consumer("t", "g")
    with pytest.raises(AssignmentLost, match="taken over"):
        old.commit({0: message.offset + 1})
    assert [m.value for m in new.poll(10, timeout_s=1)] == [b"x"]
    new.commit({0: message.offset + 1})


def test_lag_counts_what_is_left(open_log: Callable[[], Log]) -> None:
    log = open_log()
    assert log.lag("t", "g") == 0
    log.append("t", [("k", b"x", 0) for _ in range(5)])
    assert log.lag("t", "g") == 5
    with log.consumer("t", "g") as consumer:
        messages = consumer.poll(2, timeout_s=1)
        consumer.commit({0: messages[-1].offset + 1})
        assert sum(consumer.lags().values()) == log.lag("t", "g") == 3


def test_what_is_kept_is_seen_without_a_group_and_lag_by_partition(open_log: Callable[[], Log]) -> None:
    log = open_log()
    assert list(log.records("t")) == []
    log.append("t", [("k", str(number).encode(), number % 2) for number in range(1200)])
    with log.consumer("t", "g") as consumer:
        consumer.commit({message.partition: message.offset + 1 for message in consumer.poll(1, timeout_s=1)})
        lags = log.lags("t", "g")
    assert sum(lags.values()) == 1199
    assert sorted(lags.values()) == [0, 599, 600]
    kept = list(log.records("t"))
    assert sorted(int(message.value) for message in kept) == list(range(1200))
    assert log.record("t", kept[700].partition, kept[700].offset) == kept[700]
    assert log.record("t", kept[700].partition, 999_999) is None


def test_a_waiting_poll_gets_what_arrives(open_log: Callable[[], Log]) -> None:
    log = open_log()
    other = open_log()
    appender = threading.Timer(0.05, lambda: other.append("t", [("k", b"x", None)]))
    appender.start()
    with log.consumer("t", "g") as consumer:
        assert len(consumer.poll(10, timeout_s=20)) == 1
    appender.join()


def test_a_record_over_1_mb_is_refused(open_log: Callable[[], Log]) -> None:
    log = open_log()
    with pytest.raises(BadInput, match="over"):
        log.append("t", [("k", b"x" * 1_000_001, None)])
    log.append("t", [("k", b"x" * 1_000_000, None)])
    assert len(everything(log, "t", "g")) == 1


def test_appenders_take_turns(open_log: Callable[[], Log]) -> None:
    def work(name: int) -> None:
        log = open_log()
        for i in range(20):
            log.append("t", [(str(name), f"{name}:{i}".encode(), 0)])

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [m.value.decode().split(":") for m in everything(open_log(), "t", "g")]
    assert len(found) == 80
    for name in range(4):
        assert [int(i) for n, i in found if int(n) == name] == list(range(20))


def play(open_log: Callable[[], Log], plan: list[tuple[int, int, bool]]) -> None:
    """Appends, polls and restarts in any order: each record is committed, in order."""
    topic = f"t-{uuid.uuid4()}"  # the folder is shared by all the plans
    log = open_log()
    written: dict[int, list[int]] = {0: [], 1: [], 2: []}
    done: dict[int, list[int]] = {0: [], 1: [], 2: []}
    count = 0
    consumer = log.consumer(topic, "g")
    for partition, size, restart in [*plan, (0, 1, True)]:
        log.append(topic, [("k", str(count + i).encode(), partition) for i in range(size)])
        written[partition] += range(count, count + size)
        count += size
        messages = consumer.poll(size, timeout_s=0)
        if restart:  # what was polled is not committed
            consumer = log.consumer(topic, "g")
        elif messages:
            consumer.commit({m.partition: m.offset + 1 for m in messages})
            for message in messages:
                done[message.partition].append(int(message.value))
    while messages := consumer.poll(100, timeout_s=0):
        for message in messages:
            done[message.partition].append(int(message.value))
    assert done == written


def test_restarts_lose_nothing(open_log: Callable[[], Log]) -> None:
    play(open_log, [(0, 3, False), (1, 2, True), (2, 5, False), (0, 1, True), (1, 4, False)])


@pytest.mark.parametrize("open_log", ["embedded", pytest.param("kafka", marks=pytest.mark.long)], indirect=True)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5), st.booleans()), min_size=1, max_size=12))
def test_restarts_at_any_moment_lose_nothing(open_log: Callable[[], Log], plan: list[tuple[int, int, bool]]) -> None:
    play(open_log, plan)


def test_retention_keeps_what_a_group_has_not_read(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path, retention_s=0)
    log.append("t", [("k", b"a", None), ("k", b"b", None), ("k", b"c", None)])
    with log.consumer("t", "g") as consumer:
        first = consumer.poll(1, timeout_s=1)[0]
        consumer.commit({0: first.offset + 1})
    fresh = EmbeddedLog(tmp_path, retention_s=0)  # a new appender looks at retention with its first append
    fresh.append("t", [("k", b"d", None)])
    assert [m.value for m in everything(fresh, "t", "other")] == [b"b", b"c", b"d"]


def test_what_is_read_and_young_is_kept(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path, retention_s=60)
    log.append("t", [("k", name, None) for name in (b"a", b"b", b"c")])
    log.topic_database("t").execute("UPDATE records SET at = at - 100 WHERE position <= 2")
    with log.consumer("t", "g") as consumer:
        consumer.commit({0: consumer.poll(3, timeout_s=1)[-1].offset + 1})
    fresh = EmbeddedLog(tmp_path, retention_s=60)
    fresh.append("t", [("k", b"d", None)])
    assert [m.value for m in everything(fresh, "t", "other")] == [b"c", b"d"]


def test_a_new_topic_may_be_opened_by_several_at_once(tmp_path: Path) -> None:
    """SQLite itself would not wait for another who is just making the file."""
    log = EmbeddedLog(tmp_path)
    other = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    other.execute("CREATE TABLE other (x)")
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        appended = pool.submit(log.append, "new", [("k", b"x", 0)])
        try:
            with pytest.raises(TimeoutError):
                appended.exception(timeout=0.5)
        finally:
            other.execute("COMMIT")
            other.close()
        appended.result(30)
    assert [message.value for message in log.read("new", 0, 10)] == [b"x"]
    log.close()

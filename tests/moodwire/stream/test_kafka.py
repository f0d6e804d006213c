"""What only Kafka does: sharing a topic, hand-over, holding back, a broker that is gone or silent for a while."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.errors import RebalanceInProgressError

from moodwire.errors import Rebalanced, StreamError
from moodwire.stream import kafka
from moodwire.stream.kafka import Broker, Client, KafkaConsumer, KafkaLog
from moodwire.stream.log import Message
from tests import services
from tests.helpers import kafka_log, until


@pytest.fixture
def broker() -> Iterator[services.Kafka]:
    """The tests' broker, whole again afterwards."""
    yield services.kafka()
    services.kafka().signal(signal.SIGCONT)


def entries(count: int, start: int = 0) -> list[tuple[str, bytes, int | None]]:
    return [("k", str(number).encode(), number % 3) for number in range(start, start + count)]


def partitions_of(consumer: KafkaConsumer, log: KafkaLog) -> set[int]:
    """Which partitions a member is given: by records appended to each until it is known."""
    return {place.partition for place in consumer._ask(lambda client: client.assignment())}


def taken(consumer: KafkaConsumer, count: int) -> list[Message]:
    """So many records and what came with the last of them: the broker may give them one by one."""
    found: list[Message] = []
    while len(found) < count:
        found += consumer.poll(30, 20)
    return found


def test_members_share_a_topic_and_one_that_joins_takes_work_over(tmp_path: Path) -> None:
    one, two = kafka_log(f"{tmp_path.name}.", "one"), kafka_log(f"{tmp_path.name}.", "two")
    one.append("t", entries(9))
    first = one.consumer("t", "g")
    in_hand = taken(first, 9)
    second = two.consumer("t", "g")
    until(lambda: len(partitions_of(first, one) | partitions_of(second, two)) == 3 and bool(partitions_of(second, two)))
    assert not partitions_of(first, one) & partitions_of(second, two)
    moved = partitions_of(second, two)
    last = {message.partition: message.offset + 1 for message in in_hand}
    with pytest.raises(Rebalanced, match="another member"):
        first.commit(last)
    # What the first kept is committed nonetheless, and what went over is read again by the second.
    assert {partition for partition, lag in one.lags("t", "g").items() if lag} == moved
    again = taken(second, 3 * len(moved))
    assert {message.partition for message in again} == moved
    second.commit({message.partition: message.offset + 1 for message in again})
    assert one.lag("t", "g") == 0
    one.close()
    two.close()


def test_a_commit_waits_for_a_rebalance_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = kafka_log(f"{tmp_path.name}.")
    log.append("t", entries(3))
    reader = log.consumer("t", "g")
    read = taken(reader, 3)
    refused: list[object] = []
    commit = Client.commit

    def refuses_twice(self: Client, offsets: object, timeout_ms: float) -> None:
        if len(refused) < 2:
            refused.append(offsets)
            raise RebalanceInProgressError
        commit(self, offsets, timeout_ms=timeout_ms)

    monkeypatch.setattr(Client, "commit", refuses_twice)
    reader.commit({message.partition: message.offset + 1 for message in read})
    assert len(refused) == 2
    assert log.lag("t", "g") == 0
    log.close()


def test_a_slow_reader_holds_fetching_back_and_stays_a_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "QUEUE_RECORDS", 50)
    monkeypatch.setattr(kafka, "SESSION_S", 6.0)  # the broker's least
    monkeypatch.setattr(kafka, "QUEUE_BYTES", 1000)  # less than a batch: a fetch brings one of each partition
    log = kafka_log(f"{tmp_path.name}.")
    for start in range(0, 5000, 500):
        log.append("t", entries(500, start))
    with log.consumer("t", "g") as consumer:
        found = consumer.poll(1, 5)
        until(lambda: bool(consumer._ask(lambda client: client.paused())))
        held = len(consumer._queue)
        assert held <= 50 + 500  # the bound, and the fetch that reached it
        threading.Event().wait(7)  # working for longer than the session lasts
        assert len(consumer._queue) == held
        consumer.commit({found[0].partition: found[0].offset + 1})
        while len(found) < 5000:
            found += consumer.poll(500, 5)
        for partition in range(3):
            mine = [int(message.value) for message in found if message.partition == partition]
            assert mine == list(range(partition, 5000, 3))


def test_a_partition_on_hold_is_not_fetched_and_not_waited_for(tmp_path: Path) -> None:
    log = kafka_log(f"{tmp_path.name}.")
    with log.consumer("t", "g") as consumer:
        consumer.hold({0, 2})
        until(lambda: len(consumer._ask(lambda client: client.paused())) == 2)
        log.append("t", entries(9))
        free = taken(consumer, 3)
        assert [message.partition for message in free] == [1, 1, 1]
        assert consumer.poll(9, 0) == []
        consumer.hold(())
        held = taken(consumer, 6)
        assert {message.partition for message in held} == {0, 2}
    log.close()


def test_what_was_fetched_of_partitions_on_hold_is_given_when_they_are_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "QUEUE_RECORDS", 1500)
    log = kafka_log(f"{tmp_path.name}.")
    log.append("t", entries(9000))  # of each partition more than the queue takes
    with log.consumer("t", "g") as consumer:
        found: list[Message] = []

        def enough() -> bool:  # more than the queue takes, or all there is
            return consumer.queued() > 1500 or len(found) + consumer.queued() == 9000

        for _ in range(2):  # each time of another partition, if not all at once
            until(enough)
            found += consumer.poll(9000, 0)
            consumer.hold({found[-1].partition})
        consumer.hold(())
        while len(found) < 9000:
            more = consumer.poll(9000, 5)
            assert more, f"stuck after {len(found)}"
            found += more
        for partition in range(3):
            mine = [int(message.value) for message in found if message.partition == partition]
            assert mine == list(range(partition, 9000, 3))
    log.close()


def test_a_silent_broker_is_waited_for(tmp_path: Path, broker: services.Kafka) -> None:
    log = kafka_log(f"{tmp_path.name}.")
    log.append("t", entries(3))
    with log.consumer("t", "g") as consumer:
        consumer.poll(3, 5)
        broker.signal(signal.SIGSTOP)  # it accepts, and never answers
        timer = threading.Timer(3, lambda: broker.signal(signal.SIGCONT))
        timer.start()
        log.append("t", entries(3, 3))
        timer.join()
        found = taken(consumer, 3)
        assert {int(message.value) for message in found} >= {3, 4, 5}
        consumer.commit({message.partition: message.offset + 1 for message in found})


def test_a_broker_that_stays_silent_is_told_in_words(
    tmp_path: Path, broker: services.Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "GIVE_UP_S", 3.0)
    monkeypatch.setattr(kafka, "REQUEST_S", 2.0)
    log = kafka_log(f"{tmp_path.name}.")
    log.append("t", entries(3))
    broker.signal(signal.SIGSTOP)
    with pytest.raises(StreamError, match=f"Kafka at {broker.server}: cannot append to topic t"):
        log.append("t", entries(3, 3))
    broker.signal(signal.SIGCONT)
    log.append("t", entries(3, 6))
    kept = [int(message.value) for message in log.records("t")]
    assert {0, 1, 2, 6, 7, 8} <= set(kept)
    # What failed may have come in, but not after what was appended later.
    for partition in range(3):
        mine = [value for value in kept if value % 3 == partition]
        assert mine == sorted(mine)


def test_a_broker_that_is_not_there_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "GIVE_UP_S", 1.0)
    log = KafkaLog(Broker((f"127.0.0.1:{services.free_port()}",)), "one")
    with pytest.raises(StreamError, match="cannot make topic t"):
        log.append("t", entries(1))


@pytest.mark.long
def test_a_broker_that_is_down_for_20_s_loses_nothing(tmp_path: Path, broker: services.Kafka) -> None:
    log = kafka_log(f"{tmp_path.name}.")
    log.append("t", entries(30))
    consumer = log.consumer("t", "g")
    found = taken(consumer, 30)
    broker.stop()
    appender = threading.Thread(target=log.append, args=("t", entries(30, 30)))
    appender.start()
    threading.Event().wait(20)
    assert appender.is_alive(), "nothing was in flight"
    broker.start()
    appender.join()
    consumer.commit({message.partition: message.offset + 1 for message in found})
    while len(found) < 60:
        found += consumer.poll(30, 5)
    assert {int(message.value) for message in found} == set(range(60))
    consumer.close()


def test_a_key_that_is_no_text_does_not_stop_the_reading(tmp_path: Path) -> None:
    log = kafka_log(f"{tmp_path.name}.")
    log.partitions("t")
    producer = log._producer()
    producer.send(f"{tmp_path.name}.t", key=b"\xff\xfe", value=b"x").get(10)
    producer.send(f"{tmp_path.name}.t", key=None, value=b"y").get(10)
    producer.send(f"{tmp_path.name}.t", key=b"k", value=None).get(10)
    found = sorted((message.key, message.value) for message in log.records("t"))
    assert found == [("", b"y"), ("\\xff\\xfe", b"x"), ("k", b"")]
    log.close()

"""The log on Kafka. Needs the extra `kafka`.

A log has an instance, a name by which Kafka knows its consumers again (static membership): a consumer of the same
instance takes over from the one before, at once; consumers of different instances share a topic's partitions.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

from kafka import (
    ConsumerRebalanceListener,
    KafkaAdminClient,
    KafkaProducer,
    OffsetAndMetadata,
    OffsetSpec,
    TopicPartition,
)
from kafka import KafkaConsumer as Client
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    KafkaError,
    RebalanceInProgressError,
    RetriableError,
    TopicAlreadyExistsError,
)

from moodwire.errors import AssignmentLost, BadInput, Rebalanced, StreamError
from moodwire.records import MAX_RECORD_BYTES
from moodwire.stream.log import Entry, Message, partition_of

REQUEST_S = 10.0  # a broker that does not answer for so long is asked anew
GIVE_UP_S = 45.0  # a broker that has not done a thing after so long: StreamError
SESSION_S = 15.0  # a consumer that was killed, and does not come back, loses its partitions after this
IDLE_S = 0.05  # the poll thread waits so long for records before it looks for commits to make
QUEUE_RECORDS = 4_000  # fetched and not yet taken: above these the partitions are paused …
QUEUE_BYTES = 16_000_000  # and a fetch brings no more than this
_ODD = "backslashreplace"  # what is no Unicode in a key becomes an escape
_LOG = logging.getLogger(__name__)


class Broker(NamedTuple):
    """Where Kafka is and how topics are made."""

    servers: tuple[str, ...]
    prefix: str = ""  # before the names of topics and groups, where a cluster is shared
    partitions: int = 1  # of topics that are not there yet
    replication: int = -1  # -1: as the broker is set
    security: Mapping[str, Any] = {}


class KafkaLog:
    """Topics on a Kafka cluster. Safe to use from several threads; its consumers from one each."""

    def __init__(self, broker: Broker, instance: str, retention_s: float = 7 * 86400.0) -> None:
        self._broker = broker
        self._instance = instance
        self._retention_s = retention_s
        self._known: dict[str, int] = {}  # topic -> partitions
        self._lock = threading.Lock()
        self._consumers: dict[tuple[str, str], KafkaConsumer] = {}
        self._admin_client: KafkaAdminClient | None = None
        self._producer_client: KafkaProducer | None = None

    def partitions(self, topic: str) -> int:
        with self._lock:
            return self._partitions(topic)

    def append(self, topic: str, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        count = self.partitions(topic)
        for _, value, _ in entries:
            if len(value) > MAX_RECORD_BYTES:
                raise BadInput(f"a record of {len(value)} bytes for topic {topic} is over {MAX_RECORD_BYTES}")
        producer = self._producer()
        try:
            with self._told(f"append to topic {topic}"):
                sent = [
                    producer.send(
                        self._broker.prefix + topic,
                        value=value,
                        key=key.encode("utf-8", _ODD),
                        partition=partition_of(key, count) if partition is None else partition,
                    )
                    for key, value, partition in entries
                ]
                producer.flush(timeout=GIVE_UP_S)
                for one in sent:
                    one.get(timeout=GIVE_UP_S)
        except StreamError:
            with self._lock:  # what it may still hold must not follow later
                self._producer_client = None
            with suppress(KafkaError):
                producer.close(timeout=0)
            raise

    def records(self, topic: str) -> Iterator[Message]:
        """All that is kept of a topic now, for no group."""
        places = [TopicPartition(self._broker.prefix + topic, at) for at in range(self.partitions(topic))]
        with self._told(f"read topic {topic}"):
            client = Client(group_id=None, auto_offset_reset="earliest", **self._common())
            try:
                client.assign(places)
                ends = client.end_offsets(places)
                while any(client.position(place) < ends[place] for place in places):
                    for place, found in client.poll(timeout_ms=1000).items():
                        yield from (_message(record) for record in found if record.offset < ends[place])
            finally:
                client.close(autocommit=False)

    def record(self, topic: str, partition: int, offset: int) -> Message | None:
        place = self.place(topic, partition)
        with self._told(f"read topic {topic}"):
            client = Client(group_id=None, auto_offset_reset="earliest", max_poll_records=1, **self._common())
            try:
                client.assign([place])
                if not client.beginning_offsets([place])[place] <= offset < client.end_offsets([place])[place]:
                    return None
                client.seek(place, offset)
                found = client.poll(timeout_ms=1000 * REQUEST_S).get(place, [])
                return _message(found[0]) if found and found[0].offset == offset else None
            finally:
                client.close(autocommit=False)

    def consumer(self, topic: str, group: str) -> "KafkaConsumer":
        self.partitions(topic)  # a consumer of a topic that is not there yet would wait
        with self._lock:
            before = self._consumers.pop((topic, group), None)
        if before is not None:
            before.taken_over()
        consumer = KafkaConsumer(self, topic, group)
        with self._lock:
            self._consumers[topic, group] = consumer
        return consumer

    def lag(self, topic: str, group: str) -> int:
        return sum(self.lags(topic, group).values())

    def lags(self, topic: str, group: str) -> dict[int, int]:
        """By partition, the records that the group has not committed."""
        with self._lock:
            places = [TopicPartition(self._broker.prefix + topic, at) for at in range(self._partitions(topic))]
            with self._told(f"look up offsets of topic {topic}"):
                admin = self._admin()
                name = self.group(topic, group)
                done = _tried(lambda: admin.list_group_offsets({name: places}).get(name, {}))
                first = _tried(lambda: admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.EARLIEST)))
                ends = _tried(lambda: admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST)))
        lags = {}
        for place in places:
            committed = done[place].offset if place in done else -1
            lags[place.partition] = max(0, ends[place].offset - max(committed, first[place].offset))
        return lags

    def close(self) -> None:
        with self._lock:
            for client in (self._admin_client, self._producer_client):
                if client is not None:
                    client.close()
            self._admin_client = self._producer_client = None

    def client(self, topic: str, group: str, listener: ConsumerRebalanceListener) -> Client:
        """A subscribed kafka-python consumer."""
        client = Client(
            group_id=self.group(topic, group),
            group_instance_id=self._instance,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            partition_assignment_strategy=(CooperativeStickyAssignor,),
            session_timeout_ms=round(1000 * SESSION_S),
            fetch_max_bytes=QUEUE_BYTES,
            max_partition_fetch_bytes=4 * MAX_RECORD_BYTES,
            # All of a fetch at once: of two partitions paused while their records were half given out, kafka-python
            # (3.0.12, Fetcher.fetched_records) never gives the rest of one.
            max_poll_records=2**31,
            **self._common(),
        )
        name = self._broker.prefix + topic
        client.subscribe([name], listener=listener)
        # Before the group is joined: a member that learns of the partitions while it joins would join once more, and
        # kafka-python forgets a join that a short poll did not see the end of.
        client.partitions_for_topic(name)
        return client

    def group(self, topic: str, group: str) -> str:
        """The group's name on Kafka: one a topic, for a member of several topics may get any of them."""
        return f"{self._broker.prefix}{topic}.{group}"

    def place(self, topic: str, partition: int) -> TopicPartition:
        return TopicPartition(self._broker.prefix + topic, partition)

    def _common(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": list(self._broker.servers),
            "client_id": f"moodwire-{self._instance}",
            "request_timeout_ms": round(1000 * REQUEST_S),
            "bootstrap_timeout_ms": round(1000 * GIVE_UP_S),
            "reconnect_backoff_max_ms": 1000,
            **self._broker.security,
        }

    def _admin(self) -> KafkaAdminClient:
        if self._admin_client is None:
            self._admin_client = KafkaAdminClient(**self._common())
        return self._admin_client

    def _producer(self) -> KafkaProducer:
        with self._lock, self._told("connect"):
            if self._producer_client is None:
                self._producer_client = KafkaProducer(
                    acks="all",
                    enable_idempotence=True,
                    compression_type="lz4",
                    linger_ms=0,
                    batch_size=256 * 1024,
                    delivery_timeout_ms=round(1000 * GIVE_UP_S),
                    max_block_ms=round(1000 * GIVE_UP_S),
                    allow_auto_create_topics=False,
                    **self._common(),
                )
            return self._producer_client

    def _partitions(self, topic: str) -> int:
        """Makes the topic where it is not there."""
        if topic not in self._known:
            name = self._broker.prefix + topic
            spec = {
                "num_partitions": self._broker.partitions,
                "replication_factor": self._broker.replication,
                "configs": {"retention.ms": str(round(self._retention_s * 1000)), "max.message.bytes": "1100000"},
            }
            with self._told(f"make topic {topic}"):
                admin = self._admin()
                with suppress(TopicAlreadyExistsError):
                    _tried(lambda: admin.create_topics({name: spec}))
                admin.wait_for_topics([name])
                (found,) = admin.describe_topics([name])
                self._known[topic] = len(found["partitions"])
        return self._known[topic]

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise StreamError(f"Kafka at {', '.join(self._broker.servers)}: cannot {what}: {error!r}") from error


class KafkaConsumer(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python is not typed
    """Reads a topic for a group. A thread of its own fetches ahead, up to a bound, and keeps the membership alive
    however long a batch takes; what it does for the reading thread (commits) is asked of it by `_ask`.
    """

    def __init__(self, log: KafkaLog, topic: str, group: str) -> None:
        self._log = log
        self._topic = topic
        self._group = group
        self._changed = threading.Condition()
        self._queue: deque[Message] = deque()
        self._bytes = 0
        self._asks: deque[tuple[Callable[[Client], Any], Future[Any]]] = deque()
        self._handed: set[int] = set()  # partitions of which records were given out since they were assigned
        self._joined = False
        self._closing = False
        self._error: Exception | None = None
        self._last_lags: dict[int, int] = {}
        self._on_hold: frozenset[int] = frozenset()
        self._thread = threading.Thread(target=self._run, name=f"poll {topic}", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._joined or self._error is not None, GIVE_UP_S)
            if not self._joined:
                self._closing = True
                raise self._failed()

    def poll(self, max_records: int, timeout_s: float) -> list[Message]:
        found = self._take(max_records, timeout_s)
        if found or not self._ask(self._is_behind):
            return found
        return self._take(max_records, REQUEST_S)  # it is there, and on its way

    def commit(self, positions: Mapping[int, int]) -> None:
        give_up_at = time.monotonic() + GIVE_UP_S
        while ours := self._ours(positions):
            try:
                self._ask(partial(Client.commit, offsets=ours, timeout_ms=1000 * GIVE_UP_S))
                break
            except RebalanceInProgressError as error:  # the poll thread brings it to its end
                if time.monotonic() > give_up_at:
                    raise StreamError(
                        f"group {self._group} on topic {self._topic}: its members have not shared the partitions out "
                        f"for {GIVE_UP_S:.0f} s, so nothing can be committed; look at the brokers' log"
                    ) from error
                time.sleep(IDLE_S)
            except CommitFailedError as error:
                raise self._moved(positions) from error
            except FencedInstanceIdError as error:
                self._fail(error)
                raise self._failed() from error
            except KafkaError as error:
                raise StreamError(f"group {self._group} cannot commit on topic {self._topic}: {error!r}") from error
        if len(ours) < len(positions):
            raise self._moved(positions)

    def _ours(self, positions: Mapping[int, int]) -> dict[TopicPartition, OffsetAndMetadata]:
        """Those of partitions that were not taken from us since their records were given out."""
        with self._changed:
            return {
                self._log.place(self._topic, partition): OffsetAndMetadata(offset, "", -1)
                for partition, offset in positions.items()
                if partition in self._handed
            }

    def hold(self, partitions: Collection[int]) -> None:
        self._on_hold = frozenset(partitions)

    def lags(self) -> dict[int, int]:
        try:
            self._last_lags = self._log.lags(self._topic, self._group)
        except StreamError as error:  # a figure to look at is no reason to fall
            _LOG.warning("%s", error)
        return self._last_lags

    def queued(self) -> int:
        return len(self._queue)

    def taken_over(self) -> None:
        """By another consumer of this log; Kafka tells those of other processes when they commit."""
        self._fail(FencedInstanceIdError())

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(REQUEST_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- told by Kafka, in a thread of its client -------------------------------------------------------------------

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Another member has them from here on: what is in hand of them is done again there."""
        gone = {place.partition for place in revoked}
        with self._changed:
            self._handed -= gone
            self._queue = deque(message for message in self._queue if message.partition not in gone)
            self._bytes = sum(len(message.value) for message in self._queue)
            self._changed.notify_all()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        with self._changed:
            self._joined = True
            self._changed.notify_all()

    # --- the poll thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        client: Client | None = None
        try:
            client = self._log.client(self._topic, self._group, self)
            while not self._closing:
                self._answer(client)
                full = self._is_full()
                held = {place for place in client.assignment() if full or place.partition in self._on_hold}
                client.pause(*held)
                client.resume(*(client.paused() - held))
                try:
                    found = client.poll(timeout_ms=0 if full else 1000 * IDLE_S)
                except RetriableError as error:
                    _LOG.warning("topic %s: %r; trying again", self._topic, error)
                    time.sleep(IDLE_S)
                    continue
                with self._changed:
                    if not self._joined and client.assignment():
                        self._joined = True
                    for records in found.values():
                        for record in records:
                            message = _message(record)
                            self._queue.append(message)
                            self._bytes += len(message.value)
                    self._changed.notify_all()
                    if full and not self._asks:
                        self._changed.wait(IDLE_S)
        except Exception as error:  # told to whoever reads
            self._fail(error)
        finally:
            with self._changed:
                self._closing = True
                waiting = list(self._asks)
                self._asks.clear()
            for _, answer in waiting:
                answer.set_exception(self._error or KafkaError("the consumer is closed"))
            if client is not None:
                client.close(autocommit=False, timeout_ms=1000)

    def _answer(self, client: Client) -> None:
        while self._asks:
            do, answer = self._asks.popleft()
            try:
                answer.set_result(do(client))
            except Exception as error:
                answer.set_exception(error)

    def _ask(self, do: Callable[[Client], Any]) -> Any:
        """Have the poll thread do it, and wait for the answer. Raises KafkaError."""
        answer: Future[Any] = Future()
        with self._changed:
            if self._closing:
                raise self._failed()
            self._asks.append((do, answer))
            self._changed.notify_all()
        return answer.result()

    def _is_behind(self, client: Client) -> bool:
        """Whether there are records that were not fetched yet."""
        with self._changed:
            if self._queue:
                return True
        places = {place for place in client.assignment() if place.partition not in self._on_hold}
        try:
            ends = client.end_offsets(list(places), timeout_ms=3000) if places else {}
            return any((client.position(place, timeout_ms=3000) or 0) < ends[place] for place in places)
        except KafkaError:  # it does not answer: there is nothing to wait for
            return False

    def _is_full(self) -> bool:
        with self._changed:
            return len(self._queue) > QUEUE_RECORDS or self._bytes > QUEUE_BYTES

    # --- the reading thread -----------------------------------------------------------------------------------------

    def _take(self, max_records: int, timeout_s: float) -> list[Message]:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._error is not None, timeout_s)
            if self._error is not None:
                raise self._failed()
            found = [self._queue.popleft() for _ in range(min(max_records, len(self._queue)))]
            self._bytes -= sum(len(message.value) for message in found)
            self._handed.update(message.partition for message in found)
            self._changed.notify_all()
        return found

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._error = self._error or error
            self._closing = True
            self._changed.notify_all()

    def _moved(self, positions: Mapping[int, int]) -> Rebalanced:
        return Rebalanced(
            f"group {self._group} on topic {self._topic}: of partitions {sorted(positions)} some went to another "
            "member; what was not committed is done again there"
        )

    def _failed(self) -> StreamError:
        if isinstance(self._error, FencedInstanceIdError):
            return AssignmentLost(
                f"group {self._group} on topic {self._topic} was taken over by another consumer; "
                "what was not committed is done again there"
            )
        why = repr(self._error) if self._error else f"the group was not joined within {GIVE_UP_S:g} s"
        return StreamError(f"topic {self._topic} cannot be read for group {self._group}: {why}")


def _message(record: Any) -> Message:
    return Message(record.partition, record.offset, (record.key or b"").decode("utf-8", _ODD), record.value or b"")


def _tried(do: Callable[[], Any]) -> Any:
    """For a while again, where Kafka says that it may work yet (a coordinator that is being chosen)."""
    until = time.monotonic() + REQUEST_S
    while True:
        try:
            return do()
        except RetriableError:
            if time.monotonic() > until:
                raise
            time.sleep(IDLE_S)

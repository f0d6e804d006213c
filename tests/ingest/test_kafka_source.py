"""A user's own topics: fields by paths, times in any form, each record once over stops, crashes and retention."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from ingest import kafka_source, stage
from ingest.fetch import Fetcher
from ingest.kafka_source import item_of, moment
from ingest.stories import StoryIndex
from moodwire.configfile import load
from moodwire.errors import ConfigError
from moodwire.records import DeadLetter, decode
from moodwire.settings import KafkaTopic, Settings
from moodwire.stage import Context
from moodwire.store.articles import feed_states
from tests import services
from tests.helpers import T0, after, context
from tests.ingest.test_files import titles

FIELDS = {
    "title": "head.line",
    "body": "text",
    "address": "links.0",
    "id": "meta.id",
    "publisher": "meta.by",
    "published_at": "at",
    "tickers": "about",
}
WHEN = datetime(2024, 3, 4, 12, 0, 30, tzinfo=UTC)


def source(url: str = "kafka://h:9092/t", **more: Any) -> KafkaTopic:
    return KafkaTopic(name="ours", url=url, **{**FIELDS, **more})


def record(number: int, **more: Any) -> bytes:
    fields = {"head": {"line": f"Voltrix reports number {number}"}, "meta": {"id": str(number)}, "at": T0.isoformat()}
    return json.dumps({**fields, **more}).encode()


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("2024-03-04T12:00:30Z", ""),
        ("2024-03-04T14:00:30+02:00", ""),
        ("2024-03-04 12:00:30", ""),
        (1709553630, ""),
        ("1709553630", ""),
        (1709553630000, "ms"),
        ("1709553630000", "ms"),
        ("04/03/2024 12:00:30", "%d/%m/%Y %H:%M:%S"),
        ("04.03.2024 13:00:30 +0100", "%d.%m.%Y %H:%M:%S %z"),
    ],
)
def test_times_in_any_form(value: Any, form: str) -> None:
    assert moment(value, form) == WHEN


@pytest.mark.parametrize(("value", "form"), [("soon", ""), ("soon", "ms"), (1e300, "ms"), ([], "%Y"), (True, "%Y")])
def test_a_time_of_another_form_is_told(value: Any, form: str) -> None:
    with pytest.raises(ValueError, match="not a time"):
        moment(value, form)


def test_fields_stand_where_the_configuration_says() -> None:
    value = record(7, text="Body", links=["https://e.test/7"], meta={"id": "7", "by": "Wire"}, about="$ab, CD")
    item = item_of(source(), value, 5000)
    assert (item.title, item.body, item.url) == ("Voltrix reports number 7", "Body", "https://e.test/7")
    assert (item.guid, item.source, item.tickers, item.published_at) == ("7", "Wire", ("AB", "CD"), T0)
    undated = item_of(source(published_at=""), record(7), 1709553630000)
    assert (undated.source, undated.published_at, undated.date_note) == ("ours", WHEN, "the record's time in Kafka")


@pytest.mark.parametrize("value", [b"\xff", b"[1]", b"", b"[" * 100_000, record(1, at="soon")])
def test_a_record_that_is_none_is_refused_with_a_reason(value: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        item_of(source(), value, 0)


class Topic:
    """A topic of two partitions on the tests' broker, and an ingest that reads it."""

    def __init__(self, folder: Path) -> None:
        self.name = uuid.uuid4().hex
        server = services.kafka().server
        self.admin = KafkaAdminClient(bootstrap_servers=[server])
        self.producer = KafkaProducer(bootstrap_servers=[server])
        self.source = source(f"kafka://{server}/{self.name}")
        self.context: Context = context(folder, Settings(sources=(self.source,)), lambda: after(60), "ingest")

    def make(self) -> None:
        self.admin.create_topics({self.name: {"num_partitions": 2, "replication_factor": 1}})
        self.admin.wait_for_topics([self.name])

    def put(self, values: Sequence[bytes], partition: int = 0) -> None:
        for value in values:
            self.producer.send(self.name, value=value, partition=partition).get(30)

    def look(self) -> None:
        stage.take(self.context, Fetcher(self.context.settings.fetching), StoryIndex(self.context.store), self.source)

    def state(self) -> Mapping[str, Any]:
        return feed_states(self.context.store)["ours"]

    def letters(self) -> list[DeadLetter]:
        found = [decode(message.value) for message in self.context.log.records("dead_letters")]
        return [letter for letter in found if isinstance(letter, DeadLetter)]


@pytest.fixture
def topic(tmp_path: Path) -> Iterator[Topic]:
    topic = Topic(tmp_path)
    yield topic
    topic.producer.close()
    topic.admin.close()
    topic.context.log.close()
    topic.context.store.close()


def test_each_record_comes_once_over_stops(topic: Topic) -> None:
    topic.look()
    assert "there is no topic" in topic.state()["error"]
    topic.make()
    topic.put([record(1), b"no json", record(2)])
    topic.put([record(3)], partition=1)
    topic.look()
    assert sorted(titles(topic.context)) == ["1", "2", "3"]
    (letter,) = topic.letters()
    assert letter.topic == f"ours: {topic.name}/0/1"
    assert letter.reason.startswith("not usable: ")
    assert topic.state()["error"] == ""
    topic.put([record(4)], partition=1)
    topic.look()
    topic.look()
    assert sorted(titles(topic.context)) == ["1", "2", "3", "4"]
    assert len(topic.letters()) == 1, "what is bad is told once"


def test_a_crash_between_portions_reads_on_from_what_is_stored(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_source, "BATCH", 5)
    topic.make()
    topic.put([record(number) for number in range(20)])
    real, calls = StoryIndex.store, 0

    def store(self: StoryIndex, *args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(self, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(StoryIndex, "store", store)
        with pytest.raises(KeyboardInterrupt):
            topic.look()
    assert len(titles(topic.context)) == 10
    topic.look()
    assert sorted(map(int, titles(topic.context))) == list(range(20))


def test_what_retention_dropped_is_passed_over(topic: Topic) -> None:
    topic.make()
    topic.put([record(1)])
    topic.look()
    topic.put([record(number) for number in range(2, 6)])
    topic.admin.delete_records({TopicPartition(topic.name, 0): 3})
    topic.look()
    assert sorted(titles(topic.context)) == ["1", "4", "5"]


def test_the_address_names_servers_and_topic(tmp_path: Path) -> None:
    found = source("kafka://one:9092,two:9092/news.raw")
    assert (found.servers, found.topic) == (("one:9092", "two:9092"), "news.raw")
    config = tmp_path / "moodwire.toml"
    config.write_text('[[sources]]\nkind = "kafka"\nname = "ours"\nurl = "kafka://one:9092"\n')
    with pytest.raises(ConfigError, match=r"sources\[0\].url"):
        load(config, {})
    config.write_text(
        '[[sources]]\nkind = "kafka"\nname = "ours"\nurl = "kafka://one:9092/t"\n'
        '[sources.security]\nsecurity_protocol = "SSL"\n'
    )
    (read,) = load(config, {}).sources
    assert isinstance(read, KafkaTopic)
    assert read.security is not None
    assert read.security.security_protocol == "SSL"

"""News out of a user's own Kafka topics: what stands where in a record is said in the configuration.

How far a topic was read is stored with the articles, in one transaction; Kafka keeps no group for it.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from ingest.clean import Item, Refused
from ingest.parse import at_path, text_at
from ingest.readers import time_of
from moodwire.errors import BadInput
from moodwire.settings import KafkaTopic, Security

BATCH = 500  # records stored at once
TIMEOUT_MS = 10_000
WAIT_MS = 500  # without a record, after which the topic counts as read for now


class Record(NamedTuple):
    place: str  # partition/offset
    item: Item | Refused
    value: bytes


class Portion(NamedTuple):
    """Records to store, and the offsets by partition that are reached with them."""

    records: list[Record]
    reached: dict[int, int]


def portions(source: KafkaTopic, security: Security, reached: Mapping[int, int]) -> Iterator[Portion]:
    """What a topic holds from these offsets on. Raises BadInput where it cannot be read."""
    try:
        from kafka import KafkaConsumer, TopicPartition
        from kafka.errors import KafkaError
    except ImportError as error:
        raise BadInput(f"a topic needs an extra ({error}): pip install 'moodwire[kafka]'") from error
    client = None
    try:
        client = KafkaConsumer(
            bootstrap_servers=list(source.servers),
            client_id="moodwire-source",
            group_id=None,
            auto_offset_reset="earliest",
            max_poll_records=BATCH,
            request_timeout_ms=TIMEOUT_MS,
            bootstrap_timeout_ms=TIMEOUT_MS,
            allow_auto_create_topics=False,
            **msgspec.structs.asdict(security),
        )
        found = client.partitions_for_topic(source.topic)
        if not found:
            raise BadInput(f"{source.url}: there is no topic {source.topic}")
        places = [TopicPartition(source.topic, partition) for partition in sorted(found)]
        client.assign(places)
        first, ends = client.beginning_offsets(places), client.end_offsets(places)
        for place in places:
            at = reached.get(place.partition, first[place])
            # Dropped by retention, or a topic that was made anew: from what there is.
            client.seek(place, at if first[place] <= at <= ends[place] else first[place])
        while polled := client.poll(timeout_ms=WAIT_MS):
            records = [each for some in polled.values() for each in some]
            yield Portion(
                [_record(source, each.partition, each.offset, each.value or b"", each.timestamp) for each in records],
                {place.partition: some[-1].offset + 1 for place, some in polled.items()},
            )
    except KafkaError as error:
        raise BadInput(f"{source.url} cannot be read: {error!r}") from error
    finally:
        if client is not None:
            client.close(autocommit=False)


def _record(source: KafkaTopic, partition: int, offset: int, value: bytes, timestamp_ms: int) -> Record:
    try:
        item: Item | Refused = item_of(source, value, timestamp_ms)
    except (ValueError, RecursionError) as error:
        item = Refused(f"not usable: {error}")
    return Record(f"{partition}/{offset}", item, value)


def item_of(source: KafkaTopic, value: bytes, timestamp_ms: int) -> Item:
    """The item in a record, by the paths that the source names. Raises ValueError saying what cannot be used."""
    entry = json.loads(value)
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    said = at_path(entry, source.published_at) if source.published_at else None
    published_at, note = moment(said, source.time_format), ""
    if published_at is None and timestamp_ms > 0:
        published_at, note = datetime.fromtimestamp(timestamp_ms / 1000, UTC), "the record's time in Kafka"
    tickers = at_path(entry, source.tickers) if source.tickers else ()
    if isinstance(tickers, str):
        tickers = tickers.replace(",", " ").split()
    return Item(
        source=text_at(entry, source.publisher)[:64] or source.name,
        title=text_at(entry, source.title),
        body=text_at(entry, source.body),
        url=text_at(entry, source.address),
        guid=text_at(entry, source.id),
        language=text_at(entry, source.language),
        published_at=published_at,
        date_note=note,
        tickers=tuple(str(ticker).lstrip("$").upper() for ticker in tickers or ()),
    )


def moment(value: Any, time_format: str) -> datetime | None:
    """A time as the format says; None for none. time_format: as in `KafkaTopic`. Raises ValueError."""
    if value in (None, ""):
        return None
    if not time_format:
        return time_of(value)
    try:
        if time_format == "ms":
            return datetime.fromtimestamp(float(value) / 1000, UTC)
        found = datetime.strptime(str(value), time_format)  # noqa: DTZ007  its zone is seen to below
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise ValueError(f"not a time of the form {time_format}: {str(value)[:60]!r}") from error

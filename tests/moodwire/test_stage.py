"""The loop that the stages share: what it commits, and what becomes of a record that cannot be read."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from moodwire.errors import AssignmentLost
from moodwire.records import Article, DeadLetter, decode, encode
from moodwire.stage import DEAD_LETTERS, Context, Finished, Taken, consume
from moodwire.stream.log import Message
from tests.helpers import article, context


def put(c: Context, *values: bytes) -> None:
    c.log.append("articles", [("k", value, None) for value in values])


def ids(batch: Sequence[Taken]) -> list[str]:
    return [taken.record.id for taken in batch if isinstance(taken.record, Article)]


def test_a_bad_record_is_buried_with_its_place_and_the_others_go_on(tmp_path: Path) -> None:
    c = context(tmp_path)
    put(c, encode(article(1, "one", 0)), b"{cut in half", encode(article(2, "two", 0)))
    got: list[str] = []

    def handle(batch: Sequence[Taken]) -> None:
        got.extend(ids(batch))
        c.stop.set()

    consume(c, "articles", "g", handle)
    assert got == ["a1", "a2"]
    with c.log.consumer(DEAD_LETTERS, "t") as reader:
        (message,) = reader.poll(10, 1)
    letter = decode(message.value)
    assert isinstance(letter, DeadLetter)
    assert (letter.topic, letter.excerpt) == ("articles", "{cut in half")
    assert "not a moodwire record" in letter.reason
    assert c.log.lag("articles", "g") == 0


def test_nothing_is_committed_when_the_handling_fails(tmp_path: Path) -> None:
    c = context(tmp_path)
    put(c, encode(article(1, "one", 0)))

    def fail(batch: Sequence[Taken]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume(c, "articles", "g", fail)
    assert c.log.lag("articles", "g") == 1


def test_only_what_the_handler_finished_with_is_committed(tmp_path: Path) -> None:
    c = context(tmp_path)
    put(c, *(encode(article(number, "x", 0)) for number in range(5)))

    def handle(batch: Sequence[Taken]) -> Mapping[int, int]:
        c.stop.set()
        return {batch[1].message.partition: batch[1].message.offset + 1}

    consume(c, "articles", "g", handle)
    again = context(tmp_path)
    got: list[str] = []

    def rest(batch: Sequence[Taken]) -> None:
        got.extend(ids(batch))
        again.stop.set()

    consume(again, "articles", "g", rest)
    assert got == ["a2", "a3", "a4"]


def test_what_a_handler_has_in_hand_is_finished_with_when_nothing_more_comes(tmp_path: Path) -> None:
    c = context(tmp_path)
    put(c, *(encode(article(number, "x", 0)) for number in range(3)))
    ends: list[Mapping[int, int]] = []

    def handle(batch: Sequence[Taken]) -> Mapping[int, int]:
        ends.append({message.partition: message.offset + 1 for message, _ in batch})
        return {}

    def rest() -> Mapping[int, int]:
        c.stop.set()
        return ends[-1]

    consume(c, "articles", "g", handle, rest=rest)
    assert c.log.lag("articles", "g") == 0


def test_a_bad_record_at_the_end_is_passed_over_when_what_is_before_it_is_finished_with(tmp_path: Path) -> None:
    c = context(tmp_path)
    put(c, encode(article(1, "one", 0)), b"no record")
    ends: dict[int, int] = {}

    def handle(batch: Sequence[Taken]) -> Mapping[int, int]:
        ends.update({message.partition: message.offset + 1 for message, _ in batch})
        return {}

    def rest() -> Mapping[int, int]:
        c.stop.set()
        return ends

    consume(c, "articles", "g", handle, rest=rest)
    assert c.log.lag("articles", "g") == 0


def test_what_is_in_hand_at_the_stop_is_finished_with(tmp_path: Path) -> None:
    c = context(tmp_path)
    put(c, encode(article(1, "one", 0)))
    ends: dict[int, int] = {}

    def handle(batch: Sequence[Taken]) -> Mapping[int, int]:
        ends.update({message.partition: message.offset + 1 for message, _ in batch})
        c.stop.set()
        return {}

    consume(c, "articles", "g", handle, rest=lambda: ends)
    assert c.log.lag("articles", "g") == 0


def test_what_a_handler_keeps_back_is_not_passed_over_by_a_bad_record_behind_it() -> None:
    def message(partition: int, offset: int) -> Message:
        return Message(partition, offset, "k", b"")

    finished, one = Finished(), article(1, "one", 0)
    kept = [Taken(message(0, 5), one), Taken(message(1, 7), one)]
    assert finished.positions([message(0, 5), message(1, 7)], kept, {1: 8}) == {1: 8}
    assert finished.positions([message(0, 6), message(1, 8)], [], {}) == {1: 9}, "both are bad"
    more = [Taken(message(2, 0), one)]
    assert finished.positions([message(2, 0), message(2, 1)], more, {0: 6, 2: 1}) == {0: 7, 2: 2}, "with the bad ones"
    assert finished.positions([message(0, 7)], [], {}) == {0: 8}
    assert finished.positions([message(0, 8), message(0, 9)], [Taken(message(0, 8), one)], None) == {0: 10}


def test_a_consumer_that_was_replaced_hears_of_it(tmp_path: Path) -> None:
    c = context(tmp_path)
    put(c, encode(article(1, "one", 0)))

    def handle(batch: Sequence[Taken]) -> None:
        c.log.consumer("articles", "g").close()  # another one takes over while this one works

    with pytest.raises(AssignmentLost, match="taken over"):
        consume(c, "articles", "g", handle)
    assert c.log.lag("articles", "g") == 1

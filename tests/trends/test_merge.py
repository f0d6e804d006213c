"""However the partitions are interleaved, what is counted at a tick is the same, and the same as of one partition."""

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moodwire.records import Heartbeat, Scored, Tick, Window
from moodwire.stage import Finished, Taken
from moodwire.store.scores import store_scores
from moodwire.stream.log import Message, partition_of
from tests.helpers import after, context
from tests.trends.test_count import FRESH, at_ticks, made, records_of, told
from trends import merge as module
from trends import stage
from trends.merge import Merge

PARTITIONS = 3
sequences = st.lists(st.lists(st.integers(0, 40), max_size=8), min_size=PARTITIONS, max_size=PARTITIONS)


def interleaved(parts: list[list[object]], draw: st.DataObject) -> list[tuple[int, int, object]]:
    """(partition, offset, what) in a drawn order that keeps each partition's."""
    left = [list(enumerate(part)) for part in parts]
    found = []
    while any(left):
        partition = draw.draw(st.sampled_from([at for at, part in enumerate(left) if part]))
        found.append((partition, *left[partition].pop(0)))
    return found


@given(sequences, st.data())
def test_records_come_in_the_order_of_their_times_each_once(parts: list[list[int]], draw: st.DataObject) -> None:
    parts = [[*sorted(part), 100] for part in parts]  # a last heartbeat everywhere
    merge, found = Merge[int](PARTITIONS), []
    for partition, offset, seconds in interleaved(parts, draw):  # type: ignore[arg-type]
        merge.take(partition, offset, after(seconds), seconds)
        found += list(merge.ready())
    assert all(a.at <= b.at for a, b in pairwise(found))
    assert sorted((one.partition, one.offset, one.record) for one in found) == [
        (partition, offset, seconds) for partition, part in enumerate(parts) for offset, seconds in enumerate(part)
    ]
    for partition in range(PARTITIONS):
        offsets = [one.offset for one in found if one.partition == partition]
        assert offsets == sorted(offsets)


def test_nothing_comes_before_each_partition_has_told_its_time_and_one_that_runs_ahead_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 3)
    merge = Merge[str](2)
    for offset in range(3):
        assert merge.ahead() == set()
        merge.take(0, offset, after(10 * offset), f"r{offset}")
        assert list(merge.ready()) == []
    assert merge.ahead() == {0}
    merge.take(1, 0, after(10), "late")
    assert [one.record for one in merge.ready()] == ["r0", "r1", "late"]
    assert merge.ahead() == set()


def seen_by_a_detector(
    folder: Path, records: list[Scored], parts: int, draw: st.DataObject
) -> list[tuple[Tick, dict[tuple[str, object], Window]]]:
    """At each tick, for stories spread over so many partitions, which come in a drawn order and drawn batches."""
    c = context(folder)
    spread: list[list[object]] = [[] for _ in range(parts)]
    for record in records:
        at = partition_of(record.story_id, parts)
        offset = sum(isinstance(each, Scored) for each in spread[at])
        spread[at].append(msgspec.structs.replace(record, partition=at, offset=offset))
    stored = [record for part in spread for record in part if isinstance(record, Scored)]
    store_scores(c.store, stored, FRESH)
    for part in spread:
        part.append(Heartbeat(at=after(100_000), replayed=True))
    merge = Merge[Scored | Heartbeat](parts)
    finished = Finished()
    order = interleaved(spread, draw)
    done: dict[int, int] = {}
    with stage.Counting(c, merge) as counting:
        while order:
            size = draw.draw(st.integers(1, len(order)))
            batch, order = order[:size], order[size:]
            taken = [Taken(Message(partition, offset, "k", b""), record) for partition, offset, record in batch]  # type: ignore[arg-type]
            done |= finished.positions([message for message, _ in taken], taken, counting.handle(taken))
        done |= finished.positions((), (), counting.rest())
    assert done == {partition: len(part) for partition, part in enumerate(spread)}, "all is finished with in the end"
    found = at_ticks(told(c))
    c.store.close()
    c.log.close()
    return found


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records_of, st.data())
def test_what_a_detector_sees_at_a_tick_is_the_same_on_several_partitions(
    tmp_path_factory: pytest.TempPathFactory,
    plan: list[tuple[int, str, tuple[str, ...], int, int]],
    draw: st.DataObject,
) -> None:
    records = made(plan)
    one = seen_by_a_detector(tmp_path_factory.mktemp("one"), records, 1, draw)
    some = seen_by_a_detector(tmp_path_factory.mktemp("some"), records, PARTITIONS, draw)
    again = seen_by_a_detector(tmp_path_factory.mktemp("again"), records, PARTITIONS, draw)
    assert some == again, "positions and all"
    assert [(tick.at, state) for tick, state in some] == [(tick.at, state) for tick, state in one]

"""Windows against the definitions of the design, and what must not change them."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moodwire.errors import StoreError
from moodwire.records import Heartbeat, Scored, Stretch, Tick, Window, decode, encode, floor_time
from moodwire.stage import Context, Taken
from moodwire.store import queries
from moodwire.store.db import Store
from moodwire.store.scores import store_scores
from moodwire.store.windows import load_positions
from moodwire.stream.log import Message
from tests.helpers import after, context, scored
from trends import stage
from trends.count import Progress, step

FRESH = timedelta(hours=2)


def run(folder: Path, records: list[Scored], cuts: list[int]) -> tuple[list[Window], list[Window | Tick]]:
    """The stored windows, and all that was appended, for records worked through in batches of these sizes."""
    c = context(folder)
    store_scores(c.store, records, FRESH)
    c.log.append("scored", [("k", encode(record), 0) for record in records])
    position = 0
    for size in [*cuts, len(records)]:
        if position < len(records):
            taken = [
                Taken(Message(0, i, "k", b""), record)
                for i, record in list(enumerate(records))[position : position + size]
            ]
            work_through(c, taken)
            position += size
    frame = queries.windows(c.store)
    names = [name for name in Window.__struct_fields__ if name in frame.columns]
    stored = [Window(**dict(zip(names, row, strict=True))) for row in frame[names].itertuples(index=False, name=None)]
    return stored, told(c)


def some_taken(folder: Path, count: int) -> tuple[Context, list[Taken]]:
    """Records of one partition, ten seconds apart, whose scores are stored."""
    c = context(folder)
    records = [scored(n, n * 10.0) for n in range(count)]
    store_scores(c.store, records, FRESH)
    return c, [Taken(Message(0, n, "k", b""), record) for n, record in enumerate(records)]


def work_through(c: Context, taken: list[Taken]) -> None:
    """By a stage that has just begun."""
    with stage.Counting(c) as counting:
        counting.handle(taken)
        counting.rest()


def told(c: Context) -> list[Window | Tick]:
    """What was appended to `windows`, one by one."""
    found: list[Window | Tick] = []
    for message in c.log.records("windows"):
        record = decode(message.value)
        assert isinstance(record, Stretch)
        found += record.records
    return found


def by_definition(records: list[Scored]) -> dict[tuple[str, object], tuple[int, ...]]:
    """What the design says, counted in the plainest way: (articles, stories, negative, fresh negative, score sum)."""
    found: defaultdict[tuple[str, object], list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    articles, stories = set(), set()
    for record in records:
        for series in record.series:
            numbers = found[series.name, floor_time(record.published_at, 60)]
            if (series.name, record.id) not in articles:
                numbers[0] += 1
            if (series.name, record.story_id) not in stories:
                numbers[1] += 1
                numbers[2] += series.label == "negative"
                numbers[3] += series.label == "negative" and record.seen_at - record.published_at <= FRESH
                numbers[4] += series.score_e4
            articles.add((series.name, record.id))
            stories.add((series.name, record.story_id))
    return {key: tuple(numbers) for key, numbers in found.items()}


records_of = st.lists(
    st.tuples(
        st.integers(0, 400),  # published, seconds
        st.sampled_from(["negative", "neutral", "positive"]),
        st.sampled_from([("all",), ("all", "entity:X"), ("all", "topic:t", "entity:Y")]),
        st.integers(0, 6),  # story
        st.sampled_from([1, 600, 9000]),  # seen so much later
    ),
    min_size=1,
    max_size=25,
)


def made(plan: list[tuple[int, str, tuple[str, ...], int, int]]) -> list[Scored]:
    seen = 0.0
    records = []
    for number, (at, label, series, story, late) in enumerate(plan):
        seen = max(seen, at + late)
        records.append(scored(number, at, label, series, f"story{story}", seen=seen))
    return records


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records_of, st.lists(st.integers(1, 5), max_size=12))
def test_windows_are_those_of_the_definition_however_the_topic_is_cut(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[int, str, tuple[str, ...], int, int]], cuts: list[int]
) -> None:
    records = made(plan)
    stored, _ = run(tmp_path_factory.mktemp("w"), records, cuts)
    found = {(w.series, w.start): (w.articles, w.stories, w.negative, w.fresh_negative, w.score_sum_e4) for w in stored}
    assert found == by_definition(records)


def at_ticks(out: Sequence[Window | Tick]) -> list[tuple[Tick, dict[tuple[str, object], Window]]]:
    """What a detector sees at each tick."""
    state: dict[tuple[str, object], Window] = {}
    seen = []
    for record in out:
        if isinstance(record, Window):
            state[record.series, record.start] = record
        else:
            seen.append((record, dict(state)))
    return seen


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records_of, st.lists(st.integers(1, 5), max_size=12))
def test_what_a_detector_sees_at_a_tick_does_not_depend_on_the_cuts(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[int, str, tuple[str, ...], int, int]], cuts: list[int]
) -> None:
    records = made(plan)
    _, whole = run(tmp_path_factory.mktemp("w"), records, [])
    _, parts = run(tmp_path_factory.mktemp("w"), records, cuts)
    assert at_ticks(whole) == at_ticks(parts)


def test_a_repeated_stretch_changes_nothing(tmp_path: Path) -> None:
    c, taken = some_taken(tmp_path, 10)
    with stage.Counting(c) as counting:
        counting.handle(taken)
        counting.rest()
        before = queries.windows(c.store)
        counting.handle(taken[3:8])
    assert queries.windows(c.store).equals(before)
    assert before["stories"].sum() == 10


def test_a_stretch_that_comes_twice_in_one_batch_is_counted_once(tmp_path: Path) -> None:
    c, taken = some_taken(tmp_path, 10)
    work_through(c, [*taken, *taken[3:8]])
    assert queries.windows(c.store, "all")["stories"].sum() == 10


def test_a_batch_is_finished_with_when_what_came_of_it_is_stored(tmp_path: Path) -> None:
    c, taken = some_taken(tmp_path, 4)
    with stage.Counting(c) as counting:
        assert counting.handle(taken[:2]) == {}
        assert counting.handle(taken[2:]) == {0: 2}
        assert counting.rest() == {0: 4}
        assert counting.rest() == {}


def test_nothing_is_written_behind_windows_that_could_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    c, taken = some_taken(tmp_path, 4)
    store_windows = stage.store_windows

    def fails_once(store: Store, windows: Sequence[Window]) -> None:
        monkeypatch.setattr(stage, "store_windows", store_windows)
        raise StoreError("the disk is full")

    monkeypatch.setattr(stage, "store_windows", fails_once)
    with stage.Counting(c) as counting:
        counting.handle(taken[:2])
        with pytest.raises(StoreError, match="full"):
            counting.handle(taken[2:])
    assert load_positions(c.store, "trends")[1] == {}
    assert queries.windows(c.store).empty
    work_through(c, taken)
    assert queries.windows(c.store)["stories"].sum() == 4


def test_ticks_wait_for_the_slowest_partition() -> None:
    progress = Progress(2, 2.0, None, {})
    assert list(step([(0, Heartbeat(at=after(100)))], progress, {}, [])) == []
    (tick,) = step([(1, Heartbeat(at=after(7)))], progress, {}, [])
    assert isinstance(tick, Tick)
    assert tick.at == after(6)
    assert list(step([(1, Heartbeat(at=after(7.9)))], progress, {}, [])) == []

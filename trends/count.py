"""From counted articles to windows and ticks: pure, integers only."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from moodwire.records import WINDOW_S, Heartbeat, Scored, Stretch, Tick, Window, floor_time
from moodwire.store.windows import Counted, Key, Totals, window_of

MOST_TOGETHER = 50  # windows and ticks in a record, of some 300 bytes each


def add(totals: Totals, row: Counted) -> Totals:
    """The window's totals with one more article. Copies add articles; a story counts by its first record."""
    articles, negative, neutral, positive, fresh_negative, fresh_neutral, fresh_positive, score_sum = totals
    articles += row.first_article
    if row.first_story:
        score_sum += row.score_e4
        if row.label < 0:
            negative += 1
            fresh_negative += row.fresh
        elif row.label > 0:
            positive += 1
            fresh_positive += row.fresh
        else:
            neutral += 1
            fresh_neutral += row.fresh
    return Totals(articles, negative, neutral, positive, fresh_negative, fresh_neutral, fresh_positive, score_sum)


class Progress:
    """How far the `scored` topic has been worked through: positions in `articles`, watermark and last tick.

    The watermark is the least, over the partitions, of the latest time seen there. A tick falls on a multiple of
    `tick_s` and is made before the first record that was seen at or after it.
    """

    def __init__(self, partitions: int, tick_s: float, last_tick: datetime | None, consumed: Mapping[int, int]) -> None:
        self.consumed = dict(consumed)
        self.last_tick = last_tick
        self._tick_s = tick_s
        self._seen: dict[int, datetime] = {}
        self._partitions = partitions

    def is_new(self, record: Scored) -> bool:
        return record.offset > self.consumed.get(record.partition, -1)

    def due(self, partition: int, seen: datetime) -> datetime | None:
        """The tick to make before a record of `partition` seen at this time, if one is due."""
        self._seen[partition] = max(seen, self._seen.get(partition, seen))
        if len(self._seen) < self._partitions:
            return None
        tick = floor_time(min(self._seen.values()), self._tick_s)
        if self.last_tick is not None and tick <= self.last_tick:
            return None
        self.last_tick = tick
        return tick


def step(
    records: Iterable[tuple[int, Scored | Heartbeat]],
    progress: Progress,
    totals: dict[Key, Totals],
    counted: Iterable[Counted],
) -> Iterator[Window | Tick]:
    """Windows and ticks in the order in which a reader must see them.

    records: (partition, record) in the order of the topic; those consumed already are passed over.
    totals: of the touched windows before these records, brought forward here.
    counted: what the records count for, as the store holds it.
    Before each tick stand the windows as of that tick, so what a detector sees at a tick does not depend on how the
    topic was cut into batches.
    """
    parts: defaultdict[tuple[int, int], list[Counted]] = defaultdict(list)
    for row in counted:
        parts[row.partition, row.offset].append(row)
    changed: dict[Key, None] = {}
    for partition, record in records:
        tick = progress.due(partition, record.at if isinstance(record, Heartbeat) else record.seen_at)
        if tick is not None:
            yield from (window_of(key, totals[key]) for key in changed)
            changed.clear()
            positions = {str(part): offset for part, offset in progress.consumed.items()}
            yield Tick(at=tick, positions=positions, replayed=record.replayed)
        if isinstance(record, Scored) and progress.is_new(record):
            start = floor_time(record.published_at, WINDOW_S)
            for row in parts[record.partition, record.offset]:
                if row.first_article or row.first_story:  # a revision counts for nothing more
                    key = row.series, start
                    totals[key] = add(totals.get(key, Totals()), row)
                    changed[key] = None
            progress.consumed[record.partition] = record.offset
    yield from (window_of(key, totals[key]) for key in changed)


def stretches(out: Sequence[Window | Tick]) -> Iterator[Stretch]:
    """The same, for the log."""
    for at in range(0, len(out), MOST_TOGETHER):
        yield Stretch(records=tuple(out[at : at + MOST_TOGETHER]))

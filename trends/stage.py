"""The one-machine window engine: recomputes the touched windows from the store, so it has no state to lose."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Self

from moodwire.records import EPOCH, WINDOW_S, Heartbeat, Scored, Tick, Window, encode, floor_time
from moodwire.stage import Context, Taken, consume
from moodwire.store.windows import (
    load_positions,
    save_positions,
    store_windows,
    totals_and_counted,
)
from trends.count import Progress, step, stretches
from trends.merge import Merge

NAME = "trends"


def run(context: Context) -> None:
    """Until the stop: `scored` in, `windows` (with ticks) out."""
    merge = Merge[Scored | Heartbeat](context.log.partitions("scored"))
    with Counting(context, merge) as counting:
        consume(context, "scored", NAME, counting.handle, ahead=merge.ahead, rest=counting.rest)


class Counting:
    """Counts a batch while what came of the one before is written: that takes as long, most of it in the database.

    It goes on from where the store says the stage had come to.
    """

    def __init__(self, context: Context, merge: Merge[Scored | Heartbeat] | None = None) -> None:
        self._context = context
        self._merge = merge or Merge(context.log.partitions("scored"))
        last_tick, consumed = load_positions(context.store, NAME)
        self._progress = Progress(1, context.settings.windows.tick_s, last_tick, consumed)
        self._writer = ThreadPoolExecutor(1, "windows")
        self._writing: tuple[Future[None], Mapping[int, int]] | None = None  # and how far `scored` is done with by it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown()

    def handle(self, batch: Sequence[Taken]) -> Mapping[int, int]:
        """Gives how far `scored` is finished with, which is not this batch yet."""
        for (partition, offset, *_), record in batch:
            if isinstance(record, Scored | Heartbeat):
                at = record.at if isinstance(record, Heartbeat) else record.seen_at
                self._merge.take(partition, offset, at, record)
        ready = list(self._merge.ready())
        if not ready:
            return {}
        progress = self._progress
        records = [(0, placed.record) for placed in ready]  # one sequence, as of one partition
        new = [record for _, record in records if isinstance(record, Scored) and progress.is_new(record)]
        starts = [floor_time(record.published_at, WINDOW_S) for record in new]
        keys = {(series.name, start) for record, start in zip(new, starts, strict=True) for series in record.series}
        until = dict(progress.consumed)
        for record in new:  # a stretch that comes twice goes back in the middle
            until[record.partition] = max(record.offset, until.get(record.partition, 0))
        with self._context.store.read() as connection:
            totals, counted = totals_and_counted(connection, keys, progress.consumed, until)
        out = list(step(records, progress, totals, counted))
        done = {placed.partition: placed.offset + 1 for placed in ready}
        before = self.rest()  # where that went wrong nothing may be written behind it
        place = progress.last_tick or EPOCH, dict(progress.consumed)
        self._writing = self._writer.submit(write, self._context, out, *place), done
        return before

    def rest(self) -> Mapping[int, int]:
        """Wait for what is being written; gives how far `scored` is finished with by it."""
        if self._writing is None:
            return {}
        (written, done), self._writing = self._writing, None
        written.result()
        return done


def write(context: Context, out: Sequence[Window | Tick], last_tick: datetime, consumed: Mapping[int, int]) -> None:
    """Keep windows and hand them on, then the positions they were made up to."""
    store_windows(context.store, [record for record in out if isinstance(record, Window)])
    # One partition: windows and ticks keep one order.
    context.log.append("windows", [("", encode(record), 0) for record in stretches(out)])
    # After the append: a crash before this makes everything again, from the same positions.
    with context.store.write() as connection:
        save_positions(connection, NAME, last_tick, consumed)

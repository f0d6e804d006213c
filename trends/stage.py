"""The one-machine window engine: recomputes the touched windows from the store, so it has no state to lose."""

from collections.abc import Callable, Mapping, Sequence

from moodwire.records import EPOCH, WINDOW_S, Heartbeat, Scored, Window, encode, floor_time
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
    consume(context, "scored", NAME, handler(context, merge), ahead=merge.ahead)


def handler(
    context: Context, merge: Merge[Scored | Heartbeat] | None = None
) -> Callable[[Sequence[Taken]], Mapping[int, int]]:
    """What is done with a batch, from where the store says the stage had come to; gives what is finished with."""
    merge = merge or Merge(context.log.partitions("scored"))
    last_tick, consumed = load_positions(context.store, NAME)
    progress = Progress(1, context.settings.windows.tick_s, last_tick, consumed)

    def handle(batch: Sequence[Taken]) -> Mapping[int, int]:
        for (partition, offset, *_), record in batch:
            if isinstance(record, Scored | Heartbeat):
                merge.take(partition, offset, record.at if isinstance(record, Heartbeat) else record.seen_at, record)
        ready = list(merge.ready())
        if not ready:
            return {}
        records = [(0, placed.record) for placed in ready]  # one sequence, as of one partition
        new = [record for _, record in records if isinstance(record, Scored) and progress.is_new(record)]
        starts = [floor_time(record.published_at, WINDOW_S) for record in new]
        keys = {(series.name, start) for record, start in zip(new, starts, strict=True) for series in record.series}
        until = {**progress.consumed, **{record.partition: record.offset for record in new}}
        with context.store.read() as connection:
            totals, counted = totals_and_counted(connection, keys, progress.consumed, until)
        out = list(step(records, progress, totals, counted))
        newest = {(window.series, window.start): window for window in out if isinstance(window, Window)}
        store_windows(context.store, list(newest.values()))
        # One partition: windows and ticks keep one order.
        context.log.append("windows", [("", encode(record), 0) for record in stretches(out)])
        # After the append: a crash before this makes everything again, from the same positions.
        with context.store.write() as connection:
            save_positions(connection, NAME, progress.last_tick or EPOCH, progress.consumed)
        return {placed.partition: placed.offset + 1 for placed in ready}

    return handle

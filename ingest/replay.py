"""Replaying files through the flow, by a clock of their own."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple

from ingest.clean import Refused, draft
from ingest.readers import Line, read
from ingest.stage import bury, send_heartbeat
from ingest.stories import StoryIndex
from moodwire.records import EPOCH
from moodwire.stage import Context
from moodwire.store.articles import Draft, drain, is_empty
from moodwire.store.db import fact, set_fact

DELAY = timedelta(seconds=1)  # a replayed article counts as seen this long after its publication
BATCH = 500
AFTER = timedelta(days=1)  # the clock runs on this long after the last article, so that incidents can end


class Clocked(NamedTuple):
    """A line of a file as a draft with its times, or why it cannot be used."""

    line: Line
    made: Draft | Refused


def replay(
    context: Context,
    files: Sequence[Path],
    speed: float | None,
    progress: Callable[[int], None],
    limit: int | None = None,
) -> None:
    """Bring the files into the flow, one after the other; returns when all is in the log.

    speed: seconds of the data per second; None for as fast as it goes. limit: lines of each file.
    Into an empty store the articles come with the data's own times (seen `DELAY` after publication, or after the
    article before, whichever is later); into another, with the present as the time at which they were seen.
    `progress` is told the lines done. What came in before a stop is passed over after it.
    Raises BadInput where a file cannot be read.
    """
    with context.store.write() as connection:
        scripted = fact(connection, "replay:scripted") or ("yes" if is_empty(connection) else "no")
        set_fact(connection, "replay:scripted", scripted)
    clock = _Clock(context, speed, scripted == "yes")
    stories = StoryIndex(context.store)
    before = 0
    for path in files:
        _file(context, stories, path, clock, limit, lambda lines, before=before: progress(before + lines))  # type: ignore[misc]
        before += position(context, path)
        if context.stop.is_set():
            return
    while drain(context.store, context.log):
        context.pulse.beat()
        if context.stop.is_set():
            return
    send_heartbeat(context, clock.end(), clock.scripted)
    with context.store.write() as connection:
        for path in files:
            set_fact(connection, _fact(path), "0")
        set_fact(connection, "replay:scripted", "")
    context.pulse.beat(now=True)


def position(context: Context, path: Path) -> int:
    """The line up to which a file was brought in."""
    with context.store.read() as connection:
        return int(fact(connection, _fact(path), "0"))


class _Clock:
    """The time at which an article counts as seen, and the pace of the replay."""

    def __init__(self, context: Context, speed: float | None, scripted: bool) -> None:
        self.scripted = scripted
        self.speed = speed
        self._context = context
        self._last: datetime | None = None
        self._began: tuple[datetime, float] | None = None

    def seen(self, published_at: datetime | None) -> datetime:
        if not self.scripted:
            return self._context.clock()
        seen = published_at + DELAY if published_at else self._last
        # Never before the article before: the flow's clock does not run backwards.
        self._last = max(filter(None, (seen, self._last)), default=EPOCH)
        return self._last

    def wait(self, published_at: datetime) -> None:
        """Until it is time for an article of this date."""
        if self.speed is None:
            return
        if self._began is None:
            self._began = (published_at, time.monotonic())
        due = self._began[1] + (published_at - self._began[0]).total_seconds() / self.speed
        while (left := due - time.monotonic()) > 0 and not self._context.stop.is_set():
            drain(self._context.store, self._context.log)
            self._context.pulse.beat()
            self._context.stop.wait(min(left, 0.5))

    def reached(self) -> datetime:
        """A time that all articles to come are seen at or after."""
        return self._last if self.scripted and self._last else self._context.clock()

    def end(self) -> datetime:
        now = self._context.clock()
        # Never ahead of the present: live news may follow.
        return min(self._last + AFTER, now) if self.scripted and self._last else now


def _file(
    context: Context,
    stories: StoryIndex,
    path: Path,
    clock: _Clock,
    limit: int | None,
    progress: Callable[[int], None],
) -> None:
    done = position(context, path)
    lines = read(path) if limit is None else takewhile(lambda line: line.number <= limit, read(path))
    size = BATCH if clock.speed is None else 1
    for batch in batched(_clocked(lines, clock), size):
        new = [clocked for clocked in batch if clocked.line.number > done]
        if not new:
            continue
        drafts = [clocked.made for clocked in new if isinstance(clocked.made, Draft)]
        if drafts:
            clock.wait(drafts[0].published_at)
        if context.stop.is_set():
            return
        for line, made in new:
            if isinstance(made, Refused):
                bury(context, f"{path.name}:{line.number}", made.reason, line.excerpt.encode())
        stored = stories.store(drafts, facts={_fact(path): str(new[-1].line.number)})
        drain(context.store, context.log)
        if context.log.partitions("articles") > 1:  # one that gets no article would hold up the others' counting
            send_heartbeat(context, clock.reached(), clock.scripted)
        context.pulse.processed(stored.new + stored.revised)
        context.pulse.beat()
        progress(new[-1].line.number)


def _clocked(lines: Iterable[Line], clock: _Clock) -> Iterator[Clocked]:
    """Lines passed over after a restart run through here too, so that the clock stands where it stood."""
    for line in lines:
        if line.item is None:
            yield Clocked(line, Refused(line.fault))
        else:
            yield Clocked(line, draft(line.item, clock.seen(line.item.published_at), clock.scripted))


def batched(items: Iterable[Clocked], size: int) -> Iterator[list[Clocked]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _fact(path: Path) -> str:
    return f"replay:{path.resolve()}"

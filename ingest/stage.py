"""Live ingest: feeds on a schedule, articles into the store, from there into the log, and heartbeats."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ingest import files, kafka_source, parse
from ingest.clean import Item, Refused, by_host_s_clock, detector, draft, item_id, look_again, mark_of, plain, unread
from ingest.fetch import Failed, Fetched, Fetcher
from ingest.health import USUAL, silence
from ingest.manners import Host
from ingest.parse import foreign
from ingest.readers import Line
from ingest.schedule import after_failure, after_success, due, pace
from ingest.stories import StoryIndex
from moodwire.errors import BadInput, MoodwireError
from moodwire.records import DeadLetter, Heartbeat, encode
from moodwire.settings import Files, KafkaTopic, Source, host_of
from moodwire.stage import DEAD_LETTERS, Context
from moodwire.store.articles import Draft, drain, feed_states, marks, save_feed
from moodwire.store.db import drop_facts, facts_like
from moodwire.store.retention import prune
from moodwire.store.sources import Fetch, days_of, hosts_in_trouble, save_host, set_silences

NAME = "ingest"
WORKERS = 8
PAUSE_S = 0.25
PRUNE_EVERY = timedelta(hours=1)
PRUNED_AT_ONCE, PRUNE_AGAIN = 20_000, timedelta(seconds=5)  # where much is old, news and other stages have their turns
LOOK_EVERY = timedelta(minutes=1)  # at which sources are silent


class Portion(NamedTuple):
    """What is stored at once."""

    drafts: list[Draft]
    reached: dict[str, str]  # the facts that say how far the source was read


def run(context: Context, pool: Executor | None = None) -> None:
    """Until the stop: fetch what is due, store it, append it, send heartbeats. pool: where sources are fetched."""
    sources = context.settings.sources
    detector()
    fetcher = fetcher_of(context)
    stories = StoryIndex(context.store)
    running: dict[str, Future[None]] = {}  # by host: each is asked by one worker at a time
    tick = timedelta(seconds=context.settings.windows.tick_s)
    next_beat = next_prune = next_look = context.clock()
    pool = pool or ThreadPoolExecutor(WORKERS, thread_name_prefix="fetch")
    try:
        while not context.stop.is_set():
            now = context.clock()
            running = _collected(context, running)
            for source in due(sources, feed_states(context.store), now):
                host = host_of(source.url) or source.url
                if host not in running and len(running) < WORKERS:
                    running[host] = pool.submit(take, context, fetcher, stories, source)
            while not context.stop.is_set() and drain(context.store, context.log):
                context.pulse.beat()  # there may be much, after an outage of the log
            if now >= next_beat:
                send_heartbeat(context, now, replayed=False)
                next_beat = now + tick
            if now >= next_look:
                look_for_silence(context, now)
                next_look = now + LOOK_EVERY
            if now >= next_prune:
                gone = prune(context.store, context.settings.retention, now, PRUNED_AT_ONCE)
                next_prune = now + (PRUNE_AGAIN if max(gone.values()) >= PRUNED_AT_ONCE else PRUNE_EVERY)
            context.pulse.beat()
            context.stop.wait(PAUSE_S)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        fetcher.close()


def fetcher_of(context: Context) -> Fetcher:
    """A fetcher that knows which hosts are to be left alone, whatever was restarted, and keeps it."""
    hosts = {
        host["origin"]: Host(host["failures"], host["free_at"].timestamp(), host["told_to_wait"])
        for host in hosts_in_trouble(context.store)
    }

    def keep(origin: str, host: Host) -> None:
        free_at = datetime.fromtimestamp(host.free_at_s, UTC)
        row = {"origin": origin, "failures": host.failures, "free_at": free_at, "told_to_wait": host.told_to_wait}
        save_host(context.store, row)

    trusted = [host_of(source.url) for source in context.settings.sources]
    return Fetcher(context.settings.fetching, trusted, context.clock, context.stop, hosts, keep)


def look_for_silence(context: Context, now: datetime) -> None:
    """Say of each source whether it is silent."""
    states = feed_states(context.store)
    days = days_of(context.store, now - USUAL)
    reasons = dict.fromkeys(states, "")  # what was taken out of the configuration is silent no more
    for source in context.settings.sources:
        if state := states.get(source.name):
            reasons[source.name] = silence(source.interval_s, state, days.get(source.name, []), now)
    set_silences(context.store, reasons, now)


def send_heartbeat(context: Context, at: datetime, replayed: bool) -> None:
    beat = encode(Heartbeat(at=at, replayed=replayed))
    partitions = context.log.partitions("articles")
    context.log.append("articles", [("", beat, partition) for partition in range(partitions)])


def take(context: Context, fetcher: Fetcher, stories: StoryIndex, source: Source) -> None:
    """Fetch one source and store what is new. Nothing that a source does stops the stage."""
    try:
        _take(context, fetcher, stories, source)
    except MoodwireError:
        raise
    except Exception as error:
        if context.stop.is_set():
            return
        reason = f"{type(error).__name__}: {error}"
        bury(context, source.name, reason, b"")
        _failed(context, source, feed_states(context.store).get(source.name, {}), reason)


def _take(context: Context, fetcher: Fetcher, stories: StoryIndex, source: Source) -> None:
    state = feed_states(context.store).get(source.name, {})
    if isinstance(source, Files):
        _take_portions(context, stories, source, state, _of_files(context, source))
        return
    if isinstance(source, KafkaTopic):
        _take_portions(context, stories, source, state, _of_topic(context, source))
        return
    same = state.get("url") == source.url  # another address in the configuration: nothing known is of use
    known = state if same else {}
    fetched = fetcher.get(known.get("moved_to") or source.url, known.get("etag", ""), known.get("last_modified", ""))
    if isinstance(fetched, Failed):
        if not context.stop.is_set():  # a stop in between says nothing of the source
            _failed(context, source, known, fetched.reason, fetched.wait_s)
        return
    if fetched.not_modified:
        _had(context, source, known, fetched, 0)
        return
    found = parse.items(source, fetched.data, fetched.content_type, context.clock())
    if found.fault:
        bury(context, source.name, found.fault, fetched.data)
        _failed(context, source, known, found.fault)
        return
    new, known = 0, {**known, "listed": len(found.items)}
    for drafts in _drafts(context, fetcher, source, [by_host_s_clock(item, fetched.ahead_s) for item in found.items]):
        # Until the last portion is stored the feed counts as not had: a stop or a crash fetches it whole again.
        under_way = _succeeded(context, source, known, fetched, new)
        under_way |= {"etag": "", "last_modified": "", "next_at": context.clock()}
        # Seen when it is stored, not when its fetch began: a heartbeat may have gone out in between.
        stored = stories.store([made._replace(seen_at=context.clock()) for made in drafts], under_way)
        new += stored.new + stored.revised
        context.pulse.processed(stored.new + stored.revised)
    if not context.stop.is_set():
        _had(context, source, known, fetched, new)


def _take_portions(
    context: Context, stories: StoryIndex, source: Source, state: dict[str, Any], portions: Iterator[Portion]
) -> None:
    """Store what was added to files or a topic, each portion together with the places that it reaches."""
    began, new = time.monotonic(), 0
    had = Fetched(b"", "", "", "")
    try:
        for drafts, reached in portions:
            stored = stories.store(drafts, _succeeded(context, source, state, had, new), reached)
            new += stored.new + stored.revised
            context.pulse.processed(stored.new + stored.revised)
            if context.stop.is_set():
                return
    except BadInput as error:
        _failed(context, source, state, str(error))
        return
    _had(context, source, state, had._replace(took_s=time.monotonic() - began), new)


def _of_files(context: Context, source: Files) -> Iterator[Portion]:
    prefix = f"files:{source.name}:"
    paths = files.files_at(source.path)
    with context.store.read() as connection:
        places = facts_like(connection, prefix)
    for path in paths:
        place = msgspec.json.decode(places.get(f"{prefix}{path}", "{}"), type=files.Place)
        for portion in files.portions(path, place, context.clock()):
            reached = {f"{prefix}{path}": msgspec.json.encode(portion.place).decode()}
            yield Portion(_of_lines(context, source, path, portion.lines), reached)
    if gone := set(places) - {f"{prefix}{path}" for path in paths}:
        with context.store.write() as connection:
            drop_facts(connection, gone)


def _of_topic(context: Context, source: KafkaTopic) -> Iterator[Portion]:
    prefix = f"kafka:{source.name}:"
    with context.store.read() as connection:
        facts = facts_like(connection, prefix)
    reached = {int(name.removeprefix(prefix)): int(offset) for name, offset in facts.items()}
    for portion in kafka_source.portions(source, source.security or context.settings.stream.security, reached):
        drafts = []
        for place, item, value in portion.records:
            made = item if isinstance(item, Refused) else draft(item, context.clock())
            if isinstance(made, Refused):
                bury(context, f"{source.name}: {source.topic}/{place}", made.reason, value)
            else:
                drafts.append(made._replace(loose=not made.url))
        yield Portion(drafts, {f"{prefix}{partition}": str(offset) for partition, offset in portion.reached.items()})


def _of_lines(context: Context, source: Files, path: Path, lines: list[Line]) -> list[Draft]:
    drafts = []
    for line in lines:
        item = line.item
        if item and item.source == path.name.removesuffix(".gz"):  # it names no source itself
            item = item._replace(source=source.name)
        made = draft(item, context.clock()) if item else Refused(line.fault)
        if isinstance(made, Refused):
            bury(context, f"{source.name}: {path.name}:{line.number}", made.reason, line.excerpt.encode())
        else:
            drafts.append(made)
    return drafts


def _drafts(context: Context, fetcher: Fetcher, source: Source, items: list[Item]) -> Iterator[list[Draft]]:
    """What is to be stored, in portions: an article whose page is fetched does not wait for the others' pages."""
    whole = [item for item in items if not (source.articles and item.url)]
    if whole:
        yield [made for item in whole if (made := _draft(context, item))]
    paged = [item for item in items if source.articles and item.url]
    known = marks(context.store, {item_id(item) for item in paged})
    for item in paged:
        if not look_again(mark_of(item), known.get(item_id(item), {}), context.clock()):
            continue
        made = _draft(context, _with_page(context, fetcher, item))
        if context.stop.is_set():  # its page may not have been had to its end: the item comes again
            return
        if made:
            yield [made]


def _draft(context: Context, item: Item) -> Draft | None:
    made = draft(item, context.clock())
    if isinstance(made, Refused):
        bury(context, item.source, made.reason, repr(item._asdict()).encode())
        return None
    return made._replace(loose=not made.url)


def _with_page(context: Context, fetcher: Fetcher, item: Item) -> Item:
    """The item with its page's text, where that is longer, and what else the source did not say."""
    fetched = fetcher.get(item.url)
    if isinstance(fetched, Failed):
        if not context.stop.is_set():
            bury(context, item.source, f"page {item.url}: {fetched.reason}; the feed's text is used", b"")
        return item._replace(mark=mark_of(item) if fetched.lasting else unread(mark_of(item)))
    page = parse.page(fetched.data, fetched.content_type)
    item = item._replace(mark=mark_of(item))
    if page.fault or foreign(item.title, page):
        fault = page.fault or "its text has no word of the headline: a wall before it?"
        bury(context, item.source, f"page {item.url}: {fault}; the feed's text is used", b"")
        page = page._replace(text="", title="")
    if item.published_at is None and page.published_at is not None:
        item = item._replace(published_at=page.published_at, date_note="the page's date; the source gives none")
    return item._replace(
        body=page.text if len(page.text) > len(plain(item.body)) else item.body,
        title=item.title or page.title,
        language=item.language or page.language,
    )


def _had(context: Context, source: Source, known: dict[str, Any], fetched: Fetched, new: int) -> None:
    fetch = Fetch(source.name, context.clock(), True, fetched.took_s)
    save_feed(context.store, _succeeded(context, source, known, fetched, new), fetch)


def _succeeded(context: Context, source: Source, known: dict[str, Any], fetched: Fetched, new: int) -> dict[str, Any]:
    now, listed = context.clock(), int(known.get("listed", 0))
    learnt: float | None = known.get("pace")
    if last := known.get("success_at"):  # what a feed lists when it is had first came over a time not known
        learnt = pace(learnt, new, (now - last).total_seconds(), source.interval_s)
    return {
        "source": source.name,
        "url": source.url,
        "moved_to": fetched.moved_to or known.get("moved_to", ""),
        "etag": fetched.etag or (known.get("etag", "") if fetched.not_modified else ""),
        "last_modified": fetched.last_modified or (known.get("last_modified", "") if fetched.not_modified else ""),
        "next_at": after_success(source.interval_s, learnt, listed, now, random.random()),
        "pace": learnt,
        "listed": listed,
        "success_at": now,
        "error_at": known.get("error_at"),
        "error": "",
        "failures": 0,
    }


def _failed(context: Context, source: Source, known: dict[str, Any], reason: str, asked_s: float | None = None) -> None:
    now = context.clock()
    failures = int(known.get("failures", 0)) + 1
    feed = {
        "source": source.name,
        "url": source.url,
        # An address that fails is forgotten: the configured one is tried again.
        "moved_to": "",
        "etag": known.get("etag", ""),
        "last_modified": known.get("last_modified", ""),
        "next_at": after_failure(source.interval_s, failures, now, asked_s),
        "pace": known.get("pace"),
        "listed": int(known.get("listed", 0)),
        "success_at": known.get("success_at"),
        "error_at": now,
        "error": reason,
        "failures": failures,
    }
    save_feed(context.store, feed, Fetch(source.name, now, False))


def bury(context: Context, source: str, reason: str, data: bytes) -> None:
    """Set aside what a source gave and cannot be used."""
    letter = DeadLetter(
        stage=NAME,
        topic=source,
        partition=0,
        offset=0,
        reason=reason[:500],
        at=context.clock(),
        excerpt=data[:2048].decode("utf-8", "backslashreplace"),
    )
    context.log.append(DEAD_LETTERS, [(source, encode(letter), None)])
    context.pulse.dead_letter()


def _collected(context: Context, running: dict[str, Future[None]]) -> dict[str, Future[None]]:
    for future in running.values():
        if future.done() and (error := future.exception()) is not None:
            raise error
    return {name: future for name, future in running.items() if not future.done()}

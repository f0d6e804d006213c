"""Live ingest: feeds on a schedule, articles into the store, from there into the log, and heartbeats."""

import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from ingest import parse
from ingest.clean import Item, Refused, draft, item_id, plain
from ingest.fetch import Failed, Fetched, Fetcher
from ingest.schedule import after_failure, after_success, due
from ingest.stories import StoryIndex
from moodwire.errors import MoodwireError
from moodwire.records import DeadLetter, Heartbeat, encode
from moodwire.settings import Source, host_of
from moodwire.stage import DEAD_LETTERS, Context
from moodwire.store.articles import Draft, drain, feed_states, known_ids, save_feed
from moodwire.store.retention import prune

NAME = "ingest"
WORKERS = 8
PAUSE_S = 0.25
PRUNE_EVERY = timedelta(hours=1)


def run(context: Context) -> None:
    """Until the stop: fetch what is due, store it, append it, send heartbeats."""
    sources = context.settings.sources
    fetcher = Fetcher(context.settings.fetching, [host_of(source.url) for source in sources])
    stories = StoryIndex(context.store)
    running: dict[str, Future[None]] = {}  # by host: each is asked by one worker at a time
    tick = timedelta(seconds=context.settings.windows.tick_s)
    next_beat = next_prune = context.clock()
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="fetch")
    try:
        while not context.stop.is_set():
            now = context.clock()
            running = _collected(context, running)
            for source in due(sources, feed_states(context.store), now):
                host = host_of(source.url)
                if host not in running and len(running) < WORKERS:
                    running[host] = pool.submit(take, context, fetcher, stories, source)
            while drain(context.store, context.log):
                pass
            if now >= next_beat:
                send_heartbeat(context, now, replayed=False)
                next_beat = now + tick
            if now >= next_prune:
                prune(context.store, context.settings.retention, now)
                next_prune = now + PRUNE_EVERY
            context.pulse.beat()
            context.stop.wait(PAUSE_S)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        fetcher.close()


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
    same = state.get("url") == source.url  # another address in the configuration: nothing known is of use
    known = state if same else {}
    fetched = fetcher.get(known.get("moved_to") or source.url, known.get("etag", ""), known.get("last_modified", ""))
    if isinstance(fetched, Failed):
        if not context.stop.is_set():  # a stop in between says nothing of the source
            _failed(context, source, known, fetched.reason, fetched.wait_s)
        return
    if fetched.not_modified:
        save_feed(context.store, _succeeded(context, source, known, fetched, new=False))
        return
    found = parse.items(source, fetched.data, fetched.content_type, context.clock())
    if found.fault:
        bury(context, source.name, found.fault, fetched.data)
        _failed(context, source, known, found.fault)
        return
    new = False
    for drafts in _drafts(context, fetcher, source, found.items):
        # Until the last portion is stored the feed counts as not had: a stop or a crash fetches it whole again.
        under_way = _succeeded(context, source, known, fetched, new)
        under_way |= {"etag": "", "last_modified": "", "next_at": context.clock()}
        # Seen when it is stored, not when its fetch began: a heartbeat may have gone out in between.
        stored = stories.store([made._replace(seen_at=context.clock()) for made in drafts], under_way)
        new |= stored.new + stored.revised > 0
        context.pulse.processed(stored.new + stored.revised)
    if not context.stop.is_set():
        save_feed(context.store, _succeeded(context, source, known, fetched, new))


def _drafts(context: Context, fetcher: Fetcher, source: Source, items: list[Item]) -> Iterator[list[Draft]]:
    """What is to be stored, in portions: an article whose page is fetched does not wait for the others' pages."""
    if not source.articles:
        yield [made for item in items if (made := _draft(context, item))]
        return
    known = known_ids(context.store, {item_id(item) for item in items})
    for item in items:
        if item_id(item) in known:
            continue
        whole = _with_page(context, fetcher, item) if item.url else item
        if context.stop.is_set():  # its page may not have been had to its end: the item comes again
            return
        made = _draft(context, whole)
        if made:
            yield [made]


def _draft(context: Context, item: Item) -> Draft | None:
    made = draft(item, context.clock())
    if isinstance(made, Refused):
        bury(context, item.source, made.reason, repr(item._asdict()).encode())
        return None
    return made


def _with_page(context: Context, fetcher: Fetcher, item: Item) -> Item:
    """The item with its page's text, where that is longer, and what else the source did not say."""
    fetched = fetcher.get(item.url)
    if isinstance(fetched, Failed):
        if context.stop.is_set():
            return item
        bury(context, item.source, f"page {item.url}: {fetched.reason}; the feed's text is used", b"")
        return item
    page = parse.page(fetched.data)
    return item._replace(
        body=page.text if len(page.text) > len(plain(item.body)) else item.body,
        title=item.title or page.title,
        published_at=item.published_at or page.published_at,
        language=item.language or page.language,
    )


def _succeeded(context: Context, source: Source, known: dict[str, Any], fetched: Fetched, new: bool) -> dict[str, Any]:
    now = context.clock()
    unchanged = 0 if new else int(known.get("unchanged", 0)) + 1
    return {
        "source": source.name,
        "url": source.url,
        "moved_to": fetched.moved_to or known.get("moved_to", ""),
        "etag": fetched.etag or (known.get("etag", "") if fetched.not_modified else ""),
        "last_modified": fetched.last_modified or (known.get("last_modified", "") if fetched.not_modified else ""),
        "next_at": after_success(source.interval_s, unchanged, now, random.random()),
        "unchanged": unchanged,
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
        "unchanged": int(known.get("unchanged", 0)),
        "success_at": known.get("success_at"),
        "error_at": now,
        "error": reason,
        "failures": failures,
    }
    save_feed(context.store, feed)


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

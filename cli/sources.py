"""`moodwire sources test` and `moodwire sources list`: what would be ingested, and what is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from cli.stages import now, open_store
from ingest import files, kafka_source, parse
from ingest.clean import Item, Refused, draft, plain
from ingest.fetch import Failed, Fetched, Fetcher
from ingest.health import USUAL, usual
from moodwire.errors import BadInput
from moodwire.settings import Files, KafkaTopic, Place, Settings, Sitemap, Source, host_of
from moodwire.store.articles import feed_states
from moodwire.store.sources import Day, days_of

SHOWN = 5  # items
SHOWN_CHARS = 400  # of a text


@dataclass(frozen=True)
class Tester:
    """Fetches like the ingest stage, stores nothing, and says what it sees."""

    settings: Settings
    fetcher: Fetcher
    console: Console

    def run(self, name_or_url: str) -> int:
        """0 where something would be ingested, else 1. Raises BadInput for a name that is not configured."""
        return 1 if self.found(name_or_url) is None else 0

    def found(self, name_or_url: str) -> Source | None:
        """The source that a name, an address or a page's address leads to, if something would be ingested from it."""
        source = _named(self.settings, name_or_url)
        if isinstance(source, Files):
            return self._files(source)
        if isinstance(source, KafkaTopic):
            return self._topic(source)
        fetched = self.fetcher.get(source.url)
        if isinstance(fetched, Failed):
            self._say(f"{source.url}: {fetched.reason}")
            return None
        found = parse.items(source, fetched.data, fetched.content_type, now())
        named = parse.feeds_of(fetched.data, source.url)
        if found.fault and named and source.url != named[0]:
            self._say(f"{source.url} is a page; it names its feed: {named[0]}")
            return self.found(named[0])
        if found.fault and type(source) is Source:
            as_map = Sitemap(name=source.name, url=source.url)
            listed = parse.items(as_map, fetched.data, fetched.content_type, now())
            source, found = (as_map, listed) if not listed.fault else (source, found)
        if found.fault:
            self._say(f"{source.url}: {found.fault}")
            return None
        self._say(f"{source.url}: {len(found.items)} items")
        for item in found.items[:SHOWN]:
            self._show(item)
        if source.articles and found.items and found.items[0].url:
            self._page(found.items[0])
        return replace(source, name=found.title or host_of(source.url)) if found.items else None

    def _files(self, source: Files) -> Source | None:
        """What stands in a source's files now."""
        count = 0
        for path in files.files_at(source.path):
            for portion in files.portions(path, files.Place(), now() + files.SETTLED):
                for line in portion.lines:
                    count += 1
                    if count <= SHOWN and line.item:
                        self._show(line.item)
                    elif line.item is None:
                        self._say(f"  {path.name}:{line.number}: {line.fault}")
        self._say(f"{source.path}: {count} lines")
        return source

    def _topic(self, source: KafkaTopic) -> Source | None:
        """What a topic begins with."""
        security = source.security or self.settings.stream.security
        portion = next(kafka_source.portions(source, security, {}), None)
        if portion is None:
            self._say(f"{source.url}: there is nothing in it yet")
            return None
        for place, item, _ in portion.records[:SHOWN]:
            if isinstance(item, Refused):
                self._say(f"  {source.topic}/{place}: {item.reason}")
            else:
                self._show(item)
        return source

    def _show(self, item: Item) -> None:
        made = draft(item, now())
        if isinstance(made, Refused):
            self._say(f"  refused: {made.reason}")
            return
        note = f" ({made.date_note})" if made.date_note else ""
        self._say(f"  {made.published_at:%Y-%m-%d %H:%M} UTC{note}  {made.title}\n    {made.url}")

    def _page(self, item: Item) -> None:
        fetched = self.fetcher.get(item.url)
        if isinstance(fetched, Fetched):
            text = plain(parse.page(fetched.data, fetched.content_type).text)
            self._say(f"its first page has {len(text.split())} words of text:\n  {text[:SHOWN_CHARS]} …")
        else:
            self._say(f"its first page cannot be had: {fetched.reason}; the feed's own text would be used")

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def test(settings: Settings, name_or_url: str) -> int:
    hosts = [host_of(source.url) for source in settings.sources]
    fetcher = Fetcher(settings.fetching, hosts)
    try:
        return Tester(settings, fetcher, Console()).run(name_or_url)
    finally:
        fetcher.close()


def listed(place: Place, settings: Settings) -> int:
    store = open_store(place, settings)
    states, days = feed_states(store), days_of(store, now() - USUAL)
    table = Table(box=None, pad_edge=False)
    right = {"articles", "today", "usual", "success", "latency"}
    for name in ("source", "kind", "articles", "today", "usual", "success", "latency", "last success", "next", "state"):
        table.add_column(name, justify="right" if name in right else "left")
    for source in settings.sources:
        state, had = states.get(source.name, {}), days.get(source.name, [])
        table.add_row(
            source.name,
            str(type(source).__struct_config__.tag),
            str(state.get("items", 0)),
            *_rates(had),
            _ago(state.get("success_at")),
            _ago(state.get("next_at")),
            _told(state),
        )
    console = Console()
    console.print(table)
    for name, state in states.items():
        if trouble := state["silence"] or state["error"]:
            console.print(f"{name}: {trouble}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _rates(days: Sequence[Day]) -> tuple[str, str, str, str]:
    """Items today, on such a day usually; the share of fetches that succeeded and what one took, in the last week."""
    at = now()
    today = next((day.items for day in days if day.day.date() == at.date()), 0)
    often = usual(days, at)
    week = [day for day in days if at - day.day < timedelta(days=7)]
    fetches, failures = sum(day.fetches for day in week), sum(day.failures for day in week)
    good = fetches - failures
    return (
        str(today),
        "-" if often is None else f"{often:.0f}",
        f"{good / fetches:.0%}" if fetches else "-",
        f"{sum(day.took_ms for day in week) / good:.0f} ms" if good else "-",
    )


def _told(state: Mapping[str, Any]) -> str:
    if not state:
        return "not fetched yet"
    last = f", last error {_ago(state['error_at'])}" if state["error_at"] else ""
    failing = f"failing, {state['failures']} in a row" if state["failures"] else f"good{last}"
    return f"silent for {_ago(state['silent_since']).removesuffix(' ago')}" if state["silent_since"] else failing


def _named(settings: Settings, name_or_url: str) -> Source:
    for source in settings.sources:
        if name_or_url in {source.name, source.url}:
            return source
    if name_or_url.startswith("file:///"):
        return Files(name="files", url=name_or_url)
    if not name_or_url.startswith(("http://", "https://")):
        known = ", ".join(source.name for source in settings.sources) or "none"
        raise BadInput(f"there is no source {name_or_url!r} in the configuration (there are: {known}); or give a URL")
    return Source(name="test", url=name_or_url)


def _ago(at: object) -> str:
    if not isinstance(at, datetime):
        return "-"
    gap = now() - at
    seconds = abs(gap).total_seconds()
    units = ((3600, "h"), (60, "min"), (1, "s"))
    unit_s, unit = next(((size, name) for size, name in units if seconds >= 2 * size), units[-1])
    span = f"{seconds / unit_s:.0f} {unit}"
    return f"{span} ago" if gap >= timedelta() else f"in {span}"

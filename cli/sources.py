"""`moodwire sources test` and `moodwire sources list`: what would be ingested, and what is."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.console import Console
from rich.table import Table

from cli.stages import now, open_store
from ingest import parse
from ingest.clean import Item, Refused, draft, plain
from ingest.fetch import Failed, Fetched, Fetcher
from moodwire.errors import BadInput
from moodwire.settings import Place, Settings, Source, host_of
from moodwire.store.articles import feed_states

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
        source = _named(self.settings, name_or_url)
        fetched = self.fetcher.get(source.url)
        if isinstance(fetched, Failed):
            self._say(f"{source.url}: {fetched.reason}")
            return 1
        found = parse.items(source, fetched.data, fetched.content_type, now())
        named = parse.feeds_of(fetched.data, source.url)
        if found.fault and named:
            self._say(f"{source.url} is a page; it names its feed: {named[0]}")
            return self.run(named[0])
        if found.fault:
            self._say(f"{source.url}: {found.fault}")
            return 1
        self._say(f"{source.url}: {len(found.items)} items")
        for item in found.items[:SHOWN]:
            self._show(item)
        if source.articles and found.items and found.items[0].url:
            self._page(found.items[0])
        return 0 if found.items else 1

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
            text = plain(parse.page(fetched.data).text)
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
    states = feed_states(open_store(place, settings))
    table = Table(box=None, pad_edge=False)
    for name in ("source", "kind", "articles", "last success", "next", "state"):
        table.add_column(name, justify="right" if name == "articles" else "left")
    for source in settings.sources:
        state = states.get(source.name, {})
        failures = state.get("failures", 0)
        told = f"failing, {failures} in a row: {state['error']}" if failures else "good" if state else "not fetched yet"
        table.add_row(
            source.name,
            str(type(source).__struct_config__.tag),
            str(state.get("items", 0)),
            _ago(state.get("success_at")),
            _ago(state.get("next_at")),
            told,
        )
    Console().print(table)
    return 0


def _named(settings: Settings, name_or_url: str) -> Source:
    for source in settings.sources:
        if name_or_url in {source.name, source.url}:
            return source
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

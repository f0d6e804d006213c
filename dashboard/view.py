"""What is looked at: the whole of it stands in the address, so that a link shows a colleague the same. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, urlencode
from zoneinfo import ZoneInfo, available_timezones

import pandas as pd

from moodwire.store.find import LABELS, Filter

SPANS = {"1h": (1, 60), "6h": (6, 300), "24h": (24, 900), "7d": (168, 7200), "14d": (336, 14_400)}  # hours, s a point
DEFAULT_SPAN = "24h"
POINTS = 96  # about so many in a span that was chosen freely
STEPS_S = (60, 300, 900, 3600, 7200, 14_400, 43_200, 86_400)
COMPARED = 6  # series in one figure, at most
ZONES = available_timezones()

Span = tuple[datetime, datetime]


class Asked(NamedTuple):
    """A page as a browser asks for it, and the beat as of which it is shown."""

    path: str
    search: str | None
    beat: str


@dataclass(frozen=True)
class View:
    span: str = DEFAULT_SPAN
    between: Span | None = None  # instead of the span
    pick: Span | None = None  # a part of it, whose stories are shown
    zone: str = "UTC"
    also: tuple[str, ...] = ()  # series to compare with
    series: str = ""  # of a search
    source: str = ""
    label: str = ""
    words: str = ""

    def times(self, now: datetime) -> Span:
        return self.between or (now - timedelta(hours=SPANS[self.span][0]), now)

    @property
    def freq_s(self) -> int:
        """Seconds a point of a chart."""
        if self.between is None:
            return SPANS[self.span][1]
        seconds = (self.between[1] - self.between[0]).total_seconds()
        return next((step for step in STEPS_S if seconds / step <= POINTS), STEPS_S[-1])

    @property
    def name(self) -> str:
        """Of the span, in words."""
        if self.between is None:
            return f"last {self.span}"
        begin, end = self.between
        return f"{self.clock(begin)} – {self.clock(end)}"

    @property
    def filter(self) -> Filter:
        return Filter(self.series or "all", self.label, self.words, self.source)

    def local(self, times: Any) -> Any:
        """Times (a column, or one) as the clocks of the zone show them, without a zone: for a chart's axis."""
        if isinstance(times, datetime):
            return pd.Timestamp(times).tz_convert(self.zone).tz_localize(None)
        return pd.to_datetime(times, utc=True).dt.tz_convert(self.zone).dt.tz_localize(None)

    def utc(self, text: str) -> datetime:
        """What a chart's axis says, as a time. Raises ValueError. An hour that a clock shows twice is its first."""
        return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(self.zone)).astimezone(UTC)

    def clock(self, time: datetime, form: str = "%d %b %H:%M") -> str:
        return f"{time.astimezone(ZoneInfo(self.zone)):{form}}"

    def search(self, **changes: Any) -> str:
        """The address's part from `?` on; what is as usual is left out."""
        view = replace(self, **changes)
        words: list[tuple[str, str]] = []
        if view.between is not None:
            words += [("from", _text(view.between[0])), ("to", _text(view.between[1]))]
        elif view.span != DEFAULT_SPAN:
            words.append(("span", view.span))
        if view.pick is not None:
            words.append(("pick", "~".join(map(_text, view.pick))))
        if view.zone != "UTC":
            words.append(("zone", view.zone))
        words += [("also", name) for name in view.also]
        words += [(name, getattr(view, name)) for name in ("series", "source", "label", "words") if getattr(view, name)]
        return "?" + urlencode(words) if words else ""

    @cached_property
    def frame(self) -> str:
        """As `search`, with what holds on every page only: time range and zone."""
        return View(span=self.span, between=self.between, zone=self.zone).search()


def parse(search: str | None) -> View:
    """The view of an address; what cannot be read is as usual."""
    found = parse_qs((search or "").lstrip("?"))
    one = {name: values[-1] for name, values in found.items()}
    return View(
        span=one.get("span", "") if one.get("span") in SPANS else DEFAULT_SPAN,
        between=_span(one.get("from"), one.get("to")),
        pick=_span(*one["pick"].split("~")) if one.get("pick", "").count("~") == 1 else None,
        zone=one.get("zone", "") if one.get("zone") in ZONES else "UTC",
        also=tuple(dict.fromkeys(found.get("also", ())))[: COMPARED - 1],
        series=one.get("series", ""),
        source=one.get("source", ""),
        label=one.get("label", "") if one.get("label") in LABELS else "",
        words=one.get("words", ""),
    )


def series_path(series: str) -> str:
    return f"/series/{quote(series, safe='')}"


def incident_path(incident_id: str) -> str:
    return f"/incidents/{quote(incident_id, safe='')}"


def pretty(series: str, names: Mapping[str, str]) -> str:
    """A series in words; names: of companies, by symbol."""
    return " × ".join(_pretty(part, names) for part in series.split("+"))


def _pretty(series: str, names: Mapping[str, str]) -> str:
    kind, _, name = series.partition(":")
    if kind == "entity":
        return f"{name} · {names[name]}" if name in names else name
    return {"topic": name.replace("-", " "), "group": f"group {name}", "source": f"from {name}"}.get(kind, "All news")


def _text(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _span(start: str | None, end: str | None) -> Span | None:
    try:
        begin, until = datetime.fromisoformat(start or ""), datetime.fromisoformat(end or "")
    except ValueError:
        return None
    if begin.tzinfo is None or until.tzinfo is None or begin >= until:
        return None
    return begin.astimezone(UTC), until.astimezone(UTC)

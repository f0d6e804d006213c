"""`moodwire backtest`: what the rules would have said about stored or replayed news, as tables and as a page."""

import html
import tempfile
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import plotly.graph_objects as go
from rich.console import Console
from rich.table import Table

from alerts.backtest import Alarm, AnyTried, Summary, summaries
from alerts.detect import length_text
from alerts.trials import TICK_S, alarms_of, past_of
from cli.replay import replay_files
from cli.stages import Replay, open_store
from cli.times import given_time
from moodwire.errors import BadInput
from moodwire.records import EPOCH, from_seconds, seconds
from moodwire.settings import Place, Settings, SilenceRule
from moodwire.store.db import Store

SHOWN = 40  # alarms in the terminal's table
COLOURS = {0.25: "#1b4f72", 1.0: "#b03a2e", 4.0: "#b0b6bb"}
FAR = datetime(9999, 1, 1, tzinfo=UTC)


def run(
    place: Place,
    settings: Settings,
    files: Sequence[Path],
    span: tuple[str | None, str | None],
    names: Sequence[str] | None,
    page: Path | None,
) -> int:
    """Raises BadInput for rules, times or files that are not there."""
    rules = chosen(settings, names)
    start, end = (given_time(text) for text in span)
    if not files:
        store = open_store(place, settings)
        try:
            return report(store, settings, rules, start, end, page)
        finally:
            store.close()
    with tempfile.TemporaryDirectory() as folder:
        past = Place(Path(folder), place.config)
        if settings.store.url:
            raise BadInput(
                "[store] url is set, and files would go into that store: leave it out of the --config used here"
            )
        if not replay_files(past, settings, Replay(tuple(files), None, None), False, threading.Event(), Console()):
            return 1
        store = Store(past.store_url(settings))
        try:
            return report(store, settings, rules, start, end, page)
        finally:
            store.close()


def chosen(settings: Settings, names: Sequence[str] | None) -> list[AnyTried]:
    """The rules of these names, or all; those of kind silence hang on no news. Raises BadInput."""
    known = {rule.name: rule for rule in settings.rules if not isinstance(rule, SilenceRule)}
    if not known:
        raise BadInput("the configuration has no [[rules]] about news; add one (moodwire.example.toml shows how)")
    for name in names or ():
        if name not in known:
            raise BadInput(f"there is no rule {name!r}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(known.values())


def report(
    store: Store,
    settings: Settings,
    rules: Sequence[AnyTried],
    start: datetime | None,
    end: datetime | None,
    page: Path | None,
) -> int:
    past = past_of(store, rules, settings.windows.fresh_s, start or EPOCH, end or FAR)
    if not past.seen_s:
        raise BadInput("there is no fresh news in that time; `moodwire query windows` shows what the store holds")
    first = seconds(start) if start is not None else past.seen_s[0]
    last = seconds(end) if end is not None else past.seen_s[-1] + TICK_S
    found = alarms_of(rules, past, settings.windows.fresh_s, last, lambda _: None)
    alarms = [alarm for alarm in found if alarm.at_s >= first]
    rows = summaries(rules, alarms, last - first)
    show(rows, alarms, Console())
    if page is not None:
        page.write_text(as_html(rows, alarms, first, last), encoding="utf-8")
        print(f"page: {page}")
    return 0


def show(rows: Sequence[Summary], alarms: Sequence[Alarm], console: Console) -> None:
    table = Table("rule", "false alarms a week, set", "alarms", "a week", "series", box=None, pad_edge=False)
    for row in rows:
        own = " (as configured)" if row.factor == 1 and row.per_week is not None else ""
        table.add_row(row.rule, f"{_setting(row)}{own}", str(row.alarms), f"{row.weekly:.2f}", _most(row, 4))
    console.print(table, markup=False)
    own_alarms = [alarm for alarm in alarms if alarm.factor == 1]
    if own_alarms:
        console.print()
        listed = Table("at (UTC)", "rule", "series", "why", box=None, pad_edge=False)
        for alarm in own_alarms[-SHOWN:]:
            listed.add_row(_at(alarm.at_s), alarm.rule, alarm.series, alarm.reason)
        console.print(listed, markup=False)
        if len(own_alarms) > SHOWN:
            console.print(f"the last {SHOWN} of {len(own_alarms)}; all are on the page (--html)")


def as_html(rows: Sequence[Summary], alarms: Sequence[Alarm], first: int, last: int) -> str:
    """A page that needs nothing else."""
    summary = "".join(
        f"<tr class='{'own' if row.factor == 1 else ''}'><td>{html.escape(row.rule)}<td>{_setting(row)}"
        f"<td>{row.alarms}<td>{row.weekly:.2f}<td>{html.escape(_most(row, 8))}"
        for row in rows
    )
    listed = "".join(
        f"<tr><td>{_at(alarm.at_s)}<td>{'open' if alarm.until_s is None else _at(alarm.until_s)}"
        f"<td>{html.escape(alarm.rule)}<td>{html.escape(alarm.series)}<td>{length_text(alarm.window_s)}"
        f"<td>{html.escape(alarm.reason)}"
        for alarm in alarms
        if alarm.factor == 1
    )
    chart = figure(alarms, first, last).to_html(full_html=False, include_plotlyjs=True)
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>moodwire backtest</title><style>"
        "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:24px auto;padding:0 16px;color:#1c1c1c}"
        "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:4px 10px 4px 0;vertical-align:top;"
        "border-bottom:1px solid #e4e4e4}tr.own{font-weight:600}</style></head><body>"
        f"<h1>Backtest</h1><p>{_at(first)} to {_at(last)} UTC. Bold: as configured.</p>"
        "<table><tr><th>rule<th>false alarms a week, set<th>alarms<th>a week<th>series"
        f"{summary}</table>{chart}<h2>Alarms, as configured</h2>"
        f"<table><tr><th>at (UTC)<th>over<th>rule<th>series<th>window<th>why{listed}</table></body></html>\n"
    )


def figure(alarms: Sequence[Alarm], first: int, last: int) -> go.Figure:
    """Each alarm by its time and series; the settings by colour, stricter ones above."""
    chart = go.Figure()
    for factor, colour in sorted(COLOURS.items(), reverse=True):
        some = [alarm for alarm in alarms if alarm.factor == factor]
        chart.add_scatter(
            x=[_at(alarm.at_s) for alarm in some],
            y=[alarm.series for alarm in some],
            text=[html.escape(f"{alarm.rule}: {alarm.reason}") for alarm in some],
            hovertemplate="%{x}<br>%{y}<br>%{text}<extra></extra>",
            mode="markers",
            marker={"color": colour, "size": 9 if factor == 1 else 7 if factor < 1 else 11},
            name="as configured" if factor == 1 else f"set {factor:g} times as many",
        )
    height = 220 + 22 * len({alarm.series for alarm in alarms})
    chart.update_layout(
        template="plotly_white", height=height, margin={"l": 10, "r": 10, "t": 30, "b": 10}, legend={"orientation": "h"}
    )
    chart.update_xaxes(range=[_at(first), _at(last)])
    chart.update_yaxes(automargin=True, categoryorder="category descending")
    return chart


def _setting(row: Summary) -> str:
    return "–" if row.per_week is None else f"{row.per_week:g}"


def _most(row: Summary, count: int) -> str:
    more = len(row.by_series) - count
    told = ", ".join(f"{series} {alarms}" for series, alarms in row.by_series[:count])
    return f"{told} and {more} more" if more > 0 else told


def _at(at_s: int) -> str:
    return f"{from_seconds(at_s):%Y-%m-%d %H:%M}"

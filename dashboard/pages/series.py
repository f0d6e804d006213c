"""One series closely: its course, what is uncertain about it, its incidents, its stories; and others beside it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import dash_mantine_components as dmc
import pandas as pd
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update

from dashboard import figures
from dashboard.data import Data
from dashboard.frame import in_thread
from dashboard.pages.overview import events
from dashboard.parts import (
    age,
    called,
    download,
    empty,
    graph,
    limit_of,
    long_stories_grid,
    number,
    picked_span,
    signed,
    story_rows,
)
from dashboard.view import COMPARED, Asked, View, incident_path, parse, pretty
from moodwire.records import floor_time
from moodwire.store import queries, watching
from moodwire.store.detection import Expected, expected
from moodwire.store.find import Filter, course, courses, find

BEFORE = timedelta(days=1)  # what was last expected may be so old
PREFIX = "/series/"


def layout(asked: Asked, data: Data) -> Any:
    if not asked.path.startswith(PREFIX):
        return None
    name = unquote(asked.path.removeprefix(PREFIX))
    return [
        html.Div([html.H1(pretty(name, data.names)), html.Div(id="one-now", className="lead")], className="lead"),
        html.Div(
            [
                _choice(
                    dmc.MultiSelect,
                    "also",
                    "compare with …",
                    "compare with up to five other series",
                    hidePickedOptions=True,
                    maxValues=COMPARED - 1,
                ),
                _choice(
                    dmc.Select,
                    "cross",
                    "only those also about, or from …",
                    "only stories that are also about a topic or company, or from a source",
                ),
            ],
            className="choices",
        ),
        dcc.Store(id="one-picked"),
        graph("one-mood", f"score and number of stories of {pretty(name, data.names)} over time"),
        html.Div(id="one-incidents"),
        html.H2(["Its stories", html.Small(id="one-note")]),
        long_stories_grid("one-stories", 520),
    ]


def _choice(field: Any, id_: str, asks: str, name: str, **more: Any) -> Any:
    """A field to choose series in; which there are is asked for apart."""
    chosen = field(
        id=id_, data=[], placeholder=asks, searchable=True, clearable=True, limit=50, size="xs", **called(name), **more
    )
    return html.Div(chosen, className="wide")


def register(app: Dash, data: Data) -> None:
    @app.callback(
        Output("one-mood", "figure"),
        Output("one-now", "children"),
        Output("one-incidents", "children"),
        Input("beat", "data"),
        Input("where", "search"),
        State("where", "pathname"),
    )
    @in_thread
    def chart(beat: str, search: str | None, path: str | None) -> Any:
        name, view = named(path), parse(search)
        now = datetime.fromisoformat(beat)
        begin, end = view.times(now)
        found = data.ask_at(now, courses, (name, *view.also), begin, end, view.freq_s)
        frame, *others = (_local(each, view) for each in found)
        incidents = data.ask_at(now, watching.incidents, name, begin, end, 20)
        pick = (view.local(view.pick[0]), view.local(view.pick[1])) if view.pick else None
        revision = f"{name}{view.frame}"
        if view.also:
            titles = [pretty(each, data.names) for each in (name, *view.also)]
            drawn = figures.compared([*zip(titles, (frame, *others), strict=True)], revision, pick)
        else:
            late = data.ask_at(now, watching.revised, name, begin, end, view.freq_s)
            drawn = figures.course(
                frame,
                revision,
                events=events(incidents, view, {}),
                late=_local(late, view),
                pick=pick,
                alarm=alarm(data, name, begin, end, view.freq_s, now),
            )
        return drawn, totals(frame, view, data.usual(begin, name).get(name)), listed(incidents, view)

    @app.callback(
        Output("one-stories", "rowData"),
        Output("one-note", "children"),
        Input("beat", "data"),
        Input("where", "search"),
        Input("one-stories", "eventData"),
        State("where", "pathname"),
    )
    @in_thread
    def stories(beat: str, search: str | None, end_seen: dict[str, Any] | None, path: str | None) -> Any:
        name, view, now = named(path), parse(search), datetime.fromisoformat(beat)
        begin, end = view.pick or view.times(now)
        open_end = None if view.pick is None and view.between is None else end
        limit = limit_of(end_seen, search)
        rows = story_rows(data.ask_at(now, find, Filter(name), begin, open_end, limit), view, now)
        return rows, note(name, view, len(rows), len(rows) == limit)

    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("moodwire", "pick"),
        Output("one-picked", "data"),
        Input("one-mood", "selectedData"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output("where", "search", allow_duplicate=True),
        Input("one-picked", "data"),
        State("where", "search"),
        prevent_initial_call=True,
    )
    def picked(span: list[str], search: str | None) -> Any:
        pick = picked_span(span, parse(search))
        return no_update if pick is None else parse(search).search(pick=pick)

    @app.callback(
        Output("also", "data"),
        Output("also", "value"),
        Output("cross", "data"),
        Input("where", "search"),
        State("beat", "data"),
        State("where", "pathname"),
    )
    @in_thread
    def choices(search: str | None, beat: str, path: str | None) -> Any:
        name, view, now = named(path), parse(search), datetime.fromisoformat(beat)
        options = known_series(data, now, view)
        of = {option["value"] for option in options}
        missing = [{"value": also, "label": pretty(also, data.names)} for also in view.also if also not in of]
        others = [option for option in [*options, *missing] if option["value"] != name]
        names = [f"source:{source}" for source in data.sources(now) if f"source:{source}" not in view.also]
        sources = [{"value": source, "label": pretty(source, data.names)} for source in names]
        taken = {"all", *name.split("+")}
        single = [
            option for option in [*others, *sources] if option["value"] not in taken and "+" not in option["value"]
        ]
        return others, list(view.also), single

    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("moodwire", "compare"),
        Output("shown", "data", allow_duplicate=True),
        Input("also", "value"),
        prevent_initial_call=True,
    )

    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("moodwire", "cross"),
        Output("shown", "data", allow_duplicate=True),
        Input("cross", "value"),
        prevent_initial_call=True,
    )


def alarm(data: Data, name: str, begin: datetime, end: datetime, freq_s: int, now: datetime) -> figures.Alarm | None:
    """What the alarms expected of a series, where a window of theirs is made up of whole points of the chart."""
    rows = data.ask_at(now, expected, name, begin - BEFORE, end)
    windows = [row.window_s for row in rows if row.window_s >= freq_s and row.window_s % freq_s == 0]
    if not windows:
        return None
    counts = data.ask_at(now, course, name, begin - timedelta(seconds=min(windows)), end, freq_s)
    return watched([row for row in rows if row.window_s == min(windows)], counts, begin, freq_s)


def watched(rows: Sequence[Expected], counts: pd.DataFrame, begin: datetime, freq_s: int) -> figures.Alarm:
    """rows: of one window, oldest first; of several rules that which fires first is shown. counts: from a window before
    `begin` on."""
    window_s = rows[0].window_s
    first = min({row.rule: row for row in rows}.values(), key=lambda row: row.threshold).rule
    said = pd.DataFrame([row for row in rows if row.rule == first])
    ends = pd.DataFrame({"at": (counts["start"] + timedelta(seconds=freq_s)).astype("datetime64[us, UTC]")})
    known = pd.merge_asof(ends, said.assign(at=said["at"].astype("datetime64[us, UTC]")), on="at")
    known["counted"] = counts["fresh_negative"].rolling(window_s // freq_s, min_periods=1).sum()
    shown = known[(counts["start"] >= floor_time(begin, freq_s)).to_numpy()].reset_index(drop=True)
    return figures.Alarm(age(timedelta(seconds=window_s)), shown["counted"], shown["expected"], shown["threshold"])


def named(path: str | None) -> str:
    return unquote((path or "").removeprefix(PREFIX))


def known_series(data: Data, now: datetime, view: View) -> list[dict[str, str]]:
    """What there were stories of, busiest first, as choices."""
    begin, end = view.times(now)
    names = data.ask_at(now, queries.busiest, end, end - begin)
    return [{"value": name, "label": pretty(name, data.names)} for name in names]


def totals(frame: pd.DataFrame, view: View, usual: float | None) -> list[Any]:
    stories = int(frame["stories"].sum())
    if not stories:
        return [empty(f"No stories, {view.name}: choose a longer time above.")]
    score = frame["score_sum_e4"].sum() / stories / 1e4
    negative = int(frame["negative"].sum())
    parts = [
        number(signed(score), view.name),
        number(signed(score - usual), "against two weeks before") if usual is not None else None,
        number(f"{stories:,}", f"stories, {negative:,} ({negative / stories:.0%}) negative"),
    ]
    return [part for part in parts if part is not None]


def listed(incidents: pd.DataFrame, view: View) -> Any:
    if incidents.empty:
        return None
    return html.Ul(
        [
            html.Li(
                [
                    "▲ " if row.state != "resolved" else "✓ ",
                    dcc.Link(f"{view.clock(row.since)}: {row.state}", href=incident_path(row.incident_id) + view.frame),
                    f", {row.reason}",
                ],
                className=row.state,
            )
            for row in incidents.itertuples()
        ],
        className="marks",
    )


def note(name: str, view: View, count: int, more: bool) -> list[Any]:
    asked = View(series=name, span=view.span, between=view.pick or view.between, zone=view.zone)
    parts: list[Any] = [f"the newest {count}, " if more else f"{count}, "]
    if view.pick is None:
        parts.append(f"{view.name} · drag over a part of the chart for its stories · ")
    else:
        parts += [
            f"{view.clock(view.pick[0])} – {view.clock(view.pick[1])} · ",
            dcc.Link("all again", href=view.search(pick=None) or "?"),
            " · ",
            dcc.Link("zoom in", href=view.search(pick=None, between=view.pick)),
            " · ",
        ]
    return [
        *parts,
        download("stories", asked.search(), "stories"),
        " · ",
        download("course", asked.search(), "course"),
    ]


def _local(frame: pd.DataFrame, view: View) -> pd.DataFrame:
    return frame.assign(start=view.local(frame["start"]))

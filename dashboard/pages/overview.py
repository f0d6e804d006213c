"""The mood now: all news, topics over time, every series in a table, and the newest stories."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update

from dashboard import figures
from dashboard.data import Data
from dashboard.frame import in_thread
from dashboard.parts import (
    STORIES,
    download,
    empty,
    graph,
    grid,
    heading,
    incident_card,
    moment,
    number,
    picked_span,
    real,
    signed,
    stories_grid,
    story_rows,
)
from dashboard.view import Asked, View, parse, pretty, series_path
from moodwire.errors import MoodwireError
from moodwire.records import floor_time
from moodwire.store import queries, watching

NORMAL_DAYS = 7
KINDS = {"all": "all", "topic": "topic", "entity": "company", "group": "group"}
COLUMNS = [
    {
        "field": "name",
        "headerName": "Series",
        "cellRenderer": "Series",
        "flex": 2,
        "minWidth": 150,
        "filter": True,
        "floatingFilter": True,
    },
    {"field": "kind", "headerName": "Kind", "width": 82, "filter": True, "floatingFilter": True},
    {"field": "score", "headerName": "Score", "cellRenderer": "Score", "width": 70, "type": "rightAligned"},
    {
        "field": "change",
        "headerName": "Before",
        "cellRenderer": "Score",
        "width": 74,
        "type": "rightAligned",
        "headerTooltip": "change against the same span before",
    },
    {
        "field": "off",
        "headerName": "Usual",
        "cellRenderer": "Score",
        "width": 70,
        "type": "rightAligned",
        "headerTooltip": "change against the two weeks before",
    },
    {"field": "stories", "headerName": "Stories", "width": 76, "sort": "desc", "type": "rightAligned"},
    {"field": "negative", "headerName": "Negative", "width": 84, "type": "rightAligned"},
    {
        "field": "trend",
        "headerName": "Course",
        "cellRenderer": "Spark",
        "cellDataType": False,  # a list, which has no text of its own
        "width": 112,
        "sortable": False,
    },
]


class Now(NamedTuple):
    """What the overview shows of a span, but for its stories."""

    lead: Any
    firing: Any
    mood: Any
    rows: list[dict[str, Any]] | None
    heat: Any
    note: Any


def layout(asked: Asked, data: Data) -> Any:
    """With what it shows, for it is what most people see first: a browser that still has to ask draws twice."""
    if asked.path != "/":
        return None
    first, (rows, note) = Now(empty("Loading …"), None, None, None, None, None), (None, None)
    with suppress(MoodwireError):  # the next beat says what is wrong, or shows it all
        stories = data.beside(lambda: newest(asked.beat, asked.search, data))
        first, (rows, note) = now(asked.beat, asked.search, data), stories.result()
    return [
        html.H1("The mood of the news", className="unseen"),
        dcc.Store(id="picked"),
        html.Div(first.lead, id="now", className="lead"),
        html.Div(first.firing, id="firing"),
        html.Div(
            [
                html.Section(
                    [
                        heading("All news", "with what is uncertain about it; drag over a span to read its stories"),
                        graph("mood", "score and number of all stories over time", figure=first.mood),
                        heading("Topics over time", "blue and + good, orange and − bad"),
                        graph("heat", "mean score of each topic over time", figure=first.heat),
                    ]
                ),
                html.Section(
                    [
                        html.H2(["Series", html.Small(first.note, id="series-note")]),
                        grid("series", COLUMNS, 372, label="series", rows=first.rows),
                        html.H2(["Newest stories", html.Small(note, id="stories-note")]),
                        stories_grid("stories", 430, rows),
                    ]
                ),
            ],
            className="columns",
        ),
    ]


def register(app: Dash, data: Data) -> None:
    @app.callback(
        Output("now", "children"),
        Output("firing", "children"),
        Output("mood", "figure"),
        Output("series", "rowData"),
        Output("heat", "figure"),
        Output("series-note", "children"),
        Input("beat", "data"),
        Input("where", "search"),
        prevent_initial_call=True,
    )
    @in_thread
    def overview(beat: str, search: str | None) -> Any:
        return now(beat, search, data)

    @app.callback(
        Output("stories", "rowData"),
        Output("stories-note", "children"),
        Input("beat", "data"),
        Input("where", "search"),
        prevent_initial_call=True,
    )
    @in_thread
    def stories(beat: str, search: str | None) -> Any:
        return newest(beat, search, data)

    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("moodwire", "pick"),
        Output("picked", "data"),
        Input("mood", "selectedData"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output("where", "href", allow_duplicate=True),
        Input("picked", "data"),
        State("where", "search"),
        prevent_initial_call=True,
    )
    def picked(span: list[str], search: str | None) -> Any:
        pick = picked_span(span, parse(search))
        return no_update if pick is None else series_path("all") + parse(search).search(pick=pick)


def now(beat: str, search: str | None, data: Data) -> Now:
    at, view = datetime.fromisoformat(beat), parse(search)
    begin, end = view.times(at)
    asked = data.beside(lambda: data.ask_at(at, queries.mood, "all", begin, end, view.freq_s))
    days_before = data.beside(lambda: normal(data, begin, end, view.freq_s))
    table = [*data.ask_at(at, queries.overview, end, end - begin).itertuples()]
    usual = data.usual(begin)
    course = asked.result()
    incidents = data.ask_at(at, watching.incidents, None, begin, end, 50)
    return Now(
        lead(table, view, usual.get("all")),
        [incident_card(alert, data.names, view) for alert in data.ask_at(at, queries.open_incidents)]
        if view.between is None
        else None,
        figures.course(
            course.assign(start=view.local(course["start"])),
            f"all{view.frame}",
            normal=days_before.result(),
            events=events(incidents, view, data.names) if len(incidents) <= 6 else (),
            height=300,
        ),
        series_rows(table, usual, data.names),
        heat_of(table, view, begin, end),
        ["click a head to sort, a name to look closer · ", download("overview", view.search())],
    )


def newest(beat: str, search: str | None, data: Data) -> tuple[list[dict[str, Any]], Any]:
    """Stories' rows, and what is said above them."""
    at, view = datetime.fromisoformat(beat), parse(search)
    begin, end = view.times(at)
    frame = data.ask_at(at, queries.stories, None, begin, end if view.between else None, STORIES)
    note = ["as they come · " if view.between is None else f"{view.name} · ", download("stories", view.search())]
    return story_rows(frame, view, at), note


def lead(table: Sequence[Any], view: View, usual: float | None) -> list[Any]:
    row = next((row for row in table if row.series == "all" and row.stories), None)
    if row is None:
        return [empty(f"No stories, {view.name}. Choose a longer time above, or look at the page Health.")]
    parts = [
        number(signed(row.score), f"mood of all news, {view.name}"),
        number(signed(row.change), "against as long before") if row.change == row.change else None,
        number(signed(row.score - usual), "against two weeks") if usual is not None else None,
        number(f"{row.stories:,}", f"stories, {row.negative:,} ({row.negative / row.stories:.0%}) negative"),
    ]
    return [part for part in parts if part is not None]


def series_rows(table: Sequence[Any], usual: dict[str, float], names: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "key": row.series,
            "name": pretty(row.series, names),
            "kind": KINDS.get(row.series.partition(":")[0], ""),
            "score": real(row.score),
            "change": real(row.change),
            "off": real(row.score - usual[row.series]) if row.series in usual else None,
            "stories": row.stories,
            "negative": row.negative,
            "trend": [None if value != value else round(100 * value) for value in row.trend],
        }
        for row in table
        if row.stories
    ]


def heat_of(table: Sequence[Any], view: View, begin: datetime, end: datetime) -> Any:
    topics = [row for row in table if row.series.startswith("topic:") and row.stories]
    topics.sort(key=lambda row: -row.stories)
    rows = [(row.series.removeprefix("topic:").replace("-", " "), row.trend) for row in topics]
    bins = len(rows[0][1]) if rows else 0
    return figures.heat(rows, [view.local(begin + (end - begin) * ((at + 0.5) / bins)) for at in range(bins)])


def normal(data: Data, begin: datetime, end: datetime, freq_s: int) -> pd.Series | None:
    """How many stories are usual at each time: the mean of the same time of day on the days before."""
    began = data.ask_at(floor_time(end, 600), watching.begun, "all")
    days = min((floor_time(begin, 86_400) - began).days, NORMAL_DAYS) if began else 0
    if days < 1:
        return None
    # To the point, so that the days before are asked for once a point and not at each beat.
    first, last = (floor_time(time, freq_s) - timedelta(days=1) for time in (begin, end))
    first -= timedelta(days=days - 1)
    past = data.ask(queries.mood, "all", first, last + timedelta(seconds=freq_s - 1), freq_s)["stories"].to_numpy()
    a_day = 86_400 // freq_s
    mean = pd.Series(np.mean([past[day * a_day : len(past) - (days - 1 - day) * a_day] for day in range(days)], axis=0))
    return mean.rolling(3, center=True, min_periods=1).mean()


def events(incidents: pd.DataFrame, view: View, names: dict[str, str]) -> list[figures.Event]:
    return [
        figures.Event(
            view.local(row.since),
            view.local(row.until) if moment(row.until) else None,
            figures.short(pretty(row.series, names), 14),
        )
        for row in incidents.itertuples()
    ]

"""What the rules found: all incidents, and each one with all that it left."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pandas as pd
from dash import Dash, Input, Output, State, html

from dashboard import figures
from dashboard.data import Data
from dashboard.frame import in_thread
from dashboard.parts import (
    age,
    download,
    empty,
    evidence_list,
    graph,
    grid,
    heading,
    number,
    real,
    series_link,
)
from dashboard.view import STEPS_S, View, incident_path, parse, pretty
from moodwire.store import watching
from moodwire.store.find import course
from moodwire.store.watching import IncidentFile

LISTED = 500
AROUND = 6  # windows of the rule shown before an incident
PREFIX = "/incidents/"
COLUMNS = [
    {
        "field": "state",
        "headerName": "State",
        "cellRenderer": "State",
        "width": 124,
        "filter": True,
        "floatingFilter": True,
    },
    {
        "field": "name",
        "headerName": "Series",
        "cellRenderer": "Link",
        "width": 210,
        "filter": True,
        "floatingFilter": True,
    },
    {"field": "since", "headerName": "Since", "cellRenderer": "Clock", "width": 116, "sort": "desc"},
    {"field": "lasted", "headerName": "Lasted", "cellRenderer": "Lasted", "width": 88},
    {"field": "observed", "headerName": "Negative", "width": 96, "type": "rightAligned"},
    {"field": "expected", "headerName": "Expected", "width": 96, "type": "rightAligned"},
    {"field": "rule", "headerName": "Rule", "width": 120, "filter": True, "floatingFilter": True},
    {"field": "reason", "headerName": "Why", "flex": 1, "minWidth": 300, "tooltipField": "reason"},
]


def layout(path: str, data: Data) -> Any:
    if path in {"/incidents", "/alerts"}:
        return [
            html.H1("Incidents"),
            html.P(id="incidents-note", className="note"),
            grid("incidents", COLUMNS, 640, label="incidents", none="No alarm so far."),
        ]
    if path.startswith(PREFIX):
        return [
            html.Div(empty("Loading …"), id="incident-top"),
            html.Div(id="incident-chart"),
            html.Div(id="incident-rest"),
        ]
    return None


def register(app: Dash, data: Data) -> None:
    @app.callback(
        Output("incidents", "rowData"),
        Output("incidents-note", "children"),
        Input("beat", "data"),
        Input("where", "search"),
    )
    @in_thread
    def listed(beat: str, search: str | None) -> Any:
        view, now = parse(search), datetime.fromisoformat(beat)
        begin, end = view.between or (None, None)
        frame = data.ask(watching.incidents, None, begin, end, LISTED)
        if frame.empty:
            return [], "No alarm so far. Rules stand in moodwire.toml under [[rules]]; the page Rules shows them."
        count = f"{len(frame)} incidents" if len(frame) < LISTED else f"the newest {LISTED} incidents"
        where = f", {view.name}" if view.between else ", whenever they were"
        return incident_rows(frame, data.names, view, now), [count, where, " · ", download("incidents", view.search())]

    @app.callback(
        Output("incident-top", "children"),
        Output("incident-chart", "children"),
        Output("incident-rest", "children"),
        Input("beat", "data"),
        Input("where", "search"),
        State("where", "pathname"),
    )
    @in_thread
    def one(beat: str, search: str | None, path: str | None) -> Any:
        view, now = parse(search), datetime.fromisoformat(beat)
        file = data.ask(watching.incident, unquote((path or "").removeprefix(PREFIX)))
        if file is None:
            return empty("There is no such incident. The page Incidents lists them all."), None, None
        return top(file, data.names, view, now), [chart(data, file, view, now)], rest(file, view)


def incident_rows(frame: pd.DataFrame, names: dict[str, str], view: View, now: datetime) -> list[dict[str, Any]]:
    return [
        {
            "key": row.incident_id,
            "state": row.state,
            "name": pretty(row.series, names),
            "href": incident_path(row.incident_id) + view.frame,
            "since": row.since.isoformat(),
            "clock": view.clock(row.since),
            "lasted": (_end(row.until, now) - row.since).total_seconds(),
            "say": age(_end(row.until, now) - row.since),
            "observed": real(row.observed),
            "expected": None if row.expected is None or row.expected != row.expected else round(row.expected, 1),
            "rule": row.rule,
            "reason": row.reason,
        }
        for row in frame.itertuples()
    ]


def top(file: IncidentFile, names: dict[str, str], view: View, now: datetime) -> list[Any]:
    row, last = file.row, file.alerts[-1] if file.alerts else None
    first = file.alerts[0] if file.alerts else None
    lasted = age(_end(row["until"], now) - row["since"])
    parts = [
        number(
            ["▲ " if row["state"] != "resolved" else "✓ ", row["state"]], f"since {view.clock(row['since'])}, {lasted}"
        )
    ]
    if first is not None:
        parts += [
            number(f"{first.observed}", f"negative stories in {first.window_s / 60:.0f} min"),
            number(f"{first.expected:.2g}", "were expected"),
        ]
    return [
        html.H1(series_link(row["series"], names, view)),
        html.Div(parts, className=f"lead {row['state']}"),
        html.P(f"Rule {row['rule']}: {last.reason}" if last else f"Rule {row['rule']}"),
    ]


def chart(data: Data, file: IncidentFile, view: View, now: datetime) -> Any:
    """The hours before it and while it lasted."""
    row = file.row
    window = timedelta(seconds=file.alerts[0].window_s if file.alerts else 3600)
    begin, end = row["since"] - AROUND * window, min(_end(row["until"], now) + window, now)
    step = next((s for s in STEPS_S if (end - begin).total_seconds() / s <= 96), STEPS_S[-1])
    frame = data.ask(course, row["series"], begin, end, step)
    event = figures.Event(view.local(row["since"]), view.local(_end(row["until"], now)), row["state"])
    figure = figures.course(frame.assign(start=view.local(frame["start"])), row["incident_id"], events=[event])
    part = graph("incident-figure", "score and stories before and during the incident")
    part.children.figure = figure.update_layout(dragmode=False)
    return part


def rest(file: IncidentFile, view: View) -> list[Any]:
    evidence = file.alerts[-1].evidence if file.alerts else ()
    return [
        html.Div(
            [
                html.Section([heading("Timeline"), html.Ol(timeline(file, view), className="timeline")]),
                html.Section(
                    [
                        heading("Evidence", "most negative and most copied first"),
                        evidence_list(evidence) or empty("No story was kept as evidence."),
                    ]
                ),
            ],
            className="columns",
        )
    ]


def timeline(file: IncidentFile, view: View) -> list[Any]:
    """Changes of state and what became of each message, in order."""
    lines: list[tuple[datetime, Any]] = [
        (alert.at, [html.B(alert.state), f": {alert.reason}"]) for alert in file.alerts
    ]
    for row in file.deliveries.itertuples():
        lines.append((row.delivered_at if row.status == "delivered" else row.created_at, _fate(row, view)))
    lines.sort(key=lambda line: line[0])
    return [html.Li([html.Time(view.clock(at, "%d %b %H:%M:%S")), " ", *words]) for at, words in lines]


def _fate(row: Any, view: View) -> list[Any]:
    what = f"message “{row.state}” by {row.channel}"
    if row.status == "delivered":
        return [f"✓ {what} delivered", f" at attempt {row.attempts}" if row.attempts > 1 else ""]
    if row.status == "failed":
        return [
            html.Span(
                f"✗ {what} could not be delivered after {row.attempts} attempts: {row.last_error}", className="bad"
            )
        ]
    again = f", tried {row.attempts} times ({row.last_error}); again at {view.clock(row.next_at, '%H:%M:%S')}"
    return [f"… {what} waits", again if row.attempts else ""]


def _end(until: Any, now: datetime) -> datetime:
    return until if isinstance(until, datetime) and until == until else now

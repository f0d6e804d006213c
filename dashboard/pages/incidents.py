"""What the rules found: all incidents, and each one with all that it left."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import dash_mantine_components as dmc
import pandas as pd
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update

from dashboard import figures, person
from dashboard.data import Data
from dashboard.frame import in_thread
from dashboard.parts import (
    age,
    called,
    download,
    empty,
    evidence_list,
    graph,
    grid,
    heading,
    moment,
    number,
    real,
    series_link,
    your_name,
)
from dashboard.view import STEPS_S, Asked, View, incident_path, parse, pretty
from moodwire.errors import BadInput
from moodwire.records import Alert
from moodwire.store import watching
from moodwire.store.commands import Acknowledge, Command, Comment, EndSilence, Silence, give, result
from moodwire.store.find import course
from moodwire.store.incidents import SilenceRow
from moodwire.store.watching import IncidentFile, Sending

LISTED = 500
SILENT = timedelta(hours=4)  # unless another end is given
CLOCK = "%Y-%m-%d %H:%M"
BLOCKS = "▁▂▃▄▅▆▇█"
CHANGES = {"fires": "fires", "worsens": "worse", "acknowledged": "acknowledged", "over": "over"}
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


def layout(asked: Asked, data: Data) -> Any:
    if asked.path in {"/incidents", "/alerts"}:
        return [
            html.H1("Incidents"),
            html.P(id="incidents-note", className="note"),
            grid("incidents", COLUMNS, 640, label="incidents", none="No alarm so far."),
        ]
    if asked.path.startswith(PREFIX):
        return [
            html.Div(empty("Loading …"), id="incident-top"),
            html.Div(id="incident-chart"),
            html.Div(id="incident-rest"),
            heading("Do something", "the alarms carry it out and say what came of it"),
            html.Div(actions(), id="incident-act"),
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
        frame = data.ask_at(now, watching.incidents, None, begin, end, LISTED)
        if frame.empty:
            return [], "No alarm so far. Rules stand in moodwire.toml under [[rules]]; the page Rules shows them."
        count = (
            f"{len(frame)} incident{'s' * (len(frame) != 1)}"
            if len(frame) < LISTED
            else f"the newest {LISTED} incidents"
        )
        where = f", {view.name}" if view.between else ", of all times"
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
        file = data.ask_at(now, watching.incident, named(path), now)
        if file is None:
            return empty("There is no such incident. The page Incidents lists them all."), None, None
        return top(file, data.names, view, now), [chart(data, file, view, now)], rest(file, view)

    @app.callback(
        Output("silence-until", "value"),
        Output("silence-until", "label"),
        Input("where", "search"),
        State("beat", "data"),
    )
    def usual_silence(search: str | None, beat: str) -> Any:
        view = parse(search)
        return view.clock(datetime.fromisoformat(beat) + SILENT, CLOCK), f"Silent until ({view.zone})"

    @app.callback(
        Output("acted", "data"),
        Output("act-text", "value"),
        Input({"type": "act", "do": ALL}, "n_clicks"),
        Input({"type": "end-silence", "silence": ALL}, "n_clicks"),
        State("who", "value"),
        State("act-text", "value"),
        State("silence-until", "value"),
        State("where", "pathname"),
        State("where", "search"),
        prevent_initial_call=True,
    )
    @in_thread
    def act(
        _: list[int],
        __: list[int],
        who: str | None,
        text: str | None,
        until: str | None,
        path: str | None,
        search: str | None,
    ) -> Any:
        what = ctx.triggered_id
        if what is None or not any(click["value"] for click in ctx.triggered):
            return no_update, no_update
        now = data.clock()
        if not person.may("analyst"):
            return {"fault": person.REFUSED}, no_update
        name = person.name_or(who)
        if not name:
            return {"fault": "Write your name first: it is kept with what you do."}, no_update
        try:
            file = watching.incident(data.store, named(path), now)
            if file is None:
                raise BadInput("there is no such incident")
            command = asked(what, file.row, (text or "").strip(), until or "", parse(search), now)
            return {"seq": give(data.store, "alerts", command, name, now)}, ""
        except BadInput as error:
            return {"fault": f"{error}"}, no_update

    @app.callback(Output("act-note", "children"), Input("acted", "data"), Input("beat", "data"))
    @in_thread
    def came(acted: dict[str, Any] | None, beat: str) -> Any:
        if acted is None:
            return None
        if "fault" in acted:
            return html.Span(acted["fault"], className="bad")
        return result(data.store, acted["seq"]) or "Asked; it waits for the alarms (is the stage `alerts` running?)."


def named(path: str | None) -> str:
    return unquote((path or "").removeprefix(PREFIX))


def actions() -> list[Any]:
    """They stay as they are while the page around them is made anew, so that nothing typed is lost."""

    def button(do: str, text: str) -> Any:
        return html.Button(text, id={"type": "act", "do": do}, n_clicks=0)

    return [
        html.Div(
            [
                your_name("Your name", 160),
                dmc.TextInput(
                    id="act-text",
                    label="Comment, or the reason of a silence",
                    value="",
                    size="xs",
                    style={"flex": "1 1 260px"},
                ),
                dmc.TextInput(id="silence-until", label="Silent until", value="", size="xs", w=180),
            ],
            className="choices",
        ),
        html.Div(
            [button("acknowledge", "acknowledge"), button("comment", "comment"), button("silence", "silence")],
            className="keys",
        ),
        html.Div(id="act-note", role="status", className="note"),
        dcc.Store(id="acted"),
    ]


def asked(what: Mapping[str, Any], row: Mapping[str, Any], text: str, until: str, view: View, now: datetime) -> Command:
    """The command of a button. Raises BadInput."""
    if what["type"] == "end-silence":
        return EndSilence(id=what["silence"])
    match what["do"]:
        case "acknowledge":
            return Acknowledge(incident_id=row["incident_id"], comment=text)
        case "comment":
            return Comment(incident_id=row["incident_id"], text=text)
    try:
        end = view.utc(until.strip())
    except ValueError as error:
        raise BadInput(f"{until!r} is no time; write it like {view.clock(now + SILENT, CLOCK)}") from error
    matchers = (f"series={row['series']}", f"rule={row['rule']}")
    return Silence(matchers=matchers, starts_at=now, ends_at=end, reason=text)


def incident_rows(frame: pd.DataFrame, names: dict[str, str], view: View, now: datetime) -> list[dict[str, Any]]:
    return [
        {
            "key": row.incident_id,
            "state": row.state,
            "name": pretty(row.series, names),
            "href": incident_path(row.incident_id) + view.frame,
            "since": row.since.isoformat(),
            "clock": view.clock(row.since),
            "lasted": ((moment(row.until) or now) - row.since).total_seconds(),
            "say": age((moment(row.until) or now) - row.since),
            "observed": real(row.observed),
            "expected": None if row.expected is None or row.expected != row.expected else float(f"{row.expected:.2g}"),
            "rule": row.rule,
            "reason": row.reason,
        }
        for row in frame.itertuples()
    ]


def top(file: IncidentFile, names: dict[str, str], view: View, now: datetime) -> list[Any]:
    row, last = file.row, file.alerts[-1] if file.alerts else None
    first = file.alerts[0] if file.alerts else None
    lasted = age((moment(row["until"]) or now) - row["since"])
    parts = [
        number(
            ["▲ " if row["state"] != "resolved" else "✓ ", row["state"]], f"since {view.clock(row['since'])}, {lasted}"
        )
    ]
    if first is not None and first.kind == "surge":
        parts += [
            number(f"{first.observed}", f"negative stories in {age(timedelta(seconds=first.window_s))}"),
            number(f"{first.expected:.2g}", "were expected"),
        ]
    return [
        html.H1(series_link(row["series"], names, view)),
        html.Div(parts, className=f"lead {row['state']}"),
        html.P(f"Rule {row['rule']}: {last.reason}" if last else f"Rule {row['rule']}"),
        html.P(f"It is over when {last.ends_when}.", className="note")
        if last and row["until"] is None and last.ends_when
        else None,
        *(silenced(each, view) for each in file.silences),
    ]


def silenced(silence: SilenceRow, view: View) -> Any:
    span = f"{view.clock(silence.starts_at)} – {view.clock(silence.ends_at)}"
    return html.P(
        [
            html.Span([f"Silent, {span}, by ", html.Bdi(silence.by), ": ", html.Bdi(silence.reason)]),
            html.Button(
                "end the silence",
                id={"type": "end-silence", "silence": silence.id},
                n_clicks=0,
                className="small",
                title=", ".join(silence.matchers),
            ),
        ],
        className="silence keys small",
    )


def chart(data: Data, file: IncidentFile, view: View, now: datetime) -> Any:
    """The hours before it and while it lasted."""
    row = file.row
    window = timedelta(seconds=file.alerts[0].window_s if file.alerts else 3600)
    begin, end = row["since"] - AROUND * window, min((moment(row["until"]) or now) + window, now)
    step = next((s for s in STEPS_S if (end - begin).total_seconds() / s <= 96), STEPS_S[-1])
    frame = data.ask_at(now, course, row["series"], begin, end, step)
    event = figures.Event(view.local(row["since"]), view.local(moment(row["until"]) or now), row["state"])
    figure = figures.course(frame.assign(start=view.local(frame["start"])), row["incident_id"], events=[event])
    part = graph("incident-figure", "score and stories before and during the incident")
    figure["layout"]["dragmode"] = False
    part.children.figure = figure
    return part


def rest(file: IncidentFile, view: View) -> list[Any]:
    last = file.alerts[-1] if file.alerts else None
    return [
        html.Div(
            [
                html.Section([heading("Timeline"), html.Ol(timeline(file, view), className="timeline")]),
                html.Section(
                    [
                        heading("Evidence", "most negative and most copied first"),
                        evidence_list(last.evidence if last else ()) or empty("No story was kept as evidence."),
                        *(particulars(last, view) if last else ()),
                    ]
                ),
            ],
            className="columns",
        )
    ]


def particulars(alert: Alert, view: View) -> list[Any]:
    """What its stories have in common, who carried them, and how it came."""
    lines: list[tuple[str, Any]] = []
    if alert.words:
        lines.append(("New words", html.Bdi(", ".join(alert.words))))
    if alert.sources:
        lines.append(("Carried by", html.Bdi(", ".join(alert.sources))))
    if alert.share is not None:
        lines.append(("Negative", f"{alert.share:.0%} of its new stories"))
    if alert.course is not None:
        course = alert.course
        label = f"negative stories: {', '.join(map(str, course.negative))}"
        step = age(timedelta(seconds=course.step_s))
        bars = html.Span(blocks(course.negative), className="blocks", role="img", **called(label))
        lines.append(
            ("How it came", [bars, f" up to {max(course.negative)} in {step}, from {view.clock(course.start)}"])
        )
    return [html.Dl([part for name, what in lines for part in (html.Dt(name), html.Dd(what))])] if lines else []


def blocks(counts: Sequence[int]) -> str:
    """Counts as bars of text."""
    most = max(counts, default=0)
    return "".join(BLOCKS[round(count / most * (len(BLOCKS) - 1))] if most else BLOCKS[0] for count in counts)


def timeline(file: IncidentFile, view: View) -> list[Any]:
    """Changes of state, what people said and what became of each message, in order."""
    lines: list[tuple[datetime, Any]] = [
        (alert.at, [html.B(CHANGES[alert.change]), ": ", html.Bdi(alert.reason)]) for alert in file.alerts
    ]
    lines += [(row.at, [html.B(html.Bdi(row.by)), ": ", html.Bdi(row.text)]) for row in file.comments]
    lines += [(sending.delivered_at or sending.created_at, fate(sending, view)) for sending in file.deliveries]
    lines.sort(key=lambda line: line[0])
    return [html.Li([html.Time(view.clock(at, "%d %b %H:%M:%S")), " ", *words]) for at, words in lines]


def fate(sending: Sending, view: View) -> list[Any]:
    told = "still going on" if sending.repeat else ", ".join(CHANGES[change] for change in sending.changes)
    what = f"message “{told}” by {sending.channel}"
    if sending.status == "delivered":
        return [f"✓ {what} delivered", f" at attempt {sending.attempts}" if sending.attempts > 1 else ""]
    if sending.status == "failed":
        text = f"✗ {what} could not be delivered after {sending.attempts} attempts: {sending.last_error}"
        return [html.Span(text, className="bad")]
    again = (
        f", tried {sending.attempts} times ({sending.last_error}); again at {view.clock(sending.next_at, '%H:%M:%S')}"
    )
    return [f"… {what} waits", again if sending.attempts else ""]

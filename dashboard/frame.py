"""What stands around every page: where one can go, time range and zone, light or dark, and how the parts are doing."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import wraps
from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, dcc, html

from dashboard import person
from dashboard.data import Data
from dashboard.live import QUIET_S, Live
from dashboard.parts import age, called
from dashboard.view import SPANS, ZONES, View, parse
from moodwire.store import queries
from moodwire.store.health import StageHealth, stage_health
from moodwire.store.sources import failing_sources, silent_sources

STALE_S = 15.0
THEME = {
    "fontFamily": "Georgia, 'Noto Serif', serif",
    "headings": {"fontFamily": "Georgia, 'Noto Serif', serif"},
    "primaryColor": "dark",
    "defaultRadius": 2,
    "cursorType": "pointer",
}
PAGES = (
    ("Overview", "/"),
    ("Incidents", "/incidents"),
    ("Rules", "/rules"),
    ("Search", "/search"),
    ("Label", "/label"),
    ("Health", "/health"),
)


def in_thread(callback: Callable[..., Any]) -> Callable[..., Any]:
    """A callback that asks the store, run beside the loop that serves all pages."""

    @wraps(callback)
    async def run(*values: Any) -> Any:
        return await asyncio.to_thread(callback, *values)

    return run


def layout(beat: str, path: str | None, search: str | None, page: Any) -> Any:
    """The frame, and in it the page at a path with what stands behind it, where these are known: so the browser asks
    for the page's data at once, and not first for the frame's and the page's parts.
    """
    view = parse(search)
    return dmc.MantineProvider(
        [
            dcc.Location(id="where", refresh="callback-nav", pathname=path, search=search),
            dcc.Store(id="beat", data=beat),
            dcc.Store(id="shown"),
            dcc.Interval(id="quiet", interval=QUIET_S * 1000),
            html.A("To the page", href="#page", className="skip"),
            html.Header(
                [
                    html.Div(dcc.Link("moodwire", href="/"), className="brand"),
                    html.Nav(nav(path or "/", view), id="nav", **called("pages")),
                    html.Div(
                        [
                            dmc.SegmentedControl(
                                id="span", data=[*SPANS], value=_span(view), size="xs", **called("time range")
                            ),
                            dmc.Select(
                                id="zone",
                                data=sorted(ZONES),
                                value=view.zone,
                                searchable=True,
                                allowDeselect=False,
                                size="xs",
                                w=150,
                                limit=60,
                                **called("time zone"),
                            ),
                            dmc.ColorSchemeToggle(
                                id="scheme",
                                lightIcon="☀",
                                darkIcon="☾",
                                variant="default",
                                size="md",
                                **called("light or dark"),
                            ),
                            *logged_in(),
                        ],
                        className="controls",
                    ),
                ]
            ),
            html.Div(between(view), id="between"),
            html.Div(id="trouble", role="alert"),
            html.Div(
                ["No news of the server: what you see is old. ", html.A("Load the page again", href="")],
                id="stale",
                hidden=True,
            ),
            html.Main(page, id="page", tabIndex=-1),
            html.Footer(id="health-line"),
        ],
        theme=THEME,
        defaultColorScheme="auto",
    )


def logged_in() -> list[Any]:
    """Who is looking, where one logs in."""
    who = person.current()
    if not who.name:
        return []
    leave = html.Form(html.Button("log out", type="submit"), action="/logout", method="POST", className="keys small")
    return [html.Span(html.Bdi(who.name), title=f"logged in as {who.role}"), leave]


def register(app: Dash, data: Data, live: Live) -> None:
    # What the reader chooses goes into the address, and what the address says is shown as chosen: a circle that Dash
    # would refuse, so the first half is done in the browser, past Dash.
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("moodwire", "choose"),
        Output("shown", "data", allow_duplicate=True),
        Input("span", "value"),
        Input("zone", "value"),
        prevent_initial_call=True,
    )
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("moodwire", "beaten"), Output("shown", "data"), Input("beat", "data")
    )

    @app.callback(
        Output("span", "value"),
        Output("zone", "value"),
        Output("nav", "children"),
        Output("between", "children"),
        Input("where", "search"),
        Input("where", "pathname"),
        prevent_initial_call=True,
    )
    def chosen(search: str | None, path: str | None) -> Any:
        view = parse(search)
        return _span(view), view.zone, nav(path or "/", view), between(view)

    app.callback(websocket=True, persistent=True)(live.tell)

    @app.callback(Output("beat", "data"), Input("quiet", "n_intervals"), prevent_initial_call=True)
    def quiet(_: int) -> str:
        return live.beat()

    @app.callback(Output("health-line", "children"), Input("beat", "data"))
    @in_thread
    def health(beat: str) -> Any:
        at = datetime.fromisoformat(beat)
        return data.ask(_health, at)


def _span(view: View) -> str:
    """As chosen."""
    return "" if view.between else view.span


def nav(path: str, view: View) -> list[Any]:
    def here(href: str) -> bool:
        return path == href or (href != "/" and path.startswith(href)) or (href == "/" and path.startswith("/series"))

    return [dcc.Link(name, href=href + view.frame, className="on" if here(href) else "") for name, href in PAGES]


def between(view: View) -> Any:
    if view.between is None:
        return None
    usual = View(zone=view.zone, span=view.span).search()
    return html.P([f"Showing {view.name}, {view.zone}. ", dcc.Link("Back to the latest", href=usual or "?")])


def _health(store: Any, at: datetime) -> list[Any]:
    failing = failing_sources(store)
    silent = [each.source for each in silent_sources(store) if each.source not in failing]
    last = queries.last_article(store)
    return health_line(stage_health(store), last, failing, silent, queries.deliveries(store), at)


def health_line(
    stages: Sequence[StageHealth],
    last: datetime | None,
    failing: Sequence[str],
    silent: Sequence[str],
    deliveries: dict[str, int],
    now: datetime,
) -> list[Any]:
    """In plain words: what stands still first."""
    still = [stage.name for stage in stages if (now - stage.beat_at).total_seconds() > STALE_S]
    parts: list[Any] = []
    if not stages:
        parts.append(html.Span("no stage has run yet: start them with `moodwire up`", className="bad"))
    if still:
        parts.append(html.Span(f"not running: {', '.join(still)}", className="bad"))
    if failing:
        parts.append(html.Span(f"feeds failing: {', '.join(failing[:5])}", className="bad"))
    if silent:
        parts.append(html.Span(f"sources silent: {', '.join(silent[:5])}", className="bad"))
    if deliveries.get("failed"):
        parts.append(html.Span(f"{deliveries['failed']} messages could not be delivered", className="bad"))
    alive = [stage.name for stage in stages if stage.name not in still]
    if alive:
        parts.append(f"running: {', '.join(alive)}")
    parts.append(f"behind by {sum(stage.lag for stage in stages)} records")
    parts.append(f"{sum(stage.dead_letters for stage in stages)} dead letters")
    if last is not None:
        parts.append(f"last article {age(now - last)} ago")
    return [item for part in parts for item in (part, " · ")][:-1]

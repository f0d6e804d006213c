"""The dashboard: one server, one frame, a module for each page in pages/.

What pages show comes from moodwire.store, how it looks from figures.py, parts.py and the assets. Other routes (the
export) stand on the same FastAPI application, before the pages'.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import dash
import dash_ag_grid
import plotly
from dash import Dash, Input, Output, State, html, set_props
from dash.fingerprint import build_fingerprint
from starlette.exceptions import HTTPException

from dashboard import export, frame, guard, login, shared
from dashboard.api import app as api
from dashboard.api import problems
from dashboard.data import Data
from dashboard.live import Live
from dashboard.pages import health, incidents, label, overview, rules, search, series, story
from dashboard.parts import empty
from dashboard.view import Asked
from moodwire.errors import MoodwireError
from moodwire.settings import Settings
from moodwire.store.db import Store

log = logging.getLogger("dashboard")
Clock = Callable[[], datetime]
# What a page's own script will ask for is on its way while the script is still being read.
EARLY = "".join(
    f'<link rel="preload" href="/{name}" as="fetch" crossorigin="anonymous">\n'
    for name in ("_dash-layout", "_dash-dependencies")
)
# What Dash would ask for once a figure or a table is to be drawn, by names that are the same in each version. Therefore
# a browser asks again each time, and Chromium then loses what it has compiled of them: seconds, of plotly.
DRAWING = (
    (plotly, "package_data/plotly.min.js"),
    (dash, "dcc/async-graph.js"),
    (dash_ag_grid, "async-community.js"),
)
PAGES = (overview, series, incidents, rules, search, label, health, story)


def build(store: Store, settings: Settings, clock: Clock) -> Dash:
    """The dashboard over a store; `app.server` is its FastAPI application."""
    app = Dash(
        "moodwire",
        backend="fastapi",
        title="moodwire",
        update_title="",
        assets_folder=str(Path(__file__).parent / "assets"),
        external_scripts=[lasting(package, script) for package, script in DRAWING],
        suppress_callback_exceptions=True,  # a page's parts come with the page
        on_error=told,
    )
    app.index_string = app.index_string.replace("<html>", '<html lang="en">').replace("{%css%}", EARLY + "{%css%}")
    data = Data(store, settings, clock)
    live = Live(store, clock)

    @app.callback(
        Output("page", "children"),
        Input("where", "pathname"),
        State("where", "search"),
        State("beat", "data"),
        prevent_initial_call=True,
    )
    @frame.in_thread
    def turn(path: str, search: str | None, beat: str) -> Any:
        return show(Asked(path, search, beat))

    def show(asked: Asked) -> Any:
        for page in PAGES:
            shown = page.layout(asked, data)
            if shown is not None:
                return shown
        return [html.H1("No such page"), empty(f"There is no page {asked.path}. The pages are named above.")]

    def layout() -> Any:
        # It is the page's own script that asks, and a browser says for which page.
        asking = app.backend.request_adapter().headers.get("referer") if app.backend.has_request_context() else None
        if asking is None:  # then the page tells where it is
            return frame.layout(live.first(), None, None, None)
        where = urlsplit(asking)
        asked = Asked(where.path, f"?{where.query}" if where.query else "", live.first())
        return frame.layout(asked.beat, asked.path, asked.search, show(asked))

    app.layout = layout
    frame.register(app, data, live)
    for page in PAGES:
        page.register(app, data)
    app.server.include_router(export.router(data))
    app.server.include_router(login.router(store, settings.dashboard, clock))
    app.server.exception_handler(HTTPException)(problems.refused)  # a path of the API's that no route takes, too
    app.server.mount(api.PREFIX, api.build(data, live))
    # Dash does this at the first request for `/` or one of its own addresses. Without it, a first request for another
    # page, a link that a colleague sent, gets a page without our assets.
    app._setup_server()  # type: ignore[no-untyped-call]
    app.server.add_middleware(shared.Shared, outputs=shared.following(app.callback_map))
    app.server.add_middleware(  # the last one added stands before the others
        guard.Guard,
        store=store,
        settings=settings.dashboard,
        clock=clock,
        policy=guard.policy(app.csp_hashes()),
    )
    return app


def lasting(package: ModuleType, script: str) -> str:
    """The address of a package's script that says which version it is, so that a browser keeps it."""
    (folder,) = package.__path__
    changed = int((Path(folder) / script).stat().st_mtime)
    name = build_fingerprint(script, package.__version__, changed)  # type: ignore[no-untyped-call]
    return f"/_dash-component-suites/{package.__name__}/{name}"


def told(error: Exception) -> None:
    """An error of a callback, where the reader sees it; what was shown before stays."""
    if isinstance(error, MoodwireError):
        set_props("trouble", {"children": f"{error}"})
        return
    log.error("a page could not be made", exc_info=error)
    set_props("trouble", {"children": f"This could not be shown ({error!r}). The dashboard's log tells more."})

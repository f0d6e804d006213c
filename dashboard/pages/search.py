"""Stories by their words, company, topic, source, sentiment and time."""

from datetime import datetime
from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, html

from dashboard.data import Data
from dashboard.frame import in_thread
from dashboard.pages.series import known_series
from dashboard.parts import called, download, empty, limit_of, long_stories_grid, story_rows
from dashboard.view import Asked, View, parse, pretty
from moodwire.store.find import LABELS, find, match_of

FIELDS = ("words", "series", "source", "label")


def layout(asked: Asked, data: Data) -> Any:
    if asked.path != "/search":
        return None
    return [
        html.H1("Search"),
        html.Div(
            [
                dmc.TextInput(
                    id="find-words",
                    placeholder='words, "a phrase", -without',
                    debounce=250,
                    style={"flex": "2 1 300px"},
                    **called("words in title or text"),
                ),
                choice("find-series", "any topic, company or group"),
                choice("find-source", "any source"),
                dmc.SegmentedControl(
                    id="find-label",
                    data=[{"value": "any", "label": "any mood"}, *LABELS],
                    value="any",
                    size="sm",
                    **called("sentiment"),
                ),
            ],
            className="choices",
        ),
        html.P(empty("Loading …"), id="find-note", className="note"),
        long_stories_grid("find-stories", 640),
    ]


def choice(id_: str, text: str) -> Any:
    return dmc.Select(
        id=id_,
        data=[],
        placeholder=text,
        searchable=True,
        clearable=True,
        limit=80,
        style={"flex": "1 1 200px"},
        **called(text),
    )


def register(app: Dash, data: Data) -> None:
    # The fields and the address follow each other in the browser, so that typing is never overtaken by an answer.
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("moodwire", "look"),
        Output("shown", "data", allow_duplicate=True),
        *(Input(f"find-{name}", "value") for name in FIELDS),
        prevent_initial_call=True,
    )
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("moodwire", "asked"),
        *(Output(f"find-{name}", "value") for name in FIELDS),
        Input("where", "search"),
    )

    @app.callback(
        Output("find-series", "data"),
        Output("find-source", "data"),
        Input("where", "search"),
        State("beat", "data"),
    )
    @in_thread
    def choices(search: str | None, beat: str) -> Any:
        view, now = parse(search), datetime.fromisoformat(beat)
        options = [option for option in known_series(data, now, view) if option["value"] != "all"]
        if view.series and view.series not in {option["value"] for option in options}:
            options.append({"value": view.series, "label": pretty(view.series, data.names)})
        return options, data.sources(now)

    @app.callback(
        Output("find-stories", "rowData"),
        Output("find-note", "children"),
        Input("beat", "data"),
        Input("where", "search"),
        Input("find-stories", "eventData"),
    )
    @in_thread
    def found(beat: str, search: str | None, end_seen: dict[str, Any] | None) -> Any:
        view, now = parse(search), datetime.fromisoformat(beat)
        begin, end = view.times(now)
        limit = limit_of(end_seen, search)
        frame = data.ask_at(now, find, view.filter, begin, end if view.between else None, limit)
        return story_rows(frame, view, now), note(view, len(frame), len(frame) == limit)


def note(view: View, count: int, more: bool) -> Any:
    if view.words and not match_of(view.words):
        return "Nothing to look for: write a word, and leave out with - only beside others."
    if not count:
        return f"No story fits, {view.name}. Choose a longer time above, or fewer words."
    many = f"The newest {count} stories" if more else "One story" if count == 1 else f"{count} stories"
    return [f"{many}, {view.name} · ", download("stories", view.search())]

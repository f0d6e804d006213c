"""Correcting the model: one story at a time, one key each; kept with who and when, for training."""

from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update

from dashboard import person
from dashboard.data import Data
from dashboard.frame import in_thread
from dashboard.parts import called, download, empty, external, grid, heading, your_name
from dashboard.view import Asked, View, parse
from moodwire.labels import SENTIMENTS, TOPIC_NAMES
from moodwire.store import labels
from moodwire.store.labels import Correction, sentiment_of

WITHIN = timedelta(days=7)
QUEUE = 40  # stories taken at once
RECENT = 100
EXCERPT = 900  # characters of a body
WHO = 60  # characters of a name
TOPIC_KEYS = dict(zip("abcdefghijklmnopqrstuvwxyz", TOPIC_NAMES, strict=False))
COLUMNS = [
    {"field": "clock", "headerName": "When", "width": 118},
    {"field": "who", "headerName": "Who", "width": 110},
    {"field": "said", "headerName": "Label", "width": 210},
    {"field": "title", "headerName": "Story", "cellRenderer": "Text", "flex": 1, "minWidth": 220},
]


def layout(asked: Asked, data: Data) -> Any:
    if asked.path != "/label":
        return None
    return [
        html.H1("Label"),
        html.P(
            "Recent stories, those first of which the model is least sure. What you say is kept for training; past "
            "series do not change by it.",
            className="note",
        ),
        dcc.Store(id="queue"),
        dcc.Store(id="done", data=[]),
        html.Div(
            [
                html.Section(
                    [
                        html.Div(empty("Loading …"), id="to-label", role="status"),
                        html.Div(
                            [
                                button("1", "sentiment", "negative", "− negative"),
                                button("2", "sentiment", "neutral", "0 neutral"),
                                button("3", "sentiment", "positive", "+ positive"),
                            ],
                            className="keys",
                            role="group",
                            **called("its sentiment"),
                        ),
                        html.Div(
                            [button(key, "topic", topic, TOPIC_NAMES[topic]) for key, topic in TOPIC_KEYS.items()],
                            className="keys small",
                            role="group",
                            **called("its topic"),
                        ),
                        html.Div(
                            [
                                button("Enter", "do", "agree", "the model is right"),
                                button("→", "do", "skip", "leave it, next"),
                                button("⌫", "do", "undo", "take the last back"),
                            ],
                            className="keys",
                        ),
                        your_name("Your name, kept with each label", 280),
                        html.Div(id="label-note", role="status", className="note"),
                    ]
                ),
                html.Section(
                    [
                        heading(
                            "Labels given",
                            ["the last word on each · ", download("labels", "", "all with their texts")],
                        ),
                        grid("labels", COLUMNS, 460, label="labels given", none="No label so far."),
                    ]
                ),
            ],
            id="label-page",
            className="columns",
        ),
    ]


def button(key: str, head: str, label: str, text: str) -> Any:
    pressed: dict[str, Any] = {"data-key": {"→": "ArrowRight", "⌫": "Backspace"}.get(key, key)}
    return html.Button(
        [html.Kbd(key), f" {text}"],
        id={"type": "as", "head": head, "label": label},
        n_clicks=0,
        **pressed,
    )


def register(app: Dash, data: Data) -> None:
    @app.callback(
        Output("queue", "data"),
        Output("done", "data"),
        Output("label-note", "children"),
        Input({"type": "as", "head": ALL, "label": ALL}, "n_clicks"),
        State("queue", "data"),
        State("done", "data"),
        State("who", "value"),
        State("beat", "data"),
    )
    @in_thread
    def pressed(_: list[int], queue: list[dict[str, Any]] | None, done: list[Any], who: str | None, beat: str) -> Any:
        now = data.clock()
        if queue is None:
            return waiting(data, now), done, no_update
        what = ctx.triggered_id
        if what is None or not any(click["value"] for click in ctx.triggered):
            return no_update, no_update, no_update
        if not person.may("analyst"):
            return no_update, no_update, person.REFUSED
        return act(data, what["head"], what["label"], queue, done, person.name_or(who)[:WHO], now)

    @app.callback(Output("to-label", "children"), Input("queue", "data"), Input("where", "search"))
    def shows(queue: list[dict[str, Any]] | None, search: str | None) -> Any:
        if queue is None:
            return no_update
        if not queue:
            return empty(f"Every story of the last {WITHIN.days} days has a label.")
        return story(queue[0], parse(search))

    @app.callback(Output("labels", "rowData"), Input("beat", "data"), Input("done", "data"), Input("where", "search"))
    @in_thread
    def given(beat: str, done: list[Any], search: str | None) -> Any:
        view = parse(search)
        frame = labels.corrections(data.store, None, None, None, RECENT)
        return [
            {
                "key": f"{row.id} {row.revision} {row.head}",
                "clock": view.clock(row.at),
                "who": row.who,
                "said": row.label if row.label == row.was else f"{row.label}, not {row.was}",
                "title": row.title,
            }
            for row in frame.itertuples()
        ]


def waiting(data: Data, now: datetime) -> list[dict[str, Any]]:
    """Stories to label, as the page holds them."""
    return [
        {
            "id": row.id,
            "revision": int(row.revision),
            "model": row.model,
            "sentiment": sentiment_of(row),
            "topic": row.topic,
            "p": [row.p_negative, row.p_neutral, row.p_positive],
            "title": row.title,
            "url": row.url,
            "body": data.shown(row.body, row.source)[:EXCERPT],
            "source": row.source,
            "at": pd.Timestamp(row.published_at).isoformat(),
        }
        for row in labels.to_label(data.store, now, WITHIN, QUEUE).itertuples()
    ]


def act(
    data: Data, head: str, label: str, queue: list[dict[str, Any]], done: list[Any], who: str, now: datetime
) -> tuple[Any, Any, Any]:
    """What a button does: the queue, what was done (number and story of each) and what is told, anew."""
    if label == "undo":
        if not done:
            return no_update, no_update, "There is nothing of yours to take back."
        *earlier, (numbers, before) = done
        for number in numbers:
            labels.take_back(data.store, number, who, now)
        back = queue if queue and queue[0]["id"] == before["id"] else [before, *queue]
        return back, earlier, "Taken back."
    if not queue:
        return waiting(data, now), done, "Every story has a label."
    item, *others = queue
    if label == "skip":
        return others or waiting(data, now), done, "Left as it is."
    if not who:
        return no_update, no_update, "Write your name first: it is kept with each label."
    said = {"sentiment": item["sentiment"], "topic": item["topic"]} if label == "agree" else {head: label}
    numbers = [
        labels.correct(
            data.store,
            Correction(item["id"], item["revision"], of, value, item[of], item["model"], who, now),  # type: ignore[arg-type]
        )
        for of, value in said.items()
        if value
    ]
    told = " and ".join(f"{of} {value}" for of, value in said.items() if value)
    if head == "topic":  # its sentiment may be wrong too
        return queue, [*done, (numbers, item)], f"Kept: {told}. Now its sentiment?"
    return others or waiting(data, now), [*done, (numbers, item)], f"Kept: {told}, for “{item['title'][:60]}”."


def story(item: dict[str, Any], view: View) -> list[Any]:
    at = datetime.fromisoformat(item["at"])
    chances = ", ".join(f"{name} {p:.0%}" for name, p in zip(SENTIMENTS, item["p"], strict=True))
    topic = TOPIC_NAMES.get(item["topic"], item["topic"]) or "none"
    return [
        html.H2([external(item["title"], item["url"])], className="to-label"),
        html.P(f"{item['source']}, {view.clock(at)}", className="note"),
        html.P(html.Bdi(item["body"]), className="excerpt") if item["body"] else None,
        html.P(["The model says ", html.B(item["sentiment"]), f" ({chances}); topic ", html.B(topic), "."]),
    ]

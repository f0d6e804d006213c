"""One article: what the classifier made of it, and which words moved its score."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
from dash import Dash, Input, Output, State, dcc, html, no_update

from dashboard import person
from dashboard.data import Data
from dashboard.frame import in_thread
from dashboard.parts import empty, external, figure, heading, number, series_link, signed
from dashboard.view import Asked, View, parse
from moodwire import answers, tables
from moodwire.labels import SENTIMENTS, TOPIC_NAMES
from moodwire.records import Scored
from moodwire.store.commands import Explain, give_once, progress
from moodwire.store.watching import scored_of
from moodwire.words import Explanation, Word, whole

PREFIX = "/story/"
WAITS = "Asked; it waits for the classifier (is the stage `classifier` running?)."


class Part(NamedTuple):
    """A piece of a text, and what it did to the score, if it is a word that did something."""

    text: str
    moved: float | None


def layout(asked: Asked, data: Data) -> Any:
    if not asked.path.startswith(PREFIX):
        return None
    return [
        html.Div(empty("Loading …"), id="story-top"),
        heading("Why this score?", "each word is left out in turn, and the text is scored without it"),
        html.Div(html.Button("which words moved it?", id="story-ask", n_clicks=0), className="keys"),
        html.Div(id="story-why", role="status"),
        dcc.Store(id="story-asked"),
    ]


def register(app: Dash, data: Data) -> None:
    @app.callback(Output("story-top", "children"), Input("where", "search"), State("where", "pathname"))
    @in_thread
    def top(search: str | None, path: str | None) -> Any:
        rows = article(data, path)
        if not rows:
            return empty("There is no such article. The search finds those that there are.")
        scored = scored_of(data.store, rows[0]["id"], rows[0]["revision"])
        return told(rows, scored, data, parse(search))

    @app.callback(
        Output("story-asked", "data"),
        Input("story-ask", "n_clicks"),
        State("where", "pathname"),
        prevent_initial_call=True,
    )
    @in_thread
    def ask(_: int, path: str | None) -> Any:
        rows = article(data, path)
        if not rows:
            return no_update
        if not person.may("analyst"):
            return {"fault": person.REFUSED}
        command = Explain(id=rows[0]["id"], revision=rows[0]["revision"])
        by = person.current().name or "local"
        return {"seq": give_once(data.store, "classifier", command, by, data.clock())}

    @app.callback(
        Output("story-why", "children"),
        Input("story-asked", "data"),
        Input("beat", "data"),
        State("where", "pathname"),
    )
    @in_thread
    def why(asked: dict[str, Any] | None, beat: str, path: str | None) -> Any:
        if asked is None:
            return None
        if "fault" in asked:
            return html.Span(asked["fault"], className="bad")
        is_done, result = progress(data.store, asked["seq"])
        if not is_done:
            return WAITS
        rows = article(data, path)
        try:
            found = msgspec.json.decode(result, type=Explanation)
        except msgspec.MsgspecError:
            return result
        return explained(found, rows[0]["title"], rows[0]["text"]) if rows else no_update


def article(data: Data, path: str | None) -> list[dict[str, Any]]:
    """Its revisions; of its text what may be shown."""
    name = unquote((path or "").removeprefix(PREFIX))
    return tables.rows_of(answers.article(data.store, name, data.displays))


def told(rows: Sequence[dict[str, Any]], scored: Scored | None, data: Data, view: View) -> list[Any]:
    first = rows[0]
    seen: datetime = first["seen_at"]
    parts: list[Any] = [
        html.H1(external(first["title"], first["url"])),
        html.P(
            [html.Bdi(first["source"]), f", {view.clock(first['published_at'])}; first had {view.clock(seen)}"],
            className="note",
        ),
    ]
    if len(rows) > 1:
        parts.append(html.P(f"Edited {len(rows) - 1} times since; it counts as it was first.", className="note"))
    if scored is None:
        return [*parts, empty("It has not been scored yet.")]
    mood = scored.sentiment
    chances = ", ".join(
        f"{name} {p:.0%}" for name, p in zip(SENTIMENTS, (mood.negative, mood.neutral, mood.positive), strict=True)
    )
    topics = ", ".join(f"{TOPIC_NAMES.get(topic.name, topic.name)} {topic.p:.0%}" for topic in scored.topics[:3])
    return [
        *parts,
        html.Div(
            [
                number(signed(mood.score), chances),
            ],
            className="lead",
        ),
        html.P(f"Topics: {topics or 'none'}", className="note"),
        html.Ul(
            [
                html.Li([series_link(series.name, data.names, view), " ", signed(series.score_e4 / 1e4)])
                for series in scored.series
            ],
            className="marks",
        ),
        html.P(html.Bdi(first["text"]), className="excerpt") if first["text"] else None,
        html.P(f"Scored by {scored.model}.", className="note"),
    ]


def explained(found: Explanation, title: str, text: str) -> list[Any]:
    """The words in their places, as far as the text may be shown; then the strongest."""
    read = whole(title, text)
    words = [word for word in found.words if read[word.start : word.end] == word.text]
    strongest = sorted(words, key=lambda word: -abs(word.moved))[:8]
    more = "" if len(read) <= found.looked_at else " Only the beginning was looked at."
    return [
        html.P([marked(part) for part in parts_of(read[: found.looked_at], words)], className="excerpt"),
        html.P(
            ["Strongest:", *(bit for word in strongest for bit in (" ", html.Bdi(word.text), f" {figure(word.moved)}"))]
            if strongest
            else "No single word moved the score.",
        ),
        html.P(
            f"The whole has {figure(found.score)}; a word's figure is what it adds to that. Words act together, so the "
            f"figures do not add up.{more}",
            className="note",
        ),
    ]


def parts_of(text: str, words: Sequence[Word]) -> list[Part]:
    """The whole text in pieces, in order."""
    parts, at = [], 0
    for word in sorted(words, key=lambda word: word.start):
        if word.start < at or word.end > len(text):
            continue
        parts += [Part(text[at : word.start], None), Part(text[word.start : word.end], word.moved)]
        at = word.end
    return [part for part in (*parts, Part(text[at:], None)) if part.text]


def marked(part: Part) -> Any:
    if part.moved is None:
        return html.Bdi(part.text)
    kind = "good" if part.moved > 0 else "bad"
    return html.Span([html.Bdi(part.text), html.Sup(figure(part.moved))], className=f"moved {kind}")

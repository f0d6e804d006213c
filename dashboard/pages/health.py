"""How the parts are doing: what stands still or fails first, then the feeds, then the model."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from dash import Dash, Input, Output, html

from dashboard import figures
from dashboard.data import Data
from dashboard.frame import STALE_S, in_thread
from dashboard.parts import age, empty, graph, grid, heading, moment
from dashboard.view import Asked, View, parse
from moodwire.records import floor_time
from moodwire.settings import Settings
from moodwire.store import queries, watching
from moodwire.store.health import StageHealth, stage_health
from moodwire.store.watching import SCORE_BINS

MOVED, DRIFTED = 0.1, 0.25  # of the population stability index, as is usual
COMPARED = timedelta(days=14)
ENOUGH = 50  # scores, to speak of a distribution
FEED_COLUMNS = [
    {"field": "name", "headerName": "Source", "width": 190, "filter": True, "floatingFilter": True},
    {"field": "state", "headerName": "State", "cellRenderer": "Health", "width": 120},
    {"field": "silent", "headerName": "Silent for", "cellRenderer": "Lasted", "width": 104, "sort": "desc"},
    {"field": "daily", "headerName": "Articles a day", "width": 122, "type": "rightAligned"},
    {"field": "items", "headerName": "Fetched", "width": 96, "type": "rightAligned"},
    {"field": "success", "headerName": "Last success", "width": 112},
    {"field": "next", "headerName": "Next", "width": 92},
    {"field": "error", "headerName": "What is wrong", "flex": 1, "minWidth": 260, "tooltipField": "error"},
]


def layout(asked: Asked, data: Data) -> Any:
    if asked.path != "/health":
        return None
    return [
        html.H1("Health"),
        html.Div(empty("Loading …"), id="stages", className="scrolled", tabIndex=0),
        html.Div(id="messages"),
        heading("Sources", "those first of which nothing came for longest"),
        grid("feeds", FEED_COLUMNS, 340, label="sources"),
        html.Div(
            [
                html.Section(
                    [
                        heading("The model's scores", "bars: the last day; dotted: the two weeks before"),
                        graph("drift", "how the scores of the last day are spread, against the two weeks before", 200),
                    ]
                ),
                html.Section([heading("Model"), html.Div(id="model")]),
            ],
            className="columns",
        ),
    ]


def register(app: Dash, data: Data) -> None:
    @app.callback(
        Output("stages", "children"),
        Output("messages", "children"),
        Output("feeds", "rowData"),
        Input("beat", "data"),
        Input("where", "search"),
    )
    @in_thread
    def parts(beat: str, search: str | None) -> Any:
        now, view = datetime.fromisoformat(beat), parse(search)
        came = data.ask(watching.supply, floor_time(now, 10))
        rows = feed_rows(data.ask_at(now, queries.feeds), came, data.settings, view, now)
        sent = messages(data.ask_at(now, queries.deliveries))
        return stage_table(data.ask_at(now, stage_health), now), sent, rows

    @app.callback(Output("drift", "figure"), Output("model", "children"), Input("beat", "data"))
    @in_thread
    def model(beat: str) -> Any:
        now = floor_time(datetime.fromisoformat(beat), 600)  # a distribution needs no second's news
        day = data.ask(watching.score_shares, now - timedelta(days=1), now + timedelta(minutes=10))
        before = data.ask(watching.score_shares, now - timedelta(days=1) - COMPARED, now - timedelta(days=1))
        return figures.shares(shares(day), shares(before)), model_note(day, before)


def stage_table(stages: Sequence[StageHealth], now: datetime) -> Any:
    if not stages:
        return empty("No stage has run yet. Start them with `moodwire up`.")
    heads = ("Stage", "State", "Behind by", "Handled", "A second", "Dead letters", "Memory", "Runs for", "Note")
    ordered = sorted(stages, key=lambda stage: (now - stage.beat_at).total_seconds() <= STALE_S)
    return html.Table(
        [
            html.Thead(html.Tr([html.Th(head, scope="col", className=figure_cell(head)) for head in heads])),
            html.Tbody([html.Tr(cells(stage, now)) for stage in ordered]),
        ],
        className="plain",
    )


def figure_cell(head: str) -> str:
    return "figure-cell" if head in {"Behind by", "Handled", "A second", "Memory", "Runs for"} else ""


def cells(stage: StageHealth, now: datetime) -> list[Any]:
    silent = now - stage.beat_at
    ran = max((stage.beat_at - stage.started_at).total_seconds(), 1.0)
    still = silent.total_seconds() > STALE_S
    state = f"✗ silent for {age(silent)}" if still else "✓ runs"
    dead = f"{stage.dead_letters}, see `moodwire dead-letters list`" if stage.dead_letters else "0"
    return [
        html.Th(stage.name, scope="row"),
        html.Td(state, className="bad" if still else ""),
        html.Td(f"{stage.lag:,}", className="figure-cell"),
        html.Td(f"{stage.processed:,}", className="figure-cell"),
        html.Td(f"{stage.processed / ran:,.1f}", className="figure-cell"),
        html.Td(dead, className="bad" if stage.dead_letters else ""),
        html.Td(f"{stage.memory_mb:,} MB", className="figure-cell"),
        html.Td(age(stage.beat_at - stage.started_at), className="figure-cell"),
        html.Td(stage.note),
    ]


def messages(deliveries: dict[str, int]) -> Any:
    if not deliveries:
        return html.P("No message has been sent so far.", className="note")
    parts: list[Any] = [
        f"Messages: {deliveries.get('delivered', 0)} delivered, {deliveries.get('waiting', 0)} waiting, "
    ]
    failed = deliveries.get("failed", 0)
    parts.append(
        html.Span(
            f"{failed} failed" + (": see the incident's page" if failed else ""), className="bad" if failed else ""
        )
    )
    return html.P(parts, className="note")


def feed_rows(
    feeds: pd.DataFrame, came: dict[str, tuple[int, datetime]], settings: Settings, view: View, now: datetime
) -> list[dict[str, Any]]:
    """A row a source, also where it is configured and was never fetched."""
    rows = []
    for row in feeds.itertuples():
        daily, last = came.get(row.source, (0, None))
        silent = now - last if last else None
        quiet = bool(row.silence)
        rows.append(
            {
                "key": row.source,
                "name": row.source,
                "state": f"✗ failed {row.failures}×" if row.failures else "✗ silent" if quiet else "✓ fetched",
                "bad": bool(row.failures or quiet),
                "silent": silent.total_seconds() if silent is not None else 1e12,
                "say": age(silent) if silent is not None else "ever",
                "daily": daily,
                "items": row.items,
                "success": view.clock(row.success_at, "%d %b %H:%M") if moment(row.success_at) else "never",
                "next": view.clock(row.next_at, "%H:%M:%S") if moment(row.next_at) else "–",
                "error": row.error if row.failures else row.silence,
            }
        )
    known = {row["key"] for row in rows}
    for source in settings.sources:
        if source.name not in known:
            rows.append(
                {
                    "key": source.name,
                    "name": source.name,
                    "state": "… not yet",
                    "bad": False,
                    "silent": 1e12,
                    "say": "ever",
                    "daily": 0,
                    "items": 0,
                    "success": "never",
                    "next": "–",
                    "error": "",
                }
            )
    return rows


def shares(counts: pd.DataFrame) -> list[float]:
    """The parts of all scores in each bin; nothing where there are none."""
    by_bin = np.bincount(counts["bin"].astype(int), weights=counts["count"].astype(float), minlength=SCORE_BINS)
    total = by_bin.sum()
    return [float(value) for value in by_bin / total] if total else [0.0] * SCORE_BINS


def stability(now: Sequence[float], before: Sequence[float]) -> float:
    """The population stability index of two distributions over the same bins: 0 where they are equal."""
    one, other = np.maximum(now, 1e-3), np.maximum(before, 1e-3)
    return float(np.sum((one - other) * np.log(one / other)))


def model_note(day: pd.DataFrame, before: pd.DataFrame) -> Any:
    counts = day.groupby("model")["count"].sum()
    lines = [html.Li([html.Code(name), f": {count:,} articles in the last day"]) for name, count in counts.items()]
    if not lines:
        lines = [html.Li("Nothing was scored in the last day.")]
    few = min(day["count"].sum(), before["count"].sum())
    if few < ENOUGH:
        lines.append(html.Li(f"Too few scores ({few}) to say whether they have shifted."))
    else:
        index = stability(shares(day), shares(before))
        word = "much the same" if index < MOVED else "shifted a little" if index < DRIFTED else "shifted: look at them"
        lines.append(
            html.Li(
                f"The scores have {'stayed ' if index < MOVED else ''}{word} (stability index "
                f"{index:.2f}; {MOVED} is a shift, {DRIFTED} a large one)."
            )
        )
    return html.Ul(lines, className="marks")

"""The pages. What they show comes from moodwire.store.queries, how it looks from figures.py and the assets."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import dash_ag_grid as dag
import pandas as pd
from dash import Dash, Input, Output, State, dcc, html, no_update

from dashboard import figures
from moodwire.records import Alert
from moodwire.settings import Settings
from moodwire.store import queries
from moodwire.store.db import Store
from moodwire.store.health import StageHealth, stage_health

SPANS = {"1h": (1, 60), "6h": (6, 300), "24h": (24, 900), "7d": (168, 7200), "14d": (336, 14_400)}  # hours, s a point
DEFAULT_SPAN = "24h"
REFRESH_MS = 2000
STALE_S = 15.0
STORIES = 60
Clock = Callable[[], datetime]


def build(store: Store, settings: Settings, clock: Clock) -> Dash:
    """The dashboard over a store; `app.server` is its FastAPI application."""
    app = Dash(
        "moodwire",
        backend="fastapi",
        title="moodwire",
        update_title="",
        assets_folder=str(Path(__file__).parent / "assets"),
        suppress_callback_exceptions=True,  # a page's parts come with the page
    )
    app.layout = html.Div(
        [
            dcc.Location(id="where"),
            dcc.Interval(id="beat", interval=REFRESH_MS),
            html.Header(
                [
                    html.H1(dcc.Link("moodwire", href="/")),
                    html.Nav([dcc.Link("Overview", href="/"), dcc.Link("Alerts", href="/alerts")]),
                    html.Div(id="spans", className="spans", role="group"),
                ]
            ),
            html.Main(id="page"),
            html.Footer(id="health"),
        ]
    )
    names = {company.symbol: company.name for company in settings.watchlist.companies}

    @app.callback(
        Output("page", "children"), Output("spans", "children"), Input("where", "pathname"), Input("where", "search")
    )
    def show(path: str | None, search: str | None) -> Any:
        path, span = path or "/", span_of(search)
        links = [dcc.Link(name, href=f"{path}?span={name}", className="on" if name == span else "") for name in SPANS]
        if path.startswith("/series/"):
            return series_page(unquote(path.removeprefix("/series/")), names), links
        if path == "/alerts":
            return alerts_page(), links
        return overview_page(), links

    @app.callback(Output("health", "children"), Input("beat", "n_intervals"))
    def health(_: int) -> Any:
        feeds = queries.feeds(store)
        failing = [row.source for row in feeds.itertuples() if row.failures]
        return health_line(
            stage_health(store), queries.last_article(store), failing, queries.deliveries(store), clock()
        )

    @app.callback(
        Output("now", "children"),
        Output("firing", "children"),
        Output("mood", "figure"),
        Output("series", "rowData"),
        Output("heat", "figure"),
        Output("stories", "rowData"),
        Input("beat", "n_intervals"),
        Input("where", "search"),
        State("where", "pathname"),
    )
    def overview(_: int, search: str | None, path: str | None) -> Any:
        if path not in {"/", None}:
            return [no_update] * 6
        hours, freq_s = SPANS[span_of(search)]
        now = clock()
        span = timedelta(hours=hours)
        table = queries.overview(store, now, span)
        return (
            lead(table, span_of(search)),
            [alert_card(alert, names) for alert in queries.open_incidents(store)],
            figures.mood(queries.mood(store, "all", now - span, now, freq_s), f"all{hours}"),
            series_rows(table, names),
            heat_of(table, now, span),
            story_rows(queries.stories(store, limit=STORIES)),
        )

    @app.callback(
        Output("one-mood", "figure"),
        Output("one-now", "children"),
        Output("one-stories", "rowData"),
        Input("beat", "n_intervals"),
        Input("where", "search"),
        Input("where", "pathname"),
    )
    def one(_: int, search: str | None, path: str | None) -> Any:
        if not (path or "").startswith("/series/"):
            return [no_update] * 3
        name = unquote((path or "").removeprefix("/series/"))
        hours, freq_s = SPANS[span_of(search)]
        now = clock()
        begin = now - timedelta(hours=hours)
        frame = queries.mood(store, name, begin, now, freq_s)
        found = queries.alert_records(store, name, begin, now)
        firing = [pd.Timestamp(alert.at) for alert in found if alert.state == "firing"]
        return (
            figures.mood(frame, f"{name}{hours}", firing),
            totals(frame),
            story_rows(queries.stories(store, name, begin, None, limit=500)),
        )

    @app.callback(Output("alerts", "children"), Input("beat", "n_intervals"), State("where", "pathname"))
    def all_alerts(_: int, path: str | None) -> Any:
        if path != "/alerts":
            return no_update
        return alert_list(queries.alert_records(store, limit=200), names)

    return app


def span_of(search: str | None) -> str:
    found = parse_qs((search or "").lstrip("?")).get("span", [DEFAULT_SPAN])[0]
    return found if found in SPANS else DEFAULT_SPAN


def overview_page() -> list[Any]:
    return [
        html.Div(id="now", className="lead"),
        html.Div(id="firing"),
        html.Div(
            [
                html.Section(
                    [
                        heading("All news", "score and stories"),
                        graph("mood"),
                        heading("Topics over time", "mean score"),
                        graph("heat"),
                    ]
                ),
                html.Section(
                    [
                        heading("Series", "click a column to sort, a name to look closer"),
                        grid("series", SERIES_COLUMNS, 330),
                        heading("Newest stories", "live"),
                        grid("stories", STORY_COLUMNS, 420),
                    ]
                ),
            ],
            className="columns",
        ),
    ]


def series_page(name: str, names: dict[str, str]) -> list[Any]:
    return [
        html.Div([html.Div(pretty(name, names), className="number"), html.Div(id="one-now")], className="lead"),
        graph("one-mood"),
        heading("Its stories", "newest first"),
        grid("one-stories", STORY_COLUMNS, 520),
    ]


def alerts_page() -> list[Any]:
    return [heading("Alerts", "newest first"), html.Div(id="alerts")]


SERIES_COLUMNS = [
    {"field": "name", "headerName": "Series", "cellRenderer": "SeriesLink", "flex": 2, "minWidth": 130, "filter": True},
    {"field": "score", "headerName": "Score", "cellRenderer": "Score", "width": 82},
    {"field": "change", "headerName": "Change", "cellRenderer": "Score", "width": 90},
    {"field": "stories", "headerName": "Stories", "width": 104, "sort": "desc"},
    {"field": "negative", "headerName": "Negative", "width": 104},
    {"field": "trend", "headerName": "Course", "cellRenderer": "Spark", "width": 124, "sortable": False},
]
STORY_COLUMNS = [
    {"field": "time", "headerName": "UTC", "width": 138},
    {"field": "score", "headerName": "Score", "cellRenderer": "Score", "width": 78},
    {"field": "title", "headerName": "Story", "cellRenderer": "Original", "flex": 1, "minWidth": 240},
    {"field": "topic", "headerName": "Topic", "width": 138},
    {"field": "about", "headerName": "About", "width": 90},
    {"field": "copies", "headerName": "Copies", "width": 80},
    {"field": "source", "headerName": "Source", "width": 130},
]


def grid(id_: str, columns: Sequence[dict[str, Any]], height: int) -> Any:
    return dag.AgGrid(
        id=id_,
        columnDefs=list(columns),
        rowData=[],
        defaultColDef={"sortable": True, "resizable": True},
        dashGridOptions={
            "rowHeight": 28,
            "headerHeight": 30,
            "animateRows": False,
            "suppressCellFocus": False,
            "theme": {"function": "moodwireTheme(agGrid)"},
        },
        getRowId="params.data.key",
        style={"height": height},
    )


def graph(id_: str) -> Any:
    # No height of its own: the figure has one.
    return dcc.Graph(id=id_, config={"displaylogo": False, "displayModeBar": False}, style={"height": "auto"})


def heading(text: str, note: str) -> Any:
    return html.H2([text, html.Small(note)])


def lead(table: pd.DataFrame, span: str) -> list[Any]:
    row = table[table["series"] == "all"]
    if row.empty:
        return [
            html.Div(
                f"No stories in the last {span}. Choose a longer span above, or look at `moodwire status`.",
                className="empty",
            )
        ]
    first = row.iloc[0]
    return [
        html.Div([signed(first["score"]), html.Small(f"mood of all news, last {span}")], className="number"),
        html.Div([signed(first["change"]), html.Small(f"against the {span} before")], className="number"),
        html.Div([f"{first['stories']:,}", html.Small(f"stories, {first['negative']:,} negative")], className="number"),
    ]


def totals(frame: pd.DataFrame) -> Any:
    stories = int(frame["stories"].sum())
    if not stories:
        return html.Span("no stories in this span: choose a longer one above", className="empty")
    score = frame["score_sum_e4"].sum() / stories / 1e4
    return html.Div(
        [signed(score), html.Small(f"{stories:,} stories, {int(frame['negative'].sum()):,} negative")],
        className="number",
    )


def signed(value: float) -> Any:
    if value != value:
        return html.Span("–", className="faint")
    kind = "good" if value > 0.05 else "bad" if value < -0.05 else "even"
    return html.Span(figure(value), className=kind)


def figure(score: float) -> str:
    return f"{score:+.2f}".replace("-", "−")


def alert_card(alert: Alert, names: dict[str, str]) -> Any:
    stories = [
        html.Li(
            [external(story.title, story.url), html.Span(f" {story.source}, {figure(story.score)}", className="faint")]
        )
        for story in alert.evidence
    ]
    mark = "▲ " if alert.state == "firing" else "✓ "
    link = dcc.Link(pretty(alert.series, names), href=f"/series/{quote(alert.series, safe='')}")
    return html.Article(
        [
            html.H3([mark, link, f": {alert.state}"]),
            html.P(f"{alert.at:%Y-%m-%d %H:%M:%S} UTC, rule {alert.rule}: {alert.reason}"),
            html.Ol(stories) if stories else None,
        ],
        className=f"incident {alert.state}",
    )


def alert_list(found: Sequence[Alert], names: dict[str, str]) -> list[Any]:
    if not found:
        return [html.Div("No alarm so far. Rules stand in moodwire.toml under [[rules]].", className="empty")]
    return [alert_card(alert, names) for alert in found]


def external(title: str, url: str) -> Any:
    if not url.startswith(("http://", "https://")):
        return html.Span(title)
    return html.A(title, href=url, target="_blank", rel="noopener noreferrer")


def pretty(series: str, names: dict[str, str]) -> str:
    kind, _, name = series.partition(":")
    if kind == "entity":
        return f"{name} · {names[name]}" if name in names else name
    return {"topic": name.replace("-", " "), "group": f"group {name}"}.get(kind, "All news")


def series_rows(table: pd.DataFrame, names: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "key": row.series,
            "series": row.series,
            "name": pretty(row.series, names),
            "score": number(row.score),
            "change": number(row.change),
            "stories": row.stories,
            "negative": row.negative,
            "trend": figures.sparkline(row.trend),
        }
        for row in table.itertuples()
    ]


def story_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "key": row.story_id,
            "time": f"{row.published_at:%d %b %H:%M:%S}",
            "score": number(row.score),
            "title": row.title,
            "url": row.url,
            "topic": row.topic.replace("-", " "),
            "about": ", ".join(entity["symbol"] for entity in row.entities),
            "copies": row.copies,
            "source": row.source,
        }
        for row in frame.itertuples()
    ]


def heat_of(table: pd.DataFrame, now: datetime, span: timedelta) -> Any:
    topics = table[table["series"].str.startswith("topic:")].sort_values("stories", ascending=False)
    rows = [(row.series.removeprefix("topic:").replace("-", " "), row.trend) for row in topics.itertuples()]
    bins = len(rows[0][1]) if rows else 0
    times = [pd.Timestamp(now - span + span * (at + 0.5) / bins) for at in range(bins)]
    return figures.heat(rows, times)


def number(value: float) -> float | None:
    return None if value != value else round(float(value), 4)


def health_line(
    stages: Sequence[StageHealth],
    last: datetime | None,
    failing: Sequence[str],
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


def age(delta: timedelta) -> str:
    seconds = max(delta.total_seconds(), 0)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"

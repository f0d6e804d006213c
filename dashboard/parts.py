"""What several pages are made of."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
import pandas as pd
from dash import dcc, html

from dashboard import figures, person
from dashboard.view import Span, View, incident_path, pretty, series_path
from moodwire.records import Alert, Evidence

STORIES = 60
PAGE = 100  # stories that a long list begins with, and grows by
LONGEST = 1000  # stories that it grows to

STORY_COLUMNS = [
    {"field": "time", "headerName": "When", "cellRenderer": "When", "width": 76},
    {"field": "score", "headerName": "Score", "cellRenderer": "Score", "width": 74, "type": "rightAligned"},
    {"field": "title", "headerName": "Story", "cellRenderer": "Story", "flex": 1, "minWidth": 180},
]


def grid(
    id_: str,
    columns: Sequence[dict[str, Any]],
    height: int,
    row: int = 28,
    label: str = "",
    none: str = "Nothing in this time.",
    rows: list[dict[str, Any]] | None = None,
    listeners: Mapping[str, list[str]] | None = None,
) -> Any:
    """A table. It keeps scroll, sort and focus while its rows change."""
    return html.Div(
        dag.AgGrid(
            id=id_,
            eventListeners=listeners,
            columnDefs=list(columns),
            rowData=rows,
            defaultColDef={"sortable": True, "resizable": True, "suppressHeaderMenuButton": True},
            dashGridOptions={
                "rowHeight": row,
                "rowBuffer": 3,  # rows drawn beyond those that are seen
                "headerHeight": 30,
                "floatingFiltersHeight": 38,
                "animateRows": False,
                "ensureDomOrder": True,
                "enableCellTextSelection": True,
                "theme": {"function": "moodwireTheme(agGrid)"},
                "localeText": {"loadingOoo": "Loading …", "noRowsToShow": none},
            },
            getRowId="params.data.key",
            style={"height": height},
        ),
        role="region",
        **called(label or id_),
    )


def stories_grid(id_: str, height: int, rows: list[dict[str, Any]] | None = None) -> Any:
    return grid(id_, STORY_COLUMNS, height, 46, "stories", rows=rows)


def long_stories_grid(id_: str, height: int) -> Any:
    """One that tells by its `eventData` when its end is scrolled to: see `limit_of`."""
    told = {"bodyScrollEnd": [f"moodwireEnd(params, setEventData, {PAGE}, {LONGEST})"]}
    return grid(id_, STORY_COLUMNS, height, 46, "stories", listeners=told)


def limit_of(end: Mapping[str, Any] | None, search: str | None) -> int:
    """How many stories to ask for; end: what such a table told, maybe when something else was looked at."""
    told = (end or {}).get("data") or {}
    count = told.get("count", 0) if told.get("search") == (search or "") else 0
    return min(count + PAGE, LONGEST) if isinstance(count, int) and count > 0 else PAGE


def graph(id_: str, label: str, height: int = 300, figure: figures.Figure | None = None) -> Any:
    # No height of its own: the figure has one.
    return html.Div(
        dcc.Graph(
            id=id_,
            figure=figure or figures.blank(height),
            config={"displaylogo": False, "displayModeBar": False, "scrollZoom": False},
            style={"height": "auto"},
        ),
        role="figure",
        className="figure",
        **called(label),
    )


def your_name(label: str, width: int) -> Any:
    """Where one writes one's name; who is logged in has one."""
    known = person.current().name
    return dmc.TextInput(
        id="who", label=label, value=known or None, disabled=bool(known), persistence=not known, size="xs", w=width
    )


def called(name: str) -> dict[str, Any]:
    """What a screen reader calls a part."""
    return {"aria-label": name}


def heading(text: str, note: Any = "") -> Any:
    return html.H2([text, html.Small(note)])


def number(value: Any, note: str) -> Any:
    return html.Div([value, html.Small(note)], className="number")


def empty(text: str) -> Any:
    return html.Div(text, className="empty")


def download(what: str, search: str, text: str = "all") -> Any:
    """All rows of what is shown, in both forms."""
    forms = (("CSV", "csv"), ("Parquet", "parquet"))
    links = [
        html.A(name, href=f"/export/{what}.{form}{search}", className="download", download="") for name, form in forms
    ]
    return html.Span([f"{text} as ", links[0], " or ", links[1]])


def signed(value: float) -> Any:
    if value != value:
        return html.Span("–", className="faint")
    kind = "good" if value > 0.05 else "bad" if value < -0.05 else "even"
    return html.Span(figure(value), className=kind)


def figure(score: float) -> str:
    return f"{round(score, 2) + 0.0:+.2f}".replace("-", "−").replace("+0.00", "0.00")


def real(value: float) -> float | None:
    return None if value is None or value != value else round(float(value), 4)


def moment(value: Any) -> datetime | None:
    """A time of a data frame, where there is one."""
    return value if isinstance(value, datetime) and value == value else None


def age(delta: timedelta) -> str:
    seconds = max(delta.total_seconds(), 0)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def external(title: str, url: str) -> Any:
    """A title, linked only where the address is one of the web. Always text."""
    text = html.Bdi(title)
    if not url.startswith(("http://", "https://")):
        return html.Span(text)
    return html.A(text, href=url, target="_blank", rel="noopener noreferrer")


def series_link(series: str, names: Mapping[str, str], view: View) -> Any:
    return dcc.Link(pretty(series, names), href=series_path(series) + view.frame)


def picked_span(span: Sequence[str], view: View) -> Span | None:
    """The part of a chart that was dragged over, by its two ends on the chart's axis."""
    first, last = sorted(view.utc(str(time)) for time in span)
    return (first, last) if first < last else None


def story_rows(frame: pd.DataFrame, view: View, now: datetime) -> list[dict[str, Any]]:
    today = now - timedelta(days=1)
    names = ("story_id", "score", "title", "url", "topic", "entities", "copies", "id", "source")
    # pandas' own times take ten times as long to write.
    times = [time.to_pydatetime() for time in frame["published_at"]]
    return [
        {
            "key": story,
            "time": at.isoformat(),
            "clock": view.clock(at, "%H:%M:%S" if at > today else "%H:%M"),
            "day": view.clock(at, "%d %b"),
            "score": real(score),
            "title": title,
            "url": url,
            "topic": topic,
            "about": entities[:4],
            "copies": copies_,
            "id": id_,
            "source": source,
        }
        for at, story, score, title, url, topic, entities, copies_, id_, source in zip(
            times, *(frame[name].tolist() for name in names), strict=True
        )
    ]


def incident_card(alert: Alert, names: Mapping[str, str], view: View, stories: int = 3) -> Any:
    mark = "▲ " if alert.state != "resolved" else "✓ "
    return html.Article(
        [
            html.H3(
                [
                    mark,
                    series_link(alert.series, names, view),
                    f": {alert.state} ",
                    html.Small(["since ", view.clock(alert.since), ", rule ", alert.rule, " · "]),
                    dcc.Link("timeline", href=incident_path(alert.incident_id) + view.frame),
                ]
            ),
            html.P(alert.reason),
            evidence_list(alert.evidence[:stories]),
        ],
        className=f"incident {alert.state}",
    )


def evidence_list(evidence: Sequence[Evidence]) -> Any:
    if not evidence:
        return None
    return html.Ol(
        [
            html.Li(
                [
                    external(story.title, story.url),
                    html.Span(f" {story.source}, {copies(story.copies)}, ", className="faint"),
                    signed(story.score),
                ]
            )
            for story in evidence
        ],
        className="evidence",
    )


def copies(count: int) -> str:
    return "one article" if count == 1 else f"{count} copies"

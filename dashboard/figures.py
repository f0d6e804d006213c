"""Figures from data frames: pure. Times come as the clocks of the viewer's zone show them.

Blue is good news, orange bad, grey neutral; a sign, an order or a label stands beside each colour. Ink, rules and
grounds are the page's: assets/moodwire.css gives them for light and dark.
"""

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

POSITIVE, NEUTRAL, NEGATIVE = "#2f73b5", "#97938a", "#c75f1c"
INK, FAINT, BAND = "#6f6b63", "rgba(128,124,116,.25)", "rgba(128,124,116,.2)"
MOOD_SCALE = [[0, NEGATIVE], [0.5, "rgba(128,124,116,.12)"], [1, POSITIVE]]
LINES = (
    (POSITIVE, "solid"),
    (NEGATIVE, "dash"),
    ("#237a5f", "dot"),
    ("#a3518f", "dashdot"),
    ("#8a7416", "longdash"),
    ("#5d61c6", "longdashdot"),
)
SURE = 1.96  # standard errors: 95% of means lie within
SIGN_FROM = 0.15  # a cell of the heat map bears its sign from this score on
SCORE_TICKS = {"tickvals": [-1, -0.5, 0, 0.5, 1], "ticktext": ["−1", "−½", "0", "+½", "+1"]}
BRIDGED = 3  # points without a score that a line passes over; where there are more it breaks off
Times = tuple[pd.Timestamp, pd.Timestamp]


class Event(NamedTuple):
    """Something that lasted, to be marked in a chart; `end` None: it goes on."""

    start: pd.Timestamp
    end: pd.Timestamp | None
    text: str


class Alarm(NamedTuple):
    """What a rule watched at each time of a course: negative stories in the window that ends there."""

    window: str  # how long it is, in words
    counted: pd.Series
    expected: pd.Series  # NaN before anything was
    threshold: pd.Series  # from here on it fires


def band(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Between what bounds a course's mean scores are likely to lie (95%), by how many stories there are.

    The spread of single scores is taken from the counts of labels as if each story were at -1, 0 or 1, with one story
    of each label added: with few stories it is wide. frame: columns stories, negative, positive, score.
    """
    count = frame["stories"].where(frame["stories"] > 0).astype(float)
    negative, positive = (frame["negative"] + 1) / (count + 3), (frame["positive"] + 1) / (count + 3)
    error = np.sqrt((negative + positive - (positive - negative) ** 2) / count)
    return (frame["score"] - SURE * error).clip(-1, 1), (frame["score"] + SURE * error).clip(-1, 1)


def course(  # one series, whole
    frame: pd.DataFrame,
    revision: str,
    normal: pd.Series | None = None,
    events: Sequence[Event] = (),
    late: pd.DataFrame | None = None,
    pick: Times | None = None,
    height: int = 340,
    alarm: Alarm | None = None,
) -> go.Figure:
    """A series over time: its score with what is uncertain about it above, its stories by sentiment below.

    frame: columns start, score, stories, negative, neutral, positive (see moodwire.store.queries.mood); normal: the
    stories that are usual at each of its times; late: columns start, stories; alarm: drawn below the stories. While
    `revision` stays the same, the viewer's zoom does.
    """
    figure = go.Figure()
    _add_counts(figure, frame)
    _add_score(figure, frame)
    if normal is not None:
        figure.add_scatter(
            **_spans(frame),
            y=normal,
            yaxis="y2",
            mode="lines",
            line={"color": INK, "width": 1.4, "dash": "dot", "shape": "hvh"},
            name="usual",
            hovertemplate="%{y:.1f} usual<extra></extra>",
        )
    if late is not None and not late.empty:
        figure.add_scatter(
            x=late["start"] + _step(frame) / 2,
            y=[0] * len(late),
            yaxis="y2",
            mode="markers",
            marker={"symbol": "triangle-up-open", "size": 7, "color": INK},
            customdata=late["stories"],
            hovertemplate="%{customdata} came late<extra></extra>",
            cliponaxis=False,
        )
    for event in events:
        _add_event(figure, event, frame)
    _add_pick(figure, pick)
    low = 0.0 if alarm is None else 0.28  # where the stories' part begins
    middle = 0.34 if alarm is None else 0.52
    figure.update_layout(
        barmode="stack",
        bargap=0.08,
        uirevision=revision,
        selectionrevision=f"{revision} {pick}",
        hovermode="x unified",
        dragmode="select",
        selectdirection="h",
        xaxis={"anchor": "y2" if alarm is None else "y3"},
        yaxis={"domain": [middle + 0.08, 1], "range": [-1.05, 1.05], **SCORE_TICKS},
        yaxis2={"domain": [low, middle], "rangemode": "tozero", "nticks": 4},
    )
    if alarm is not None:
        _add_alarm(figure, frame, alarm)
    _label(figure, 1.0, "score", "left")
    _label(figure, middle, "stories" + (", · · · usual" if normal is not None else ""), "left")
    _scale(figure, frame)
    return plain(figure, height if alarm is None else height + 100)


def compared(courses: Sequence[tuple[str, pd.DataFrame]], revision: str, pick: Times | None = None) -> go.Figure:
    """The scores of up to six series over the same time, each labelled where it ends; counts of stories below."""
    figure = go.Figure()
    ends: list[tuple[float, str, str]] = []
    for (name, frame), (colour, dash) in zip(courses, LINES, strict=False):
        line, kept = {"color": colour, "width": 1.8, "dash": dash}, bridged(frame["score"])
        figure.add_scatter(
            **_spans(frame, kept),
            y=frame["score"][kept],
            mode="lines+markers",
            marker={"size": 4},
            line=line,
            name=escape(name),
            hovertemplate="%{y:+.2f} " + escape(name) + "<extra></extra>",
        )
        figure.add_scatter(
            **_spans(frame),
            y=frame["stories"],
            yaxis="y2",
            mode="lines",
            line={**line, "width": 1.2, "shape": "hvh"},
            hoverinfo="skip",
        )
        known = frame["score"].dropna()
        ends.append((float(known.iloc[-1]) if len(known) else 0.0, name, colour))
    for height, (_, name, colour) in zip(_apart([end for end, *_ in ends], 0.17), ends, strict=True):
        figure.add_annotation(
            x=1.005,
            xref="paper",
            xanchor="left",
            y=height,
            text=escape(short(name)),
            showarrow=False,
            font={"color": colour, "size": 12},
        )
    _add_pick(figure, pick)
    figure.update_layout(
        uirevision=revision,
        selectionrevision=f"{revision} {pick}",
        hovermode="x unified",
        dragmode="select",
        selectdirection="h",
        xaxis={"anchor": "y2"},
        yaxis={"domain": [0.36, 1], "range": [-1.05, 1.05], **SCORE_TICKS},
        yaxis2={"domain": [0, 0.28], "rangemode": "tozero", "nticks": 4},
    )
    _label(figure, 1.0, "score", "left")
    _label(figure, 0.28, "stories", "left")
    if courses:
        _scale(figure, courses[0][1])
    plain(figure, 380)
    return figure.update_layout(margin_r=120)


def heat(rows: Sequence[tuple[str, Sequence[float]]], times: Sequence[pd.Timestamp]) -> go.Figure:
    """Topic by time, coloured by score. rows: (topic, score of each time, NaN without stories)."""
    scores = [list(values) for _, values in rows]
    figure = go.Figure(
        go.Heatmap(
            z=scores,
            x=list(times),
            y=[escape(name) for name, _ in rows],
            text=[[_sign(value) for value in values] for values in scores],
            texttemplate="%{text}",
            textfont={"size": 10},
            colorscale=MOOD_SCALE,
            zmin=-1,
            zmax=1,
            xgap=1,
            ygap=1,
            hoverongaps=False,
            hovertemplate="%{y}, %{x|%d %b %H:%M}: %{z:+.2f}<extra></extra>",
            showscale=False,
        )
    )
    figure.update_layout(
        uirevision="heat",
        dragmode=False,
        yaxis={"autorange": "reversed", "automargin": True, "fixedrange": True, "showgrid": False},
        xaxis={"fixedrange": True},
    )
    if not rows:
        figure.update_layout(xaxis_visible=False, yaxis_visible=False)
    return plain(figure, max(90, 19 * len(rows) + 40))


def shares(now: Sequence[float], before: Sequence[float]) -> go.Figure:
    """A distribution over [-1, 1] as bars, against another as a line; both in parts of 1, by equal bins."""
    width = 2 / max(len(now), 1)
    middle = [-1 + width * (at + 0.5) for at in range(len(now))]
    figure = go.Figure()
    figure.add_bar(
        x=middle,
        y=now,
        marker_color=[NEGATIVE if x < -1 / 3 else POSITIVE if x > 1 / 3 else NEUTRAL for x in middle],
        hovertemplate="%{y:.1%} last day<extra></extra>",
    )
    figure.add_scatter(
        x=middle,
        y=before,
        mode="lines",
        line={"color": INK, "width": 1.6, "dash": "dot", "shape": "hvh"},
        hovertemplate="%{y:.1%} before<extra></extra>",
    )
    figure.update_layout(
        dragmode=False,
        bargap=0.05,
        hovermode="x unified",
        xaxis={"range": [-1, 1], "fixedrange": True, **SCORE_TICKS},
        yaxis={"tickformat": ".0%", "rangemode": "tozero", "fixedrange": True, "nticks": 4},
    )
    return plain(figure, 200)


def sparkline(values: Sequence[float], width: int = 96, height: int = 20) -> str:
    """An SVG path of scores in [-1, 1]; gaps where there is no value."""
    if not values:
        return ""
    step = width / max(len(values) - 1, 1)
    path, pen_up = [], True
    for at, value in enumerate(values):
        if value != value:
            continue  # a gap is bridged: single points would not show
        path.append(f"{'M' if pen_up else 'L'}{at * step:.1f} {height / 2 - value * (height / 2 - 2):.1f}")
        pen_up = False
    return "".join(path)


def warm() -> None:
    """Have plotly load what it only loads when a figure is drawn, before a reader waits for it."""
    times = pd.date_range("2000-01-01", periods=2, freq="h")
    counts = {name: [1, 1] for name in ("score", "stories", "negative", "neutral", "positive")}
    course(pd.DataFrame({"start": times, **counts}), "").to_json()
    heat([("", [0.0, 0.0])], list(times)).to_json()


def short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def plain(figure: go.Figure, height: int) -> go.Figure:
    """As all figures look."""
    figure.update_layout(
        height=height,
        showlegend=False,
        margin={"l": 36, "r": 12, "t": 18, "b": 26},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "Georgia, Noto Serif, serif", "size": 12, "color": INK},
    )
    figure.update_xaxes(showgrid=False, linecolor=FAINT)
    figure.update_yaxes(gridcolor=FAINT, zerolinecolor=FAINT)
    return figure


def _add_counts(figure: go.Figure, frame: pd.DataFrame) -> None:
    for label, colour in (("negative", NEGATIVE), ("neutral", NEUTRAL), ("positive", POSITIVE)):
        figure.add_bar(
            **_spans(frame),
            y=frame[label],
            name=label,
            marker_color=colour,
            marker_line_width=0,
            yaxis="y2",
            hovertemplate="%{y} " + label + "<extra></extra>",
        )


def bridged(scores: pd.Series) -> pd.Series:
    """Which points of a course are drawn: all but those without a score that a line may pass over."""
    known = scores.notna()
    missing = (~known).groupby(known.cumsum()).transform("sum")
    kept: pd.Series = known | (missing > BRIDGED)
    return kept


def _add_score(figure: go.Figure, frame: pd.DataFrame) -> None:
    low, high = band(frame)
    known, kept = frame["score"].notna(), bridged(frame["score"])
    step = _step(frame)
    outline: list[tuple[Any, float]] = []
    # A piece of the band for each part that the line joins: there and back, from the begin of its first point on.
    for _, part in frame[known].groupby((kept & ~known).cumsum()[known]):
        times = [part["start"].iloc[0], *(part["start"] + step / 2), part["start"].iloc[-1] + step]
        rows = [part.index[0], *part.index, part.index[-1]]
        outline += [*zip(times, high[rows], strict=True), *zip(times[::-1], low[rows[::-1]], strict=True)]
        outline.append((times[-1], float("nan")))
    figure.add_scatter(
        x=[time for time, _ in outline],
        y=[value for _, value in outline],
        fill="toself",
        fillcolor=BAND,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
    )
    figure.add_scatter(
        **_spans(frame, kept),
        y=frame["score"][kept],
        mode="lines+markers",
        line={"color": INK, "width": 1.6},
        marker={
            "size": 5,
            "color": frame["score"][kept],
            "colorscale": [[0, NEGATIVE], [0.5, NEUTRAL], [1, POSITIVE]],
            "cmin": -1,
            "cmax": 1,
        },
        name="score",
        customdata=np.column_stack([low, high])[kept],
        hovertemplate="score %{y:+.2f} (%{customdata[0]:+.2f} to %{customdata[1]:+.2f})<extra></extra>",
    )


def _add_alarm(figure: go.Figure, frame: pd.DataFrame, alarm: Alarm) -> None:
    lines = (
        (alarm.counted, {"color": NEGATIVE, "width": 1.6}, "%{y} negative in " + alarm.window),
        (alarm.expected, {"color": INK, "width": 1.4, "dash": "dot"}, "%{y:.2g} expected"),
        (alarm.threshold, {"color": INK, "width": 1.2, "dash": "dash"}, "alarm from %{y}"),
    )
    for values, line, say in lines:
        figure.add_scatter(
            **_spans(frame),
            y=values,
            yaxis="y3",
            mode="lines",
            line={**line, "shape": "hvh"},
            hovertemplate=say + "<extra></extra>",
        )
    figure.update_layout(yaxis3={"domain": [0, 0.2], "rangemode": "tozero", "nticks": 3})
    last = alarm.threshold.dropna()
    if len(last):
        text = f"negative in {alarm.window}; – – alarm from {last.iloc[-1]:.0f}, "
        _label(figure, 0.2, text + f"· · · {alarm.expected.dropna().iloc[-1]:.2g} expected", "left")


def _add_event(figure: go.Figure, event: Event, frame: pd.DataFrame) -> None:
    first, last = frame["start"].iloc[0], frame["start"].iloc[-1] + _step(frame)
    begin = min(max(event.start, first), last)
    end = max(min(event.end or last, last), begin)
    shade = {"fillcolor": NEGATIVE, "opacity": 0.13, "line_width": 0, "layer": "below"}
    figure.add_vrect(x0=begin, x1=end, **shade)
    figure.add_vline(x=begin, line={"color": NEGATIVE, "width": 1.5, "dash": "dot"})
    side = "left" if begin < first + (last - first) / 2 else "right"
    text = f"▲ {escape(event.text)}"
    place = {"x": begin, "xanchor": side, "y": 1, "yref": "paper", "yanchor": "bottom"}
    figure.add_annotation(**place, text=text, showarrow=False, font={"color": NEGATIVE, "size": 11})


def _add_pick(figure: go.Figure, pick: Times | None) -> None:
    if pick is not None:
        figure.add_selection(
            x0=pick[0], x1=pick[1], y0=0, y1=1, xref="x", yref="paper", line={"color": INK, "width": 1, "dash": "dot"}
        )


def _step(frame: pd.DataFrame) -> pd.Timedelta:
    """How long a point of a course lasts."""
    times = frame["start"]
    return times.iloc[1] - times.iloc[0] if len(times) > 1 else pd.Timedelta(minutes=1)


def _spans(frame: pd.DataFrame, kept: Any = slice(None)) -> dict[str, Any]:
    """Where the points of a course, or those kept, stand: in the middle of the spans that begin at their times."""
    step_ms = _step(frame) / pd.Timedelta(milliseconds=1)
    start = frame["start"]
    return {"x": start[kept], "xperiod": step_ms, "xperiod0": start.iloc[0], "xperiodalignment": "middle"}


def _scale(figure: go.Figure, frame: pd.DataFrame) -> None:
    """The whole time, also where nothing was."""
    figure.update_xaxes(range=[frame["start"].iloc[0], frame["start"].iloc[-1] + _step(frame)])


def _label(figure: go.Figure, y: float, text: str, side: str) -> None:
    figure.add_annotation(
        x=0,
        xref="paper",
        xanchor=side,
        y=y,
        yref="paper",
        yanchor="bottom",
        text=text,
        showarrow=False,
        font={"size": 11},
    )


def _apart(heights: Sequence[float], least: float) -> list[float]:
    """Moved up as far as it takes for labels not to cover each other."""
    moved = [0.0] * len(heights)
    lowest = -1.0
    for at in sorted(range(len(heights)), key=lambda at: heights[at]):
        lowest = moved[at] = max(heights[at], lowest)
        lowest += least
    over = max(max(moved, default=0) - 1.0, 0.0)
    return [height - over for height in moved]


def _sign(score: float) -> str:
    return "+" if score > SIGN_FROM else "−" if score < -SIGN_FROM else ""

"""Figures from data frames: pure. Times come as the clocks of the viewer's zone show them.

Blue is good news, orange bad, grey neutral; a sign, an order or a label stands beside each colour. Ink, rules and
grounds are the page's: assets/moodwire.css gives them for light and dark.

They are the plain dictionaries that plotly draws: its Python classes look at each value that they are given, which took
longer than all else that a page waits for. The tests have them look.
"""

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

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
Part = dict[str, Any]  # a trace, a shape, a note or an axis
Figure = dict[str, Any]  # data: its traces; layout


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
) -> Figure:
    """A series over time: its score with what is uncertain about it above, its stories by sentiment below.

    frame: columns start, score, stories, negative, neutral, positive (see moodwire.store.queries.mood); normal: the
    stories that are usual at each of its times; late: columns start, stories; alarm: drawn below the stories. While
    `revision` stays the same, the viewer's zoom does.
    """
    spans, notes = _spans(frame), [_label(1.0, "score")]
    data = [*_counts(frame, spans), *_score(frame, spans)]
    low = 0.0 if alarm is None else 0.28  # where the stories' part begins
    middle = 0.34 if alarm is None else 0.52
    if normal is not None:
        data.append(_steps(spans, normal, "y2", (INK, 1.4, "dot"), "%{y:.1f} usual"))
    if late is not None and not late.empty:
        data.append(
            {
                "type": "scatter",
                "x": _texts(late["start"] + _step(frame) / 2),
                "y": [0] * len(late),
                "yaxis": "y2",
                "mode": "markers",
                "marker": {"symbol": "triangle-up-open", "size": 7, "color": INK},
                "customdata": late["stories"].tolist(),
                "hovertemplate": "%{customdata} came late<extra></extra>",
                "cliponaxis": False,
            }
        )
    notes.append(_label(middle, "stories" + (", · · · usual" if normal is not None else "")))
    axes: dict[str, Any] = {
        "xaxis": {"anchor": "y2" if alarm is None else "y3", "range": _whole(frame)},
        "yaxis": {"domain": [middle + 0.08, 1], "range": [-1.05, 1.05], **SCORE_TICKS},
        "yaxis2": {"domain": [low, middle], "rangemode": "tozero", "nticks": 4},
    }
    if alarm is not None:
        data += _alarm(spans, alarm)
        axes["yaxis3"] = {"domain": [0, 0.2], "rangemode": "tozero", "nticks": 3}
        last = alarm.threshold.dropna()
        if len(last):
            text = f"negative in {alarm.window}; – – alarm from {last.iloc[-1]:.0f}, "
            notes.append(_label(0.2, text + f"· · · {alarm.expected.dropna().iloc[-1]:.2g} expected"))
    marked = [_event(event, frame) for event in events]
    return plain(
        data,
        height if alarm is None else height + 100,
        barmode="stack",
        bargap=0.08,
        **_read_along(revision, pick),
        **axes,
        shapes=[shape for shapes, _ in marked for shape in shapes],
        annotations=[*(note for _, note in marked), *notes],
    )


def compared(courses: Sequence[tuple[str, pd.DataFrame]], revision: str, pick: Times | None = None) -> Figure:
    """The scores of up to six series over the same time, each labelled where it ends; counts of stories below."""
    data: list[Part] = []
    ends: list[tuple[float, str, str]] = []
    for (name, frame), (colour, dash) in zip(courses, LINES, strict=False):
        spans, kept = _spans(frame), bridged(frame["score"])
        data.append(
            {
                "type": "scatter",
                **_of(spans, kept),
                "y": _numbers(frame["score"][kept]),
                "mode": "lines+markers",
                "line": {"color": colour, "width": 1.8, "dash": dash},
                "marker": {"size": 4},
                "name": escape(name),
                "hovertemplate": "%{y:+.2f} " + escape(name) + "<extra></extra>",
            }
        )
        data.append({**_steps(spans, frame["stories"], "y2", (colour, 1.2, dash)), "hoverinfo": "skip"})
        known = frame["score"].dropna()
        ends.append((float(known.iloc[-1]) if len(known) else 0.0, name, colour))
    heights = _apart([end for end, *_ in ends], 0.17)
    notes = [
        {
            **{"x": 1.005, "xref": "paper", "xanchor": "left", "y": height, "yref": "y"},
            "text": escape(short(name)),
            "showarrow": False,
            "font": {"color": colour, "size": 12},
        }
        for height, (_, name, colour) in zip(heights, ends, strict=True)
    ]
    figure = plain(
        data,
        380,
        **_read_along(revision, pick),
        xaxis={"anchor": "y2", **({"range": _whole(courses[0][1])} if courses else {})},
        yaxis={"domain": [0.36, 1], "range": [-1.05, 1.05], **SCORE_TICKS},
        yaxis2={"domain": [0, 0.28], "rangemode": "tozero", "nticks": 4},
        annotations=[*notes, _label(1.0, "score"), _label(0.28, "stories")],
    )
    figure["layout"]["margin"]["r"] = 120
    return figure


def heat(rows: Sequence[tuple[str, Sequence[float]]], times: Sequence[pd.Timestamp]) -> Figure:
    """Topic by time, coloured by score. rows: (topic, score of each time, NaN without stories)."""
    shown = {} if rows else {"visible": False}
    labels = [short(name) for name, _ in rows]
    ticks = {"tickvals": [*range(len(rows))], "ticktext": [*map(escape, labels)]}
    cells = {
        "type": "heatmap",
        "z": [_numbers(values) for _, values in rows],
        "x": [time.isoformat() for time in times],
        "y": [escape(name) for name, _ in rows],
        "text": [[_sign(value) for value in values] for _, values in rows],
        "texttemplate": "%{text}",
        "textfont": {"size": 10},
        "colorscale": MOOD_SCALE,
        "zmin": -1,
        "zmax": 1,
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "hovertemplate": "%{y}, %{x|%d %b %H:%M}: %{z:+.2f}<extra></extra>",
        "showscale": False,
    }
    figure = plain(
        [cells],
        max(90, 19 * len(rows) + 40),
        uirevision="heat",
        dragmode=False,
        yaxis={"autorange": "reversed", "fixedrange": True, "showgrid": False, **ticks, **shown},
        xaxis={"fixedrange": True, **shown},
    )
    figure["layout"]["margin"]["l"] = 12 + 6 * max(map(len, labels), default=0)  # px, of a letter on average
    return figure


def shares(now: Sequence[float], before: Sequence[float]) -> Figure:
    """A distribution over [-1, 1] as bars, against another as a line; both in parts of 1, by equal bins."""
    width = 2 / max(len(now), 1)
    middle = [-1 + width * (at + 0.5) for at in range(len(now))]
    bars = {
        "type": "bar",
        "x": middle,
        "y": list(now),
        "marker": {
            "color": [NEGATIVE if x < -1 / 3 else POSITIVE if x > 1 / 3 else NEUTRAL for x in middle],
            "line": {"width": 0},
        },
        "hovertemplate": "%{y:.1%} last day<extra></extra>",
    }
    return plain(
        [bars, _steps({"x": middle}, before, "y", (INK, 1.6, "dot"), "%{y:.1%} before")],
        200,
        dragmode=False,
        bargap=0.05,
        hovermode="x unified",
        xaxis={"range": [-1, 1], "fixedrange": True, **SCORE_TICKS},
        yaxis={"tickformat": ".0%", "rangemode": "tozero", "fixedrange": True, "nticks": 4},
    )


def short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def plain(data: Sequence[Part], height: int, **layout: Any) -> Figure:
    """As all figures look."""
    axes = {name: part for name, part in layout.items() if name[1:5] == "axis"}
    grid = {"gridcolor": FAINT, "zerolinecolor": FAINT, "zerolinewidth": 2}
    # There is room for these labels: to measure whether takes a third of the time that a figure is drawn in.
    grid["ticklabeloverflow"] = "allow"
    for name in {"xaxis", "yaxis", *axes}:
        look = {"showgrid": False, "linecolor": FAINT} if name[0] == "x" else grid
        layout[name] = {"ticks": "", **look, **axes.get(name, {})}
    return {
        "data": list(data),
        "layout": {
            "height": height,
            "showlegend": False,
            "margin": {"l": 40, "r": 12, "t": 18, "b": 34},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "Georgia, Noto Serif, serif", "size": 12, "color": INK},
            "hoverlabel": {"align": "left"},
            "autotypenumbers": "strict",  # a topic or a source may be named by a number
            **layout,
        },
    }


def blank(height: int) -> Figure:
    """Where a figure will be."""
    return plain([], height, xaxis={"visible": False}, yaxis={"visible": False})


def bridged(scores: pd.Series) -> Any:
    """Which points of a course are drawn, as an array: all but those without a score that a line may pass over."""
    known = scores.notna().to_numpy()
    gap = np.cumsum(known)  # the number of the gap that a point without a score lies in
    return known | (np.bincount(gap, ~known)[gap] > BRIDGED)


def _counts(frame: pd.DataFrame, spans: Part) -> list[Part]:
    return [
        {
            "type": "bar",
            **spans,
            "y": frame[label].tolist(),
            "name": label,
            "marker": {"color": colour, "line": {"width": 0}},
            "yaxis": "y2",
            "hovertemplate": "%{y} " + label + "<extra></extra>",
        }
        for label, colour in (("negative", NEGATIVE), ("neutral", NEUTRAL), ("positive", POSITIVE))
    ]


def _score(frame: pd.DataFrame, spans: Part) -> list[Part]:
    """The band, and the line within it."""
    low, high = (_numbers(values) for values in band(frame))
    known, kept = frame["score"].notna().to_numpy(), bridged(frame["score"])
    step = _step(frame)
    starts, middles, ends = (_texts(frame["start"] + part) for part in (0 * step, step / 2, step))
    x: list[str] = []
    y: list[float | None] = []
    # A piece of the band for each part that the line joins: there and back, from the begin of its first point on.
    pieces = np.cumsum(kept & ~known)
    for piece in np.unique(pieces[known]):
        rows = np.flatnonzero(known & (pieces == piece)).tolist()
        times = [starts[rows[0]], *(middles[row] for row in rows), ends[rows[-1]]]
        rows = [rows[0], *rows, rows[-1]]
        x += [*times, *times[::-1], times[0]]
        y += [*(high[row] for row in rows), *(low[row] for row in rows[::-1]), None]
    score = _numbers(frame["score"][kept])
    return [
        {
            "type": "scatter",
            "x": x,
            "y": y,
            "fill": "toself",
            "fillcolor": BAND,
            "line": {"width": 0},
            "mode": "lines",
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            **_of(spans, kept),
            "y": score,
            "mode": "lines+markers",
            "line": {"color": INK, "width": 1.6},
            "marker": {
                "size": 5,
                "color": [value or 0.0 for value in score],
                "colorscale": [[0, NEGATIVE], [0.5, NEUTRAL], [1, POSITIVE]],
                "cmin": -1,
                "cmax": 1,
            },
            "name": "score",
            "customdata": [[low[row], high[row]] for row in np.flatnonzero(kept)],
            "hovertemplate": "score %{y:+.2f} (%{customdata[0]:+.2f} to %{customdata[1]:+.2f})<extra></extra>",
        },
    ]


def _alarm(spans: Part, alarm: Alarm) -> list[Part]:
    return [
        _steps(spans, alarm.counted, "y3", (NEGATIVE, 1.6, "solid"), "%{y} negative in " + alarm.window),
        _steps(spans, alarm.expected, "y3", (INK, 1.4, "dot"), "%{y:.2g} expected"),
        _steps(spans, alarm.threshold, "y3", (INK, 1.2, "dash"), "alarm from %{y}"),
    ]


def _steps(spans: Part, values: Any, axis: str, look: tuple[str, float, str], say: str = "") -> Part:
    """Values that each hold for a span. look: colour, width, dash."""
    line = {**dict(zip(("color", "width", "dash"), look, strict=True)), "shape": "hvh"}
    drawn = {"type": "scatter", **spans, "y": _numbers(values), "yaxis": axis, "mode": "lines", "line": line}
    return {**drawn, "hovertemplate": f"{say}<extra></extra>"} if say else drawn


def _event(event: Event, frame: pd.DataFrame) -> tuple[list[Part], Part]:
    """Its shade and where it begins; and what it says."""
    first, last = frame["start"].iloc[0], frame["start"].iloc[-1] + _step(frame)
    begin = min(max(event.start, first), last)
    end = max(min(event.end or last, last), begin)
    side = "left" if begin < first + (last - first) / 2 else "right"
    upright = {"xref": "x", "yref": "y domain", "y0": 0, "y1": 1, "x0": begin.isoformat()}
    return [
        {
            **{"type": "rect", **upright, "x1": end.isoformat()},
            **{"fillcolor": NEGATIVE, "opacity": 0.13, "line": {"width": 0}, "layer": "below"},
        },
        {"type": "line", **upright, "x1": begin.isoformat(), "line": {"color": NEGATIVE, "width": 1.5, "dash": "dot"}},
    ], {
        **{"x": begin.isoformat(), "xanchor": side, "y": 1, "yref": "paper", "yanchor": "bottom"},
        "text": f"▲ {escape(event.text)}",
        "showarrow": False,
        "font": {"color": NEGATIVE, "size": 11},
    }


def _read_along(revision: str, pick: Times | None) -> Part:
    """How a course is pointed at and picked from, and until when the viewer's zoom and pick hold."""
    read: Part = {
        "uirevision": revision,
        "selectionrevision": f"{revision} {pick}",
        "hovermode": "x unified",
        "dragmode": "select",
        "selectdirection": "h",
    }
    if pick is not None:
        span = {"x0": pick[0].isoformat(), "x1": pick[1].isoformat(), "y0": 0, "y1": 1, "xref": "x", "yref": "paper"}
        read["selections"] = [{"type": "rect", **span, "line": {"color": INK, "width": 1, "dash": "dot"}}]
    return read


def _step(frame: pd.DataFrame) -> pd.Timedelta:
    """How long a point of a course lasts."""
    times = frame["start"]
    return times.iloc[1] - times.iloc[0] if len(times) > 1 else pd.Timedelta(minutes=1)


def _spans(frame: pd.DataFrame) -> Part:
    """Where the points of a course stand: in the middle of the spans that begin at their times."""
    times = _texts(frame["start"])
    return {
        "x": times,
        "xperiod": _step(frame) / pd.Timedelta(milliseconds=1),
        "xperiod0": times[0],
        "xperiodalignment": "middle",
    }


def _of(spans: Part, kept: Any) -> Part:
    """Those points alone."""
    return {**spans, "x": [time for time, keep in zip(spans["x"], kept, strict=True) if keep]}


def _whole(frame: pd.DataFrame) -> list[str]:
    """The whole time, also where nothing was."""
    return [frame["start"].iloc[0].isoformat(), (frame["start"].iloc[-1] + _step(frame)).isoformat()]


def _texts(times: pd.Series) -> list[str]:
    return np.datetime_as_string(times.to_numpy("datetime64[s]")).tolist()  # type: ignore[no-any-return]


def _numbers(values: Any) -> list[float | None]:
    """As JSON has them; None where there is none."""
    return [None if value != value else round(value, 4) for value in np.asarray(values, dtype=float).tolist()]


def _label(y: float, text: str) -> Part:
    place = {"x": 0, "xref": "paper", "xanchor": "left", "y": y, "yref": "paper", "yanchor": "bottom"}
    return {**place, "text": text, "showarrow": False, "font": {"size": 11}}


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

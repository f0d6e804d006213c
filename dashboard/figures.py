"""Figures from data frames: pure. Blue is good news, orange bad, grey neutral; a sign stands beside a colour."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

POSITIVE, NEUTRAL, NEGATIVE, INK, FAINT = "#2c6fad", "#b5b2aa", "#c8581a", "#6b675f", "rgba(128,124,116,.25)"
MOOD_SCALE = [[0, NEGATIVE], [0.5, "#e9e6df"], [1, POSITIVE]]


def mood(frame: pd.DataFrame, name: str, since: Sequence[pd.Timestamp] = ()) -> go.Figure:
    """A series over time: its score above, its stories by sentiment below; incidents marked.

    frame: columns start, score, negative, neutral, positive (see moodwire.store.queries.mood).
    """
    figure = go.Figure()
    for label, colour in (("negative", NEGATIVE), ("neutral", NEUTRAL), ("positive", POSITIVE)):
        figure.add_bar(
            x=frame["start"],
            y=frame[label],
            name=label,
            marker_color=colour,
            marker_line_width=0,
            yaxis="y2",
            hovertemplate="%{y} " + label + "<extra></extra>",
        )
    figure.add_scatter(
        x=frame["start"],
        y=frame["score"],
        mode="lines+markers",
        connectgaps=True,
        line={"color": INK, "width": 1.6},
        marker={"size": 4, "color": frame["score"], "colorscale": MOOD_SCALE, "cmin": -1, "cmax": 1},
        name="score",
        hovertemplate="score %{y:+.2f}<extra></extra>",
    )
    for moment in since:
        figure.add_vline(x=moment, line={"color": NEGATIVE, "width": 1.5, "dash": "dot"})
        figure.add_annotation(x=moment, y=1, yref="paper", text="▲ alarm", showarrow=False, font={"color": NEGATIVE})
    figure.update_layout(barmode="stack", bargap=0.08, showlegend=False, uirevision=name, hovermode="x unified")
    figure.update_layout(
        yaxis={"domain": [0.42, 1], "range": [-1.05, 1.05], "title": "score", "tickformat": "+.1f", "zeroline": True},
        yaxis2={"domain": [0, 0.34], "title": "stories", "rangemode": "tozero"},
    )
    return plain(figure, 340)


def heat(rows: Sequence[tuple[str, Sequence[float]]], times: Sequence[pd.Timestamp]) -> go.Figure:
    """Topic by time, coloured by score. rows: (topic, score of each time, NaN without stories)."""
    figure = go.Figure(
        go.Heatmap(
            z=[list(scores) for _, scores in rows],
            x=list(times),
            y=[name for name, _ in rows],
            colorscale=MOOD_SCALE,
            zmin=-1,
            zmax=1,
            xgap=1,
            ygap=1,
            hoverongaps=False,
            hovertemplate="%{y}, %{x|%d %b %H:%M}: %{z:+.2f}<extra></extra>",
            colorbar={
                "thickness": 8,
                "tickvals": [-1, 0, 1],
                "ticktext": ["−1 bad", "0", "+1 good"],
                "outlinewidth": 0,
            },
        )
    )
    figure.update_layout(uirevision="heat", yaxis={"autorange": "reversed", "automargin": True})
    return plain(figure, max(120, 22 * len(rows) + 60))


def plain(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 48, "r": 12, "t": 12, "b": 28},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "Georgia, Noto Serif, serif", "size": 12, "color": INK},
    )
    figure.update_xaxes(showgrid=False, linecolor=FAINT)
    figure.update_yaxes(gridcolor=FAINT, zerolinecolor=FAINT)
    return figure


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

"""The address says the whole view; figures and rows are made by pure functions of frames."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import figures
from dashboard.live import rest_s
from dashboard.pages.health import stability
from dashboard.pages.rules import snippet
from dashboard.pages.series import watched
from dashboard.view import COMPARED, SPANS, View, parse
from moodwire.configfile import load
from moodwire.csvfile import csv_of
from moodwire.settings import AnyRule, ArticleRule, Rule, ShareRule
from moodwire.store.detection import Expected
from moodwire.store.find import LABELS

RULES = (
    Rule(name="r"),
    Rule(name="a b", series=("all",), windows=(3600.0,), false_alarms_per_week=0.1, channels=("desk",)),
    ShareRule(name="s", above=0.25),
    ArticleRule(name="t", topic="legal"),
)
NOW = datetime(2024, 3, 4, 12, 0, tzinfo=UTC)
TIMES = st.integers(0, 10**9).map(lambda s: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
RANGES = st.none() | st.tuples(TIMES, TIMES).map(sorted).filter(lambda p: p[0] < p[1]).map(tuple)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VIEWS = st.builds(
    View,
    span=st.sampled_from(sorted(SPANS)),
    between=RANGES,
    pick=RANGES,
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Tokyo"]),
    also=st.lists(TEXT.filter(bool), unique=True, max_size=COMPARED - 1).map(tuple),
    series=TEXT,
    source=TEXT,
    label=st.sampled_from(["", *LABELS]),
    words=TEXT,
)


@given(VIEWS)
def test_an_address_gives_back_the_view(view: View) -> None:
    again = parse(view.search())
    if view.between is not None:  # then the span is of no account
        view = replace(view, span=again.span)
    assert again == view


@given(st.text())
def test_any_address_gives_a_view(search: str) -> None:
    begin, end = parse(search).times(NOW)
    assert begin < end


@given(TIMES, st.sampled_from(["UTC", "Asia/Tokyo", "America/New_York"]))
def test_what_an_axis_shows_is_the_time_again(time: datetime, zone: str) -> None:
    view = View(zone=zone)
    again = view.utc(str(view.local(time)))
    assert again == time or (zone == "America/New_York" and again == time - timedelta(hours=1))  # shown twice a year


def frame(counts: list[tuple[int, int, int]]) -> pd.DataFrame:
    start = pd.date_range("2024-03-04", periods=len(counts), freq="h")
    result = pd.DataFrame(counts, columns=["negative", "neutral", "positive"])
    result.insert(0, "start", start)
    result["stories"] = result[["negative", "neutral", "positive"]].sum(axis=1)
    result["score"] = (result["positive"] - result["negative"]) / result["stories"].where(result["stories"] > 0)
    return result


@given(st.lists(st.tuples(*[st.integers(0, 50)] * 3), min_size=1, max_size=8))
def test_the_band_holds_the_score_and_narrows_with_more_stories(counts: list[tuple[int, int, int]]) -> None:
    few, many = frame(counts), frame([(a * 10, b * 10, c * 10) for a, b, c in counts])
    known = few["stories"] > 0
    low, high = figures.band(few)
    assert ((low <= few["score"]) & (few["score"] <= high))[known].all()
    assert low[~known].isna().all()
    inside = known & (low > -1) & (high < 1)
    low10, high10 = figures.band(many)
    assert ((high10 - low10) < (high - low))[inside].all()


def test_a_line_passes_over_short_gaps_and_breaks_off_at_long_ones() -> None:
    one, none = (1, 0, 0), (0, 0, 0)
    course = frame([none, one, none, none, one, none, none, none, none, one])
    assert figures.bridged(course["score"]).tolist() == [False, True, False, False, True, *[True] * 4, True]
    band, score = go.Figure(figures.course(course, "v")).data[-2:]
    assert score.connectgaps is None
    pieces = [[]]
    for y in band.y:
        pieces += [[]] if y is None else []
        pieces[-1] += [] if y is None else [y]
    assert [len(piece) for piece in pieces] == [8, 6, 0], "two points and one, each with its two edges, there and back"


def test_a_figure_marks_what_lasted_and_keeps_the_readers_zoom() -> None:
    course = frame([(1, 2, 3), (0, 0, 0), (4, 0, 0)])
    event = figures.Event(course["start"].iloc[2] + pd.Timedelta(minutes=90), None, "<b>X</b>")
    pick = (course["start"].iloc[0], course["start"].iloc[1])
    figure = go.Figure(figures.course(course, "v", events=[event], pick=pick))
    assert [note.text for note in figure.layout.annotations if "▲" in note.text] == ["▲ &lt;b&gt;X&lt;/b&gt;"]
    begin, end = map(pd.Timestamp, figure.layout.xaxis.range)
    assert begin <= pd.Timestamp(figure.layout.shapes[1].x0) <= end, "an event after the last point is shown too"
    assert figure.layout.uirevision == "v"
    assert len(figure.layout.selections) == 1


def test_what_the_alarms_expected_is_drawn_beside_what_was_counted() -> None:
    begin = NOW - timedelta(hours=1)
    counts = pd.DataFrame(
        {"start": pd.date_range(begin - timedelta(hours=1), NOW, freq="30min"), "fresh_negative": [1, 2, 0, 4, 0]}
    )
    early = Expected("r", 3600, begin - timedelta(hours=3), 0.5, 4)
    later = Expected("r", 3600, NOW, 1.5, 6)
    other = Expected("slow", 3600, NOW, 1.5, 9)
    alarm = watched([early, later, other], counts, begin, 1800)
    assert alarm.counted.tolist() == [2, 4, 4]  # of each hour that ends with the point
    assert alarm.threshold.tolist() == [4, 6, 6]
    course = frame([(0, 1, 0), (4, 0, 0), (0, 0, 0)])
    figure = go.Figure(figures.course(course, "v", alarm=alarm))
    assert any("alarm from 6, · · · 1.5 expected" in note.text for note in figure.layout.annotations)
    assert figure.layout.yaxis3.domain[1] < figure.layout.yaxis2.domain[0] < figure.layout.yaxis.domain[0]


def test_plotly_takes_every_figure() -> None:
    none = frame([(0, 0, 0)])
    heat = [("legal", [0.5, float("nan")])]
    times = list(none["start"]) * 2
    late = pd.DataFrame({"start": none["start"], "stories": [2]})
    for made in (
        figures.blank(200),
        figures.course(none, "v", normal=none["stories"], late=late),
        figures.compared([], "v"),
        figures.compared([("one", none)], "v", (none["start"][0], none["start"][0])),
        figures.heat(heat, times),
        figures.heat([], []),
        figures.shares([0.5, 0.5], [1, 0]),
    ):
        again = go.Figure(made).to_dict()  # raises ValueError for what plotly does not know
        assert json.dumps(made, allow_nan=False)
        assert len(again["data"]) == len(made["data"])


def test_labels_of_compared_series_do_not_cover_each_other() -> None:
    courses = [(f"series {number}", frame([(1, 1, 1)])) for number in range(6)]
    figure = go.Figure(figures.compared(courses, "v"))
    heights = sorted(note.y for note in figure.layout.annotations if note.text.startswith("series "))
    assert len(heights) == 6
    assert all(b - a > 0.1 for a, b in pairwise(heights))
    assert heights[-1] <= 1


def test_a_shift_of_scores_is_measured() -> None:
    assert stability([0.5, 0.5], [0.5, 0.5]) == 0
    assert stability([0.9, 0.1], [0.1, 0.9]) > 0.25


def test_a_formula_is_made_plain_and_numbers_are_left() -> None:
    text = csv_of(pd.DataFrame({"title": ["=1+1", "@x", "plain"], "score": [-0.5, 0.1, 0.0]}))
    assert text.splitlines() == ["title,score", "'=1+1,-0.5", "'@x,0.1", "plain,0.0"]


@pytest.mark.parametrize("rule", RULES)
def test_a_rules_snippet_is_the_rule(rule: AnyRule, tmp_path: Path) -> None:
    channel = '\n[[channels]]\nkind = "webhook"\nname = "desk"\nurl = "https://example.org/"\n'
    file = tmp_path / "moodwire.toml"
    file.write_text(snippet(rule) + "\n" + channel)
    assert load(file, {}).rules == (rule,)


def test_beats_come_more_slowly_to_many_and_always_come() -> None:
    waits = [rest_s(count) for count in range(300)]
    assert waits == sorted(waits)
    assert (waits[1], waits[-1]) == (0.4, 3.0)

"""Each rule, what it asks, and what it found in the past four weeks."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pandas as pd
from dash import Dash, Input, Output, dcc, html

from dashboard.data import Data
from dashboard.frame import in_thread
from dashboard.parts import age, empty, heading, moment, series_link
from dashboard.view import View, incident_path, parse
from moodwire.settings import AnyRule, ArticleRule, PickupRule, Rule, ScoreRule, ShareRule, SilenceRule
from moodwire.store import watching

PAST = timedelta(weeks=4)
LISTED = 12  # incidents of a rule


def layout(path: str, data: Data) -> Any:
    return [html.H1("Rules"), html.Div(empty("Loading …"), id="rules")] if path == "/rules" else None


def register(app: Dash, data: Data) -> None:
    @app.callback(Output("rules", "children"), Input("beat", "data"), Input("where", "search"))
    @in_thread
    def rules(beat: str, search: str | None) -> Any:
        now, view = datetime.fromisoformat(beat), parse(search)
        if not data.settings.rules:
            return empty("There is no rule, so there is no alarm. Write one under [[rules]] in moodwire.toml.")
        found = data.ask_at(now, watching.incidents, None, now - PAST, None, None)
        return [part for rule in data.settings.rules for part in section(rule, found, data.names, view, now)]


def section(rule: AnyRule, found: pd.DataFrame, names: dict[str, str], view: View, now: datetime) -> list[Any]:
    mine = found[found["rule"] == rule.name]
    told = ", ".join(rule.channels) or "every channel"
    return [
        heading(rule.name, f"{len(mine)} incident{'s' * (len(mine) != 1)} in four weeks; tells {told}"),
        html.P(in_words(rule)),
        html.Div(
            [
                html.Section(listed(mine, names, view, now)),
                html.Section(html.Pre(html.Code(snippet(rule)), tabIndex=0)),
            ],
            className="columns",
        ),
    ]


def in_words(rule: AnyRule) -> str:
    series = ", ".join(rule.series)
    over = f"It is over after {age(timedelta(seconds=rule.cooldown_s))} of quiet."
    if isinstance(rule, Rule):
        windows = ", ".join(age(timedelta(seconds=window)) for window in rule.windows)
        return (
            f"Fires for {series} when {rule.minimum_stories} or more negative stories in a window ({windows}) "
            f"are stranger, by the {rule.baseline_days:g} days before, than what quiet times bring "
            f"{rule.false_alarms_per_week:g} times a week to the whole rule. {over}"
        )
    if isinstance(rule, SilenceRule):
        return f"Fires for {series} when a source gives nothing new for longer than is usual, or not at all. {over}"
    span = age(timedelta(seconds=rule.window_s))
    match rule:
        case ScoreRule():
            what = f"the mean score of {rule.minimum_stories} or more stories within {span} is below {rule.below:+g}"
        case ShareRule():
            what = f"of {rule.minimum_stories} or more stories within {span} more than {rule.above:.0%} are negative"
        case ArticleRule():
            what = f"a story of topic {rule.topic} comes within {span}"
        case PickupRule():
            what = f"one story is carried by {rule.sources} or more sources within {span}"
    return f"Fires for {series} when {what}. {over}"


def listed(mine: pd.DataFrame, names: dict[str, str], view: View, now: datetime) -> Any:
    if mine.empty:
        return empty("It has found nothing in the past four weeks.")
    lines = []
    for row in mine.head(LISTED).itertuples():
        end = moment(row.until) or now
        # Plain rules expect nothing.
        what = f"{row.observed:.0f} where {row.expected:.2g} were expected" if row.expected else row.reason
        lines.append(
            html.Li(
                [
                    "▲ " if row.state != "resolved" else "✓ ",
                    dcc.Link(view.clock(row.since), href=incident_path(row.incident_id) + view.frame),
                    " ",
                    series_link(row.series, names, view),
                    f", {what}, lasted {age(end - row.since)}",
                ]
            )
        )
    more = len(mine) - len(lines)
    return [html.Ul(lines, className="marks"), html.P(f"and {more} more", className="note") if more > 0 else None]


def snippet(rule: AnyRule) -> str:
    """The rule as moodwire.toml says it."""
    lines = ["[[rules]]"]
    for name, value in msgspec.to_builtins(rule).items():
        if isinstance(value, list | tuple):
            lines.append(f"{name} = [{', '.join(_written(item) for item in value)}]")
        else:
            lines.append(f"{name} = {_written(value)}")
    return "\n".join(lines)


def _written(value: str | float) -> str:
    return msgspec.json.encode(value).decode() if isinstance(value, str) else f"{value:g}"  # JSON's strings are TOML's

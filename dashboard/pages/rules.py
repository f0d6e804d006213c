"""Each rule, what it asks, and what it found in the past four weeks."""

import tomllib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import dash_mantine_components as dmc
import msgspec
import pandas as pd
from dash import Dash, Input, Output, State, dcc, html, no_update

from dashboard import person
from dashboard.data import Data
from dashboard.frame import in_thread
from dashboard.parts import age, called, empty, heading, moment, series_link
from dashboard.view import Asked, View, incident_path, parse, pretty
from moodwire.errors import BadInput
from moodwire.records import floor_time
from moodwire.settings import (
    AnyRule,
    AnyStoryRule,
    ArticleRule,
    PickupRule,
    Rule,
    ScoreRule,
    ShareRule,
    SilenceRule,
)
from moodwire.store import watching
from moodwire.store.commands import Backtest, give_once, progress
from moodwire.trial import Trial, TrialSetting

Tried = Rule | AnyStoryRule
PAST = timedelta(weeks=4)
WAITS = "Asked; it waits for the alarms (is the stage `alerts` running?)."
LISTED = 12  # incidents of a rule
NUMBER = "figure-cell"


def layout(asked: Asked, data: Data) -> Any:
    if asked.path != "/rules":
        return None
    return [
        html.H1("Rules"),
        html.Div(empty("Loading …"), id="rules"),
        heading("Try a rule", "what it would have done in the past four weeks, as it is and as you change it"),
        *tryout([rule for rule in data.settings.rules if not isinstance(rule, SilenceRule)]),
    ]


def tryout(rules: Sequence[Tried]) -> list[Any]:
    """It stays as it is while the page around it is made anew, so that nothing typed is lost."""
    if not rules:
        return [empty("Rules about news can be tried, and there is none.")]
    return [
        html.Div(
            [
                html.Section(
                    [
                        dmc.Select(
                            id="try-rule",
                            data=[rule.name for rule in rules],
                            value=rules[0].name,
                            allowDeselect=False,
                            size="xs",
                            w=280,
                            label="Begin with",
                        ),
                        dmc.Textarea(
                            id="try-text",
                            value=snippet(rules[0]),
                            label="A copy, to be changed; for moodwire.toml when it does what you want",
                            autosize=True,
                            minRows=8,
                            size="xs",
                        ),
                        html.Div(html.Button("try it", id="try-go", n_clicks=0), className="keys"),
                        html.Div(id="try-note", role="status", className="note"),
                        dcc.Store(id="tried"),
                    ]
                ),
                html.Section(html.Div(empty("Nothing has been tried yet."), id="try-found")),
            ],
            className="columns",
        )
    ]


def register(app: Dash, data: Data) -> None:
    @app.callback(Output("rules", "children"), Input("beat", "data"), Input("where", "search"))
    @in_thread
    def rules(beat: str, search: str | None) -> Any:
        now, view = datetime.fromisoformat(beat), parse(search)
        if not data.settings.rules:
            return empty("There is no rule, so there is no alarm. Write one under [[rules]] in moodwire.toml.")
        found = data.ask_at(now, watching.incidents, None, now - PAST, None, None)
        return [part for rule in data.settings.rules for part in section(rule, found, data.names, view, now)]

    @app.callback(Output("try-text", "value"), Input("try-rule", "value"), prevent_initial_call=True)
    def begun(name: str) -> Any:
        return next((snippet(rule) for rule in data.settings.rules if rule.name == name), no_update)

    @app.callback(
        Output("tried", "data"),
        Input("try-go", "n_clicks"),
        State("try-rule", "value"),
        State("try-text", "value"),
        prevent_initial_call=True,
    )
    @in_thread
    def go(_: int, name: str, text: str | None) -> Any:
        if not person.may("analyst"):
            return {"fault": person.REFUSED}
        own = next(r for r in data.settings.rules if r.name == name and not isinstance(r, SilenceRule))
        end = floor_time(data.clock(), 3600)
        try:
            command = Backtest(rules=both(own, read(text or "")), start=end - PAST, end=end)
            by = person.current().name or "local"
            return {"seq": give_once(data.store, "backtests", command, by, data.clock())}  # once within the hour
        except BadInput as error:
            return {"fault": f"{error}"}

    @app.callback(
        Output("try-note", "children"),
        Output("try-found", "children"),
        Input("tried", "data"),
        Input("beat", "data"),
        State("where", "search"),
    )
    @in_thread
    def came(tried: dict[str, Any] | None, beat: str, search: str | None) -> Any:
        if tried is None:
            return None, no_update
        if "fault" in tried:
            return html.Span(tried["fault"], className="bad"), no_update
        is_done, result = progress(data.store, tried["seq"])
        if not is_done:
            return (how_far(result) if result else WAITS), no_update
        try:
            found = msgspec.json.decode(result, type=Trial)
        except msgspec.MsgspecError:
            return result, no_update
        return "", outcome(found, data.names, parse(search))


def read(text: str) -> Tried:
    """A rule about news as moodwire.toml says it. Raises BadInput."""
    try:
        raw = tomllib.loads(text)
        (rule,) = raw.get("rules", [])
        rule.setdefault("kind", "surge")
        found: Tried = msgspec.convert(rule, Tried)
        return found
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"this is not TOML: {error}") from error
    except ValueError as error:  # msgspec's, too
        what = f"{error}".replace("`", "") if isinstance(error, msgspec.ValidationError) else "one [[rules]], please"
        raise BadInput(f"this is no rule that can be tried: {what}") from error


def both(own: Tried, changed: Tried) -> tuple[Tried, ...]:
    """The rule as it is, and the changed one if it differs; names that tell them apart."""
    if changed == own:
        return (own,)
    if changed.name == own.name:
        changed = msgspec.structs.replace(changed, name=f"{own.name[:56]} changed")
    return own, changed


def how_far(part: str) -> Any:
    return [
        html.Progress(value=part, max="1", **called("how far the backtest is")),
        f" {float(part):.0%} of the stories",
    ]


def outcome(found: Trial, names: dict[str, str], view: View) -> list[Any]:
    heads = {"Rule": "", "False alarms a week, set": NUMBER, "Alarms": NUMBER, "A week": NUMBER, "Most of": ""}
    rows = [
        html.Tr(
            [
                html.Th(row.rule, scope="row"),
                html.Td(setting(row), className=NUMBER),
                html.Td(f"{row.alarms}", className=NUMBER),
                html.Td(f"{row.weekly:.2f}", className=NUMBER),
                html.Td(", ".join(f"{pretty(name, names)} {count}" for name, count in row.series[:3]) or "–"),
            ],
            className="own" if row.own else "",
        )
        for row in found.settings
    ]
    alarms = sorted(found.alarms, key=lambda alarm: alarm.at, reverse=True)
    lines = [
        html.Li(
            [
                f"{view.clock(alarm.at)}, {alarm.rule}: ",
                series_link(alarm.series, names, view),
                f", {alarm.reason}; ",
                f"lasted {age(alarm.until - alarm.at)}" if alarm.until else "still open at the end",
            ]
        )
        for alarm in alarms[:LISTED]
    ]
    more = len(alarms) - len(lines)
    return [
        html.P(
            f"{view.clock(found.start)} – {view.clock(found.end)}: {found.stories:,} fresh stories.", className="note"
        ),
        html.Div(
            html.Table(
                [
                    html.Thead(html.Tr([html.Th(head, scope="col", className=kind) for head, kind in heads.items()])),
                    html.Tbody(rows),
                ],
                className="plain",
            ),
            className="scrolled",
            tabIndex=0,
        ),
        html.Ul(lines, className="marks") if lines else empty("As they are set, none would have fired."),
        html.P(f"and {more} more", className="note") if more > 0 else None,
    ]


def setting(row: TrialSetting) -> str:
    if row.per_week is None:
        return "–"
    return f"{row.per_week:g}" + (" (so it is set)" if row.own else "")


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

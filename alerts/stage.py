"""The alarms as a stage: windows and ticks in, incidents and their messages out."""

import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta

import sqlalchemy as sa

from alerts import outbox, trials
from alerts.calibration import BLOCK_S
from alerts.channels import open_channel
from alerts.counts import Count
from alerts.desk import STAGE, Desk, incident_id, incident_of, incident_row
from alerts.detect import Peak
from alerts.evidence import ends_when, telling_words
from alerts.plain import Found, PlainWatch, Story
from alerts.watch import Change, Learnt, Watch
from moodwire.records import EPOCH, Alert, Tick, Window, encode, from_seconds, one_by_one, seconds
from moodwire.settings import AnyStoryRule, ArticleRule, Rule, Settings, SilenceRule
from moodwire.stage import Context, Taken, consume
from moodwire.store.commands import JOIN_S
from moodwire.store.db import fact, set_fact
from moodwire.store.detection import Expectation, PeakRow, firing_windows, load_peaks, store_learnt
from moodwire.store.incidents import (
    alerts_after,
    fresh_counts,
    fresh_stories,
    incident_rows,
    store_alerts,
    surroundings,
)
from moodwire.store.sources import DAY_S, silent_sources
from moodwire.store.windows import load_positions, save_positions

NAME = STAGE
MOST_RECORDS = 100  # at once: thousands of windows and ticks
_APPENDED = "alerts:appended"
_STATES = {"firing": "firing", "worse": "firing", "resolved": "resolved"}
_CHANGES = {"firing": "fires", "worse": "worsens", "resolved": "over"}


def run(context: Context, notify_replayed: bool = False) -> None:
    """Until the stop: `windows` in, `alerts` out, messages sent from threads of their own."""
    channels = {c.name: open_channel(c, context.clock) for c in context.settings.channels}
    desk = Desk(*_restored(context), _told(context.settings))
    _append(context)  # what a crash left between the store and the log

    def carry_out() -> None:
        with desk.lock:
            if desk.carry_out(context.store, context.clock()):
                _append(context)

    sender = threading.Thread(
        target=outbox.run,
        args=(context.store, context.settings, channels, context.clock, context.stop, carry_out),
        name="outbox",
        daemon=True,
    )
    sender.start()

    def handle(batch: Sequence[Taken]) -> Mapping[int, int]:
        with desk.lock:
            return _handle(context, desk, batch, notify_replayed)

    tester = threading.Thread(target=trials.run, args=(context,), name="backtests", daemon=True)
    tester.start()
    consume(context, "windows", NAME, handle, MOST_RECORDS)
    tester.join(JOIN_S)
    sender.join(2 * outbox.JOIN_S)


def _told(settings: Settings) -> dict[str, tuple[str, ...]]:
    """By rule: the channels to tell."""
    every = tuple(channel.name for channel in settings.channels)
    return {rule.name: rule.channels or every for rule in settings.rules}


def _handle(context: Context, desk: Desk, batch: Sequence[Taken], notify_replayed: bool) -> dict[int, int]:
    changes: list[tuple[Found, Tick]] = []
    finished: dict[int, int] = {}
    last: Tick | None = None
    for message, taken in batch:
        records = one_by_one(taken)
        for number, record in enumerate(records, start=1):
            if isinstance(record, Window):
                count = Count(record.fresh_stories, record.fresh_negative)
                desk.watch.take(record.series, seconds(record.start), count)
                if record.fresh_stories or record.articles > record.stories:  # a copy, too, may be what it waits for
                    desk.plain.take(record.series)
            elif isinstance(record, Tick):
                at_s = seconds(record.at)
                if desk.watch.last_s is None or at_s > desk.watch.last_s:
                    last = record
                changes += [(Found(change, None), record) for change in desk.watch.tick(at_s)]
                changes += [(found, record) for found in _plain(context, desk.plain, record)]
                # Windows behind the last tick are read again after a restart: it begins at that tick.
                finished[message.partition] = message.offset + (number == len(records))
    if last is not None:
        _write(context, desk, changes, last, notify_replayed)
        if changes:
            _append(context)
    context.pulse.note = f"{desk.watch.size()} counts in memory"
    return finished


def _plain(context: Context, plain: PlainWatch, tick: Tick) -> list[Found]:
    """The plain rules at a tick: they ask the store for the stories that they look at."""

    def ask(rule: AnyStoryRule, series: str, since_s: int, until_s: int) -> list[Story]:
        since, until, positions = from_seconds(since_s), from_seconds(until_s), _positions(tick)
        with context.store.read() as connection:
            found = fresh_stories(connection, series, since, until, positions)
            of_topic = set()
            if isinstance(rule, ArticleRule):
                topic = fresh_stories(connection, f"topic:{rule.topic}", since, until, positions)
                of_topic = {story.story_id for story in topic}
        return [
            Story(s.story_id, seconds(s.start), s.label, s.score_e4 / 1e4, len(s.sources), s.story_id in of_topic)
            for s in found
        ]

    silent: dict[str, str] = {}
    if any(isinstance(rule, SilenceRule) for rule in context.settings.rules):
        # A tick of the past, where the flow catches up, knows nothing of a silence of today.
        found = [each for each in silent_sources(context.store) if each.since <= tick.at]
        silent = {f"source:{each.source}": each.reason for each in found}
    return plain.tick(seconds(tick.at), ask, silent)


def _write(
    context: Context, desk: Desk, changes: Sequence[tuple[Found, Tick]], last: Tick, notify_replayed: bool
) -> None:
    known_at = context.store.now()
    with context.store.write() as connection:
        alerts = [_alert(connection, found, tick) for found, tick in changes]
        ended = [
            (change.rule.name, change.series, change.step.incident)
            for (change, _), _ in changes
            if change.step.changed == "resolved" and change.step.incident is not None
        ]
        incidents = [incident_row(*each) for each in (*ended, *desk.open_incidents())]
        to_tell = {a.incident_id: desk.told[a.rule] for a in alerts if notify_replayed or not a.replayed}
        _store_learnt(connection, desk.watch.learnt())
        store_alerts(connection, alerts, incidents, to_tell, known_at, context.clock())
        save_positions(connection, NAME, last.at, _positions(last))


def _store_learnt(connection: sa.Connection, learnt: Learnt) -> None:
    peaks = [
        PeakRow(rule, from_seconds(peak.block * BLOCK_S), peak.series, peak.window_s, peak.score)
        for rule, peak in learnt.peaks
    ]
    times = {at_s: from_seconds(at_s) for at_s in {each.at_s for each in learnt.expectations}}
    expectations = [
        Expectation(series, rule, times[at_s], by_window) for series, rule, at_s, by_window in learnt.expectations
    ]
    store_learnt(connection, peaks, expectations)


def _alert(connection: sa.Connection, found: Found, tick: Tick) -> Alert:
    change, story_ids = found
    incident, step, verdict, rule = change.step.incident, change.step, change.verdict, change.rule
    assert incident is not None
    since, at = from_seconds(incident.since_s), from_seconds(step.at_s)
    window_s = _window_s(change)
    around = surroundings(connection, change.series, at - timedelta(seconds=window_s), at, _positions(tick), story_ids)
    return Alert(
        incident_id=incident_id(rule.name, change.series, since),
        rule=rule.name,
        series=change.series,
        state=_STATES[step.changed],  # type: ignore[arg-type]
        at=at,
        since=since,
        window_s=window_s,
        observed=verdict.observed,
        expected=verdict.expected,
        log10_tail=verdict.log10_tail,
        reason=step.reason,
        evidence=around.stories,
        replayed=tick.replayed,
        number=incident.number,
        change=_CHANGES[step.changed],  # type: ignore[arg-type]
        kind=rule.__struct_config__.tag,  # type: ignore[arg-type]
        severity=rule.severity,
        sources=around.sources,
        share=around.share,
        words=telling_words(around.titles, around.earlier),
        ends_when=ends_when(rule),
        course=None if isinstance(rule, SilenceRule) else around.course,
    )


def _window_s(change: Change) -> int:
    """The window that decided."""
    rule = change.rule
    if isinstance(rule, SilenceRule):
        return DAY_S  # what it is told by is counted by days
    return change.verdict.window_s if isinstance(rule, Rule) else round(rule.window_s)


def _append(context: Context) -> None:
    """Append the stored alerts that are not in the log yet."""
    with context.store.read() as connection:
        after = int(fact(connection, _APPENDED, "0"))
    alerts = alerts_after(context.store, after)
    if not alerts:
        return
    context.log.append("alerts", [(alert.incident_id, encode(alert), None) for _, alert in alerts])
    with context.store.write() as connection:
        set_fact(connection, _APPENDED, str(alerts[-1][0]))


def _restored(context: Context) -> tuple[Watch, PlainWatch]:
    """The watches as they were at the last tick that was written."""
    surges = [rule for rule in context.settings.rules if isinstance(rule, Rule)]
    watch = Watch(surges, context.settings.windows.fresh_s)
    plain = PlainWatch(rule for rule in context.settings.rules if not isinstance(rule, Rule))
    at, positions = load_positions(context.store, NAME)
    if at is None:
        return watch, plain
    rest_s = max((rule.cooldown_s for rule in context.settings.rules), default=0.0)
    since = max(at - timedelta(seconds=max(watch.memory_s, rest_s)), EPOCH)
    counts = fresh_counts(context.store, since, positions)
    incidents = [(row["rule"], row["series"], incident_of(row)) for row in incident_rows(context.store, since)]
    watch.restore(
        seconds(at),
        [(count.series, seconds(count.start), Count(count.stories, count.negative)) for count in counts],
        incidents,
        {
            (rule, series, seconds(began)): window_s
            for (rule, series, began), window_s in firing_windows(context.store, since).items()
        },
        [
            (row.rule, Peak(row.series, seconds(row.at) // BLOCK_S, row.window_s, row.score))
            for row in load_peaks(context.store, since)
        ],
    )
    plain.restore(seconds(at), incidents)
    return watch, plain


def _positions(tick: Tick) -> dict[int, int]:
    return {int(partition): offset for partition, offset in tick.positions.items()}

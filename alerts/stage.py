"""The alarms as a stage: windows and ticks in, incidents and their messages out."""

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from alerts import outbox
from alerts.calibration import BLOCK_S
from alerts.channels import open_channel
from alerts.counts import Count
from alerts.detect import Peak
from alerts.incidents import Incident
from alerts.watch import Change, Learnt, Watch
from moodwire.records import EPOCH, Alert, Tick, Window, encode, from_micros, micros
from moodwire.stage import Context, Taken, consume
from moodwire.store.db import fact, set_fact
from moodwire.store.detection import PeakRow, firing_windows, load_peaks, store_learnt
from moodwire.store.incidents import alerts_after, evidence, fresh_counts, incident_rows, store_alerts
from moodwire.store.windows import load_positions

NAME = "alerts"
_APPENDED = "alerts:appended"


def run(context: Context, notify_replayed: bool = False) -> None:
    """Until the stop: `windows` in, `alerts` out, messages sent from a thread of its own."""
    channels = {c.name: open_channel(c, context.clock) for c in context.settings.channels}
    told = {rule.name: rule.channels or tuple(channels) for rule in context.settings.rules}
    watch = _restored(context)
    _append(context)  # what a crash left between the store and the log
    sender = threading.Thread(
        target=outbox.run, args=(context.store, channels, context.clock, context.stop), name="outbox", daemon=True
    )
    sender.start()

    def handle(batch: Sequence[Taken]) -> Mapping[int, int]:
        changes: list[tuple[Change, Tick]] = []
        finished: dict[int, int] = {}
        last: Tick | None = None
        for message, record in batch:
            if isinstance(record, Window):
                count = Count(record.fresh_stories, record.fresh_negative)
                watch.take(record.series, seconds(record.start), count, record.revision)
            elif isinstance(record, Tick):
                if watch.last_s is None or seconds(record.at) > watch.last_s:
                    last = record
                changes += [(change, record) for change in watch.tick(seconds(record.at))]
                # Windows behind the last tick are read again after a restart: it begins at that tick.
                finished[message.partition] = message.offset + 1
        if last is not None:
            _write(context, watch, changes, last, told, notify_replayed)
            if changes:
                _append(context)
        context.pulse.note = f"{watch.size()} counts in memory"
        return finished

    consume(context, "windows", NAME, handle)


def _write(
    context: Context,
    watch: Watch,
    changes: Sequence[tuple[Change, Tick]],
    last: Tick,
    told: Mapping[str, Sequence[str]],
    notify_replayed: bool,
) -> None:
    known_at = context.store.now()
    with context.store.write() as connection:
        alerts = []
        ended = []
        for change, tick in changes:
            positions = _positions(tick)
            until = _time(change.step.at_s)
            stories = evidence(
                connection, change.series, until - timedelta(seconds=change.verdict.window_s), until, positions
            )
            alerts.append(_alert(change, tick, stories))
            if change.step.incident is not None and not change.step.incident.open:
                ended.append((change.rule.name, change.series, change.step.incident))
        incidents = [_row(*incident) for incident in (*ended, *watch.open_incidents())]
        to_tell = {alert.incident_id: told[alert.rule] for alert in alerts if notify_replayed or not alert.replayed}
        learnt = watch.learnt()
        store_learnt(connection, *_learnt_rows(learnt))
        store_alerts(connection, alerts, incidents, to_tell, known_at, (NAME, last.at, _positions(last)))


def _learnt_rows(learnt: Learnt) -> tuple[list[PeakRow], list[dict[str, Any]]]:
    peaks = [
        PeakRow(rule, _time(peak.block * BLOCK_S), peak.series, peak.window_s, peak.score)
        for rule, peak in learnt.peaks
    ]
    expectations = []
    for each in learnt.expectations:
        row = each._asdict()
        row["at"] = _time(row.pop("at_s"))
        expectations.append(row)
    return peaks, expectations


def _alert(change: Change, tick: Tick, stories: Any) -> Alert:
    incident, step, verdict = change.step.incident, change.step, change.verdict
    assert incident is not None
    since = _time(incident.since_s)
    return Alert(
        incident_id=_id(change.rule.name, change.series, since),
        rule=change.rule.name,
        series=change.series,
        state="resolved" if step.changed == "resolved" else "firing",
        at=_time(step.at_s),
        since=since,
        window_s=change.verdict.window_s,
        observed=verdict.observed,
        expected=verdict.expected,
        log10_tail=verdict.log10_tail,
        reason=step.reason,
        evidence=stories,
        replayed=tick.replayed,
    )


def _row(rule: str, series: str, incident: Incident) -> dict[str, Any]:
    since = _time(incident.since_s)
    return {
        "incident_id": _id(rule, series, since),
        "rule": rule,
        "series": series,
        "state": "firing" if incident.open else "resolved",
        "since": since,
        "until": None if incident.until_s is None else _time(incident.until_s),
        "quiet_since": None if incident.quiet_since_s is None else _time(incident.quiet_since_s),
    }


def _id(rule: str, series: str, since: datetime) -> str:
    return f"{rule}/{series}/{since:%Y-%m-%dT%H:%M:%SZ}"


def _append(context: Context) -> None:
    """Append the stored alerts that are not in the log yet."""
    with context.store.read() as connection:
        after = from_micros(int(fact(connection, _APPENDED, "0")))
    alerts = alerts_after(context.store, after)
    if not alerts:
        return
    context.log.append("alerts", [(alert.incident_id, encode(alert), None) for alert in alerts])
    with context.store.write() as connection:
        set_fact(connection, _APPENDED, str(micros(alerts[-1].at)))


def _restored(context: Context) -> Watch:
    """The watch as it was at the last tick that was written."""
    watch = Watch(context.settings.rules, context.settings.windows.fresh_s)
    at, positions = load_positions(context.store, NAME)
    if at is None:
        return watch
    since = max(at - timedelta(seconds=watch.memory_s), EPOCH)
    counts = fresh_counts(context.store, since, positions)
    incidents = incident_rows(context.store, since)
    watch.restore(
        seconds(at),
        [(count.series, seconds(count.start), Count(count.stories, count.negative)) for count in counts],
        [(row["rule"], row["series"], _incident(row)) for row in incidents],
        {
            (rule, series, seconds(began)): window_s
            for (rule, series, began), window_s in firing_windows(context.store, since).items()
        },
        [
            (row.rule, Peak(row.series, seconds(row.at) // BLOCK_S, row.window_s, row.score))
            for row in load_peaks(context.store, since)
        ],
    )
    return watch


def _incident(row: Mapping[str, Any]) -> Incident:
    def at(name: str) -> int | None:
        return None if row[name] is None else seconds(row[name])

    return Incident(since_s=seconds(row["since"]), quiet_since_s=at("quiet_since"), until_s=at("until"))


def seconds(time: datetime) -> int:
    return micros(time) // 1_000_000


def _time(seconds_: int) -> datetime:
    return datetime.fromtimestamp(seconds_, UTC)


def _positions(tick: Tick) -> dict[int, int]:
    return {int(partition): offset for partition, offset in tick.positions.items()}

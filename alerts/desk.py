"""The incidents as the stage holds them, and what people do about them: acknowledge, comment, silence."""

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from alerts.incidents import Incident, acknowledge
from alerts.plain import PlainWatch
from alerts.watch import Watch
from moodwire.records import from_seconds, seconds
from moodwire.store import schema
from moodwire.store.commands import (
    Acknowledge,
    Backtest,
    Command,
    Comment,
    EndSilence,
    Explain,
    Given,
    Silence,
    done,
    waiting,
)
from moodwire.store.db import Store
from moodwire.store.incidents import last_alert, store_alerts

STAGE = "alerts"


class Desk:
    """Both watches behind one lock: ticks come from the stage's loop, commands from the outbox's."""

    def __init__(self, watch: Watch, plain: PlainWatch, told: Mapping[str, Sequence[str]]) -> None:
        self.watch = watch
        self.plain = plain
        self.told = told  # by rule: the channels to tell
        self.lock = threading.Lock()

    def open_incidents(self) -> list[tuple[str, str, Incident]]:
        return [*self.watch.open_incidents(), *self.plain.open_incidents()]

    def carry_out(self, store: Store, now: datetime) -> int:
        """What people asked for, each in a transaction with what came of it; returns how many. Under the lock."""
        with store.read() as connection:
            given = waiting(connection, STAGE)
        for each in given:
            with store.write() as connection:
                done(connection, each.seq, now, self._do(connection, each, now))
        return len(given)

    def _do(self, connection: sa.Connection, given: Given, now: datetime) -> str:
        command: Command = given.command
        match command:
            case Acknowledge():
                return self._acknowledge(connection, command, given, now)
            case Comment():
                return _comment(connection, given, command.incident_id, command.text)
            case Silence():
                row = {
                    "id": given.seq,
                    "matchers": "\n".join(command.matchers),
                    "starts_at": command.starts_at,
                    "ends_at": command.ends_at,
                    "by": given.by,
                    "reason": command.reason,
                }
                connection.execute(sa.insert(schema.silences).values(**row))
                return f"silence {given.seq} holds until {command.ends_at:%Y-%m-%d %H:%M:%S} UTC"
            case EndSilence():
                s = schema.silences.c
                same = sa.and_(s.id == command.id, s.ends_at > now)
                ended = connection.execute(sa.update(schema.silences).where(same).values(ends_at=now)).rowcount
                return f"silence {command.id} is over" if ended else f"there is no silence {command.id} that holds"
            case Explain() | Backtest():
                return "this is not for the desk"

    def _acknowledge(self, connection: sa.Connection, command: Acknowledge, given: Given, now: datetime) -> str:
        last = last_alert(connection, command.incident_id)
        if last is None:
            return f"there is no incident {command.incident_id}"
        holder: Watch | PlainWatch = self.watch if last.kind == "surge" else self.plain
        incident = holder.incident(last.rule, last.series)
        if incident is not None:
            since = from_seconds(incident.since_s)
            if incident_id(last.rule, last.series, since) != last.incident_id:
                incident = None  # a later one of the same series
        step = acknowledge(incident, seconds(now))
        if not step.changed or step.incident is None:
            return step.reason
        alert = msgspec.structs.replace(
            last,
            state="acknowledged",
            change="acknowledged",
            number=step.incident.number,
            at=from_seconds(step.at_s),
            reason=f"acknowledged by {given.by}",
            by=given.by,
            comment=command.comment,
            replayed=False,
        )
        row = incident_row(last.rule, last.series, step.incident)
        # Who has heard of it hears of this too; nobody else does.
        store_alerts(connection, [alert], [row], {}, now, now, keep_pending=True)
        if command.comment:
            _comment(connection, given, command.incident_id, command.comment)
        holder.put_incident(last.rule, last.series, step.incident)
        return step.reason


def incident_row(rule: str, series: str, incident: Incident) -> dict[str, Any]:
    """Its row in the store."""
    since = from_seconds(incident.since_s)
    return {
        "incident_id": incident_id(rule, series, since),
        "rule": rule,
        "series": series,
        "state": incident.state,
        "since": since,
        "until": None if incident.until_s is None else from_seconds(incident.until_s),
        "quiet_since": None if incident.quiet_since_s is None else from_seconds(incident.quiet_since_s),
        "number": incident.number,
        "told_tail": incident.told_tail,
        "told_observed": incident.told_observed,
    }


def incident_of(row: Mapping[str, Any]) -> Incident:
    """The incident in a row of the store."""

    def at(name: str) -> int | None:
        return None if row[name] is None else seconds(row[name])

    return Incident(
        since_s=seconds(row["since"]),
        quiet_since_s=at("quiet_since"),
        until_s=at("until"),
        state=row["state"],
        number=row["number"],
        told_tail=row["told_tail"],
        told_observed=row["told_observed"],
    )


def incident_id(rule: str, series: str, since: datetime) -> str:
    return f"{rule}/{series}/{since:%Y-%m-%dT%H:%M:%SZ}"


def _comment(connection: sa.Connection, given: Given, incident: str, text: str) -> str:
    if last_alert(connection, incident) is None:
        return f"there is no incident {incident}"
    row = {"id": given.seq, "incident_id": incident, "at": given.given_at, "by": given.by, "text": text}
    connection.execute(sa.insert(schema.comments).values(**row))
    return "noted"

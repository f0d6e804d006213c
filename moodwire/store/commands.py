"""What people ask of the stages, as rows: dashboard, API and command line write, the owning stage carries out."""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from moodwire.errors import BadInput, MoodwireError
from moodwire.matchers import parse
from moodwire.settings import AnyStoryRule, Rule
from moodwire.store import schema
from moodwire.store.access import note
from moodwire.store.db import Store

log = logging.getLogger(__name__)
LONGEST_BACKTEST = timedelta(days=366)
LOOK_S = 0.5
JOIN_S = 5.0  # what is being carried out has so long to end with its stage
MOST_TEXT = 2000  # characters of a comment or reason


class Acknowledge(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="acknowledge"):
    """Someone takes an incident on: it is repeated no more."""

    incident_id: str
    comment: str = ""


class Comment(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="comment"):
    incident_id: str
    text: str


class Silence(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="silence"):
    """Nothing is sent of what all the matchers match, from `starts_at` until `ends_at`; also a maintenance window."""

    matchers: tuple[str, ...]
    starts_at: datetime
    ends_at: datetime
    reason: str


class EndSilence(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="end_silence"):
    id: int


class Explain(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="explain"):
    """Which words moved the score of an article: for the classifier."""

    id: str
    revision: int


class Backtest(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="backtest"):
    """What rules would have said of the stored news between two times: for the alarms, in a process of its own."""

    rules: tuple[Rule | AnyStoryRule, ...]
    start: datetime
    end: datetime


Command = Acknowledge | Comment | Silence | EndSilence | Explain | Backtest


class Given(NamedTuple):
    """A command that waits to be carried out."""

    seq: int
    command: Command
    by: str
    given_at: datetime


def give(store: Store, stage: str, command: Command, by: str, now: datetime) -> int:
    """Write a command for a stage; returns its number. Raises BadInput for one that can't be carried out."""
    if fault := _fault(command, by):
        raise BadInput(fault)
    row = {"stage": stage, "record": msgspec.json.encode(command), "by": by, "given_at": now, "result": ""}
    with store.write() as connection:
        seq = connection.execute(sa.insert(schema.commands).values(**row)).inserted_primary_key
        assert seq is not None
        note(connection, now, by, *_told(command))
        return int(seq[0])


def give_once(store: Store, stage: str, command: Command, by: str, now: datetime) -> int:
    """As `give`, where nobody asked for exactly this before; else the number of the newest that did."""
    known = last_of(store, command)
    return give(store, stage, command, by, now) if known is None else known


def waiting(connection: sa.Connection, stage: str) -> list[Given]:
    """What a stage has not carried out yet, in order."""
    c = schema.commands.c
    query = sa.select(c.seq, c.record, c.by, c.given_at).where(c.stage == stage, c.done_at.is_(None)).order_by(c.seq)
    return [
        Given(row.seq, msgspec.json.decode(row.record, type=Command), row.by, row.given_at)
        for row in connection.execute(query)
    ]


def obey(store: Store, stage: str, stop: threading.Event, carry_out: Callable[[Given], None]) -> None:
    """Until the stop: carry out what people ask of a stage, in order. In a thread beside the stage's own work."""
    while not stop.wait(LOOK_S):
        try:
            with store.read() as connection:
                given = waiting(connection, stage)
            for each in given:
                if stop.is_set():
                    return
                carry_out(each)
        except MoodwireError as error:  # the store is away for a while: they wait
            log.warning("%s", error)


def done(connection: sa.Connection, seq: int, now: datetime, result: str) -> None:
    """Mark a command, in the transaction that carries it out."""
    c = schema.commands.c
    connection.execute(sa.update(schema.commands).where(c.seq == seq).values(done_at=now, result=result))


def say(store: Store, seq: int, progress: str) -> None:
    """How far a command is that takes long."""
    c = schema.commands.c
    with store.write() as connection:
        connection.execute(sa.update(schema.commands).where(c.seq == seq, c.done_at.is_(None)).values(result=progress))


def progress(store: Store, seq: int) -> tuple[bool, str]:
    """Whether a command is done, and what came of it; until then how far it is, as far as it says so."""
    c = schema.commands.c
    with store.read() as connection:
        row = connection.execute(sa.select(c.done_at, c.result).where(c.seq == seq)).first()
    return (False, "") if row is None else (row.done_at is not None, row.result)


def last_of(store: Store, command: Command) -> int | None:
    """The newest command that asks for exactly this."""
    c = schema.commands.c
    query = sa.select(c.seq).where(c.record == msgspec.json.encode(command)).order_by(c.seq.desc()).limit(1)
    with store.read() as connection:
        return connection.execute(query).scalar()


def result(store: Store, seq: int) -> str | None:
    """What came of a command, in words; None as long as it waits."""
    is_done, text = progress(store, seq)
    return text if is_done else None


def _told(command: Command) -> tuple[str, str]:
    """For the trail: what is asked for, and about what."""
    match command:
        case Acknowledge():
            return "acknowledge", command.incident_id
        case Comment():
            return "comment", command.incident_id
        case Silence():
            return "silence", f"{', '.join(command.matchers)} until {command.ends_at:%Y-%m-%d %H:%M} UTC"
        case EndSilence():
            return "end silence", f"{command.id}"
        case Explain():
            return "explain", f"{command.id} {command.revision}"
        case Backtest():
            return "backtest", ", ".join(rule.name for rule in command.rules)


def _fault(command: Command, by: str) -> str:
    texts: Sequence[str] = ()
    if isinstance(command, Silence):
        if not command.matchers:
            return "a silence needs at least one matcher, for example series=entity:AAPL"
        if command.ends_at <= command.starts_at:
            return "a silence must end after it starts"
        if not command.reason.strip():
            return "a silence needs a reason"
        for text in command.matchers:
            parse(text)
        texts = (command.reason, *command.matchers)
    elif isinstance(command, Acknowledge):
        texts = (command.comment,)
    elif isinstance(command, Backtest):
        if command.end <= command.start or command.end - command.start > LONGEST_BACKTEST:
            return f"a backtest needs a span of at most {LONGEST_BACKTEST.days} days"
        names = [rule.name for rule in command.rules]
        if not names or len(names) > 2 or len(set(names)) < len(names):
            return "a backtest needs one rule, or two of different names"
    elif isinstance(command, Comment):
        if not command.text.strip():
            return "an empty comment"
        texts = (command.text,)
    if not by.strip():
        return "say who asks for it"
    return f"longer than {MOST_TEXT} characters" if any(len(text) > MOST_TEXT for text in (*texts, by)) else ""

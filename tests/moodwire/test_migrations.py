"""Stores of earlier schemas, with alarms in them and messages on their way, opened by this version."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from alerts.messages import Message
from moodwire.records import Alert, decode, micros
from moodwire.store import schema
from moodwire.store.db import Store
from moodwire.store.detection import expected
from moodwire.store.incidents import alerts_after
from moodwire.store.queries import open_incidents
from tests.helpers import STORES, T0, after

RECORD = (
    b'{"type":"alert","incident_id":"surge/entity:X/%s","rule":"surge","series":"entity:X","state":"%s",'
    b'"at":"2024-03-04T12:00:00Z","since":"2024-03-04T12:00:00Z","window_s":3600,"observed":9,"expected":0.4,'
    b'"log10_tail":-8.0,"reason":"r"}'
)
ROWS = (("a", "firing", 100), ("a", "resolved", 200), ("b", "firing", 300))


def insert(connection: sa.Connection, table: str, values: str, given: dict[str, Any]) -> None:
    """A row as the first schema had it."""
    times = [sa.bindparam(name, type_=schema.UtcTime()) for name in ("at", "since", "until") if name in given]
    typed = [one for one in times if not isinstance(given[one.key], str)]
    connection.execute(sa.text(f"INSERT INTO {table} VALUES ({values})").bindparams(*typed), given)


def as_of(connection: sa.Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


@pytest.mark.parametrize("kind", STORES)
def test_alarms_and_messages_of_the_first_schema_come_along(tmp_path: Path, kind: str) -> None:
    store = Store(STORES[kind](tmp_path))
    with store.write() as connection:
        as_of(connection, "0001")
        for name, state, at in ROWS:
            id_, record = f"surge/entity:X/{name}", RECORD % (name.encode(), state.encode())
            given = {"id": id_, "key": id_ + state, "state": state, "at": after(at), "record": record}
            insert(connection, "alerts", ":id, :state, 'surge', 'entity:X', :at, :record, :at", given)
            values = ":key, 'hook', :id, :state, :record, 'waiting', 0, :at, :at, NULL, ''"
            insert(connection, "deliveries", values, given)
        for name, until in (("a", after(200)), ("b", None)):
            given = {"id": f"surge/entity:X/{name}", "state": "resolved" if until else "firing", "until": until}
            values = ":id, 'surge', 'entity:X', :state, :since, :until, NULL"
            insert(connection, "incidents", values, {**given, "since": T0})
        insert(connection, "facts", "'alerts:appended', :at", {"at": str(micros(after(200)))})
    store.upgrade()
    with store.read() as connection:
        a, d = schema.alerts.c, schema.deliveries.c
        rows = connection.execute(sa.select(a.seq, a.incident_id, a.number, a.record).order_by(a.seq)).all()
        messages = [
            msgspec.json.decode(data, type=Message)
            for data in connection.execute(sa.select(d.record).order_by(d.created_at)).scalars()
        ]
        appended = connection.execute(sa.select(schema.facts.c.value)).scalar_one()
    assert [(row.incident_id[-1], row.number) for row in rows] == [("a", 1), ("a", 2), ("b", 1)]
    records = [decode(row.record) for row in rows]
    assert [(r.number, r.change) for r in records if isinstance(r, Alert)] == [(1, "fires"), (2, "over"), (1, "fires")]
    assert [(m.alerts[0].state, m.alerts[0].change, m.alerts[0].number) for m in messages] == [
        ("firing", "fires", 1),
        ("resolved", "over", 2),
        ("firing", "fires", 1),
    ]
    assert [alert.incident_id[-1] for _, alert in alerts_after(store, int(appended))] == ["b"], "not appended yet"
    assert [alert.incident_id[-1] for alert in open_incidents(store)] == ["b"]
    store.close()


@pytest.mark.parametrize("kind", STORES)
def test_what_was_expected_comes_along(tmp_path: Path, kind: str) -> None:
    store = Store(STORES[kind](tmp_path))
    with store.write() as connection:
        as_of(connection, "0009_access")
        for at in (0, 900):
            for window_s, value, threshold in ((900, 0.000848239, 3), (3600, 1.5, 7)):
                given = {"window_s": window_s, "at": after(at), "value": value, "threshold": threshold}
                insert(connection, "expectations", "'all', 'surge', :window_s, :at, :value, :threshold", given)
    store.upgrade()
    assert [tuple(row) for row in expected(store, "all", T0, after(901))] == [
        ("surge", window_s, after(at), value, threshold)
        for at in (0, 900)
        for window_s, value, threshold in ((900, 0.000848239, 3), (3600, 1.5, 7))
    ]
    store.close()

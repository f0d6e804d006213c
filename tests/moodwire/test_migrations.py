"""A store of the first schema, with alarms in it and messages on their way, opened by this version."""

from pathlib import Path

import msgspec
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from alerts.messages import Message
from moodwire.records import Alert, decode
from moodwire.store import schema
from moodwire.store.db import Store
from moodwire.store.incidents import alerts_after
from moodwire.store.queries import open_incidents

RECORD = (
    b'{"type":"alert","incident_id":"surge/entity:X/%s","rule":"surge","series":"entity:X","state":"%s",'
    b'"at":"2024-03-04T12:00:00Z","since":"2024-03-04T12:00:00Z","window_s":3600,"observed":9,"expected":0.4,'
    b'"log10_tail":-8.0,"reason":"r"}'
)
ROWS = (("a", "firing", 100), ("a", "resolved", 200), ("b", "firing", 300))


def test_alarms_and_messages_of_the_first_schema_come_along(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'moodwire.db'}")
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    with store.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for name, state, at in ROWS:
            id_, record = f"surge/entity:X/{name}", RECORD % (name.encode(), state.encode())
            given = {"id": id_, "state": state, "at": at, "record": record}
            connection.execute(
                sa.text("INSERT INTO alerts VALUES (:id, :state, 'surge', 'entity:X', :at, :record, :at)"), given
            )
            connection.execute(
                sa.text(
                    "INSERT INTO deliveries VALUES "
                    "(:id || :state, 'hook', :id, :state, :record, 'waiting', 0, :at, :at, NULL, '')"
                ),
                given,
            )
        for name, until in (("a", 200), ("b", None)):
            connection.execute(
                sa.text("INSERT INTO incidents VALUES (:id, 'surge', 'entity:X', :state, 100, :until, NULL)"),
                {"id": f"surge/entity:X/{name}", "state": "resolved" if until else "firing", "until": until},
            )
        connection.execute(sa.text("INSERT INTO facts VALUES ('alerts:appended', '200')"))
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

"""Incidents that people act on: changes by number, notices by channel, messages of several alerts, commands."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from moodwire.records import from_micros
from moodwire.store.schema import UtcTime

revision = "0003_deliver"
down_revision = "0002_produce"

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for name, kind, default in (
        ("number", sa.Integer(), "1"),
        ("told_tail", sa.Float(), "0"),
        ("told_observed", sa.Integer(), "0"),
    ):
        op.add_column("incidents", sa.Column(name, kind, nullable=False, server_default=default))
    op.execute("UPDATE incidents SET number = 2 WHERE until IS NOT NULL")
    _alerts()
    _deliveries()
    op.create_table(
        "notices",
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("incident_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.Column("told", sa.Integer(), nullable=False),
        sa.Column("told_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("channel", "incident_id"),
    )
    op.create_table(
        "commands",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("given_at", UtcTime(), nullable=False),
        sa.Column("done_at", UtcTime(), nullable=True),
        sa.Column("result", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("commands_waiting", "commands", ["stage", "done_at"], unique=False)
    op.create_table(
        "silences",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("matchers", sa.String(), nullable=False),
        sa.Column("starts_at", UtcTime(), nullable=False),
        sa.Column("ends_at", UtcTime(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "comments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("incident_id", sa.String(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("comments_incident", "comments", ["incident_id"], unique=False)


def _alerts() -> None:
    """A key that holds several changes of one state, and a sequence for the appender."""
    op.drop_index("alerts_at", "alerts")
    op.rename_table("alerts", "alerts_0001")
    op.create_table(
        "alerts",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("incident_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("known_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="alerts_seq"),
        sa.UniqueConstraint("incident_id", "number"),
        sqlite_autoincrement=True,
    )
    op.execute(
        "INSERT INTO alerts (incident_id, number, state, rule, series, at, record, known_at) "
        "SELECT incident_id, CASE state WHEN 'resolved' THEN 2 ELSE 1 END, state, rule, series, at, record, known_at "
        "FROM alerts_0001 ORDER BY at, state"
    )
    op.drop_table("alerts_0001")
    op.create_index("alerts_at", "alerts", ["at"], unique=False)
    a = sa.table("alerts", sa.column("seq"), sa.column("at", UtcTime()), sa.column("state"), sa.column("record"))
    facts = sa.table("facts", sa.column("name"), sa.column("value"))
    connection = op.get_bind()
    over = sa.select(a.c.seq, a.c.record).where(a.c.state == "resolved")
    for seq, record in connection.execute(over).all():
        connection.execute(sa.update(a).where(a.c.seq == seq).values(record=json.dumps(_numbered(record)).encode()))
    # The appender followed the time, and follows the sequence now.
    mine = facts.c.name == "alerts:appended"
    value = connection.execute(sa.select(facts.c.value).where(mine)).scalar()
    if value is not None:
        last = sa.select(sa.func.coalesce(sa.func.max(a.c.seq), 0)).where(a.c.at <= from_micros(int(value)))
        seq = connection.execute(last).scalar_one()
        connection.execute(sa.update(facts).where(mine).values(value=str(seq)))


def _deliveries() -> None:
    """A message holds several alerts; those on their way are wrapped."""
    d = sa.table("deliveries", *(sa.column(name) for name in ("key", "record", "incidents")))
    op.drop_index("deliveries_waiting", "deliveries")
    op.add_column("deliveries", sa.Column("incidents", sa.String(), nullable=False, server_default=""))
    op.execute("UPDATE deliveries SET incidents = incident_id")
    connection = op.get_bind()
    for key, record in connection.execute(sa.select(d.c.key, d.c.record)).all():
        wrapped = json.dumps({"key": key, "alerts": [_numbered(record)]}).encode()
        connection.execute(sa.update(d).where(d.c.key == key).values(record=wrapped))
    op.drop_column("deliveries", "incident_id")
    op.drop_column("deliveries", "state")
    op.create_index("deliveries_waiting", "deliveries", ["channel", "status", "next_at"], unique=False)


def _numbered(record: bytes) -> Any:
    alert = json.loads(record)
    return alert | ({"number": 2, "change": "over"} if alert["state"] == "resolved" else {})


def downgrade() -> None:
    raise NotImplementedError("messages of several alerts have no place in the first schema; restore a backup")

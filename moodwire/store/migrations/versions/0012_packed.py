"""TimescaleDB packs what windows are counted from, by series, and no longer articles and scores."""

from alembic import op

from moodwire.store import timescale

revision = "0012_packed"
down_revision = "0011_dash5"


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql" and timescale.is_hypertable(connection, "counted"):
        timescale.pack(connection)


def downgrade() -> None:
    raise NotImplementedError("restore a backup of the version before")

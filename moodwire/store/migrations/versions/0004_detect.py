"""What the alarms learn: peaks for the calibration, and what was expected."""

import sqlalchemy as sa
from alembic import op

from moodwire.store.schema import UtcTime

revision = "0004_detect"
down_revision = "0003_deliver"


def upgrade() -> None:
    op.create_table(
        "peaks",
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("window_s", sa.Integer(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("rule", "at", "series", "window_s"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "expectations",
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("window_s", sa.Integer(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("expected", sa.Float(), nullable=False),
        sa.Column("threshold", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("series", "rule", "window_s", "at"),
        sqlite_with_rowid=False,
    )

"""Sources' health by day, hosts left alone, what was said of an article."""

import sqlalchemy as sa
from alembic import op

from moodwire.store.schema import UtcTime

revision = "0005_ingest"
down_revision = "0004_detect"


def upgrade() -> None:
    op.add_column("feeds", sa.Column("first_at", UtcTime(), nullable=True))
    op.add_column("feeds", sa.Column("item_at", UtcTime(), nullable=True))
    op.add_column("feeds", sa.Column("silent_since", UtcTime(), nullable=True))
    op.add_column("feeds", sa.Column("silence", sa.String(), server_default="", nullable=False))
    op.create_table(
        "feed_days",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("day", UtcTime(), nullable=False),
        sa.Column("fetches", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("took_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("items", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("source", "day"),
    )
    op.create_table(
        "hosts",
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("free_at", UtcTime(), nullable=False),
        sa.Column("told_to_wait", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("origin"),
    )
    op.create_table(
        "entries",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("mark", sa.String(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", "mark"),
        sqlite_with_rowid=False,
    )
    op.create_index("entries_at", "entries", ["at"])
    addressless = sa.text("url = ''")
    op.create_index(
        "articles_content", "articles", ["content_hash"], sqlite_where=addressless, postgresql_where=addressless
    )

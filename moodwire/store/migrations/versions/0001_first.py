"""The first schema."""

import sqlalchemy as sa
from alembic import op

from moodwire.store.schema import UtcTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("incident_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("known_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("incident_id", "state"),
    )
    op.create_index("alerts_at", "alerts", ["at"], unique=False)
    op.create_table(
        "articles",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("published_at", UtcTime(), nullable=False),
        sa.Column("seen_at", UtcTime(), nullable=False),
        sa.Column("story_id", sa.String(), nullable=False),
        sa.Column("tickers", sa.String(), nullable=False),
        sa.Column("replayed", sa.Boolean(), nullable=False),
        sa.Column("date_note", sa.String(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id", "revision"),
        sqlite_autoincrement=True,
    )
    op.create_index("articles_published", "articles", ["published_at"], unique=False)
    op.create_index("articles_story", "articles", ["story_id"], unique=False)
    op.create_table(
        "counted",
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("start", UtcTime(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("story_id", sa.String(), nullable=False),
        sa.Column("label", sa.SmallInteger(), nullable=False),
        sa.Column("score_e4", sa.Integer(), nullable=False),
        sa.Column("fresh", sa.Boolean(), nullable=False),
        sa.Column("first_article", sa.Boolean(), nullable=False),
        sa.Column("first_story", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("series", "start", "partition", "offset"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "deliveries",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("incident_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", UtcTime(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("delivered_at", UtcTime(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("deliveries_waiting", "deliveries", ["status", "next_at"], unique=False)
    op.create_table(
        "facts",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "feeds",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("moved_to", sa.String(), server_default="", nullable=False),
        sa.Column("etag", sa.String(), server_default="", nullable=False),
        sa.Column("last_modified", sa.String(), server_default="", nullable=False),
        sa.Column("next_at", UtcTime(), nullable=True),
        sa.Column("success_at", UtcTime(), nullable=True),
        sa.Column("error_at", UtcTime(), nullable=True),
        sa.Column("error", sa.String(), server_default="", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unchanged", sa.Integer(), server_default="0", nullable=False),
        sa.Column("items", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("source"),
    )
    op.create_table(
        "incidents",
        sa.Column("incident_id", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("since", UtcTime(), nullable=False),
        sa.Column("until", UtcTime(), nullable=True),
        sa.Column("quiet_since", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("incident_id"),
    )
    op.create_index("incidents_since", "incidents", ["since"], unique=False)
    op.create_table(
        "scores",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("story_id", sa.String(), nullable=False),
        sa.Column("published_at", UtcTime(), nullable=False),
        sa.Column("seen_at", UtcTime(), nullable=False),
        sa.Column("p_negative", sa.Float(), nullable=False),
        sa.Column("p_neutral", sa.Float(), nullable=False),
        sa.Column("p_positive", sa.Float(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("p_topic", sa.Float(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("scored_at", UtcTime(), nullable=False),
        sa.Column("known_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", "revision", "model"),
    )
    op.create_index("scores_published", "scores", ["published_at"], unique=False)
    op.create_index("scores_story", "scores", ["story_id"], unique=False)
    op.create_table(
        "stages",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("beat_at", UtcTime(), nullable=False),
        sa.Column("processed", sa.BigInteger(), nullable=False),
        sa.Column("dead_letters", sa.BigInteger(), nullable=False),
        sa.Column("lag", sa.BigInteger(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "ticks",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("positions", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "windows",
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("length_s", sa.Integer(), nullable=False),
        sa.Column("start", UtcTime(), nullable=False),
        sa.Column("articles", sa.Integer(), nullable=False),
        sa.Column("stories", sa.Integer(), nullable=False),
        sa.Column("negative", sa.Integer(), nullable=False),
        sa.Column("neutral", sa.Integer(), nullable=False),
        sa.Column("positive", sa.Integer(), nullable=False),
        sa.Column("fresh_stories", sa.Integer(), nullable=False),
        sa.Column("fresh_negative", sa.Integer(), nullable=False),
        sa.Column("fresh_neutral", sa.Integer(), nullable=False),
        sa.Column("fresh_positive", sa.Integer(), nullable=False),
        sa.Column("score_sum_e4", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("series", "length_s", "start"),
        sqlite_with_rowid=False,
    )
    op.create_index("windows_start", "windows", ["start"], unique=False)


def downgrade() -> None:
    op.drop_table("windows")
    op.drop_table("ticks")
    op.drop_table("stages")
    op.drop_table("scores")
    op.drop_table("incidents")
    op.drop_table("feeds")
    op.drop_table("facts")
    op.drop_table("deliveries")
    op.drop_table("counted")
    op.drop_table("articles")
    op.drop_table("alerts")

"""Who may do what, and did; what was known since; rollups of a span; views for those who bring their own client.

A later change of a table that a view reads drops the view first and makes it anew.
"""

import sqlalchemy as sa
from alembic import op

from moodwire.store.schema import UtcTime

revision = "0009_access"
down_revision = "0008_lease"


def views(sqlite: bool) -> dict[str, str]:
    """By name. Times are timestamptz in PostgreSQL, ISO 8601 in SQLite, which keeps microseconds since 1970."""

    def time(column: str) -> str:
        if not sqlite:
            return column
        return f"strftime('%Y-%m-%dT%H:%M:%SZ', {column} / 1000000, 'unixepoch')"

    course = (
        f"select series, {time('start')} as start, "
        "case when stories > 0 then score_sum_e4 / 10000.0 / stories end as score, "
        "stories, negative, neutral, positive, articles from windows where length_s = {length}"
    )
    label = "case c.label when -1 then 'negative' when 0 then 'neutral' else 'positive' end"
    return {
        "v_sentiment_hourly": course.format(length=3600),
        "v_sentiment_daily": course.format(length=86_400),
        "v_stories": (
            f"select c.series, c.story_id, c.id, c.revision, a.source, a.url, a.title, {time('a.published_at')} "
            f"as published_at, {time('a.seen_at')} as seen_at, {label} as label, c.score_e4 / 10000.0 as score "
            "from counted c join articles a on a.id = c.id and a.revision = c.revision where c.first_story"
        ),
        "v_incidents": (
            f"select incident_id, rule, series, state, {time('since')} as since, {time('until')} as until "
            "from incidents"
        ),
    }


def upgrade() -> None:
    for name, query in views(op.get_bind().dialect.name == "sqlite").items():
        op.execute(f"create view {name} as {query}")
    op.create_index("scores_known", "scores", ["known_at"])
    op.create_index("windows_length", "windows", ["length_s", "start"])
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("made_at", UtcTime(), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.Column("ends_at", UtcTime(), nullable=True),
        sa.Column("revoked_at", UtcTime(), nullable=True),
        sa.Column("used_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "sessions",
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("ends_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("about", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )

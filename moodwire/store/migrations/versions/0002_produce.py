"""Rollups of the windows. PostgreSQL: the big tables by month, and what is unique in a registry."""

import sqlalchemy as sa
from alembic import op

from moodwire.store import partitions, timescale

revision = "0002_produce"
down_revision = "0001"

KEYS = {
    "articles": "id, revision, seen_at",
    "scores": "id, revision, model, seen_at",
    "counted": 'series, start, partition, "offset"',
}
INDICES = {
    "articles": {"articles_published": "published_at", "articles_story": "story_id", "articles_seq": "seq"},
    "scores": {"scores_published": "published_at", "scores_story": "story_id"},
    "counted": {},
}


SUMS = (
    *("articles", "stories", "negative", "neutral", "positive"),
    *("fresh_stories", "fresh_negative", "fresh_neutral", "fresh_positive", "score_sum_e4", "revision"),
)


def upgrade() -> None:
    connection = op.get_bind()
    for length_s, below in ((300, 60), (3600, 300), (86_400, 3600)):
        if connection.dialect.name == "sqlite":  # microseconds
            start = f"start - start % {length_s * 1_000_000}"
        else:
            start = f"to_timestamp(floor(extract(epoch FROM start) / {length_s}) * {length_s})"
        op.execute(
            f"INSERT INTO windows (series, length_s, start, {', '.join(SUMS)}) "
            f"SELECT series, {length_s}, {start} AS begun, {', '.join(f'sum({name})' for name in SUMS)} "
            f"FROM windows WHERE length_s = {below} GROUP BY series, begun"
        )
    if connection.dialect.name != "postgresql":
        return
    partitions.registry.create(connection)
    connection.execute(
        sa.text(
            "INSERT INTO registry (id, revision, source, content_hash, story_id, seen_at, published_at) "
            "SELECT id, revision, source, content_hash, story_id, seen_at, published_at FROM articles"
        )
    )
    by_timescale = timescale.is_available(connection)
    for table, time in partitions.TIMES.items():
        op.rename_table(table, f"{table}_before")
        how = "" if by_timescale else f"PARTITION BY RANGE ({time})"
        op.execute(f"CREATE TABLE {table} (LIKE {table}_before INCLUDING DEFAULTS) {how}")
        if table == "articles":
            op.execute("ALTER SEQUENCE articles_seq_seq OWNED BY articles.seq")
        if not by_timescale:
            times = connection.execute(sa.text(f"SELECT DISTINCT {time} FROM {table}_before")).scalars()
            for month in sorted({partitions.month(at) for at in times}):
                partitions.make(connection, table, month)
        op.execute(f"INSERT INTO {table} SELECT * FROM {table}_before")
        op.drop_table(f"{table}_before")
        op.execute(f"ALTER TABLE {table} ADD PRIMARY KEY ({KEYS[table]})")
        for index, column in INDICES[table].items():
            op.execute(f"CREATE INDEX {index} ON {table} ({column})")
        if by_timescale:
            timescale.make(connection, table, time)


def downgrade() -> None:
    raise NotImplementedError("restore a backup of the version before")

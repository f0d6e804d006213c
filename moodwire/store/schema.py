"""The tables, in the order of the flow. Times are UTC: timestamptz in PostgreSQL, integer microseconds in SQLite."""

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from moodwire.records import from_micros, micros


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A time in UTC, to the microsecond."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[datetime]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.BigInteger())  # type: ignore[arg-type]
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> object:
        if value is None or dialect.name != "sqlite":
            return value
        return micros(value)

    def process_result_value(self, value: object, dialect: Dialect) -> datetime | None:
        if isinstance(value, int):
            return from_micros(value)
        # PostgreSQL gives times in the session's zone.
        return value.astimezone(UTC) if isinstance(value, datetime) else None


metadata = sa.MetaData()

articles = sa.Table(
    "articles",
    metadata,
    # Ingest's outbox: the appender follows `seq`.
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.String, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("url", sa.String, nullable=False),
    sa.Column("title", sa.String, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("language", sa.String, nullable=False),
    sa.Column("published_at", UtcTime, nullable=False),
    sa.Column("seen_at", UtcTime, nullable=False),
    sa.Column("story_id", sa.String, nullable=False),
    sa.Column("tickers", sa.String, nullable=False),  # separated by spaces
    sa.Column("replayed", sa.Boolean, nullable=False),
    sa.Column("date_note", sa.String, nullable=False),
    sa.Column("content_hash", sa.String, nullable=False),  # of title and body: an equal one is no new revision
    sa.UniqueConstraint("id", "revision"),
    sa.Index("articles_published", "published_at"),
    sa.Index("articles_story", "story_id"),
    sqlite_autoincrement=True,
)

feeds = sa.Table(
    "feeds",
    metadata,
    sa.Column("source", sa.String, primary_key=True),
    sa.Column("url", sa.String, nullable=False),
    sa.Column("moved_to", sa.String, nullable=False, server_default=""),  # where it now stands for good
    sa.Column("etag", sa.String, nullable=False, server_default=""),
    sa.Column("last_modified", sa.String, nullable=False, server_default=""),
    sa.Column("next_at", UtcTime),
    sa.Column("success_at", UtcTime),
    sa.Column("error_at", UtcTime),
    sa.Column("error", sa.String, nullable=False, server_default=""),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # in a row
    sa.Column("unchanged", sa.Integer, nullable=False, server_default="0"),  # times in a row that nothing was new
    sa.Column("items", sa.Integer, nullable=False, server_default="0"),  # new articles ever
)

scores = sa.Table(
    "scores",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("story_id", sa.String, nullable=False),
    sa.Column("published_at", UtcTime, nullable=False),
    sa.Column("seen_at", UtcTime, nullable=False),
    sa.Column("p_negative", sa.Float, nullable=False),
    sa.Column("p_neutral", sa.Float, nullable=False),
    sa.Column("p_positive", sa.Float, nullable=False),
    sa.Column("score", sa.Float, nullable=False),  # p_positive - p_negative
    sa.Column("topic", sa.String, nullable=False),  # the most probable
    sa.Column("p_topic", sa.Float, nullable=False),
    sa.Column("record", sa.LargeBinary, nullable=False),  # the whole Scored, as on the wire
    sa.Column("scored_at", UtcTime, nullable=False),
    sa.Column("known_at", UtcTime, nullable=False),
    sa.Index("scores_published", "published_at"),
    sa.Index("scores_story", "story_id"),
)

# One row per (article, series it counts for). `first_article` and `first_story` say whether this row is the one by
# which the article and the story count for the series.
counted = sa.Table(
    "counted",
    metadata,
    sa.Column("series", sa.String, primary_key=True),
    sa.Column("start", UtcTime, primary_key=True),  # of its 60 s window, by publication
    sa.Column("partition", sa.Integer, primary_key=True),  # position in `articles`
    sa.Column("offset", sa.BigInteger, primary_key=True),
    sa.Column("id", sa.String, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("story_id", sa.String, nullable=False),
    sa.Column("label", sa.SmallInteger, nullable=False),  # -1 negative, 0 neutral, 1 positive
    sa.Column("score_e4", sa.Integer, nullable=False),
    sa.Column("fresh", sa.Boolean, nullable=False),
    sa.Column("first_article", sa.Boolean, nullable=False),
    sa.Column("first_story", sa.Boolean, nullable=False),
    sqlite_with_rowid=False,
)

windows = sa.Table(
    "windows",
    metadata,
    sa.Column("series", sa.String, primary_key=True),
    sa.Column("length_s", sa.Integer, primary_key=True),
    sa.Column("start", UtcTime, primary_key=True),
    sa.Column("articles", sa.Integer, nullable=False),
    sa.Column("stories", sa.Integer, nullable=False),
    sa.Column("negative", sa.Integer, nullable=False),
    sa.Column("neutral", sa.Integer, nullable=False),
    sa.Column("positive", sa.Integer, nullable=False),
    sa.Column("fresh_stories", sa.Integer, nullable=False),
    sa.Column("fresh_negative", sa.Integer, nullable=False),
    sa.Column("fresh_neutral", sa.Integer, nullable=False),
    sa.Column("fresh_positive", sa.Integer, nullable=False),
    sa.Column("score_sum_e4", sa.BigInteger, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Index("windows_start", "start"),
    sqlite_with_rowid=False,
)

# The tick up to which the alarms have been decided: detection resumes after it.
ticks = sa.Table(
    "ticks",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("positions", sa.String, nullable=False),  # JSON: partition -> offset in `articles`
)

incidents = sa.Table(
    "incidents",
    metadata,
    sa.Column("incident_id", sa.String, primary_key=True),
    sa.Column("rule", sa.String, nullable=False),
    sa.Column("series", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("since", UtcTime, nullable=False),
    sa.Column("until", UtcTime),  # when resolved
    sa.Column("quiet_since", UtcTime),  # since when the condition no longer holds
    sa.Index("incidents_since", "since"),
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("incident_id", sa.String, primary_key=True),
    sa.Column("state", sa.String, primary_key=True),
    sa.Column("rule", sa.String, nullable=False),
    sa.Column("series", sa.String, nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("record", sa.LargeBinary, nullable=False),  # the whole Alert, as on the wire
    sa.Column("known_at", UtcTime, nullable=False),
    sa.Index("alerts_at", "at"),
)

# The outbox: a message is written with the change of state it tells of, then sent.
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("key", sa.String, primary_key=True),  # idempotency key, also Message-ID: incident, state, channel
    sa.Column("channel", sa.String, nullable=False),
    sa.Column("incident_id", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("record", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.String, nullable=False),  # waiting, delivered, failed
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", UtcTime, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("delivered_at", UtcTime),
    sa.Column("last_error", sa.String, nullable=False),
    sa.Index("deliveries_waiting", "status", "next_at"),
)

stages = sa.Table(
    "stages",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("beat_at", UtcTime, nullable=False),
    sa.Column("processed", sa.BigInteger, nullable=False),
    sa.Column("dead_letters", sa.BigInteger, nullable=False),
    sa.Column("lag", sa.BigInteger, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("note", sa.String, nullable=False),
)

# Small facts: the outbox's position, how far a replayed file was read.
facts = sa.Table(
    "facts",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)

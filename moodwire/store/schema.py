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
_ADDRESSLESS = sa.text("url = ''")

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
    sa.Index("articles_source", "source", "published_at", "seen_at"),
    # Items without an address, whose source may give them another id each time.
    sa.Index("articles_content", "content_hash", sqlite_where=_ADDRESSLESS, postgresql_where=_ADDRESSLESS),
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
    sa.Column("pace", sa.Float),  # new articles an hour, as learnt
    sa.Column("listed", sa.Integer, nullable=False, server_default="0"),  # items in it when it was had last
    sa.Column("items", sa.Integer, nullable=False, server_default="0"),  # new articles ever
    sa.Column("first_at", UtcTime),  # when it was first asked
    sa.Column("item_at", UtcTime),  # of the newest
    sa.Column("silent_since", UtcTime),  # an incident of its own kind while it is set
    sa.Column("silence", sa.String, nullable=False, server_default=""),  # why it counts as silent
)

# What a source did on a day (UTC): the usual that it is measured by.
feed_days = sa.Table(
    "feed_days",
    metadata,
    sa.Column("source", sa.String, primary_key=True),
    sa.Column("day", UtcTime, primary_key=True),
    sa.Column("fetches", sa.Integer, nullable=False, server_default="0"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("took_ms", sa.BigInteger, nullable=False, server_default="0"),  # of the fetches that succeeded, in all
    sa.Column("items", sa.Integer, nullable=False, server_default="0"),
)

# Hosts in trouble, so that a restart leaves them alone too.
hosts = sa.Table(
    "hosts",
    metadata,
    sa.Column("origin", sa.String, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),  # in a row
    sa.Column("free_at", UtcTime, nullable=False),  # not to be asked before
    sa.Column("told_to_wait", sa.Boolean, nullable=False),
)

# What sources said of an article when its page was looked at: another word on it is a reason to look again.
entries = sa.Table(
    "entries",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("mark", sa.String, primary_key=True),
    sa.Column("at", UtcTime, nullable=False),
    sa.Index("entries_at", "at"),
    sqlite_with_rowid=False,
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
    sa.Index("scores_known", "known_at"),
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
    sa.Index("windows_length", "length_s", "start"),  # every series' windows of a span
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

# The highest score of a series in six hours, by rule and window: from these the alarms are calibrated. A row without a
# series says that the rule was watching.
peaks = sa.Table(
    "peaks",
    metadata,
    sa.Column("rule", sa.String, primary_key=True),
    sa.Column("at", UtcTime, primary_key=True),  # begin of the six hours
    sa.Column("series", sa.String, primary_key=True),
    sa.Column("window_s", sa.Integer, primary_key=True),
    sa.Column("score", sa.Float, nullable=False),  # -log10 of the tail probability
    sqlite_with_rowid=False,
)

# What a rule expected of a series in the windows that end at `at`, and from which count on each would have fired.
expectations = sa.Table(
    "expectations",
    metadata,
    sa.Column("series", sa.String, primary_key=True),
    sa.Column("rule", sa.String, primary_key=True),
    sa.Column("at", UtcTime, primary_key=True),
    sa.Column("by_window", sa.String, nullable=False),  # JSON: [length in s, expected, threshold] of each
    sqlite_with_rowid=False,
)

incidents = sa.Table(
    "incidents",
    metadata,
    sa.Column("incident_id", sa.String, primary_key=True),
    sa.Column("rule", sa.String, nullable=False),
    sa.Column("series", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),  # pending, firing, acknowledged, resolved
    sa.Column("since", UtcTime, nullable=False),
    sa.Column("until", UtcTime),  # when resolved
    sa.Column("quiet_since", UtcTime),  # since when the condition no longer holds
    sa.Column("number", sa.Integer, nullable=False),  # of its changes so far
    sa.Column("told_tail", sa.Float, nullable=False),  # log10 tail probability and count at the last change for the
    sa.Column("told_observed", sa.Integer, nullable=False),  # worse: it worsens from there
    sa.Index("incidents_since", "since"),
)

alerts = sa.Table(
    "alerts",
    metadata,
    # The outbox that leads to the log: the appender follows `seq`.
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("incident_id", sa.String, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("rule", sa.String, nullable=False),
    sa.Column("series", sa.String, nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("record", sa.LargeBinary, nullable=False),  # the whole Alert, as on the wire
    sa.Column("known_at", UtcTime, nullable=False),
    sa.UniqueConstraint("incident_id", "number"),
    sa.Index("alerts_at", "at"),
    sqlite_autoincrement=True,
)

# What each channel has heard of each incident that is not over and told. Written with the change of state.
notices = sa.Table(
    "notices",
    metadata,
    sa.Column("channel", sa.String, primary_key=True),
    sa.Column("incident_id", sa.String, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),  # of the change to tell
    sa.Column("changed_at", UtcTime, nullable=False),
    sa.Column("told", sa.Integer, nullable=False),  # number of the change last told; 0: none
    sa.Column("told_at", UtcTime),
)

# The outbox: a message is written together with what its notices have heard, then sent.
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("key", sa.String, primary_key=True),  # idempotency key, also Message-ID
    sa.Column("channel", sa.String, nullable=False),
    sa.Column("incidents", sa.String, nullable=False),  # their ids, one a line
    sa.Column("record", sa.LargeBinary, nullable=False),  # the whole message, JSON
    sa.Column("status", sa.String, nullable=False),  # waiting, delivered, failed
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", UtcTime, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("delivered_at", UtcTime),
    sa.Column("last_error", sa.String, nullable=False),
    sa.Index("deliveries_waiting", "channel", "status", "next_at"),
)

# What people ask for: the owning stage carries it out and says what came of it.
commands = sa.Table(
    "commands",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("stage", sa.String, nullable=False),
    sa.Column("record", sa.LargeBinary, nullable=False),  # the command, JSON
    sa.Column("by", sa.String, nullable=False),
    sa.Column("given_at", UtcTime, nullable=False),
    sa.Column("done_at", UtcTime),
    sa.Column("result", sa.String, nullable=False),  # in words
    sa.Index("commands_waiting", "stage", "done_at"),
    sqlite_autoincrement=True,
)

silences = sa.Table(
    "silences",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),  # of the command that made it
    sa.Column("matchers", sa.String, nullable=False),  # one a line
    sa.Column("starts_at", UtcTime, nullable=False),
    sa.Column("ends_at", UtcTime, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
)

comments = sa.Table(
    "comments",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),  # of the command that made it
    sa.Column("incident_id", sa.String, nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("text", sa.String, nullable=False),
    sa.Index("comments_incident", "incident_id"),
)

# What people say an article's label is. Past series never change by it; training reads it.
labels = sa.Table(
    "labels",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.String, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("head", sa.String, nullable=False),  # sentiment or topic
    sa.Column("label", sa.String, nullable=False),
    sa.Column("was", sa.String, nullable=False),  # the model's
    sa.Column("model", sa.String, nullable=False),
    sa.Column("who", sa.String, nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Index("labels_article", "id", "revision"),
    sqlite_autoincrement=True,
)

# Who may ask, and change things, where a login is asked for.
tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),  # viewer, analyst, admin
    sa.Column("hash", sa.String, nullable=False, unique=True),  # SHA-256 of the secret
    sa.Column("made_at", UtcTime, nullable=False),
    sa.Column("made_by", sa.String, nullable=False),
    sa.Column("ends_at", UtcTime),
    sa.Column("revoked_at", UtcTime),
    sa.Column("used_at", UtcTime),  # to the day
    sqlite_autoincrement=True,
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("hash", sa.String, primary_key=True),  # SHA-256 of the cookie
    sa.Column("token", sa.Integer, nullable=False),
    sa.Column("ends_at", UtcTime, nullable=False),
)

# Everything that people changed, by whom and when; written with the change.
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("what", sa.String, nullable=False),
    sa.Column("about", sa.String, nullable=False),
    sqlite_autoincrement=True,
)

stages = sa.Table(
    "stages",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("instance", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),  # works, waits (for the lease), stopped
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("beat_at", UtcTime, nullable=False),
    sa.Column("processed", sa.BigInteger, nullable=False),
    sa.Column("dead_letters", sa.BigInteger, nullable=False),
    sa.Column("lag", sa.BigInteger, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("note", sa.String, nullable=False),
)

# Which instance of a stage works, where one does at a time.
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("holder", sa.String, nullable=False),
    sa.Column("process", sa.String, nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),  # grows each time it is taken
    sa.Column("expires_at", UtcTime, nullable=False),  # by the database's clock
)

# Small facts: the outbox's position, how far a replayed file was read.
facts = sa.Table(
    "facts",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)

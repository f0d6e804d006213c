"""The records that flow between stages: frozen, JSON on the wire, validated on the way in.

Topic `articles` carries Article and Heartbeat, `scored` carries Scored and Heartbeat, `windows` carries Stretch (once
Window and Tick by themselves, which are still read), `alerts` carries Alert, `dead_letters` carries DeadLetter. Times
are in UTC. A schema change only adds optional fields.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec

from moodwire.errors import BadInput

Probability = Annotated[float, msgspec.Meta(ge=-1e-6, le=1 + 1e-6)]
Label = Literal["negative", "neutral", "positive"]

MAX_BODY_BYTES = 256 * 1024
MAX_RECORD_BYTES = 1_000_000
WINDOW_S = 60
STORY_HOURS = 72
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Utc = Annotated[datetime, msgspec.Meta(tz=True)]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of all records; the `type` field on the wire tells which one it is."""


class Article(Record, frozen=True, kw_only=True, tag="article"):
    """One item of news as first had. The same item has the same id, whoever fetches it."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    revision: int = 1
    source: str
    url: str = ""
    title: str
    body: str = ""
    language: str = ""
    published_at: Utc
    seen_at: Utc
    story_id: str
    tickers: tuple[str, ...] = ()  # symbols that the source gives beside the text; they count as cashtags
    replayed: bool = False  # seen_at (and known-at after it) come from the data, not from a clock
    date_note: str = ""  # why published_at is not simply what the source said


class Heartbeat(Record, frozen=True, kw_only=True, tag="heartbeat"):
    """Sent by ingest to every partition: all articles seen before `at` stand before this record."""

    at: Utc
    replayed: bool = False


class Sentiment(msgspec.Struct, frozen=True, gc=False):
    """Probabilities summing to 1."""

    negative: Probability
    neutral: Probability
    positive: Probability

    @property
    def score(self) -> float:
        """P(positive) - P(negative), in [-1, 1]."""
        return self.positive - self.negative

    @property
    def label(self) -> Label:
        """The most probable class; a tie goes to neutral, then negative."""
        if self.neutral >= self.negative and self.neutral >= self.positive:
            return "neutral"
        return "negative" if self.negative >= self.positive else "positive"


class Topic(msgspec.Struct, frozen=True, gc=False):
    name: str
    p: Probability


class Entity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A company found in the text, with the sentiment towards it."""

    symbol: str
    surface: str
    start: int  # character offset in `title + "\n" + body`; -1 when only the source names it
    end: int
    relevance: float  # 1 in the headline, .6 in the lead, .3 in passing
    sentiment: Sentiment


class Series(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One series that an article counts for: `all`, `topic:X`, `entity:Y` or `group:Z`."""

    name: str
    label: Label
    score_e4: int  # score in 1e-4


class Scored(Record, frozen=True, kw_only=True, tag="scored"):
    """An article's scores, and the series it counts for, decided here once."""

    id: str
    revision: int
    source: str
    story_id: str
    published_at: Utc
    seen_at: Utc
    partition: int  # position in `articles`
    offset: int
    model: str  # name@version+checksum
    sentiment: Sentiment
    topics: tuple[Topic, ...]
    entities: tuple[Entity, ...]
    series: tuple[Series, ...]
    scored_at: Utc
    replayed: bool = False


class Window(Record, frozen=True, kw_only=True, tag="window"):
    """Counts of one series over [start, start + length_s), by publication time."""

    series: str
    start: Utc
    length_s: int
    articles: int
    stories: int
    negative: int
    neutral: int
    positive: int
    fresh_stories: int
    fresh_negative: int
    fresh_neutral: int
    fresh_positive: int
    score_sum_e4: int  # over stories
    revision: int  # articles counted; a higher revision supersedes

    @property
    def score(self) -> float | None:
        """Mean score of the window's stories, in [-1, 1]; None without stories."""
        return self.score_sum_e4 / self.stories / 1e4 if self.stories else None


class Tick(Record, frozen=True, kw_only=True, tag="tick"):
    """Made by trends from the watermark: every article seen before `at` is in the windows before this record."""

    at: Utc
    positions: dict[str, int]  # partition -> offset in `articles` consumed (inclusive); keys are strings in JSON
    replayed: bool = False


class Stretch(Record, frozen=True, kw_only=True, tag="stretch"):
    """Windows and ticks in their order. Many in a record, for what a log costs goes by the record."""

    records: tuple[Window | Tick, ...]


State = Literal["firing", "acknowledged", "resolved"]


class Evidence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A story that speaks for an alert."""

    story_id: str
    article_id: str
    title: str
    url: str
    source: str
    published_at: Utc
    score: float
    copies: int


class Course(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A series' fresh negative stories up to an alert, by equal spans."""

    start: Utc
    step_s: int
    negative: tuple[int, ...]


class Alert(Record, frozen=True, kw_only=True, tag="alert"):
    """An incident's change of state."""

    incident_id: str
    rule: str
    series: str
    state: State
    at: Utc  # the tick that decided it
    since: Utc  # when the incident began to fire
    window_s: int
    observed: int  # negative fresh stories in the window
    expected: float  # by the baseline
    log10_tail: float  # log10 of P(count >= observed); more negative is stranger
    reason: str
    evidence: tuple[Evidence, ...] = ()
    replayed: bool = False
    number: int = 1  # of the incident's changes, from 1
    change: Literal["fires", "worsens", "acknowledged", "over"] = "fires"
    kind: Literal["surge", "score", "share", "article", "pickup", "silence"] = "surge"  # of the rule
    severity: Literal["info", "warning", "critical"] = "warning"
    sources: tuple[str, ...] = ()  # that carried the window's negative stories, the busiest first
    share: float | None = None  # negative among the window's fresh stories
    words: tuple[str, ...] = ()  # that tell these stories from the series' earlier ones
    ends_when: str = ""
    course: Course | None = None
    by: str = ""  # who acknowledged
    comment: str = ""  # and what was said


class DeadLetter(Record, frozen=True, kw_only=True, tag="dead_letter"):
    """A record that could not be used, where it stood and why."""

    stage: str
    topic: str  # or the source's name, where the bad thing never became a record
    partition: int
    offset: int
    reason: str
    at: Utc
    excerpt: str = ""  # at most 2 KB of it, undecodable bytes escaped


AnyRecord = Article | Heartbeat | Scored | Window | Tick | Stretch | Alert | DeadLetter

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)


def encode(record: AnyRecord) -> bytes:
    """JSON bytes of a record, at most 1 MB.

    Raises BadInput for text that is no Unicode (lone surrogates) or a record over the cap.
    """
    try:
        data = _encoder.encode(record)
    except UnicodeEncodeError as error:
        raise BadInput(f"record of type {type(record).__name__} holds text that is not Unicode: {error}") from error
    if len(data) > MAX_RECORD_BYTES:
        raise BadInput(f"record of {len(data)} bytes is over the cap of {MAX_RECORD_BYTES}")
    return data


def decode(data: bytes) -> AnyRecord:
    """The record in `data`. Raises BadInput saying what is wrong with it."""
    if len(data) > MAX_RECORD_BYTES:
        raise BadInput(f"not a moodwire record: {len(data)} bytes are over the cap of {MAX_RECORD_BYTES}")
    if b"u0000" in data and _NUL.search(data):
        raise BadInput("not a moodwire record: it holds a NUL character, which PostgreSQL cannot keep")
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(f"not a moodwire record: {error}") from error


def one_by_one(record: AnyRecord) -> tuple[AnyRecord, ...]:
    """What a stretch holds; another record is by itself."""
    return record.records if isinstance(record, Stretch) else (record,)


def micros(time: datetime) -> int:
    """Microseconds since 1970-01-01 UTC."""
    delta = time - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def seconds(time: datetime) -> int:
    """Whole seconds since 1970-01-01 UTC."""
    return micros(time) // 1_000_000


def from_seconds(value: int) -> datetime:
    """A time in whole seconds since 1970-01-01 UTC."""
    return datetime.fromtimestamp(value, UTC)


def from_micros(value: int) -> datetime:
    return EPOCH + timedelta(microseconds=value)


def floor_time(time: datetime, seconds: float) -> datetime:
    """The start of the span of `seconds` that `time` falls in, counted from 1970."""
    return time - (time - EPOCH) % timedelta(seconds=seconds)

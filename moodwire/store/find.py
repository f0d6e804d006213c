"""Finding stories: by series (one, or several crossed), source, sentiment, time and words."""

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY

from moodwire.records import WINDOW_S
from moodwire.store import partitions, queries, schema
from moodwire.store.db import Store, clock

LABELS = {"negative": -1, "neutral": 0, "positive": 1}
BRIEF = timedelta(days=15)  # of a span whose stories are fewer than those that hold a word, ever
_SOURCE = "source:"
_CONFIGURATION: sa.ColumnElement[Any] = sa.literal_column("'moodwire'")
# As PostgreSQL's index has it: without accents.
_WORDS = sa.func.to_tsvector(
    _CONFIGURATION,
    sa.func.regexp_replace(
        sa.func.normalize(
            schema.articles.c.title + sa.literal_column("' '") + schema.articles.c.body, sa.literal_column("NFD")
        ),
        *(sa.literal_column(part) for part in (r"'[\u0300-\u036f]'", "''", "'g'")),
    ),
)


class Filter(NamedTuple):
    """What to look for; empty fields ask nothing.

    A series is `all`, `topic:X`, `entity:Y`, `group:Z`, `source:N`, or several of them joined by `+`: the stories that
    count for each of them, with the label and score they have for the first.
    """

    series: str = "all"
    label: str = ""  # negative, neutral or positive
    words: str = ""  # as typed: words, "phrases", -without
    source: str = ""

    @property
    def counted(self) -> list[str]:
        """The series it crosses, the first one giving label and score."""
        return [part for part in self.series.split("+") if part and not part.startswith(_SOURCE)] or ["all"]

    @property
    def sources(self) -> list[str]:
        parts = [part.removeprefix(_SOURCE) for part in self.series.split("+") if part.startswith(_SOURCE)]
        return [*parts, self.source] if self.source else parts

    @property
    def is_window_series(self) -> bool:
        """Whether windows are kept of it."""
        return len(self.counted) == 1 and not (self.sources or self.label or self.words)


def find(
    store: Store, wanted: Filter, start: datetime | None = None, end: datetime | None = None, limit: int | None = None
) -> pd.DataFrame:
    """Columns of `queries.stories`: one row a story, newest first, by the first of its articles that is wanted."""
    if wanted.is_window_series:
        return queries.stories(store, wanted.counted[0], start, end, limit)
    frame = queries.stories_of(store, _first_of_story(store, wanted, start, end), _limit(wanted, limit))
    return frame.drop(columns=[*queries.PLACE])


def page(
    store: Store,
    wanted: Filter,
    start: datetime | None,
    end: datetime | None,
    limit: int,
    before: queries.Place | None = None,
    as_of: datetime | None = None,
) -> pd.DataFrame:
    """As `find`, in the order of `queries.PLACE`, from behind a place on; as_of: of what was known then."""
    if wanted.is_window_series:
        first = queries.first_of_story(store, wanted.counted[0], start, end, as_of)
    else:
        first = _first_of_story(store, wanted, start, end, as_of)
    return queries.stories_of(store, first, _limit(wanted, limit), before, as_of)


def _limit(wanted: Filter, limit: int | None) -> int | None:
    """Words of which none can be looked for find nothing."""
    return 0 if wanted.words and not match_of(wanted.words) else limit


def course(
    store: Store, series: str, start: datetime, end: datetime, freq_s: int, as_of: datetime | None = None
) -> pd.DataFrame:
    """Columns of `queries.mood`, for any series that `Filter` can name; as_of: of what was known then."""
    wanted = Filter(series)
    if wanted.is_window_series:
        return queries.mood(store, wanted.counted[0], start, end, freq_s, as_of)
    rows = _first_of_story(store, wanted, start, end, as_of).subquery()
    label = rows.c.label
    query = sa.select(
        queries.bin_of(store, rows.c.start, freq_s).label("bin"),
        sa.func.count(),
        sa.func.count(),
        *(sa.func.count().filter(label == value) for value in LABELS.values()),
        sa.func.sum(rows.c.score_e4),
        sa.func.count().filter(label == -1, rows.c.fresh),
    ).group_by("bin")  # what is counted: `queries.COUNTS`
    with store.ask() as connection:
        return queries.filled(connection.execute(query), start, end, freq_s)


def courses(store: Store, names: Sequence[str], start: datetime, end: datetime, freq_s: int) -> list[pd.DataFrame]:
    """As `course`, of several series; those that windows are kept of by one question."""
    wanted = {name: Filter(name) for name in names}
    kept = {name: one.counted[0] for name, one in wanted.items() if one.is_window_series}
    moods = queries.moods(store, set(kept.values()), start, end, freq_s)
    return [moods[kept[name]] if name in kept else course(store, name, start, end, freq_s) for name in names]


class _Terms(NamedTuple):
    """What was typed, as words and phrases to look for."""

    wanted: list[str]
    without: list[str]
    begun: bool  # the last one wanted is still being typed


def match_of(words: str) -> str:
    """An FTS5 expression for what was typed; empty where nothing can be looked for. No operator is let through."""
    terms = _terms(words)
    wanted = [f'"{text}"' for text in terms.wanted]
    if not wanted:
        return ""
    if terms.begun:
        wanted[-1] += "*"
    return " AND ".join(wanted) + "".join(f' NOT "{text}"' for text in terms.without)


def _terms(words: str) -> _Terms:
    words = words.replace("\0", " ")
    wanted: list[str] = []
    without: list[str] = []
    for phrase, sign, word in re.findall(r'"([^"]*)"|(-?)([^\s"]+)', words):
        text = phrase or word
        if re.search(r"\w", text):
            (without if sign else wanted).append(text)
    return _Terms(wanted, without, bool(wanted) and words.rstrip()[-1:] != '"' and not without)


def _first_of_story(
    store: Store, wanted: Filter, start: datetime | None, end: datetime | None, as_of: datetime | None = None
) -> sa.Select[Any]:
    """Rows of `counted` that are wanted, one a story: the first."""
    base, *others = wanted.counted
    brief = start is not None and (end or store.now()) - start <= BRIEF
    c, a = schema.counted.c, schema.articles.c
    rank = sa.func.row_number().over(partition_by=c.story_id, order_by=(c.start, c.partition, c.offset)).label("rank")
    names = ("id", "revision", "story_id", "score_e4", "start", "label", "partition", "offset", "fresh")
    query = sa.select(*(c[name] for name in names), rank)
    joined: sa.FromClause = schema.counted
    for name in others:
        also = schema.counted.alias()
        place = [also.c[part] == c[part] for part in ("start", "partition", "offset")]
        # The span, said again: the store may begin with these.
        place += [also.c.start >= start] if start is not None else []
        place += [also.c.start < end] if end is not None else []
        joined = joined.join(also, sa.and_(also.c.series == name, *place))
    window: Any = c.start
    if wanted.sources or wanted.words:
        id_: sa.ColumnElement[Any] = a.id
        # The window is implied by the time of publication; said, it lets the store go from an article to its row.
        implied = sa.type_coerce(queries.bin_time(store, a.published_at, WINDOW_S), schema.UtcTime)
        query = query.where(c.start == implied)
        by_source = wanted.sources and not wanted.words and base.partition(":")[0] in {"all", "topic"}
        if store.sqlite and (by_source or (wanted.words and not brief)):
            # No way from a row to its article: from the words found, or from what came from the source, to their rows,
            # few as they are.
            id_, window = a.id.concat(""), implied
        joined = joined.join(schema.articles, sa.and_(id_ == c.id, a.revision == c.revision))
    conditions = [c.series == base, c.first_article]
    if as_of is not None:
        conditions.append(queries.known(store, as_of))
    conditions += [a.source == name for name in wanted.sources]
    if wanted.label:
        conditions.append(c.label == LABELS[wanted.label])
    if wanted.words:
        conditions.append(has_words(store, wanted.words, brief))
        conditions += [_seen(store, start, end)] if start is not None and not store.sqlite else []
    if start is not None:
        conditions.append(window >= start)
        conditions += [a.published_at >= start] if wanted.sources else []
    if end is not None:
        conditions.append(window < end)
        conditions += [a.published_at < end + timedelta(seconds=WINDOW_S)] if wanted.sources else []
    ranked = query.select_from(joined).where(*conditions).subquery()
    return sa.select(*(ranked.c[name] for name in names)).where(ranked.c.rank == 1)


def _seen(store: Store, start: datetime, end: datetime | None) -> sa.ColumnElement[bool]:
    """Implied by a span of publication; said, only those months' indices of words are read."""
    a = schema.articles.c
    with store.read() as connection:
        now = clock(connection)
        months = partitions.seen_in(connection, start, (end or now) + timedelta(seconds=WINDOW_S), now)
    return sa.or_(sa.false(), *(sa.and_(a.seen_at >= begin, a.seen_at < past) for begin, past in months))


def has_words(store: Store, words: str, brief: bool = False) -> sa.ColumnElement[bool]:
    """Whether an article has the words, by the store's index of them; brief: asked of the articles of a short span."""
    a = schema.articles.c
    if store.sqlite:
        matching = sa.text("select rowid from articles_words where articles_words match :match")
        # Left to itself, SQLite tries every number found with every article of the span.
        number = a.seq + 0 if brief else a.seq
        return number.in_(matching.bindparams(match=match_of(words) or '""').columns(sa.column("rowid")))
    terms = _terms(words)
    wanted = [_lexemes(text) for text in terms.wanted]
    if terms.begun:
        begun = sa.func.nullif(sa.cast(wanted[-1], sa.Text), "") + ":*"
        wanted[-1] = sa.cast(begun, TSQUERY)
    query: sa.ColumnElement[Any] = sa.cast("", TSQUERY)
    for term in wanted:
        query = query.bool_op("&&")(term)
    for text in terms.without:
        query = query.bool_op("&&")(sa.func.tsquery_not(_lexemes(text)))
    return _WORDS.bool_op("@@")(query)


def _lexemes(text: str) -> sa.ColumnElement[Any]:
    plain = "".join(char for char in unicodedata.normalize("NFD", text) if not "\u0300" <= char <= "\u036f")
    return sa.func.phraseto_tsquery(_CONFIGURATION, plain)

"""What people ask of the store, as data frames. Columns bear the records' field names; times are in UTC."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import sqlalchemy as sa

from moodwire.records import WINDOW_S, Alert, Scored, decode, floor_time, from_micros, micros
from moodwire.store import schema
from moodwire.store.db import Store, among
from moodwire.store.incidents import alert_of
from moodwire.store.partitions import registry
from moodwire.store.windows import ROLLUPS_S, Totals, counts, window_of

COMPARABLE = 5  # stories; a score of fewer is not compared with
COUNTS = ("articles", "stories", "negative", "neutral", "positive", "score_sum_e4", "fresh_negative")
_LABELS = {-1: "negative", 0: "neutral", 1: "positive"}
PLACE = ("start", "partition", "offset")  # of a row of `counted`: the order of pages, newest first
Place = tuple[datetime, int, int]
_ARTICLE = ("id", "revision", "source", "url", "title", "published_at", "seen_at", "story_id", "language")


def articles(
    store: Store,
    series: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """One row an article and revision, newest first, with its scores; with `series`, the mood towards that series."""
    a, s, c = schema.articles.c, schema.scores.c, schema.counted.c
    columns = [
        *(a[name] for name in _ARTICLE),
        s.p_negative,
        s.p_neutral,
        s.p_positive,
        (sa.cast(c.score_e4, sa.Float) / 10_000).label("score") if series else s.score,
        s.topic,
        s.p_topic,
        s.model,
        s.record,
        s.known_at,
    ]
    joined = schema.articles.join(schema.scores, _same_seen(a, s))
    query = sa.select(*columns)
    if series:
        joined = joined.join(schema.counted, sa.and_(_same(c, a), c.series == series))
        query = _between(query, c.start, start and from_micros(micros(start) // 60_000_000 * 60_000_000), end)
    query = _between(query.select_from(joined), a.published_at, start, end)
    frame = fetch(store, query.order_by(a.published_at.desc(), a.id).limit(limit))
    return _with_entities(frame)


def stories(
    store: Store,
    series: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """One row a story, newest first: its first article, and how many copies there are."""
    frame = stories_of(store, first_of_story(store, series or "all", start, end), limit)
    return frame.drop(columns=[*PLACE])


def first_of_story(
    store: Store, series: str, start: datetime | None, end: datetime | None, as_of: datetime | None = None
) -> sa.Select[Any]:
    """The rows of `counted` by which stories count for a series; as_of: of what was known then."""
    c = schema.counted.c
    names = ("id", "revision", "story_id", "score_e4", "start", "label", "partition", "offset")
    query = sa.select(*(c[name] for name in names)).where(c.series == series, c.first_story)
    if as_of is not None:
        query = query.where(known(store, as_of))
    wanted: sa.Select[Any] = _between(query, c.start, start, end)
    return wanted


def known(store: Store, as_of: datetime) -> sa.ColumnElement[bool]:
    """Whether a row of `counted` was known at a time.

    Exact for times more than 10 s ago: what was being written just then may not be seen yet. Of a story's rows the
    first one is known first, so who counts as first is the same as of any time.
    """
    c, s = schema.counted.c, schema.scores.c
    there = sa.exists().where(_same(s, c), s.known_at <= as_of)
    # Implied; said, PostgreSQL looks in those months alone. A machine's clock may be ahead of the store's.
    return there if store.sqlite else there.where(s.seen_at >= c.start, s.seen_at <= as_of + timedelta(days=1))


def stories_of(
    store: Store,
    first: sa.Select[Any],
    limit: int | None,
    before: Place | None = None,
    as_of: datetime | None = None,
) -> pd.DataFrame:
    """The newest of the stories that rows of `counted` tell of, one row a story.

    before: only those behind this place, in the order of PLACE. as_of: copies are counted that were known then.
    """
    s, a = schema.scores.c, schema.articles.c
    rows = first.subquery()
    place = [rows.c[name] for name in PLACE]
    cut = sa.select(rows).order_by(*(column.desc() for column in place)).limit(limit)
    if before is not None:
        values = (sa.literal(value, column.type) for value, column in zip(before, place, strict=True))
        cut = cut.where(sa.tuple_(*place) < sa.tuple_(*values))
    first_story = cut.subquery()
    # PostgreSQL: the registry has no partitions to look through, and tells in which one an article stands.
    every = schema.articles if store.sqlite else registry
    e = every.c
    joined = sa.join(first_story, every, _same(first_story.c, e))
    if not store.sqlite:
        joined = joined.join(schema.articles, _same_seen(e, a))
    copies = sa.select(sa.func.count(sa.distinct(e.id))).where(e.story_id == first_story.c.story_id)
    if as_of is not None:
        copies = copies.where(sa.exists().where(_same_seen(e, s), s.known_at <= as_of))
    query = (
        sa.select(
            first_story.c.story_id,
            *(a[name] for name in _ARTICLE if name != "story_id"),
            s.known_at,
            first_story.c.label,
            s.p_negative,
            s.p_neutral,
            s.p_positive,
            (sa.cast(first_story.c.score_e4, sa.Float) / 10_000).label("score"),
            s.topic,
            s.p_topic,
            s.record,
            copies.correlate(first_story).scalar_subquery().label("copies"),
            *(first_story.c[name] for name in PLACE),
        )
        .select_from(joined.join(schema.scores, _same_seen(a, s)))
        .order_by(a.published_at.desc(), a.id, s.known_at)
    )
    frame = fetch(store, query).drop_duplicates("story_id", ignore_index=True)  # a second model may have scored it
    frame["label"] = frame["label"].map(_LABELS)
    return _with_entities(frame)


def windows(
    store: Store,
    series: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """One row a series and 60 s window that has articles, in order of time; `score` is the mean of its stories."""
    w = schema.windows.c
    query = _between(sa.select(schema.windows).where(w.length_s == WINDOW_S), w.start, start, end)
    if series:
        query = query.where(w.series == series)
    frame = fetch(store, query.order_by(w.start.desc(), w.series).limit(limit)).iloc[::-1].reset_index(drop=True)
    frame["score"] = _score(frame)
    return frame


def windows_as_of(
    store: Store,
    series: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int | None = None,
    *,
    as_of: datetime,
) -> pd.DataFrame:
    """The windows as they were known at a time, from the scores that were known then (see `known`)."""
    c = schema.counted.c
    query = _between(sa.select(c.series, c.start, *counts()).where(known(store, as_of)), c.start, start, end)
    if series:
        query = query.where(c.series == series)
    query = query.group_by(c.series, c.start).order_by(c.start.desc(), c.series).limit(limit)
    with store.ask() as connection:
        rows = [((name, at), Totals(*numbers)) for name, at, *numbers in connection.execute(query)]
    names = [column.name for column in schema.windows.c]
    frame = pd.DataFrame([msgspec.structs.asdict(window_of(*row)) for row in reversed(rows)], columns=names)
    frame["score"] = _score(frame)
    return frame


def alert_records(
    store: Store,
    series: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int | None = None,
) -> list[Alert]:
    """Incidents' changes of state, newest first."""
    a = schema.alerts.c
    query = _between(sa.select(a.record), a.at, start, end)
    if series:
        query = query.where(a.series == series)
    with store.ask() as connection:
        data = connection.execute(query.order_by(a.at.desc(), a.incident_id).limit(limit)).scalars()
        return [alert_of(record) for record in data]


def alerts(
    store: Store,
    series: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """The same as a frame, a row each; `score` is the mean of the evidence."""
    names = [name for name in Alert.__struct_fields__ if name != "evidence"]
    rows = []
    for alert in alert_records(store, series, start, end, limit):
        scores = [story.score for story in alert.evidence]
        row = {name: getattr(alert, name) for name in names}
        row["score"] = float(np.mean(scores)) if scores else float("nan")
        row["evidence"] = msgspec.to_builtins(alert.evidence)
        rows.append(row)
    return pd.DataFrame(rows, columns=[*names, "score", "evidence"])


def mood(
    store: Store, series: str, start: datetime, end: datetime, freq_s: int, as_of: datetime | None = None
) -> pd.DataFrame:
    """Windows of one series rolled up to `freq_s`, gaps filled: counts summed, `score` NaN without stories.

    as_of: counted anew, of what was known then (see `known`).
    """
    if as_of is not None:
        return _mood_as_of(store, series, start, end, freq_s, as_of)
    return moods(store, [series], start, end, freq_s)[series]


def moods(store: Store, names: Collection[str], start: datetime, end: datetime, freq_s: int) -> dict[str, pd.DataFrame]:
    """As `mood`, of several series by one question."""
    w = schema.windows.c
    sums = (sa.func.sum(w[name]) for name in COUNTS)
    length_s = longest_in(freq_s)
    query = sa.select(w.series, bin_of(store, w.start, freq_s).label("bin"), *sums).where(w.length_s == length_s)
    query = _between(query, w.start, floor_time(start, length_s), end)
    found: dict[str, list[Any]] = {name: [] for name in names}
    with store.ask() as connection:
        query = query.where(among(connection, w.series, [*names])).group_by(w.series, "bin")
        for name, *row in connection.execute(query).all():
            found[name].append(row)
    return {name: filled(rows, start, end, freq_s) for name, rows in found.items()}


def _mood_as_of(
    store: Store, series: str, start: datetime, end: datetime, freq_s: int, as_of: datetime
) -> pd.DataFrame:
    c = schema.counted.c
    articles, negative, neutral, positive, fresh_negative, _, _, score_sum_e4 = counts()
    sums = (articles, negative + neutral + positive, negative, neutral, positive, score_sum_e4, fresh_negative)
    query = sa.select(bin_of(store, c.start, freq_s).label("bin"), *sums).where(c.series == series, known(store, as_of))
    query = _between(query, c.start, floor_time(start, WINDOW_S), end).group_by("bin")
    with store.ask() as connection:
        return filled(connection.execute(query).all(), start, end, freq_s)


def longest_in(freq_s: int) -> int:
    """The length of the longest windows of which whole ones make up a span so wide."""
    return max(length for length in (WINDOW_S, *ROLLUPS_S) if length == WINDOW_S or freq_s % length == 0)


def each(column: Any) -> sa.FromClause:
    """A column `value`: each value of a column once, in order. For columns that an index begins with: the store goes
    from one value to the next and never through the rows.
    """
    found = sa.select(sa.func.min(column).label("value")).cte("each", recursive=True)
    above = sa.select(sa.func.min(column)).where(column > found.c.value).scalar_subquery()
    found = found.union_all(sa.select(above).where(found.c.value.is_not(None)))
    return sa.select(found.c.value).where(found.c.value.is_not(None)).subquery()


def of_all_series(store: Store) -> sa.ColumnElement[bool]:
    """Asks nothing of a window; said, it lets SQLite read the windows of a span series by series, as they stand."""
    w = schema.windows.c
    return w.series.in_(sa.select(each(w.series).c.value)) if store.sqlite else sa.true()


def bin_of(store: Store, time: Any, width_s: int) -> sa.ColumnElement[int]:
    """Which span of `width_s` seconds a time falls in, counted from 1970; the store sums up by it."""
    if store.sqlite:
        return sa.cast(time, sa.BigInteger) // (width_s * 1_000_000)
    return sa.cast(sa.func.floor(sa.func.extract("epoch", time) / width_s), sa.BigInteger)


def bin_time(store: Store, time: Any, width_s: int) -> sa.ColumnElement[Any]:
    """The start of that span, as the store holds times."""
    start = bin_of(store, time, width_s) * width_s
    return start * 1_000_000 if store.sqlite else sa.func.to_timestamp(start)


def filled(rows: Iterable[Any], start: datetime, end: datetime, freq_s: int) -> pd.DataFrame:
    """Rows of a bin and the counts of `COUNTS`, as a course without gaps: a column `start`, the counts, and `score`."""
    grid = pd.date_range(pd.Timestamp(start).floor(f"{freq_s}s"), end, freq=f"{freq_s}s", tz="UTC")
    first = int(grid[0].timestamp()) // freq_s
    whole = np.zeros((len(COUNTS), len(grid)), dtype=np.int64)
    for bin_, *numbers in rows:
        if 0 <= bin_ - first < len(grid):
            whole[:, bin_ - first] = [int(number) for number in numbers]
    counts_ = dict(zip(COUNTS, whole, strict=True))  # at once: pandas takes long to add a column
    return pd.DataFrame({"start": grid, **counts_, "score": _means(counts_["score_sum_e4"], counts_["stories"])})


def overview(store: Store, now: datetime, span: timedelta, bins: int = 24) -> pd.DataFrame:
    """One row a series with stories in the last two spans: score, its change, stories, negatives, and their course.

    Columns: series, score, change (against the span before; NaN where that had too few stories), stories, negative,
    trend (scores of `bins` parts of the span, None without stories), volume (stories of each part).
    """
    w = schema.windows.c
    middle = now - span
    width_s = max(int(span.total_seconds()) // bins, 60)
    length_s = _length_for(width_s)
    if store.sqlite:  # the store sums up, so that a year's windows are not carried here
        age = sa.literal(micros(now)) - sa.cast(w.start, sa.BigInteger) - 1
        bin_ = sa.cast(age // (width_s * 1_000_000), sa.Integer).label("bin")
    else:
        # As a float, which is quicker than `extract`; what began just a span ago is in the span.
        age_s = sa.func.date_part("epoch", sa.literal(now) - w.start) - 1e-6
        bin_ = sa.cast(sa.func.floor(age_s / width_s), sa.Integer).label("bin")
    query = (
        sa.select(
            w.series,
            bin_,
            sa.func.sum(w.stories).label("stories"),
            sa.func.sum(w.negative).label("negative"),
            sa.cast(sa.func.sum(w.score_sum_e4), sa.BigInteger).label("total"),  # PostgreSQL's is a numeric
        )
        .where(of_all_series(store), w.length_s == length_s, w.start >= middle, w.start < now)
        .group_by(w.series, "bin")
    )
    with store.ask() as connection:
        rows = connection.execute(query).all()
    before = story_sums(store, middle - span, middle, length_s)
    # Not by way of a frame: of some thousand rows that takes as long as to ask for them.
    of_rows, bin_of_rows, *numbers = zip(*rows, strict=True) if rows else [()] * 5
    names = sorted({*of_rows, *before})
    place = {name: number * bins for number, name in enumerate(names)}
    at = np.fromiter(map(place.__getitem__, of_rows), int, len(rows)) + np.clip(np.array(bin_of_rows, int), 0, bins - 1)

    def binned(values: Sequence[int]) -> Any:
        """A row a series, its bins from the newest to the oldest."""
        return np.bincount(at, values, len(names) * bins).reshape(len(names), bins)

    stories_, negative, totals = map(binned, numbers)
    counts_ = stories_.sum(axis=1)
    score = _means(totals.sum(axis=1), counts_)
    earlier, earlier_total = np.array([before.get(name, (0, 0)) for name in names]).reshape(-1, 2).T
    was = np.where(earlier < COMPARABLE, np.nan, _means(earlier_total, earlier))
    return pd.DataFrame(
        {
            "series": names,
            "score": score,
            "change": score - was,
            "stories": counts_.astype(int),
            "negative": negative.sum(axis=1).astype(int),
            "trend": _means(totals, stories_)[:, ::-1].tolist(),
            "volume": stories_[:, ::-1].astype(int).tolist(),
        }
    )


def story_sums(
    store: Store, start: datetime, end: datetime, length_s: int, series: str | None = None
) -> dict[str, tuple[int, int]]:
    """Of each series, or of one: how many stories the windows that begin in a span have, and the sum of their scores
    in 1e-4.

    By windows of `length_s`, and whole days within the span by windows of a day: few rows, and the same.
    """
    w, day_s = schema.windows.c, ROLLUPS_S[-1]
    first = floor_time(start + timedelta(seconds=day_s) - timedelta(microseconds=1), day_s)
    last = floor_time(end, day_s)
    parts = [(length_s, start, end)]
    if first < last:
        parts = [(length_s, start, first), (day_s, first, last), (length_s, last, end)]
    which = of_all_series(store) if series is None else w.series == series
    found: dict[str, tuple[int, int]] = {}
    with store.read() as connection:
        for length, begin, until in parts:
            if begin == until:
                continue
            query = (
                sa.select(w.series, sa.func.sum(w.stories), sa.func.sum(w.score_sum_e4))
                .where(which, w.length_s == length, w.start >= begin, w.start < until)
                .group_by(w.series)
            )
            for name, stories_, total in connection.execute(query).all():
                count, score = found.get(name, (0, 0))
                found[name] = count + int(stories_), score + int(total)
    return found


def busiest(store: Store, now: datetime, span: timedelta) -> list[str]:
    """The series with stories in the last two spans, those with most in the last one first."""
    w = schema.windows.c
    length_s = _length_for(int(span.total_seconds()))
    many = sa.func.coalesce(sa.func.sum(w.stories).filter(w.start >= now - span), 0)
    query = (
        sa.select(w.series)
        .where(of_all_series(store), w.length_s == length_s, w.start >= now - 2 * span, w.start < now)
        .group_by(w.series)
        .order_by(many.desc(), w.series)
    )
    with store.ask() as connection:
        return list(connection.execute(query).scalars())


def _length_for(width_s: int) -> int:
    """The length of the coarsest windows that blur the edges of a span so wide by no more than a 7th of it."""
    return max(length for length in (WINDOW_S, *ROLLUPS_S) if length == WINDOW_S or 7 * length <= width_s)


def open_incidents(store: Store) -> list[Alert]:
    """The latest alert of each incident that is open, newest first."""
    query = _latest().where(schema.incidents.c.until.is_(None)).order_by(schema.alerts.c.at.desc())
    with store.ask() as connection:
        return [alert_of(row.record) for row in connection.execute(query)]


def incidents(store: Store, limit: int | None = None) -> list[tuple[str, Alert]]:
    """State and latest alert of each incident, the open ones first, then the newest."""
    i = schema.incidents.c
    query = _latest().order_by(i.until.is_not(None), i.since.desc(), i.incident_id).limit(limit)
    with store.ask() as connection:
        return [(row.state, alert_of(row.record)) for row in connection.execute(query)]


def _latest() -> sa.Select[Any]:
    """The state of each incident and the record of its latest alert."""
    a, i = schema.alerts.c, schema.incidents.c
    same = sa.and_(a.incident_id == i.incident_id, a.number == i.number)
    return sa.select(i.state, a.record).join_from(schema.alerts, schema.incidents, same)


def pending_incidents(store: Store) -> list[Any]:
    """What holds, and not long enough to fire yet: rule, series, since."""
    i = schema.incidents.c
    query = sa.select(i.rule, i.series, i.since).where(i.state == "pending").order_by(i.since)
    with store.ask() as connection:
        return list(connection.execute(query).all())


def failed_deliveries(store: Store, limit: int) -> list[Any]:
    """The newest messages that could not be delivered: key, channel, created_at, last_error."""
    d = schema.deliveries.c
    query = sa.select(d.key, d.channel, d.created_at, d.last_error).where(d.status == "failed")
    with store.ask() as connection:
        return list(connection.execute(query.order_by(d.created_at.desc()).limit(limit)).all())


def last_article(store: Store) -> datetime | None:
    """When the newest article was first seen."""
    a = schema.articles.c
    newest = sa.select(sa.func.max(a.seq)).scalar_subquery()
    with store.ask() as connection:
        return connection.execute(sa.select(a.seen_at).where(a.seq == newest)).scalar()


def feeds(store: Store) -> pd.DataFrame:
    f = schema.feeds.c
    return fetch(store, sa.select(schema.feeds).order_by(f.failures.desc(), f.source))


def deliveries(store: Store) -> dict[str, int]:
    """How many messages are waiting, delivered and failed."""
    d = schema.deliveries.c
    with store.ask() as connection:
        rows = connection.execute(sa.select(d.status, sa.func.count()).group_by(d.status))
        return {status: count for status, count in rows}


def _between(query: Any, column: Any, start: datetime | None, end: datetime | None) -> Any:
    if start is not None:
        query = query.where(column >= start)
    if end is not None:
        query = query.where(column < end)
    return query


def _same(one: Any, other: Any) -> sa.ColumnElement[bool]:
    return sa.and_(one.id == other.id, one.revision == other.revision)


def _same_seen(one: Any, other: Any) -> sa.ColumnElement[bool]:
    """With what is the same then, too: by it PostgreSQL knows the partition."""
    return sa.and_(_same(one, other), one.seen_at == other.seen_at)


def fetch(store: Store, query: Any) -> pd.DataFrame:
    """What a query gives."""
    with store.ask() as connection:
        result = connection.execute(query)
        # As bare tuples: pandas asks each row that is none for attributes that it does not have.
        return pd.DataFrame([tuple(row) for row in result.all()], columns=list(result.keys()))


def _with_entities(frame: pd.DataFrame) -> pd.DataFrame:
    """The record's entities, as symbols with their score, in place of the record."""

    def entities(data: bytes) -> Sequence[dict[str, Any]]:
        record = decode(data)
        assert isinstance(record, Scored)
        return [{"symbol": e.symbol, "score": round(e.sentiment.score, 4)} for e in record.entities]

    frame["entities"] = [entities(data) for data in frame["record"]]
    return frame.drop(columns="record")


def _score(frame: pd.DataFrame) -> pd.Series:
    scores: pd.Series = _means(frame["score_sum_e4"], frame["stories"])
    return scores.astype(float)


def _means(totals_e4: Any, counts_: Any) -> Any:
    """Scores, NaN where there are no stories."""
    return totals_e4 / np.where(counts_ > 0, counts_, np.nan) / 1e4


def trail(store: Store, limit: int, before: int | None = None) -> pd.DataFrame:
    """Who did what, the newest first: columns seq, at, by, what, about; before: only what was done before that one."""
    a = schema.audit.c
    query = sa.select(schema.audit).order_by(a.seq.desc()).limit(limit)
    return fetch(store, query if before is None else query.where(a.seq < before))

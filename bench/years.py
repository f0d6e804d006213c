"""Years of invented news in a store: articles, scores, what they count for, windows; made by the store itself."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from moodwire.labels import TOPIC_NAMES
from moodwire.records import WINDOW_S, encode
from moodwire.store import schema
from moodwire.store.db import Store
from moodwire.store.partitions import after, month, registry
from moodwire.store.windows import ROLLUPS_S, save_positions
from tests.helpers import scored

SOURCES, COMPANIES, TOPICS = 50, 300, tuple(sorted(TOPIC_NAMES))[:12]
# Of each five words of a title one is one of 100, one of 300 … and one of 8,100.
WORDS = " || ' w' || ".join(f"(n * {7919 + 2 * k} / {k + 1} % {100 * 3**k})" for k in range(5))
PART = 500_000  # rows written at once, so that a database's log stays small


def fill(store: Store, count: int, end: datetime, past: timedelta) -> None:
    """So many articles, evenly over the time before `end`, replayed, each a story and fresh; nothing else is there."""
    begin = end - past
    at = month(begin)
    while at <= end:
        for table in (schema.articles, schema.scores, schema.counted):
            store.make_room(table, [at])
        at = after(at)
    if store.sqlite:
        event.listen(store.engine, "connect", _remembers)
        store.close()  # to begin with new connections
    for first in range(0, count, PART):
        _part(store, first, min(first + PART, count), begin, past // count)
    _roll(store)
    with store.write() as connection:
        save_positions(connection, "trends", end, {0: count})
        if not store.sqlite:
            names = registry.c.keys()
            whole = sa.select(*(schema.articles.c[name] for name in names))
            connection.execute(sa.insert(registry).from_select(names, whole))
    if store.sqlite:
        event.remove(store.engine, "connect", _remembers)
        store.close()  # what is asked from now on has the memory that a stage has
    if not store.sqlite:  # autovacuum would do it in time; of SQLite nothing of the kind is asked
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def _remembers(connection: Any, _: object) -> None:
    """Pages that are written in no order are not written again and again."""
    connection.execute("PRAGMA cache_size=-2000000")


def newest(store: Store) -> datetime | None:
    """The end of the news in a store; None where there is none."""
    with store.read() as connection:
        return connection.execute(sa.select(sa.func.max(schema.articles.c.published_at))).scalar()


def company(luck: float) -> str:
    """Some have much more news than others; luck: from 0 to 1."""
    return f"C{int(COMPANIES * luck**3)}"


def _part(store: Store, first: int, last: int, begin: datetime, step: timedelta) -> None:
    step_us = step // timedelta(microseconds=1)
    if store.sqlite:
        numbers = f"WITH RECURSIVE g(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM g WHERE n < {last - 1}) "
        time_of = f"({round(begin.timestamp()) * 1_000_000} + n * {step_us})"
        minute = f"({time_of} / 60000000 * 60000000)"
        yes = "1"
    else:
        numbers = f"WITH g AS (SELECT generate_series(CAST({first} AS BIGINT), {last - 1}) AS n) "
        time_of = f"(TIMESTAMPTZ '{begin.replace(microsecond=0).isoformat()}' + n * INTERVAL '{step_us} microseconds')"
        minute = f"date_trunc('minute', {time_of})"
        yes = "true"
    label = "(n * 2654435761 / 7 % 3 - 1)"
    luck = "(n * 7919 % 1009 / 1009.0)"
    symbol = f"'C' || CAST(floor({COMPANIES} * {luck} * {luck} * {luck}) AS INTEGER)"
    cases = " ".join(f"WHEN {k} THEN '{name}'" for k, name in enumerate(TOPICS))
    topic = f"CASE n % {len(TOPICS)} {cases} END"
    series = ("'all'", f"'topic:' || {topic}", f"'entity:' || {symbol}")
    statements = [
        "INSERT INTO articles (id, revision, source, url, title, body, language, published_at, seen_at, story_id, "
        f"tickers, replayed, date_note, content_hash) {numbers} SELECT 'n' || n, 1, 'Source ' || (n % {SOURCES}), "
        f"'https://news.example/' || n, 'w' || {WORDS}, '', 'en', {time_of}, {time_of}, 'n' || n, '', {yes}, '', "
        "'h' || n FROM g",
        "INSERT INTO scores (id, revision, model, source, story_id, published_at, seen_at, p_negative, p_neutral, "
        f"p_positive, score, topic, p_topic, record, scored_at, known_at) {numbers} SELECT 'n' || n, 1, 'bench@1+0', "
        f"'Source ' || (n % {SOURCES}), 'n' || n, {time_of}, {time_of}, .3 - .25 * {label}, .4, .3 + .25 * {label}, "
        f".5 * {label}, {topic}, .9, :record, {time_of}, {time_of} FROM g",
        *(
            'INSERT INTO counted (series, start, partition, "offset", id, revision, story_id, label, score_e4, fresh, '
            f"first_article, first_story) {numbers} SELECT {one}, {minute}, 0, n, 'n' || n, 1, 'n' || n, {label}, "
            f"5000 * {label}, {yes}, {yes}, {yes} FROM g" + (" WHERE n % 5 < 3" if "entity" in one else "")
            for one in series
        ),
    ]
    record = encode(scored(1, 0))
    for statement in statements:
        with store.write() as connection:
            connection.execute(sa.text(statement), {"record": record} if ":record" in statement else {})


def _roll(store: Store) -> None:
    names = "articles, stories, negative, neutral, positive, fresh_stories, fresh_negative, fresh_neutral"
    names += ", fresh_positive, score_sum_e4, revision"
    sums = "count(*), count(*), {0}, {1}, {2}, count(*), {0}, {1}, {2}, sum(score_e4), count(*)".format(
        *(f"count(*) FILTER (WHERE label = {value})" for value in (-1, 0, 1))
    )
    totals = ", ".join(f"sum({name})" for name in names.split(", "))
    into = f"INSERT INTO windows (series, length_s, start, {names}) "
    order = "" if store.sqlite else " ORDER BY start"  # as they stand in PostgreSQL where they came one by one
    with store.write() as connection:
        connection.exec_driver_sql(
            f"{into} SELECT series, {WINDOW_S}, start, {sums} FROM counted GROUP BY series, start{order}"
        )
        below = WINDOW_S
        for length_s in ROLLUPS_S:
            bin_ = f"start / {length_s}000000 * {length_s}000000"
            if not store.sqlite:
                bin_ = f"to_timestamp(floor(extract(epoch FROM start) / {length_s}) * {length_s})"
            connection.exec_driver_sql(
                f"{into} SELECT series, {length_s}, {bin_} AS start, {totals} FROM windows "
                f"WHERE length_s = {below} GROUP BY series, {bin_}{order}"
            )
            below = length_s

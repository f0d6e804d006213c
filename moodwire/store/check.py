"""Whether what the store holds fits together."""

import sqlalchemy as sa

from moodwire.records import WINDOW_S
from moodwire.store import schema
from moodwire.store.db import Store
from moodwire.store.windows import ROLLUPS_S, Positions, counts, load_positions, within

SHOWN = 5


def faults(store: Store) -> list[str]:
    """What does not fit, a line each; windows that trends has not come to yet are none."""
    a, s, c = schema.articles.c, schema.scores.c, schema.counted.c
    found = []
    _, counted = load_positions(store, "trends")  # before the windows, which are written before it
    with store.read() as connection:
        scored = sa.exists().where(s.id == c.id, s.revision == c.revision)
        lost = connection.execute(sa.select(sa.func.count()).select_from(schema.counted).where(~scored)).scalar_one()
        if lost:
            found.append(f"{lost} counted articles have no score")
        # PostgreSQL's partitions each see to it for themselves only.
        for name, key in (("scores", (s.id, s.revision, s.model)), ("articles", (a.id, a.revision))):
            twice = sa.select(*key).group_by(*key).having(sa.func.count() > 1).subquery()
            count = connection.execute(sa.select(sa.func.count()).select_from(twice)).scalar_one()
            if count:
                found.append(f"{count} {name} are there twice")
        found += _windows(connection, counted)
    return found


def _windows(connection: sa.Connection, until: Positions) -> list[str]:
    """Windows that say more than was counted, or less than was up to these positions, and rollups that are not the sum
    of their parts."""
    w, c = schema.windows.c, schema.counted.c
    articles, *_ = counts()
    counted = sa.select(c.series, c.start, articles.label("n")).group_by(c.series, c.start)
    all_, done = counted.subquery(), counted.where(within(until)).having(articles > 0).subquery()
    more = (
        sa.select(w.series, w.start)
        .join_from(schema.windows, all_, sa.and_(all_.c.series == w.series, all_.c.start == w.start), isouter=True)
        .where(w.length_s == WINDOW_S, w.articles > sa.func.coalesce(all_.c.n, 0))
    )
    same = sa.and_(done.c.series == w.series, done.c.start == w.start, w.length_s == WINDOW_S)
    fewer = (
        sa.select(done.c.series, done.c.start)
        .join_from(done, schema.windows, same, isouter=True)
        .where(sa.func.coalesce(w.articles, 0) < done.c.n)
    )
    found = [
        f"window {series} {start:%Y-%m-%d %H:%M}: it counts {what} articles than there are"
        for what, query in (("more", more), ("fewer", fewer))
        for series, start in connection.execute(query.limit(SHOWN))
    ]
    totals = sa.select(w.length_s, sa.func.sum(w.articles), sa.func.sum(w.score_sum_e4)).group_by(w.length_s)
    by_length = {length: tuple(map(int, sums)) for length, *sums in connection.execute(totals)}
    minutes = by_length.get(WINDOW_S)
    for length in ROLLUPS_S:
        if by_length.get(length) != minutes:
            found.append(f"windows of {length} s are not the sum of those of {WINDOW_S} s")
    return found

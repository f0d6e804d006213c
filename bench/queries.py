"""What the pages ask of the store, one question at a time, over two years of scores: how long, and by which plan.

./run bench queries [--scores 5000000] [--days 730] [--asks 40] [--plans] [--store ADDRESS …] [--only WORD]

Asks SQLite and PostgreSQL in turn, each filled for it; or the stores at the addresses, which are filled where they
are empty. Each question is asked for spans that nobody asked for before, first once that does not count.
"""

import argparse
import gc
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import event

from bench import years
from dashboard.pages.label import QUEUE, WITHIN
from moodwire.store import labels, queries, watching
from moodwire.store.db import Store
from moodwire.store.detection import expected
from moodwire.store.find import Filter, course, find
from moodwire.store.health import stage_health
from tests.helpers import STORES

DAY = timedelta(days=1)
SPANS = {DAY: 900, 7 * DAY: 7200, 14 * DAY: 14_400}  # and seconds a point, as the pages have them
Ask = Callable[[Store, datetime, datetime, timedelta, random.Random], Any]


def _company(rng: random.Random) -> str:
    return f"entity:{years.company(rng.random())}"


def _topic(rng: random.Random) -> str:
    return f"topic:{rng.choice(years.TOPICS)}"


def _words(rng: random.Random) -> str:
    return f"w{rng.randrange(100)} w{rng.randrange(300)}"


# store, the present, end and length of a span, luck.
QUESTIONS: dict[str, Ask] = {
    "beat: mark": lambda store, now, end, span, rng: watching.mark(store),
    "frame: last article": lambda store, now, end, span, rng: queries.last_article(store),
    "frame: deliveries": lambda store, now, end, span, rng: queries.deliveries(store),
    "overview: series": lambda store, now, end, span, rng: queries.overview(store, end, span),
    "overview: usual": lambda store, now, end, span, rng: watching.usual(store, end - span - 14 * DAY, end - span),
    "overview: begun": lambda store, now, end, span, rng: watching.begun(store, "all"),
    "overview: course": lambda store, now, end, span, rng: queries.mood(store, "all", end - span, end, SPANS[span]),
    "overview: incidents": lambda store, now, end, span, rng: watching.incidents(store, None, end - span, end, 50),
    "overview: open incidents": lambda store, now, end, span, rng: queries.open_incidents(store),
    "overview: newest stories": lambda store, now, end, span, rng: queries.stories(store, None, end - span, end, 100),
    "series: course": lambda store, now, end, span, rng: course(store, _company(rng), end - span, end, SPANS[span]),
    "series: late": lambda store, now, end, span, rng: watching.revised(store, "all", end - span, end, SPANS[span]),
    "series: expected": lambda store, now, end, span, rng: expected(store, "all", end - span - DAY, end),
    "series: stories": lambda store, now, end, span, rng: find(store, Filter(_company(rng)), end - span, end, 300),
    "series: others": lambda store, now, end, span, rng: queries.busiest(store, end, span),
    "series: sources": lambda store, now, end, span, rng: watching.sources(store),
    "crossed: course": lambda store, now, end, span, rng: course(
        store, f"{_topic(rng)}+{_company(rng)}", end - span, end, SPANS[span]
    ),
    "crossed: stories": lambda store, now, end, span, rng: find(
        store, Filter(f"{_topic(rng)}+{_company(rng)}"), end - span, end, 300
    ),
    "crossed: course with a source": lambda store, now, end, span, rng: course(
        store, f"{_topic(rng)}+source:Source 7", end - span, end, SPANS[span]
    ),
    "crossed: stories of a source": lambda store, now, end, span, rng: find(
        store, Filter("source:Source 7"), end - span, end, 300
    ),
    "search: two words": lambda store, now, end, span, rng: find(
        store, Filter(words=_words(rng)), end - span, end, 300
    ),
    "search: a mood": lambda store, now, end, span, rng: find(store, Filter(label="negative"), end - span, end, 300),
    "search: two words, ever": lambda store, now, end, span, rng: find(
        store, Filter(words=_words(rng)), None, None, 300
    ),
    "label: waiting": lambda store, now, end, span, rng: labels.to_label(store, now, WITHIN, QUEUE),
    "label: given": lambda store, now, end, span, rng: labels.corrections(store, None, None, None, 100),
    "health: supply": lambda store, now, end, span, rng: watching.supply(store, now),
    "health: scores of a day": lambda store, now, end, span, rng: watching.score_shares(store, now - DAY, now),
    "health: scores of two weeks": lambda store, now, end, span, rng: watching.score_shares(
        store, now - 15 * DAY, now - DAY
    ),
    "health: feeds": lambda store, now, end, span, rng: queries.feeds(store),
    "health: stages": lambda store, now, end, span, rng: stage_health(store),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=int, default=5_000_000)
    parser.add_argument("--days", type=float, default=730, help="that they are spread over")
    parser.add_argument("--asks", type=int, default=40, help="of each question")
    parser.add_argument("--plans", action="store_true", help="print each plan too")
    parser.add_argument("--store", action="append", metavar="ADDRESS")
    parser.add_argument("--only", default="", help="questions whose name holds this")
    options = parser.parse_args()
    gc.set_threshold(50_000)  # as `cli.stages.run_stage` has it
    with tempfile.TemporaryDirectory() as folder:
        for url in options.store or [make(Path(folder)) for make in STORES.values()]:
            asked(url, options)


def asked(url: str, options: argparse.Namespace) -> None:
    store = Store(url)
    store.upgrade()
    end = years.newest(store)
    if end is None:
        end = datetime.now(UTC)
        years.fill(store, options.scores, end, timedelta(days=options.days))
    kind, goal = ("SQLite", 300) if store.sqlite else ("PostgreSQL", 150)
    print(f"{kind}, {options.scores:,} scores over {options.days:g} days, {os.cpu_count()} cores, load ", end="")
    print(f"{os.getloadavg()[0]:.1f} before; the goal is a p95 of {goal} ms\n")
    print("| question | p50, ms | p95, ms | slowest, ms |\n|---|---|---|---|")
    for name, ask in QUESTIONS.items():
        if options.only not in name:
            continue
        rng, took = random.Random(5), []
        for n in range(options.asks + 1):
            now = end - timedelta(minutes=n)
            until = now - rng.uniform(0, 0.9) * timedelta(days=options.days)
            span = rng.choice([*SPANS])
            began = time.perf_counter()
            ask(store, now, until, span, rng)
            if n:
                took.append(1e3 * (time.perf_counter() - began))
        p50, p95 = np.percentile(took, [50, 95])
        print(f"| {name} | {p50:.1f} | {p95:.1f} | {max(took):.1f} |", flush=True)
    print()
    if options.plans:
        for name, ask in QUESTIONS.items():
            if options.only in name:
                lines = plans(store, lambda ask=ask: ask(store, end, end, DAY, rng))
                print(f"## {name}, {kind}", "", *lines, "", sep="\n")
    store.close()


def plans(store: Store, ask: Callable[[], Any]) -> list[str]:
    """How the store goes about each statement of a question: the lines of the plans."""
    with statements(store) as found:
        ask()
    explain = "EXPLAIN QUERY PLAN " if store.sqlite else "EXPLAIN "
    lines: list[str] = []
    with store.read() as connection:
        for statement, parameters in found:
            rows = connection.exec_driver_sql(explain + statement, parameters)
            lines += [str(row[-1]) for row in rows]
    return lines


@contextmanager
def statements(store: Store) -> Iterator[list[tuple[str, Any]]]:
    """What is asked of the store meanwhile: the words and the parameters of each."""
    found: list[tuple[str, Any]] = []

    def heard(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH", "DELETE")):
            found.append((statement, parameters))

    event.listen(store.engine, "before_cursor_execute", heard)
    try:
        yield found
    finally:
        event.remove(store.engine, "before_cursor_execute", heard)


if __name__ == "__main__":
    main()

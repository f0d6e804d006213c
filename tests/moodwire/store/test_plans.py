"""The stores answer what the pages ask by an index: no question goes through all articles, scores or windows."""

import random
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from bench import years
from bench.queries import QUESTIONS, SPANS, plans, statements
from moodwire.settings import Retention
from moodwire.store import partitions, queries, schema
from moodwire.store.db import Store
from moodwire.store.find import Filter, find
from moodwire.store.retention import prune
from tests.helpers import STORES, T0

BIG = "articles|scores|counted|windows"
# A table's other names in a plan: of an alias, a month, a TimescaleDB chunk. `articles_words`: the index of words.
SQLITE_SCAN = re.compile(rf"SCAN ({BIG})(_\d+)?($| )")
KIND = "Seq Scan|Index Scan|Index Only Scan"
NODE = re.compile(rf"({KIND})( using | Backward using | on ).*?\b(({BIG})(_\d{{4}}_\d\d)?|_hyper_\d+_\d+_chunk)( |$)")


@pytest.fixture(scope="module", params=STORES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    filled = Store(STORES[request.param](tmp_path_factory.mktemp("plans")))
    filled.upgrade()
    years.fill(filled, 4000, T0, timedelta(days=60))
    if not filled.sqlite:  # months so small are sooner read whole, where that is allowed
        with filled.write() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {filled.url.database} SET enable_seqscan = off")
        filled.close()
    yield filled
    filled.close()


def scans(store: Store, plan: Sequence[str]) -> list[str]:
    """The lines by which a plan goes through the whole of a big table, or of an index of it."""
    if store.sqlite:
        return [line for line in plan if SQLITE_SCAN.match(line)]
    nodes = [[line] for line in plan[:1]]  # each with what is told of it
    for line in plan[1:]:
        if "->" in line:
            nodes.append([])
        nodes[-1].append(line)
    return [node[0] for node in nodes if NODE.search(node[0]) and not any("Index Cond:" in line for line in node)]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("span", SPANS, ids=lambda span: f"{span.days}d")
def test_a_question_is_answered_by_an_index(store: Store, question: str, span: timedelta) -> None:
    plan = plans(store, lambda: QUESTIONS[question](store, T0, T0, span, random.Random(3)))
    assert plan
    assert not scans(store, plan), "\n".join(plan)


def test_a_story_s_article_and_score_are_looked_for_in_their_own_month(store: Store) -> None:
    with statements(store) as asked:
        assert len(queries.stories(store, "all", T0.replace(day=1), T0, 20)) == 20
    assert months(store, asked) <= {f"articles_{T0:%Y_%m}", f"scores_{T0:%Y_%m}"}


def test_words_are_looked_for_in_the_months_of_the_span(store: Store) -> None:
    begin = T0.replace(month=1, day=10)
    with statements(store) as asked:
        found = find(store, Filter(words='"w1"'), begin, begin + timedelta(days=7))
    assert 0 < len(found) < 200
    assert months(store, asked[-1:]) <= {"articles_2024_01", "scores_2024_01"}, (
        "before it is asked which months those are"
    )


def months(store: Store, asked: Sequence[tuple[str, Any]]) -> set[str]:
    """The partitions of articles and scores that are looked into; none where others than we made them."""
    with store.read() as connection:
        if store.sqlite or not partitions.is_partitioned(connection, "articles"):
            return set()  # one table holds all months, or TimescaleDB's chunks, which bear no month's name
        lines: list[str] = []
        for statement, parameters in asked:
            lines += connection.exec_driver_sql("EXPLAIN (ANALYZE) " + statement, parameters).scalars()
    executed = [line for line in lines if "never executed" not in line]
    found = {place for line in executed for place in re.findall(r" on ((?:articles|scores)_\d{4}_\d\d) ", line)}
    assert found, "\n".join(lines)
    return found


def test_what_is_old_is_found_by_an_index(store: Store) -> None:
    """While rows are deleted nobody else can write to SQLite."""
    plan = plans(store, lambda: prune(store, Retention(articles_days=9000, scores_days=9000), T0))
    assert any("counted" in line for line in plan)
    assert not scans(store, plan), "\n".join(plan)


@pytest.mark.parametrize("table", [schema.articles, schema.scores, schema.counted, schema.windows])
def test_a_scan_would_be_seen(store: Store, table: sa.Table) -> None:
    def ask() -> None:
        with store.read() as connection:
            column = next(column for column in table.c if isinstance(column.type, sa.Integer))
            connection.execute(sa.select(sa.func.count()).select_from(table).where(column + 1 == 77)).scalar()

    assert scans(store, plans(store, ask))

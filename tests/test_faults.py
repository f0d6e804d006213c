"""Whatever breaks while news is replayed, what is stored in the end is what a run left in peace stores.

Content is compared, not counts: articles, scores, windows, incidents and their changes, apart from when things were
seen, scored and known. `./run bench faults` does the same at more moments.
"""

import re

import pytest

from moodwire.records import encode
from tests.faults.faulty import Fault
from tests.faults.flow import (
    ARTICLES,
    LOCAL,
    Kind,
    Outcome,
    differences,
    plan_of,
    run,
    windows_of,
)

SERVED = Kind("kafka", "postgresql", partitions=3)
KINDS = (LOCAL, SERVED, Kind("kafka", "postgresql"), Kind("embedded", "postgresql"), Kind("kafka", "sqlite"))
SAMPLES = {
    LOCAL: [
        Fault(0, "kill", "ingest", "append", 6),
        Fault(1, "kill", "classifier", "append", 4),
        Fault(2, "kill", "trends", "commit", 5),
        Fault(3, "kill", "alerts", "write", 4),
        Fault(4, "full", "classifier", "append", 3),
        Fault(5, "duplicate", "trends", "append", 4, "scored"),
        Fault(6, "clock", "alerts", "commit", 3, "3600"),
        Fault(7, "poison", "classifier", "append", 2, "articles: bad bytes"),
        Fault(8, "poison", "trends", "append", 2, "scored: over the cap"),
    ],
    SERVED: [
        Fault(0, "broker down", "classifier", "append", 5, seconds=2),
        Fault(1, "database down", "trends", "write", 5, seconds=1),
        Fault(2, "broker silent", "ingest", "append", 8, seconds=2),
        Fault(3, "kill", "classifier", "write", 4),
        Fault(4, "kill", "alerts", "write", 3),
        Fault(5, "join", "classifier", "append", 2, "dies", seconds=1),
        Fault(6, "duplicate", "trends", "append", 2, "articles"),
        Fault(7, "poison", "classifier", "append", 2, "articles: a NUL in it"),
        Fault(8, "poison", "ingest", "append", 3, "windows: a future version"),
    ],
}


@pytest.fixture(scope="module")
def in_peace(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    found = run(tmp_path_factory.mktemp("peace") / "run")
    assert found.falls == 0
    assert found.unsound == []
    assert len(found.content["scores"]) == len(found.content["articles"]) > ARTICLES // 2
    assert len(found.content["alerts"]) >= 4, "the surges must set off alarms, or their equality would say nothing"
    assert any("state='resolved'" in row for row in found.content["alerts"])
    return found


def check(found: Outcome, in_peace: Outcome, plan: list[Fault]) -> None:
    for fault in plan:
        assert " 0 records" not in found.hits[fault.number]
        assert "records in hand" in found.hits[fault.number], f"nothing was in flight at {fault}"
        if fault.kind == "full":
            assert "full" in found.hits[fault.number].split("in hand")[1]
    assert found.falls >= sum(fault.kind in {"kill", "full"} for fault in plan)
    assert differences(in_peace.content, found.content, in_peace.content) == {}
    assert found.buried == found.poison, "just what was poisoned is set aside"
    assert len(found.poison) == sum(fault.kind == "poison" for fault in plan)
    assert found.unsound == []


@pytest.mark.parametrize("kind", SAMPLES, ids=str)
def test_faults_lose_and_double_nothing(
    kind: Kind, in_peace: Outcome, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plan = SAMPLES[kind]
    check(run(tmp_path_factory.mktemp("faults") / "run", kind, plan), in_peace, plan)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_seeded_faults_lose_and_double_nothing(
    seed: int, kind: Kind, in_peace: Outcome, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plan = plan_of(seed, kind)
    check(run(tmp_path_factory.mktemp("faults") / "run", kind, plan), in_peace, plan)


@pytest.mark.parametrize("kind", [LOCAL, pytest.param(SERVED, marks=pytest.mark.long)], ids=str)
def test_the_suite_finds_a_stage_that_commits_before_it_writes(
    kind: Kind, in_peace: Outcome, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plan = [Fault(0, "kill", "classifier", "append", 4)]
    found = run(tmp_path_factory.mktemp("faults") / "run", kind, plan, classifier=["commit-first"])
    assert "records in hand" in found.hits[0]
    lost, _ = differences(in_peace.content, found.content, ["windows"])["windows"]
    assert lost


@pytest.mark.parametrize("kind", [LOCAL, pytest.param(SERVED, marks=pytest.mark.long)], ids=str)
def test_in_another_order_articles_and_scores_are_equal_and_windows_right(
    kind: Kind, in_peace: Outcome, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plan = [Fault(number, "shuffle", "ingest", "append", 6) for number in range(4)]
    found = run(tmp_path_factory.mktemp("faults") / "run", kind, plan)
    assert all(re.search(r"\d\d records in hand", hit) for hit in found.hits.values())
    assert differences(in_peace.content, found.content, ["articles", "scores"]) == {}
    assert found.unsound == []
    order = [(one.id, one.revision) for _, _, one in found.articles]
    assert order != [(one.id, one.revision) for _, _, one in in_peace.articles]
    for outcome in (in_peace, found):
        stored = {(window.series, window.start): encode(window) for window in outcome.windows}
        assert stored == windows_of(outcome.articles, outcome.scored)


@pytest.mark.parametrize("kind", [LOCAL, pytest.param(SERVED, marks=pytest.mark.long)], ids=str)
def test_with_the_real_engine_the_same_articles_are_scored_and_the_first_score_stays(
    kind: Kind, in_peace: Outcome, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plan = [
        Fault(0, "kill", "classifier", "commit", 3),
        Fault(1, "kill", "classifier", "append", 4),
        Fault(2, "kill", "ingest", "append", 5),
        Fault(3, "kill", "trends", "commit", 3),
    ]
    found = run(tmp_path_factory.mktemp("real") / "run", kind, plan, engine="openvino", classifier=["restless"])
    assert all("records in hand" in hit for hit in found.hits.values())
    assert found.keys == in_peace.keys
    stored = {(one.id, one.revision): encode(one) for one in found.scored}
    assert len(found.told) > len(stored), "nothing was scored twice, so nothing was shown"
    assert all(encode(one) == stored[one.id, one.revision] for one in found.told)
    assert found.unsound == []
    windows = {(window.series, window.start): encode(window) for window in found.windows}
    assert windows == windows_of(found.articles, found.scored)

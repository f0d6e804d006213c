from datetime import timedelta
from pathlib import Path

import pytest

from moodwire.settings import Retention
from moodwire.store.retention import prune
from moodwire.store.scores import store_scores
from tests.helpers import STORES, T0, context, scored


@pytest.mark.parametrize("kind", STORES)
def test_only_what_is_older_than_its_table_keeps_goes(tmp_path: Path, kind: str) -> None:
    store = context(tmp_path, kind=kind).store
    days = [0, 1, 2, 3]
    store_scores(store, [scored(day, -86_400.0 * day) for day in days], timedelta(hours=2))
    deleted = prune(store, Retention(scores_days=1.5), T0)
    assert {table: rows for table, rows in deleted.items() if rows} == {"scores": 2, "counted": 2}
    assert prune(store, Retention(scores_days=1.5), T0)["scores"] == 0
    store.close()


@pytest.mark.parametrize("kind", STORES)
def test_no_more_goes_at_once_than_is_said(tmp_path: Path, kind: str) -> None:
    store = context(tmp_path, kind=kind).store
    store_scores(store, [scored(number, -86_400.0 * 3 - number) for number in range(10)], timedelta(hours=2))
    gone = [prune(store, Retention(scores_days=1.5), T0, most=4)["scores"] for _ in range(4)]
    assert gone == [4, 4, 2, 0]
    store.close()

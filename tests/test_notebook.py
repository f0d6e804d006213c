"""The notebook of docs/, run over generated news and prices in which mood leads returns by two hours."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moodwire.store.db import Store
from moodwire.store.scores import store_scores
from moodwire.store.windows import store_windows
from tests.helpers import STORES, T0, after, scored
from trends.count import Totals, window_of

NOTEBOOK = Path(__file__).parent.parent / "docs" / "returns.ipynb"
HOURS = 200


def test_the_notebook_finds_what_was_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    labels = [("negative", "neutral", "positive")[n] for n in rng.integers(0, 3, HOURS)]
    worth = {"negative": -1, "neutral": 0, "positive": 1}
    store = Store(STORES["sqlite"](tmp_path))
    store.upgrade()
    for number, label in enumerate(labels):
        record = scored(number, 3600.0 * number, label, ("all", "entity:ACME"))
        store_scores(store, [record], timedelta(hours=2))
        totals = Totals(1, *(int(label == name) for name in worth), 0, 0, 0, 7000 * worth[label])
        store_windows(store, [window_of(("entity:ACME", after(3600.0 * number)), totals)])
    store.close()
    steps = [0.001 * worth[labels[n - 2]] if n >= 2 else 0.0 for n in range(HOURS)] + rng.normal(0, 0.0005, HOURS)
    times = [T0 + timedelta(hours=n, minutes=59) for n in range(HOURS)]
    prices = tmp_path / "prices.csv"
    pd.DataFrame({"time": [t.isoformat() for t in times], "close": 100 * np.exp(np.cumsum(steps))}).to_csv(prices)
    monkeypatch.setenv("MOODWIRE_ADDRESS", STORES["sqlite"](tmp_path))
    monkeypatch.setenv("MOODWIRE_PRICES", str(prices))
    monkeypatch.setenv("MOODWIRE_SYMBOL", "ACME")
    made: dict[str, object] = {}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "kept without outputs"
            exec("".join(cell["source"]), made)
    table, figure = made["table"], made["figure"]
    assert isinstance(table, pd.DataFrame)
    assert table["correlation"].idxmax() == 2
    assert table.loc[2, "low"] > 0.5
    assert list(figure.data[0].x) == list(range(1, 7))  # type: ignore[attr-defined]

"""The figures of a model, against scikit-learn and against what can be counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from classifier.evaluate import as_text, calibration_error, compare, report, weighted_f1

NAMES = ("negative", "neutral", "positive")


def sure(guesses: list[int], p: float = 0.9) -> np.ndarray:  # type: ignore[type-arg]
    found = np.full((len(guesses), 3), (1 - p) / 2)
    found[range(len(guesses)), guesses] = p
    return found


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_weighted_f1_is_scikit_learn_s(pairs: list[tuple[int, int]]) -> None:
    truth, guesses = np.array(pairs).T
    exact = f1_score(truth, guesses, average="weighted", zero_division=0)
    assert weighted_f1(truth, guesses, 3) == pytest.approx(exact)


def test_a_report_counts_right() -> None:
    found = report([0, 0, 1, 2], sure([0, 1, 1, 2]), NAMES)
    assert (found["rows"], found["accuracy"]) == (4, 0.75)
    assert found["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert found["classes"]["negative"]["recall"] == 0.5
    text = as_text(found)
    assert "accuracy 0.7500" in text
    assert "negative  1 1 0" in text


def test_calibration_error_is_the_gap_between_sure_and_right() -> None:
    assert calibration_error([0] * 10, sure([0] * 9 + [1])) == pytest.approx(0)
    assert calibration_error([0] * 10, sure([0] * 5 + [1] * 5)) == pytest.approx(0.4)


def test_a_better_model_is_found_better_and_an_equal_one_is_not() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 600).tolist()
    good = [t if rng.random() < 0.9 else (t + 1) % 3 for t in truth]
    poor = [t if rng.random() < 0.8 else (t + 1) % 3 for t in truth]
    better = compare(truth, sure(good), sure(poor))
    assert better.low > 0
    assert better.low < better.observed < better.high
    same = compare(truth, sure(good), sure(good))
    assert (same.observed, same.low, same.high, same.share_not_better) == (0, 0, 0, 1)
    assert compare(truth, sure(good), sure(poor)) == better, "the same seed, the same interval"

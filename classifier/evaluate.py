"""How good a model is on labelled rows: pure, from labels and probabilities to figures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import classification_report, confusion_matrix

BINS = 15
RESAMPLES = 2000

Probabilities = NDArray[np.float64]  # (rows, classes)


class Difference(NamedTuple):
    """Of two models' weighted F1 on the same rows, this one's less the baseline's."""

    observed: float
    low: float  # of the 95% interval
    high: float
    share_not_better: float  # of the resamples in which this one is not better


def report(labels: Sequence[int], probabilities: Probabilities, names: Sequence[str]) -> dict[str, Any]:
    """Figures by class and over all: precision, recall, F1, confusion (rows: truth), ECE. Labels index `names`."""
    guesses = probabilities.argmax(1)
    classes = list(range(len(names)))
    found = classification_report(
        labels, guesses, labels=classes, target_names=list(names), output_dict=True, zero_division=0
    )
    return {
        "rows": len(labels),
        "accuracy": float(np.mean(guesses == np.array(labels))),
        "macro_f1": found["macro avg"]["f1-score"],
        "weighted_f1": found["weighted avg"]["f1-score"],
        "ece": calibration_error(labels, probabilities),
        "classes": {name: found[name] for name in names},
        "confusion": confusion_matrix(labels, guesses, labels=classes).tolist(),
    }


def calibration_error(labels: Sequence[int], probabilities: Probabilities, bins: int = BINS) -> float:
    """Expected calibration error (Guo et al. 2017, section 2), in bins of equal width."""
    sure = probabilities.max(1)
    right = probabilities.argmax(1) == np.array(labels)
    which = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(right[which == b].sum() - sure[which == b].sum()) for b in range(bins)]
    return float(sum(gaps)) / len(labels)


def compare(labels: Sequence[int], ours: Probabilities, baseline: Probabilities, seed: int = 1) -> Difference:
    """Paired bootstrap over the rows (Efron & Tibshirani 1993, chapter 16; Berg-Kirkpatrick et al. 2012)."""
    truth, classes = np.array(labels), ours.shape[1]
    guesses = [ours.argmax(1), baseline.argmax(1)]
    rng = np.random.default_rng(seed)
    gaps = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        rows = rng.integers(0, len(truth), len(truth))
        one, other = (weighted_f1(truth[rows], guess[rows], classes) for guess in guesses)
        gaps[number] = one - other
    observed = weighted_f1(truth, guesses[0], classes) - weighted_f1(truth, guesses[1], classes)
    low, high = np.quantile(gaps, [0.025, 0.975])
    return Difference(observed, float(low), float(high), float(np.mean(gaps <= 0)))


def weighted_f1(truth: NDArray[np.int64], guesses: NDArray[np.int64], classes: int) -> float:
    """F1 by class, weighted by the class's rows."""
    counts = np.bincount(truth * classes + guesses, minlength=classes * classes).reshape(classes, classes)
    right, rows, guessed = counts.diagonal(), counts.sum(1), counts.sum(0)
    f1 = 2 * right / np.maximum(rows + guessed, 1)
    return float((f1 * rows).sum() / rows.sum())


def as_text(found: Mapping[str, Any]) -> str:
    """The report as people read it."""
    names = list(found["classes"])
    width = max(map(len, names))
    lines = [
        f"{found['rows']} rows   accuracy {found['accuracy']:.4f}   weighted F1 {found['weighted_f1']:.4f}   "
        f"macro F1 {found['macro_f1']:.4f}   ECE {found['ece']:.4f}",
        "",
        f"{'':{width}}  precision  recall      F1    rows",
    ]
    for name, row in found["classes"].items():
        figures = f"{row['precision']:9.4f}  {row['recall']:6.4f}  {row['f1-score']:6.4f}  {row['support']:6.0f}"
        lines.append(f"{name:{width}}  {figures}")
    lines += ["", "confusion: a row for each true class, a column for each guess, in the order above"]
    cell = len(str(found["rows"]))
    for name, row in zip(names, found["confusion"], strict=True):
        lines.append(f"{name:{width}}  {' '.join(str(count).rjust(cell) for count in row)}")
    return "\n".join(lines)

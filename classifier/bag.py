"""A teacher that reads no order beyond pairs of tokens: logistic regression on hashed token n-grams.

Alone it is far behind the encoder; it errs elsewhere, and so mends what an encoder of this size gets wrong.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from tokenizers import Tokenizer

from classifier.text import normalise

BITS = 15  # of a feature's hash (Weinberger et al. 2009)
LONGEST = 2  # tokens of an n-gram
STRENGTH = 20.0  # inverse of the regularisation
_MULTIPLIERS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9))  # odd, with well-spread bits


class Bag:
    """Tells the classes it was fitted on."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str], labels: Sequence[int]) -> None:
        """labels: each text's class, 0 to the number of classes - 1, all of which occur."""
        self._tokenizer = tokenizer
        self._model = OneVsRestClassifier(LogisticRegression(C=STRENGTH, solver="liblinear"))
        self._model.fit(self._features(texts), np.asarray(labels))

    def log_probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """(texts, classes)."""
        found: NDArray[np.float64] = self._model.predict_proba(self._features(texts))
        return np.log(found + 1e-9)

    def _features(self, texts: Sequence[str]) -> csr_matrix:
        """Of each text its distinct n-grams, as a vector of length 1."""
        rows = [
            ngrams(np.array(encoding.ids, np.uint64))
            for encoding in self._tokenizer.encode_batch([normalise(text) for text in texts])
        ]
        values = np.concatenate([np.full(len(row), len(row) ** -0.5) for row in rows])
        ends = np.cumsum([0, *map(len, rows)])
        return csr_matrix((values, np.concatenate(rows), ends), shape=(len(texts), 1 << BITS))


def ngrams(ids: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The hashes of a text's n-grams up to LONGEST tokens, each once, in order."""
    found = []
    for size in range(1, min(LONGEST, len(ids)) + 1):
        mixed = np.zeros(len(ids) - size + 1, np.uint64)
        for k in range(size):
            mixed = mixed * _MULTIPLIERS[0] + ids[k : len(ids) - size + 1 + k] + np.uint64(size)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * _MULTIPLIERS[1]
        found.append((mixed ^ (mixed >> np.uint64(32))) >> np.uint64(64 - BITS))
    return np.unique(np.concatenate(found)).astype(np.int64)

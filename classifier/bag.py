"""Tokens and pairs of tokens, counted: what is wide beside the encoder, which is deep (Cheng et al. 2016, section 3).

Logistic regression on them is far behind the encoder by itself. It errs elsewhere, and so mends what an encoder of this
size gets wrong.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]

BITS = 15  # of a feature's hash (Weinberger et al. 2009)
LONGEST = 2  # tokens of a feature
_MULTIPLIERS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9))  # odd, with well-spread bits


class Bag(NamedTuple):
    weight: Floats  # (1 << BITS, classes)
    bias: Floats  # (classes,)

    def logits(self, ids: NDArray[Any], mask: NDArray[Any]) -> Floats:
        """(texts, classes), of the vectors of length 1 that `features` gives. ids, mask: as there."""
        rows, columns = features(ids, mask)
        starts = np.searchsorted(rows, np.arange(len(ids), dtype=np.uint64))
        counts = np.diff(starts, append=len(rows))
        summed = np.add.reduceat(self.weight[columns], starts)
        result: Floats = summed * (counts.astype(np.float32) ** np.float32(-0.5))[:, None] + self.bias
        return result


def features(ids: NDArray[Any], mask: NDArray[Any]) -> tuple[Hashes, Hashes]:
    """The row of the text and the hash of each distinct token and pair of tokens, text by text.

    ids, mask: (texts, tokens), each text with a token at least; the mask is 1 where there is a token, which is first.
    """
    there, tokens = mask > 0, ids.astype(np.uint64)
    found = []
    for size in range(1, min(LONGEST, ids.shape[1]) + 1):
        mixed = np.zeros((len(ids), ids.shape[1] - size + 1), np.uint64)
        for k in range(size):
            mixed = mixed * _MULTIPLIERS[0] + tokens[:, k : ids.shape[1] - size + 1 + k] + np.uint64(size)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * _MULTIPLIERS[1]
        hashes = (mixed ^ (mixed >> np.uint64(32))) >> np.uint64(64 - BITS)
        inside = there[:, size - 1 :]
        found.append(inside.nonzero()[0].astype(np.uint64) << np.uint64(BITS) | hashes[inside])
    ordered = np.sort(np.concatenate(found))  # `np.unique` takes as long as all the rest
    distinct = ordered[np.r_[True, ordered[1:] != ordered[:-1]]]
    return distinct >> np.uint64(BITS), distinct & np.uint64((1 << BITS) - 1)

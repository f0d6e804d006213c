"""The bag of tokens and pairs of tokens."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from classifier.bag import BITS, Bag, features

IDS = st.lists(st.integers(0, 30_000), min_size=1, max_size=40)


def laid_out(*texts: list[int]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    width = max(map(len, texts))
    ids = np.array([text + [0] * (width - len(text)) for text in texts], np.int32)
    return ids, np.array([[1] * len(text) + [0] * (width - len(text)) for text in texts], np.float32)


def hashes(text: list[int]) -> set[int]:
    return set(features(*laid_out(text))[1].tolist())


@given(IDS, IDS)
def test_features_are_distinct_in_range_and_of_the_tokens_alone(left: list[int], right: list[int]) -> None:
    rows, columns = features(*laid_out(left))
    assert set(rows.tolist()) == {0}
    assert len(set(columns.tolist())) == len(columns)
    assert columns.max() < 1 << BITS
    assert hashes(left) <= hashes(left + right), "what is added takes nothing away"


def test_order_counts_within_a_pair() -> None:
    forth, back = hashes([7, 9]), hashes([9, 7])
    assert len(forth) == 3
    assert len(forth & back) == 2


@given(st.lists(IDS, min_size=1, max_size=6))
def test_a_text_in_a_batch_is_as_alone(texts: list[list[int]]) -> None:
    rng = np.random.default_rng(2)
    bag = Bag(rng.normal(size=(1 << BITS, 3)).astype(np.float32), np.array([1, 2, 3], np.float32))
    together = bag.logits(*laid_out(*texts))
    for text, found in zip(texts, together, strict=True):
        known = sorted(hashes(text))
        expected = bag.weight[known].sum(0) / len(known) ** 0.5 + bag.bias
        assert np.allclose(found, expected, atol=1e-4)

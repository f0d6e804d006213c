"""The bag of token n-grams."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from classifier import weights
from classifier.bag import BITS, Bag, ngrams
from classifier.engine import WEIGHTS

IDS = st.lists(st.integers(0, 30_000), min_size=1, max_size=40)


def test_it_tells_what_it_was_fitted_on() -> None:
    texts = [f"{who} {what}" for what in ("falls", "rises") for who in ("Acme", "Globex", "Oil", "Gold", "The bank")]
    labels = [0] * 5 + [1] * 5
    bag = Bag(weights.tokenizer(WEIGHTS), texts, labels)
    found = bag.log_probabilities([*texts, "Silver falls"])
    assert found.argmax(1).tolist() == [*labels, 0]
    assert np.allclose(np.exp(found).sum(1), 1)


@given(IDS, IDS)
def test_n_grams_are_distinct_in_range_and_of_the_tokens_alone(left: list[int], right: list[int]) -> None:
    one, both = (ngrams(np.array(ids, np.uint64)) for ids in (left, left + right))
    assert len(set(one.tolist())) == len(one)
    assert one.min() >= 0
    assert one.max() < 1 << BITS
    assert set(one.tolist()) <= set(both.tolist()), "what is added takes nothing away"


def test_order_counts_within_a_pair() -> None:
    forth, back = (set(ngrams(np.array(ids, np.uint64)).tolist()) for ids in ([7, 9], [9, 7]))
    assert len(forth) == 3
    assert len(forth & back) == 2

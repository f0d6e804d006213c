"""From texts to batches and back: nothing lost, nothing twice, nothing over the budget."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier import weights
from classifier.engine import WEIGHTS
from classifier.pieces import CLS, PIECE_TOKENS, PIECES, SEP, Piece, batches, cut, shares

BODIES = st.lists(st.lists(st.integers(1000, 2000), min_size=2, max_size=PIECE_TOKENS), max_size=60)


@given(BODIES, st.integers(128, 4096))
def test_each_piece_stands_in_one_batch_as_it_was(bodies: list[list[int]], budget: int) -> None:
    given_ = [Piece(number, ids, [(0, 0, 1)] if number % 3 == 0 else []) for number, ids in enumerate(bodies)]
    made = list(batches(given_, budget))
    assert sorted(i for batch in made for i in batch.pieces) == list(range(len(bodies)))
    for batch in made:
        assert batch.ids.size <= budget or len(batch.pieces) == 1
        for row, i in enumerate(batch.pieces):
            assert batch.ids[row, : len(bodies[i])].tolist() == bodies[i]
            assert batch.mask[row].tolist() == [1.0] * len(bodies[i]) + [0.0] * (batch.ids.shape[1] - len(bodies[i]))
        assert [row for row, _, _ in batch.spans] == [row for row, i in enumerate(batch.pieces) if i % 3 == 0]


def test_little_of_a_batch_is_padding() -> None:
    rng = np.random.default_rng(1)
    given_ = [Piece(n, [7] * int(length), []) for n, length in enumerate(rng.integers(5, 128, 2000))]
    made = list(batches(given_, 4096))
    assert sum(batch.mask.sum() for batch in made) / sum(batch.mask.size for batch in made) > 0.9


@pytest.mark.parametrize("count", [1, 2, 6])
def test_the_shares_of_a_text_s_pieces_sum_to_one_and_the_first_weighs_half(count: int) -> None:
    found = shares(count)
    assert found.sum() == pytest.approx(1)
    assert found[0] == (1 if count == 1 else 0.5)


def test_a_long_text_is_read_in_pieces_and_a_span_stands_in_the_one_it_begins_in() -> None:
    tokenizer = weights.tokenizer(WEIGHTS)
    tokenizer.no_truncation()
    text = "rise " * 150 + "Acme " + "fall " * 3000
    start = text.index("Acme")
    found = cut(tokenizer, [("short", ()), (text, ((start, start + 4), (len(text) - 5, len(text))))])
    assert [piece.text for piece in found] == [0] + [1] * PIECES
    assert all(piece.ids[0] == CLS and piece.ids[-1] == SEP and len(piece.ids) <= PIECE_TOKENS for piece in found)
    ((number, first, last),) = found[2].spans
    assert number == 0
    assert tokenizer.decode(found[2].ids[first:last]) == "acme"
    assert not any(piece.spans for piece in (*found[:2], *found[3:])), "what is beyond the pieces is not read"

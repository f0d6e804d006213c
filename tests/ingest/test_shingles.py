"""Words and their runs as hashes: equal where the words are, and nowhere else."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ingest.shingles import MOST_CHARS, NONE, alike, runs_of, words_of

WORD = re.compile(r"[\w$%]+")
# Words of few letters, so that equal ones come up; and what 16 bits hold, without what folds to two letters.
few = st.text("abAB1$%_é .,-\n\u201c\U0001f600", max_size=200)
any_text = st.text(
    st.characters(max_codepoint=0xFFFF, exclude_categories=("Cs",)).filter(lambda char: len(char.casefold()) == 1),
    max_size=60,
)


@given(few | any_text, few | any_text)
def test_hashes_are_equal_where_words_are(one: str, other: str) -> None:
    hashes = np.concatenate(words_of(one, other)).tolist()
    words = [word.casefold() for text in (one, other) for word in WORD.findall(text)]
    assert len(hashes) == len(words)
    assert len(set(zip(words, hashes, strict=True))) == len(set(words)) == len(set(hashes))


@given(few, few, st.integers(1, 3))
def test_runs_are_a_set_and_shared_as_the_words_runs_are(one: str, other: str, size: int) -> None:
    hashed = [runs_of(words, size) for words in words_of(one, other)]
    runs = []
    for text in (one, other):
        words = WORD.findall(text.casefold())
        runs.append({tuple(words[at : at + size]) for at in range(len(words) - size + 1)})
    for found, expected in zip(hashed, runs, strict=True):
        assert len(found) == len(expected)
        assert found.tolist() == sorted(set(found.tolist()))
    if runs[0] and runs[1]:
        shared = len(runs[0] & runs[1])
        assert alike(*hashed) == (shared / len(runs[0] | runs[1]), shared / min(len(runs[0]), len(runs[1])))


def test_the_order_of_words_and_of_letters_matters() -> None:
    one, other = words_of("stop pots", "tops stop")
    assert len({*one.tolist(), *other.tolist()}) == 3
    assert set(runs_of(one, 2)).isdisjoint(runs_of(words_of("pots stop", "")[0], 2))


def test_what_is_too_long_is_cut_and_what_is_empty_has_none() -> None:
    one, other = words_of("a " * MOST_CHARS, "b")
    assert (len(one), len(other)) == (MOST_CHARS // 2, 0)
    assert [len(words) for words in words_of("", "…")] == [0, 0]
    assert runs_of(NONE, 2) is NONE

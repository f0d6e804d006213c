"""Texts as sets of hashed runs of words: pure, on whole arrays at once."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

MOST_CHARS = 6000  # looked at at once, in 16 bits each
SEED = 1
NONE: Hashes = np.array([], np.uint64)
_MIX = np.random.default_rng(SEED).integers(0, 2**64, 3, np.uint64) | np.uint64(1)  # by a word's place in its run


def words_of(first: str, second: str) -> tuple[Hashes, Hashes]:
    """Of two texts a hash of each word, in order: of each run of letters, digits, `_`, `$` and `%`, in any case.

    A word's hash is a polynomial in a fixed base, and so the difference of two running sums over the text.
    """
    letters, powers, inverse = _hashing()
    data = first.encode("utf-16-le", "surrogatepass")
    both = data + b"\n\0" + second.encode("utf-16-le", "surrogatepass")
    values = letters[np.frombuffer(both, np.uint16)[:MOST_CHARS]]
    inside = np.zeros(len(values) + 2, bool)
    np.not_equal(values, 0, out=inside[1:-1])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[::2], edges[1::2]
    values *= powers[: len(values)]
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values, out=sums[1:])
    words = (sums[ends] - sums[starts]) * inverse[starts]
    border = int(np.searchsorted(starts, len(data) // 2))
    return words[:border], words[border:]


def runs_of(words: Hashes, size: int) -> Hashes:
    """Hashes of the runs of so many words, sorted and each once."""
    count = len(words) - size + 1
    if count < 1:
        return NONE
    found = words[:count] * _MIX[0]
    for place in range(1, size):
        found += words[place : place + count] * _MIX[place]
    found.sort()
    first = np.empty(count, bool)
    first[0] = True
    np.not_equal(found[1:], found[:-1], out=first[1:])
    once: Hashes = found[first]
    return once


def alike(one: Hashes, other: Hashes) -> tuple[float, float]:
    """Jaccard's index of two sets, and the share of the smaller that is in the larger."""
    shared = int(np.count_nonzero(one.take(one.searchsorted(other), mode="clip") == other))
    return shared / (len(one) + len(other) - shared), shared / min(len(one), len(other))


@cache
def _hashing() -> tuple[Hashes, Hashes, Hashes]:
    """By code: what a letter counts, 0 for what is in no word; and the powers of the base and of its inverse."""
    chance = np.random.default_rng(SEED).integers(1, 2**64, 0x10000, np.uint64)
    chars = [chr(code) for code in range(0x10000)]
    folded = [ord(char.casefold()[0]) for char in chars]
    letters = np.where([char.isalnum() or char in "_$%" for char in chars], chance[folded], np.uint64(0))
    base = int(chance[0]) | 1
    bases = np.array([[base], [pow(base, -1, 2**64)]], np.uint64)
    powers = np.cumprod(np.repeat(bases, MOST_CHARS, axis=1), axis=1, dtype=np.uint64)
    return letters, powers[0], powers[1]

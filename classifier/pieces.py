"""From texts to batches of token ids and back: pure. A text longer than a piece is read in several."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from classifier.engine import Span
from classifier.text import normalise

PIECE_TOKENS = 128  # with [CLS] and [SEP]
PIECES = 6  # at most, of one text: about 750 words are read
FIRST_PIECE = 0.5  # weight of the title and lead where a text has more pieces; the others share the rest
PIECE_CHARS = 1200  # a piece of text has at least this many characters to fill PIECE_TOKENS in most languages
BATCH_AT_LEAST = 16  # texts, before a batch ends for uneven lengths
CLS, SEP = 101, 102

Asked = tuple[str, tuple[Span, ...]]  # a text and the spans whose sentiment is asked


class Piece(NamedTuple):
    text: int  # index of its text
    ids: list[int]
    spans: list[tuple[int, int, int]]  # index of the span, first token, last token + 1


class Batch(NamedTuple):
    pieces: list[int]  # their indices
    ids: NDArray[np.int32]  # (pieces, tokens)
    mask: NDArray[np.float32]  # (pieces, tokens): 1 where there is a token
    spans: list[tuple[int, int, int]]  # row, first token, last token + 1


def cut(tokenizer: Tokenizer, asked: Sequence[Asked]) -> list[Piece]:
    """Each text's tokens in pieces of PIECE_TOKENS, its spans in tokens of the piece in which they begin."""
    texts = [normalise(text[: PIECES * PIECE_CHARS]) for text, _ in asked]
    body = PIECE_TOKENS - 2
    pieces = []
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    for number, (encoding, (_, places)) in enumerate(zip(encodings, asked, strict=True)):
        ids = encoding.ids[: PIECES * body]
        located = _locate(encoding.offsets, places) if places else []
        for at in range(0, max(len(ids), 1), body):
            spans = [
                (k, first - at + 1, min(last - at, body) + 1)
                for k, first, last in located
                if at <= first < min(at + body, len(ids))
            ]
            pieces.append(Piece(number, [CLS, *ids[at : at + body], SEP], spans))
    return pieces


def batches(pieces: Sequence[Piece], budget: int) -> Iterator[Batch]:
    """Batches of similar length, each of at most `budget` tokens with padding (a piece alone may have more).

    A piece much longer than its batch's shortest begins a batch of its own, unless that would leave a small one:
    padding costs as much as text, and each batch costs something too.
    """
    batch: list[int] = []
    for i in sorted(range(len(pieces)), key=lambda i: len(pieces[i].ids)):
        length = len(pieces[i].ids)
        full = (len(batch) + 1) * length > budget
        uneven = len(batch) >= BATCH_AT_LEAST and length > 1.25 * len(pieces[batch[0]].ids) + 4
        if batch and (full or uneven):
            yield _laid_out(pieces, batch)
            batch = []
        batch.append(i)
    if batch:
        yield _laid_out(pieces, batch)


def shares(count: int) -> NDArray[np.float32]:
    """The weights by which the log probabilities of a text's pieces are averaged."""
    if count == 1:
        return np.ones(1, np.float32)
    return np.array([FIRST_PIECE, *[(1 - FIRST_PIECE) / (count - 1)] * (count - 1)], np.float32)


def _laid_out(pieces: Sequence[Piece], batch: list[int]) -> Batch:
    ids, mask = padded([pieces[i].ids for i in batch])
    spans = [(row, first, last) for row, i in enumerate(batch) for _, first, last in pieces[i].spans]
    return Batch(batch, ids, mask.astype(np.float32), spans)


def padded(texts: Sequence[Sequence[int]]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Token ids, and where they are, both (texts, tokens): as wide as the longest text."""
    lengths = np.array([len(text) for text in texts])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, np.int32)
    ids[mask] = np.concatenate(texts)
    return ids, mask


def _locate(offsets: Sequence[Span], places: Sequence[Span]) -> list[tuple[int, int, int]]:
    """Of each span of characters: its index, first token and last token + 1."""
    found = []
    for k, (start, end) in enumerate(places):
        inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start]
        if inside:
            found.append((k, inside[0], inside[-1] + 1))
    return found

"""The CPU engine: the encoder as an OpenVINO graph made from the shipped weights, bf16 where the CPU has it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

from classifier import weights
from classifier.engine import Scores, Span, Triple
from classifier.text import normalise

HEADS = 12
LAYERS = 6
WIDTH = 384
PIECE_TOKENS = 128  # with [CLS] and [SEP]
PIECES = 6  # at most, of one text: about 750 words are read
FIRST_PIECE = 0.5  # weight of the title and lead where a text has more pieces; the others share the rest
BATCH_TOKENS = 4096
BATCH_AT_LEAST = 16  # texts, before a batch ends for uneven lengths
PIECE_CHARS = 1200  # a piece of text has at least this many characters to fill PIECE_TOKENS in most languages
CLS, SEP = 101, 102

Floats = NDArray[np.float32]


class OpenVinoEngine:
    """Scores on a CPU with `threads` threads (None: all cores). One caller at a time: it has one inference request."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """`folder`: weights and tokenizer. Raises ModelError when they are not sound."""
        loaded = weights.load(folder)
        self.model = loaded.model
        self._temperatures = loaded.temperatures
        self._heads = {
            head: (loaded.tensors[f"{head}.weight"].astype(np.float32).T, loaded.tensors[f"{head}.bias"])
            for head in ("sentiment", "topic", "entity")
        }
        self._tokenizer = weights.tokenizer(folder)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        core = ov.Core()
        capable = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = "bf16" if capable else "f32"
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": self.precision, "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled = core.compile_model(encoder(loaded.tensors), "CPU", settings)
        self._request = self._compiled.create_infer_request()

    def score(self, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> list[Scores]:
        """What `Engine.score` says; a text with the same spans twice is scored once.

        A text of more pieces than one has the weighted mean of the pieces' log probabilities, normalised (`_shares`).
        """
        asked = [(text, tuple(places)) for text, places in zip(texts, spans, strict=True)]
        distinct = list(dict.fromkeys(asked))
        known = dict(zip(distinct, self._score(distinct), strict=True))
        return [known[key] for key in asked]

    def _score(self, asked: Sequence[tuple[str, tuple[Span, ...]]]) -> list[Scores]:
        pieces = self._pieces(asked)
        vectors: list[Floats] = [np.empty(0, np.float32)] * len(pieces)  # mean over the piece's tokens
        towards: dict[tuple[int, int], Floats] = {}  # (text, span): mean over the span's tokens, and the piece's
        for batch in _batches([len(piece.ids) for piece in pieces]):
            width = _width(max(len(pieces[i].ids) for i in batch))
            ids = np.zeros((len(batch), width), np.int32)
            mask = np.zeros((len(batch), width), np.float32)
            for row, i in enumerate(batch):
                ids[row, : len(pieces[i].ids)] = pieces[i].ids
                mask[row, : len(pieces[i].ids)] = 1
            hidden = self._request.infer([ids, mask], share_inputs=True)[0]
            pooled = np.einsum("btw,bt->bw", hidden, mask) / mask.sum(1, keepdims=True)
            for row, i in enumerate(batch):
                vectors[i] = pooled[row]
                for number, first, last in pieces[i].spans:
                    towards[pieces[i].text, number] = np.concatenate([hidden[row, first:last].mean(0), pooled[row]])
        return self._decode(asked, pieces, vectors, towards)

    def _decode(
        self,
        asked: Sequence[tuple[str, tuple[Span, ...]]],
        pieces: Sequence["Piece"],
        vectors: Sequence[Floats],
        towards: dict[tuple[int, int], Floats],
    ) -> list[Scores]:
        if not asked:
            return []
        stacked = np.stack(vectors)
        sentiment, topic = self._log_softmax("sentiment", stacked), self._log_softmax("topic", stacked)
        entity = (
            dict(zip(towards, self._log_softmax("entity", np.stack([*towards.values()])), strict=True))
            if towards
            else {}
        )
        of_text: defaultdict[int, list[int]] = defaultdict(list)
        for i, piece in enumerate(pieces):
            of_text[piece.text].append(i)
        found = []
        for number, (_, places) in enumerate(asked):
            mine = of_text[number]
            shares = _shares(len(mine))
            overall = _triple(np.exp(shares @ sentiment[mine]))
            topics = np.exp(shares @ topic[mine])
            # A span beyond what is read has the mood of the whole text.
            parts = [
                _triple(np.exp(entity[number, k])) if (number, k) in entity else overall for k in range(len(places))
            ]
            found.append(Scores(overall, tuple((topics / topics.sum()).tolist()), tuple(parts)))
        return found

    def _log_softmax(self, head: str, vectors: Floats) -> Floats:
        matrix, bias = self._heads[head]
        logits = (vectors @ matrix + bias) / self._temperatures[head]
        logits = logits - logits.max(1, keepdims=True)
        result: Floats = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return result

    def _pieces(self, asked: Sequence[tuple[str, tuple[Span, ...]]]) -> list["Piece"]:
        """Each text's tokens in pieces of PIECE_TOKENS, the entity spans in tokens of their piece."""
        cut = [normalise(text[: PIECES * PIECE_CHARS]) for text, _ in asked]
        body = PIECE_TOKENS - 2
        pieces = []
        encodings = self._tokenizer.encode_batch(cut, add_special_tokens=False)
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


class Piece(NamedTuple):
    text: int  # index of its text
    ids: list[int]
    spans: list[tuple[int, int, int]]  # index of the span, first token, last token + 1


def _locate(offsets: Sequence[Span], places: Sequence[Span]) -> list[tuple[int, int, int]]:
    """Of each span of characters: its index, first token and last token + 1."""
    found = []
    for k, (start, end) in enumerate(places):
        inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start]
        if inside:
            found.append((k, inside[0], inside[-1] + 1))
    return found


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in batches of similar length, each of at most BATCH_TOKENS tokens with padding.

    A text much longer than its batch's shortest begins a batch of its own, unless that would leave a small one: padding
    costs as much as text, and each batch costs something too.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        full = (len(batch) + 1) * _width(lengths[i]) > BATCH_TOKENS
        uneven = len(batch) >= BATCH_AT_LEAST and lengths[i] > 1.25 * lengths[batch[0]] + 4
        if batch and (full or uneven):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _width(tokens: int) -> int:
    """Few different widths: the runtime prepares its kernels anew for each shape."""
    return -(-tokens // 8) * 8


def _shares(count: int) -> Floats:
    """The weights by which the log probabilities of a text's pieces are averaged."""
    if count == 1:
        return np.ones(1, np.float32)
    return np.array([FIRST_PIECE, *[(1 - FIRST_PIECE) / (count - 1)] * (count - 1)], np.float32)


def _triple(p: Floats) -> Triple:
    negative, neutral, positive = (p / p.sum()).tolist()
    return negative, neutral, positive


def encoder(tensors: dict[str, NDArray[np.float16]]) -> ov.Model:
    """BERT's encoder (Devlin et al. 2019) over ids (batch, tokens) and mask; gives (batch, tokens, WIDTH)."""

    def constant(name: str) -> Any:
        return op.convert(op.constant(tensors[f"encoder.{name}"]), "f32")

    def linear(x: Any, name: str) -> Any:
        product = op.matmul(x, constant(f"{name}.weight"), False, True)
        return op.add(product, constant(f"{name}.bias"))

    def norm(x: Any, name: str) -> Any:
        centred = op.mvn(x, op.constant(np.array([-1], np.int64)), True, 1e-12, "inside_sqrt")
        return op.add(op.multiply(centred, constant(f"{name}.weight")), constant(f"{name}.bias"))

    def heads(x: Any) -> Any:
        split = op.reshape(x, op.constant(np.array([0, 0, HEADS, WIDTH // HEADS], np.int64)), True)
        return op.transpose(split, op.constant(np.array([0, 2, 1, 3], np.int64)))

    ids = op.parameter([-1, -1], np.int32, "ids")
    mask = op.parameter([-1, -1], np.float32, "mask")
    zero = op.constant(np.int64(0))
    length = op.gather(op.shape_of(ids, "i64"), op.constant(np.int64(1)), zero)
    positions = op.range(zero, length, op.constant(np.int64(1)), "i64")
    x = op.gather(constant("embeddings.word_embeddings.weight"), ids, zero)
    x = op.add(x, op.gather(constant("embeddings.position_embeddings.weight"), positions, zero))
    x = op.add(x, op.gather(constant("embeddings.token_type_embeddings.weight"), zero, zero))
    x = norm(x, "embeddings.LayerNorm")
    # 0 where there is a token, far below 0 where there is padding.
    bias = op.multiply(op.subtract(mask, op.constant(np.float32(1))), op.constant(np.float32(1e4)))
    bias = op.unsqueeze(op.unsqueeze(bias, op.constant(np.int64(1))), op.constant(np.int64(1)))
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        query, key, value = (heads(linear(x, f"{at}.attention.self.{part}")) for part in ("query", "key", "value"))
        attended = op.transpose(
            op.scaled_dot_product_attention(query, key, value, bias), op.constant(np.array([0, 2, 1, 3], np.int64))
        )
        joined = op.reshape(attended, op.constant(np.array([0, 0, WIDTH], np.int64)), True)
        x = norm(op.add(linear(joined, f"{at}.attention.output.dense"), x), f"{at}.attention.output.LayerNorm")
        inner = op.gelu(linear(x, f"{at}.intermediate.dense"), "erf")
        x = norm(op.add(linear(inner, f"{at}.output.dense"), x), f"{at}.output.LayerNorm")
    return ov.Model([x], [ids, mask], "moodwire-minilm")

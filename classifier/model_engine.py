"""The engine around a forward pass: tokenising, batching, the bag, decoding. The pass is OpenVINO's or PyTorch's."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from classifier import pieces, weights
from classifier.bag import Bag
from classifier.engine import Scores, Span, Triple
from classifier.labels import BEGIN, INSIDE, OUTSIDE, SENTIMENTS
from classifier.pieces import Asked, Batch, Piece

CHUNK = 2048  # texts; while one chunk is in the model the next is being tokenised

Floats = NDArray[np.float32]


class Logits(NamedTuple):
    """Of a batch: sentiment (pieces, 3), topic (pieces, 20), entity (spans, 3), name (tokens, 3).

    name: the tags (outside, begin, inside) of each span's tokens and of the token behind it, one span after the other.
    """

    sentiment: Floats
    topic: Floats
    entity: Floats
    name: Floats


class Forward(Protocol):
    budget: int  # tokens of a batch, padding included

    def start(self, batch: Batch) -> Any:
        """Begin a batch; returns what `finish` needs. One more batch may be begun before this one is finished."""

    def finish(self, begun: Any) -> Logits: ...


class ModelEngine:
    """Scores by a forward pass. One caller at a time."""

    def __init__(self, folder: Path, loaded: weights.Weights, forward: Forward) -> None:
        """`folder` has the tokenizer. Raises ModelError when it is not sound."""
        self.model = loaded.model
        self.forward = forward
        self._temperatures = loaded.temperatures
        self._bag = _bag(loaded)
        self._tokenizer = weights.tokenizer(folder)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._ahead = ThreadPoolExecutor(1, "tokenise")

    def score(self, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> list[Scores]:
        """What `Engine.score` says; a text with the same spans twice is scored once.

        A text of more pieces than one has the weighted mean of the pieces' log probabilities, normalised
        (`pieces.shares`).
        """
        asked = [(text, tuple(places)) for text, places in zip(texts, spans, strict=True)]
        distinct = list(dict.fromkeys(asked))
        found: dict[Asked, Scores] = {}
        for chunk, cut in self._tokenised(distinct):
            found.update(zip(chunk, self._scored(chunk, cut), strict=True))
        return [found[key] for key in asked]

    def _tokenised(self, asked: Sequence[Asked]) -> Iterator[tuple[Sequence[Asked], list[Piece]]]:
        chunks = [asked[at : at + CHUNK] for at in range(0, len(asked), CHUNK)]
        coming = None
        for number, chunk in enumerate(chunks):
            cut = coming.result() if coming else pieces.cut(self._tokenizer, chunk)
            following = chunks[number + 1 : number + 2]
            coming = self._ahead.submit(pieces.cut, self._tokenizer, following[0]) if following else None
            yield chunk, cut

    def _scored(self, asked: Sequence[Asked], cut: Sequence[Piece]) -> list[Scores]:
        sentiment: list[Floats] = [np.empty(0, np.float32)] * len(cut)
        topic = list(sentiment)
        towards: dict[tuple[int, int], tuple[Floats, float]] = {}  # by text and span: sentiment, P(a name)
        for batch, logits in self._passed(cut):
            sentiments, topics, entities, tags = map(_log_softmax, self._calibrated(batch, logits))
            for row, i in enumerate(batch.pieces):
                sentiment[i], topic[i] = sentiments[row], topics[row]
            named = ((cut[i].text, k) for i in batch.pieces for k, _, _ in cut[i].spans)
            lengths = [last - first for _, first, last in batch.spans]
            towards.update(zip(named, zip(np.exp(entities), are_names(tags, lengths), strict=True), strict=True))
        return _decoded(asked, cut, sentiment, topic, towards)

    def _calibrated(self, batch: Batch, logits: Logits) -> Logits:
        scaled = Logits(*(part / self._temperatures[head] for head, part in logits._asdict().items()))
        if self._bag is None:
            return scaled
        wide = self._bag.logits(batch.ids, batch.mask)
        split = len(SENTIMENTS)
        return scaled._replace(sentiment=scaled.sentiment + wide[:, :split], topic=scaled.topic + wide[:, split:])

    def _passed(self, cut: Sequence[Piece]) -> Iterator[tuple[Batch, Logits]]:
        """Each batch with its logits; the next is laid out and begun while one is in the model."""
        begun: tuple[Batch, Any] | None = None
        for batch in pieces.batches(cut, self.forward.budget):
            started = (batch, self.forward.start(batch))
            if begun:
                yield begun[0], self.forward.finish(begun[1])
            begun = started
        if begun:
            yield begun[0], self.forward.finish(begun[1])


def _bag(loaded: weights.Weights) -> Bag | None:
    """What is counted beside the encoder, the columns of sentiment first; teachers have none."""
    if "bag.weight" not in loaded.tensors:
        return None
    return Bag(*(loaded.tensors[f"bag.{name}"].astype(np.float32) for name in Bag._fields))


def _decoded(
    asked: Sequence[Asked],
    cut: Sequence[Piece],
    sentiment: Sequence[Floats],
    topic: Sequence[Floats],
    towards: dict[tuple[int, int], tuple[Floats, float]],
) -> list[Scores]:
    of_text: defaultdict[int, list[int]] = defaultdict(list)
    for i, piece in enumerate(cut):
        of_text[piece.text].append(i)
    found = []
    for number, (_, places) in enumerate(asked):
        mine = of_text[number]
        if len(mine) == 1:
            log_sentiment, log_topics = sentiment[mine[0]], topic[mine[0]]
        else:
            shares = pieces.shares(len(mine))
            log_sentiment = shares @ np.stack([sentiment[i] for i in mine])
            log_topics = shares @ np.stack([topic[i] for i in mine])
        overall = _triple(np.exp(log_sentiment))
        topics = np.exp(log_topics)
        asked_for = [towards.get((number, k)) for k in range(len(places))]
        found.append(
            Scores(
                overall,
                tuple((topics / topics.sum()).tolist()),
                # A span beyond what is read has the mood of the whole text.
                tuple(_triple(one[0]) if one else overall for one in asked_for),
                tuple(one[1] if one else 0.0 for one in asked_for),
            )
        )
    return found


def are_names(log_tags: Floats, lengths: Sequence[int]) -> list[float]:
    """P(a span is a name): its first token begins one, the others go on with it, the one behind does not.

    log_tags: log probabilities as in `Logits.name`; lengths: tokens of each span.
    """
    if not lengths:
        return []
    firsts = np.cumsum([0, *(length + 1 for length in lengths[:-1])])
    behind = firsts + lengths
    found = log_tags[:, INSIDE].copy()
    found[firsts] = log_tags[firsts, BEGIN]
    found[behind] = np.logaddexp(log_tags[behind, OUTSIDE], log_tags[behind, BEGIN])
    result: list[float] = np.exp(np.add.reduceat(found, firsts)).tolist()
    return result


def _log_softmax(logits: Floats) -> Floats:
    if not len(logits):
        return logits
    lowered = logits - logits.max(1, keepdims=True)
    result: Floats = lowered - np.log(np.exp(lowered).sum(1, keepdims=True))
    return result


def _triple(p: Floats) -> Triple:
    negative, neutral, positive = (p / p.sum()).tolist()
    return negative, neutral, positive

"""Training the shipped weights: `moodwire train`. Needs the extra `gpu` (PyTorch, transformers).

Four steps, each of which goes on where it was killed: the encoder is trained further by masked words; teachers are
fine-tuned, from different seeds and encoders; they and a bag of token pairs score texts with labels and without; the
student, which ships with the bag beside it, learns from labels and teachers (knowledge distillation, Hinton et al.
2015, with the labelled loss mixed in).
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer
from torch.nn import functional as F

from classifier import network
from classifier.augment import joined, lent
from classifier.bag import BITS, Bag, Floats, features
from classifier.data import Example, digest, training, unlabelled, validation
from classifier.engine import Scores, open_engine
from classifier.fit import BEST, Recipe, fit
from classifier.labels import BEGIN, INSIDE, OUTSIDE, SENTIMENTS, TOPICS
from classifier.network import Logits, Network
from classifier.pieces import padded
from classifier.pretrain import pretrain
from classifier.text import normalise

VERSION = "0.6"
SMOOTHING = 0.05  # of the labels
SOFT = 0.5  # weight of the teachers' opinion where there is a label too
MAX_TOKENS = 128
DEV = 20  # one text in so many is held back: by it temperatures are fitted and epochs chosen
FURTHER = Recipe(epochs=1, rate=2e-4, head_rate=1e-3, average=0.99, seed=11)
TEACHER = Recipe(epochs=3, rate=1.5e-4, head_rate=1e-3)  # from the encoder trained further
TEACHER_SEEDS = (7, 8, 9)
OTHER = Recipe(epochs=3, rate=1e-4, head_rate=1e-3, average=0.995)  # from the encoder as it came, by `augment`
BAG = 0.25  # weight of the bag beside the teachers' mean, in log probabilities
BAG_STRENGTH = 20.0  # inverse of its regularisation
STUDENT = Recipe(epochs=2, rate=1e-4, head_rate=1e-3)  # from the other teacher, on half of the texts without labels
AGAIN = STUDENT._replace(epochs=1, seed=8)  # from there, on the other half
NAME = 0.2  # weight of a token's tag against a text's sentiment
NONE = -100


class Item:
    """An example as token ids, its entities as token spans, the tags of names; what is not known is NONE."""

    def __init__(self, tokenizer: Tokenizer, example: Example) -> None:
        encoding = tokenizer.encode(normalise(example.text))
        self.ids = encoding.ids
        self.sentiment = NONE if example.sentiment is None else example.sentiment
        self.topic = NONE if example.topic is None else example.topic
        self.spans: list[tuple[int, int, int]] = []  # first token, last token + 1, sentiment
        self.kept: list[int] = []  # which of the example's entities these are
        for number, (start, end, label) in enumerate(example.entities):
            if inside := tokens_in(encoding.offsets, start, end):
                self.spans.append((inside[0], inside[-1] + 1, NONE if label < 0 else label))
                self.kept.append(number)
        known = [example.text[start:end] for start, end, label in example.entities if label >= 0]
        self.names = tags(example.text, known, encoding.offsets) if known else [NONE] * len(encoding.ids)
        self.opinion: Scores | None = None  # of the teachers


def tokens_in(offsets: Sequence[tuple[int, int]], start: int, end: int) -> list[int]:
    """The tokens of which a part lies between two characters; the marks at both ends of a text are none."""
    return [i for i, (a, b) in enumerate(offsets) if b > a and a < end and b > start]


def tags(text: str, names: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Of each token whether it begins or goes on with one of the names, wherever the text has it, or is outside."""
    longest_first = sorted(names, key=len, reverse=True)
    anywhere = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in longest_first), re.IGNORECASE)
    found = [OUTSIDE if end > start else NONE for start, end in offsets]
    for place in anywhere.finditer(text):
        inside = tokens_in(offsets, *place.span())
        for i in inside:
            found[i] = BEGIN if i == inside[0] else INSIDE
    return found


class Corpus(NamedTuple):
    kept: list[Item]
    dev: list[Item]
    tokenizer: Tokenizer


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # logits and labels to the sum over those known


def plain(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels, reduction="sum", ignore_index=NONE, label_smoothing=SMOOTHING)


def tokenizer_of(base: Path) -> Tokenizer:
    """As texts are read in training: cut off at MAX_TOKENS."""
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def corpus(examples: Sequence[Example], base: Path) -> Corpus:
    tokenizer = tokenizer_of(base)
    parts: tuple[list[Item], list[Item]] = ([], [])
    for example in examples:
        parts[is_dev(example.text)].append(Item(tokenizer, example))
    return Corpus(*parts, tokenizer)


def is_dev(text: str) -> bool:
    return int(digest(text), 16) % DEV == 0


def logits_of(model: Network, batch: Sequence[Item]) -> Logits:
    """In bf16 where that is quick, given back as f32; those of names with a row for each token of the batch."""
    device = next(model.parameters()).device
    ids, mask = (torch.from_numpy(part).to(device).long() for part in laid_out(batch))
    spans = [(row, first, last) for row, item in enumerate(batch) for first, last, _ in item.spans]
    with network.precision(device):
        found = model(ids, mask, spans)
    return Logits(*(part.float() for part in found._replace(name=found.name.flatten(0, 1))))


def labels_of(batch: Sequence[Item]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """By head, as the rows of `logits_of`."""
    width = max(len(item.ids) for item in batch)
    return (
        torch.tensor([item.sentiment for item in batch]),
        torch.tensor([item.topic for item in batch]),
        torch.tensor([label for item in batch for _, _, label in item.spans], dtype=torch.long),
        torch.tensor([tag for item in batch for tag in item.names + [NONE] * (width - len(item.names))]),
    )


def loss_of(model: Network, batch: Sequence[Item], hard: Loss = plain) -> torch.Tensor:
    """By the batch's size, not by the number of labels known: a rare label does not pull harder in a lucky batch."""
    logits = logits_of(model, batch)
    *labels, names = (given.to(logits.sentiment.device) for given in labels_of(batch))
    total = NAME * plain(logits.name, names)
    for part, known, (opinion, asked) in zip(logits[:3], labels, opinions_of(batch), strict=True):
        both = asked.to(part.device)
        total = (
            total + hard(part, torch.where(both, NONE, known)) + (1 - SOFT) * hard(part, torch.where(both, known, NONE))
        )
        against = -(opinion.to(part.device) * F.log_softmax(part, 1)).sum(1)
        total = total + (torch.where(known == NONE, 1.0, SOFT) * both * against).sum()
    return total / len(batch)


def opinions_of(batch: Sequence[Item]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The teachers' probabilities by head, with whether they were asked; zeros where they were not."""
    asked = torch.tensor([item.opinion is not None for item in batch])
    most = max(len(item.spans) and item.kept[-1] + 1 for item in batch)
    unasked = Scores((0.0,) * 3, (0.0,) * len(TOPICS), ((0.0,) * 3,) * most, ())
    found = [item.opinion or unasked for item in batch]
    yield torch.tensor([scores.sentiment for scores in found]), asked
    yield torch.tensor([scores.topics for scores in found]), asked
    towards = [scores.entities[k] for scores, item in zip(found, batch, strict=True) for k in item.kept]
    by_span = asked.repeat_interleave(torch.tensor([len(item.spans) for item in batch]))
    yield torch.tensor(towards).reshape(-1, len(SENTIMENTS)), by_span


def shortest_first(items: Sequence[Item]) -> list[Item]:
    return sorted(items, key=lambda item: len(item.ids))


def judged(model: Network, items: Sequence[Item]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Logits and labels by head, of what has labels, the shortest texts first."""
    logits: list[list[torch.Tensor]] = [[] for _ in Logits._fields]
    labels: list[list[torch.Tensor]] = [[] for _ in Logits._fields]
    order = shortest_first(items)
    with torch.no_grad():
        for at in range(0, len(order), 64):
            batch = order[at : at + 64]
            for head, (part, label) in enumerate(zip(logits_of(model, batch), labels_of(batch), strict=True)):
                logits[head].append(part[label != NONE])
                labels[head].append(label[label != NONE])
    return {name: (torch.cat(logits[head]), torch.cat(labels[head])) for head, name in enumerate(Logits._fields)}


def worth(model: Network, items: Sequence[Item]) -> float:
    """Sum over the heads of the mean negative log likelihood: lower is better."""
    results = judged(model, items)
    return float(sum(F.cross_entropy(*result).item() for result in results.values()))


class Fit(NamedTuple):
    temperature: float
    share: float  # of the bag's logits

    def of(self, logits: torch.Tensor, wide: torch.Tensor | None) -> torch.Tensor:
        return logits / self.temperature + (0 if wide is None else self.share * wide)


def calibrated(logits: torch.Tensor, labels: torch.Tensor, wide: torch.Tensor | None = None) -> Fit:
    """The temperature of least negative log likelihood (Guo et al. 2017, section 4.2), with the bag's share."""
    shares = [0.0] if wide is None else np.linspace(0, 0.5, 51).tolist()
    grid = (Fit(t, share) for t in np.geomspace(0.3, 4, 200).tolist() for share in shares)
    return min(grid, key=lambda fit: F.cross_entropy(fit.of(logits, wide), labels).item())


def fine_tune(model: Network, found: Corpus, recipe: Recipe, folder: Path, hard: Loss = plain) -> None:
    """Train on what is kept, choose the epoch on the dev split."""
    lengths = [len(item.ids) for item in found.kept]
    fit(
        model,
        lengths,
        lambda batch: loss_of(model, [found.kept[i] for i in batch], hard),
        recipe,
        folder,
        lambda: worth(model, found.dev),
    )


class Counted(NamedTuple):
    bag: Bag
    evidence: Bag  # what speaks for a class, however frequent it is: texts of other kinds have other shares


class Bags(NamedTuple):
    sentiment: Counted
    topic: Counted


def bags(kept: Sequence[Item]) -> Bags:
    """Fitted on the labelled texts, with what of them is added where texts are scored."""
    (sentiment, _), (topic, prior) = counts(kept)
    # Without its intercept: two posts of three are neutral, and by it opinions that are not would be, too.
    alone = sentiment._replace(bias=np.zeros_like(sentiment.bias))
    return Bags(Counted(sentiment, alone), Counted(topic, topic._replace(bias=topic.bias - prior)))


def counts(kept: Sequence[Item]) -> tuple[tuple[Bag, Floats], tuple[Bag, Floats]]:
    """`count` of sentiment and of topic; the first on posts alone: a headline's label is one towards its company."""
    posts = [item for item in kept if item.sentiment != NONE and not item.kept]
    topical = [item for item in kept if item.topic != NONE]
    return count(posts, [item.sentiment for item in posts]), count(topical, [item.topic for item in topical])


def count(items: Sequence[Item], labels: Sequence[int]) -> tuple[Bag, Floats]:
    """A bag, with the logarithms of the classes' shares. labels: 0 to the number of classes - 1, all of which occur."""
    rows, columns = (part.astype(np.int64) for part in features(*laid_out(items)))
    values = np.bincount(rows) ** -0.5
    vectors = csr_matrix((values[rows], (rows, columns)), shape=(len(items), 1 << BITS))
    model = LogisticRegression(C=BAG_STRENGTH, max_iter=400).fit(vectors, labels)
    prior = np.log(np.bincount(labels) / len(labels))
    return Bag(model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)), prior.astype(np.float32)


def laid_out(items: Sequence[Item]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    return padded([item.ids for item in items])


def evidence(counted: Bags, items: Sequence[Item]) -> dict[str, torch.Tensor]:
    """The bags' logits by head, of what has labels, in the order of `judged`."""
    order = shortest_first(items)
    known = {head: [item for item in order if getattr(item, head) != NONE] for head in Bags._fields}
    return {
        head: torch.from_numpy(one.evidence.logits(*laid_out(known[head]))) for head, one in counted._asdict().items()
    }


def export(model: Network, found: Corpus, out: Path, counted: Bags | None = None) -> dict[str, float]:
    """Write weights (fp16) with their temperatures, tokenizer and checksum; returns the accuracies on the dev split.

    With bags these are weights of their own, to be added to the logits of sentiment and topic.
    """
    results = judged(model, found.dev)
    wide = {} if counted is None else evidence(counted, found.dev)
    fits = {head: calibrated(*result, wide.get(head)) for head, result in results.items()}
    tensors = {
        name: tensor.to(torch.float16).contiguous()
        for name, tensor in model.state_dict().items()
        if not name.endswith(("position_ids", "token_type_ids"))
    }
    if counted is not None:
        parts = {head: (fits[head].share, one.evidence) for head, one in counted._asdict().items()}
        for name in Bag._fields:
            scaled = [share * getattr(bag, name) for share, bag in parts.values()]
            tensors[f"bag.{name}"] = torch.from_numpy(np.concatenate(scaled, -1)).to(torch.float16)
    metadata = {
        "name": "moodwire-minilm",
        "version": VERSION,
        "temperatures": json.dumps({head: fit.temperature for head, fit in fits.items()}),
        "sentiments": json.dumps(SENTIMENTS),
        "topics": json.dumps(TOPICS),
        "normalisation": "classifier.text.normalise",
    }
    content = save(tensors, metadata)
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.new").write_bytes(content)
    os.replace(out / "model.new", out / "model.safetensors")
    (out / "model.sha256").write_text(hashlib.sha256(content).hexdigest() + "\n")
    whole = Tokenizer.from_str(found.tokenizer.to_str())
    whole.no_truncation()
    whole.save(str(out / "tokenizer.json"))
    told = {head: fits[head].of(logits, wide.get(head)) for head, (logits, _) in results.items()}
    return {head: (told[head].argmax(1) == labels).float().mean().item() for head, (_, labels) in results.items()}


def opinions(folder: Path, examples: Sequence[Example]) -> list[Scores]:
    """A teacher's probabilities; from a file in its folder where they stand already for the same weights and texts."""
    asked = [(folder / "model.sha256").read_text().strip(), *(example.text for example in examples)]
    key = hashlib.sha256("\0".join(asked).encode("utf-8", "replace")).hexdigest()
    path = folder / "opinions"
    if path.exists():
        known, found = msgspec.msgpack.decode(path.read_bytes(), type=tuple[str, list[Scores]])
        if known == key:
            return found
    engine = open_engine("auto", folder)
    texts = [example.text for example in examples]
    spans = [[(start, end) for start, end, _ in example.entities] for example in examples]
    found = []
    for at in range(0, len(texts), 2048):
        found += engine.score(texts[at : at + 2048], spans[at : at + 2048])
        print(f"  scoring with {folder.name}: {len(found)}/{len(texts)}", end="\r", flush=True)
    print()
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.msgpack.encode((key, found)))
    os.replace(new, path)
    return found


def joint(found: Sequence[Sequence[Scores]], counted: Bags, items: Sequence[Item]) -> list[Scores]:
    """The mean of the teachers' probabilities; those of sentiment and topic mixed with the bags' by log probability."""
    ids, mask = laid_out(items)
    both = [
        mixed(np.mean([[scores[head] for scores in one] for one in found], axis=0), known.bag.logits(ids, mask))
        for head, known in enumerate(counted)
    ]
    towards = (
        np.mean([scores.entities for scores in several], axis=0).tolist() if several[0].entities else []
        for several in zip(*found, strict=True)
    )
    return [
        Scores(tuple(sentiment), tuple(topics), tuple(map(tuple, entities)), ())
        for sentiment, topics, entities in zip(*(part.tolist() for part in both), towards, strict=True)
    ]


def mixed(p: NDArray[np.float64], logits: Floats) -> NDArray[np.float64]:
    """Teachers' probabilities p with a bag's: (texts, classes)."""
    log_q = logits - np.logaddexp.reduce(logits, 1, keepdims=True)
    together = (1 - BAG) * np.log(p + 1e-9) + BAG * log_q
    raised = np.exp(together - together.max(1, keepdims=True))
    result: NDArray[np.float64] = raised / raised.sum(1, keepdims=True)
    return result


def run(data: Path, base: Path, out: Path, work: Path) -> dict[str, float]:
    """All steps; `work` keeps what a later run goes on from. Returns the accuracies on the dev split by head."""
    labelled, rest = training(data), unlabelled(data)
    print(f"{len(labelled)} texts with labels, {len(rest)} without", flush=True)
    further = pretrain(labelled, base, FURTHER, work / "further")
    found = corpus(labelled, base)
    kept = [example for example in labelled if not is_dev(example.text)]
    augmented = [*map(lent, kept), *joined(kept, OTHER.seed)]
    teachers = [work / f"teacher-{seed}" for seed in TEACHER_SEEDS] + [work / "teacher-other"]
    for folder, seed in zip(teachers[:-1], TEACHER_SEEDS, strict=True):
        teach(network.pretrained(further), found, TEACHER._replace(seed=seed), folder)
    as_taken = found._replace(kept=[Item(found.tokenizer, example) for example in augmented])
    teach(network.pretrained(base), as_taken, OTHER, teachers[-1])
    asked = [*kept, *rest]
    more = [Item(found.tokenizer, example) for example in rest]
    counted = bags(found.kept)
    told = joint([opinions(folder, asked) for folder in teachers], counted, [*found.kept, *more])
    # Joined headlines, at the end of those taken, learn from their labels alone.
    for item, opinion in zip([*as_taken.kept[: len(kept)], *more], told, strict=True):
        item.opinion = opinion
    model = network.pretrained(base)
    model.load_state_dict(torch.load(teachers[-1] / BEST, weights_only=True))
    for number, recipe in enumerate((STUDENT, AGAIN)):
        half = found._replace(kept=[*as_taken.kept, *more[number::2]])
        fine_tune(model, half, recipe, work / f"student-{number + 1}")
    figures = export(model, found, out, counted)
    write_hashes([*labelled, *rest], validation(data), out)
    return figures


def teach(model: Network, found: Corpus, recipe: Recipe, folder: Path) -> None:
    fine_tune(model, found, recipe, folder)
    if not (folder / "model.sha256").exists():
        print(f"{folder.name}: {export(model, found, folder)}", flush=True)


def write_hashes(trained: Sequence[Example], held_out: Sequence[Example], out: Path) -> None:
    """Which texts shaped the weights and which measure them, by their digests: proof that no text does both."""
    for name, examples in (("trained.sha1", trained), ("validation.sha1", held_out)):
        (out / name).write_text("\n".join(sorted({digest(example.text) for example in examples})) + "\n")

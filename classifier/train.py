"""Training the shipped weights: `moodwire train`. Needs the extra `gpu` (PyTorch, transformers).

Four steps, each of which goes on where it was killed: the encoder is trained further on finance text without labels;
teachers are fine-tuned from it, with different seeds; they score texts without labels; the student, which ships,
learns from labels and teachers (knowledge distillation, Hinton et al. 2015, with the labelled loss mixed in).
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from safetensors.torch import save
from tokenizers import Tokenizer
from torch.nn import functional as F

from classifier import network
from classifier.data import Example, digest, training, unlabelled, validation
from classifier.engine import Scores, open_engine
from classifier.fit import BEST, Recipe, fit
from classifier.labels import SENTIMENTS, TOPICS
from classifier.network import Logits, Network
from classifier.pretrain import pretrain
from classifier.text import normalise

VERSION = "0.3"
SMOOTHING = 0.05  # of the labels
SOFT = 0.5  # weight of the teachers' opinion where there is a label too
MAX_TOKENS = 128
DEV = 20  # one text in so many is held back: by it temperatures are fitted and epochs chosen
FURTHER = Recipe(epochs=1, rate=2e-4, head_rate=1e-3, average=0.99, seed=11)
TEACHER = Recipe(epochs=3, rate=1.5e-4, head_rate=1e-3)
TEACHER_SEEDS = (7, 8, 9)
EVERY = 2  # one in so many of the texts without labels is taken
STUDENT = Recipe(epochs=1, rate=1e-4, head_rate=3e-4)  # from the first teacher
NONE = -100


class Item:
    """An example as token ids, its entities as token spans; what is not known is NONE."""

    def __init__(self, tokenizer: Tokenizer, example: Example) -> None:
        encoding = tokenizer.encode(normalise(example.text))
        self.ids = encoding.ids
        self.sentiment = NONE if example.sentiment is None else example.sentiment
        self.topic = NONE if example.topic is None else example.topic
        self.spans: list[tuple[int, int, int]] = []  # first token, last token + 1, sentiment
        self.kept: list[int] = []  # which of the example's entities these are
        for number, (start, end, label) in enumerate(example.entities):
            inside = [i for i, (a, b) in enumerate(encoding.offsets) if b > a and a < end and b > start]
            if inside:
                self.spans.append((inside[0], inside[-1] + 1, NONE if label < 0 else label))
                self.kept.append(number)
        self.opinion: Scores | None = None  # of the teachers


class Corpus(NamedTuple):
    kept: list[Item]
    dev: list[Item]
    tokenizer: Tokenizer


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # logits and labels to the sum over those known


def plain(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels, reduction="sum", ignore_index=NONE, label_smoothing=SMOOTHING)


def corpus(examples: Sequence[Example], base: Path) -> Corpus:
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    parts: tuple[list[Item], list[Item]] = ([], [])
    for example in examples:
        parts[is_dev(example.text)].append(Item(tokenizer, example))
    return Corpus(*parts, tokenizer)


def is_dev(text: str) -> bool:
    return int(digest(text), 16) % DEV == 0


def logits_of(model: Network, batch: Sequence[Item]) -> Logits:
    """In bf16 where it can be, given back as f32."""
    device = next(model.parameters()).device
    width = max(len(item.ids) for item in batch)
    ids = torch.tensor([item.ids + [0] * (width - len(item.ids)) for item in batch], device=device)
    mask = torch.tensor([[1] * len(item.ids) + [0] * (width - len(item.ids)) for item in batch], device=device)
    spans = [(row, first, last) for row, item in enumerate(batch) for first, last, _ in item.spans]
    with torch.autocast(device.type, dtype=torch.bfloat16):
        found = model(ids, mask, spans)
    return Logits(*(part.float() for part in found))


def labels_of(batch: Sequence[Item]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.tensor([item.sentiment for item in batch]),
        torch.tensor([item.topic for item in batch]),
        torch.tensor([label for item in batch for _, _, label in item.spans], dtype=torch.long),
    )


def loss_of(model: Network, batch: Sequence[Item], hard: Loss = plain) -> torch.Tensor:
    """By the batch's size, not by the number of labels known: a rare label does not pull harder in a lucky batch."""
    logits = logits_of(model, batch)
    total = torch.zeros(())
    for part, given, opinion in zip(logits, labels_of(batch), opinions_of(batch), strict=True):
        labels = given.to(part.device)
        if opinion is None:
            total = total + hard(part, labels)
            continue
        known = labels != NONE
        against = -(opinion.to(part.device) * F.log_softmax(part, 1)).sum(1)
        weight = torch.where(known, SOFT, 1.0)
        total = total + (against * weight).sum() + (1 - SOFT) * hard(part, labels)
    return total / len(batch)


def opinions_of(batch: Sequence[Item]) -> tuple[torch.Tensor | None, ...]:
    opinions = [item.opinion for item in batch]
    if opinions[0] is None:
        return None, None, None
    known = [opinion for opinion in opinions if opinion is not None]
    towards = [item.opinion.entities[k] for item in batch if item.opinion is not None for k in item.kept]
    return (
        torch.tensor([opinion.sentiment for opinion in known]),
        torch.tensor([opinion.topics for opinion in known]),
        torch.tensor(towards).reshape(-1, 3),
    )


def judged(model: Network, items: Sequence[Item]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Logits and labels by head, of what has labels."""
    logits: list[list[torch.Tensor]] = [[], [], []]
    labels: list[list[torch.Tensor]] = [[], [], []]
    order = sorted(items, key=lambda item: len(item.ids))
    with torch.no_grad():
        for at in range(0, len(order), 64):
            batch = order[at : at + 64]
            for head, (part, label) in enumerate(zip(logits_of(model, batch), labels_of(batch), strict=True)):
                logits[head].append(part[label != NONE])
                labels[head].append(label[label != NONE])
    return {
        name: (torch.cat(logits[head]), torch.cat(labels[head]))
        for head, name in enumerate(("sentiment", "topic", "entity"))
    }


def worth(model: Network, items: Sequence[Item]) -> float:
    """Sum over the heads of the mean negative log likelihood: lower is better."""
    results = judged(model, items)
    return float(sum(F.cross_entropy(*result).item() for result in results.values()))


def temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature of least negative log likelihood (Guo et al. 2017, section 4.2)."""
    grid = np.geomspace(0.3, 4, 200)
    return float(min(grid, key=lambda t: F.cross_entropy(logits / t, labels).item()))


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


def export(model: Network, found: Corpus, out: Path) -> dict[str, float]:
    """Write weights (fp16) with their temperatures, tokenizer and checksum; returns the accuracies on the dev split."""
    results = judged(model, found.dev)
    tensors = {
        name: tensor.to(torch.float16).contiguous()
        for name, tensor in model.state_dict().items()
        if not name.endswith(("position_ids", "token_type_ids"))
    }
    metadata = {
        "name": "moodwire-minilm",
        "version": VERSION,
        "temperatures": json.dumps({head: temperature(*result) for head, result in results.items()}),
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
    return {head: (logits.argmax(1) == labels).float().mean().item() for head, (logits, labels) in results.items()}


def opinions(folders: Sequence[Path], examples: Sequence[Example]) -> list[Scores]:
    """The mean probabilities of several models."""
    found: list[list[Scores]] = []
    for folder in folders:
        engine = open_engine("auto", folder)
        texts = [example.text for example in examples]
        spans = [[(start, end) for start, end, _ in example.entities] for example in examples]
        found.append([])
        for at in range(0, len(texts), 2048):
            found[-1] += engine.score(texts[at : at + 2048], spans[at : at + 2048])
            print(f"  scoring with {folder.name}: {len(found[-1])}/{len(texts)}", end="\r", flush=True)
        print()
    means = []
    for several in zip(*found, strict=True):
        sentiment, topics = (
            np.mean([getattr(scores, part) for scores in several], axis=0).tolist() for part in ("sentiment", "topics")
        )
        towards = np.mean([scores.entities for scores in several], axis=0).tolist() if several[0].entities else []
        means.append(Scores(tuple(sentiment), tuple(topics), tuple(map(tuple, towards))))
    return means


def kept_opinions(folders: Sequence[Path], examples: Sequence[Example], path: Path) -> list[Scores]:
    """`opinions`, from a file where they stand already for the same teachers and texts."""
    asked = [(folder / "model.sha256").read_text().strip() for folder in folders] + [e.text for e in examples]
    key = hashlib.sha256("\0".join(asked).encode("utf-8", "replace")).hexdigest()
    if path.exists():
        known, found = msgspec.msgpack.decode(path.read_bytes(), type=tuple[str, list[Scores]])
        if known == key:
            return found
    found = opinions(folders, examples)
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.msgpack.encode((key, found)))
    os.replace(new, path)
    return found


def run(data: Path, base: Path, out: Path, work: Path) -> dict[str, float]:
    """All steps; `work` keeps what a later run goes on from. Returns the accuracies on the dev split by head."""
    labelled, rest = training(data), unlabelled(data)
    print(f"{len(labelled)} texts with labels, {len(rest)} without", flush=True)
    further = pretrain(labelled, base, FURTHER, work / "further")
    found = corpus(labelled, base)
    teachers = []
    for seed in TEACHER_SEEDS:
        model = network.pretrained(further)
        teachers.append(work / f"teacher-{seed}")
        fine_tune(model, found, TEACHER._replace(seed=seed), teachers[-1])
        if not (teachers[-1] / "model.sha256").exists():
            print(f"{teachers[-1].name}: {export(model, found, teachers[-1])}", flush=True)
    kept = [example for example in labelled if not is_dev(example.text)] + rest[::EVERY]
    items = [Item(found.tokenizer, example) for example in kept]
    for item, opinion in zip(items, kept_opinions(teachers, kept, work / "opinions"), strict=True):
        item.opinion = opinion
    model = network.pretrained(further)
    model.load_state_dict(torch.load(teachers[0] / BEST, weights_only=True))
    fine_tune(model, found._replace(kept=items), STUDENT, work / "student")
    figures = export(model, found, out)
    write_hashes([*labelled, *rest], validation(data), out)
    return figures


def write_hashes(trained: Sequence[Example], held_out: Sequence[Example], out: Path) -> None:
    """Which texts shaped the weights and which measure them, by their digests: proof that no text does both."""
    for name, examples in (("trained.sha1", trained), ("validation.sha1", held_out)):
        (out / name).write_text("\n".join(sorted({digest(example.text) for example in examples})) + "\n")

"""What each training method gains, on one share of the training texts and one split held back from them.

./run bench tries --data DIR --base DIR --further DIR --work DIR

base: all-MiniLM-L6-v2; further: that encoder after further pretraining (WORK/further/encoder of `moodwire train`).
Each try changes one thing of the first. Results are kept in WORK/tries.jsonl: a run that was stopped goes on with the
next try. Validation files play no part in it. Prints a Markdown table.
"""

import argparse
import json
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from classifier import network, train
from classifier.augment import joined
from classifier.data import Example, finentity, sentfin, tfns, training, validation
from classifier.evaluate import weighted_f1
from classifier.fit import Recipe, fit
from classifier.network import Network
from classifier.text import identity
from classifier.train import NAME, NONE, SMOOTHING, Corpus, Item, Loss, corpus, judged, logits_of, loss_of

SHARE = 3  # one text in so many is trained on
JUDGED = 6  # and one in so many judges it, beside the dev split, which alone would be too few to tell methods apart
SEEDS = (7, 8)
PLAIN = Recipe(epochs=3, rate=1e-4, head_rate=1e-3, average=0.99)


class Try(NamedTuple):
    name: str
    recipe: Recipe = PLAIN
    further: bool = False
    dropout: float = 0.1
    loss: Callable[[Corpus], Loss] = lambda found: train.plain
    batch_loss: Callable[[Network, list[Item], Loss], torch.Tensor] = loss_of
    more: Callable[[Sequence[Example], int], list[Example]] = lambda kept, seed: []  # augmentation, by a seed
    adapt: Callable[[Network], None] = lambda model: None
    view: Callable[[Example], Example] = lambda example: example  # how a text that is trained on is taken


def balanced(found: Corpus) -> Loss:
    """By the effective number of a class's examples (Cui et al. 2019), beta .999."""
    weights = {}
    for width, labels in (
        (20, [item.topic for item in found.kept]),
        (3, [item.sentiment for item in found.kept]),
    ):
        counts = np.bincount([label for label in labels if label != NONE], minlength=width)
        raw = (1 - 0.999) / (1 - 0.999 ** np.maximum(counts, 1))
        weights[width] = torch.tensor(raw / raw.mean(), dtype=torch.float32)

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        weight = weights[logits.shape[1]]
        return F.cross_entropy(logits, labels, weight, reduction="sum", ignore_index=NONE, label_smoothing=SMOOTHING)

    return loss


def focal(found: Corpus) -> Loss:
    """Lin et al. 2017, gamma 2."""

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        each = F.cross_entropy(logits, labels, reduction="none", ignore_index=NONE)
        return ((1 - torch.exp(-each)) ** 2 * each).sum()

    return loss


def r_drop(model: Network, batch: list[Item], hard: Loss) -> torch.Tensor:
    """Two passes with their own dropout, drawn together (Wu et al. 2021), alpha 1."""
    one, other = logits_of(model, batch), logits_of(model, batch)
    *known_labels, names = train.labels_of(batch)
    total = NAME * (train.plain(one.name, names) + train.plain(other.name, names)) / 2
    for left, right, labels in zip(one[:3], other[:3], known_labels, strict=True):
        total = total + (hard(left, labels) + hard(right, labels)) / 2
        p, q = F.log_softmax(left, 1), F.log_softmax(right, 1)
        known = labels != NONE
        apart = F.kl_div(p, q, reduction="none", log_target=True) + F.kl_div(q, p, reduction="none", log_target=True)
        total = total + apart.sum(1)[known].sum() / 4
    return total / len(batch)


def lora(model: Network) -> None:
    """Low-rank changes to attention and feed-forward layers (Hu et al. 2021), rank 16; the encoder itself stays."""
    from peft import LoraConfig, inject_adapter_in_model

    for parameter in model.encoder.parameters():
        parameter.requires_grad_(False)
    config = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["query", "key", "value", "dense"])
    inject_adapter_in_model(config, model.encoder)


def masked(example: Example, rng: random.Random) -> Example:
    """Numbers and cashtags hidden, at equal length."""
    hidden = re.sub(r"\d", "0", example.text)
    return example._replace(text=re.sub(r"\$[A-Za-z]+", lambda found: "$" + "x" * (len(found.group()) - 1), hidden))


def unmixed(example: Example) -> Example:
    """A headline's sentiment is that of the one company in it, and no label of the text."""
    return example._replace(sentiment=None) if example.entities else example


def swapped(example: Example, rng: random.Random) -> Example:
    """An entity's name replaced by another's."""
    names = ("Acme Corp", "Globex", "Initech", "Umbrella Group", "Stark Industries", "Wayne Holdings")
    text, entities = example.text, []
    moved = 0
    for start, end, label in sorted(example.entities):
        name = rng.choice(names)
        text = text[: start + moved] + name + text[end + moved :]
        entities.append((start + moved, start + moved + len(name), label))
        moved += len(name) - (end - start)
    return example._replace(text=text, entities=tuple(entities))


def replaced(example: Example, rng: random.Random) -> Example:
    """One word in ten replaced by another word of the text, outside entities."""
    words = re.findall(r"\w{4,}", example.text) or ["news"]

    def other(found: re.Match[str]) -> str:
        inside = any(start < found.end() and end > found.start() for start, end, _ in example.entities)
        if inside or rng.random() > 0.1:
            return found.group()
        return rng.choice(words)[: len(found.group())].ljust(len(found.group()))

    return example._replace(text=re.sub(r"\w{4,}", other, example.text))


def each(change: Callable[[Example, random.Random], Example]) -> Callable[[Sequence[Example], int], list[Example]]:
    """A changed copy of each text."""

    def more(kept: Sequence[Example], seed: int) -> list[Example]:
        rng = random.Random(seed)
        return [change(example, rng) for example in kept]

    return more


TRIES = (
    Try("as shipped: full fine-tuning, frozen embeddings, averaged weights"),
    Try("augmentation: two headlines joined", more=lambda kept, seed: joined(kept, seed, every=1)),
    Try("the sentiment of a headline's one company is not the text's", view=unmixed),
    Try("embeddings trained too", PLAIN._replace(frozen=False)),
    Try("R-Drop", batch_loss=r_drop),
    Try("twice the rate", PLAIN._replace(rate=2e-4)),
    Try("half the rate", PLAIN._replace(rate=5e-5)),
    Try("five epochs", PLAIN._replace(epochs=5)),
    Try("further pretraining first, on masked words", further=True),
    Try("class-balanced loss", loss=balanced),
    Try("focal loss", loss=focal),
    Try("no dropout", dropout=0.0),
    Try("twice the dropout", dropout=0.2),
    Try("weights not averaged", PLAIN._replace(average=0.0)),
    Try("LoRA, rank 16", PLAIN._replace(rate=1e-3), adapt=lora),
    Try("augmentation: numbers and tickers masked", more=each(masked)),
    Try("augmentation: entities swapped", more=each(swapped)),
    Try("augmentation: words replaced", more=each(replaced)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MOODWIRE_DATA"), required=False)
    for name in ("base", "further", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    options.work.mkdir(parents=True, exist_ok=True)
    results = options.work / "tries.jsonl"
    known = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    examples = training(Path(options.data))
    for seed in SEEDS:
        for attempt in TRIES:
            if any(row["try"] == attempt.name and row["seed"] == seed for row in known):
                continue
            row = {"try": attempt.name, "seed": seed, **result(attempt, seed, examples, options)}
            known.append(row)
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            table(known)
    left_out(Path(options.data), options, results, known)


def left_out(data: Path, options: argparse.Namespace, results: Path, known: list[dict[str, Any]]) -> None:
    """Trained without a source, how good on it: financial text of a kind that the model has not seen."""
    barred = {identity(example.text) for example in validation(data)}
    labelled = training(data)
    for name, head, source in (
        ("TFNS", "sentiment", tfns(data, "train")),
        ("SEntFiN", "sentiment", sentfin(data, False)),
        ("FinEntity", "entity", finentity(data, False)),
    ):
        attempt = Try(f"left out: {name}")
        if not any(row["try"] == attempt.name for row in known):
            theirs = {identity(example.text) for example in source}
            rest = [example for example in labelled if identity(example.text) not in theirs]
            labelled_so = [e for e in source if e.sentiment is not None or head == "entity"]
            chosen = [e for e in labelled_so if identity(e.text) not in barred][:3000]
            known.append({"try": attempt.name, "seed": 7, **result(attempt, 7, rest, options, (head, chosen))})
            with results.open("a") as file:
                file.write(json.dumps(known[-1]) + "\n")
        (row,) = (row for row in known if row["try"] == attempt.name)
        print(f"{attempt.name}: {head} weighted F1 on it {row['other']:.4f}")


def result(
    attempt: Try,
    seed: int,
    examples: list[Example],
    options: argparse.Namespace,
    other: tuple[str, Sequence[Example]] | None = None,
) -> dict[str, float]:
    """Figures on texts held back, and of a head on other examples."""
    rest = [example for example in examples if not train.is_dev(example.text)]
    dev = [example for example in examples if train.is_dev(example.text)] + rest[1::JUDGED]
    kept = [attempt.view(example) for example in rest[::SHARE]]
    kept += attempt.more(kept, seed)
    base = options.further if attempt.further else options.base
    found = corpus(dev, base)
    found = found._replace(kept=[Item(found.tokenizer, example) for example in kept])
    torch.manual_seed(seed)
    model = network.pretrained(base, attempt.dropout)
    attempt.adapt(model)
    hard = attempt.loss(found)
    folder = options.work / re.sub(r"\W+", "-", f"{attempt.name} {seed}")
    began = time.monotonic()
    fit(
        model,
        [len(item.ids) for item in found.kept],
        lambda batch: attempt.batch_loss(model, [found.kept[i] for i in batch], hard),
        attempt.recipe._replace(seed=seed),
        folder,
        lambda: train.worth(model, found.dev),
    )
    (folder / "best.pt").unlink()
    figures: dict[str, Any] = {"minutes": (time.monotonic() - began) / 60, "loss": train.worth(model, found.dev)}
    for head, (logits, labels) in judged(model, found.dev).items():
        guesses = logits.argmax(1).numpy()
        figures[head] = weighted_f1(labels.numpy(), guesses, logits.shape[1])
    mixed = [item for item in found.dev if len({label for *_, label in item.spans}) > 1]
    posts = [item for item in found.dev if not item.spans]  # TFNS, without the headlines
    sets = [("mixed", "entity", mixed), ("posts", "sentiment", posts)]
    if other:
        head, elsewhere = other
        sets.append(("other", head, [Item(found.tokenizer, example) for example in elsewhere]))
    for name, head, items in sets:
        logits, labels = judged(model, items)[head]
        figures[name] = weighted_f1(labels.numpy(), logits.argmax(1).numpy(), 3)
    return figures


def table(rows: list[dict[str, Any]]) -> None:
    heads = "sentiment wF1 | of posts | topic wF1 | entity wF1 | where labels are mixed"
    print(f"\n| try | seeds | {heads} | loss | minutes |\n|---|---|---|---|---|---|---|---|")
    for attempt in TRIES:
        mine = [row for row in rows if row["try"] == attempt.name]
        if mine:
            means = {key: np.mean([row[key] for row in mine]) for key in mine[0] if key not in {"try", "seed"}}
            told = " | ".join(
                f"{means[name]:.4f}" for name in ("sentiment", "posts", "topic", "entity", "mixed", "loss")
            )
            print(f"| {attempt.name} | {len(mine)} | {told} | {means['minutes']:.1f} |")
    print(flush=True)


if __name__ == "__main__":
    main()

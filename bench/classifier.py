"""The classifier's figures on data that it was not trained on, and its speed on a CPU.

    python -m bench.classifier --data DIR [--weights DIR] [--threads N]

DIR holds the data sets that docs/model.md names. Prints Markdown tables.
"""

import argparse
import gzip
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from classifier.data import Example, finentity, sentfin, tfns, topics
from classifier.engine import WEIGHTS, Engine, Scores, open_engine
from classifier.text import identity

BATCH = 64
DOCUMENTS = 1500  # for the speed
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the classifier.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    engine = open_engine("openvino", options.weights, options.threads)
    print(f"Model {engine.model}\n")
    print("| set | rows | accuracy | weighted F1 | macro F1 | ECE |\n|---|---|---|---|---|---|")
    for name, labels, probabilities in quality(engine, options.data):
        guesses = probabilities.argmax(1)
        print(
            f"| {name} | {len(labels)} | {accuracy_score(labels, guesses):.4f} "
            f"| {f1_score(labels, guesses, average='weighted'):.4f} | {f1_score(labels, guesses, average='macro'):.4f} "
            f"| {calibration_error(labels, probabilities):.4f} |"
        )
    rates = speed(engine, stocknet(options.data, DOCUMENTS + BATCH))
    print(
        f"\nSpeed: {max(rates):.0f} documents/s at best, {min(rates):.0f} at worst of {ROUNDS} rounds over {DOCUMENTS} "
        f"distinct StockNet titles, batches of {BATCH}, {options.threads} threads"
    )


def quality(engine: Engine, data: Path) -> Iterator[tuple[str, list[int], NDArray[np.float64]]]:
    """Of each set: its name, the true labels and the probabilities (rows, labels)."""
    for name, load, head in (("TFNS", tfns, "sentiment"), ("topic", topics, "topics")):
        valid = load(data, "valid")
        labels = [getattr(example, "sentiment" if load is tfns else "topic") for example in valid]
        probabilities = np.array([getattr(scores, head) for scores in scored(engine, valid)])
        yield f"{name} valid, official", labels, probabilities
        leaked = {identity(example.text) for example in load(data, "train")}
        kept = [i for i, example in enumerate(valid) if identity(example.text) not in leaked]
        yield f"{name} valid, without rows of its train file", [labels[i] for i in kept], probabilities[kept]
    for name, examples in (("SEntFiN", sentfin(data, True)), ("FinEntity", finentity(data, True))):
        mixed = [example for example in examples if len({label for _, _, label in example.entities}) > 1]
        for part, chosen in (("all", examples), ("of texts with mixed labels", mixed)):
            found = scored(engine, chosen)
            labels = [label for example in chosen for _, _, label in example.entities]
            yield f"{name} entities, held out, {part}", labels, np.array([p for s in found for p in s.entities])


def scored(engine: Engine, examples: Sequence[Example]) -> list[Scores]:
    spans = [[(start, end) for start, end, _ in example.entities] for example in examples]
    return engine.score([example.text for example in examples], spans)


def calibration_error(labels: Sequence[int], probabilities: NDArray[np.float64], bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017, section 2), in bins of equal width."""
    sure = probabilities.max(1)
    right = probabilities.argmax(1) == np.array(labels)
    which = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(right[which == b].sum() - sure[which == b].sum()) for b in range(bins)]
    return float(sum(gaps)) / len(labels)


def stocknet(data: Path, count: int) -> list[str]:
    """The first `count` distinct titles of the stream."""
    titles: dict[str, None] = {}
    with gzip.open(data / "stocknet" / "stocknet_stream.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            titles[json.loads(line)["title"]] = None
            if len(titles) == count:
                break
    return list(titles)


def speed(engine: Engine, titles: Sequence[str]) -> list[float]:
    """Documents a second, of each round; the first BATCH titles warm the engine."""
    engine.score(titles[:BATCH], [()] * BATCH)
    rest = titles[BATCH:]
    rates = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for at in range(0, len(rest), BATCH):
            batch = rest[at : at + BATCH]
            engine.score(batch, [()] * len(batch))
        rates.append(len(rest) / (time.perf_counter() - began))
    return rates


if __name__ == "__main__":
    main()

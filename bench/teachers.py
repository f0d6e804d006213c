"""What the teachers of a training run give on the validation files: each alone, their mean, and with the bag.

./run bench teachers --data DIR --work DIR       WORK of `moodwire train`

Official scores. They chose nothing: what is mixed, and how, stands in `classifier/train.py`. Prints a Markdown table.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from bench.classifier import scored
from classifier.data import tfns, topics, training
from classifier.engine import WEIGHTS, open_engine
from classifier.train import Item, bags, is_dev, laid_out, mixed, tokenizer_of

Found = tuple[NDArray[np.float64], NDArray[np.float64]]  # probabilities of the sentiment files' texts, of the topic's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MOODWIRE_DATA"), required=False)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    data = Path(options.data)
    files = tfns(data, "valid"), topics(data, "valid")
    labels = [example.sentiment for example in files[0]], [example.topic for example in files[1]]
    tokenizer = tokenizer_of(WEIGHTS)
    counted = bags([Item(tokenizer, example) for example in training(data) if not is_dev(example.text)])
    of_files = [[Item(tokenizer, example) for example in file] for file in files]
    told = [known.bag.logits(*laid_out(items)) for known, items in zip(counted, of_files, strict=True)]
    print("| what | TFNS valid, weighted F1 | topic valid, accuracy / macro F1 |\n|---|---|---|")
    row("the bag", labels, (told[0], told[1]))
    each: list[Found] = []
    for path in sorted(options.work.glob("teacher-*/model.sha256")):
        engine = open_engine("openvino", path.parent)
        posts, topical = (scored(engine, file) for file in files)
        each.append((np.array([of.sentiment for of in posts]), np.array([of.topics for of in topical])))
        row(path.parent.name, labels, each[-1])
    mean = np.mean([found[0] for found in each], axis=0), np.mean([found[1] for found in each], axis=0)
    row("their mean", labels, mean)
    row("and the bag", labels, (mixed(mean[0], told[0]), mixed(mean[1], told[1])))


def row(name: str, labels: Sequence[Sequence[int | None]], found: Found) -> None:
    guesses = [part.argmax(1) for part in found]
    weighted = f1_score(labels[0], guesses[0], average="weighted")
    macro = f1_score(labels[1], guesses[1], average="macro")
    print(f"| {name} | {weighted:.4f} | {accuracy_score(labels[1], guesses[1]):.4f} / {macro:.4f} |", flush=True)


if __name__ == "__main__":
    main()

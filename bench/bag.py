"""What the bag of token pairs is worth beside the encoder, by how its logits are taken.

./run bench bag --data DIR

Fitted on what is trained on, its share and the temperature on the dev split; told are dev's losses, and what becomes of
texts of other kinds. Prints a Markdown table.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch.nn import functional as F

from bench.classifier import scored
from classifier import weights
from classifier.bag import Bag, Floats
from classifier.data import surge, taborda, training, unlabelled
from classifier.engine import WEIGHTS, Scores
from classifier.model_engine import ModelEngine
from classifier.openvino_forward import OpenVinoForward
from classifier.train import Item, calibrated, counts, is_dev, laid_out, tokenizer_of

NEWS = 700  # texts
NOTHING = "nothing"
SHARES = "log q less the log shares of the classes"
WAYS = (NOTHING, "log q", SHARES, "the weights of the text's tokens, without the intercept")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MOODWIRE_DATA"))
    data = Path(parser.parse_args().data)
    tokenizer = tokenizer_of(WEIGHTS)
    labelled = training(data)
    dev = [example for example in labelled if is_dev(example.text)]
    kept = [Item(tokenizer, example) for example in labelled if not is_dev(example.text)]
    sets = {
        ("topic", "dev"): [example for example in dev if example.topic is not None],
        ("topic", "news"): [example for example in unlabelled(data) if "$" not in example.text][-NEWS:],
        ("sentiment", "dev"): [example for example in dev if example.sentiment is not None],
        ("sentiment", "surge"): surge(data),
        ("sentiment", "Taborda"): taborda(data),
    }
    engine = encoder_alone()
    deep = {(head, name): log_p(scored(engine, examples), head) for (head, name), examples in sets.items()}
    placed = {key: laid_out([Item(tokenizer, example) for example in examples]) for key, examples in sets.items()}
    labels = {key: [getattr(example, key[0]) for example in examples] for key, examples in sets.items()}
    fitted = dict(zip(("sentiment", "topic"), counts(kept), strict=True))
    print("| added to log p | loss of topics | of sentiments | surge | Taborda | texts of news of another topic |")
    print("|---|---|---|---|---|---|")
    for what in WAYS:
        wide = {key: torch.from_numpy(taken_as(what, *fitted[key[0]]).logits(*at)) for key, at in placed.items()}
        mixed = {}
        for head in fitted:
            dev_of = head, "dev"
            fit = calibrated(deep[dev_of], torch.tensor(labels[dev_of]), None if what == NOTHING else wide[dev_of])
            mixed |= {key: fit.of(deep[key], wide[key]) for key in sets if key[0] == head}
        losses = [
            F.cross_entropy(mixed[head, "dev"], torch.tensor(labels[head, "dev"])).item()
            for head in ("topic", "sentiment")
        ]
        others = [
            f1_score(labels["sentiment", name], mixed["sentiment", name].argmax(1), average="weighted")
            for name in ("surge", "Taborda")
        ]
        moved = int((mixed["topic", "news"].argmax(1) != deep["topic", "news"].argmax(1)).sum())
        figures = " | ".join(f"{figure:.4f}" for figure in (*losses, *others))
        print(f"| {what} | {figures} | {moved} of {NEWS} |", flush=True)


def taken_as(what: str, bag: Bag, prior: Floats) -> Bag:
    biases = {SHARES: bag.bias - prior, "log q": bag.bias}
    return bag._replace(bias=biases.get(what, np.zeros_like(bag.bias)))


def encoder_alone() -> ModelEngine:
    loaded = weights.load(WEIGHTS)
    kept = {name: tensor for name, tensor in loaded.tensors.items() if not name.startswith("bag.")}
    return ModelEngine(WEIGHTS, loaded._replace(tensors=kept), OpenVinoForward(loaded))


def log_p(found: Sequence[Scores], head: str) -> torch.Tensor:
    probabilities = [scores.topics if head == "topic" else scores.sentiment for scores in found]
    return torch.log(torch.tensor(probabilities) + 1e-9)


if __name__ == "__main__":
    main()

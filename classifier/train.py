"""Training the classifier: one encoder, a head each for sentiment, topic and sentiment towards an entity.

    python -m classifier.train --data DIR --base DIR --out DIR --checkpoint DIR

Needs the extra `gpu` (PyTorch, transformers). A killed run goes on from its last checkpoint.
"""

import argparse
import hashlib
import json
import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F
from transformers import BertModel

from classifier.data import Example, training
from classifier.labels import SENTIMENTS, TOPICS
from classifier.text import normalise

VERSION = "0.1"
SEED = 7
BATCH = 32
RATE = 1e-4  # peak learning rate of the encoder
HEAD_RATE = 1e-3
WARMUP = 0.06
SMOOTHING = 0.05
MAX_TOKENS = 128
CHECKPOINT_S = 120.0


class Classifier(nn.Module):  # type: ignore[misc, unused-ignore]  # torch is not there where this is checked
    """Token ids to logits. The pooled vector is the mean of the token vectors."""

    def __init__(self, base: Path) -> None:
        super().__init__()
        self.encoder = BertModel.from_pretrained(base, add_pooling_layer=False)
        width = self.encoder.config.hidden_size
        self.sentiment = nn.Linear(width, len(SENTIMENTS))
        self.topic = nn.Linear(width, len(TOPICS))
        self.entity = nn.Linear(2 * width, len(SENTIMENTS))
        self.dropout = nn.Dropout(0.1)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, spans: Sequence[tuple[int, int, int]]) -> Any:
        """ids, mask: (batch, tokens); spans: (row, first token, last token + 1). Logits of the three heads."""
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1)
        towards = None
        if spans:
            parts = [torch.cat([hidden[row, first:last].mean(0), pooled[row]]) for row, first, last in spans]
            towards = self.entity(self.dropout(torch.stack(parts)))
        return self.sentiment(self.dropout(pooled)), self.topic(self.dropout(pooled)), towards


class Encoded:
    """An example as token ids, its entity spans as token spans."""

    def __init__(self, tokenizer: Tokenizer, example: Example) -> None:
        encoding = tokenizer.encode(normalise(example.text))
        self.ids = encoding.ids
        self.sentiment = -100 if example.sentiment is None else example.sentiment
        self.topic = -100 if example.topic is None else example.topic
        self.spans = []
        for start, end, label in example.entities:
            inside = [i for i, (a, b) in enumerate(encoding.offsets) if b > a and a < end and b > start]
            if inside:
                self.spans.append((inside[0], inside[-1] + 1, label))


def batches(encoded: Sequence[Encoded], rng: random.Random) -> Iterator[list[Encoded]]:
    """Shuffled batches of similar length, so that little is padding."""
    order = list(range(len(encoded)))
    rng.shuffle(order)
    span = BATCH * 50
    chunks = []
    for at in range(0, len(order), span):
        part = sorted(order[at : at + span], key=lambda i: len(encoded[i].ids))
        chunks += [part[i : i + BATCH] for i in range(0, len(part), BATCH)]
    rng.shuffle(chunks)
    for chunk in chunks:
        yield [encoded[i] for i in chunk]


def logits_of(model: Classifier, batch: Sequence[Encoded]) -> Any:
    width = max(len(item.ids) for item in batch)
    ids = torch.tensor([item.ids + [0] * (width - len(item.ids)) for item in batch])
    mask = torch.tensor([[1] * len(item.ids) + [0] * (width - len(item.ids)) for item in batch])
    spans = [(row, first, last) for row, item in enumerate(batch) for first, last, _ in item.spans]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return model(ids, mask, spans)


def loss_of(model: Classifier, batch: Sequence[Encoded]) -> torch.Tensor:
    sentiment, topic, towards = logits_of(model, batch)
    targets = (
        (sentiment, [item.sentiment for item in batch]),
        (topic, [item.topic for item in batch]),
        (towards, [label for item in batch for _, _, label in item.spans]),
    )
    total = torch.zeros(())
    for logits, labels in targets:
        known = sum(label >= 0 for label in labels)
        if known:
            # By the batch's size, not by the number known: a rare label does not pull harder in a lucky batch.
            part = F.cross_entropy(
                logits.float(), torch.tensor(labels), reduction="sum", ignore_index=-100, label_smoothing=SMOOTHING
            )
            total = total + part / BATCH
    return total


def evaluate(model: Classifier, encoded: Sequence[Encoded]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Logits and labels by head."""
    model.eval()
    found: dict[str, tuple[list[torch.Tensor], list[int]]] = {h: ([], []) for h in ("sentiment", "topic", "entity")}
    with torch.no_grad():
        for at in range(0, len(encoded), 64):
            batch = encoded[at : at + 64]
            sentiment, topic, towards = logits_of(model, batch)
            for row, item in enumerate(batch):
                if item.sentiment >= 0:
                    found["sentiment"][0].append(sentiment[row].float())
                    found["sentiment"][1].append(item.sentiment)
                if item.topic >= 0:
                    found["topic"][0].append(topic[row].float())
                    found["topic"][1].append(item.topic)
            labels = [label for item in batch for _, _, label in item.spans]
            if labels:
                found["entity"][0].extend(towards.float())
                found["entity"][1].extend(labels)
    model.train()
    return {head: (torch.stack(logits), torch.tensor(labels)) for head, (logits, labels) in found.items()}


def temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature of least negative log likelihood (Guo et al. 2017, section 4.2)."""
    grid = np.geomspace(0.3, 4, 200)
    return float(min(grid, key=lambda t: F.cross_entropy(logits / t, labels).item()))


def export(model: Classifier, dev: Sequence[Encoded], out: Path, tokenizer: Tokenizer) -> dict[str, float]:
    """Write weights (fp16) with their temperatures, tokenizer and checksum; returns the figures on the split."""
    results = evaluate(model, dev)
    figures = {
        f"{head}_accuracy": (logits.argmax(1) == labels).float().mean().item()
        for head, (logits, labels) in results.items()
    }
    temperatures = {head: temperature(*result) for head, result in results.items()}
    tensors = {
        name: tensor.to(torch.float16).contiguous()
        for name, tensor in model.state_dict().items()
        if not name.endswith("position_ids")
    }
    out.mkdir(parents=True, exist_ok=True)
    metadata = {
        "name": "moodwire-minilm",
        "version": VERSION,
        "temperatures": json.dumps(temperatures),
        "sentiments": json.dumps(SENTIMENTS),
        "topics": json.dumps(TOPICS),
        "normalisation": "classifier.text.normalise",
    }
    content = save(tensors, metadata)
    (out / "model.new").write_bytes(content)
    os.replace(out / "model.new", out / "model.safetensors")
    (out / "model.sha256").write_text(hashlib.sha256(content).hexdigest() + "\n")
    tokenizer.save(str(out / "tokenizer.json"))
    return figures


def train(data: Path, base: Path, out: Path, checkpoint: Path, epochs: int) -> None:
    torch.manual_seed(SEED)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    examples = training(data)
    random.Random(SEED).shuffle(examples)
    encoded = [Encoded(tokenizer, example) for example in examples]
    dev, kept = encoded[: len(encoded) // 20], encoded[len(encoded) // 20 :]
    steps = math.ceil(len(kept) / BATCH) * epochs
    print(f"{len(kept)} texts to train on, {len(dev)} held back to choose by, {steps} steps", flush=True)

    model = Classifier(base)
    heads = [p for name, p in model.named_parameters() if not name.startswith("encoder")]
    optimizer = torch.optim.AdamW(
        [{"params": model.encoder.parameters(), "lr": RATE}, {"params": heads, "lr": HEAD_RATE}], weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(step / (WARMUP * steps), (steps - step) / (steps * (1 - WARMUP)))
    )
    step = 0
    saved = checkpoint / "state.pt"
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        step = state["step"]
        print(f"going on from step {step}", flush=True)
    checkpoint.mkdir(parents=True, exist_ok=True)
    plan = [batch for epoch in range(epochs) for batch in batches(kept, random.Random(SEED + epoch))]
    model.train()
    began, began_at, last_saved = time.monotonic(), step, time.monotonic()
    smooth = 0.0
    for batch in plan[step:]:
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        step += 1
        smooth = 0.98 * smooth + 0.02 * loss.item() if smooth else loss.item()
        if step % 50 == 0:
            rate = (step - began_at) / (time.monotonic() - began)
            left = (steps - step) / rate / 60
            print(
                f"step {step}/{steps}  loss {smooth:.3f}  {rate * BATCH:.0f} texts/s  {left:.0f} min left", flush=True
            )
        if time.monotonic() - last_saved > CHECKPOINT_S or step == steps:
            last_saved = time.monotonic()
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "step": step,
            }
            torch.save(state, checkpoint / "state.new")
            os.replace(checkpoint / "state.new", saved)
        if step % (steps // epochs) == 0 or step == steps:
            print(f"step {step}: {export(model, dev, out, tokenizer)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the classifier.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--base", type=Path, required=True, help="folder of the pretrained MiniLM")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights", help="where the weights go")
    parser.add_argument("--checkpoint", type=Path, required=True, help="where checkpoints are kept")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    train(options.data, options.base, options.out, options.checkpoint, options.epochs)


if __name__ == "__main__":
    main()

"""The training and validation sets as examples. Where each comes from and what it may be used for: docs/model.md."""

import ast
import csv
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from classifier.labels import SENTIMENTS
from classifier.text import identity

TFNS_LABELS = (0, 2, 1)  # index in SENTIMENTS of its labels bearish, bullish, neutral
_BROKEN_CELL = re.compile(r"['\"](.+?)['\"]\s*:\s*['\"](positive|negative|neutral)['\"]")


class Example(NamedTuple):
    """A text with what is known of it; None where nothing is."""

    text: str
    sentiment: int | None = None  # index in SENTIMENTS
    topic: int | None = None  # index in TOPICS
    entities: tuple[tuple[int, int, int], ...] = ()  # start, end (characters), sentiment


def tfns(folder: Path, part: str) -> list[Example]:
    """Twitter Financial News Sentiment; part: train or valid."""
    rows = _csv(folder / "tfns" / f"sent_{part}.csv")
    return [Example(row["text"], sentiment=TFNS_LABELS[int(row["label"])]) for row in rows]


def topics(folder: Path, part: str) -> list[Example]:
    """Twitter Financial News Topic; part: train or valid."""
    rows = _csv(folder / "tfn_topic" / f"topic_{part}.csv")
    return [Example(row["text"], topic=int(row["label"])) for row in rows]


def sentfin(folder: Path, held_out: bool) -> list[Example]:
    """SEntFiN headlines; a title that names one entity has that entity's sentiment. `held_out`: the test fifth."""
    found = []
    for row in _csv(folder / "sentfin" / "SEntFiN.csv"):
        title = row["Title"]
        if is_held_out(title) != held_out:
            continue
        decisions = _decisions(row["Decisions"])
        spans = []
        for name, label in decisions.items():
            start = title.lower().find(name.lower())
            if start >= 0:
                spans.append((start, start + len(name), SENTIMENTS.index(label)))
        only = SENTIMENTS.index(next(iter(decisions.values()))) if len(decisions) == 1 else None
        found.append(Example(title, sentiment=only, entities=tuple(spans)))
    return found


def finentity(folder: Path, held_out: bool) -> list[Example]:
    """FinEntity paragraphs with a sentiment per entity span. `held_out`: the test fifth."""
    rows = json.loads((folder / "finentity" / "FinEntity.json").read_text())
    return [
        Example(
            row["content"],
            entities=tuple((a["start"], a["end"], SENTIMENTS.index(a["tag"].lower())) for a in row["annotations"]),
        )
        for row in rows
        if is_held_out(row["content"]) == held_out
    ]


def is_held_out(text: str) -> bool:
    return int(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), 16) % 5 == 0


def training(folder: Path) -> list[Example]:
    """All that may shape the weights: one example a text, no text of a validation file or a held-out fifth."""
    barred = {
        identity(example.text)
        for examples in (
            tfns(folder, "valid"),
            topics(folder, "valid"),
            sentfin(folder, held_out=True),
            finentity(folder, held_out=True),
        )
        for example in examples
    }
    merged: dict[str, Example] = {}
    for example in _training_sources(folder):
        key = identity(example.text)
        if not key or key in barred:
            continue
        known = merged.setdefault(key, example)
        merged[key] = known._replace(
            sentiment=example.sentiment if known.sentiment is None else known.sentiment,
            topic=example.topic if known.topic is None else known.topic,
        )
    return list(merged.values())


def _training_sources(folder: Path) -> Iterator[Example]:
    yield from tfns(folder, "train")
    yield from topics(folder, "train")
    yield from sentfin(folder, held_out=False)
    yield from finentity(folder, held_out=False)


def _csv(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _decisions(cell: str) -> dict[str, str]:
    try:
        return {str(name): str(label) for name, label in ast.literal_eval(cell).items()}
    except (ValueError, SyntaxError):  # an apostrophe in a name
        return dict(_BROKEN_CELL.findall(cell))

"""The training and validation sets as examples. Where each comes from and what it may be used for: weights/card.md."""

import ast
import csv
import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from classifier.labels import SENTIMENTS
from classifier.text import identity

SHORTEST = 20  # letters of a text without labels
MOST_ENTITIES = 4  # of one
PIECE_WORDS, LONGEST_WORDS = 80, 800  # of an article's body
TFNS_LABELS = (0, 2, 1)  # index in SENTIMENTS of its labels bearish, bullish, neutral
_CASHTAG = re.compile(r"\$[A-Za-z]{1,5}\b")
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


def surge(folder: Path) -> list[Example]:
    """Posts about stocks with a sentiment, no neutral ones. For tests only."""
    rows = _csv(folder / "surge" / "sentiment.csv")
    return [Example(row["Tweet Text"], sentiment=SENTIMENTS.index(row["Sentiment"].lower())) for row in rows]


def taborda(folder: Path) -> list[Example]:
    """The labelled ones of Taborda's stock market tweets. For tests only."""
    rows = _csv(folder / "taborda" / "Taborda_tweets_labelled.csv", ";")
    return [Example(row["text"], sentiment=SENTIMENTS.index(row["sentiment"])) for row in rows if row["sentiment"]]


def is_held_out(text: str) -> bool:
    return int(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), 16) % 5 == 0


def digest(text: str) -> str:
    """Of a text's identity, as the lists of hashes beside the weights have it."""
    return hashlib.sha1(identity(text).encode(), usedforsecurity=False).hexdigest()[:12]


def validation(folder: Path) -> list[Example]:
    """All that measures the weights and must not shape them."""
    return [
        *tfns(folder, "valid"),
        *topics(folder, "valid"),
        *sentfin(folder, held_out=True),
        *finentity(folder, held_out=True),
    ]


def training(folder: Path) -> list[Example]:
    """All that may shape the weights by its labels: one example a text, none of a validation text."""
    barred = {identity(example.text) for example in validation(folder)}
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


def unlabelled(folder: Path) -> list[Example]:
    """Tweets and news that no one labelled, each once, none of a validation or training text; cashtags as entities."""
    seen = {identity(example.text) for example in (*validation(folder), *_training_sources(folder))}
    found: list[Example] = []
    for text in _unlabelled_texts(folder):
        key = identity(text)
        if len(key) >= SHORTEST and key not in seen:
            seen.add(key)
            # No sentiment is known towards them: -1.
            entities = tuple((match.start(), match.end(), -1) for match in _CASHTAG.finditer(text))
            found.append(Example(text, entities=entities[:MOST_ENTITIES]))
    return found


def _unlabelled_texts(folder: Path) -> Iterator[str]:
    with gzip.open(folder / "stocknet" / "stocknet_stream.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["title"]
    for article in json.loads((folder / "finentity" / "news_20230105.json").read_text()):
        yield article["title"] or ""
        words = (article["content"] or "").split()
        for at in range(0, min(len(words), LONGEST_WORDS), PIECE_WORDS):
            yield " ".join(words[at : at + PIECE_WORDS])


def _training_sources(folder: Path) -> Iterator[Example]:
    yield from tfns(folder, "train")
    yield from topics(folder, "train")
    yield from sentfin(folder, held_out=False)
    yield from finentity(folder, held_out=False)


def _csv(path: Path, delimiter: str = ",") -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter=delimiter)


def _decisions(cell: str) -> dict[str, str]:
    try:
        return {str(name): str(label) for name, label in ast.literal_eval(cell).items()}
    except (ValueError, SyntaxError):  # an apostrophe in a name
        return dict(_BROKEN_CELL.findall(cell))

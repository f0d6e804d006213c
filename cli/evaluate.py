"""`moodwire evaluate`: a model's figures on labelled CSV or JSONL files, alone or against another model's."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classifier.engine import Engine, Scores, open_engine
from classifier.evaluate import as_text, compare, report
from classifier.labels import SENTIMENTS, TOPICS
from cli.classify import read_rows
from moodwire.errors import BadInput
from moodwire.settings import Settings

NAMES = {"sentiment": SENTIMENTS, "topic": TOPICS}


def run(
    settings: Settings,
    files: Sequence[Path],
    columns: tuple[str, str],
    head: str,
    renamed: Mapping[str, str],
    baseline: Path | None,
    out: Path | None,
) -> int:
    """columns: of the text and of the label. Raises BadInput (with the row), ModelError."""
    threads = settings.model.threads or None
    engine = open_engine(settings.model.engine, threads=threads)
    other = open_engine(settings.model.engine, baseline, threads) if baseline else None
    told = []
    for file in files:
        texts, labels = labelled(file, columns, head, renamed)
        began = time.perf_counter()
        ours = probabilities(engine, texts, head)
        took = time.perf_counter() - began
        found: dict[str, Any] = {"file": str(file), "model": engine.model, **report(labels, ours, NAMES[head])}
        found["texts_per_s"] = len(texts) / took
        print(f"{file} by {engine.model}, {len(texts) / took:.0f} texts/s\n\n{as_text(found)}")
        if other:
            gap = compare(labels, ours, probabilities(other, texts, head))
            found["baseline"] = {"model": other.model, "weighted_f1": gap._asdict()}
            print(
                f"\nagainst {other.model}: weighted F1 {gap.observed:+.4f}, 95% interval {gap.low:+.4f} to "
                f"{gap.high:+.4f} (paired bootstrap); not better in {gap.share_not_better:.1%} of the resamples"
            )
        print()
        told.append(found)
    if out:
        out.write_text(json.dumps(told, indent=1) + "\n")
    return 0


def labelled(
    file: Path, columns: tuple[str, str], head: str, renamed: Mapping[str, str]
) -> tuple[list[str], list[int]]:
    """Texts and labels of a file. Raises BadInput for a label that the model does not know."""
    texts, labels = [], []
    for number, row in enumerate(read_rows(file, columns), 1):
        text, label = (str(row[column] if row[column] is not None else "") for column in columns)
        name = renamed.get(label.strip(), label.strip())
        if name not in NAMES[head]:
            raise BadInput(
                f"{file}, row {number}: the model knows no {head} {label!r}; it knows {', '.join(NAMES[head])} "
                "(rename with --label, for example --label 0=negative)"
            )
        texts.append(text)
        labels.append(NAMES[head].index(name))
    if not texts:
        raise BadInput(f"{file} has no rows")
    return texts, labels


def probabilities(engine: Engine, texts: Sequence[str], head: str) -> Any:
    def of(scores: Scores) -> Sequence[float]:
        return scores.sentiment if head == "sentiment" else scores.topics

    return np.array([of(scores) for scores in engine.score(texts, [()] * len(texts))])

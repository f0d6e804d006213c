"""How well near-duplicates are told from other news, and how fast.

./run bench stories --data DIR        DIR holds finentity/ and stocknet/ (or set MOODWIRE_DATA)

Pairs are made from real articles: edits by sentence on one side, other articles of the same day that share its names
on the other. datasketch's index, on the same shingles, is measured in the same run.
"""

import argparse
import gzip
import json
import os
import random
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from datasketch import MinHash, MinHashLSH

from ingest.clean import plain
from ingest.stories import OPEN, StoryIndex, same, shape_of
from moodwire.store.articles import Draft
from moodwire.store.db import Store

T0 = datetime(2024, 1, 1, tzinfo=UTC)
SEED = 4
HEAD = 40  # characters by which a retweet's original is looked for
SHARES = (0.05, 0.1, 0.2)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_NAME = re.compile(r"\b(?:[A-Z][a-z]+ ?){2,}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MOODWIRE_DATA"))
    options = parser.parse_args()
    if options.data is None or not (Path(options.data) / "finentity").is_dir():
        sys.exit("real data are needed: --data DIR or MOODWIRE_DATA, with finentity/ and stocknet/ in it")
    data = Path(options.data)
    rows = json.loads((data / "finentity" / "news_20230105.json").read_text())
    articles = [(plain(row["title"]), plain(row["content"])) for row in rows if row["title"] and row["content"]]
    articles = [(title, body) for title, body in articles if len(body.split()) >= 80]
    pairs(articles)
    tweets = titles(data)
    retweets(tweets)
    speed("articles with bodies", [article for article in articles for _ in range(4)])
    speed("tweets", [(title, "") for title in tweets[:20_000]])


def pairs(articles: Sequence[tuple[str, str]]) -> None:
    rng = random.Random(SEED)
    others = [sentence for _, body in articles for sentence in _SENTENCE.split(body)]
    found: dict[float, list[bool]] = defaultdict(list)
    for share in SHARES:
        for title, body in articles:
            changed = edited(title, body, share, others, rng)
            found[share].append(decided((title, body), changed))
    negatives = hard_negatives(articles, rng)
    wrong = [pair for pair in negatives if decided(*pair)]
    print(f"{len(articles)} articles, each edited; {len(negatives)} pairs of other articles that share a name\n")
    print("| sentences edited | recall (goal .95) |\n|---|---|")
    for share, hits in found.items():
        print(f"| {share:.0%} | {sum(hits) / len(hits):.4f} |")
    right = sum(sum(hits) for hits in found.values())
    print(
        f"\nprecision {right / (right + len(wrong)):.4f} (goal .98), {len(wrong)} of the negatives taken for one story"
    )
    for one, other in wrong[:5]:
        print(f"  taken for one: {one[0]!r} / {other[0]!r}")


def decided(one: tuple[str, str], other: tuple[str, str]) -> bool:
    return bool(same(shape_of(*one)[0], shape_of(*other)[0], timedelta(hours=2)))


def edited(title: str, body: str, share: float, others: Sequence[str], rng: random.Random) -> tuple[str, str]:
    """A share of the sentences inserted, deleted, swapped or replaced; often another headline, a wire's name."""
    sentences = _SENTENCE.split(body)
    for _ in range(max(1, round(share * len(sentences)))):
        at = rng.randrange(len(sentences))
        kind = rng.choice(("insert", "delete", "swap", "replace"))
        if kind == "insert":
            sentences.insert(at, rng.choice(others))
        elif kind == "delete" and len(sentences) > 2:
            del sentences[at]
        elif kind == "swap":
            to = rng.randrange(len(sentences))
            sentences[at], sentences[to] = sentences[to], sentences[at]
        else:
            sentences[at] = rng.choice(others)
    words = title.split()
    if (kind_of_title := rng.random()) < 0.2:
        words = rng.choice(others).split()[:10]
    elif kind_of_title < 0.6:
        rng.shuffle(words)
    if rng.random() < 0.3:
        words.insert(0, "(Newswire)")
    return " ".join(words), " ".join(sentences)


def hard_negatives(
    articles: Sequence[tuple[str, str]], rng: random.Random
) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Pairs of different articles that name the same company or person."""
    by_name: defaultdict[str, list[int]] = defaultdict(list)
    for number, (title, body) in enumerate(articles):
        for name in sorted(set(_NAME.findall(f"{title}. {body[:600]}"))):
            by_name[name.strip()].append(number)
    found = set()
    for numbers in by_name.values():
        for _ in range(min(len(numbers) * 2, 40)):
            one, other = rng.choice(numbers), rng.choice(numbers)
            if one < other and not copied(articles[one][1], articles[other][1]):
                found.add((one, other))
    return [(articles[one], articles[other]) for one, other in sorted(found)]


def copied(one: str, other: str) -> bool:
    """Whether half of the shorter's sentences stand in the longer word for word: then they are one story indeed."""
    a, b = set(_SENTENCE.split(one)), set(_SENTENCE.split(other))
    return len(a & b) >= min(len(a), len(b)) / 2


def retweets(tweets: Sequence[str]) -> None:
    """A retweet that quotes an earlier tweet of the stream, cut at most, belongs to its story."""
    first: dict[str, str] = {}
    hits = []
    for tweet in tweets:
        quoted = re.sub(r"^RT @\w+:?\s*", "", tweet).rstrip("…")
        original = first.get(quoted[:HEAD])
        if original is None:
            first.setdefault(tweet[:HEAD], tweet)
        elif quoted != tweet and original.startswith(quoted):
            hits.append(decided((original, ""), (tweet, "")))
    print(f"\nStockNet: {sum(hits)} of {len(hits)} retweets of a tweet in the stream are in its story\n")


def titles(data: Path) -> list[str]:
    found: dict[str, None] = {}
    with gzip.open(data / "stocknet" / "stocknet_stream.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            found[json.loads(line)["title"]] = None
    return list(found)


def speed(name: str, texts: Sequence[tuple[str, str]]) -> None:
    drafts = [
        Draft(str(n), "s", "", title, body, "", T0, T0 + OPEN * n / len(texts)) for n, (title, body) in enumerate(texts)
    ]
    store = Store("sqlite://")
    store.upgrade()
    index = StoryIndex(store)
    ours = rate(lambda: [index.story_of(draft) for draft in drafts], len(drafts))
    store.close()
    theirs = rate(lambda: peer(texts), len(texts))
    print(f"{name}: {ours:.0f}/s (goal 10,000), datasketch's index {theirs:.0f}/s: {ours / theirs:.1f} times")


def peer(texts: Sequence[tuple[str, str]]) -> None:
    """datasketch on the same shingles, with as many permutations."""
    lsh = MinHashLSH(threshold=0.5, num_perm=96)
    for number, (title, body) in enumerate(texts):
        _, titles_, bodies = shape_of(title, body)
        sketch = MinHash(num_perm=96)
        sketch.update_batch([shingle.encode() for shingle in bodies or titles_])
        if not lsh.query(sketch):
            lsh.insert(str(number), sketch)


def rate(run: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    run()
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()

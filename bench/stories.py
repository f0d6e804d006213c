"""How well near-duplicates are told from other news, and how fast.

./run bench stories --data DIR        DIR holds finentity/ and stocknet/ (or set MOODWIRE_DATA)

Pairs are made from real articles: edits by sentence on one side, other articles of the same day that share its names
on the other. Speed is measured on articles that begin stories and on as many edited copies of them; in the same run the
indices of datasketch and rensa, which are given their shingles ready-made, and what making ours alone costs.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from datasketch import MinHash, MinHashLSH
from rensa import RMinHash, RMinHashLSH

from ingest.clean import plain
from ingest.stories import BODY_BANDS, LONG_BODY, MOST_WORDS, StoryIndex, same, shape_of, title_key
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
    rng = random.Random(SEED)
    others = [sentence for _, body in articles for sentence in _SENTENCE.split(body)]
    speed("articles with bodies", articles, [edited(*article, 0.1, others, rng) for article in articles])
    speed("tweets", [(title, "") for title in tweets[:10_000]], [(f"{title} …", "") for title in tweets[:10_000]])


def pairs(articles: Sequence[tuple[str, str]]) -> None:
    rng = random.Random(SEED)
    others = [sentence for _, body in articles for sentence in _SENTENCE.split(body)]
    found: dict[float, list[bool]] = defaultdict(list)
    copies: dict[float, list[tuple[str, str]]] = defaultdict(list)
    for share in SHARES:
        for title, body in articles:
            changed = edited(title, body, share, others, rng)
            found[share].append(decided((title, body), changed))
            copies[share].append(changed)
    negatives = hard_negatives(articles, rng)
    wrong = [pair for pair in negatives if decided(*pair)]
    print(f"{len(articles)} articles, each edited; {len(negatives)} pairs of other articles that share a name\n")
    print("| sentences edited | recall (goal .95) | of it, found by the index |\n|---|---|---|")
    for share, hits in found.items():
        print(f"| {share:.0%} | {sum(hits) / len(hits):.4f} | {through_index(articles, copies[share], hits):.4f} |")
    right = sum(sum(hits) for hits in found.values())
    print(
        f"\nprecision {right / (right + len(wrong)):.4f} (goal .98), {len(wrong)} of the negatives taken for one story"
    )
    for one, other in wrong[:5]:
        print(f"  taken for one: {one[0]!r} / {other[0]!r}")


def decided(one: tuple[str, str], other: tuple[str, str]) -> bool:
    return bool(same(shape_of(*one), shape_of(*other), timedelta(hours=2)))


def through_index(
    articles: Sequence[tuple[str, str]], copies: Sequence[tuple[str, str]], decided_: Sequence[bool]
) -> float:
    """The share of copies, of those that are known to tell the article's story, that the index puts into a story."""
    with index() as stories:
        for draft in drafts(articles):
            stories.story_of(draft)
        wanted = [draft for draft, is_copy in zip(drafts(copies, len(articles)), decided_, strict=True) if is_copy]
        return sum(stories.story_of(draft) != draft.id for draft in wanted) / len(wanted)


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


@contextmanager
def index() -> Iterator[StoryIndex]:
    store = Store("sqlite://")
    store.upgrade()
    yield StoryIndex(store)
    store.close()


def drafts(texts: Sequence[tuple[str, str]], first: int = 0) -> list[Draft]:
    return [Draft(str(first + n), "s", "", title, body, "", T0, T0) for n, (title, body) in enumerate(texts)]


def speed(name: str, originals: Sequence[tuple[str, str]], copies: Sequence[tuple[str, str]]) -> None:
    words = sum(len(body.split()) for _, body in originals) / len(originals)
    chars = sum(len(title) + len(body) for title, body in originals) / len(originals)
    new, known = drafts(originals), drafts(copies, len(originals))
    with index() as stories:
        beginning = rate(lambda: [stories.story_of(draft) for draft in new], len(new))
        joining = rate(lambda: [stories.story_of(draft) for draft in known], len(known))
    both = 2 / (1 / beginning + 1 / joining)
    texts = [*originals, *copies]
    sets = [shingles(*text) for text in texts]
    theirs = {
        "datasketch": rate(lambda: datasketch_s(sets), len(sets)),
        "rensa": rate(lambda: rensa_s(sets), len(sets)),
    }
    alone = rate(lambda: [shape_of(*text) for text in texts], len(texts))
    print(f"{name}, {words:.0f} words of text on average, {chars:.0f} characters; a second of core time:")
    print(f"  {both:.0f} (goal 10,000): {beginning:.0f} that begin stories, {joining:.0f} that are copies")
    print(f"  words and their shingles alone: {alone:.0f}")
    for peer, rate_ in theirs.items():
        print(f"  {peer}'s index, of ready-made shingles, without a check of what it finds: {rate_:.0f}")


def shingles(title: str, body: str) -> list[str]:
    """As words: of the text if it is long, else of the headline."""
    words = re.findall(r"[\w$%]+", body.casefold())[:MOST_WORDS]
    words, size = (words, 3) if len(words) >= LONG_BODY else (title_key(title).split(), 2)
    return [" ".join(words[at : at + size]) for at in range(len(words) - size + 1)] or words


def datasketch_s(sets: Sequence[list[str]]) -> None:
    bands, rows = BODY_BANDS
    lsh = MinHashLSH(num_perm=bands * rows, params=BODY_BANDS)
    for number, each in enumerate(sets):
        sketch = MinHash(num_perm=bands * rows)
        sketch.update_batch([shingle.encode() for shingle in each])
        if not lsh.query(sketch):
            lsh.insert(str(number), sketch)


def rensa_s(sets: Sequence[list[str]]) -> None:
    bands, rows = BODY_BANDS
    lsh = RMinHashLSH(0.5, bands * rows, bands)
    for number, each in enumerate(sets):
        sketch = RMinHash(bands * rows, SEED)
        sketch.update(each)
        if not lsh.query(sketch):
            lsh.insert(number, sketch)


def rate(run: Callable[[], object], count: int) -> float:
    """How many a second of core time: other programs take none of it."""
    began = time.process_time()
    run()
    return count / (time.process_time() - began)


if __name__ == "__main__":
    main()

"""Whether companies are found where they are named, and no others; and how fast.

./run bench entities --data DIR        DIR holds sentfin/ and finentity/ (or set MOODWIRE_DATA)

SEntFiN, titles whose SHA-1 is a multiple of five: a label is a company where SEntFiN's own list of entities or
moodwire's list of companies has its name; the other labels (central banks, currencies, markets, sectors) are counted
apart. What is found is right where it lies on such a label. SEntFiN's list is an input of the companies to look for,
beside moodwire's. FinEntity has the spans of companies and other institutions in paragraphs.
"""

import argparse
import csv
import os
import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from classifier.data import Example, finentity, sentfin
from classifier.entities import SHORT_NAME, Watchlist
from moodwire import symbology
from moodwire.settings import Company

# SEntFiN's list has sectors and markets among the companies.
_NO_COMPANY = re.compile(
    r"\b(stocks?|shares?|space|sectors?|companies|makers|markets?|cos|funds|banks|investors|bonds?|futures|prices|oil|gold|"
    r"nickel|copper|lead|zinc|tin|silver|crude|rupee|dollar|index|indices|exchange|regulator|government|board of india|"
    r"nifty|sensex|steel|caps?|auto|power|sugar|economy|debt|contracts|metals?|currency|currencies|export|investment)$",
    re.IGNORECASE,
)
_NO_COMPANIES = {"REGORG", "INDIA"}  # symbols in it
_INDICES = {"dow", "nasdaq", "BSE", "NSE"}  # and the places of trade, in headlines
# What may follow a company's name and leaves it that company: its form, its country unit, its shares.
_LEGAL = re.compile(
    r"(?:[ ,]+(?:inc|corp|corporation|co|ltd|limited|plc|group|holdings?|& co|company|se|ag|sa|asa|nv|india|uk|"
    r"usa?|china|shares?|stock)\.?|['\u2019]s)+$",
    re.IGNORECASE,
)
SHOWN = 250


class Text(NamedTuple):
    text: str
    companies: list[tuple[int, int]]  # spans
    others: list[tuple[int, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MOODWIRE_DATA"))
    parser.add_argument(
        "--part", choices=["held-out", "rest"], default="held-out", help="the rest is for looking at faults"
    )
    parser.add_argument("--faults", action="store_true", help="show what was missed and what was wrong")
    options = parser.parse_args()
    if options.data is None or not (Path(options.data) / "sentfin").is_dir():
        sys.exit("real data are needed: --data DIR or MOODWIRE_DATA, with sentfin/ and finentity/ in it")
    data, held_out = Path(options.data), options.part == "held-out"
    theirs = list(listed(data))
    own = list(symbology.companies().values())
    both = Watchlist([*own, *theirs])
    print(f"{len(own)} companies in moodwire's list, {len(theirs)} in SEntFiN's")
    texts = list(split(sentfin(data, held_out), [*own, *theirs]))
    report(f"SEntFiN {options.part}, both lists", both, texts, options.faults)
    report(f"SEntFiN {options.part}, moodwire's list alone", Watchlist(own), texts, options.faults)
    report(
        f"FinEntity {options.part}, both lists",
        both,
        list(split(finentity(data, held_out), [*own, *theirs])),
        options.faults,
    )
    speed(texts)


def listed(data: Path) -> Iterator[Company]:
    with (data / "sentfin" / "entity_list_comprehensive.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            names = [name.strip() for name in row["Entity"].split(",")]
            if row["Symbol"] not in _NO_COMPANIES and not any(_NO_COMPANY.search(name) for name in names):
                full = {part for name in names for part in (name, _LEGAL.sub("", name)) if len(part) > 1}
                # The first word of a longer name is often someone's name, or another firm's.
                first = {
                    name for name in full if any(other.startswith(f"{name} ") for other in full - {f"{name} Ltd."})
                }
                short = {name for name in first if not any(f"{name} {end}" in full for end in ("Ltd.", "Ltd"))}
                yield Company(symbol=f"X{row['']}", names=tuple(sorted(full - short)), words=tuple(sorted(short)))


def split(examples: Sequence[Example], companies: Sequence[Company]) -> Iterator[Text]:
    names = {as_written(name) for company in companies for name in (*company.names, *company.words)} - _INDICES
    for example in examples:
        parts: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        for start, end, _ in example.entities:
            surface = _LEGAL.sub("", example.text[start:end])
            known = surface.lower() in names or (surface.isupper() and surface in names)
            parts[not known].append((start, end))
        yield Text(example.text, *parts)


def as_written(name: str) -> str:
    """Small letters, but for initials: OIL is a company, oil is none."""
    short = _LEGAL.sub("", name)
    return short if short.isupper() and len(short) <= SHORT_NAME else short.lower()


def report(name: str, watchlist: Watchlist, texts: list[Text], faults: bool) -> None:
    right = wrong = on_others = 0
    hit: set[tuple[int, int]] = set()
    missed: Counter[str] = Counter()
    surplus: Counter[str] = Counter()
    for number, (text, companies, others) in enumerate(texts):
        found: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for start, end, symbol in watchlist.places(text):
            found[symbol].append((start, end))
        for spans in found.values():
            if any(meets(span, companies) for span in spans):
                right += 1
            elif any(meets(span, others) for span in spans):
                on_others += 1
                labels = [text[a:b] for a, b in others if meets((a, b), spans)]
                surplus[f"{text[spans[0][0] : spans[0][1]]} in {labels} | {text[:110]}"] += 1
            else:
                wrong += 1
                surplus[f"{text[spans[0][0] : spans[0][1]]} | {text[:110]}"] += 1
        for k, (a, b) in enumerate(companies):
            if any(meets((a, b), spans) for spans in found.values()):
                hit.add((number, k))
            else:
                missed[f"{text[a:b]} | {text[:110]}"] += 1
    total = sum(len(text.companies) for text in texts)
    apart = sum(len(text.others) for text in texts)
    print(f"{name}: {len(texts)} texts, {total} companies, {apart} other entities apart")
    print(
        f"  precision {right / (right + on_others):.3f} where a label lies (goal .95), "
        f"{right / (right + wrong + on_others):.3f} if the {wrong} without a label are all wrong; "
        f"recall {len(hit) / total:.3f} (goal .85)"
    )
    if faults:
        rng = random.Random(5)
        for title, counter in (("missed", missed), ("surplus", surplus)):
            print(f"  {title}:")
            for line in rng.sample(sorted(counter), min(SHOWN, len(counter))):
                print(f"    {line}")


def meets(span: tuple[int, int], spans: Sequence[tuple[int, int]]) -> bool:
    return any(span[0] < end and span[1] > start for start, end in spans)


def speed(texts: list[Text]) -> None:
    """Articles a second with 10,000 names, on texts of which a fifth are long."""
    rng = random.Random(7)
    own = list(symbology.companies().values())
    more = [
        Company(symbol=f"Y{at}", names=("".join(rng.choices("abcdefghiklmnoprstuvw", k=8)).title(),))
        for at in range(10_000 - sum(len(company.names) + len(company.words) for company in own))
    ]
    watchlist = Watchlist([*own, *more])
    bodies = [text.text for text in texts]
    articles = [(title, " ".join(rng.sample(bodies, 20)) if at % 5 == 0 else "") for at, title in enumerate(bodies)]
    began = time.perf_counter()
    for title, body in articles:
        watchlist.find(title, body)
    print(f"speed: {len(articles) / (time.perf_counter() - began):.0f} articles/s with 10,000 names (goal 5,000)")


if __name__ == "__main__":
    main()

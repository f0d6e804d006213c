"""Whether companies are found where they are named, and no others; and how fast.

./run bench entities --data DIR [--weights DIR]      DIR holds sentfin/ and finentity/ (or set MOODWIRE_DATA)

SEntFiN, titles whose SHA-1 is a multiple of five: a label is a company where SEntFiN's own list of entities or
moodwire's list of companies has its name; the other labels (central banks, currencies, markets, sectors) are counted
apart. What is found is right where it lies on such a label. SEntFiN's list is an input of the companies to look for,
beside moodwire's. FinEntity has the spans of companies and other institutions in paragraphs. By rules alone, and with
the mentions that the model believes; then the model alone, which tags every name it sees, without any list.
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

import torch

from classifier import weights
from classifier.data import Example, finentity, sentfin
from classifier.engine import WEIGHTS, Engine, open_engine
from classifier.entities import BARE, SHORT_NAME, SHOWN, SURE, Place, Watchlist
from classifier.labels import BEGIN, INSIDE, OUTSIDE
from classifier.network import from_tensors
from classifier.train import NONE, Item, is_dev, logits_of, tokenizer_of
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
LINES = 250  # of faults
NEVER = 2.0  # no probability is so high


class Text(NamedTuple):
    text: str
    companies: list[tuple[int, int]]  # spans
    others: list[tuple[int, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MOODWIRE_DATA"))
    parser.add_argument(
        "--part",
        choices=["held-out", "dev", "rest"],
        default="held-out",
        help="dev: texts that the model has not learned from, to set thresholds by; rest: for looking at faults",
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--faults", action="store_true", help="show what was missed and what was wrong")
    options = parser.parse_args()
    if options.data is None or not (Path(options.data) / "sentfin").is_dir():
        sys.exit("real data are needed: --data DIR or MOODWIRE_DATA, with sentfin/ and finentity/ in it")
    data = Path(options.data)
    headlines, paragraphs = (
        [e for e in load(data, options.part == "held-out") if options.part != "dev" or is_dev(e.text)]
        for load in (sentfin, finentity)
    )
    theirs = list(listed(data))
    own = list(symbology.companies().values())
    both = Watchlist([*own, *theirs])
    engine = open_engine("openvino", options.weights)
    print(f"{len(own)} companies in moodwire's list, {len(theirs)} in SEntFiN's")
    texts = list(split(headlines, [*own, *theirs]))
    for name, watchlist, given in (
        ("SEntFiN, both lists", both, texts),
        ("SEntFiN, moodwire's list alone", Watchlist(own), texts),
        ("FinEntity, both lists", both, list(split(paragraphs, [*own, *theirs]))),
    ):
        report(f"{name}, {options.part}", watchlist, engine, given, options.faults, options.part == "dev")
    for name, examples in (("SEntFiN", headlines), ("FinEntity", paragraphs)):
        tagged(f"{name}, {options.part}", options.weights, examples)
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


def report(name: str, watchlist: Watchlist, engine: Engine, texts: list[Text], faults: bool, thresholds: bool) -> None:
    places = [watchlist.places(text.text) for text in texts]
    spans = [[(place.start, place.end) for place in found] for found in places]
    scores = engine.score([text.text for text in texts], spans)
    print(f"{name}: {len(texts)} texts", end="")
    print(
        f", {sum(len(t.companies) for t in texts)} companies, {sum(len(t.others) for t in texts)} other entities apart"
    )
    grid = [(shown, bare) for shown in (0.02, 0.05, 0.1, 0.2, 0.3) for bare in (NEVER, 0.95, 0.8)]
    for shown, bare in ((SURE, NEVER), *(grid if thresholds else [(SHOWN, NEVER), (SHOWN, BARE)])):
        least = {SURE: SURE, SHOWN: shown, BARE: bare}
        kept = [
            [place for place, p in zip(found, of.names, strict=True) if p >= least[place.least]]
            for found, of in zip(places, scores, strict=True)
        ]
        asked = ", ".join(f"{what} from {p}" for what, p in (("shown", shown), ("bare", bare)) if 0 < p < NEVER)
        measure(f"with the model asked ({asked})" if asked else "by rules alone", kept, texts, faults and bare == BARE)


def measure(how: str, places: Sequence[Sequence[Place]], texts: list[Text], faults: bool) -> None:
    right = wrong = on_others = 0
    hit: set[tuple[int, int]] = set()
    missed: Counter[str] = Counter()
    surplus: Counter[str] = Counter()
    for number, (text, companies, others) in enumerate(texts):
        found: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for start, end, symbol, _ in places[number]:
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
    print(
        f"  {how}: precision {right / (right + on_others):.3f} where a label lies (goal .95), "
        f"{right / (right + wrong + on_others):.3f} if the {wrong} without a label are all wrong; "
        f"recall {len(hit) / total:.3f} (goal .85)"
    )
    if faults:
        rng = random.Random(5)
        for title, counter in (("missed", missed), ("surplus", surplus)):
            print(f"  {title}:")
            for line in rng.sample(sorted(counter), min(LINES, len(counter))):
                print(f"    {line}")


def tagged(name: str, folder: Path, examples: Sequence[Example]) -> None:
    """Names by the model alone: right is a span with the very same beginning and end (entity-level F1)."""
    tokenizer = tokenizer_of(folder)
    model = from_tensors(weights.load(folder).tensors).eval()
    items = [Item(tokenizer, example) for example in examples]
    right = said = true = 0
    for at in range(0, len(items), 64):
        batch = items[at : at + 64]
        with torch.no_grad():
            tags = logits_of(model, batch).name.argmax(1).reshape(len(batch), -1).tolist()
        for item, guessed in zip(batch, tags, strict=True):
            known = [tag for tag in item.names if tag != NONE]
            ours = spans_of([tag for tag, label in zip(guessed, item.names, strict=False) if label != NONE])
            right += len(ours & spans_of(known))
            said += len(ours)
            true += len(spans_of(known))
    precision, recall = right / max(said, 1), right / max(true, 1)
    f1 = 2 * right / max(said + true, 1)
    print(f"{name}: {true} names, by the model alone: precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}")


def spans_of(tags: Sequence[int]) -> set[tuple[int, int]]:
    """First token and last + 1 of each name; one that goes on without a beginning begins there."""
    found: set[tuple[int, int]] = set()
    begun: int | None = None
    for at, tag in enumerate([*tags, OUTSIDE]):
        if begun is not None and tag != INSIDE:
            found.add((begun, at))
            begun = None
        if tag == BEGIN or (tag == INSIDE and begun is None):
            begun = at
    return found


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

"""Which articles tell one story: near-duplicates of its first copy, within 72 h of it."""

import re
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from rensa import RMinHash, RMinHashLSH

from ingest.shingles import NONE, Hashes, alike, runs_of, words_of
from moodwire.records import STORY_HOURS
from moodwire.store.articles import Draft, Stored, first_copies, store_articles
from moodwire.store.db import Store

OPEN = timedelta(hours=STORY_HOURS)
EQUAL_TITLES = timedelta(hours=12)  # so long equal titles over different texts are one story: daily columns repeat
LONG_BODY = 80  # words, from which the body is compared: shorter ones are often boilerplate
MOST_WORDS = 250  # of a body
BODY_JACCARD = 0.4  # of 3-word shingles
BODY_CONTAINED = 0.8  # of the shorter's: a text that was extended, or cut
UNLIKE_TITLES = 0.3  # below this share of common words the bodies must be more alike: forms filled in by a machine
UNLIKE_JACCARD = 0.5
TITLE_JACCARD = 0.75  # of 2-word shingles
TITLE_CONTAINED = 0.9
SHORT_TITLE = 5  # shingles; below it a title must be equal
EDIT_TITLES = 0.5  # share of common words from which two headlines under one id are versions of one
EDIT_JACCARD = 0.15  # of the texts, where both are long: an edit may change much
LONG_TITLE = 8  # shingles, from which one title may be contained in another: a cut retweet
TITLE_BANDS = (16, 4)  # bands and rows: likely to find a Jaccard index of .6 and more
BODY_BANDS = (32, 3)  # of .35 and more
SEED = 1
_RETWEET = re.compile(r"^rt @\w+:?\s*")
_WIRE = re.compile(
    r"^(?:\([a-z][\w .&-]{1,30}\)|(?:update|correct(?:ed|ion)|refile|exclusive|breaking)\s*\d*\s*[-:])\s*"
)
_NOT_WORD = re.compile(r"https?://\S+|[^\w$%]+")


class Shape(NamedTuple):
    """What two articles are compared by: hashes of shingles, each sorted and once."""

    key: str  # the title without case, punctuation, links, retweet and wire marks
    title: Hashes
    body: Hashes  # empty where the body is short


class Told(NamedTuple):
    """A story's first copy."""

    story_id: str
    first_seen_at: datetime
    shape: Shape


def title_key(title: str) -> str:
    plain = _WIRE.sub("", _RETWEET.sub("", title.casefold().strip()))
    return _NOT_WORD.sub(" ", plain).strip()


def shape_of(title: str, body: str) -> Shape:
    key = title_key(title)
    titles, bodies = words_of(key, body[: MOST_WORDS * 8])
    bodies = bodies[:MOST_WORDS]
    return Shape(key, runs_of(titles, 2), runs_of(bodies, 3) if len(bodies) >= LONG_BODY else NONE)


def same(one: Shape, other: Shape, apart: timedelta) -> str:
    """Why two articles first seen so far apart tell the same story; empty if they do not."""
    if apart > OPEN:
        return ""
    equal = one.key == other.key != ""
    if len(one.body) and len(other.body):
        jaccard, contained = alike(one.body, other.body)
        like = _common_words(one.key, other.key) >= UNLIKE_TITLES
        if jaccard >= (BODY_JACCARD if like else UNLIKE_JACCARD) or contained >= BODY_CONTAINED:
            return f"{jaccard:.0%} of the texts' word triples are shared, {contained:.0%} of the shorter's"
        return "equal titles within 12 h" if equal and apart <= EQUAL_TITLES else ""
    if equal:
        return "equal titles"
    least = min(len(one.title), len(other.title))
    if least < SHORT_TITLE:
        return ""
    jaccard, contained = alike(one.title, other.title)
    if jaccard >= TITLE_JACCARD or (contained >= TITLE_CONTAINED and least >= LONG_TITLE):
        return f"{jaccard:.0%} of the titles' word pairs are shared, {contained:.0%} of the shorter's"
    return ""


def is_edit(old: Draft, new: Draft) -> bool:
    """Whether another text under a known id is a version of the article, not another article under a repeated id."""
    one, other = shape_of(old.title, old.body), shape_of(new.title, new.body)
    if len(one.body) and len(other.body):
        jaccard, contained = alike(one.body, other.body)
        return jaccard >= EDIT_JACCARD or contained >= BODY_CONTAINED
    return bool(same(one, other, timedelta())) or _common_words(one.key, other.key) >= EDIT_TITLES


class StoryIndex:
    """The open stories, found by locality-sensitive hashing (Indyk & Motwani 1998) of MinHash sketches (Broder 1997).

    What it holds follows from the first copies in the store: after a restart it is the same.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._read()

    def store(
        self, drafts: Sequence[Draft], feed: Mapping[str, Any] | None = None, facts: Mapping[str, str] | None = None
    ) -> Stored:
        """Store articles with their stories (`store_articles`), one caller at a time."""
        with self._lock:
            try:
                return store_articles(self._store, drafts, self.story_of, feed, facts, is_edit)
            except BaseException:
                self._read()  # the transaction is gone, and with it the stories that it began
                raise

    def story_of(self, draft: Draft) -> str:
        """The story that an article belongs to: the oldest one that it matches, else its own, which it begins."""
        shape = shape_of(draft.title, draft.body)
        sketches = (_sketch(shape.title, TITLE_BANDS), _sketch(shape.body, BODY_BANDS))
        near = set(self._by_key.get(shape.key, ()))
        for index, sketch in zip(self._indices, sketches, strict=True):
            near.update(index.query(sketch) if sketch else ())
        for number in sorted(near):
            told = self._told[number]
            if same(shape, told.shape, draft.seen_at - told.first_seen_at):
                return told.story_id
        self._forget(draft.seen_at)
        self._last += 1
        self._told[self._last] = Told(draft.id, draft.seen_at, shape)
        self._by_key[shape.key].add(self._last)
        for index, sketch in zip(self._indices, sketches, strict=True):
            if sketch:
                index.insert(self._last, sketch)
        return draft.id

    def __len__(self) -> int:
        return len(self._told)

    def _read(self) -> None:
        self._last = 0
        self._told: dict[int, Told] = {}  # in the order in which they began
        self._by_key: defaultdict[str, set[int]] = defaultdict(set)
        self._indices = [RMinHashLSH(0.5, bands * rows, bands) for bands, rows in (TITLE_BANDS, BODY_BANDS)]
        for first in first_copies(self._store, OPEN):
            self.story_of(first)

    def _forget(self, now: datetime) -> None:
        """Stories that are closed: memory does not grow with time."""
        for number, told in list(islice(self._told.items(), 2)):
            if now - told.first_seen_at > OPEN:
                del self._told[number]
                self._by_key[told.shape.key].discard(number)
                if not self._by_key[told.shape.key]:
                    del self._by_key[told.shape.key]
                for index in self._indices:
                    index.remove(number)


def _common_words(one: str, other: str) -> float:
    """The share of the shorter's different words that stand in the other."""
    a, b = set(one.split()), set(other.split())
    return len(a & b) / max(min(len(a), len(b)), 1)


def _sketch(hashes: Hashes, bands: tuple[int, int]) -> RMinHash | None:
    if not len(hashes):
        return None
    sketch = RMinHash(bands[0] * bands[1], SEED)
    sketch.update(hashes.view("V8").tolist())
    return sketch

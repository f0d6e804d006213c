"""How labelled texts are taken for training, beyond what they say themselves. Both gained when tried: docs/model.md."""

import random
from collections.abc import Sequence

from classifier.data import Example, digest

HEADLINES = 4  # one headline in so many lends its one company's sentiment to the text
JOINED = 4  # one headline in so many gets another's company beside its own
LINKS = (" as ", " while ", ", but ", "; ")


def lent(example: Example) -> Example:
    """A headline's sentiment towards its one company is not quite the text's, as posts are labelled: it counts less."""
    kept = not example.entities or int(digest(example.text), 16) % HEADLINES == 0
    return example if kept else example._replace(sentiment=None)


def joined(examples: Sequence[Example], seed: int, every: int = JOINED) -> list[Example]:
    """Headlines about two companies made of two about one: good news for one may stand beside bad for the other."""
    rng = random.Random(seed)
    single = [example for example in examples if len(example.entities) == 1]
    return [_join(example, rng.choice(single), rng.choice(LINKS)) for example in single[::every]]


def _join(one: Example, other: Example, link: str) -> Example:
    ((start, end, label),) = other.entities
    moved = len(one.text) + len(link)
    return Example(f"{one.text}{link}{other.text}", entities=(*one.entities, (start + moved, end + moved, label)))

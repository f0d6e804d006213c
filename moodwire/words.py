"""What moved a score, as the classifier tells it and the pages show it."""

import msgspec


class Word(msgspec.Struct, frozen=True, gc=False):
    """A word of an article, and what it did."""

    text: str
    start: int  # character in `title + "\n" + body`
    end: int
    moved: float  # the score with the word, less the score without it: above 0, it made the news sound better


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Words by their place. Where the text is long only its beginning was looked at."""

    model: str
    score: float
    words: tuple[Word, ...]
    looked_at: int  # characters


def whole(title: str, body: str) -> str:
    """An article as the classifier reads it; places in a text are counted in this."""
    return f"{title}\n{body}" if body else title

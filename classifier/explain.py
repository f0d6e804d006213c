"""Which words moved a score: each is left out in turn, and the text is scored without it."""

import logging
import re
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from classifier.engine import Engine, Triple
from moodwire.errors import MoodwireError
from moodwire.stage import Context
from moodwire.store import schema
from moodwire.store.commands import Explain, Given, done, waiting
from moodwire.words import Explanation, Word

log = logging.getLogger(__name__)
STAGE = "classifier"
LOOK_S = 0.5
JOIN_S = 5.0
MOST_WORDS = 80  # of a text, from its beginning
LEAST = 0.005  # of a score: what moved it less is not told
_WORD = re.compile(r"[\w'’&-]*\w")


def run(context: Context, engine: Engine) -> None:
    """Until the stop: carry out what people ask to have explained."""
    while not context.stop.wait(LOOK_S):
        try:
            with context.store.read() as connection:
                given = waiting(connection, STAGE)
            for each in given:
                told = answer(context, engine, each)
                with context.store.write() as connection:
                    done(connection, each.seq, context.clock(), told)
        except MoodwireError as error:  # the store is away for a while: they wait
            log.warning("%s", error)


def answer(context: Context, engine: Engine, given: Given) -> str:
    """An Explanation as JSON, or in words why there is none."""
    command = given.command
    if not isinstance(command, Explain):
        return "this is not for the classifier"
    a = schema.articles.c
    query = sa.select(a.title, a.body).where(a.id == command.id, a.revision == command.revision)
    with context.store.read() as connection:
        row = connection.execute(query).first()
    if row is None:
        return "there is no such article"
    text = f"{row.title}\n{row.body}" if row.body else row.title
    return msgspec.json.encode(explain(engine, text)).decode()


def explain(engine: Engine, text: str) -> Explanation:
    """The words of the beginning that moved the whole text's score, in the order of the text."""
    places = [match.span() for match in _WORD.finditer(text)][:MOST_WORDS]
    variants = [text, *(text[:start] + text[end:] for start, end in places)]
    scores = [_score(found.sentiment) for found in engine.score(variants, [()] * len(variants))]
    whole, without = scores[0], scores[1:]
    looked_at = places[-1][1] if places else 0
    return Explanation(
        model=engine.model,
        score=whole,
        words=moved(text, places, whole, without),
        looked_at=looked_at,
    )


def moved(text: str, places: Sequence[tuple[int, int]], whole: float, without: Sequence[float]) -> tuple[Word, ...]:
    words = (
        Word(text[start:end], start, end, round(whole - score, 4))
        for (start, end), score in zip(places, without, strict=True)
    )
    return tuple(word for word in words if abs(word.moved) >= LEAST)


def _score(sentiment: Triple) -> float:
    return sentiment[2] - sentiment[0]

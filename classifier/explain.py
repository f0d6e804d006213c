"""Which words moved a score: each is left out in turn, and the text is scored without it."""

import re
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from classifier.engine import Engine
from moodwire.records import Sentiment
from moodwire.stage import Context
from moodwire.store import schema
from moodwire.store.commands import Explain, Given, done, obey
from moodwire.words import Explanation, Word, whole

STAGE = "classifier"
MOST_WORDS = 80  # of a text, from its beginning
LEAST = 0.005  # of a score: what moved it less is not told
_WORD = re.compile(r"[\w'’&-]*\w")


def run(context: Context, engine: Engine) -> None:
    """Until the stop: carry out what people ask to have explained."""

    def carry_out(each: Given) -> None:
        told = answer(context, engine, each)
        with context.store.write() as connection:
            done(connection, each.seq, context.clock(), told)

    obey(context.store, STAGE, context.stop, carry_out)


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
    return msgspec.json.encode(explain(engine, whole(row.title, row.body))).decode()


def explain(engine: Engine, text: str) -> Explanation:
    """The words of the beginning that moved the whole text's score, in the order of the text."""
    places = [match.span() for match in _WORD.finditer(text)][:MOST_WORDS]
    variants = [text, *(text[:start] + text[end:] for start, end in places)]
    scores = [Sentiment(*found.sentiment).score for found in engine.score(variants, [()] * len(variants))]
    score, without = scores[0], scores[1:]
    looked_at = places[-1][1] if places else 0
    return Explanation(
        model=engine.model,
        score=score,
        words=moved(text, places, score, without),
        looked_at=looked_at,
    )


def moved(text: str, places: Sequence[tuple[int, int]], of_all: float, without: Sequence[float]) -> tuple[Word, ...]:
    words = (
        Word(text[start:end], start, end, round(of_all - score, 4))
        for (start, end), score in zip(places, without, strict=True)
    )
    return tuple(word for word in words if abs(word.moved) >= LEAST)

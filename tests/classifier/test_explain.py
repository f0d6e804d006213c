"""Which words moved a score."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier import explain
from classifier.engine import Scores, Span
from moodwire.store.articles import Draft, store_articles
from moodwire.store.commands import Explain, give, progress
from moodwire.words import Explanation
from tests.helpers import T0, context

WORTH = {"crash": -0.5, "fraud": -0.2, "wins": 0.4}


class Words:
    """An engine of which it is known what each word does."""

    model = "words@1"

    def score(self, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> list[Scores]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Scores:
        score = sum(WORTH.get(word.lower().strip(".,"), 0.0) for word in text.split())
        return Scores((max(-score, 0.0), 1 - abs(score), max(score, 0.0)), (), (), ())


def test_each_word_is_told_with_what_it_does() -> None:
    text = "Bank wins, then crash\nFraud was found."
    found = explain.explain(Words(), text)
    assert [(word.text, word.moved) for word in found.words] == [
        ("wins", pytest.approx(0.4)),
        ("crash", pytest.approx(-0.5)),
        ("Fraud", pytest.approx(-0.2)),
    ]
    assert all(text[word.start : word.end] == word.text for word in found.words)
    assert found.score == pytest.approx(-0.3)


@given(st.text(max_size=400))
def test_any_text_has_an_explanation(text: str) -> None:
    found = explain.explain(Words(), text)
    assert found.looked_at <= len(text)
    assert all(text[word.start : word.end] == word.text and word.end <= found.looked_at for word in found.words)


def test_a_long_text_is_looked_at_from_its_beginning() -> None:
    found = explain.explain(Words(), "dull " * explain.MOST_WORDS + "crash")
    assert (found.words, found.looked_at) == ((), 5 * explain.MOST_WORDS - 1)


def test_the_stage_carries_it_out_while_it_works(tmp_path: Path) -> None:
    c = context(tmp_path, clock=lambda: datetime.now(UTC))
    store_articles(c.store, [Draft("a", "s", "", "Bank wins", "", "en", T0, T0)], lambda new: new.id)
    good = give(c.store, "classifier", Explain(id="a", revision=1), "ada", T0)
    gone = give(c.store, "classifier", Explain(id="b", revision=1), "ada", T0)
    thread = threading.Thread(target=explain.run, args=(c, Words()))
    thread.start()
    while not (progress(c.store, good)[0] and progress(c.store, gone)[0]):
        assert thread.is_alive()
        c.stop.wait(0.05)
    c.stop.set()
    thread.join(10)
    assert not thread.is_alive()
    (word,) = msgspec.json.decode(progress(c.store, good)[1], type=Explanation).words
    assert (word.text, word.moved) == ("wins", pytest.approx(0.4))
    assert progress(c.store, gone)[1] == "there is no such article"

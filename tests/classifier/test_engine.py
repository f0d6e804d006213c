"""What every engine promises (the first half), and what the shipped weights know (the second)."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifier.engine import Engine, Scores, Span, open_engine
from classifier.entities import SHOWN
from classifier.labels import SENTIMENTS, TOPICS
from moodwire.errors import ModelError

TEXTS = [
    "Acme shares plunge after profit warning",
    "Acme posts record profit, raises outlook",
    "Fed holds rates steady",
    "Gold",
    "The board of Acme meets on Tuesday to discuss the agenda of the annual general meeting in May. " * 4,
]
WEIRD = {
    "empty": "",
    "blank": " \n\t ",
    "url": "https://example.com/a?b=c",
    "control": "\x00\x01\x1f\x7f",
    "surrogate": "\ud800 half a pair \udfff",
    "emoji": "\U0001f680" * 300,
    "right to left": "\u0627\u0644\u0623\u0633\u0647\u0645 " * 50,
    "one word of a megabyte": "x" * 1_000_000,
    "words of a megabyte": "fall " * 200_000,
    "entities": "&amp;" * 2000,
}


@pytest.fixture(scope="module", params=["dummy", "openvino", "torch"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return open_engine(request.param, threads=2)


@pytest.fixture(scope="module")
def shipped() -> Engine:
    return open_engine("openvino", threads=2)


def check(scores: Scores, spans: int) -> None:
    assert len(scores.topics) == len(TOPICS)
    assert len(scores.entities) == len(scores.names) == spans
    assert all(0 <= p <= 1 for p in scores.names)
    for p in (scores.sentiment, scores.topics, *scores.entities):
        assert sum(p) == pytest.approx(1, abs=1e-4)
        assert min(p) >= 0


def apart(a: Scores, b: Scores) -> float:
    """The largest difference of two probabilities."""
    left, right = ([*s.sentiment, *s.topics, *s.names, *(p for triple in s.entities for p in triple)] for s in (a, b))
    return float(np.abs(np.subtract(left, right)).max())


def test_order_and_batch_do_not_matter(engine: Engine) -> None:
    texts = [f"{text} {n}" for n in range(20) for text in TEXTS]
    spans: list[list[Span]] = [[(0, 4)] if n % 2 else [] for n in range(len(texts))]
    together = engine.score(texts, spans)
    order = list(range(len(texts)))
    random.Random(3).shuffle(order)
    shuffled = engine.score([texts[i] for i in order], [spans[i] for i in order])
    for place, i in enumerate(order):
        assert apart(shuffled[place], together[i]) < 0.01
    for i in range(5):
        (alone,) = engine.score([texts[i]], [spans[i]])
        assert apart(alone, together[i]) < 0.01
    assert len(set(together)) > 1


def test_repeats_have_equal_scores(engine: Engine) -> None:
    first, other, again = engine.score([TEXTS[0], TEXTS[1], TEXTS[0]], [[(0, 4)], [], [(0, 4)]])
    assert first == again
    assert first != other


def test_nothing_asked(engine: Engine) -> None:
    assert engine.score([], []) == []


def test_texts_and_spans_must_match(engine: Engine) -> None:
    with pytest.raises(ValueError, match="shorter"):
        engine.score(["a", "b"], [[]])


@pytest.mark.parametrize("text", WEIRD.values(), ids=WEIRD)
def test_weird_texts_have_scores(engine: Engine, text: str) -> None:
    spans = [(0, len(text)), (5, 2), (-1, -1), (10**6, 10**7), (0, 0)]
    (scores,) = engine.score([text], [spans])
    check(scores, len(spans))
    assert engine.score([text], [spans]) == [scores]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=()), max_size=60),
            st.lists(st.tuples(st.integers(-2, 70), st.integers(-2, 70)), max_size=3),
        ),
        max_size=6,
    )
)
def test_any_text_and_span(engine: Engine, asked: Sequence[tuple[str, list[Span]]]) -> None:
    results = engine.score([text for text, _ in asked], [spans for _, spans in asked])
    assert len(results) == len(asked)
    for scores, (_, spans) in zip(results, asked, strict=True):
        check(scores, len(spans))


def test_model_says_name_version_and_checksum(engine: Engine) -> None:
    name, _, rest = engine.model.partition("@")
    version, _, checksum = rest.partition("+")
    assert name
    assert version
    assert len(checksum) == 8


def test_dummy_is_the_same_in_every_process() -> None:
    (scores,) = open_engine("dummy").score(["Acme falls"], [[]])
    assert scores.sentiment == (0.05, 0.15, 0.8)
    assert TOPICS[int(np.argmax(scores.topics))] == "product-news"


def test_unknown_engine() -> None:
    with pytest.raises(ModelError, match="abacus"):
        open_engine("abacus")


@pytest.mark.parametrize(
    ("text", "sentiment"),
    [
        ("Retailer cuts full-year forecast as sales slump; shares tumble 18%", "negative"),
        ("Bank fined $400 million over money laundering failures", "negative"),
        ("Chipmaker files for bankruptcy after losing its largest customer", "negative"),
        ("Airline downgraded to sell as fuel costs soar", "negative"),
        ("Drugmaker's quarterly profit beats estimates, raises dividend", "positive"),
        ("Shares of the carmaker surge to a record high after strong deliveries", "positive"),
        ("Analysts upgrade the retailer to buy on accelerating growth", "positive"),
        ("Company to present at an investor conference on Thursday", "neutral"),
        ("Board meeting scheduled for 14 March", "neutral"),
        # Negated: the words alone point the other way.
        ("Company fails to beat estimates", "negative"),
        ("Quarter was not profitable, company says", "negative"),
    ],
)
def test_sentiment_of_plain_news(shipped: Engine, text: str, sentiment: str) -> None:
    (scores,) = shipped.score([text], [[]])
    assert SENTIMENTS[int(np.argmax(scores.sentiment))] == sentiment


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("Powell says the Fed is ready to raise interest rates by half a point", "central-banks"),
        ("Brent crude climbs as OPEC+ agrees to cut output", "energy"),
        ("Company declares quarterly dividend of $0.35 per share", "dividend"),
        ("Chief executive steps down; finance chief named as successor", "personnel"),
    ],
)
def test_topic_of_plain_news(shipped: Engine, text: str, topic: str) -> None:
    (scores,) = shipped.score([text], [[]])
    assert TOPICS[int(np.argmax(scores.topics))] == topic


@pytest.mark.parametrize(
    ("text", "falls", "rises"),
    [
        ("Infosys gains 4% while Wipro slumps to a one-year low", "Wipro", "Infosys"),
        ("Tata Steel rises 3% on higher prices; JSW drops 5% after weak results", "JSW", "Tata Steel"),
    ],
)
def test_two_companies_of_opposite_fortune(shipped: Engine, text: str, falls: str, rises: str) -> None:
    spans = [(text.index(name), text.index(name) + len(name)) for name in (falls, rises)]
    (scores,) = shipped.score([text], [spans])
    down, up = scores.entities
    assert int(np.argmax(down)) == 0
    assert int(np.argmax(up)) == 2


@pytest.mark.parametrize(
    ("text", "name", "named"),
    [
        ("Target recalls toys after complaints", "Target", True),
        ("Broker raises its price Target to $64", "Target", False),
        ("Visa profit beats estimates on travel", "Visa", True),
        ("Total revenues were $114 billion in the quarter", "Total", False),
        ("What comes Next for the bond market", "Next", False),
    ],
)
def test_a_word_is_told_from_a_name(shipped: Engine, text: str, name: str, named: bool) -> None:
    start = text.index(name)
    (scores,) = shipped.score([text], [[(start, start + len(name))]])
    assert (scores.names[0] >= SHOWN) == named


def test_a_company_deep_in_an_article_has_its_own_sentiment(shipped: Engine) -> None:
    text = "Markets were calm on Monday. " * 40 + "Infosys gains 4% while Wipro slumps to a one-year low"
    spans = [(text.index(name), text.index(name) + len(name)) for name in ("Wipro", "Infosys")]
    (scores,) = shipped.score([text], [spans])
    down, up = scores.entities
    assert down[0] > 0.5 > up[0]


def test_the_headline_weighs_half(shipped: Engine) -> None:
    calm = "The company held its annual meeting in its usual place and on its usual day. " * 20
    bad, good = "Acme shares plunge as profit collapses", "Acme shares surge as profit soars"
    worse, better = shipped.score([f"{bad}\n{calm}", f"{good}\n{calm}"], [[], []])
    assert worse.sentiment[0] > better.sentiment[0]
    assert better.sentiment[2] > worse.sentiment[2]

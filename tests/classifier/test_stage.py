"""Which of the companies that may be named a scored article has."""

from collections.abc import Sequence

from classifier.engine import Scores, Span
from classifier.entities import BARE, SHOWN, Watchlist
from classifier.stage import score_articles
from moodwire.records import Article, Scored
from moodwire.settings import Company
from moodwire.stage import Taken
from moodwire.stream.log import Message
from tests.helpers import T0, after

WATCHLIST = Watchlist(
    [Company(symbol="AAPL", words=("Apple",)), Company(symbol="TGT", words=("Target",)), Company(symbol="UBER")]
)
FALLING, FLAT = (0.9, 0.05, 0.05), (0.1, 0.8, 0.1)


class Fixed:
    """Falling towards each company, flat of the text; every span is a name with the same probability."""

    model = "fixed@1+00000000"

    def __init__(self, p_name: float) -> None:
        self._p_name = p_name

    def score(self, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> list[Scores]:
        return [
            Scores(FLAT, (1.0, *[0.0] * 19), (FALLING,) * len(asked), (self._p_name,) * len(asked)) for asked in spans
        ]


def scored(title: str, p_name: float, tickers: tuple[str, ...] = ()) -> Scored:
    article = Article(id="a", source="s", title=title, published_at=T0, seen_at=after(1), story_id="a", tickers=tickers)
    (found,) = score_articles(Fixed(p_name), WATCHLIST, {}, 0.5, [Taken(Message(0, 7, "a", b""), article)], T0)
    return found


def symbols(title: str, p_name: float, tickers: tuple[str, ...] = ()) -> set[str]:
    found = scored(title, p_name, tickers)
    named = {entity.symbol for entity in found.entities}
    assert {series.name.removeprefix("entity:") for series in found.series} - {"all", "topic:analyst-update"} == named
    return named


def test_what_the_text_shows_counts_unless_the_model_sees_no_name() -> None:
    assert symbols("Target recalls toys", SHOWN) == {"TGT"}
    assert symbols("Target recalls toys", SHOWN - 0.01) == set()


def test_a_bare_word_counts_where_the_model_sees_a_name() -> None:
    assert symbols("Apple a day", BARE) == {"AAPL"}
    assert symbols("Apple a day", BARE - 0.01) == set()


def test_what_is_sure_counts_whatever_the_model_sees() -> None:
    assert symbols("Apple and $UBER: a day for Apple Inc", 0.0, ("TGT",)) == {"AAPL", "UBER", "TGT"}


def test_each_company_keeps_its_own_sentiment_when_another_is_left_out() -> None:
    found = scored("Gap for Apple, $UBER falls", 0.0, ("TGT",))
    towards = {entity.symbol: entity.sentiment.label for entity in found.entities}
    assert towards == {"UBER": "negative", "TGT": "neutral"}, "of a company that only the source names: the text's"

"""Which companies are found in a text, and where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.entities import BARE, HEADLINE, LEAD, LEAD_CHARS, PASSING, SHOWN, SURE, Mention, Watchlist
from moodwire.settings import Company

COMPANIES = [
    ("AAPL", ("Apple", "Apple Inc"), ("tech",)),
    ("UBER", ("Uber",), ()),
    ("C", ("Citigroup",), ("banks",)),
    ("ALL", ("Allstate",), ()),
    ("IT", ("Gartner",), ()),
    ("COST", ("Costco",), ()),
    ("TGT", ("Target",), ()),
    ("BAC", ("Bank of America",), ("banks",)),
    ("BK", ("Bank of New York",), ("banks",)),
    ("BRK-B", ("Berkshire Hathaway",), ()),
    ("MSFT", ("Microsoft",), ("tech",)),
    ("PRE", ("America Press",), ()),
]
WATCHLIST = Watchlist([Company(symbol=symbol, names=names, groups=groups) for symbol, names, groups in COMPANIES])
SYMBOLS = {symbol for symbol, _, _ in COMPANIES}


def found(title: str, body: str = "") -> list[tuple[str, str]]:
    return [(mention.symbol, mention.surface) for mention in WATCHLIST.find(title, body) if mention.least < BARE]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Apple beats estimates", [("AAPL", "Apple")]),
        ("APPLE BEATS ESTIMATES", [("AAPL", "APPLE")]),
        ("Apple's suppliers fall", [("AAPL", "Apple")]),
        ("Apple\u2019s suppliers fall", [("AAPL", "Apple")]),
        ("Microsoft sues Apple", [("MSFT", "Microsoft"), ("AAPL", "Apple")]),
        ("shares of Apple Inc. rise", [("AAPL", "Apple Inc")]),
        ("Bank of America and Bank of New York", [("BAC", "Bank of America"), ("BK", "Bank of New York")]),
        ("Bank of America Press", [("BAC", "Bank of America")]),
        ("Apple Incubator opens", [("AAPL", "Apple")]),
        ("Uber cuts jobs, UBER up", [("UBER", "Uber")]),
        ("Why UBER is up", [("UBER", "UBER")]),
        ("$AAPL up, $msft too", [("AAPL", "$AAPL"), ("MSFT", "$msft")]),
        ("Time to sell $AAPL.", [("AAPL", "$AAPL")]),
        ("$AAPL-led rally; ($ALL)", [("AAPL", "$AAPL"), ("ALL", "$ALL")]),
        ("Long $BRK.B and $brk-b", [("BRK-B", "$BRK.B")]),
        ("Citi (NYSE: C) falls", [("C", "C")]),
        ("Citi <C.N> and the maker of phones (AAPL.O)", [("C", "C"), ("AAPL", "AAPL")]),
        ("Insurer (NYSE:ALL) rises", [("ALL", "ALL")]),
    ],
)
def test_named(title: str, expected: list[tuple[str, str]]) -> None:
    assert found(title) == expected


@pytest.mark.parametrize(
    "title",
    [
        "An apple a day",
        "Apple pie recipe",
        "Apples rot",
        "Pineapple prices",
        "@Apple #Apple",
        "ALL of IT at COST",
        "IT spending grows, COST falls",
        "Vitamin C",
        "(C) 2014 News Agency",
        "(C) Copyright, (IT) and (ALL)",
        "we target growth",
        "Target price raised to 40",
        "an uber driver",
        "US$C and A$AAPL",
        "aapl in small letters",
        "$AAPLX and $MS",
        "",
    ],
)
def test_not_named(title: str) -> None:
    assert found(title) == []


def test_relevance_by_place() -> None:
    body = "Apple rose. " + "x" * LEAD_CHARS + " Microsoft fell."
    first, second, third = WATCHLIST.find("Costco opens", body)
    assert (first.symbol, first.relevance) == ("COST", HEADLINE)
    assert (second.symbol, second.relevance) == ("AAPL", LEAD)
    assert (third.symbol, third.relevance) == ("MSFT", PASSING)
    text = "Costco opens\n" + body
    assert [text[m.start : m.end] for m in (first, second, third)] == ["Costco", "Apple", "Microsoft"]


def test_first_mention_stands_for_the_company() -> None:
    (mention,) = WATCHLIST.find("Apple, $AAPL and Apple Inc")
    assert mention == Mention("AAPL", "Apple", 0, 5, HEADLINE, SURE)


def test_tickers_of_the_source_count() -> None:
    assert WATCHLIST.find("It rises", tickers=("C", "XYZ")) == [Mention("C", "$C", -1, -1, HEADLINE, SURE)]
    far = "x " * LEAD_CHARS + "Apple"
    (mention,) = WATCHLIST.find("Phones", far, ("AAPL",))
    assert (mention.surface, mention.relevance) == ("Apple", HEADLINE)


def test_offsets_hold_after_letters_that_grow_when_lowered() -> None:
    (mention,) = WATCHLIST.find("\u0130\u0130\u0130 and Apple")
    assert (mention.start, mention.end) == (8, 13)


def test_empty_watchlist() -> None:
    assert Watchlist([]).find("Apple", "$AAPL", ("AAPL",)) == []


WORDS = Watchlist(
    [
        Company(symbol="AAPL", words=("Apple",)),
        Company(symbol="TGT", words=("Target",)),
        Company(symbol="GPS", words=("Gap",)),
        Company(symbol="M&M.NS", names=("Mahindra & Mahindra", "M&M")),
        Company(symbol="ITC.NS", names=("ITC Ltd",), words=("ITC",)),
        Company(symbol="HUL.NS", names=("HUL", "Hindustan Unilever")),
        Company(symbol="USB", names=("U.S. Bank",)),
        Company(symbol="BOI.NS", names=("Bank of India",)),
        Company(symbol="NESN.SW", names=("Nestle",)),
    ],
    others=[Company(symbol="APLE", names=("Apple Hospitality",))],
)


@pytest.mark.parametrize(
    ("title", "symbols"),
    [
        ("Apple Inc beats estimates", ["AAPL"]),
        ("Apple's suppliers fall", ["AAPL"]),
        ("Shares of Target fall", ["TGT"]),
        ("Target recalls toys", ["TGT"]),
        ("both Nestle and Apple will report", ["NESN.SW", "AAPL"]),
        ("Sales growth of companies like HUL, ITC and others halves", ["HUL.NS", "ITC.NS"]),
        ("ITC, HUL among top picks", ["ITC.NS", "HUL.NS"]),
        ("$AAPL up as Apple grows", ["AAPL"]),
        ("M&M rises, Mahindra & Mahindra Ltd. says", ["M&M.NS"]),
        ("Bank of India cuts rates", ["BOI.NS"]),
        ("Chocolate (NESN.S) and <NESN.SW>", ["NESN.SW"]),
        ("a rise in Gap shares", ["GPS"]),
    ],
)
def test_a_word_names_a_company_where_the_text_shows_it(title: str, symbols: list[str]) -> None:
    assert [mention.symbol for mention in WORDS.find(title) if mention.least < BARE] == symbols


@pytest.mark.parametrize(
    "title",
    [
        "Apple a day",
        "Apple Hospitality cuts its dividend",
        "the bright orchards of Apple Valley",
        "Target price of 40",
        "Gap up at the open",
        "M and M rises",
        "the largest U.S. bank by assets",
        "Reserve Bank of India cuts rates",
        "Nestle Foundation gives grants",
        "(NESN.N) and index <.AAPL>",
        "AAPL.AAPL",
    ],
)
def test_a_word_or_a_part_of_another_name_is_no_company(title: str) -> None:
    assert all(mention.least == BARE for mention in WORDS.find(title))


@pytest.mark.parametrize(
    ("title", "least"),
    [
        ("Nestle and $AAPL", SURE),
        ("Target Corp opens stores", SURE),
        ("Target recalls toys", SHOWN),
        ("Apple a day", BARE),
        ("Gap, Target recalls toys", SHOWN),  # beside one that is shown
    ],
)
def test_how_sure_the_model_has_to_be_of_a_name(title: str, least: float) -> None:
    assert {mention.least for mention in WORDS.find(title)} == {least}


def test_what_follows_can_make_it_another_thing_whatever_the_model_says() -> None:
    assert WORDS.find("Target price of 40") == []


def test_the_mention_that_is_likeliest_stands_for_the_company() -> None:
    (mention,) = WORDS.find("Gap week", "Shares of Gap fall")
    assert (mention.start, mention.relevance, mention.least) == (19, LEAD, SHOWN)


def test_of_two_companies_of_one_name_the_first_is_meant() -> None:
    twice = Watchlist([Company(symbol="KGF.L", names=("Kingfisher",)), Company(symbol="KFA.NS", names=("Kingfisher",))])
    assert [mention.symbol for mention in twice.find("Kingfisher opens stores")] == ["KGF.L"]
    assert [mention.symbol for mention in twice.find("Kingfisher ($KFA) grounded")] == ["KFA.NS"]


PARTS = st.sampled_from(
    [
        "Apple",
        "Apple Inc",
        "apple",
        "$AAPL",
        "Bank of America",
        "ALL",
        "(NYSE: C)",
        "<C.N>",
        "\u0130",
        "'s",
        "\n",
        " ",
        "x",
    ]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(PARTS, max_size=12).map("".join))


@given(TEXTS, TEXTS)
def test_mentions_lie_where_they_say(title: str, body: str) -> None:
    text = f"{title}\n{body}" if body else title
    mentions = WATCHLIST.find(title, body)
    assert len({mention.symbol for mention in mentions}) == len(mentions)
    assert sorted(mentions, key=lambda mention: mention.start) == mentions
    for mention in mentions:
        assert mention.symbol in SYMBOLS
        assert text[mention.start : mention.end] == mention.surface
        in_title = mention.start < len(title)
        assert (mention.relevance == HEADLINE) == in_title


@given(TEXTS)
def test_a_name_among_spaces_is_always_found(text: str) -> None:
    assert "MSFT" in {mention.symbol for mention in WATCHLIST.find(f"{text} Microsoft rose")}

"""Companies of the watchlist in a text. Precision first: a wrong company in an alarm is worse than a missed one."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import ahocorasick

HEADLINE, LEAD, PASSING = 1.0, 0.6, 0.3
LEAD_CHARS = 300
_CASHTAG = re.compile(r"\$([A-Za-z][A-Za-z0-9.\-]{0,9})")
_BRACKETED = re.compile(r"[(<\[](?:[A-Z][A-Za-z ]{1,12}:\s*)?([A-Z][A-Z0-9\-]{0,9})(?:\.[A-Z]{1,3})?[)>\]]")
_WORD = re.compile(r"\w")
# Capitals that are words, units or other things more often than a company.
_NO_TICKER = frozenset(
    [
        "A",
        "ALL",
        "AN",
        "ARE",
        "AS",
        "AT",
        "BE",
        "BIG",
        "BY",
        "CAN",
        "CASH",
        "CAT",
        "CEO",
        "CFO",
        "COST",
        "CPI",
        "DD",
        "DOW",
        "ETF",
        "EU",
        "FOR",
        "FUN",
        "FX",
        "GDP",
        "GE",
        "GO",
        "HAS",
        "HE",
        "HER",
        "IPO",
        "IT",
        "KEY",
        "LOVE",
        "LOW",
        "MA",
        "MAN",
        "ME",
        "MO",
        "MY",
        "NEW",
        "NEXT",
        "NICE",
        "NO",
        "NOW",
        "NYSE",
        "OF",
        "ON",
        "ONE",
        "OPEN",
        "OR",
        "OUT",
        "PAY",
        "PE",
        "PLAY",
        "PM",
        "REAL",
        "SEC",
        "SEE",
        "SHE",
        "SO",
        "SUN",
        "TALK",
        "TECH",
        "THE",
        "TO",
        "TV",
        "UK",
        "UN",
        "UP",
        "US",
        "USA",
        "USD",
        "V",
        "VERY",
        "WELL",
        "YOU",
    ]
)


class Mention(NamedTuple):
    symbol: str
    surface: str
    start: int  # characters in `title + "\\n" + body`; -1 when only the source names the company
    end: int
    relevance: float


class Watchlist:
    """companies: (symbol, names, groups) of each."""

    def __init__(self, companies: Sequence[tuple[str, Sequence[str], Sequence[str]]]) -> None:
        self._symbols = {symbol for symbol, _, _ in companies}
        self._names = ahocorasick.Automaton()
        for symbol, names, _ in companies:
            for name in names:
                if name:
                    self._names.add_word(name.lower(), (symbol, name))
            if len(symbol) >= 3 and symbol not in _NO_TICKER and not any(c in symbol for c in ".-"):
                self._names.add_word(symbol.lower(), (symbol, symbol))
        if len(self._names):
            self._names.make_automaton()

    def find(self, title: str, body: str = "", tickers: Sequence[str] = ()) -> list[Mention]:
        """A mention for each company found: the first of highest relevance. `tickers` count as cashtags."""
        text = f"{title}\n{body}" if body else title
        best: dict[str, Mention] = {}

        def note(symbol: str, start: int, end: int) -> None:
            if symbol not in best:
                best[symbol] = Mention(symbol, text[start:end], start, end, _relevance(start, len(title)))

        places = [(m.start(), m.end(), m.group(1).upper()) for m in _CASHTAG.finditer(text)] if "$" in text else []
        places += [(m.start(1), m.end(1), m.group(1)) for m in _BRACKETED.finditer(text)]
        places = [place for place in places if place[2] in self._symbols]
        places += self._named(text)
        for start, end, symbol in sorted(places):
            note(symbol, start, end)
        for symbol in tickers:
            if symbol in self._symbols and symbol not in best:
                best[symbol] = Mention(symbol, f"${symbol}", -1, -1, HEADLINE)
        return list(best.values())

    def _named(self, text: str) -> list[tuple[int, int, str]]:
        if not len(self._names):
            return []
        lowered = text.lower()
        if len(lowered) != len(text):  # a letter whose small form is longer: offsets would shift
            lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
        hits = []
        for last, (symbol, name) in self._names.iter_long(lowered):
            start, end = last + 1 - len(name), last + 1
            if _bounded(text, start, end) and _written_as(text[start:end], name, symbol):
                hits.append((start, end, symbol))
        return hits


def _bounded(text: str, start: int, end: int) -> bool:
    """Whether the span is a word of its own; a possessive 's may follow."""
    before = text[start - 1] if start else " "
    after = text[end] if end < len(text) else " "
    return not _WORD.match(before) and before not in "@#/" and not _WORD.match(after)


def _written_as(surface: str, name: str, symbol: str) -> bool:
    """Whether the surface form is the company's and not a plain word of the same letters."""
    if name == symbol:
        return surface == symbol  # a bare ticker stands in capitals
    return not surface[:1].islower() or name[:1].islower()  # apple is a fruit


def _relevance(start: int, title_chars: int) -> float:
    if start < title_chars:
        return HEADLINE
    return LEAD if start < title_chars + LEAD_CHARS else PASSING

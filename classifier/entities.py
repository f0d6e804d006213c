"""Companies of the watchlist in a text. Precision first: a wrong company in an alarm is worse than a missed one."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import ahocorasick

HEADLINE, LEAD, PASSING = 1.0, 0.6, 0.3
LEAD_CHARS = 300
_CASHTAG = re.compile(r"(?<![\w$])\$([A-Za-z][A-Za-z0-9]{0,9})(?:[.\-]([A-Za-z]{1,2})(?![\w]))?")
# Of an exchange, as (NYSE: C), or a Reuters code, as <C.N> and (AAPL.O).
_EXCHANGES = "NYSE(?: American| Arca)?|N(?:asdaq|ASDAQ)(?:[ -]?[A-Z]{2})?|AMEX|OTC[A-Z]*|LSE|LON|TSX|ASX|HKEX|NSE|BSE"
_LISTED = re.compile(rf"[(\[](?:{_EXCHANGES})\s?:\s?\$?([A-Z][A-Z0-9]{{0,9}}(?:[.\-][A-Z]{{1,2}})?)[)\];,]")
_REUTERS = re.compile(r"[(<\[]([A-Z][A-Z0-9]{0,9})\.[A-Z]{1,3}[)>\]]")
_WORD = re.compile(r"\w")
# Capitals that are words, units or other things more often than a company. Shorter ones than three letters never count.
# fmt: off
_NO_TICKER = frozenset((
    "ACT", "ALL", "AND", "ANY", "ARE", "ARM", "BALL", "BEST", "BIG", "BIT", "BOX", "BUY", "CAN", "CAR", "CARE", "CASH",
    "CAT", "CEO", "CFO", "COO", "COST", "CPI", "CUT", "DAY", "DEAL", "DISH", "DOW", "EAT", "ECB", "EDIT", "EPS", "ETF",
    "EUR", "EVER", "FAST", "FDA", "FIVE", "FOR", "FUN", "GAP", "GAS", "GBP", "GDP", "GOLD", "GOOD", "GROW", "HAS",
    "HER", "HOPE", "HOT", "ICE", "IMF", "INFO", "IPO", "JPY", "KEY", "KEYS", "LIFE", "LINE", "LOVE", "LOW", "MAN",
    "MAR", "MET", "NET", "NEW", "NEWS", "NEXT", "NICE", "NOT", "NOW", "NYSE", "OIL", "ONE", "OPEC", "OPEN", "OUT",
    "PAY", "PEAK", "PLAY", "PLUS", "POOL", "POST", "PUMP", "REAL", "RUN", "SAFE", "SAVE", "SEC", "SEE", "SHE", "SHOP",
    "SITE", "SKY", "SNAP", "SNOW", "SON", "STAY", "SUN", "TALK", "TAP", "TEAM", "TECH", "TEN", "THE", "TOP", "TRUE",
    "TWO", "USA", "USD", "VERY", "WELL", "WIN", "WORK", "YOU",
))
# After a company's name that is a word too: what makes it the word.
_WORD_AFTER = {
    "apple": ("pie", "juice", "cider", "orchard", "orchards", "tree", "trees", "harvest", "growers"),
    "target": ("price", "prices", "date", "range", "rate"),
    "gap": ("up", "down", "higher", "lower", "between", "in"),
    "visa": ("ban", "bans", "application", "applications", "requirements", "rules", "holders", "waiver", "free"),
    "shell": ("company", "companies", "firm", "firms"),
}
# fmt: on


class Mention(NamedTuple):
    """A company and where the text names it."""

    symbol: str
    surface: str
    start: int  # characters in `title + "\\n" + body`; -1 when only the source names the company
    end: int
    relevance: float  # HEADLINE, LEAD or PASSING


class Watchlist:
    """The companies to look for: (symbol, names, groups) of each."""

    def __init__(self, companies: Sequence[tuple[str, Sequence[str], Sequence[str]]]) -> None:
        self._symbols = {symbol for symbol, _, _ in companies}
        forms: dict[str, list[tuple[str, str]]] = {}  # lower-case: (symbol, as it is written); Uber has UBER too
        for symbol, names, _ in companies:
            written = [name for name in names if name.strip()]
            if len(symbol) >= 3 and symbol.isalpha() and symbol not in _NO_TICKER:
                written.append(symbol)
            for name in written:
                forms.setdefault(_lower(name), []).append((symbol, name))
        self._names = ahocorasick.Automaton()
        for form, owners in forms.items():
            self._names.add_word(form, (len(form), owners))
        if forms:
            self._names.make_automaton()

    def find(self, title: str, body: str = "", tickers: Sequence[str] = ()) -> list[Mention]:
        """A mention for each company found, the first of its highest relevance; `tickers` count as cashtags.

        In the order in which the text names them, those that only `tickers` names last.
        """
        text = f"{title}\n{body}" if body else title
        places = self._named(text)
        if "$" in text:
            for tag in _CASHTAG.finditer(text):
                root, share = tag.group(1).upper(), (tag.group(2) or "").upper()
                if share and f"{root}-{share}" in self._symbols:
                    places.append((tag.start(), tag.end(), f"{root}-{share}"))
                elif root in self._symbols:
                    places.append((tag.start(), tag.end(1), root))
        if "(" in text or "<" in text or "[" in text:
            for pattern in (_LISTED, _REUTERS):
                for code in pattern.finditer(text):
                    symbol = code.group(1).replace(".", "-")
                    if symbol in self._symbols:
                        places.append((code.start(1), code.end(1), symbol))
        places.sort()
        found: dict[str, Mention] = {}
        for start, end, symbol in places:
            if symbol not in found:
                found[symbol] = Mention(symbol, text[start:end], start, end, _relevance(start, len(title)))
        for ticker in tickers:
            symbol = ticker.removeprefix("$").upper()
            if symbol in self._symbols and (symbol not in found or found[symbol].relevance < HEADLINE):
                found[symbol] = _raised(found.get(symbol), symbol)
        return list(found.values())

    def _named(self, text: str) -> list[tuple[int, int, str]]:
        """Start, end and symbol of the names and bare tickers in the text; of overlapping ones the first, then longest.

        A name that two companies have counts for the first of them.
        """
        if not len(self._names):
            return []
        shouted = text.isupper()
        hits: list[tuple[int, int, str]] = []
        for last, (length, owners) in self._names.iter(_lower(text)):
            end = last + 1
            start = end - length
            if not _bounded(text, start, end):
                continue
            surface = text[start:end]
            owner = next((symbol for symbol, name in owners if _written_as(surface, name, symbol, shouted)), None)
            if owner is None or _is_word(text, surface, end):
                continue
            hits.append((start, end, owner))
        hits.sort(key=lambda hit: (hit[0], -hit[1]))
        kept: list[tuple[int, int, str]] = []
        for hit in hits:
            if not kept or hit[0] >= kept[-1][1]:
                kept.append(hit)
        return kept


def _raised(mention: Mention | None, symbol: str) -> Mention:
    """A mention of the relevance of a headline: the source says that the text is about this company."""
    if mention is None:
        return Mention(symbol, f"${symbol}", -1, -1, HEADLINE)
    return mention._replace(relevance=HEADLINE)


def _lower(text: str) -> str:
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter whose small form is longer: offsets would shift
        lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    return lowered


def _bounded(text: str, start: int, end: int) -> bool:
    """Whether the span is a word of its own; a possessive 's may follow."""
    before = text[start - 1] if start else " "
    after = text[end] if end < len(text) else " "
    return not _WORD.match(before) and before not in "@#/$" and not _WORD.match(after)


def _written_as(surface: str, name: str, symbol: str, shouted: bool) -> bool:
    """Whether the surface form is the company's and not a plain word of the same letters."""
    if name == symbol:  # a bare ticker stands in capitals, among words that do not
        return surface == symbol and not shouted
    return not surface[:1].islower() or name[:1].islower()  # apple is a fruit


def _is_word(text: str, surface: str, end: int) -> bool:
    after = _WORD_AFTER.get(surface.lower())
    if after is None:
        return False
    following = text[end : end + 20].split(maxsplit=1)
    return bool(following) and following[0].strip(".,;:!?").lower() in after


def _relevance(start: int, title_chars: int) -> float:
    if start < title_chars:
        return HEADLINE
    return LEAD if start < title_chars + LEAD_CHARS else PASSING

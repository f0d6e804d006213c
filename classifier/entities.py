"""Companies of the watchlist in a text. Precision first: a wrong company in an alarm is worse than a missed one."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import ahocorasick

from moodwire.settings import Company
from moodwire.words import whole

HEADLINE, LEAD, PASSING = 1.0, 0.6, 0.3
LEAD_CHARS = 300
# P(it is a name) by the model from which a mention counts: one that is sure, one that what stands around it shows, and
# a bare word. By the dev split of `./run bench entities`.
SURE, SHOWN, BARE = 0.0, 0.2, 0.95
_CASHTAG = re.compile(r"(?<![\w$])\$([A-Za-z][A-Za-z0-9]{0,9})(?:[.\-]([A-Za-z]{1,2})(?![\w]))?")
# Of an exchange, as (NYSE: C), or a Reuters code, as <C.N> and (AAPL.O).
_EXCHANGES = "NYSE(?: American| Arca)?|N(?:asdaq|ASDAQ)(?:[ -]?[A-Z]{2})?|AMEX|OTC[A-Z]*|LSE|LON|TSX|ASX|HKEX|NSE|BSE"
_LISTED = re.compile(rf"[(\[](?:{_EXCHANGES})\s?:\s?\$?([A-Z][A-Z0-9]{{0,9}}(?:[.\-][A-Z]{{1,2}})?)[)\];,]")
_REUTERS = re.compile(r"[(<\[]([A-Z0-9]{1,10})\.([A-Z]{1,3})[)>\]]")
_REUTERS_US = frozenset(("N", "O", "K", "A", "P", "OQ", "PK"))
_REUTERS_OTHER = {"S": "SW", "J": "JO", "I": "IR"}  # where they are not the suffixes of the symbols
_BETWEEN = re.compile(r"[^\w&]")
_SMALL_BEFORE = re.compile(r"(?<![\w.])[a-z]+,? $")
_CAPITAL_BEFORE = re.compile(r"\b[A-Z][a-z]+ $")
_CAPITAL_AFTER = re.compile(r"[ \-][A-Z]")
_BETWEEN_LISTED = re.compile(r",? (?:and|&|or|vs\.?) |[,/;] ?|\-")
_NEXT_WORD = re.compile(r"[ \-]([A-Za-z]+)")
BARE_TICKER = 4  # letters, from which a ticker counts without a mark; shorter ones mean too much else
SHORT_NAME = 6  # letters; a name so short that is all capitals is written so
_FORM_AFTER = re.compile(
    r",? (?:Inc|Corp|Corporation|Co|Company|Ltd|Limited|plc|AG|SE|SA|NV|Group|Holdings?|Industries)\b", re.IGNORECASE
)
# After a name that is a word too, or before it: a company does or has this.
_COMPANY_AFTER = re.compile(
    r"(?:['\u2019]s\b(?! +(?:day|eve)))"
    r"|:(?= )| (?:up|down|gains?|falls?) (?:by |over |nearly |about )?\d"
    r"| (?:shares?|stock|scrip|shareholders?|investors?|board|promoters?|chairman|ceo|cfo|management|profits?|earnings|"
    r"revenues?|sales|results|q[1-4]|net|ipo|unit|arm|plant|deal|bid|operating|volumes?|in talks|is a (?:buy|sell)|to|"
    r"seeks?|wins?|won|signs?|eyes|gets|bags|owns|declined|told|announced|warns?|agrees?|settles?|says?|said|reports?|"
    r"reported|posts?|posted|beats?|misses|tops?|launch(?:es|ed)?|acquires?|acquired|buys?|sells?|sold|raises?|cuts?|"
    r"names?|appoints?|hires?|plans?|sues?|sued|files?|recalls?|unveils?|expects?|sees|gains?|gained|falls?|fell|jumps?|"
    r"surges?|soars?|slides?|slips?|drops?|tanks?|plunges?|rall(?:y|ies)|rises?|rose|climbs?|tumbles?|hits?)\b",
    re.IGNORECASE,
)
_COMPANY_BEFORE = re.compile(
    r"\b(?:shares? (?:of|in)|stock of|stake in|buy|sell|hold|accumulate|overweight|underweight|ceo of|chairman of|"
    r"rival|giant|maker|firm|company|retailer|chain|conglomerate|group|upgrades?|downgrades?|acquires?|buys?|sues?|"
    r"bets? on|bullish on|bearish on|invests? in|target(?: price)? (?:of|for)|rating on|coverage (?:on|of))[:,]? +$",
    re.IGNORECASE,
)
# After a name: another firm or thing that is called after it.
_OTHER_AFTER = frozenset(
    (
        "AM",
        "AMC",
        "Arena",
        "Asset",
        "Capital",
        "Center",
        "Centre",
        "Cup",
        "Direct",
        "Foundation",
        "Institute",
        "Investment",
        "Mutual",
        "MF",
        "Private",
        "Securities",
        "Stadium",
        "University",
        "Ventures",
    )
)
# What has a company's name in it and is none.
_NO_COMPANIES = (
    "Reserve Bank of India",
    "Exim Bank of India",
    "Export-Import Bank of India",
    "People's Bank of China",
    "Reserve Bank of Australia",
    "Reserve Bank of New Zealand",
    "United States",
    "United Kingdom",
    "United Nations",
    "United Arab Emirates",
    "Suez Canal",
    "Panama Canal",
    "Big Apple",
    "Wall Street Journal",
)
# Capitals that are words more often than a company.
# fmt: off
_NO_TICKER = frozenset((
    "AMEX", "ASIA", "BALL", "BANK", "BEST", "BOND", "CARE", "CASH", "CORN", "COST", "DEAL", "DISH", "EDIT", "EVER",
    "FAST", "FIVE", "FUND", "GOLD", "GOOD", "GROW", "HOPE", "INFO", "JOBS", "KEYS", "LIFE", "LINE", "LIVE", "LOVE",
    "MOVE", "NATO", "NEWS", "NEXT", "NICE", "NYSE", "OPEC", "OPEN", "PACK", "PEAK", "PINS", "PLAY", "PLUS", "POOL",
    "POST", "PUMP", "RATE", "REAL", "RIDE", "SAFE", "SAVE", "SHOP", "SITE", "SNAP", "SNOW", "STAY", "STEP", "TALK",
    "TEAM", "TECH", "TREE", "TRUE", "VERY", "WELL", "WISH", "WORK",
))
# After a company's name that is a word too: what makes it the word.
_WORD_AFTER = {
    "apple": ("pie", "juice", "cider", "orchard", "orchards", "tree", "trees", "harvest", "growers"),
    "target": ("price", "prices", "date", "range", "rate"),
    "sharp": ("rise", "rises", "fall", "falls", "rally", "drop", "decline", "gains", "losses", "rebound", "selloff"),
    "next": ("week", "month", "year", "quarter", "day", "big", "few", "to", "weather", "step", "steps", "two", "move"),
    "gap": ("up", "down", "higher", "lower", "between", "in"),
    "gm": ("crops", "crop", "food", "foods", "seeds", "mustard", "of"),
    "visa": ("to", "ban", "bans", "application", "applications", "requirements", "rules", "holders", "waiver", "free"),
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
    least: float  # SURE, SHOWN or BARE


class Place(NamedTuple):
    """Where a company may be named."""

    start: int
    end: int
    symbol: str
    least: float  # P(it is a name) from which it counts


class Watchlist:
    """Finds companies. Of two that bear the same name the first is meant."""

    def __init__(self, companies: Sequence[Company], others: Iterable[Company] = ()) -> None:
        """companies: those to find; others: known besides, so that a part of their names is not taken for another's."""
        self._symbols = {company.symbol for company in companies}
        self._by_root = {_root(company.symbol): company.symbol for company in reversed(companies)}
        forms: dict[str, list[_Form]] = {}
        for company in (*companies, *(other for other in others if other.symbol not in self._symbols)):
            symbol = company.symbol
            tickers = [symbol] if len(symbol) >= BARE_TICKER and symbol.isalpha() and symbol not in _NO_TICKER else []
            for names, sure in ((company.names, True), (company.words, False), (tickers, True)):
                for name in names:
                    if folded := _folded(_lower(name)).strip():
                        forms.setdefault(f" {folded} ", []).append(_Form(symbol, name, sure, names is tickers))
        for name in _NO_COMPANIES:
            forms[f" {_folded(name.lower())} "] = [_Form("", name, True, False)]
        self._names = ahocorasick.Automaton()
        for folded, owners in forms.items():
            self._names.add_word(folded, (len(folded), owners))
        self._names.make_automaton()

    def find(self, title: str, body: str = "", tickers: Sequence[str] = ()) -> list[Mention]:
        """A mention for each company found, the first of those that are likeliest; `tickers` count as cashtags.

        In the order in which the text names them, those that only `tickers` names last.
        """
        text = whole(title, body)
        given = [symbol for ticker in tickers if (symbol := self._symbol(ticker.removeprefix("$").upper()))]
        found: dict[str, Mention] = {}
        places = self.places(text, given)
        least = {place.symbol: place.least for place in sorted(places, key=lambda place: -place.least)}
        for place in places:
            start, end, symbol, _ = place
            if symbol not in found and place.least == least[symbol]:
                relevance = _relevance(start, len(title))
                found[symbol] = Mention(symbol, text[start:end], start, end, relevance, place.least)
        for symbol in given:
            if symbol not in found or found[symbol].relevance < HEADLINE:
                found[symbol] = _raised(found.get(symbol), symbol)
        return list(found.values())

    def places(self, text: str, certain: Collection[str] = ()) -> list[Place]:
        """Every mention, in order; `certain`: companies that the text is about anyhow."""
        coded = {Place(*code, SURE) for code in self._coded(text)}
        named = self._named(text, {*certain, *(place.symbol for place in coded)})
        taken = {place[:3] for place in coded}
        return sorted({*coded, *(place for place in named if place[:3] not in taken)})

    def _symbol(self, code: str) -> str | None:
        """The company that a ticker stands for, with the exchange's suffix or without."""
        code = code.replace(".", "-") if code.replace(".", "-") in self._symbols else code
        return code if code in self._symbols else self._by_root.get(code)

    def _coded(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Start, end and symbol of cashtags and of codes in brackets: these are sure."""
        if "$" in text:
            for tag in _CASHTAG.finditer(text):
                root, share = tag.group(1).upper(), (tag.group(2) or "").upper()
                if share and (symbol := self._symbol(f"{root}-{share}") or self._symbol(f"{root}.{share}")):
                    yield tag.start(), tag.end(), symbol
                elif symbol := self._symbol(root):
                    yield tag.start(), tag.end(1), symbol
        if "(" in text or "<" in text or "[" in text:
            for code in _LISTED.finditer(text):
                if symbol := self._symbol(code.group(1)):
                    yield code.start(1), code.end(1), symbol
            for code in _REUTERS.finditer(text):
                root, exchange = code.groups()
                symbol = root if exchange in _REUTERS_US else f"{root}.{_REUTERS_OTHER.get(exchange, exchange)}"
                if symbol in self._symbols:
                    yield code.start(1), code.end(1), symbol

    def _named(self, text: str, certain: Collection[str]) -> list[Place]:
        """The names and bare tickers in the text; of overlapping ones the first, then longest.

        certain: companies that the text is known to be about; their names need no context.
        """
        hits: list[tuple[int, int, list[_Form]]] = []
        shouted = text.isupper()
        for last, (length, owners) in self._names.iter(_folded(f" {_lower(text)} ")):
            end = last - 1
            start = end - length + 2
            written = [form for form in owners if _written_as(text[start:end], form, shouted)]
            if written and not (start and text[start - 1] in "@#/$.-_"):
                hits.append((start, end, written))
        hits.sort(key=lambda hit: (hit[0], -hit[1]))
        kept: list[tuple[int, int, list[_Form]]] = []
        for hit in hits:
            if not kept or hit[0] >= kept[-1][1]:
                kept.append(hit)
        # A company that is named beyond doubt may be named by a plain word too.
        sure = {*certain, *(form.symbol for _, _, forms in kept for form in forms[:1] if form.sure)}
        sentences = not all(forms[0].sure for _, _, forms in kept) and _in_sentences(text)
        places: list[tuple[int, int, str]] = []
        least: list[float] = []
        for start, end, forms in kept:
            form = next((form for form in forms if form.symbol in certain), forms[0])
            if not _is_other(text, end, form):
                places.append((start, end, form.symbol))
                is_sure = form.sure or form.symbol in sure or _FORM_AFTER.match(text, end)
                least.append(SURE if is_sure else SHOWN if _in_context(text, start, end, sentences) else BARE)
        # A word in a list beside a company is one too: looked at forwards, then backwards.
        steps = range(1, len(places))
        for at, beside in (*((at, at - 1) for at in steps), *((at - 1, at) for at in reversed(steps))):
            if least[beside] < BARE and _listed_together(text, places[at], places[beside]):
                least[at] = min(least[at], SHOWN)
        return [Place(*place, of) for place, of in zip(places, least, strict=True) if place[2] in self._symbols]


class _Form(NamedTuple):
    """A way to name a company."""

    symbol: str
    name: str
    sure: bool  # means the company wherever it stands
    ticker: bool


def _raised(mention: Mention | None, symbol: str) -> Mention:
    """A mention of the relevance of a headline: the source says that the text is about this company."""
    if mention is None:
        return Mention(symbol, f"${symbol}", -1, -1, HEADLINE, SURE)
    return mention._replace(relevance=HEADLINE, least=SURE)


def _lower(text: str) -> str:
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter whose small form is longer: offsets would shift
        lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    return lowered


def _folded(lowered: str) -> str:
    """Words between single marks, at equal length."""
    return _BETWEEN.sub(" ", lowered)


def _root(symbol: str) -> str:
    """A symbol without its exchange's suffix."""
    return symbol.partition(".")[0]


def _written_as(surface: str, form: _Form, shouted: bool) -> bool:
    """Whether the surface form is the company's and not a plain word of the same letters."""
    if form.ticker or (form.name.isupper() and len(form.name) <= SHORT_NAME):
        # Initials stand in capitals, and a ticker among words that do not.
        return surface == form.name and not (shouted and form.ticker)
    if shouted:
        return True
    # apple is a fruit, and a U.S. bank any
    return not any(
        w[:1].islower() and n[:1].isupper() for w, n in zip(surface.split(), form.name.split(), strict=False)
    )


def _is_other(text: str, end: int, form: _Form) -> bool:
    """Whether what follows makes it the name or the word for something else."""
    following = _NEXT_WORD.match(text, end)
    if following is None:
        return False
    word = following.group(1)
    return word.lower() in _WORD_AFTER.get(form.name.lower(), ()) or word in _OTHER_AFTER


def _in_context(text: str, start: int, end: int, sentences: bool) -> bool:
    """Whether what stands around a word shows that a company is meant.

    sentences: the text has small letters where a sentence has them, so that a capital tells a name.
    """
    if sentences and _CAPITAL_BEFORE.search(text, max(start - 20, 0), start):
        return False  # the end of a longer name
    if _COMPANY_AFTER.match(text, end) or _COMPANY_BEFORE.search(text, max(start - 40, 0), start):
        return True
    named = text[start + 1 : end].islower()  # not initials
    return (
        sentences
        and named
        and bool(_SMALL_BEFORE.search(text, max(start - 20, 0), start))
        and not (_CAPITAL_AFTER.match(text, end))
    )


def _in_sentences(text: str) -> bool:
    long = [word for word in text.split() if len(word) > 4 and word[0].isalpha()]
    return sum(word[0].islower() for word in long) > len(long) / 2


def _listed_together(text: str, one: tuple[int, int, str], other: tuple[int, int, str]) -> bool:
    """Whether nothing but a comma or an "and" stands between two places."""
    first, second = sorted((one, other))
    return second[0] - first[1] <= 6 and bool(_BETWEEN_LISTED.fullmatch(text, first[1], second[0]))


def _relevance(start: int, title_chars: int) -> float:
    if start < title_chars:
        return HEADLINE
    return LEAD if start < title_chars + LEAD_CHARS else PASSING

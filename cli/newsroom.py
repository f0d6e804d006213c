"""The demo's newsroom: outlets with feeds and article pages on loopback, about companies that do not exist.

What was published is a pure function of a seed and the time; the server only shows it.
"""

import hashlib
import html
import math
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from moodwire.settings import Company, Source

OUTLETS = (
    "Meridian Wire",
    "Harbour Post",
    "The Ledger",
    "Capital Daily",
    "Northbank News",
    "Tickertape",
    "Market Hour",
)
COMPANIES = (
    ("VLTX", "Voltrix Energy", "utilities"),
    ("NORW", "Norwell Foods", "consumer"),
    ("HALC", "Halcyon Air", "transport"),
    ("BRDG", "Bridgewell Bank", "finance"),
    ("QNTA", "Quantara Systems", "technology"),
    ("LUMN", "Lumenis Optics", "technology"),
    ("PRSM", "Prisma Pharma", "health"),
    ("OAKD", "Oakdale Insurance", "finance"),
    ("TERR", "Terrano Mining", "materials"),
    ("SKYL", "Skylark Media", "media"),
    ("CRGO", "Cargonaut Logistics", "transport"),
    ("AQUA", "Aquavire Water", "utilities"),
    ("FERN", "Fernhill Homes", "real estate"),
    ("ZETA", "Zetacom Networks", "technology"),
)
GOOD = (
    "{name} raises full-year outlook after record quarterly profit",
    "{name} shares jump {n}% as earnings beat expectations",
    "{name} wins {m} million dollar contract, shares rise",
    "Analysts upgrade {name} to buy, citing strong demand",
    "{name} boosts dividend by {n}% and announces share buyback",
    "{name} profit climbs {n}% on higher sales",
    "Regulators clear {name} takeover, stock hits record high",
)
PLAIN = (
    "{name} to report second-quarter results on Thursday",
    "{name} appoints {who} as chief financial officer",
    "{name} to hold annual shareholder meeting next month",
    "{name} opens office in Lisbon",
    "{name} names {who} to its board",
    "{name} to present at industry conference in {month}",
    "{name} completes previously announced sale of its {part} unit",
    "Central bank leaves interest rates unchanged, as expected",
    "Treasury yields little changed ahead of inflation data",
)
BAD = (
    "{name} cuts profit forecast as costs rise",
    "{name} shares fall {n}% after weak quarterly sales",
    "Analysts downgrade {name} to sell on slowing demand",
    "{name} reports wider loss, misses estimates",
    "{name} recalls {part} products over safety concerns",
    "{name} sued by shareholders over accounting",
)
CRISIS = (
    "{name} halts trading after auditors find hole in accounts",
    "{name} shares plunge {n}% on fraud allegations",
    "Prosecutors raid {name} headquarters in accounting probe",
    "{name} chief executive resigns amid fraud investigation",
    "Lenders refuse to extend credit to {name}, bankruptcy feared",
    "{name} withdraws earnings guidance as losses mount",
    "Rating agency cuts {name} debt to junk",
    "{name} bonds collapse after auditor quits",
    "Shareholders sue {name} over missing millions",
    "{name} delays annual report, warns of significant losses",
    "Regulator opens criminal inquiry into {name}",
    "{name} suppliers demand cash up front as crisis deepens",
    "{name} loses key contract after accounting scandal",
    "{name} faces delisting after failing to file accounts",
    "Short sellers profit as {name} stock crashes {n}%",
    "{name} suspends dividend, warns on liquidity",
)
CORRECTION = "Correction: {name} missing funds amount to {m} million, less than first reported"
PEOPLE = ("Ana Duarte", "Jonas Berg", "Mei Tan", "Paul Okoye", "Lea Fontaine", "Ravi Menon")
PARTS = ("packaging", "turbine", "leasing", "sensor", "wholesale", "storage")
MONTHS = ("March", "May", "September", "November")
TEXT = (
    "{title}, the company said on {day}. {second} {third} Market participants said the news had been closely watched. "
    "The company employs about {staff} people and is based in {city}."
)
SECOND = {
    "good": "Investors welcomed the announcement and the stock was among the day's strongest performers.",
    "plain": "The company gave no further details.",
    "bad": "Investors were disappointed and the stock was among the day's weakest performers.",
}
THIRD = {
    "good": "Management said demand remained healthy and that margins had improved.",
    "plain": "Trading in the shares was quiet.",
    "bad": "Management said conditions had worsened and that further charges could not be ruled out.",
}
CITIES = ("Porto", "Leeds", "Graz", "Tampere", "Denver", "Osaka")
CRISIS_S = 90.0  # the crisis' stories come over this long
CRISIS_COMPANY = 3
LIVE_PER_MINUTE = 9.0
STORY_COPIES = (1, 1, 1, 1, 2, 2, 3)


class Published(NamedTuple):
    id: str
    title: str
    body: str
    outlet: str
    published_at: datetime


def watchlist() -> tuple[Company, ...]:
    return tuple(Company(symbol=symbol, names=(name,), groups=(sector,)) for symbol, name, sector in COMPANIES)


def sources(base_url: str) -> tuple[Source, ...]:
    return tuple(Source(name=outlet, url=f"{base_url}/{slug(outlet)}/feed.xml", interval_s=3) for outlet in OUTLETS)


def history(seed: int, start: datetime, end: datetime, count: int) -> Iterator[Published]:
    """About `count` ordinary items over [start, end), in order of time, more by day than by night."""
    rng = random.Random(seed)
    found: list[Published] = []
    span_s = (end - start).total_seconds()
    while len(found) < count:
        at = start + timedelta(seconds=rng.random() * span_s)
        if rng.random() < rhythm(at):
            found += _story(rng, at, end)
    return iter(sorted(found, key=lambda item: item.published_at))


def live(seed: int, start: datetime, until: datetime, crisis_at: datetime) -> list[Published]:
    """What the outlets published in [start, until): ordinary news, and the crisis with its correction."""
    found: list[Published] = []
    minute = start
    while minute < until:
        rng = random.Random(f"{seed} {minute.isoformat()}")
        for _ in range(round(LIVE_PER_MINUTE * (0.5 + rhythm(minute)) * rng.uniform(0.6, 1.4) / 2)):
            found += _story(rng, minute + timedelta(seconds=rng.random() * 60), minute + timedelta(minutes=9))
        minute += timedelta(minutes=1)
    found += _crisis(random.Random(f"{seed} crisis"), crisis_at)
    return sorted((item for item in found if start <= item.published_at < until), key=lambda item: item.published_at)


def rhythm(at: datetime) -> float:
    """How busy an hour is, from .1 at night to 1 in the afternoon; weekends are quiet."""
    day = 0.1 + 0.9 * math.exp(-(((at.hour + at.minute / 60) - 14.5) ** 2) / 18)
    return day * (0.35 if at.weekday() >= 5 else 1.0)


def slug(outlet: str) -> str:
    return outlet.lower().replace(" ", "-")


def _story(rng: random.Random, at: datetime, end: datetime) -> list[Published]:
    mood = rng.choices(("good", "plain", "bad"), (0.36, 0.5, 0.14))[0]
    titles = {"good": GOOD, "plain": PLAIN, "bad": BAD}[mood]
    return _copies(rng, rng.choice(titles), rng.choice(COMPANIES)[1], mood, at, end, rng.choice(STORY_COPIES))


def _crisis(rng: random.Random, at: datetime) -> list[Published]:
    found: list[Published] = []
    name = COMPANIES[CRISIS_COMPANY][1]
    far = at + timedelta(days=1)
    for number, title in enumerate(CRISIS):
        moment = at + timedelta(seconds=CRISIS_S * number / len(CRISIS))
        found += _copies(rng, title, name, "bad", moment, far, rng.randint(2, len(OUTLETS)))
    found += _copies(rng, CORRECTION, name, "bad", at + timedelta(seconds=2 * CRISIS_S), far, 3)
    return found


def _copies(
    rng: random.Random, template: str, name: str, mood: str, at: datetime, end: datetime, copies: int
) -> list[Published]:
    """One story by several outlets, seconds to minutes apart."""
    title = template.format(
        name=name,
        n=rng.randint(3, 38),
        m=rng.randint(20, 900),
        who=rng.choice(PEOPLE),
        part=rng.choice(PARTS),
        month=rng.choice(MONTHS),
    )
    body = TEXT.format(
        title=title,
        day=f"{at:%A}",
        second=SECOND[mood],
        third=THIRD[mood],
        staff=f"{rng.randint(4, 90) * 500:,}",
        city=rng.choice(CITIES),
    )
    found = []
    for outlet in rng.sample(OUTLETS, copies):
        id_ = hashlib.blake2b(f"{outlet} {title} {at.isoformat()}".encode(), digest_size=8).hexdigest()
        if at < end:
            found.append(Published(id_, title, body, outlet, at.replace(microsecond=0)))
        at += timedelta(seconds=rng.uniform(2, 40))
    return found


class Newsroom:
    """Serves the outlets on loopback; `begin()` starts the live news, and the crisis `crisis_after_s` later."""

    def __init__(self, seed: int, clock: Callable[[], datetime], port: int = 0) -> None:
        self._seed = seed
        self._clock = clock
        self._live: tuple[datetime, datetime] | None = None
        room = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, data = room.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, name="newsroom", daemon=True).start()

    def begin(self, crisis_after_s: float) -> datetime:
        """Live from now on; returns when the crisis breaks."""
        start = self._clock().replace(second=0, microsecond=0)
        crisis_at = self._clock() + timedelta(seconds=crisis_after_s)
        self._live = (start, crisis_at)
        return crisis_at

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        outlet, _, rest = path.strip("/").partition("/")
        now = self._clock()
        if self._live is None or outlet not in map(slug, OUTLETS):
            return 404, "text/plain", b"no such outlet"
        items = [item for item in live(self._seed, self._live[0], now, self._live[1]) if slug(item.outlet) == outlet]
        if rest == "feed.xml":
            return 200, "application/rss+xml; charset=utf-8", self._feed(outlet, items[-40:]).encode()
        for item in items:
            if rest == item.id:
                return 200, "text/html; charset=utf-8", _page(item).encode()
        return 404, "text/plain", b"no such article"

    def _feed(self, outlet: str, items: list[Published]) -> str:
        entries = "".join(
            f"<item><title>{html.escape(item.title)}</title><guid isPermaLink='false'>{item.id}</guid>"
            f"<link>{self.url}/{outlet}/{item.id}</link><pubDate>{format_datetime(item.published_at)}</pubDate>"
            f"<description>{html.escape(item.body[:120])}</description></item>"
            for item in reversed(items)
        )
        return (
            f"<?xml version='1.0' encoding='utf-8'?><rss version='2.0'><channel><title>{outlet}</title>"
            f"<language>en</language>{entries}</channel></rss>"
        )


def _page(item: Published) -> str:
    paragraphs = "".join(f"<p>{html.escape(part)}.</p>" for part in item.body.rstrip(".").split(". "))
    return (
        f"<!doctype html><html lang='en'><head><title>{html.escape(item.title)} - {item.outlet}</title></head><body>"
        f"<nav><a href='/'>Home</a></nav><article><h1>{html.escape(item.title)}</h1>{paragraphs}</article>"
        f"<footer>{item.outlet}, {item.published_at.astimezone(UTC):%d %B %Y}</footer></body></html>"
    )

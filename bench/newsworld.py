"""A seeded world of sources on loopback that misbehave in every way that news sources do, and that keeps a log.

What a source has published is a pure function of its number and the time; `World.complete` says which items stood in
a complete response.
"""

import asyncio
import gzip
import html
import json
import random
import socket
import struct
import threading
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import urlsplit

from moodwire.settings import AnySource, JsonApi, ListPage, Sitemap, Source

SEED = 7
LISTED = 12  # items in a feed
PUBLISHED_EVERY = timedelta(minutes=40)  # on average, by each source
CALM = timedelta(minutes=60)  # before the end, in which nothing is published
SPELL = timedelta(minutes=60)  # of bad behaviour, after as long of good
STALL_S = 3.0  # real seconds; a client's patience is shorter
RETRY_AFTER_S = 900
CRAWL_DELAY_S = 7
BELIEVED = timedelta(days=1)  # a robots.txt (RFC 9309, section 2.4)
TOGETHER = 10  # sources on the first host
SECRET = "127.9.9.9"  # no source: nobody may be led there
WORDS = [
    stem + ending
    for stem in ("profit", "market", "energy", "report", "quarter", "growth")
    for ending in ("a", "e", "i", "o", "u", "er", "ing", "ed", "s", "ly")
]

# How a source misbehaves in its bad spells …
SPELLS = (
    "takes no connection",
    "stalls before its answer",
    "stalls in its headers",
    "stalls in its body",
    "drips",
    "resets at once",
    "resets in its body",
    "gives too great a length",
    "gives too small a length",
    "sends a gzip bomb",
    "sends a gzip bomb in gzip",
    "cuts its gzip",
    "sends XML 10,000 deep",
    "sends an entity bomb",
    "redirects in a circle",
    "redirects to a private address",
    "puts up a cookie wall",
    "sends HTML",
    "says 429 with Retry-After",
    "says 429",
    "says 503",
    "says 404",
    "has no robots.txt but 503",
)
# … and always.
HABITS = (
    "is good",
    "is good in Atom",
    "is good in JSON",
    "names a wrong charset",
    "has a byte order mark",
    "is in Windows-1252 and says UTF-8",
    "has items without ids",
    "repeats one id",
    "repeats one address",
    "changes its ids",
    "shuffles and re-dates its items",
    "edits its items",
    "says 304 for ever",
    "lies with its ETag",
    "has a clock an hour ahead",
    "has a clock an hour behind",
    "has moved for good",
    "shares its articles with the next",
    "has pages",
    "has pages and a Crawl-delay",
    "has pages that are forbidden",
    "has pages behind a cookie wall",
    "is a news sitemap",
    "is a bare sitemap with pages",
    "is a page of links",
    "answers in JSON",
)
HOPELESS = ("stalls in its TLS handshake",)
KINDS = SPELLS + HABITS + HOPELESS
OFF = {"has a clock an hour ahead": 1, "has a clock an hour behind": -1}


class Entry(NamedTuple):
    """An item as a source published it."""

    token: str  # stands in its title
    title: str
    body: str
    at: datetime


Row = tuple[str, str, str, str, datetime]  # title, text, address, id, time of an entry as it is given out


class Complete(NamedTuple):
    """An answer that was sent to its end."""

    host: str
    at: datetime
    tokens: frozenset[str]  # of the items in it


class Asked(NamedTuple):
    """A line of the server's log."""

    host: str
    at: datetime
    path: str
    status: int  # 0: none that could be read
    agent: str
    alone: bool  # nothing else was being asked of the host


class World:
    """The sources, and after `open` the server that answers for them; its log may come from another process."""

    def __init__(self, count: int, start: datetime, hours: float, now: Callable[[], datetime]) -> None:
        self.count = count
        self.port = 0
        self.log: list[Asked] = []
        self.complete: list[Complete] = []
        self.told_to_wait: dict[str, datetime] = {}
        self.broken: list[str] = []  # manners that were broken, seen while answering
        self.restarts: list[datetime] = []  # of the client
        self._start = start
        self._end = start + timedelta(hours=hours)
        self._now = now
        self._busy: Counter[str] = Counter()
        self._answers: Counter[int] = Counter()

    def open(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        bomb()  # made here, as it takes a while
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(30)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)

    def kind(self, number: int) -> str:
        return KINDS[number % len(KINDS)]

    def host(self, number: int) -> str:
        """The first sources are on one host; the others each have their own."""
        return "127.1.0.1" if number >= self.count - TOGETHER else f"127.2.{number // 250}.{number % 250 + 1}"

    def address(self, number: int) -> str:
        scheme = "https" if self.kind(number) == "stalls in its TLS handshake" else "http"  # nobody speaks TLS here
        return f"{scheme}://{self.host(number)}:{self.port}"

    def sources(self, interval_s: float) -> tuple[AnySource, ...]:
        return tuple(self._source(number, interval_s) for number in range(self.count))

    def _source(self, number: int, interval_s: float) -> AnySource:
        name, url, pages = f"s{number}", f"{self.address(number)}/{number}/feed", "pages" in self.kind(number)
        match self.kind(number):
            case "is a news sitemap" | "is a bare sitemap with pages":
                return Sitemap(name=name, url=url, interval_s=interval_s, articles=pages)
            case "is a page of links":
                return ListPage(name=name, url=url, interval_s=interval_s, articles=pages, selector="main h3 > a")
            case "answers in JSON":
                paths = {"title": "head.line", "address": "links.0", "body": "text", "published_at": "at", "id": "key"}
                return JsonApi(name=name, url=url, interval_s=interval_s, articles=pages, items="data.items", **paths)
        return Source(name=name, url=url, interval_s=interval_s, articles=pages)

    def teller(self, number: int) -> int:
        """The source whose articles a source lists."""
        shared = number % len(KINDS) and self.kind(number - 1) == "shares its articles with the next"
        return number - 1 if shared else number

    def bad(self, number: int) -> str:
        """How a source misbehaves now; empty if it does not."""
        spell = (self._now() - self._start) // SPELL
        return self.kind(number) if self.kind(number) in SPELLS and spell % 2 == 0 else ""

    def entries(self, number: int) -> list[Entry]:
        """What a source has published by now, the newest last."""
        now = self._now()
        number = self.teller(number)
        found = [entry for entry in published(number, self._start, self._end - CALM) if entry.at <= now][-LISTED:]
        if self.kind(number) == "edits its items":
            found = [
                entry._replace(title=f"{entry.title}, corrected", body=f"{entry.body} Corrected.")
                if now - entry.at > timedelta(hours=1)
                else entry
                for entry in found
            ]
        return found

    # --- the server ---------------------------------------------------------------------------------------------------

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen(ready))

    async def _listen(self, ready: threading.Event) -> None:
        own = range(self.count - TOGETHER)
        closing = {self.host(n): n for n in own if self.kind(n) == "takes no connection"}
        hosts = sorted({self.host(number) for number in range(self.count)} - set(closing) | {SECRET})
        server = await asyncio.start_server(self._talk, hosts, self.port, backlog=64)
        doors = [self._loop.create_task(self._door(host, number)) for host, number in closing.items()]
        ready.set()
        await asyncio.wait([self._loop.create_task(self._over.wait()), *doors], return_when=asyncio.FIRST_COMPLETED)
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _door(self, host: str, number: int) -> None:
        """A host that takes no connection in its bad spells: nobody answers where the queue before it is full."""
        with socket.socket() as door:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind((host, self.port))
            door.listen(0)
            door.setblocking(False)
            queue: list[socket.socket] = []
            while True:
                if self.bad(number) and not queue:
                    for _ in range(2):
                        queue.append(socket.socket())
                        queue[-1].setblocking(False)
                        queue[-1].connect_ex((host, self.port))
                while queue and not self.bad(number):
                    queue.pop().close()
                try:
                    taken = None if queue else door.accept()[0]
                except BlockingIOError:
                    taken = None
                if taken is None:
                    await asyncio.sleep(0.01)
                    continue
                reader = asyncio.StreamReader()
                talk = asyncio.StreamReaderProtocol(reader, self._talk)
                await self._loop.connect_accepted_socket(lambda talk=talk: talk, taken)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = writer.get_extra_info("sockname")[0]
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                lines = request.decode("latin-1").split("\r\n")
                path = lines[0].split(" ")[1]
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
                self._busy[host] += 1
                alone, at = self._busy[host] == 1, self._now()
                until = self.told_to_wait.get(host)
                if until and at < until:
                    self.broken.append(f"{host} asked to be left alone until {until}, and was asked for {path} at {at}")
                try:
                    status = await self._answer(host, path, headers, writer)
                finally:
                    self._busy[host] -= 1
                self.log.append(Asked(host, at, path, status, headers.get("user-agent", ""), alone))
                if not status:
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, host: str, path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> int:
        if path == "/robots.txt":
            return await self._robots(host, writer)
        number = int(path.split("/")[1]) if path.split("/")[1].isdecimal() else -1
        if host == SECRET or not 0 <= number < self.count:
            return await send(writer, 404, b"")
        if path.endswith(("/feed", "/moved", "/round", "/round2")):
            bad = self.bad(number)
            if bad:
                return await self._misbehave(bad, host, number, path, writer)
            return await self._feed(number, path, headers, writer)
        return await self._page(number, path, writer)

    async def _robots(self, host: str, writer: asyncio.StreamWriter) -> int:
        kinds = {self.kind(number) for number in range(self.count) if self.host(number) == host}
        bad = {self.bad(number) for number in range(self.count) if self.host(number) == host}
        if "has no robots.txt but 503" in bad:
            return await send(writer, 503, b"")
        rules = "User-agent: *\n"
        if "has pages that are forbidden" in kinds:
            rules += "Disallow: /*/secret/\n"
        if "has pages and a Crawl-delay" in kinds:
            rules += f"Crawl-delay: {CRAWL_DELAY_S}\n"
        return await send(writer, 200, rules.encode())

    async def _feed(self, number: int, path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> int:
        kind = self.kind(number)
        if kind == "has moved for good" and path.endswith("/feed"):
            return await send(writer, 301, b"", Location=f"/{number}/moved")
        self._answers[number] += 1
        entries = self.entries(number)
        etag = f'"{hash((len(entries), tuple(entries)))}"'
        if kind == "lies with its ETag":
            etag = f'"{random.random()}"' if self._answers[number] % 2 else '"same"'
        asked = headers.get("if-none-match", "")
        if asked and (asked == etag or kind == "says 304 for ever") and kind != "lies with its ETag":
            return await send(writer, 304, b"")
        body, content_type = written(self, number, kind, entries, self._answers[number])
        date = format_datetime(self._now() + timedelta(hours=OFF.get(kind, 0)))
        status = await send(writer, 200, body, **{"Content-Type": content_type, "ETag": etag, "Date": date})
        host = self.host(number)
        self.complete.append(Complete(host, self._now(), frozenset(entry.token for entry in entries)))
        return status

    async def _page(self, number: int, path: str, writer: asyncio.StreamWriter) -> int:
        entry = next((entry for entry in self.entries(number) if entry.token in path), None)
        if entry is None:
            return await send(writer, 404, b"")
        if self.kind(number) == "has pages behind a cookie wall":
            wall = b"<html><body><article>" + b"<p>We value your privacy. Please accept all cookies.</p>" * 9
            return await send(writer, 200, wall + b"</article></body></html>", **{"Set-Cookie": f"a{path[-3:]}=1"})
        text = "".join(f"<p>{html.escape(part)}.</p>" for part in entry.body.split(". "))
        page = f"<html><head><title>x</title></head><body><article><h1>{entry.title}</h1>{text}</article></body></html>"
        return await send(writer, 200, page.encode(), **{"Content-Type": "text/html"})

    async def _misbehave(self, bad: str, host: str, number: int, path: str, writer: asyncio.StreamWriter) -> int:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/rss+xml\r\n"
        whole, _ = written(self, number, bad, self.entries(number), 0)
        match bad:
            case (
                "takes no connection"
                | "stalls before its answer"
                | "stalls in its headers"
                | "stalls in its body"
                | "drips"
            ):
                if bad not in {"takes no connection", "stalls before its answer"}:
                    writer.write(head)
                if bad in {"stalls in its body", "drips"}:
                    writer.write(b"Content-Length: 100000\r\n\r\n" + whole[:200])
                self._busy[host] -= 1  # it is the client who ends this one
                try:
                    for _ in range(20):
                        await asyncio.sleep(STALL_S / 20)
                        if bad == "drips":
                            writer.write(b" ")
                            await writer.drain()
                finally:
                    self._busy[host] += 1
                return 0
            case "resets at once" | "resets in its body":
                if bad == "resets in its body":
                    writer.write(head + b"Content-Length: 100000\r\n\r\n" + whole[:200])
                    await writer.drain()
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return 0
            case "gives too great a length" | "gives too small a length":
                length = len(whole) + 999 if "great" in bad else len(whole) * 2 // 3
                writer.write(head + f"Content-Length: {length}\r\n\r\n".encode() + whole)
                await writer.drain()
                return 0
            case "sends a gzip bomb" | "sends a gzip bomb in gzip" | "cuts its gzip":
                packed = bomb() if bad != "cuts its gzip" else gzip.compress(whole)[:-20]
                coding = "gzip"
                if bad == "sends a gzip bomb in gzip":
                    packed, coding = gzip.compress(packed), "gzip, gzip"
                return await send(writer, 200, packed, **{"Content-Encoding": coding})
            case "sends XML 10,000 deep":
                return await send(writer, 200, b"<rss version='2.0'><channel>" + b"<item>" * 10_000)
            case "sends an entity bomb":
                entities = "".join(f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>" for n in range(9))
                doctype = f"<!DOCTYPE u [<!ENTITY a 'aaaaaaaaaa'>{entities}]>"
                return await send(writer, 200, f"{doctype}<rss><channel>&j;&j;</channel></rss>".encode())
            case "redirects in a circle":
                there = "round2" if path.endswith("/round") else "round"
                return await send(writer, 302, b"", Location=f"/{number}/{there}")
            case "redirects to a private address":
                return await send(writer, 302, b"", Location=f"http://{SECRET}:{self.port}/{number}/feed")
            case "puts up a cookie wall":
                return await send(writer, 200, b"<html><body>Accept cookies</body></html>", **{"Set-Cookie": "a=b"})
            case "sends HTML":
                return await send(writer, 200, b"<html><body><p>Not here<p>&nbsp;<br></body></html>")
            case "says 429 with Retry-After":
                self.told_to_wait[host] = self._now() + timedelta(seconds=RETRY_AFTER_S)
                return await send(writer, 429, b"", **{"Retry-After": str(RETRY_AFTER_S)})
            case "says 429" | "says 503" | "says 404":
                return await send(writer, int(bad[5:]), b"")
        return await send(writer, 503, b"")


async def send(writer: asyncio.StreamWriter, status: int, body: bytes, **headers: str) -> int:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
    if status != 304:
        lines.append(f"Content-Length: {len(body)}")
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    await writer.drain()
    return status


@cache
def bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(200)) + packer.flush()


@cache
def published(number: int, start: datetime, end: datetime) -> tuple[Entry, ...]:
    """All that a source publishes, in order of time; some of it before the start."""
    rng = random.Random(f"{SEED} {number}")
    found, at, count = [], start - timedelta(hours=2), 0
    while (at := at + PUBLISHED_EVERY * rng.uniform(0.2, 1.8)) < end:
        words = " ".join(rng.choices(WORDS, k=7))
        body = ". ".join(" ".join(rng.choices(WORDS, k=10)) for _ in range(11))
        token = f"N{number}I{count}X"
        found.append(Entry(token, f"{token} {words} café €", body, at.replace(microsecond=0)))
        count += 1
    return tuple(found)


def written(world: World, number: int, kind: str, entries: list[Entry], answer: int) -> tuple[bytes, str]:
    """A source's feed, and its content type."""
    first = (
        number - 1 if world.kind(number - 1) == "shares its articles with the next" and number % len(KINDS) else number
    )
    rows: list[Row] = []
    for entry in entries:
        link = f"{world.address(first)}/{first}/{'secret' if 'forbidden' in kind else 'news'}/{entry.token}"
        link += "?utm_source=feed" if first != number else ""
        date = entry.at + timedelta(
            hours={"has a clock an hour ahead": 1, "has a clock an hour behind": -1}.get(kind, 0)
        )
        guid = entry.token
        match kind:
            case "has items without ids":
                guid = link = ""
            case "repeats one id":
                guid, link = "1", ""
            case "repeats one address":
                link = f"{world.address(number)}/"
            case "changes its ids":
                guid, link = f"{entry.token}-{answer}", ""
            case "shuffles and re-dates its items":
                date += timedelta(minutes=answer)
        rows.append((entry.title, entry.body, link, guid, date))
    rows.reverse()
    if kind in {"is a news sitemap", "is a bare sitemap with pages", "is a page of links", "answers in JSON"}:
        return listed(kind, rows)
    if kind == "shuffles and re-dates its items":
        random.Random(answer).shuffle(rows)
    if kind == "is good in JSON":
        items = [
            {"id": guid, "url": link, "title": title, "content_text": body, "date_published": date.isoformat()}
            for title, body, link, guid, date in rows
        ]
        feed = {"version": "https://jsonfeed.org/version/1.1", "title": kind, "items": items}
        return json.dumps(feed).encode(), "application/feed+json"
    if kind == "is good in Atom":
        items_ = "".join(
            f"<entry><title>{title}</title><id>{guid}</id><link href='{link}'/>"
            f"<published>{date.isoformat()}</published><summary>{body}</summary></entry>"
            for title, body, link, guid, date in rows
        )
        return f"<feed xmlns='http://www.w3.org/2005/Atom'>{items_}</feed>".encode(), "application/atom+xml"
    items_ = "".join(
        f"<item><title>{title}</title>{f'<link>{html.escape(link)}</link>' if link else ''}"
        + (f"<guid isPermaLink='false'>{guid}</guid>" if guid else "")
        + f"<pubDate>{format_datetime(date)}</pubDate><description>{body}</description></item>"
        for title, body, link, guid, date in rows
    )
    text = f"<rss version='2.0'><channel><title>{kind}</title>{items_}</channel></rss>"
    text = f"<?xml version='1.0' encoding='utf-8'?>{text}"
    match kind:
        case "names a wrong charset":
            return text.encode(), "text/xml; charset=iso-8859-1"
        case "has a byte order mark":
            return text.encode("utf-8-sig"), "text/html"
        case "is in Windows-1252 and says UTF-8":
            return text.encode("cp1252"), "application/rss+xml; charset=utf-8"
    return text.encode(), "application/rss+xml"


def listed(kind: str, rows: list[Row]) -> tuple[bytes, str]:
    """The same in what is no feed, and its content type."""
    if kind == "answers in JSON":
        found = [
            {"key": key, "links": [link], "head": {"line": title}, "text": body, "at": at.timestamp()}
            for title, body, link, key, at in rows
        ]
        return json.dumps({"data": {"items": found}}).encode(), "application/json"
    if kind == "is a page of links":
        links = "".join(f"<h3><a href='{urlsplit(link).path}'>{title}</a></h3>" for title, _, link, _, _ in rows)
        frame = f"<nav><h3><a href='/about'>About us and our advertising</a></h3></nav><main>{links}</main>"
        return f"<html><head><meta charset='utf-8'></head><body>{frame}</body></html>".encode(), "text/html"
    entries = "".join(
        f"<url><loc>{link}</loc><lastmod>{at.isoformat()}</lastmod>"
        + (
            f"<n:news><n:publication_date>{at.isoformat()}</n:publication_date><n:title>{title}</n:title></n:news>"
            if kind == "is a news sitemap"
            else ""
        )
        + "</url>"
        for title, _, link, _, at in rows
    )
    spaces = (
        "xmlns='http://www.sitemaps.org/schemas/sitemap/0.9' xmlns:n='http://www.google.com/schemas/sitemap-news/0.9'"
    )
    return f"<?xml version='1.0' encoding='utf-8'?><urlset {spaces}>{entries}</urlset>".encode(), "application/xml"


def rude(world: World, delay_s: float) -> list[str]:
    """Every manner that was broken, by the server's own log."""
    broken = list(world.broken)
    by_host: defaultdict[str, list[Asked]] = defaultdict(list)
    for asked in world.log:
        by_host[asked.host].append(asked)
    for host, asked in by_host.items():
        slow = {world.kind(n) for n in range(world.count) if world.host(n) == host} & {"has pages and a Crawl-delay"}
        least = timedelta(seconds=CRAWL_DELAY_S if slow else delay_s) - timedelta(milliseconds=2)
        asked.sort(key=lambda one: one.at)
        for earlier, later in pairwise(asked):
            # Crawl-delay is known once robots.txt was read.
            if later.at - earlier.at < least and earlier.path != "/robots.txt":
                broken.append(f"{host}: {later.path} {later.at - earlier.at} after {earlier.path}")
        if asked[0].path != "/robots.txt":
            broken.append(f"{host}: {asked[0].path} was asked for before robots.txt")
        robots = [one.at for one in asked if one.path == "/robots.txt" and one.status == 200]
        for a, b in pairwise(robots):
            if b - a < BELIEVED and not any(a <= restart <= b for restart in world.restarts):
                broken.append(f"{host}: robots.txt again after {b - a}")
        broken += [f"{host}: {one.path} is forbidden" for one in asked if "/secret/" in one.path]
        broken += [f"{host}: {one.path} beside another request" for one in asked if not one.alone]
        broken += [f"{host}: no honest User-Agent: {one.agent!r}" for one in asked if "moodwire" not in one.agent]
        if host == SECRET:
            broken.append(f"a private address was asked for {asked[0].path}")
    return broken

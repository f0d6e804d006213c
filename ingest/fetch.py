"""Fetching by HTTP: within limits of size and time, from public addresses, as robots.txt and the hosts' pace allow."""

import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import httpx
from protego import Protego

from ingest.manners import MOST_CRAWL_DELAY_S, Host, after, ahead_s, refusal
from moodwire.settings import Fetching, host_of
from moodwire.web import guarded, is_public, refused_here, retry_after_s

MAX_REDIRECTS = 5
ROBOTS_S = 86_400.0  # for which a robots.txt is believed
ROBOTS_AGAIN_S = 300.0  # after which one that could not be had is asked for again
ROBOTS_BYTES = 512_000
AGENT = "moodwire"  # our name in robots.txt
MOST_HOSTS = 1000  # that are kept in mind
GONE_S = 86_400.0  # until what is gone for good is asked for again
_PART = 65_536  # bytes unpacked at once
_TRY_AGAIN = {408, 425, 429}  # of 4xx: another time it may be there
_MOVED_FOR_GOOD = {301, 308}
_TROUBLE = {429, 500, 502, 503, 504}


class Fetched(NamedTuple):
    data: bytes
    content_type: str
    etag: str
    last_modified: str
    not_modified: bool = False
    moved_to: str = ""  # where the document now stands for good, if not where it was asked for
    ahead_s: float = 0.0  # the host's clock, of ours
    took_s: float = 0.0  # for the last request


class Failed(NamedTuple):
    reason: str
    wait_s: float | None = None  # what the host asked for
    of_host: bool = True  # the host is in trouble, not only this document
    lasting: bool = False  # it is of no use to try again soon


class _Answer(NamedTuple):
    status: int
    headers: httpx.Headers
    data: bytes
    took_s: float


class _Robots(NamedTuple):
    rules: Protego | None  # None: it could not be had, so nothing is fetched
    until_s: float
    fault: str = ""  # why it could not be had


class Fetcher:
    """Fetches from public addresses, and from the hosts that the configuration names itself. Safe to use from threads.

    A host is asked one thing at a time. `clock` tells the time by which hosts are left alone, `stop` is what a wait is
    ended by. hosts: what is known of them, by origin; `keep` is told when that changes.
    """

    def __init__(
        self,
        settings: Fetching,
        trusted_hosts: Collection[str] = (),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        stop: threading.Event | None = None,
        hosts: Mapping[str, Host] | None = None,
        keep: Callable[[str, Host], None] = lambda origin, host: None,
    ) -> None:
        self._settings = settings
        self._trusted = frozenset(trusted_hosts)
        self._clock = clock
        self._stop = stop or threading.Event()
        self._keep = keep
        contact = f" (+{settings.contact})" if settings.contact else ""
        self._client = httpx.Client(
            timeout=settings.timeout_s,
            headers={"User-Agent": settings.user_agent + contact, "Accept-Encoding": "gzip, deflate"},
            follow_redirects=False,
            transport=guarded(self._allowed, "fetching.allow_private = true allows it"),
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # none outlives the document it is set for
        )
        self._hosts = dict(hosts or {})
        self._turns: dict[str, threading.Lock] = {}
        self._robots: dict[str, _Robots] = {}

    def get(self, url: str, etag: str = "", last_modified: str = "") -> Fetched | Failed:
        """The document at `url`, or why there is none. `etag`, `last_modified`: of the copy at hand."""
        headers = {}
        if etag:
            headers["If-None-Match"] = etag
        if last_modified:
            headers["If-Modified-Since"] = last_modified
        moved_to, for_good, cookies = "", True, httpx.Cookies()
        for _ in range(MAX_REDIRECTS):
            if not url.startswith(("http://", "https://")) or not host_of(url):
                return Failed(f"not an http address: {url[:200]}", lasting=True)
            if forbidden := self._forbidden(url):
                return forbidden
            answer = self._ask(url, headers, self._settings.max_bytes, cookies)
            if isinstance(answer, Failed):
                return answer
            if answer.status in {301, 302, 303, 307, 308} and answer.headers.get("location"):
                url = urljoin(url, answer.headers["location"])
                for_good = for_good and answer.status in _MOVED_FOR_GOOD
                moved_to = url if for_good else moved_to
                continue
            if answer.status == httpx.codes.NOT_MODIFIED:
                return Fetched(b"", "", "", "", not_modified=True, moved_to=moved_to, took_s=answer.took_s)
            if answer.status != httpx.codes.OK:
                return self._refused(answer)
            found = answer.headers
            return Fetched(
                answer.data,
                found.get("content-type", ""),
                found.get("etag", ""),
                found.get("last-modified", ""),
                moved_to=moved_to,
                ahead_s=ahead_s(found.get("date", ""), self._clock()),
                took_s=answer.took_s,
            )
        return Failed(f"more than {MAX_REDIRECTS} redirects")

    def close(self) -> None:
        self._stop.set()
        self._client.close()

    def _refused(self, answer: _Answer) -> Failed:
        if answer.status == httpx.codes.GONE:
            return Failed("HTTP 410, gone for good: take it out of the configuration", GONE_S, lasting=True)
        wait_s = retry_after_s(answer.headers.get("retry-after", ""), self._clock())
        lasting = 400 <= answer.status < 500 and answer.status not in _TRY_AGAIN
        return Failed(f"HTTP {answer.status}", wait_s if answer.status in _TROUBLE else None, lasting=lasting)

    def _ask(
        self, url: str, headers: dict[str, str], max_bytes: int, cookies: httpx.Cookies | None = None
    ) -> _Answer | Failed:
        """One request, in the host's turn and after its delay."""
        origin = _origin(url)
        turn = self._turns.setdefault(origin, threading.Lock())
        while not self._stop.is_set():
            with turn:
                host, now_s = self._hosts.get(origin, Host()), self._now_s()
                if refused := refusal(host, now_s):
                    return Failed(refused)
                if host.free_at_s <= now_s:
                    answer = self._read(url, headers, max_bytes, cookies)
                    self._judge(origin, host, answer)
                    return answer
            self._stop.wait(host.free_at_s - now_s)  # nobody's turn: who comes first asks first
        return Failed("stopped", of_host=False)

    def _judge(self, origin: str, host: Host, answer: _Answer | Failed) -> None:
        """What an answer tells of the host."""
        trouble = answer.of_host if isinstance(answer, Failed) else answer.status in _TROUBLE
        wait_s = None
        if isinstance(answer, _Answer) and trouble:
            wait_s = retry_after_s(answer.headers.get("retry-after", ""), self._clock())
        now = after(host, "bad" if trouble else "good", self._now_s(), self._delay_s(origin), wait_s)
        self._hosts[origin] = now
        if now.failures or host.failures:
            self._keep(origin, now)
        if len(self._hosts) > MOST_HOSTS:
            for other, known in list(self._hosts.items()):
                if not known.failures and known.free_at_s < self._now_s():
                    del self._hosts[other]

    def _now_s(self) -> float:
        return self._clock().timestamp()

    def _read(
        self, url: str, headers: dict[str, str], max_bytes: int, cookies: httpx.Cookies | None
    ) -> _Answer | Failed:
        began = time.monotonic()
        try:
            request = self._client.build_request("GET", url, headers=headers)
            if cookies:
                cookies.set_cookie_header(request)
            response = self._client.send(request, stream=True)
            try:
                data = bytearray()
                for part in _unpacked(response) if response.status_code == httpx.codes.OK else ():
                    data += part
                    if len(data) > max_bytes:
                        return Failed(
                            f"larger than {max_bytes} bytes (fetching.max_bytes)", of_host=False, lasting=True
                        )
                    if self._stop.is_set():
                        return Failed("stopped", of_host=False)
                    if time.monotonic() - began > self._settings.timeout_s:
                        return Failed(f"not done after {self._settings.timeout_s:g} s (fetching.timeout_s)")
            finally:
                response.close()
            if cookies is not None:
                cookies.extract_cookies(response)
            return _Answer(response.status_code, response.headers, bytes(data), time.monotonic() - began)
        except _Packed as error:
            return Failed(str(error), of_host=False)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            if self._stop.is_set():
                return Failed("stopped", of_host=False)
            return Failed(str(error) if refused_here(error) else f"{type(error).__name__}: {error}")

    def _forbidden(self, url: str) -> Failed | None:
        """Why robots.txt (RFC 9309) forbids an address."""
        origin = _origin(url)
        known = self._robots.get(origin)
        if known is None or known.until_s <= self._now_s():
            known = self._robots[origin] = self._asked_robots(origin)
            if self._stop.is_set():
                return Failed("stopped", of_host=False)
            for other in list(self._robots)[:-MOST_HOSTS]:
                self._robots.pop(other, None)
        if known.rules is None:
            return Failed(f"nothing is fetched from {origin} for now: its robots.txt could not be had ({known.fault})")
        if known.rules.can_fetch(url, AGENT):
            return None
        return Failed(f"{origin}/robots.txt forbids it", of_host=False, lasting=True)

    def _asked_robots(self, origin: str) -> _Robots:
        url = f"{origin}/robots.txt"
        for _ in range(MAX_REDIRECTS):
            answer = self._ask(url, {}, ROBOTS_BYTES)
            if isinstance(answer, Failed) or answer.status in _TROUBLE:
                fault = answer.reason if isinstance(answer, Failed) else f"HTTP {answer.status}"
                return _Robots(None, self._now_s() + ROBOTS_AGAIN_S, fault)
            if answer.status in {301, 302, 303, 307, 308} and _origin(urljoin(url, answer.headers.get("location", ""))):
                url = urljoin(url, answer.headers.get("location", ""))
                continue
            # Whatever else is no robots.txt forbids nothing (section 2.3.1.3).
            text = answer.data.decode("utf-8", "replace") if answer.status == httpx.codes.OK else ""
            return _Robots(Protego.parse(text), self._now_s() + ROBOTS_S)
        return _Robots(Protego.parse(""), self._now_s() + ROBOTS_S)

    def _delay_s(self, origin: str) -> float:
        robots = self._robots.get(origin)
        asked = robots.rules.crawl_delay(AGENT) if robots and robots.rules else None
        return max(self._settings.host_delay_s, min(asked or 0.0, MOST_CRAWL_DELAY_S))

    def _allowed(self, host: str, address: str) -> bool:
        if self._settings.allow_private or host in self._trusted:
            return True
        return is_public(address)


class _Packed(Exception):
    """A body that cannot be unpacked."""


def _unpacked(response: httpx.Response) -> Iterator[bytes]:
    """A body in small parts, each unpacked by itself: one packed a thousandfold fills no memory. Raises _Packed."""
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding in {"", "identity"}:
        yield from response.iter_raw()
        return
    if coding not in {"gzip", "x-gzip", "deflate"}:
        raise _Packed(f"packed as {coding!r}; gzip and deflate were asked for")
    unpacker = None
    try:
        for part in response.iter_raw():
            if unpacker is None:  # some send deflate without zlib's header
                bare = coding == "deflate" and (part[0] & 15 != 8 or int.from_bytes(part[:2]) % 31)
                unpacker = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32)
            left = part
            while left:
                if unpacker.eof:  # gzip may come in several pieces; what else follows is padding
                    if not left.startswith(b"\x1f\x8b"):
                        break
                    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
                yield unpacker.decompress(left, _PART)
                left = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    except zlib.error as error:
        raise _Packed(f"cannot be unpacked: {error}") from error
    if unpacker is not None and not unpacker.eof:
        raise _Packed(f"its {coding} stream is cut")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()

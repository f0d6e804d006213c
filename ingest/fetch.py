"""Fetching by HTTP: within limits of size and time, from public addresses, as robots.txt and the hosts' pace allow."""

import threading
import time
from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import httpx
from protego import Protego

from ingest.manners import MOST_CRAWL_DELAY_S, Host, after, refusal
from moodwire.settings import Fetching, host_of
from moodwire.web import guarded, is_public, refused_here, retry_after_s

MAX_REDIRECTS = 5
ROBOTS_S = 86_400.0  # for which a robots.txt is believed
ROBOTS_AGAIN_S = 300.0  # after which one that could not be had is asked for again
ROBOTS_BYTES = 512_000
AGENT = "moodwire"  # our name in robots.txt
_MOVED_FOR_GOOD = {301, 308}
_TROUBLE = {429, 500, 502, 503, 504}


class Fetched(NamedTuple):
    data: bytes
    content_type: str
    etag: str
    last_modified: str
    not_modified: bool = False
    moved_to: str = ""  # where the document now stands for good, if not where it was asked for


class Failed(NamedTuple):
    reason: str
    wait_s: float | None = None  # what the host asked for
    of_host: bool = True  # the host is in trouble, not only this document


class _Answer(NamedTuple):
    status: int
    headers: httpx.Headers
    data: bytes


class _Robots(NamedTuple):
    rules: Protego | None  # None: it could not be had, so nothing is fetched
    until_s: float
    fault: str = ""  # why it could not be had


class Fetcher:
    """Fetches from public addresses, and from the hosts that the configuration names itself. Safe to use from threads.

    A host is asked one thing at a time.
    """

    def __init__(self, settings: Fetching, trusted_hosts: Collection[str] = ()) -> None:
        self._settings = settings
        self._trusted = frozenset(trusted_hosts)
        self._client = httpx.Client(
            timeout=settings.timeout_s,
            headers={"User-Agent": settings.user_agent},
            follow_redirects=False,
            transport=guarded(self._allowed, "fetching.allow_private = true allows it"),
            trust_env=False,
        )
        self._hosts: defaultdict[str, Host] = defaultdict(Host)
        self._turns: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._robots: dict[str, _Robots] = {}
        self._closed = threading.Event()

    def get(self, url: str, etag: str = "", last_modified: str = "") -> Fetched | Failed:
        """The document at `url`, or why there is none. `etag`, `last_modified`: of the copy at hand."""
        headers = {}
        if etag:
            headers["If-None-Match"] = etag
        if last_modified:
            headers["If-Modified-Since"] = last_modified
        moved_to, for_good = "", True
        for _ in range(MAX_REDIRECTS):
            if not url.startswith(("http://", "https://")) or not host_of(url):
                return Failed(f"not an http address: {url[:200]}")
            if forbidden := self._forbidden(url):
                return Failed(forbidden)
            answer = self._ask(url, headers, self._settings.max_bytes)
            if isinstance(answer, Failed):
                return answer
            if answer.status in {301, 302, 303, 307, 308} and answer.headers.get("location"):
                url = urljoin(url, answer.headers["location"])
                for_good = for_good and answer.status in _MOVED_FOR_GOOD
                moved_to = url if for_good else moved_to
                continue
            if answer.status == httpx.codes.NOT_MODIFIED:
                return Fetched(b"", "", "", "", not_modified=True, moved_to=moved_to)
            if answer.status != httpx.codes.OK:
                wait_s = retry_after_s(answer.headers.get("retry-after", ""), datetime.now(UTC))
                return Failed(f"HTTP {answer.status}", wait_s if answer.status in _TROUBLE else None)
            found = answer.headers
            return Fetched(
                answer.data,
                found.get("content-type", ""),
                found.get("etag", ""),
                found.get("last-modified", ""),
                moved_to=moved_to,
            )
        return Failed(f"more than {MAX_REDIRECTS} redirects")

    def close(self) -> None:
        self._closed.set()
        self._client.close()

    def _ask(self, url: str, headers: dict[str, str], max_bytes: int) -> _Answer | Failed:
        """One request, in the host's turn and after its delay."""
        origin = _origin(url)
        with self._turns[origin]:
            if refused := refusal(self._hosts[origin], time.monotonic()):
                return Failed(refused)
            if self._closed.wait(max(self._hosts[origin].free_at_s - time.monotonic(), 0)):
                return Failed("stopped", of_host=False)
            answer = self._read(url, headers, max_bytes)
            trouble = answer.of_host if isinstance(answer, Failed) else answer.status in _TROUBLE
            wait_s = None
            if isinstance(answer, _Answer) and trouble:
                wait_s = retry_after_s(answer.headers.get("retry-after", ""), datetime.now(UTC))
            self._hosts[origin] = after(
                self._hosts[origin], "bad" if trouble else "good", time.monotonic(), self._delay_s(origin), wait_s
            )
            return answer

    def _read(self, url: str, headers: dict[str, str], max_bytes: int) -> _Answer | Failed:
        deadline = time.monotonic() + self._settings.timeout_s
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                data = bytearray()
                for part in response.iter_bytes() if response.status_code == httpx.codes.OK else ():
                    data += part
                    if len(data) > max_bytes:
                        return Failed(f"larger than {max_bytes} bytes (fetching.max_bytes)", of_host=False)
                    if self._closed.is_set():
                        return Failed("stopped", of_host=False)
                    if time.monotonic() > deadline:
                        return Failed(f"not done after {self._settings.timeout_s:g} s (fetching.timeout_s)")
                return _Answer(response.status_code, response.headers, bytes(data))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            return Failed(str(error) if refused_here(error) else f"{type(error).__name__}: {error}")

    def _forbidden(self, url: str) -> str:
        """Why robots.txt (RFC 9309) forbids an address; empty if it does not."""
        origin = _origin(url)
        with self._turns[origin]:
            known = self._robots.get(origin)
            if known is None or known.until_s <= time.monotonic():
                known = self._robots[origin] = self._asked_robots(origin)
        if known.rules is None:
            return f"nothing is fetched from {origin} for now: its robots.txt could not be had ({known.fault})"
        return "" if known.rules.can_fetch(url, AGENT) else f"{origin}/robots.txt forbids it"

    def _asked_robots(self, origin: str) -> _Robots:
        url = f"{origin}/robots.txt"
        for _ in range(MAX_REDIRECTS):
            answer = self._ask(url, {}, ROBOTS_BYTES)
            if isinstance(answer, Failed) or answer.status in _TROUBLE:
                fault = answer.reason if isinstance(answer, Failed) else f"HTTP {answer.status}"
                return _Robots(None, time.monotonic() + ROBOTS_AGAIN_S, fault)
            if answer.status in {301, 302, 303, 307, 308} and _origin(urljoin(url, answer.headers.get("location", ""))):
                url = urljoin(url, answer.headers.get("location", ""))
                continue
            # Whatever else is no robots.txt forbids nothing (section 2.3.1.3).
            text = answer.data.decode("utf-8", "replace") if answer.status == httpx.codes.OK else ""
            return _Robots(Protego.parse(text), time.monotonic() + ROBOTS_S)
        return _Robots(Protego.parse(""), time.monotonic() + ROBOTS_S)

    def _delay_s(self, origin: str) -> float:
        robots = self._robots.get(origin)
        asked = robots.rules.crawl_delay(AGENT) if robots and robots.rules else None
        return max(self._settings.host_delay_s, min(asked or 0.0, MOST_CRAWL_DELAY_S))

    def _allowed(self, host: str, address: str) -> bool:
        if self._settings.allow_private or host in self._trusted:
            return True
        return is_public(address)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()

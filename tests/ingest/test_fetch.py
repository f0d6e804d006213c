"""Fetching, against a real server that keeps a log of what it was asked and when."""

import gzip
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from ingest.fetch import Failed, Fetched, Fetcher
from ingest.manners import Host
from moodwire.settings import Fetching
from moodwire.web import is_public
from tests.helpers import T0, turn_private

QUICK = Fetching(timeout_s=1.0, max_bytes=100_000, host_delay_s=0, allow_private=True)


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        self.robots: tuple[int, str] = (404, "")
        self.log: list[Any] = []  # from, to, path, If-None-Match
        self.retry_after = ""
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def paths(self) -> list[str]:
        return [path for _, _, path, _ in self.log]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        tag = self.headers.get("If-None-Match", "")
        entry = [time.monotonic(), 0.0, self.path, tag]
        self.server.log.append(entry)
        if self.path == "/robots.txt":
            self.answer(self.server.robots[0], self.server.robots[1].encode())
        elif self.path.startswith("/moved"):
            self.answer(308 if self.path == "/moved-for-good" else 302, b"", Location="/plain")
        elif self.path == "/busy":
            self.answer(429, b"", **({"Retry-After": self.server.retry_after} if self.server.retry_after else {}))
        elif self.path == "/etag":
            self.answer(304 if tag == '"v1"' else 200, b"" if tag == '"v1"' else b"tagged", ETag='"v1"')
        elif self.path == "/bomb":
            self.answer(200, bomb(), **{"Content-Encoding": "gzip"})
        elif self.path == "/bomb-in-bomb":
            self.answer(200, gzip.compress(bomb()), **{"Content-Encoding": "gzip, gzip"})
        elif self.path == "/cut":
            self.answer(200, gzip.compress(b"plain")[:-6], **{"Content-Encoding": "gzip"})
        elif self.path == "/gzip":
            self.answer(200, gzip.compress(b"pl") + gzip.compress(b"ain") + b"\0", **{"Content-Encoding": "gzip"})
        elif self.path in {"/deflate", "/bare"}:
            packer = zlib.compressobj(wbits=zlib.MAX_WBITS if self.path == "/deflate" else -zlib.MAX_WBITS)
            self.answer(200, packer.compress(b"plain") + packer.flush(), **{"Content-Encoding": "deflate"})
        elif self.path == "/wall":
            passed = "seen=yes" in self.headers.get("Cookie", "")
            self.answer(200 if passed else 302, b"behind", **{"Location": "/wall", "Set-Cookie": "seen=yes"})
        elif self.path == "/agent":
            self.answer(200, self.headers["User-Agent"].encode())
        elif self.path == "/gone":
            self.answer(410, b"")
        elif self.path == "/lies":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"short")
        elif self.path == "/reset":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif self.path.startswith("/broken"):
            self.answer(503, b"")
        else:
            self.answer(200, b"plain")
        entry[1] = time.monotonic()

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return "Mon, 04 Mar 2024 13:00:00 GMT"

    def log_message(self, format: str, *args: object) -> None:
        pass


@cache
def bomb() -> bytes:
    return gzip.compress(b"\0" * 50_000_000)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


def reason(got: Fetched | Failed) -> str:
    assert isinstance(got, Failed), got
    return got.reason


def test_an_unchanged_document_is_not_sent_again(server: Server) -> None:
    fetcher = Fetcher(QUICK)
    first = fetcher.get(f"{server.url}/etag")
    assert isinstance(first, Fetched)
    second = fetcher.get(f"{server.url}/etag", first.etag, first.last_modified)
    assert isinstance(second, Fetched)
    assert second.not_modified
    assert [tag for _, _, path, tag in server.log if path == "/etag"] == ["", '"v1"']


def test_http_2_is_offered_and_a_handshake_that_stalls_ends() -> None:
    """In the first words of the TLS handshake (RFC 7301); nobody answers them."""
    with socket.create_server(("127.0.0.1", 0)) as door, ThreadPoolExecutor(1) as other:
        heard = other.submit(lambda: door.accept()[0])
        told = reason(Fetcher(QUICK).get(f"https://127.0.0.1:{door.getsockname()[1]}/"))
        with heard.result() as taken:
            assert b"\x02h2" in taken.recv(16_384)
    assert "robots.txt could not be had (ConnectTimeout" in told


def test_private_addresses_are_refused_unless_the_configuration_names_them(server: Server) -> None:
    told = reason(Fetcher(Fetching(host_delay_s=0)).get(f"{server.url}/plain"))
    assert "127.0.0.1 is not a public address" in told
    assert "allow_private" in told
    assert server.log == []
    assert isinstance(Fetcher(Fetching(host_delay_s=0), ["127.0.0.1"]).get(f"{server.url}/plain"), Fetched)
    for address in ("file:///etc/passwd", "ftp://example.org/", "http://"):
        assert "not an http address" in reason(Fetcher(QUICK).get(address))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        *((private, False) for private in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "0.0.0.0")),
        *((private, False) for private in ("224.0.0.1", "::1", "fe80::1%eth0", "fd00::1", "ff02::1")),
        *((wrapping, False) for wrapping in ("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:a01:203::1")),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_a_name_that_turns_private_after_it_was_looked_up_gains_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is judged where the connection is made: each lookup here gives another answer."""
    turn_private(monkeypatch)
    told = reason(Fetcher(Fetching(host_delay_s=0)).get(f"http://turning.test:{server.server_address[1]}/plain"))
    assert "turning.test is not a public address" in told
    assert server.log == []


def test_robots_txt_is_asked_once_and_honoured(server: Server) -> None:
    server.robots = (200, "User-agent: *\nDisallow: /secret\n\nUser-agent: moodwire\nDisallow: /ours\n")
    fetcher = Fetcher(QUICK)
    assert reason(fetcher.get(f"{server.url}/ours")) == f"{server.url}/robots.txt forbids it"
    assert isinstance(fetcher.get(f"{server.url}/plain"), Fetched)
    assert server.paths() == ["/robots.txt", "/plain"]


@pytest.mark.parametrize(("status", "allowed"), [(404, True), (403, True), (503, False), (429, False)])
def test_a_robots_txt_that_is_not_there_allows_all_and_one_that_fails_nothing(
    server: Server, status: int, allowed: bool
) -> None:
    server.robots = (status, "")
    got = Fetcher(QUICK).get(f"{server.url}/plain")
    if allowed:
        assert isinstance(got, Fetched)
    else:
        assert f"robots.txt could not be had (HTTP {status})" in reason(got)
        assert server.paths() == ["/robots.txt"]


def test_a_host_is_asked_one_thing_at_a_time_with_the_delay_between(server: Server) -> None:
    server.robots = (200, "User-agent: *\nCrawl-delay: 0.2\n")
    fetcher = Fetcher(QUICK)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda n: fetcher.get(f"{server.url}/plain?{n}"), range(8)))
    assert all(isinstance(each, Fetched) for each in got)
    spans = sorted((began, ended) for began, ended, path, _ in server.log if path != "/robots.txt")
    gaps = [later[0] - earlier[1] for earlier, later in pairwise(spans)]
    assert len(gaps) == 7
    assert min(gaps) > 0.15, "Crawl-delay: 0.2 is kept, whatever the number of workers"


def test_retry_after_is_kept_for_the_whole_host(server: Server) -> None:
    server.retry_after = "120"
    fetcher = Fetcher(QUICK)
    assert fetcher.get(f"{server.url}/busy") == Failed("HTTP 429", 120.0)
    assert "asked to be left alone; it is asked again in 120 s" in reason(fetcher.get(f"{server.url}/plain"))
    assert server.paths() == ["/robots.txt", "/busy"]


def test_a_host_that_keeps_failing_is_left_alone(server: Server) -> None:
    fetcher = Fetcher(QUICK)
    told = [reason(fetcher.get(f"{server.url}/broken?{n}")) for n in range(8)]
    assert told[:5] == ["HTTP 503"] * 5
    assert "failed 5 times in a row" in told[-1]
    assert server.paths().count("/robots.txt") == 1
    assert len(server.paths()) == 1 + 5


def test_a_redirect_for_good_is_told_and_one_for_now_is_not(server: Server) -> None:
    fetcher = Fetcher(QUICK)
    for_good, for_now = (fetcher.get(f"{server.url}{path}") for path in ("/moved-for-good", "/moved"))
    assert isinstance(for_good, Fetched)
    assert isinstance(for_now, Fetched)
    assert (for_good.moved_to, for_now.moved_to) == (f"{server.url}/plain", "")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/bomb", "larger than 100000 bytes"),
        ("/bomb-in-bomb", "packed as 'gzip, gzip'"),
        ("/cut", "gzip stream is cut"),
        ("/lies", "RemoteProtocolError"),
        ("/reset", "Error"),
        ("/gone", "gone for good"),
    ],
)
def test_bad_bodies_have_their_reason(server: Server, path: str, told: str) -> None:
    bomb()  # which takes the server longer than the fetcher waits
    assert told in reason(Fetcher(QUICK).get(f"{server.url}{path}"))


@pytest.mark.parametrize("path", ["/gzip", "/deflate", "/bare", "/plain"])
def test_a_packed_body_is_unpacked_whole(server: Server, path: str) -> None:
    got = Fetcher(QUICK).get(f"{server.url}{path}")
    assert isinstance(got, Fetched)
    assert got.data == b"plain"


def test_a_cookie_lives_as_long_as_the_redirects_of_one_document(server: Server) -> None:
    fetcher = Fetcher(QUICK)
    got = fetcher.get(f"{server.url}/wall")
    assert isinstance(got, Fetched)
    assert got.data == b"behind"
    before = len(server.paths())
    assert isinstance(fetcher.get(f"{server.url}/wall"), Fetched)
    assert len(server.paths()) - before == 2, "the second time it is shown the wall again"


def test_a_contact_is_told_and_a_host_s_clock_is_read(server: Server) -> None:
    got = Fetcher(replace(QUICK, contact="desk@example.org"), clock=lambda: T0).get(f"{server.url}/agent")
    assert isinstance(got, Fetched)
    assert got.data == b"moodwire/0.1 (news monitor) (+desk@example.org)"
    assert got.ahead_s == 3600


def test_a_host_in_trouble_is_left_alone_after_a_restart_too(server: Server) -> None:
    kept: dict[str, Host] = {}
    first = Fetcher(QUICK, keep=kept.__setitem__)
    for n in range(5):
        reason(first.get(f"{server.url}/broken?{n}"))
    assert kept[server.url].failures == 5
    asked = len(server.log)
    again = Fetcher(QUICK, hosts=kept, keep=kept.__setitem__)
    assert "failed 5 times in a row" in reason(again.get(f"{server.url}/plain"))
    assert len(server.log) == asked
    later = Fetcher(QUICK, clock=lambda: datetime.now(UTC) + timedelta(minutes=2), hosts=kept, keep=kept.__setitem__)
    assert isinstance(later.get(f"{server.url}/plain"), Fetched)
    assert kept[server.url].failures == 0


def test_closing_ends_a_wait(server: Server) -> None:
    fetcher = Fetcher(Fetching(host_delay_s=50, allow_private=True))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(fetcher.get, f"{server.url}/plain")
        while not server.log:
            time.sleep(0.01)
        fetcher.close()
        assert reason(waiting.result(5)) == "stopped"

"""Fetching by HTTP, within limits of size and time."""

import ipaddress
import socket
import time
from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import urljoin

import httpx

from moodwire.settings import Fetching, host_of

MAX_REDIRECTS = 5


class Fetched(NamedTuple):
    data: bytes
    content_type: str
    etag: str
    last_modified: str
    not_modified: bool = False


class Failed(NamedTuple):
    reason: str


class Fetcher:
    """Fetches from public addresses, and from the hosts that the configuration names itself."""

    def __init__(self, settings: Fetching, trusted_hosts: Collection[str] = ()) -> None:
        self._settings = settings
        self._trusted = frozenset(trusted_hosts)
        self._client = httpx.Client(
            timeout=settings.timeout_s, headers={"User-Agent": settings.user_agent}, follow_redirects=False
        )

    def get(self, url: str, etag: str = "", last_modified: str = "") -> Fetched | Failed:
        """The document at `url`, or why there is none. `etag`, `last_modified`: of the copy at hand."""
        headers = {}
        if etag:
            headers["If-None-Match"] = etag
        if last_modified:
            headers["If-Modified-Since"] = last_modified
        deadline = time.monotonic() + self._settings.timeout_s
        try:
            for _ in range(MAX_REDIRECTS):
                if refused := self._refused(url):
                    return Failed(refused)
                with self._client.stream("GET", url, headers=headers) as response:
                    if response.has_redirect_location:
                        url = urljoin(url, response.headers.get("location", ""))
                        continue
                    return self._read(response, deadline)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return Failed(f"{type(error).__name__}: {error}")
        return Failed(f"more than {MAX_REDIRECTS} redirects")

    def close(self) -> None:
        self._client.close()

    def _read(self, response: httpx.Response, deadline: float) -> Fetched | Failed:
        if response.status_code == httpx.codes.NOT_MODIFIED:
            return Fetched(b"", "", "", "", not_modified=True)
        if response.status_code != httpx.codes.OK:
            return Failed(f"HTTP {response.status_code}")
        data = bytearray()
        for part in response.iter_bytes():
            data += part
            if len(data) > self._settings.max_bytes:
                return Failed(f"larger than {self._settings.max_bytes} bytes (fetching.max_bytes)")
            if time.monotonic() > deadline:
                return Failed(f"not done after {self._settings.timeout_s:g} s (fetching.timeout_s)")
        headers = response.headers
        return Fetched(
            bytes(data), headers.get("content-type", ""), headers.get("etag", ""), headers.get("last-modified", "")
        )

    def _refused(self, url: str) -> str:
        host = host_of(url)
        if not url.startswith(("http://", "https://")) or not host:
            return f"not an http address: {url[:200]}"
        if self._settings.allow_private or host in self._trusted:
            return ""
        try:
            found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
        except OSError as error:
            return f"{host} has no address: {error}"
        if all(ipaddress.ip_address(address.split("%")[0]).is_global for address in found):
            return ""
        return f"{host} is not a public address; fetching.allow_private = true allows it"

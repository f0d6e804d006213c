"""What all who speak HTTP share: connections to public addresses only, and what a Retry-After asks for."""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpcore
import httpx

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def guarded(allowed: Callable[[str, str], bool], mend: str) -> httpx.HTTPTransport:
    """A transport that connects to what `allowed(host, address)` lets through, and to nothing else.

    It is asked at the connection itself, so that a name that changes its address in between gains nothing.
    mend: what the error tells the user to do.
    """
    transport = httpx.HTTPTransport(http2=True)
    # httpx has no public way to say how names are resolved; tests/ingest/test_fetch.py would tell if this one went.
    transport._pool._network_backend = _Guarded(allowed, mend)
    return transport


def refused_here(error: BaseException) -> bool:
    """Whether a transport's error says that an address was not let through, and not that the other side failed."""
    return isinstance(error.__cause__, _NotPublic)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, and so is the IPv4 address that it may wrap."""
    found = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    wrapped: ipaddress.IPv4Address | None = None
    if isinstance(found, ipaddress.IPv6Address):
        wrapped = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            wrapped = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return found.is_global and not found.is_multicast and (wrapped is None or is_public(str(wrapped)))


def retry_after_s(header: str, now: datetime) -> float | None:
    """The wait that a Retry-After header asks for (RFC 9110, section 10.2.3); None where it says nothing."""
    text = header.strip()
    if text.isdecimal():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max((until - now).total_seconds(), 0.0)


class _NotPublic(httpcore.ConnectError):
    """The cause of httpx's error where a connection was refused here."""


class _Guarded(httpcore.SyncBackend):
    def __init__(self, allowed: Callable[[str, str], bool], mend: str) -> None:
        self._is_allowed = allowed
        self._mend = mend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except OSError as error:
            raise httpcore.ConnectError(f"{host} has no address: {error}") from error
        good = [address for address in dict.fromkeys(found) if self._is_allowed(host, address)]
        if not good:
            raise _NotPublic(f"{host} is not a public address; {self._mend}")
        for address in good[:-1]:
            try:
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return super().connect_tcp(good[-1], port, timeout, local_address, socket_options)

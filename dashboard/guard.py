"""What stands before every page, callback, socket and answer: who asks, may they, from where, how often.

What is decided stands in `refusal` and `origin_fault`, which are pure; the rest reads the request and the store.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard import person
from dashboard.api.problems import problem
from moodwire.access import LOCAL, Bucket, Person
from moodwire.errors import MoodwireError
from moodwire.settings import Dashboard
from moodwire.store import access
from moodwire.store.db import Store
from moodwire.web import LOOPBACK

COOKIE = "moodwire"
OPEN_PATHS = ("/login",)
SAFE = {"GET", "HEAD", "OPTIONS"}
API = "/api/"


class Asked(NamedTuple):
    """What of a request decides."""

    method: str  # WEBSOCKET for one
    path: str
    where: str  # path and what follows it
    host: str
    origin: str  # empty: it was not said
    site: str  # Sec-Fetch-Site, empty: it was not said
    peer: str
    cookie: str
    token: str
    named: str  # whom a proxy names, in its header
    wants_page: bool


class Refusal(NamedTuple):
    status: int
    reason: str


def needs_login(settings: Dashboard) -> bool:
    return settings.login == "always" or settings.host not in LOOPBACK


def policy(script_hashes: Sequence[str]) -> str:
    """Scripts are ours alone. The parts of the pages set styles by script, which asks for inline ones."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' {' '.join(script_hashes)}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "manifest-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def origin_fault(asked: Asked, settings: Dashboard, by_token: bool) -> str:
    """Why a request may be another site's doing; empty: it is not.

    A browser sends cookies, and reaches loopback, for any site that its user looks at. Reading is stopped by the
    browser itself, but for sockets; what changes something must come from our own pages. A token in a header is nothing
    that a browser sends by itself.
    """
    if not needs_login(settings) and _name(asked.host) not in LOOPBACK | {_name(urlsplit(settings.origin).netloc)}:
        return f"there is no such host here: {asked.host}"  # a name of someone else's that leads to loopback
    if by_token or asked.method in SAFE:
        return ""
    if asked.origin:
        own = settings.origin or f"http://{asked.host}"
        return "" if asked.origin == own else f"this comes from another site: {asked.origin}"
    if asked.method == "WEBSOCKET" or needs_login(settings):
        return "a browser says which site it comes from; this does not"
    return "" if asked.site in {"", "same-origin", "none"} else "this comes from another site"


def refusal(asked: Asked, settings: Dashboard, who: Person | None) -> Refusal | None:
    """Why a request is not answered; who: None where nobody is logged in."""
    if fault := origin_fault(asked, settings, bool(asked.token)):
        return Refusal(403, fault)
    if who is None and asked.path not in OPEN_PATHS:
        what = "this token holds no more" if asked.token else "log in, or give a token: Authorization: Bearer …"
        return Refusal(401, what)
    return None


class Guard:
    """ASGI middleware, around everything."""

    def __init__(
        self, app: ASGIApp, store: Store, settings: Dashboard, clock: Callable[[], datetime], policy: str
    ) -> None:
        self._app = app
        self._store = store
        self._settings = settings
        self._clock = clock
        self._tries = Bucket(10, 1 / 30)  # of tokens that do not hold, by address
        self._calls = Bucket(200, 20)  # of the API, by person and address
        self._headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        }
        if settings.origin.startswith("https:"):
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        asked = read(scope, self._settings)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if needs_login(self._settings) and not asked.path.startswith(("/assets/", "/_dash-component")):
                    headers.setdefault("Cache-Control", "no-store")
                if message["status"] == 200 and asked.path.startswith("/assets/") and "?m=" in asked.where:
                    # A changed file has another address.
                    headers.setdefault("Cache-Control", "public, max-age=31536000, immutable")
            await send(message)

        answer = await self._refused(asked)
        if answer is None:
            await self._app(scope, receive, guarded)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
        else:
            await answer(scope, receive, guarded)

    async def _refused(self, asked: Asked) -> Response | None:
        """The answer to a request that is not let through; else whose it is is known from here on."""
        now_s = time.monotonic()
        if asked.token and (wait := self._tries.wait_s(asked.peer, now_s, 0.0)):
            return _later(wait)
        try:
            who = await self._who(asked)
        except MoodwireError as error:
            return problem(503, str(error), headers={"Retry-After": "5"})
        if asked.token and who is None:
            self._tries.wait_s(asked.peer, now_s)
        if found := refusal(asked, self._settings, who):
            if found.status == 401 and asked.wants_page:
                return RedirectResponse(f"/login?next={quote(asked.where, safe='/')}", 303)
            more = {"WWW-Authenticate": "Bearer"} if found.status == 401 else {}
            return problem(found.status, found.reason, headers=more)
        if who is not None:
            if asked.path.startswith(API) and (wait := self._calls.wait_s(f"{who.name} {asked.peer}", now_s)):
                return _later(wait)
            person.is_now(who)
        return None

    async def _who(self, asked: Asked) -> Person | None:
        settings = self._settings
        if asked.named and asked.peer in settings.proxies:
            return Person(asked.named[: access.MOST_NAME], settings.proxy_role)
        if asked.token:
            return await asyncio.to_thread(access.by_token, self._store, asked.token, self._clock())
        if not needs_login(settings):
            return LOCAL
        if asked.cookie:
            return await asyncio.to_thread(access.by_session, self._store, asked.cookie, self._clock())
        return None


def read(scope: Scope, settings: Dashboard) -> Asked:
    headers = Headers(scope=scope)
    query = scope.get("query_string", b"").decode("latin-1")
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return Asked(
        method="WEBSOCKET" if scope["type"] == "websocket" else scope["method"],
        path=scope["path"],
        where=scope.get("raw_path", b"/").decode("latin-1") + ("?" + query if query else ""),
        host=headers.get("host", ""),
        origin=headers.get("origin", ""),
        site=headers.get("sec-fetch-site", ""),
        peer=scope["client"][0] if scope.get("client") else "",
        cookie=cookie_parser(headers.get("cookie", "")).get(COOKIE, ""),
        token=token.strip() if scheme.lower() == "bearer" else "",
        named=headers.get(settings.name_header, "").strip() if settings.name_header else "",
        wants_page="text/html" in headers.get("accept", "") and scope["type"] == "http" and scope["method"] == "GET",
    )


def _later(wait_s: float) -> Response:
    wait = max(int(wait_s + 1), 1)
    return problem(429, f"asked too often; again in {wait} s", headers={"Retry-After": f"{wait}"})


def _name(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""

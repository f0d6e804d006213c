"""Logging in with a token, and out."""

import base64
import hashlib
import html
import time
from collections.abc import Callable
from datetime import datetime
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.responses import Response

from dashboard import person
from dashboard.guard import COOKIE
from moodwire.access import Bucket
from moodwire.settings import Dashboard
from moodwire.store import access
from moodwire.store.db import Store

MOST_BYTES = 4096  # of a form
STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 Georgia,'Noto Serif',serif;max-width:26em;margin:12vh auto;"
    "padding:0 16px}label,input,button{display:block;width:100%;box-sizing:border-box;font:inherit}"
    "input,button{padding:8px 10px;margin:6px 0 14px}.bad{color:light-dark(#8d3d08,#ff9d5c)}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def router(store: Store, settings: Dashboard, clock: Callable[[], datetime]) -> APIRouter:
    routes = APIRouter()
    tries = Bucket(5, 1 / 30)  # five at once, then one in half a minute; by address

    @routes.get("/login", include_in_schema=False)
    def ask(next: str = "/") -> Response:
        return _page(next)

    @routes.post("/login", include_in_schema=False)
    async def log_in(request: Request) -> Response:
        peer = request.client.host if request.client else ""
        if int(request.headers.get("content-length") or 0) > MOST_BYTES:
            return _page("/", "That is no token.", 413)
        form = parse_qs((await request.body())[:MOST_BYTES].decode("utf-8", "replace"))
        token, then = form.get("token", [""])[0].strip(), form.get("next", ["/"])[0]
        if wait := tries.wait_s(peer, time.monotonic()):
            text = f"Too many tries. Again in {wait:.0f} s."
            return _page(then, text, 429, {"Retry-After": f"{int(wait) + 1}"})
        cookie = access.begin_session(store, token, clock(), peer)
        if cookie is None:
            return _page(then, "This token does not hold: it is mistyped, revoked or over.", 401)
        answer = RedirectResponse(_inside(then), 303)
        secure = settings.origin.startswith("https:")
        age = int(access.SESSION.total_seconds())
        answer.set_cookie(COOKIE, cookie, max_age=age, path="/", secure=secure, httponly=True, samesite="lax")
        return answer

    @routes.post("/logout", include_in_schema=False)
    def log_out(request: Request) -> Response:
        if cookie := request.cookies.get(COOKIE):
            access.end_session(store, cookie, person.current().name, clock())
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, path="/")
        return answer

    return routes


def _inside(path: str) -> str:
    """Only places of ours are gone to."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"


def _page(then: str, fault: str = "", status: int = 200, headers: dict[str, str] | None = None) -> Response:
    told = f"<p class='bad' role='alert'>{html.escape(fault)}</p>" if fault else ""
    text = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>moodwire: log in</title>"
        f"<meta name='viewport' content='width=device-width'><style>{STYLE}</style></head><body><main>"
        f"<h1>moodwire</h1>{told}<form method='post' action='/login'><label for='token'>Your token</label>"
        "<input id='token' name='token' type='password' autocomplete='current-password' required autofocus>"
        f"<input name='next' type='hidden' value='{html.escape(_inside(then), quote=True)}'>"
        "<button type='submit'>Log in</button></form>"
        "<p>Whoever runs this moodwire makes tokens: <code>moodwire tokens make</code>.</p></main></body></html>"
    )
    more = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store", **(headers or {})}
    return HTMLResponse(text, status, more)

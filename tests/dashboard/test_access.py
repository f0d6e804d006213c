"""Who gets in, what they may, and what other sites can do: nothing."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bench.browser import browser
from dashboard import stage
from dashboard.guard import Asked, needs_login, origin_fault, refusal
from moodwire.access import LOCAL, Person
from moodwire.errors import ConfigError
from moodwire.settings import Dashboard
from moodwire.stage import Context
from moodwire.store import access, queries
from moodwire.store.commands import waiting
from tests.dashboard.site import INCIDENT, SETTINGS, add, alarm, clean, see, served
from tests.helpers import context

ASKED = Asked("GET", "/", "/", "127.0.0.1:8050", "", "", "127.0.0.1", "", "", "", False)
LOGIN = Dashboard(port=0, login="always")
Site = tuple[Context, str]


@contextmanager
def site(folder: Path, dashboard: Dashboard = LOGIN) -> Iterator[Site]:
    folder.mkdir(exist_ok=True)
    c = context(folder, replace(SETTINGS, dashboard=dashboard), lambda: datetime.now(UTC), "dashboard")
    add(c, 3, "Plain story")
    access.make_token(c.store, "root", "admin", "test", datetime.now(UTC))
    with served(c) as url:
        yield c, url


def token(c: Context, name: str, role: Any) -> str:
    return access.make_token(c.store, name, role, "test", datetime.now(UTC))


@pytest.mark.parametrize(
    ("dashboard", "asks"),
    [
        (Dashboard(), False),
        (Dashboard(host="localhost"), False),
        (Dashboard(host="::1"), False),
        (Dashboard(login="always"), True),
        (Dashboard(host="0.0.0.0"), True),
        (Dashboard(host="192.168.1.5"), True),
        (Dashboard(host="::"), True),
    ],
)
def test_beyond_loopback_a_login_is_asked_for(dashboard: Dashboard, asks: bool) -> None:
    assert needs_login(dashboard) == asks


@pytest.mark.parametrize("dashboard", [LOGIN, Dashboard(port=0, host="0.0.0.0")])
def test_where_nobody_could_log_in_it_refuses_to_start(tmp_path: Path, dashboard: Dashboard) -> None:
    c = context(tmp_path, replace(SETTINGS, dashboard=dashboard))
    with pytest.raises(ConfigError, match="moodwire tokens make"):
        stage.run(c)


@pytest.mark.parametrize(
    ("dashboard", "changes", "refused"),
    [
        (Dashboard(), {}, False),
        (Dashboard(), {"method": "POST", "origin": "http://127.0.0.1:8050"}, False),
        (Dashboard(), {"method": "POST"}, False),  # a program of one's own machine
        (Dashboard(), {"method": "POST", "origin": "https://evil.example"}, True),
        (Dashboard(), {"method": "POST", "origin": "http://127.0.0.1:9999"}, True),
        (Dashboard(), {"method": "POST", "origin": "null"}, True),
        (Dashboard(), {"method": "POST", "site": "cross-site"}, True),
        (Dashboard(), {"method": "WEBSOCKET"}, True),
        (Dashboard(), {"method": "WEBSOCKET", "origin": "https://evil.example"}, True),
        (Dashboard(), {"method": "WEBSOCKET", "origin": "http://127.0.0.1:8050"}, False),
        (Dashboard(), {"host": "evil.example:8050"}, True),  # its name leads to loopback
        (Dashboard(), {"host": "[::1]:8050"}, False),
        (Dashboard(origin="https://mood.example"), {"host": "mood.example"}, False),
        (LOGIN, {"method": "POST", "cookie": "c"}, True),
        (LOGIN, {"method": "POST", "cookie": "c", "origin": "http://127.0.0.1:8050"}, False),
        (LOGIN, {"method": "POST", "token": "t", "origin": "https://evil.example"}, False),
        (
            Dashboard(login="always", origin="https://mood.example"),
            {"method": "POST", "cookie": "c", "host": "mood.example", "origin": "https://mood.example"},
            False,
        ),
        (
            Dashboard(login="always", origin="https://mood.example"),
            {"method": "POST", "cookie": "c", "host": "mood.example", "origin": "http://mood.example"},
            True,
        ),
    ],
)
def test_what_another_site_asks_for_is_refused(dashboard: Dashboard, changes: dict[str, Any], refused: bool) -> None:
    asked = ASKED._replace(**changes)
    assert bool(origin_fault(asked, dashboard, bool(asked.token))) == refused
    found = refusal(asked, dashboard, Person("ada", "admin"))
    assert (found is not None) == refused
    assert found is None or found.status == 403


def test_who_is_not_logged_in_sees_the_login_only() -> None:
    for path in ("/", "/incidents", "/api/v1/stories", "/_dash-layout", "/export/stories.csv", "/assets/moodwire.css"):
        found = refusal(ASKED._replace(path=path), LOGIN, None)
        assert found is not None
        assert found.status == 401
    assert refusal(ASKED._replace(path="/login"), LOGIN, None) is None
    assert refusal(ASKED, Dashboard(), LOCAL) is None


def test_a_token_is_asked_for_and_opens_a_session(tmp_path: Path) -> None:
    with site(tmp_path) as (c, url), httpx.Client(base_url=url) as client:
        for path in ("/", "/api/v1/stories", "/export/stories.csv", "/_dash-layout", "/assets/moodwire.css"):
            assert client.get(path).status_code == 401, path
        there = client.get("/series/all?span=7d", headers={"Accept": "text/html"})
        assert (there.status_code, there.headers["Location"]) == (303, "/login?next=/series/all%3Fspan%3D7d")
        secret = token(c, "ada", "viewer")
        assert client.get("/api/v1/stories", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
        assert client.get("/api/v1/stories", headers={"Authorization": "Bearer mw_wrong"}).status_code == 401
        form = {"token": secret, "next": "/series/all?span=7d"}
        assert client.post("/login", data=form).status_code == 403, "no word of where it comes from"
        assert client.post("/login", data=form, headers={"Origin": "https://evil.example"}).status_code == 403
        own = {"Origin": url}
        wrong = client.post("/login", data={**form, "token": "mw_no"}, headers=own)
        assert (wrong.status_code, "does not hold" in wrong.text) == (401, True)
        done = client.post("/login", data=form, headers=own)
        assert (done.status_code, done.headers["Location"]) == (303, "/series/all?span=7d")
        cookie = done.headers["Set-Cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert "secure" not in cookie, "the browser would not send it over http"
        assert client.get("/api/v1/stories").status_code == 200
        assert client.post("/_dash-update-component", json={}).status_code == 403
        access.revoke_token(c.store, "ada", "test", datetime.now(UTC))
        assert client.get("/api/v1/stories").status_code == 401


@pytest.mark.parametrize("then", ["https://evil.example", "//evil.example", "/\\evil.example", "x", "/a\r\nX: y"])
def test_a_login_leads_to_no_other_site(tmp_path: Path, then: str) -> None:
    with site(tmp_path) as (c, url), httpx.Client(base_url=url) as client:
        form = {"token": token(c, "ada", "viewer"), "next": then}
        assert client.post("/login", data=form, headers={"Origin": url}).headers["Location"] == "/"


def test_behind_tls_the_cookie_is_secure(tmp_path: Path) -> None:
    origin = "https://mood.example"
    with site(tmp_path, replace(LOGIN, origin=origin)) as (c, url), httpx.Client(base_url=url) as client:
        form = {"token": token(c, "ada", "viewer")}
        done = client.post("/login", data=form, headers={"Origin": origin, "Host": "mood.example"})
        assert "secure" in done.headers["Set-Cookie"].lower()
        assert "max-age" in done.headers["Strict-Transport-Security"]


def test_whoever_tries_tokens_has_to_wait(tmp_path: Path) -> None:
    with site(tmp_path) as (c, url), httpx.Client(base_url=url, headers={"Origin": url}) as client:
        answers = [client.post("/login", data={"token": f"mw_{n}"}) for n in range(7)]
        assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2
        assert int(answers[-1].headers["Retry-After"]) > 0
        assert client.post("/login", data={"token": token(c, "ada", "viewer")}).status_code == 429
        by_header = [
            client.get("/api/v1/stories", headers={"Authorization": f"Bearer mw_{n}"}).status_code for n in range(12)
        ]
        assert by_header == [401] * 10 + [429] * 2
        assert list(queries.trail(c.store, 20)["what"]).count("login refused") == 5


def test_the_api_is_asked_so_often_and_no_more(tmp_path: Path) -> None:
    with site(tmp_path) as (c, url), httpx.Client(base_url=url) as client:
        mine, other = token(c, "ada", "viewer"), token(c, "bob", "viewer")
        statuses = []
        for _ in range(600):
            answer = client.get("/api/v1/nothing", headers={"Authorization": f"Bearer {mine}"})
            statuses.append(answer.status_code)
            if answer.status_code == 429:
                break
        assert statuses[:200] == [404] * 200
        assert (statuses[-1], answer.headers["Content-Type"]) == (429, "application/problem+json")
        assert client.get("/api/v1/nothing", headers={"Authorization": f"Bearer {other}"}).status_code == 404


def test_a_proxy_is_believed_where_it_is_known(tmp_path: Path) -> None:
    trusted = Dashboard(port=0, login="always", proxies=("127.0.0.1",), name_header="X-User", proxy_role="viewer")
    with site(tmp_path / "a", trusted) as (_, url):
        assert httpx.get(f"{url}/api/v1/stories", headers={"X-User": "ada"}).status_code == 200
        assert httpx.get(f"{url}/api/v1/stories").status_code == 401
        assert httpx.get(f"{url}/api/v1/trail", headers={"X-User": "ada"}).status_code == 403, "a viewer"
    with site(tmp_path / "b", replace(trusted, proxies=("10.0.0.2",))) as (_, url):
        assert httpx.get(f"{url}/api/v1/stories", headers={"X-User": "ada"}).status_code == 401


def test_the_trail_is_for_admins(tmp_path: Path) -> None:
    with site(tmp_path) as (c, url), httpx.Client(base_url=url) as client:
        for name, role, status in (("v", "viewer", 403), ("a", "analyst", 403), ("b", "admin", 200)):
            answer = client.get("/api/v1/trail", headers={"Authorization": f"Bearer {token(c, name, role)}"})
            assert answer.status_code == status
        assert [row["about"] for row in answer.json()["data"]] == ["b, admin", "a, analyst", "v, viewer", "root, admin"]


def handshake(url: str, origin: str | None) -> str:
    """The first line that the server answers to a WebSocket's opening."""
    host, port = url.removeprefix("http://").split(":")
    lines = [
        "GET /_dash-ws-callback HTTP/1.1",
        f"Host: {host}:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *([f"Origin: {origin}"] if origin else []),
    ]
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return connection.recv(4096).split(b"\r\n")[0].decode()


@pytest.mark.parametrize("dashboard", [Dashboard(port=0), LOGIN])
def test_no_other_site_opens_a_socket(tmp_path: Path, dashboard: Dashboard) -> None:
    with site(tmp_path, dashboard) as (_, url):
        assert " 403 " in handshake(url, "https://evil.example") + " "
        assert " 403 " in handshake(url, None) + " "
        assert ("101" in handshake(url, url)) == (dashboard is not LOGIN), "and none who is not logged in"


def test_every_answer_has_the_headers_that_keep_a_browser_safe(tmp_path: Path) -> None:
    with site(tmp_path, Dashboard(port=0)) as (_, url):
        for path in ("/", "/api/v1/stories", "/export/stories.csv", "/assets/moodwire.js", "/api/v1/nothing", "/login"):
            headers = httpx.get(url + path).headers
            assert headers["X-Content-Type-Options"] == "nosniff", path
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            assert "'unsafe-eval'" not in headers["Content-Security-Policy"]
            scripts = headers["Content-Security-Policy"].partition("script-src")[2].partition(";")[0]
            assert "unsafe" not in scripts
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with browser() as opened:
        yield opened


def log_in(chrome: Chrome, url: str, secret: str) -> None:
    chrome.delete_all_cookies()
    chrome.get(url)
    chrome.find_element(By.ID, "token").send_keys(secret)
    chrome.find_element(By.CSS_SELECTOR, "button").click()


def test_what_people_do_bears_the_name_they_logged_in_with(tmp_path: Path, chrome: Chrome) -> None:
    with site(tmp_path) as (c, url):
        alarm(c)
        log_in(chrome, url + INCIDENT, token(c, "ada", "analyst"))
        see(chrome, "Evidence")
        see(chrome, "log out")
        assert chrome.current_url == url + INCIDENT
        assert chrome.find_element(By.ID, "who").get_attribute("value") == "ada"
        assert not chrome.find_element(By.ID, "who").is_enabled()
        chrome.find_element(By.ID, "act-text").send_keys("on it")
        chrome.find_element(By.XPATH, "//button[text()='comment']").click()
        see(chrome, "it waits for the alarms")
        with c.store.read() as connection:
            assert [given.by for given in waiting(connection, "alerts")] == ["ada"]
        first = queries.trail(c.store, 1).iloc[0]
        assert (first["by"], first["what"]) == ("ada", "comment")
        blocked = "var s = document.createElement('script'); s.text = 'window.hacked = 1'; document.body.append(s)"
        chrome.execute_script(blocked)
        assert chrome.execute_script("return window.hacked === undefined"), "the policy holds"
        chrome.get_log("browser")  # tells of that
        chrome.find_element(By.XPATH, "//button[text()='log out']").click()
        WebDriverWait(chrome, 20).until(lambda d: d.find_elements(By.ID, "token"))
        chrome.get(url)
        assert chrome.find_elements(By.ID, "token"), "logged out"
        clean(chrome)


def test_a_viewer_sees_all_and_changes_nothing(tmp_path: Path, chrome: Chrome) -> None:
    with site(tmp_path) as (c, url):
        alarm(c)
        log_in(chrome, url + INCIDENT, token(c, "vic", "viewer"))
        see(chrome, "Evidence")
        chrome.find_element(By.XPATH, "//button[text()='acknowledge']").click()
        see(chrome, "You may look, and not change anything")
        chrome.get(url + "/label")
        see(chrome, "The model says")
        chrome.find_element(By.TAG_NAME, "body").send_keys("3")
        see(chrome, "You may look, and not change anything")
        with c.store.read() as connection:
            assert waiting(connection, "alerts") == []
        assert "label" not in set(queries.trail(c.store, 10)["what"])
        clean(chrome)

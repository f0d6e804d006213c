"""The pages in a real Chromium, over a real store, served by the real stage."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bench.browser import browser
from dashboard import stage
from moodwire.errors import PortInUse
from moodwire.records import Alert, Evidence, Scored
from moodwire.settings import Company, Dashboard, Settings, Watchlist
from moodwire.stage import Context
from moodwire.store.articles import Draft, store_articles
from moodwire.store.incidents import store_alerts
from moodwire.store.scores import store_scores
from moodwire.store.windows import Totals, store_windows, window_of
from tests.helpers import context, scored

NOW = datetime.now(UTC)
SETTINGS = Settings(
    dashboard=Dashboard(port=0),
    watchlist=Watchlist(companies=(Company(symbol="X", names=("Xenon Motors",)),)),
)
HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script> {{7*7}} \u202egnp.exe"


def add(c: Context, number: int, title: str, url: str = "https://example.org/a", label: str = "negative") -> None:
    """A story just published, scored, and in its windows."""
    at = NOW - timedelta(minutes=number)
    draft = Draft(f"a{number}", "Wire", url, title, "", "en", at, at + timedelta(seconds=1))
    store_articles(c.store, [draft], lambda new: new.id)
    base = scored(number, 0, label, ("all", "entity:X", "topic:legal"))
    fields = {name: getattr(base, name) for name in Scored.__struct_fields__}
    store_scores(c.store, [Scored(**{**fields, "published_at": at, "seen_at": at})], timedelta(hours=2))
    totals = Totals(1, int(label == "negative"), 0, int(label == "positive"), 0, 0, 0, -7000)
    start = at.replace(second=0, microsecond=0)
    store_windows(c.store, [window_of((name, start), totals) for name in ("all", "entity:X", "topic:legal")])


def alarm(c: Context) -> None:
    story = Evidence(
        story_id="a1",
        article_id="a1",
        title=HOSTILE,
        url="javascript:alert(1)",
        source="Wire",
        published_at=NOW,
        score=-0.7,
        copies=2,
    )
    alert = Alert(
        incident_id="r/entity:X/1",
        rule="r",
        series="entity:X",
        state="firing",
        at=NOW,
        since=NOW,
        window_s=3600,
        observed=9,
        expected=0.5,
        log10_tail=-8.0,
        reason="9 where 0.5 are expected",
        evidence=(story,),
    )
    row = {
        "incident_id": alert.incident_id,
        "rule": "r",
        "series": "entity:X",
        "state": "firing",
        "since": NOW,
        "until": None,
        "quiet_since": None,
    }
    with c.store.write() as connection:
        store_alerts(connection, [alert], [row], {}, NOW, ("alerts", NOW, {}))


@contextmanager
def served(c: Context) -> Iterator[str]:
    thread = threading.Thread(target=stage.run, args=(c,))
    thread.start()
    try:
        pulse = c.pulse
        waiting = threading.Event()
        while not pulse.note:
            assert thread.is_alive()
            waiting.wait(0.01)
        yield pulse.note.rstrip("/")
    finally:
        c.stop.set()
        thread.join(10)
    assert not thread.is_alive(), "the dashboard did not stop"


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with browser() as driver:
        yield driver


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Context, str]]:
    c = context(tmp_path, SETTINGS, lambda: datetime.now(UTC), "dashboard")
    add(c, 3, "Plain story")
    with served(c) as url:
        yield c, url


def see(driver: Chrome, text: str) -> None:
    WebDriverWait(driver, 30).until(
        lambda d: text in d.find_element(By.TAG_NAME, "body").text, f"{text!r} does not appear on {driver.current_url}"
    )


def clean(driver: Chrome) -> None:
    errors = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
    assert driver.execute_script("return window.hacked === undefined")


def test_a_new_story_appears_on_the_open_overview(site: tuple[Context, str], chrome: Chrome) -> None:
    c, url = site
    chrome.get(url)
    see(chrome, "Plain story")
    see(chrome, "X · Xenon Motors")
    chrome.execute_script("window.still = 1")
    add(c, 2, "Story that came later")
    see(chrome, "Story that came later")
    assert chrome.execute_script("return window.still === 1"), "the page was loaded again"
    clean(chrome)


def test_a_series_and_the_alerts_are_shown(site: tuple[Context, str], chrome: Chrome) -> None:
    c, url = site
    alarm(c)
    chrome.get(url)
    see(chrome, "9 where 0.5 are expected")
    WebDriverWait(chrome, 30).until(lambda d: d.find_elements(By.LINK_TEXT, "X · Xenon Motors"))[0].click()
    see(chrome, "Its stories")
    see(chrome, "Plain story")
    chrome.get(f"{url}/alerts")
    see(chrome, "X · Xenon Motors: firing")
    assert chrome.find_elements(By.CSS_SELECTOR, "a[href^=javascript]") == []
    clean(chrome)


def test_hostile_titles_are_text(site: tuple[Context, str], chrome: Chrome) -> None:
    c, url = site
    add(c, 1, HOSTILE, url="javascript:alert(1)")
    alarm(c)
    for path in ("/", "/series/entity%3AX", "/alerts"):
        chrome.get(url + path)
        see(chrome, "<script>window.hacked=1</script>")
        assert chrome.find_elements(By.CSS_SELECTOR, "a[href^=javascript], img[src=x]") == []
        clean(chrome)


def test_the_span_is_in_the_address(site: tuple[Context, str], chrome: Chrome) -> None:
    _, url = site
    chrome.get(f"{url}/?span=7d")
    see(chrome, "mood of all news, last 7d")
    clean(chrome)


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    taken = stage.listen("127.0.0.1", 0)
    port = taken.getsockname()[1]
    with pytest.raises(PortInUse, match=rf"127.0.0.1:{port}.*MOODWIRE_DASHBOARD_PORT"):
        stage.run(context(tmp_path, Settings(dashboard=Dashboard(port=port))))
    taken.close()

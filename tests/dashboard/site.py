"""A store with news in it, the dashboard served over it by its own stage, and a browser that looks at it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from dashboard import stage
from moodwire.records import Alert, Course, Evidence, Topic
from moodwire.settings import Company, Dashboard, Rule, Settings, Watchlist
from moodwire.stage import Context
from moodwire.store.articles import Draft, store_articles
from moodwire.store.incidents import post, store_alerts
from moodwire.store.scores import store_scores
from moodwire.store.windows import save_positions, store_windows
from tests.helpers import scored
from trends.count import Totals, window_of

NOW = datetime.now(UTC)
SETTINGS = Settings(
    dashboard=Dashboard(port=0),
    watchlist=Watchlist(companies=(Company(symbol="X", names=("Xenon Motors",)),)),
    rules=(Rule(name="r"),),
)
HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script> {{7*7}} \u202egnp.exe"
FORMULA = '=HYPERLINK("http://evil.example","x")'
INCIDENT_ID = "r/entity:X/1"
INCIDENT = "/incidents/r%2Fentity%3AX%2F1"
SERIES = ("all", "entity:X", "topic:legal")


def add(
    c: Context,
    number: int,
    title: str,
    url: str = "https://example.org/a",
    label: str = "negative",
    source: str = "Wire",
    series: tuple[str, ...] = SERIES,
    live: bool = False,  # known from now on; else it is history, known when it was published
) -> None:
    """A story published `number` minutes ago, scored, in its windows, and told of as trends does."""
    at = NOW - timedelta(minutes=number)
    draft = Draft(f"a{number}", source, url, title, f"The body of {title}", "en", at, at + timedelta(seconds=1))
    store_articles(c.store, [draft], lambda new: new.id)
    record = replace(
        scored(number, 0, label, series),
        published_at=at,
        seen_at=draft.seen_at,
        source=source,
        topics=(Topic("legal", 0.9),),
        replayed=not live,
    )
    store_scores(c.store, [record], timedelta(hours=2))
    score = {"negative": -7000, "neutral": 0, "positive": 7000}[label]
    totals = Totals(1, *(int(label == name) for name in ("negative", "neutral", "positive")), 0, 0, 0, score)
    start = at.replace(second=0, microsecond=0)
    store_windows(c.store, [window_of((name, start), totals) for name in series])
    with c.store.write() as connection:
        save_positions(connection, "trends", at, {0: number})


def alarm(c: Context, title: str = HOSTILE) -> None:
    story = Evidence(
        story_id="a1",
        article_id="a1",
        title=title,
        url="javascript:alert(1)",
        source="Wire",
        published_at=NOW,
        score=-0.7,
        copies=2,
    )
    alert = Alert(
        incident_id=INCIDENT_ID,
        rule="r",
        series="entity:X",
        state="firing",
        at=NOW,
        since=NOW - timedelta(minutes=2),
        window_s=3600,
        observed=9,
        expected=0.5,
        log10_tail=-8.0,
        reason="9 where 0.5 are expected",
        evidence=(story,),
        words=("recall",),
        sources=("Wire",),
        share=0.75,
        ends_when="fewer than 4 in an hour",
        course=Course(start=NOW - timedelta(hours=4), step_s=600, negative=(0,) * 20 + (1, 2, 3, 3)),
    )
    row = {
        "incident_id": alert.incident_id,
        "rule": "r",
        "series": "entity:X",
        "state": "firing",
        "since": alert.since,
        "until": None,
        "quiet_since": None,
        "number": 1,
        "told_tail": -8.0,
        "told_observed": 9,
    }
    with c.store.write() as connection:
        store_alerts(connection, [alert], [row], {alert.incident_id: ["desk"]}, NOW, NOW)
        message = msgspec.json.encode({"alerts": [alert]})
        post(connection, "desk", "k1", message, [alert], NOW)


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


def see(driver: Chrome, text: str) -> None:
    WebDriverWait(driver, 60).until(
        lambda d: text in d.find_element(By.TAG_NAME, "body").text, f"{text!r} does not appear on {driver.current_url}"
    )


def clean(driver: Chrome) -> None:
    """Nothing went wrong in the page, and nothing of what it shows ran."""
    errors = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors, "\n".join(errors)
    assert driver.execute_script("return window.hacked === undefined"), "what a title says was run"

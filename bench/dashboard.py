"""How soon the pages have their data, how soon a record is on the screen, and what fifty open pages cost.

./run bench dashboard [--scores N] [--days D] [--postgres] [--visits N] [--seconds S] [--pages N] [--work DIR]

Fills a store with two years of invented news (5 million scores unless told otherwise; kept in DIR, and not made again),
serves it by the dashboard's own stage in a process of its own, and looks at it with headless Chromium:
1. each page is visited with spans that nobody asked for before: the time of each request for data, by page;
2. twenty articles a second are written as the stages write them: from the commit to the drawn row, in an open overview;
3. so many pages' requests are sent at each beat, as their browsers would: the server's CPU, memory and answers.
Prints Markdown.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import psutil
import sqlalchemy as sa
from msgspec.structs import replace
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bench.browser import browser
from dashboard import stage
from moodwire.labels import TOPIC_NAMES
from moodwire.records import Scored, Sentiment, Series, Topic, encode
from moodwire.settings import Company, Dashboard, Place, Rule, Settings, Watchlist
from moodwire.stage import Context
from moodwire.store import schema
from moodwire.store.articles import Draft, store_articles
from moodwire.store.db import Store, insert_absent
from moodwire.store.health import Pulse, stage_health
from moodwire.store.scores import store_scores
from moodwire.store.windows import ROLLUPS_S, save_positions, store_windows
from moodwire.stream.embedded import EmbeddedLog
from trends.count import Totals, window_of

COMPANIES, TOPICS = 300, sorted(TOPIC_NAMES)[:12]
SOURCES = [f"Source {n}" for n in range(40)]
WORDS = tuple(
    [
        "bank",
        "oil",
        "profit",
        "recall",
        "court",
        "merger",
        "shares",
        "falls",
        "rises",
        "wins",
        "sues",
        "bond",
        "rate",
        "chip",
        "airline",
        "steel",
        "drug",
        "loan",
    ]
)
CHUNK = 20_000
RATE = 20  # articles a second
SHOWN_AT_ONCE = 5  # articles of one moment, of which the first stand on top
SETTINGS = Settings(
    dashboard=Dashboard(port=0),
    watchlist=Watchlist(companies=tuple(Company(symbol=f"C{n}", names=(f"Company {n}",)) for n in range(COMPANIES))),
    rules=(Rule(name="companies"),),
)
PAGES = ("overview", "series", "compare", "crossed", "incidents", "search", "label", "rules", "health", "story")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=int, default=5_000_000)
    parser.add_argument("--days", type=float, default=730, help="that they are spread over")
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL of its own, instead of SQLite")
    parser.add_argument("--visits", type=int, default=20, help="of each page")
    parser.add_argument("--seconds", type=float, default=30, help="of live news")
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "moodwire-bench-dashboard")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.work)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    store = opened(options)
    began = time.monotonic()
    with store.read() as connection:
        held = connection.execute(sa.select(sa.func.count()).select_from(schema.scores)).scalar_one()
    if not held:
        fill(store, options.scores, timedelta(days=options.days))
    kind = "SQLite" if store.sqlite else "PostgreSQL"
    took = time.monotonic() - began
    print(f"{kind}, {held or options.scores:,} scores over {options.days:g} days (filled in {took:.0f} s); ", end="")
    print(f"{os.cpu_count()} cores, load {load:.1f} before\n", flush=True)
    with served(store, options.work) as (url, process), browser() as chrome:
        pages(chrome, url, options.visits, options.days)
        pixels(chrome, url, store, options.seconds)
        crowd(chrome, url, process, store, options.pages, options.seconds)


def opened(options: argparse.Namespace) -> Store:
    if options.postgres:
        from tests import services

        store = Store(services.postgres().database())
    else:
        store = Store(f"sqlite:///{options.work / f'{options.scores}-{options.days:g}.db'}")
    store.upgrade()
    return store


def serve(url: str, work: Path) -> None:
    """The dashboard's stage over a store, until the parent is gone."""
    store, parent = Store(url), os.getppid()

    def now() -> datetime:
        return datetime.now(UTC)

    with tempfile.TemporaryDirectory() as folder:
        log = EmbeddedLog(Path(folder))
        context = Context(Place(work), SETTINGS, store, log, now, Pulse(store, "dashboard", now))

        def watch() -> None:
            while os.getppid() == parent:
                time.sleep(0.5)
            context.stop.set()

        threading.Thread(target=watch, daemon=True).start()
        stage.run(context)


@contextmanager
def served(store: Store, work: Path) -> Iterator[tuple[str, psutil.Process]]:
    with store.write() as connection:
        connection.execute(sa.delete(schema.stages))
    address = store.url.render_as_string(hide_password=False)
    words = [sys.executable, "-m", "bench.dashboard", "--serve", address, "--work", str(work)]
    with subprocess.Popen(words) as process:
        try:
            while not (found := [row.note for row in stage_health(store) if row.note.startswith("http")]):
                assert process.poll() is None, "the dashboard did not come up"
                time.sleep(0.1)
            yield found[0].rstrip("/"), psutil.Process(process.pid)
        finally:
            process.terminate()


def fill(store: Store, count: int, past: timedelta) -> None:
    """Articles, scores and counted rows as classifiers leave them; windows and rollups from these by the store."""
    rng = np.random.default_rng(1)
    end = datetime.now(UTC)
    times = np.sort(rng.uniform(0, past.total_seconds(), count))
    months = [end - past + timedelta(days=n) for n in range(0, past.days + 30, 15)]
    for table in (schema.articles, schema.scores, schema.counted):
        store.make_room(table, months)
    titles = [" ".join(rng.choice(WORDS, 7)) for _ in range(4999)]
    for begin in range(0, count, CHUNK):
        articles, scores, counted = [], [], []
        moods, luck = rng.dirichlet((1, 2, 1), CHUNK), rng.random(CHUNK)
        for n in range(begin, min(begin + CHUNK, count)):
            record = invented(n, end - past + timedelta(seconds=float(times[n])), moods[n - begin], luck[n - begin])
            articles.append(article_row(record, titles[n % len(titles)]))
            scores.append(score_row(record))
            counted += counted_rows(record)
        with store.write() as connection:
            insert_absent(connection, schema.articles, articles)
            insert_absent(connection, schema.scores, scores)
            insert_absent(connection, schema.counted, counted)
    roll(store)
    with store.write() as connection:
        save_positions(connection, "trends", end, {0: count})
        if not store.sqlite:
            connection.exec_driver_sql("analyze")


def invented(n: int, at: datetime, mood: Sequence[float], luck: float) -> Scored:
    sentiment = Sentiment(*(float(part) for part in mood))
    topic = TOPICS[n % len(TOPICS)]
    company = f"C{int(COMPANIES * luck**3)}"  # some have much more news than others
    names = ["all", f"topic:{topic}", *([f"entity:{company}"] if n % 5 < 3 else [])]
    score = round(sentiment.score * 10_000)
    return Scored(
        id=f"n{n}", revision=1, source=SOURCES[n % len(SOURCES)], story_id=f"n{n}", published_at=at, seen_at=at,
        partition=0, offset=n, model="bench@1+0", sentiment=sentiment, topics=(Topic(topic, 0.9),), entities=(),
        series=tuple(Series(name, sentiment.label, score) for name in names), scored_at=at, replayed=True,
    )  # fmt: skip


def article_row(record: Scored, words: str) -> dict[str, Any]:
    return {
        "id": record.id, "revision": 1, "source": record.source, "url": f"https://news.example/{record.id}",
        "title": f"{words} {record.offset}", "body": f"{words} {words}", "language": "en",
        "published_at": record.published_at, "seen_at": record.seen_at, "story_id": record.story_id, "tickers": "",
        "replayed": True, "date_note": "", "content_hash": record.id,
    }  # fmt: skip


def score_row(record: Scored) -> dict[str, Any]:
    mood = record.sentiment
    return {
        "id": record.id, "revision": 1, "model": record.model, "source": record.source, "story_id": record.story_id,
        "published_at": record.published_at, "seen_at": record.seen_at, "p_negative": mood.negative,
        "p_neutral": mood.neutral, "p_positive": mood.positive, "score": mood.score, "topic": record.topics[0].name,
        "p_topic": 0.9, "record": encode(record), "scored_at": record.scored_at, "known_at": record.seen_at,
    }  # fmt: skip


def counted_rows(record: Scored) -> list[dict[str, Any]]:
    start = record.published_at.replace(second=0, microsecond=0)
    label = {"negative": -1, "neutral": 0, "positive": 1}[record.sentiment.label]
    return [
        {
            "series": series.name, "start": start, "partition": 0, "offset": record.offset, "id": record.id,
            "revision": 1, "story_id": record.story_id, "label": label, "score_e4": series.score_e4, "fresh": True,
            "first_article": True, "first_story": True,
        }
        for series in record.series
    ]  # fmt: skip


def roll(store: Store) -> None:
    names = [c.name for c in schema.windows.c if c.name not in {"series", "length_s", "start"}]
    one = (
        "count(*), count(*), sum(case when label = -1 then 1 else 0 end), sum(case when label = 0 then 1 else 0 end), "
    )
    one += "sum(case when label = 1 then 1 else 0 end)"
    fresh = one.partition(", ")[2]
    columns = f"series, length_s, start, {', '.join(names)}"
    with store.write() as connection:
        connection.exec_driver_sql(
            f"insert into windows ({columns}) select series, 60, start, {one}, {fresh}, sum(score_e4), count(*) "
            "from counted group by series, start"
        )
        for length in ROLLUPS_S:
            bin_ = (
                f"start / {length}000000 * {length}000000"
                if store.sqlite
                else f"to_timestamp(floor(extract(epoch from start) / {length}) * {length})"
            )
            sums = ", ".join(f"sum({name})" for name in names)
            connection.exec_driver_sql(
                f"insert into windows ({columns}) select series, {length}, {bin_}, {sums} from windows "
                f"where length_s = 60 group by series, {bin_}"
            )


def address(page: str, rng: random.Random, past_days: float) -> str:
    """Of a page, with a span of one to fourteen days that nobody has looked at."""
    end = datetime.now(UTC) - timedelta(seconds=86_400 * rng.uniform(0, 0.9 * past_days))
    begin = end - timedelta(days=rng.choice((1, 2, 7, 14)))
    span = f"?from={begin:%Y-%m-%dT%H:%M:%SZ}&to={end:%Y-%m-%dT%H:%M:%SZ}"
    company, topic = f"entity:C{rng.randrange(COMPANIES)}", f"topic:{rng.choice(TOPICS)}"
    return {
        "overview": f"/{span}",
        "series": f"/series/{quote(rng.choice((company, topic, 'all')), safe='')}{span}",
        "compare": f"/series/all{span}&also={company}&also={topic}&also=entity:C1&also=entity:C2&also=entity:C3",
        "crossed": f"/series/{quote(f'{topic}+{company}', safe='')}{span}",
        "incidents": f"/incidents{span}",
        "search": f"/search{span}&words={rng.choice(WORDS)}+{rng.choice(WORDS)}",
        "label": "/label",
        "rules": "/rules",
        "health": "/health",
        "story": f"/story/n{rng.randrange(1000)}",
    }[page]


def pages(chrome: Chrome, url: str, visits: int, days: float) -> None:
    rng = random.Random(5)
    print("| page | requests | p50, ms | p95, ms | slowest, ms | all there after, p95, ms |\n|---|---|---|---|---|---|")
    for page in PAGES:
        took: list[float] = []
        whole: list[float] = []
        for visit in range(visits + 1):
            chrome.get(url + address(page, rng, days))
            found = settled(chrome)
            if visit:  # the first one fetches the page's own files
                took += [entry["duration"] for entry in found]
                whole.append(max(entry["startTime"] + entry["duration"] for entry in found))
        print(
            f"| {page} | {len(took)} | {np.percentile(took, 50):.0f} | {np.percentile(took, 95):.0f} | "
            f"{max(took):.0f} | {np.percentile(whole, 95):.0f} |",
            flush=True,
        )
    print()


def settled(chrome: Chrome) -> list[dict[str, float]]:
    """The page's requests for data, once all that it waits for is there."""
    script = (
        "return performance.getEntriesByType('resource').filter(e => e.name.includes('_dash-update-component'))"
        ".map(e => ({duration: e.responseEnd - e.requestStart, startTime: e.startTime}))"
    )

    def done(driver: Chrome) -> bool:
        waits = driver.execute_script(
            "return document.querySelectorAll('#page .empty').length && document.body.innerText.includes('Loading …') "
            "|| !document.querySelector('#page > *') || document.querySelector('[data-dash-is-loading]') !== null"
        )
        return not waits

    WebDriverWait(chrome, 60, 0.1).until(done)
    seen = -1
    while seen != len(found := chrome.execute_script(script)):
        seen = len(found)
        time.sleep(0.3)
    return [entry for entry in found if entry["duration"] > 0]


def pixels(chrome: Chrome, url: str, store: Store, seconds: float) -> None:
    """From the commit of a record to its row on the screen, or a newer one's, in an open overview."""
    chrome.get(url)
    WebDriverWait(chrome, 60).until(lambda d: d.find_elements(By.CSS_SELECTOR, "#stories a.title"))
    chrome.execute_script(
        """window.drawn = []; window.most = 0;
        var look = function () {
          document.querySelectorAll('#stories a.title').forEach(function (a) {
            var n = /^live (\\d+)$/.exec(a.textContent);
            if (n && +n[1] > most) { most = +n[1]; drawn.push([most, Date.now()]); }
          });
          requestAnimationFrame(look);
        };
        look();"""
    )
    written = write_live(store, seconds)
    WebDriverWait(chrome, 60).until(lambda d: d.execute_script("return window.most") >= written[-1][0] - SHOWN_AT_ONCE)
    drawn = chrome.execute_script("return window.drawn")
    waits = []
    for number, at in written:
        shown = next((time_ for most, time_ in drawn if most >= number), None)
        if shown is not None:  # the very last ones may stand below the rows that fit
            waits.append(shown / 1000 - at)
    print(f"record to row, {len(waits)} of {len(written)} articles at {len(written) / seconds:.0f} a second: ", end="")
    print(f"p50 {np.percentile(waits, 50):.2f} s, p95 {np.percentile(waits, 95):.2f} s, slowest {max(waits):.2f} s\n")


def write_live(store: Store, seconds: float) -> list[tuple[int, float]]:
    """Twenty articles a second, as the stages leave them; returns number and time of commit of each."""
    with store.read() as connection:
        newest = connection.execute(sa.select(sa.func.max(schema.counted.c.offset))).scalar_one()
    written = []
    began, batch = time.monotonic(), 5
    for round_ in range(round(seconds * RATE / batch)):
        at = datetime.now(UTC)
        records, windows = [], []
        for n in range(batch):
            number = newest + 1 + round_ * batch + n
            record = replace(
                invented(number, at, (0.1, 0.8, 0.1), 0.5), replayed=False, id=f"live{number}", story_id=f"live{number}"
            )
            draft = Draft(record.id, record.source, "https://news.example/x", f"live {number}", "", "en", at, at)
            store_articles(store, [draft], lambda new: new.id)
            records.append(record)
            totals = Totals(1, 0, 1, 0, 0, 1, 0, 0)
            start = at.replace(second=0, microsecond=0)
            windows += [window_of((series.name, start), totals) for series in record.series]
        store_scores(store, records, timedelta(hours=2))
        store_windows(store, list({(w.series, w.start): w for w in windows}.values()))
        with store.write() as connection:
            save_positions(connection, "trends", at, {0: records[-1].offset})
        committed = time.time()
        written += [(record.offset, committed) for record in records]
        time.sleep(max(began + (round_ + 1) * batch / RATE - time.monotonic(), 0))
    return written


def crowd(chrome: Chrome, url: str, process: psutil.Process, store: Store, count: int, seconds: float) -> None:
    """The requests that an open overview sends at a beat, from so many clients, while news comes."""
    chrome.get("about:blank")
    chrome.execute_cdp_cmd("Page.enable", {})
    keep = (
        "window.sent = []; var was = window.fetch; window.fetch = function (a, b) {"
        " if (String(a).includes('_dash-update-component') && b && b.body) sent.push(b.body);"
        " return was.apply(this, arguments); };"
    )
    chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": keep})
    chrome.get(url)
    settled(chrome)
    chrome.execute_script("window.sent = []")
    write_live(store, 0.5)
    time.sleep(2.5)
    bodies = {json.loads(body)["output"]: body for body in chrome.execute_script("return window.sent")}
    chrome.get("about:blank")
    writer = threading.Thread(target=write_live, args=(store, seconds))
    cpu, began = process.cpu_times(), time.monotonic()
    writer.start()
    took = asyncio.run(ask(url, list(bodies.values()), count, seconds))
    writer.join()
    used, passed = process.cpu_times(), time.monotonic() - began
    share = (used.user + used.system - cpu.user - cpu.system) / passed
    print(f"{count} pages, {len(bodies)} requests each at every beat of a second: {len(took)} answers, ", end="")
    print(f"p50 {np.percentile(took, 50):.0f} ms, p95 {np.percentile(took, 95):.0f} ms; the server used ", end="")
    print(f"{share:.2f} of a core and {process.memory_info().rss / 2**20:.0f} MB")


async def ask(url: str, bodies: Sequence[str], count: int, seconds: float) -> list[float]:
    took: list[float] = []
    limits = httpx.Limits(max_connections=count * 2)
    headers = {"Content-Type": "application/json", "Origin": url}
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:

        async def one(body: str) -> None:
            began = time.monotonic()
            answer = await client.post(f"{url}/_dash-update-component", content=body, headers=headers)
            assert answer.status_code in {200, 204}, answer.text
            took.append((time.monotonic() - began) * 1000)

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began, beat = time.monotonic(), datetime.now(UTC).isoformat()
            beaten = [with_beat(body, beat) for body in bodies]
            await asyncio.gather(*(one(body) for body in beaten for _ in range(count)))
            await asyncio.sleep(max(began + 1 - time.monotonic(), 0))
    return took


def with_beat(body: str, beat: str) -> str:
    """A request as it is at another beat."""
    whole: defaultdict[str, Any] = defaultdict(list, json.loads(body))
    for part in (*whole["inputs"], *whole["state"]):
        if isinstance(part, dict) and part.get("id") == "beat":
            part["value"] = beat
    return json.dumps(whole)


if __name__ == "__main__":
    main()

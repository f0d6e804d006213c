"""How soon the pages have their data, how soon a record is on the screen, and what fifty open pages cost.

./run bench dashboard [--scores N] [--days D] [--postgres | --store ADDRESS] [--visits N] [--seconds S] [--pages N]
                      [--work DIR]

Fills a store with two years of invented news (5 million scores unless told otherwise; kept in DIR or at ADDRESS, and
not made again), serves it by the dashboard's own stage in a process of its own, and looks at it with headless Chromium:
1. the overview of another store, of a day and 2,000 scores: from the click until all of it is drawn, with nothing in
   the browser's cache and with the page's own files there;
2. each page's data, for spans that nobody asked for before: the time of each of its requests, sent by a bare client
   while the browser rests, and with the browser on the same cores;
3. twenty articles a second are written as the stages write them: from the commit to the drawn row, in an open overview;
4. so many pages' requests are sent at each beat, as their browsers would: the server's CPU, memory and answers.
Prints Markdown.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import numpy as np
import psutil
import sqlalchemy as sa
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from bench import years
from bench.browser import browser
from dashboard import stage
from moodwire.records import Scored, Sentiment, Series, Topic
from moodwire.settings import Company, Dashboard, Place, Rule, Settings, Watchlist
from moodwire.stage import Context
from moodwire.store import schema
from moodwire.store.articles import Draft, store_articles
from moodwire.store.db import Store
from moodwire.store.health import Pulse, stage_health
from moodwire.store.scores import store_scores
from moodwire.store.windows import load_positions, save_positions, store_windows
from moodwire.stream.embedded import EmbeddedLog
from trends.count import Totals, window_of

RATE = 20  # articles a second
SMALL = 2_000  # scores, of a first view
SHOWN_AT_ONCE = 5  # articles of one moment, of which the first stand on top
SETTINGS = Settings(
    dashboard=Dashboard(port=0),
    watchlist=Watchlist(
        companies=tuple(Company(symbol=f"C{n}", names=(f"Company {n}",)) for n in range(years.COMPANIES))
    ),
    rules=(Rule(name="companies"),),
)
UPDATE = "_dash-update-component"
LAYOUT = "_dash-layout"
JSON = {"Content-Type": "application/json"}
KEEP = f"""window.sent = []; var was = window.fetch; window.fetch = function (a, b) {{
  if (String(a).includes('{UPDATE}') && b && b.body) sent.push(b.body);
  return was.apply(this, arguments); }};"""
PAGES = ("overview", "series", "compare", "crossed", "incidents", "search", "label", "rules", "health", "story")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=int, default=5_000_000)
    parser.add_argument("--days", type=float, default=730, help="that they are spread over")
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL of its own, instead of SQLite")
    parser.add_argument("--store", metavar="ADDRESS", help="a store of one's own, filled where it is empty")
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
    if years.newest(store) is None:
        years.fill(store, options.scores, datetime.now(UTC), timedelta(days=options.days))
    kind = "SQLite" if store.sqlite else "PostgreSQL"
    took = time.monotonic() - began
    print(f"{kind}, {options.scores:,} scores over {options.days:g} days (filled in {took:.0f} s); ", end="")
    print(f"{os.cpu_count()} cores, load {load:.1f} before\n", flush=True)
    small = Store(f"sqlite:///{options.work / f'{SMALL}-1.db'}")
    small.upgrade()
    if years.newest(small) is None:
        years.fill(small, SMALL, datetime.now(UTC), timedelta(days=1))
    with served(small, options.work) as (url, _), browser() as chrome:
        first_view(chrome, url, options.visits)
    with served(store, options.work) as (url, process), browser() as chrome:
        chrome.execute_cdp_cmd("Page.enable", {})
        chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": KEEP})
        pages(chrome, url, options.visits, options.days)
        pixels(chrome, url, store, options.seconds)
        crowd(chrome, url, process, store, options.pages, options.seconds)


def opened(options: argparse.Namespace) -> Store:
    if options.store:
        store = Store(options.store)
    elif options.postgres:
        from tests import services

        store = Store(services.postgres().database())
    else:
        store = Store(f"sqlite:///{options.work / f'{options.scores}-{options.days:g}.db'}")
    store.upgrade()
    return store


def serve(url: str, work: Path) -> None:
    """The dashboard's stage over a store, until the parent is gone."""
    store, parent = Store(url), os.getppid()
    gc.set_threshold(50_000)  # as `cli.stages.run_stage` has it

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


def invented(n: int, at: datetime) -> Scored:
    sentiment = Sentiment(0.1, 0.8, 0.1)
    topic = years.TOPICS[n % len(years.TOPICS)]
    names = ("all", f"topic:{topic}", f"entity:{years.company(n % 100 / 100)}")
    return Scored(
        id=f"live{n}", revision=1, source=f"Source {n % years.SOURCES}", story_id=f"live{n}", published_at=at,
        seen_at=at, partition=0, offset=n, model="bench@1+0", sentiment=sentiment, topics=(Topic(topic, 0.9),),
        entities=(), series=tuple(Series(name, sentiment.label, 0) for name in names), scored_at=at, replayed=False,
    )  # fmt: skip


def address(page: str, rng: random.Random, past_days: float) -> str:
    """Of a page, with a span of one to fourteen days that nobody has looked at."""
    end = datetime.now(UTC) - timedelta(seconds=86_400 * rng.uniform(0, 0.9 * past_days))
    begin = end - timedelta(days=rng.choice((1, 2, 7, 14)))
    span = f"?from={begin:%Y-%m-%dT%H:%M:%SZ}&to={end:%Y-%m-%dT%H:%M:%SZ}"
    company, topic = f"entity:{years.company(rng.random())}", f"topic:{rng.choice(years.TOPICS)}"
    return {
        "overview": f"/{span}",
        "series": f"/series/{quote(rng.choice((company, topic, 'all')), safe='')}{span}",
        "compare": f"/series/all{span}&also={company}&also={topic}&also=entity:C1&also=entity:C2&also=entity:C3",
        "crossed": f"/series/{quote(f'{topic}+{company}', safe='')}{span}",
        "incidents": f"/incidents{span}",
        "search": f"/search{span}&words=w{rng.randrange(100)}+w{rng.randrange(300)}",
        "label": "/label",
        "rules": "/rules",
        "health": "/health",
        "story": f"/story/n{rng.randrange(1000)}",
    }[page]


def first_view(chrome: Chrome, url: str, visits: int) -> None:
    """From the click until the figures and the first rows of the tables of an overview are drawn."""
    parts = ("#now .number", "#mood .trace", "#heat .heatmaplayer image", "#series .ag-row", "#stories .ag-row")
    look = f"""window.seen = null;
      (function look() {{
        if ({json.dumps(parts)}.every(part => document.querySelector(part))) window.seen = performance.now();
        else requestAnimationFrame(look);
      }})();"""
    chrome.execute_cdp_cmd("Page.enable", {})
    chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": look})
    for cached in (False, True):
        took = []
        for visit in range(visits + 1):
            chrome.get("about:blank")
            if not cached:
                chrome.execute_cdp_cmd("Network.clearBrowserCache", {})
            time.sleep(1)  # the browser and the server are done with the page before
            chrome.get(url)
            WebDriverWait(chrome, 60, 0.1).until(lambda d: d.execute_script("return window.seen"))
            took += [chrome.execute_script("return window.seen")] if visit else []
        print(f"first view of {SMALL:,} scores, {'files cached' if cached else 'nothing cached'}: ", end="")
        print(f"p50 {np.percentile(took, 50):.0f} ms, p95 {np.percentile(took, 95):.0f} ms\n", flush=True)


def pages(chrome: Chrome, url: str, visits: int, days: float) -> None:
    rng = random.Random(5)
    kinds = ("p50, ms", "p95, ms", "slowest, ms", "p95 in the browser, ms", "all there in the browser after, p95, ms")
    print(f"| page | requests | {' | '.join(kinds)} |\n|---|---|---|---|---|---|---|")
    for page in PAGES:
        seen: list[float] = []
        whole: list[float] = []
        for visit in range(visits + 1):
            chrome.get(url + address(page, rng, days))
            # The overview's data come with its layout, those of the others are asked for.
            found = settled(chrome, LAYOUT if page == "overview" else UPDATE)
            if visit:  # the first one fetches the page's own files
                seen += [entry["duration"] for entry in found]
                whole.append(max(entry["startTime"] + entry["duration"] for entry in found))
        bodies = chrome.execute_script("return window.sent")
        chrome.get("about:blank")
        took = asyncio.run(asked_alone(url, bodies, [address(page, rng, days) for _ in range(visits)]))
        print(
            f"| {page} | {len(took)} | {np.percentile(took, 50):.0f} | {np.percentile(took, 95):.0f} | "
            f"{max(took):.0f} | {np.percentile(seen, 95):.0f} | {np.percentile(whole, 95):.0f} |",
            flush=True,
        )
    print()


async def asked_alone(url: str, bodies: Sequence[str], addresses: Sequence[str]) -> list[float]:
    """Milliseconds of each of a page's requests at each address, sent at once as its browser does."""
    took = []
    async with httpx.AsyncClient(base_url=url, headers={"Origin": url}) as client:

        async def one(method: str, path: str, **more: Any) -> None:
            began = time.monotonic()
            answer = await client.request(method, path, **more)
            took.append((time.monotonic() - began) * 1000)
            answer.raise_for_status()

        for at in addresses:
            path, _, search = at.partition("?")
            place = {"beat.data": datetime.now(UTC).isoformat(), "where.pathname": path}
            place["where.search"] = f"?{search}" if search else ""
            asked = [one("POST", f"/{UPDATE}", content=with_values(body, place), headers=JSON) for body in bodies]
            if path == "/":
                asked.append(one("GET", f"/{LAYOUT}", headers={"Referer": url + at}))
            await asyncio.gather(*asked)
    return took


def settled(chrome: Chrome, asked: str = UPDATE) -> list[dict[str, float]]:
    """The page's requests for data, once all that it waits for is there."""
    script = (
        f"return performance.getEntriesByType('resource').filter(e => /{asked}|{UPDATE}/.test(e.name))"
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
    newest = load_positions(store, "trends")[1][0]
    written = []
    began, batch = time.monotonic(), 5
    for round_ in range(round(seconds * RATE / batch)):
        at = datetime.now(UTC)
        records, windows = [], []
        for n in range(batch):
            number = newest + 1 + round_ * batch + n
            record = invented(number, at)
            draft = Draft(record.id, record.source, "https://news.example/x", f"live {number}", "", "en", at, at)
            store_articles(store, [draft], lambda new: new.id)
            records.append(record)
            totals = Totals(1, 0, 1, 0, 0, 1, 0, 0)
            start = at.replace(second=0, microsecond=0)
            windows += [window_of((series.name, start), totals) for series in record.series]
        store_scores(store, records, timedelta(hours=2))
        store_windows(store, windows)
        with store.write() as connection:
            save_positions(connection, "trends", at, {0: records[-1].offset})
        committed = time.time()
        written += [(record.offset, committed) for record in records]
        time.sleep(max(began + (round_ + 1) * batch / RATE - time.monotonic(), 0))
    return written


def crowd(chrome: Chrome, url: str, process: psutil.Process, store: Store, count: int, seconds: float) -> None:
    """The requests that an open overview sends at a beat, from so many clients, while news comes."""
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
    """Milliseconds of each answer. By bare connections, one a request of a page: a client would cost more than it."""
    took: list[float] = []
    place = urlsplit(url)
    assert place.hostname
    lines = [await asyncio.open_connection(place.hostname, place.port, limit=2**22) for _ in range(count * len(bodies))]

    async def one(line: tuple[asyncio.StreamReader, asyncio.StreamWriter], body: bytes) -> None:
        reader, writer = line
        began = time.monotonic()
        head = f"POST /_dash-update-component HTTP/1.1\r\nHost: {place.netloc}\r\nOrigin: {url}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        told = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert told.split()[1] in {"200", "204"}, told
        length = re.search(r"content-length: (\d+)", told)
        await reader.readexactly(int(length.group(1)) if length else 0)
        took.append((time.monotonic() - began) * 1000)

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began, beat = time.monotonic(), datetime.now(UTC).isoformat()
        beaten = [with_values(body, {"beat.data": beat}).encode() for _ in range(count) for body in bodies]
        await asyncio.gather(*map(one, lines, beaten))
        await asyncio.sleep(max(began + 1 - time.monotonic(), 0))
    for _, writer in lines:
        writer.close()
    return took


def with_values(body: str, values: Mapping[str, str]) -> str:
    """A request as it is with other values of these of its inputs and state, each `id.property`."""
    whole: defaultdict[str, Any] = defaultdict(list, json.loads(body))
    for part in (*whole["inputs"], *whole["state"]):
        if isinstance(part, dict) and isinstance(part.get("id"), str):
            part["value"] = values.get(f"{part['id']}.{part['property']}", part.get("value"))
    return json.dumps(whole)


if __name__ == "__main__":
    main()

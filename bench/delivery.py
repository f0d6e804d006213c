"""How long an alarm takes from its deciding story's `seen_at` until mail server and webhook have accepted the message.

./run bench delivery [--alarms N] [--gap S]

All stages run as processes with the shipped model; news comes by a feed on loopback. group_wait is 0, as what is asked
for is the time beside it. Each alarm is about another company; its third negative story decides.
"""

import argparse
import html
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from cli.newsroom import CRISIS
from cli.stages import open_store
from cli.supervisor import Supervisor, command
from moodwire.configfile import load
from moodwire.settings import Place
from moodwire.store import schema
from moodwire.store.db import Store
from tests.alerts.receivers import Hook, Mail

DECIDES = 3  # this negative story
STORIES = 6  # of an alarm, in case the model finds some not negative
GOAL_S = 5.0
STAGES = ("ingest", "classifier", "trends", "alerts")
CONFIG = """
[fetching]
host_delay_s = 0
[notifications]
group_by = ["series"]
group_wait_s = 0
[[rules]]
name = "surge"
series = ["entity:*"]
windows = [900]
minimum_stories = {decides}
[[sources]]
name = "feed"
url = "{feed}"
interval_s = 1
articles = false
[[channels]]
kind = "email"
name = "desk"
host = "127.0.0.1"
port = {mail}
security = "none"
sender = "moodwire@localhost"
recipients = ["desk@localhost"]
[[channels]]
kind = "webhook"
name = "hook"
url = "{hook}"
secret = "bench"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alarms", type=int, default=40)
    parser.add_argument("--gap", type=float, default=2.0, metavar="S", help="seconds between two companies' news")
    options = parser.parse_args()
    print(f"machine: {os.cpu_count()} cores, load before {os.getloadavg()[0]:.2f}")
    for stretch, found in measured(options.alarms, options.gap).items():
        if not found:
            sys.exit(f"{stretch}: no alarm came")
        p50, p95 = np.percentile(found, [50, 95])
        print(f"{stretch}: {len(found)} of {options.alarms} alarms, p50 {p50:.2f} s, p95 {p95:.2f} s")
    print(f"goal: p95 < {GOAL_S:g} s from seen to accepted; load after {os.getloadavg()[0]:.2f}")


def measured(alarms: int, gap_s: float) -> dict[str, list[float]]:
    """By stretch of the way: seconds, for each alarm."""
    feed, hook, mail = Feed(), Hook(), Mail(22025)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "moodwire.toml"
        text = CONFIG.format(decides=DECIDES, feed=feed.url, mail=mail.controller.port, hook=hook.settings.url)
        names = [_name(n) for n in range(alarms)]
        for n, name in enumerate(names):
            text += f'[[watchlist.companies]]\nsymbol = "C{n}"\nnames = ["{name}"]\n'
        config.write_text(text)
        place = Place(Path(folder) / "data", config)
        _replay_past(place, names[0])
        store = open_store(place, load(config, {}))
        accepted: dict[str, dict[str, datetime]] = {"desk": {}, "hook": {}}
        with Supervisor(place, {stage: command(place, "run", stage) for stage in STAGES}):
            _watch(hook, mail, accepted, lambda: feed.asked > 2, 120)
            for n, name in enumerate(names):
                rng = random.Random(n)
                feed.publish(template.format(name=name, n=n, m=n) for template in rng.sample(CRISIS, STORIES))
                _watch(hook, mail, accepted, lambda: False, gap_s)
            _watch(hook, mail, accepted, lambda: min(map(len, accepted.values())) >= alarms, 30)
        found = _stretches(store, alarms, accepted)
        store.close()
    for server in (feed, hook, mail):
        server.stop()
    return found


def _name(n: int) -> str:
    rng = random.Random(n)
    return "".join(rng.choice("bdfgklmnprtvz") + rng.choice("aeiou") for _ in range(4)).capitalize() + " Works"


def _replay_past(place: Place, name: str) -> None:
    """Two days of little, as alarms need a day of history."""
    past = place.data.parent / "past.jsonl"
    began = datetime.now(UTC) - timedelta(days=2)
    rows = [
        {"id": f"p{n}", "title": f"{name} holds meeting {n}", "source": "s", "published_at": at.isoformat()}
        for n, at in enumerate(began + timedelta(hours=n) for n in range(40))
    ]
    past.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [sys.executable, "-m", "cli.main", "--config", str(place.config), "--data", str(place.data)]
    subprocess.run([*words, "replay", str(past)], check=True, stdout=subprocess.DEVNULL)


def _watch(
    hook: Hook, mail: Mail, accepted: dict[str, dict[str, datetime]], done: Callable[[], bool], limit_s: float
) -> None:
    """Note when each series' first alarm was accepted, to a hundredth of a second."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until and not done():
        now = datetime.now(UTC)
        for body in hook.accepted[len(accepted["hook"]) :]:
            for alert in body["alerts"]:
                accepted["hook"].setdefault(alert["series"], now)
        for got in mail.got[len(accepted["desk"]) :]:
            text = got.get_body(("plain",)).get_content()  # type: ignore[union-attr]
            accepted["desk"].setdefault(text.split("Incident surge/")[1].split("/")[0], now)
        time.sleep(0.01)


def _stretches(store: Store, alarms: int, accepted: dict[str, dict[str, datetime]]) -> dict[str, list[float]]:
    c, a, sc, al = schema.counted.c, schema.articles.c, schema.scores.c, schema.alerts.c
    same = sa.and_(a.id == c.id, a.revision == c.revision)
    found: dict[str, list[float]] = {name: [] for name in ("seen to scored", "scored to decided")}
    found |= {f"seen to accepted, {channel}": [] for channel in accepted}
    with store.read() as connection:
        for series in (f"entity:C{n}" for n in range(alarms)):
            stories = (
                sa.select(a.seen_at, sc.known_at)
                .select_from(schema.counted.join(schema.articles, same).join(schema.scores, sc.id == a.id))
                .where(c.series == series, c.first_story, c.fresh, c.label == -1)
                .order_by(a.seen_at)
            )
            rows = connection.execute(stories).all()
            fired = sa.select(al.known_at).where(al.series == series, al.number == 1)
            decided = connection.execute(fired).scalar()
            if len(rows) < DECIDES or decided is None:
                continue
            seen_at, scored_at = rows[DECIDES - 1]
            found["seen to scored"].append((scored_at - seen_at).total_seconds())
            found["scored to decided"].append((decided - scored_at).total_seconds())
            for channel, times in accepted.items():
                if series in times:
                    found[f"seen to accepted, {channel}"].append((times[series] - seen_at).total_seconds())
    return found


class Feed:
    """A feed of what was published."""

    def __init__(self) -> None:
        titles: list[str] = []
        self._titles = titles
        self.asked = 0
        feed = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                feed.asked += 1
                items = "".join(
                    f"<item><guid>{at}</guid><title>{html.escape(title)}</title></item>"
                    for at, title in list(enumerate(titles))[-100:]
                )
                data = f"<rss version='2.0'><channel><title>x</title>{items}</channel></rss>".encode()
                self.send_response(200 if self.path == "/feed" else 404)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/feed"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def publish(self, titles: Iterable[str]) -> None:
        self._titles.extend(titles)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


if __name__ == "__main__":
    main()

"""What the flow around the engine costs, what it does live, and what memory it takes.

./run bench spine --data DIR        DIR holds stocknet/stocknet_stream.jsonl.gz (or set MOODWIRE_DATA)
"""

import argparse
import gzip
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import psutil
import sqlalchemy as sa

from classifier.engine import open_engine
from cli.newsroom import history
from cli.replay import drained, replay_words
from cli.stages import Replay, open_log, open_store
from cli.supervisor import Supervisor, command
from moodwire.configfile import load
from moodwire.settings import Place
from moodwire.store import schema
from moodwire.store.db import Store
from moodwire.store.health import StageHealth, stage_health

LINES = 20_000
STREAM = "stocknet/stocknet_stream.jsonl.gz"
WATCHLIST = Path(__file__).parent.parent / "ingest" / "watchlists" / "stocknet.csv"
RULE = '[[rules]]\nname = "surge"\nseries = ["all", "topic:*", "entity:*", "group:*"]\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MOODWIRE_DATA"))
    parser.add_argument("--seconds", type=float, default=60, help="of live news")
    options = parser.parse_args()
    if options.data is None or not (Path(options.data) / STREAM).is_file():
        sys.exit(f"real data are needed: --data DIR or MOODWIRE_DATA, with {STREAM} in it")
    stream = Path(options.data) / STREAM
    print(f"machine: {os.cpu_count()} cores, load before {os.getloadavg()[0]:.2f}")
    replays(stream)
    live(options.seconds)


def replays(stream: Path) -> None:
    titles = list(dict.fromkeys(json.loads(line)["title"] for line in first_lines(stream, LINES)))
    engine = open_engine("auto", threads=os.cpu_count())
    engine.score(titles[:512], [()] * 512)
    began = time.perf_counter()
    for at in range(0, len(titles), 512):
        part = titles[at : at + 512]
        engine.score(part, [()] * len(part))
    alone = len(titles) / (time.perf_counter() - began)
    print(f"engine alone: {alone:.0f} docs/s over {len(titles)} distinct texts ({engine.model})")
    del engine
    dummy, dummy_core_ms, _ = flow(stream, LINES, "dummy")
    print(f"dummy: {dummy:.0f} articles/s (goal 4,000), {dummy_core_ms:.3f} ms of core time an article (goal 0.4)")
    whole, whole_core_ms, memory = flow(stream, LINES, "auto")
    bound = 1 / (1 / alone + 1 / dummy)
    print(f"flow: {whole:.0f} articles/s, {whole / bound:.2f} of 1/(1/engine + 1/dummy) = {bound:.0f} (goal .95)")
    print(f"      {whole_core_ms:.3f} ms of core time an article, engine included")
    _, _, half = flow(stream, LINES // 2, "auto")
    for stage, peak in memory.items():
        print(
            f"memory of {stage}: {peak} MB after {LINES} lines, {half[stage]} MB after {LINES // 2} (goal < 800, flat)"
        )


def flow(stream: Path, lines: int, engine: str) -> tuple[float, float, dict[str, int]]:
    """A replay into an empty folder: articles/s from the first to the last record, core ms an article, MB by stage.

    Starting a process is not the flow: the stages are up before the first article comes, the clock runs from then on,
    and what ingest takes to do nothing is not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = configured(Path(folder), engine)
        settings = load(place.config, {})
        store, log = open_store(place, settings), open_log(place, settings)
        stages = ("classifier", "trends", "alerts")
        commands = {stage: command(place, "run", stage) for stage in stages}
        nothing = Path(folder) / "nothing.jsonl"
        nothing.touch()
        elsewhere = Place(Path(folder) / "elsewhere", place.config)
        start_s, _ = watched(elsewhere, nothing, 0, lambda: False)
        with Supervisor(place, commands) as supervisor:
            until(lambda: {stage.name for stage in stage_health(store) if ready(stage)} >= set(stages))
            idle = {stage: core_s(pid) for stage, pid in supervisor.pids().items()}
            ingest_s, began = watched(place, stream, lines, lambda: log.end("articles") > 0)
            until(lambda: drained(log))
            took = time.perf_counter() - began
            pids = supervisor.pids()
            spent = {stage: core_s(pid) - idle[stage] for stage, pid in pids.items()}
            memory = {stage: psutil.Process(pid).memory_info().rss // 2**20 for stage, pid in pids.items()}
        with store.read() as connection:
            count = connection.execute(sa.select(sa.func.count()).select_from(schema.scores)).scalar_one()
        store.close()
        log.close()
        spent["ingest"] = ingest_s - start_s
        told = ", ".join(f"{stage} {1e3 * seconds / count:.3f}" for stage, seconds in spent.items())
        print(f"  {engine}, {lines} lines: {count} articles in {took:.2f} s; core ms an article: {told}")
        files = [path for path in place.data.rglob("*") if path.is_file()]
        stored = sum(path.stat().st_size for path in files if path.name.startswith("moodwire.db")) / count
        logged = sum(path.stat().st_size for path in files) / count - stored
        print(f"  bytes an article: {stored:.0f} in the store, {logged:.0f} in the log and logs")
        return count / took, 1e3 * sum(spent.values()) / count, memory


def watched(place: Place, file: Path, lines: int | None, begun: Callable[[], bool]) -> tuple[float, float]:
    """Ingest on a file: its core seconds, and the time at which `begun` first held."""
    process = psutil.Popen(command(place, *replay_words(Replay((file,), None, lines))))
    at = 0.0
    while process.status() != psutil.STATUS_ZOMBIE:  # it ended, and can still be asked for its times
        at = at or (time.perf_counter() if begun() else 0.0)
        time.sleep(0.005)
    times = process.cpu_times()
    if process.wait() != 0:
        sys.exit("ingest failed")
    return times.user + times.system, at


def ready(stage: StageHealth) -> bool:
    return stage.note != "" or stage.name != "classifier"  # the classifier's note names its model once it is loaded


def live(seconds: float) -> None:
    """Twenty articles a second by feeds, from seen to scored in the store."""
    items = list(
        history(3, datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC), round(20 * seconds) + 500)
    )
    began = time.time()

    class Feed(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            newest = min(int(20 * (time.time() - began)), len(items))
            entries = "".join(
                f"<item><guid>{at}</guid><title>{items[at].title} ({at})</title></item>"
                for at in range(max(newest - 200, 0), newest)
            )
            data = f"<rss version='2.0'><channel><title>x</title>{entries}</channel></rss>".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Feed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    source = (
        f'[[sources]]\nname = "feed"\nurl = "http://127.0.0.1:{server.server_address[1]}/"\n'
        "interval_s = 1\narticles = false\n[fetching]\nhost_delay_s = 0\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        place = configured(Path(folder), "auto", source)
        settings = load(place.config, {})
        store = open_store(place, settings)
        commands = {stage: command(place, "run", stage) for stage in ("ingest", "classifier", "trends", "alerts")}
        with Supervisor(place, commands):
            until(lambda: scored(store) > 0)
            began = time.time()
            time.sleep(seconds)
        with store.read() as connection:
            s = schema.scores.c
            rows = connection.execute(sa.select(s.seen_at, s.known_at).order_by(s.seen_at)).all()
        store.close()
    server.shutdown()
    waits = np.array([(row.known_at - row.seen_at).total_seconds() for row in rows])
    p50, p95 = np.percentile(waits, [50, 95])
    print(
        f"live: {len(rows) / seconds:.1f} articles/s, seen to scored p50 {p50:.2f} s, p95 {p95:.2f} s (goal p95 < 1.5)"
    )


def configured(folder: Path, engine: str, more: str = "") -> Place:
    shutil.copy(WATCHLIST, folder / "watchlist.csv")
    config = folder / "moodwire.toml"
    config.write_text(f'[watchlist]\nfile = "watchlist.csv"\n[model]\nengine = "{engine}"\n{RULE}{more}')
    return Place(folder / "data", config)


def first_lines(stream: Path, count: int) -> Iterator[bytes]:
    with gzip.open(stream, "rb") as file:
        for _, line in zip(range(count), file, strict=False):
            yield line


def scored(store: Store) -> int:
    with store.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(schema.scores)).scalar_one())


def core_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def until(done: Callable[[], bool], limit_s: float = 300, look_s: float = 0.02) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > deadline:
            sys.exit("the flow did not come to an end")
        time.sleep(look_s)


if __name__ == "__main__":
    main()

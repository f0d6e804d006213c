"""What the flow does on Kafka and PostgreSQL, how fast is written, and how fast a stopped classifier catches up.

./run bench production [flow] [writes] [recovery]     all of them, if none is named
    [--articles 50000] [--stop 60] [--engine auto]

Kafka and PostgreSQL are those of the tests, on loopback. What the pages ask: `./run bench queries`.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from kafka import KafkaConsumer, TopicPartition

from bench.spine import RULE, configured, core_s, ready, until, watched
from cli.newsroom import history
from cli.replay import drained
from cli.stages import open_log, open_store
from cli.supervisor import Supervisor, command
from moodwire.configfile import load
from moodwire.records import encode
from moodwire.settings import Place, Settings
from moodwire.store import schema
from moodwire.store.articles import Draft, drain, store_articles
from moodwire.store.db import Store, insert_absent, upsert
from moodwire.store.health import stage_health
from moodwire.stream.kafka import KafkaLog
from tests import services
from tests.helpers import T0, scored

END = datetime(2024, 1, 1, tzinfo=UTC)  # of the news
STAGES = ("classifier", "trends", "alerts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=("flow", "writes", "recovery", []), default=[])
    parser.add_argument("--articles", type=int, default=50_000, help="of the flow")
    parser.add_argument("--stop", type=float, default=60.0, help="seconds for which the classifier stands still")
    parser.add_argument("--engine", default="auto", help="of the recovery")
    options = parser.parse_args()
    print(f"machine: {os.cpu_count()} cores, load before {os.getloadavg()[0]:.2f}", flush=True)
    parts: dict[str, Callable[[], None]] = {
        "flow": lambda: flow(options.articles),
        "writes": writes,
        "recovery": lambda: recovery(options.stop, options.engine),
    }
    for part in options.parts or parts:
        parts[part]()


@contextmanager
def place(engine: str) -> Iterator[tuple[Place, Settings, Store, KafkaLog]]:
    """An empty place on Kafka and PostgreSQL."""
    with tempfile.TemporaryDirectory() as folder:
        here = Place(Path(folder) / "data", Path(folder) / "moodwire.toml")
        assert here.config is not None
        here.config.write_text(
            f'[model]\nengine = "{engine}"\n[store]\nurl = "{services.postgres().database()}"\n'
            f'[stream]\nkind = "kafka"\nservers = ["{services.kafka().server}"]\nprefix = "{uuid.uuid4().hex}."\n'
            f"[watchlist]\nall = true\n{RULE}"
        )
        settings = load(here.config, {})
        store, log = open_store(here, settings), open_log(here, settings)
        assert isinstance(log, KafkaLog)
        try:
            yield here, settings, store, log
        finally:
            log.close()
            store.close()


def flow(count: int) -> None:
    with place("dummy") as (here, settings, store, log):
        news = Path(here.data) / "news.jsonl"
        with news.open("w") as file:
            for item in history(3, END - timedelta(days=30), END, count):
                row = {"id": item.id, "title": item.title, "body": item.body, "source": item.outlet}
                file.write(json.dumps({**row, "published_at": item.published_at.isoformat()}) + "\n")
        nothing, elsewhere = news.with_name("nothing.jsonl"), Path(here.data) / "elsewhere"
        nothing.touch()
        elsewhere.mkdir()
        start_s, _ = watched(configured(elsewhere, "dummy"), nothing, None, lambda: False)
        with Supervisor(here, {stage: command(here, "run", stage) for stage in STAGES}) as supervisor:
            until(lambda: {stage.name for stage in stage_health(store) if ready(stage)} >= set(STAGES))
            idle = {stage: core_s(pid) for stage, pid in supervisor.pids().items()}
            ingest_s, began = watched(here, news, None, lambda: log.lag("articles", "nobody") > 0)
            until(lambda: drained(log), 3600, look_s=1.0)  # asking costs as much as some articles
            took = time.perf_counter() - began
            spent = {stage: core_s(pid) - idle[stage] for stage, pid in supervisor.pids().items()}
        spent = {"ingest": ingest_s - start_s, **spent}  # starting is not the flow
        with store.read() as connection:
            stored = connection.execute(sa.select(sa.func.count()).select_from(schema.scores)).scalar_one()
        bare = consumed(log, settings)
    rate = stored / took
    print(f"flow: {stored} articles in {took:.1f} s: {rate:.0f} articles/s, dummy engine (goal 3,000)")
    print(f"      {rate / bare:.3f} of what kafka-python alone consumes, {bare:.0f} records/s")
    told = ", ".join(f"{stage} {1e3 * seconds / stored:.3f}" for stage, seconds in spent.items())
    print(f"      core ms an article: {told}; the slowest is {max(spent, key=lambda stage: spent[stage])}", flush=True)


def consumed(log: KafkaLog, settings: Settings) -> float:
    """Records a second that a bare kafka-python consumer reads from the same topic."""
    topic = TopicPartition(f"{settings.stream.prefix}articles", 0)
    client = KafkaConsumer(bootstrap_servers=list(settings.stream.servers), auto_offset_reset="earliest")
    client.assign([topic])
    end, count = client.end_offsets([topic])[topic], 0
    began = time.perf_counter()
    while client.position(topic) < end:
        count += sum(len(found) for found in client.poll(timeout_ms=1000).values())
    client.close()
    return count / (time.perf_counter() - began)


def writes() -> None:
    """Bulk writes against a bare COPY of the same rows, in transactions of 2,000 rows."""
    store = Store(services.postgres().database())
    store.upgrade()
    record = encode(scored(1, 0))
    scores = [
        {
            "id": f"a{n}",
            "revision": 1,
            "model": "m",
            "source": "s",
            "story_id": f"a{n}",
            "published_at": T0 + timedelta(seconds=n),
            "seen_at": T0 + timedelta(seconds=n),
            "p_negative": 0.2,
            "p_neutral": 0.3,
            "p_positive": 0.5,
            "score": 0.3,
            "topic": "t",
            "p_topic": 0.5,
            "record": record,
            "scored_at": T0,
            "known_at": T0,
        }
        for n in range(100_000)
    ]
    counted = ("articles", "stories", "negative", "neutral", "positive", "fresh_stories", "fresh_negative")
    counted = (*counted, "fresh_neutral", "fresh_positive", "score_sum_e4", "revision")
    windows = [
        {"series": f"entity:E{n % 500}", "length_s": 60, "start": T0 + timedelta(minutes=n // 500)}
        | dict.fromkeys(counted, 1)
        for n in range(100_000)
    ]
    store.make_room(schema.scores, (row["seen_at"] for row in scores))
    for table, rows, write in (
        (schema.scores, scores, insert_absent),
        (schema.windows, windows, lambda c, t, part: upsert(c, t, part, newer=t.c.revision)),
    ):
        bare = per_second(store, table, rows, copy)
        ours = per_second(store, table, rows, write)
        again = per_second(store, table, rows, write, keep=True)
        print(
            f"writes of {table.name}: {ours:.0f} rows/s, {ours / bare:.2f} of a bare COPY's {bare:.0f} (goal .5); "
            f"the same rows once more: {again:.0f} rows/s",
            flush=True,
        )
    store.close()


def copy(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    driver: Any = connection.connection.dbapi_connection
    quoted = ", ".join(f'"{name}"' for name in names)
    with driver.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({quoted}) FROM STDIN') as into:
        for row in rows:
            into.write_row([row[name] for name in names])


def per_second(store: Store, table: sa.Table, rows: list[dict[str, Any]], write: Any, keep: bool = False) -> float:
    if not keep:
        with store.write() as connection:
            connection.execute(sa.delete(table))
    began = time.perf_counter()
    for at in range(0, len(rows), 2000):
        with store.write() as connection:
            write(connection, table, rows[at : at + 2000])
    return len(rows) / (time.perf_counter() - began)


def recovery(stop_s: float, engine: str) -> None:
    """A classifier stands still while 100 articles a second come: until its lag is gone."""
    with place(engine) as (here, _, store, log):
        items = list(history(5, END - timedelta(days=30), END, 20_000))
        over = threading.Event()

        def ingest() -> None:
            began, done = time.monotonic(), 0
            while not over.wait(0.1):
                due = min(int(100 * (time.monotonic() - began)), len(items))
                now = datetime.now(UTC)
                drafts = [
                    Draft(f"r{n}", "s", "", items[n].title, items[n].body, "en", now, now) for n in range(done, due)
                ]
                store_articles(store, drafts, lambda draft: draft.id)
                while drain(store, log):
                    pass
                done = due

        feeder = threading.Thread(target=ingest, daemon=True)
        with Supervisor(here, {stage: command(here, "run", stage) for stage in STAGES}) as supervisor:
            until(lambda: {stage.name for stage in stage_health(store) if ready(stage)} >= set(STAGES))
            feeder.start()
            time.sleep(5)
            supervisor.replace("classifier", [sys.executable, "-c", "import time; time.sleep(1e6)"])
            time.sleep(stop_s)
            behind = log.lag("articles", "classifier")
            supervisor.replace("classifier", command(here, "run", "classifier"))
            began = time.perf_counter()
            until(lambda: log.lag("articles", "classifier") < 200, limit_s=600)
            took = time.perf_counter() - began
            over.set()
            feeder.join()
        print(
            f"recovery: {behind} records behind after {stop_s:.0f} s without a classifier at 100 articles/s; gone "
            f"{took:.1f} s after its start, that included"
        )


if __name__ == "__main__":
    main()

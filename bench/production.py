"""What the flow does on Kafka and PostgreSQL, what the stores do, and how fast a stopped classifier catches up.

./run bench production [flow] [writes] [queries] [recovery]     all of them, if none is named
    [--articles 50000] [--scores 5000000] [--stop 60] [--engine auto]

Kafka and PostgreSQL are those of the tests, on loopback.
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

import numpy as np
import sqlalchemy as sa
from kafka import KafkaConsumer, TopicPartition

from bench.spine import RULE, configured, core_s, ready, until, watched
from cli.newsroom import history
from cli.replay import drained
from cli.stages import open_log, open_store
from cli.supervisor import Supervisor, command
from moodwire.configfile import load
from moodwire.records import WINDOW_S, encode
from moodwire.settings import Place, Settings
from moodwire.store import queries, schema, watching
from moodwire.store.articles import Draft, drain, store_articles
from moodwire.store.db import Store, insert_absent, upsert
from moodwire.store.find import Filter, find
from moodwire.store.health import stage_health
from moodwire.store.partitions import after, month
from moodwire.store.windows import ROLLUPS_S
from moodwire.stream.kafka import KafkaLog
from tests import services
from tests.helpers import STORES, T0, scored

END = datetime(2024, 1, 1, tzinfo=UTC)  # of the two years of scores
YEARS_S = 2 * 365 * 86_400
STAGES = ("classifier", "trends", "alerts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=("flow", "writes", "queries", "recovery", []), default=[])
    parser.add_argument("--articles", type=int, default=50_000, help="of the flow")
    parser.add_argument("--scores", type=int, default=5_000_000, help="that the queries go over")
    parser.add_argument("--stop", type=float, default=60.0, help="seconds for which the classifier stands still")
    parser.add_argument("--engine", default="auto", help="of the recovery")
    options = parser.parse_args()
    print(f"machine: {os.cpu_count()} cores, load before {os.getloadavg()[0]:.2f}", flush=True)
    parts: dict[str, Callable[[], None]] = {
        "flow": lambda: flow(options.articles),
        "writes": writes,
        "queries": lambda: dashboard(options.scores),
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
            until(lambda: drained(log), limit_s=3600)
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


def dashboard(count: int) -> None:
    """The five main queries of the pages over so many scores of two years."""
    day, now = timedelta(days=1), END
    asked: dict[str, Callable[[Store, int], object]] = {
        "overview of a day": lambda store, n: queries.overview(store, now - n * day, day),
        "course of a week, all": lambda store, n: queries.mood(store, "all", now - (n + 7) * day, now - n * day, 900),
        "course of 90 days, a company": lambda store, n: queries.mood(
            store, f"entity:E{n}", now - (n + 90) * day, now - n * day, 3600
        ),
        "newest stories": lambda store, n: queries.stories(store, None, now - (n + 1) * day, now - n * day, 50),
        "search for two words": lambda store, n: find(
            store, Filter(words=f"w{n} w{n + 7}"), now - (n + 30) * day, now - n * day, 50
        ),
    }
    for kind, goal in (("postgresql", 150), ("sqlite", 300)):
        with tempfile.TemporaryDirectory() as folder:
            store = Store(STORES[kind](Path(folder)))
            store.upgrade()
            began = time.perf_counter()
            fill(store, count)
            with store.read() as connection:
                sums = [
                    f"{connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()} {table.name}"
                    for table in (schema.scores, schema.counted, schema.windows)
                ]
            print(f"{kind}: {', '.join(sums)}, made in {time.perf_counter() - began:.0f} s", flush=True)
            for name, ask in asked.items():
                took = []
                for n in range(40):
                    began = time.perf_counter()
                    ask(store, n)
                    took.append(1e3 * (time.perf_counter() - began))
                p50, p95 = np.percentile(took, [50, 95])
                print(f"  {name}: p50 {p50:.0f} ms, p95 {p95:.0f} ms (goal {goal})", flush=True)
            print(f"  {len(watching.sources(store))} sources")
            store.close()


def fill(store: Store, count: int) -> None:
    """Two years of articles, scores, what they count for and windows, made by the store itself."""
    begin = END - timedelta(seconds=YEARS_S)
    at = month(begin)
    while at < END:
        for table in (schema.articles, schema.scores, schema.counted):
            store.make_room(table, [at])
        at = after(at)
    step_us = YEARS_S * 1_000_000 // count
    if store.sqlite:
        numbers = f"WITH RECURSIVE g(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM g WHERE n < {count - 1}) "
        time_of = f"({int(begin.timestamp()) * 1_000_000} + n * {step_us})"
        minute = f"({time_of} / 60000000 * 60000000)"
        yes, no = "1", "0"
    else:
        numbers = f"WITH g AS (SELECT generate_series(0, {count - 1}) AS n) "
        time_of = f"(TIMESTAMPTZ '{begin.isoformat()}' + n * INTERVAL '{step_us} microseconds')"
        minute = f"date_trunc('minute', {time_of})"
        yes, no = "true", "false"
    words = " || ' w' || ".join(f"((CAST(n AS BIGINT) * {7919 + 2 * k} / {k + 1}) % {100 * 3**k})" for k in range(5))
    label = "(CAST(n AS BIGINT) * 2654435761 / 7 % 3 - 1)"
    positions = "SELECT {series}, " + f"{minute}, 0, n, 'a' || n, 1, 'a' || n, {label}, 5000 * {label}, {yes}, {yes}"
    columns = 'series, start, partition, "offset", id, revision, story_id, label, score_e4, fresh, first_article'
    series = ("'all'", "'topic:t' || (n % 20)", "'entity:E' || (CAST(n AS BIGINT) * 7919 % 300)")
    record = encode(scored(1, 0))
    statements = [
        "INSERT INTO articles (id, revision, source, url, title, body, language, published_at, seen_at, story_id, "
        f"tickers, replayed, date_note, content_hash) {numbers} SELECT 'a' || n, 1, 's' || (n % 50), 'u' || n, "
        f"'w' || {words}, '', 'en', {time_of}, {time_of}, 'a' || n, '', {no}, '', 'h' FROM g",
        "INSERT INTO scores (id, revision, model, source, story_id, published_at, seen_at, p_negative, p_neutral, "
        f"p_positive, score, topic, p_topic, record, scored_at, known_at) {numbers} SELECT 'a' || n, 1, 'm', "
        f"'s' || (n % 50), 'a' || n, {time_of}, {time_of}, .3, .3, .4, .5 * {label}, 't', .9, :record, "
        f"{time_of}, {time_of} FROM g",
        *(
            f"INSERT INTO counted ({columns}, first_story) {numbers} {positions.format(series=one)}, {yes} FROM g"
            for one in series
        ),
    ]
    for statement in statements:
        with store.write() as connection:
            words_of = {"record": record} if ":record" in statement else {}
            connection.execute(sa.text(statement), words_of)
    names = "articles, stories, negative, neutral, positive, fresh_stories, fresh_negative, fresh_neutral"
    names += ", fresh_positive, score_sum_e4, revision"
    sums = "count(*), count(*), {0}, {1}, {2}, count(*), {0}, {1}, {2}, sum(score_e4), count(*)".format(
        *(f"count(*) FILTER (WHERE label = {value})" for value in (-1, 0, 1))
    )
    with store.write() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO windows (series, length_s, start, {names}) "
            f"SELECT series, {WINDOW_S}, start, {sums} FROM counted GROUP BY series, start"
        )
        below = WINDOW_S
        for length_s in ROLLUPS_S:
            if store.sqlite:
                bin_ = f"start / {length_s * 1_000_000} * {length_s * 1_000_000}"
            else:
                bin_ = f"to_timestamp(floor(extract(epoch FROM start) / {length_s}) * {length_s})"
            totals = ", ".join(f"sum({name})" for name in names.split(", "))
            connection.exec_driver_sql(
                f"INSERT INTO windows (series, length_s, start, {names}) SELECT series, {length_s}, {bin_}, {totals} "
                f"FROM windows WHERE length_s = {below} GROUP BY series, {bin_}"
            )
            below = length_s
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE" if store.sqlite else "VACUUM ANALYZE")


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

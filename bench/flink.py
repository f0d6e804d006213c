"""The windows by Flink, by the one-machine runner and by quix-streams: equal, and how fast each counts them.

./run bench flink [speed] [state] --data DIR [--lines N] [--times K] [--quix PYTHON]        both, if none is named

DIR holds stocknet/ (or set MOODWIRE_DATA); `./run flink` first. The same topic is counted by each engine: N lines of
StockNet scored by the dummy engine, K times with other ids, each time after the time before. A rate is taken between
half and nine tenths of the records, by the time at which what was counted reached its topic: neither starting nor what
the JVM compiles at first is in it. The job is measured with the stage that keeps its windows on the same cores, and
alone, as quix-streams is, which is measured where the Python of an environment that has it is given; these two count
LONGER times as many records.

state: the job's checkpoints, in bytes, while news of 10,000 companies comes for many times as long as state is kept.
"""

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
from kafka import KafkaConsumer, TopicPartition

from bench.spine import STREAM, configured, until
from cli.replay import replay_files
from cli.stages import Replay, open_log
from moodwire.configfile import load
from moodwire.labels import SENTIMENTS
from moodwire.records import Heartbeat, Scored, decode, encode
from moodwire.settings import Flink, Place, Settings, Stream, Windows
from moodwire.stage import Context
from moodwire.store import queries
from moodwire.store.db import Store
from moodwire.store.health import Pulse
from moodwire.store.scores import store_scores
from moodwire.stream.kafka import Broker, KafkaLog
from tests.helpers import T0, placed
from tests.helpers import scored as example
from tests.services import Kafka
from trends import flink, stage

PARTS = 4
FRESH = timedelta(hours=2)
ROOT = Path(__file__).parent.parent
LIMIT_S = 1200
LOOK_S = 1.0  # how often the broker is asked how far it is; each time costs the counting process some ms
LONGER = 3
QUIET_S = 20  # quix-streams ends when nothing came for so long
STATE_S, STATES = 30, 12  # how long the job keeps state in the measurement of it, and how many times that it lasts
STATE_RATE, COMPANIES = 300, 10_000  # articles a second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=("speed", "state", []), default=[])
    parser.add_argument("--data", type=Path, default=os.environ.get("MOODWIRE_DATA"))
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=8)
    parser.add_argument("--quix", type=Path, help="the Python of an environment with quixstreams")
    options = parser.parse_args()
    if options.data is None or not (Path(options.data) / STREAM).is_file():
        sys.exit(f"real data are needed: --data DIR or MOODWIRE_DATA, with {STREAM} in it")
    gc.set_threshold(50_000)  # as `cli.stages.run_stage` has it
    print(f"machine: {os.cpu_count()} cores, load before {os.getloadavg()[0]:.2f}")
    with tempfile.TemporaryDirectory() as name, running_broker() as broker:
        if "speed" in options.parts or not options.parts:
            measure(Path(name), broker.server, options)
        if "state" in options.parts or not options.parts:
            state(Path(name), broker.server)


@contextmanager
def running_broker() -> Iterator[Kafka]:
    broker = Kafka()
    broker.start()
    yield broker
    broker.stop()


def measure(folder: Path, server: str, options: argparse.Namespace) -> None:
    news = scored(folder / "replay", options.data / STREAM, options.lines)
    records = placed(many(news, options.times), PARTS)
    more = placed(many(news, LONGER * options.times), PARTS)
    print(f"{len(records)} records of {sum(len(record.series) for record in records) / len(records):.1f} series each")
    count = len(records)
    one, rates = engine(folder / "one", server, records, "one-machine", 1), {}
    rates["one-machine runner"] = rate(server, "one.windows", _of_stretch, count)
    for parallelism in (1, 2):
        name = f"flink{parallelism}"
        found = engine(folder / name, server, records, "flink", parallelism)
        rates[f"Flink at parallelism {parallelism}, with its stage"] = rate(server, f"{name}.marks", _of_mark, count)
        same = "equal to" if found == one else "DIFFERENT FROM"
        print(f"Flink at parallelism {parallelism}: {len(found)} windows, {same} the one-machine runner's", flush=True)
        name = f"alone{parallelism}"
        alone(folder / name, server, more, parallelism)
        rates[f"Flink at parallelism {parallelism}, alone"] = rate(server, f"{name}.marks", _of_mark, len(more))
    if options.quix:
        script = str(ROOT / "bench" / "quix_windows.py")
        words = [str(options.quix), script, server, "alone1.scored", "quix", str(folder / "quix"), str(QUIET_S)]
        subprocess.run(words, check=True, capture_output=True)
        rates["quix-streams"] = rate(server, "quix", _of_entry, len(more))
    for name, value in rates.items():
        beside = f", {value / rates['quix-streams']:.2f} x quix-streams" if options.quix else ""
        print(f"{name}: {value:,.0f} records/s{beside}", flush=True)


def rate(server: str, topic: str, positions_of: Callable[[dict[str, Any]], dict[int, int]], count: int) -> float:
    """Records/s between half and nine tenths of them, by the times of what was written of them."""
    client = KafkaConsumer(bootstrap_servers=server, group_id=None)
    places = [TopicPartition(topic, part) for part in client.partitions_for_topic(topic) or ()]
    client.assign(places)
    client.seek_to_beginning(*places)
    ends = client.end_offsets(places)
    told: list[tuple[float, dict[int, int]]] = []
    while any(client.position(place) < ends[place] for place in places):
        for found in client.poll(timeout_ms=1000).values():
            told += [(record.timestamp / 1e3, positions_of(json.loads(record.value))) for record in found]
    client.close()
    upto: dict[int, int] = {}
    marks: list[tuple[float, int]] = []
    for at, positions in sorted(told, key=lambda one: one[0]):
        upto |= {part: max(offset, upto.get(part, 0)) for part, offset in positions.items()}
        done = sum(upto.values())
        if 0.5 * count <= done <= 0.9 * count:
            marks.append((at, done))
    (began, first), (ended, last) = marks[0], marks[-1]
    return (last - first) / max(ended - began, 1e-3)


def _of_stretch(stretch: dict[str, Any]) -> dict[int, int]:
    ticks = [record for record in stretch["records"] if record["type"] == "tick"]
    return {int(part): offset for part, offset in ticks[-1]["positions"].items()} if ticks else {}


def _of_mark(mark: dict[str, Any]) -> dict[int, int]:
    return {part: offset for part, offset in enumerate(mark["positions"] or ()) if offset is not None}


def _of_entry(entry: dict[str, Any]) -> dict[int, int]:
    part, offset = entry["place"]
    return {part: offset}


def scored(folder: Path, stream: Path, lines: int) -> list[Scored]:
    """The first lines of StockNet, scored by the dummy engine."""
    from rich.console import Console

    folder.mkdir()
    place = configured(folder, "dummy")
    settings = load(place.config, {})
    replay = Replay((stream,), None, lines)
    replay_files(place, settings, replay, False, threading.Event(), Console(quiet=True))
    log = open_log(place, settings)
    found = [record for m in log.records("scored") if isinstance(record := decode(m.value), Scored)]
    log.close()
    return found


def many(records: list[Scored], times: int) -> Iterator[Scored]:
    """The same news again and again, each time later."""
    span = records[-1].seen_at - records[0].seen_at + timedelta(days=1)
    for number in range(times):
        for record in records:
            by = number * span
            yield msgspec.structs.replace(
                record,
                id=f"{record.id}-{number}",
                story_id=f"{record.story_id}-{number}",
                published_at=record.published_at + by,
                seen_at=record.seen_at + by,
            )


def topic(
    folder: Path, server: str, kind: Literal["one-machine", "flink"], parallelism: int
) -> tuple[Settings, KafkaLog]:
    """The settings of a run, and its log."""
    prefix = f"{folder.name}."
    settings = Settings(
        windows=Windows(engine=kind, tick_s=60),
        flink=Flink(parallelism=parallelism),
        stream=Stream(kind="kafka", servers=(server,), prefix=prefix),
    )
    log = KafkaLog(Broker((server,), prefix, PARTS), "trends")
    for name in ("scored", flink.COUNTED, flink.MARKS):
        log.partitions(name)  # made, where they are missing
    return settings, log


def append(log: KafkaLog, records: Sequence[Scored]) -> None:
    """The records, then a heartbeat of a day after the last."""
    for at in range(0, len(records), 2000):
        part = records[at : at + 2000]
        log.append("scored", [(record.story_id, encode(record), record.partition) for record in part])
    beat = encode(Heartbeat(at=records[-1].seen_at + timedelta(days=1), replayed=True))
    log.append("scored", [("", beat, part) for part in range(PARTS)])


def alone(folder: Path, server: str, records: Sequence[Scored], parallelism: int) -> None:
    """The job by itself, until it has read the topic."""
    folder.mkdir()
    settings, log = topic(folder, server, "flink", parallelism)
    append(log, records)
    with flink.Job(Place(folder, ROOT / "moodwire.toml"), settings, PARTS):
        until(lambda: log.lag("scored", "trends") == 0, LIMIT_S, LOOK_S)  # it commits at its checkpoints
    log.close()


def state(folder: Path, server: str) -> None:
    """News at a steady rate for many times as long as state is kept: bytes of the newest checkpoints at each end."""
    place = Place(folder / "state", ROOT / "moodwire.toml")
    place.data.mkdir()
    settings, log = topic(place.data, server, "flink", 1)
    rng = random.Random(5)
    print(f"{STATE_RATE} articles a second of {COMPANIES} companies; the job forgets after {STATE_S} s", flush=True)
    with flink.Job(place, settings, PARTS, STATE_S) as job:
        began = time.monotonic()
        for second in range(1, STATES * STATE_S + 1):
            job.check()
            now = datetime.now(UTC)
            made = [article(second * STATE_RATE + number, now, rng) for number in range(STATE_RATE)]
            log.append("scored", [(record.story_id, encode(record), record.partition) for record in made])
            if second % STATE_S == 0:
                files = [path.stat().st_size for path in (place.data / "flink").rglob("*") if path.is_file()]
                behind = log.lag("scored", "trends")
                print(f"after {second} s: {sum(files) / 1e6:.1f} MB of state, {behind} records behind", flush=True)
            time.sleep(max(0.0, began + second - time.monotonic()))
    log.close()


def article(number: int, at: datetime, rng: random.Random) -> Scored:
    """Four series, as news about one company has them."""
    company = rng.randrange(COMPANIES)
    names = ("all", f"topic:t{number % 20}", f"entity:C{company}", f"group:g{company % 11}")
    made = example(number, (at - T0).total_seconds(), rng.choice(SENTIMENTS), names)
    return msgspec.structs.replace(made, partition=number % PARTS)


def engine(
    folder: Path, server: str, records: list[Scored], kind: Literal["one-machine", "flink"], parallelism: int
) -> list[tuple[object, ...]]:
    """Count the topic into a store of its own; returns the windows."""
    folder.mkdir()
    store = Store(f"sqlite:///{folder / 'moodwire.db'}")
    store.upgrade()
    for at in range(0, len(records), 5000):
        store_scores(store, records[at : at + 5000], FRESH)
    settings, log = topic(folder, server, kind, parallelism)
    append(log, records)
    context = Context(
        place=Place(folder, ROOT / "moodwire.toml"),
        settings=settings,
        store=store,
        log=log,
        clock=lambda: datetime.now(UTC),
        pulse=Pulse(store, "trends", lambda: datetime.now(UTC)),
    )
    thread = threading.Thread(target=(flink if kind == "flink" else stage).run, args=(context,), daemon=True)
    thread.start()
    topics = ("scored", flink.COUNTED, flink.MARKS) if kind == "flink" else ("scored",)
    until(lambda: all(log.lag(topic, "trends") == 0 for topic in topics), LIMIT_S, LOOK_S)
    context.stop.set()
    thread.join()
    frame = queries.windows(store).drop(columns="score")
    return sorted(frame.itertuples(index=False, name=None))


if __name__ == "__main__":
    main()

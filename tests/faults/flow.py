"""A replay through all the stages while faults strike, and what it must come to: the content of a run left in peace."""

import json
import multiprocessing
import random
import signal
import sqlite3
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from cli.replay import drained
from cli.stages import open_log
from cli.supervisor import command
from moodwire.configfile import load
from moodwire.records import WINDOW_S, Article, DeadLetter, Scored, Window, decode, encode, floor_time
from moodwire.settings import Place
from moodwire.stage import DEAD_LETTERS
from moodwire.store import schema
from moodwire.store.check import faults as unsound
from moodwire.store.db import Store
from moodwire.store.windows import Counted, Totals, window_of
from moodwire.stream.embedded import EmbeddedLog
from moodwire.stream.log import Log
from tests import services
from tests.faults import faulty
from tests.faults.faulty import Fault
from tests.helpers import STORES
from trends.count import add

ARTICLES = 2500
START = datetime(2024, 1, 1, tzinfo=UTC)
LIMIT_S = 240.0
STAGES = ("ingest", "classifier", "trends", "alerts")
FALLS = {-signal.SIGKILL, 5, 6}  # by which a stage may end: killed; no store; no stream
PROCESSES = multiprocessing.get_context("forkserver")  # one that has imported all; each stage is a process of its own
PROCESSES.set_forkserver_preload(["tests.alerts.faulty", "tests.faults.faulty"])
# Where a position is kept the same article can stand at another offset: what is appended twice moves the rest.
LEFT_OUT = {"seq", "known_at", "scored_at", "seen_at", "partition", "offset", "record"}
TABLES = (schema.articles, schema.scores, schema.counted, schema.windows, schema.incidents, schema.peaks)
CONFIG = """
[[rules]]
name = "surge"
false_alarms_per_week = 5
baseline_days = 14
minimum_stories = 3
cooldown_s = 900
[[watchlist.companies]]
symbol = "ACME"
names = ["Acme"]
groups = ["tools"]
[[watchlist.companies]]
symbol = "GLOB"
names = ["Globex"]
groups = ["tools"]
"""
OUTAGES = {f"{service} {how}" for service in ("broker", "database") for how in ("down", "silent")}
GOOD = '"source":"s","title":"t","published_at":"2024-01-01T00:00:00Z","seen_at":"2024-01-01T00:00:00Z","story_id":"x"'
POISON = {
    "bad bytes": b'{"type":"article",\xff\xfe',
    "wrong schema": b'{"type":"article","id":7}',
    "a future version": b'{"type":"article2","id":"x"}',
    "no time zone": b'{"type":"article","id":"x",' + GOOD.replace("00Z", "00").encode() + b"}",
    "a NUL in it": b'{"type":"article","id":"x\\u0000",' + GOOD.encode() + b"}",
    "over the cap": b'{"type":"article","id":"x","body":"' + b"x" * 1_040_000 + b'",' + GOOD.encode() + b"}",
}
Content = dict[str, list[str]]


class Kind(NamedTuple):
    stream: str = "embedded"  # or kafka
    store: str = "sqlite"  # or postgresql
    partitions: int = 1  # of Kafka's topics

    def __str__(self) -> str:
        return f"{self.stream} and {self.store}" + (f", {self.partitions} partitions" if self.partitions > 1 else "")


LOCAL = Kind()


class Outcome(NamedTuple):
    content: Content
    keys: dict[str, set[tuple[str, int]]]  # of articles and scores: id, revision
    hits: dict[int, str]  # by the fault's number: what it struck
    buried: set[tuple[str, int, int]]  # places of dead letters
    poison: set[tuple[str, int, int]]  # places of what the driver put there
    unsound: list[str]  # what `moodwire db check` says
    windows: list[Window]
    articles: list[tuple[int, int, Article]]  # partition, offset, record: as they stand in the log
    scored: list[Scored]  # as the store has them
    told: list[Scored]  # as the classifier told them to the log, some of them again
    falls: int


def news(path: Path, count: int = ARTICLES, repeated: bool = False) -> Path:
    """Twenty days of seeded news with copies, corrections and three surges. repeated: a stretch comes twice."""
    rng = random.Random(7)
    rows = []
    for number in range(count):
        at = START + timedelta(seconds=rng.random() * 20 * 86_400)
        if number % 25 == 0:
            at = START + timedelta(days=5 + 5 * (number % 3), seconds=rng.random() * 1800)
        name = rng.choice(("Acme", "Globex", "Acme and Globex", "The market"))
        title = f"{name} reports item {rng.randint(0, count // 2)}"
        rows.append({"id": str(rng.randint(0, count)), "title": title, "source": "s", "published_at": at.isoformat()})
    rows.sort(key=lambda row: row["published_at"])
    lines = [json.dumps(row) + "\n" for row in rows]
    if repeated:
        lines[count // 2 : count // 2] = lines[count // 3 : count // 2]
    path.write_text("".join(lines))
    return path


def run(
    folder: Path, kind: Kind = LOCAL, plan: Sequence[Fault] = (), engine: str = "dummy", **options: Sequence[str]
) -> Outcome:
    """A whole replay while the faults of the plan strike. options: by stage, those of faulty.run."""
    folder.mkdir()
    return _Run(folder, kind, plan, engine, options).outcome()


class _Run:
    def __init__(
        self, folder: Path, kind: Kind, plan: Sequence[Fault], engine: str, options: Mapping[str, Sequence[str]]
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._options = options
        url = STORES[kind.store](folder)
        config = CONFIG + f'[model]\nengine = "{engine}"\n[store]\nurl = "{url}"\n'
        if kind.stream == "kafka":
            config += f'[stream]\nkind = "kafka"\nservers = ["{services.kafka().server}"]\n'
            config += f'prefix = "{uuid.uuid4().hex}."\npartitions = {kind.partitions}\n'
        (folder / "moodwire.toml").write_text(config)
        self._place = Place(folder, folder / "moodwire.toml")
        self._settings = load(self._place.config, {})
        self._store = Store(url)
        self._store.upgrade()
        self._log: Log = open_log(self._place, self._settings)
        words = {stage: command(self._place, "run", stage)[3:] for stage in STAGES}
        words["ingest"] += ["--replay", str(news(folder / "news.jsonl", repeated=bool(plan)))]
        self._words = words
        self._processes: dict[str, Any] = {}
        self._put: set[tuple[str, int, int]] = set()
        self._acted: set[int] = set()
        self._undo: list[tuple[float, Callable[[], None]]] = []
        self._falls = 0
        self._started = Counter[str]()
        self._done = False

    def outcome(self) -> Outcome:
        deadline = time.monotonic() + LIMIT_S
        try:
            for stage in STAGES:
                self._start(stage)
            while not self._is_over():
                assert time.monotonic() < deadline, f"the replay did not end: {self._state()}\n{self._logs()}"
                self._restart()
                self._act()
                time.sleep(0.02)
            return self._found()
        finally:
            for process in self._processes.values():
                process.kill()
                process.join()
            for _, undo in self._undo:
                undo()
            self._log.close()
            self._store.close()

    def _start(self, name: str) -> None:
        """A stage, or a second one of its kind: `classifier two`."""
        stage, _, instance = name.partition(" ")
        plan = () if instance else self._plan
        given = (stage, plan, self._folder, self._words[stage], instance or "one", self._options.get(stage, ()))
        self._processes[name] = PROCESSES.Process(target=faulty.run, args=given, daemon=True)
        self._processes[name].start()
        self._started[name] += 1

    def _restart(self) -> None:
        for name, process in list(self._processes.items()):
            if process.is_alive():
                continue
            del self._processes[name]
            if process.exitcode == 0 and name == "ingest":
                self._done = True
                continue
            assert process.exitcode in FALLS, f"{name} ended with {process.exitcode}\n{self._logs()}"
            self._falls += 1
            self._start(name)

    def _is_over(self) -> bool:
        if not self._done or self._undo or any(fault.number not in self._acted for fault in self._plan):
            return False
        return drained(self._log)

    def _act(self) -> None:
        for due in [each for each in self._undo if each[0] <= time.monotonic()]:
            self._undo.remove(due)
            due[1]()
        for fault in self._plan:
            if fault.number in self._acted or not fault.file(self._folder, "hit").exists():
                continue
            if self._undo and fault.kind in {"poison", "duplicate", *OUTAGES}:
                continue  # these are done through the broker, or to it, which may be down
            self._acted.add(fault.number)
            if fault.kind not in {"kill", "full", "shuffle"}:
                getattr(self, "_" + fault.kind.replace(" ", "_"))(fault)
                fault.file(self._folder, "go").touch()

    # --- the faults that are not a stage's own ------------------------------------------------------------------------

    def _broker_down(self, fault: Fault) -> None:
        self._down(services.kafka(), fault)

    def _database_down(self, fault: Fault) -> None:
        self._down(services.postgres(), fault)

    def _down(self, service: services.Service, fault: Fault) -> None:
        service.kill()
        self._later(fault, service.start)

    def _broker_silent(self, fault: Fault) -> None:
        """It accepts, and never answers."""
        self._silent(services.kafka(), fault)

    def _database_silent(self, fault: Fault) -> None:
        self._silent(services.postgres(), fault)

    def _silent(self, service: services.Service, fault: Fault) -> None:
        service.signal(signal.SIGSTOP)
        self._later(fault, lambda: service.signal(signal.SIGCONT))

    def _later(self, fault: Fault, undo: Callable[[], None]) -> None:
        self._undo.append((time.monotonic() + fault.seconds, undo))

    def _join(self, fault: Fault) -> None:
        """Another classifier shares the work for a while, then dies or leaves."""
        self._start("classifier two")

        def leave() -> None:
            process = self._processes.pop("classifier two")
            (process.kill if fault.what == "dies" else process.terminate)()
            process.join()

        self._later(fault, leave)

    def _duplicate(self, fault: Fault) -> None:
        """The last records of a topic come once more; not what was poisoned, which counts by its place."""
        poison = {(partition, offset) for topic, partition, offset in self._put if topic == fault.what}
        records = [each for each in self._log.records(fault.what) if (each.partition, each.offset) not in poison][-200:]
        self._log.append(fault.what, [(record.key, record.value, record.partition) for record in records])

    def _clock(self, fault: Fault) -> None:
        faulty.told(self._folder / "clock", fault.what)

    def _poison(self, fault: Fault) -> None:
        topic, _, which = fault.what.partition(": ")
        self._put.add((topic, 0, put(self._log, topic, POISON[which])))

    # --- what came of it ----------------------------------------------------------------------------------------------

    def _found(self) -> Outcome:
        letters = [decode(message.value) for message in self._log.records(DEAD_LETTERS)]
        w = schema.windows.c
        names = [column.name for column in schema.windows.c]
        with self._store.read() as connection:
            windows = [
                Window(**dict(zip(names, row, strict=True)))
                for row in connection.execute(sa.select(schema.windows).where(w.length_s == WINDOW_S))
            ]
            scored = [decode(data) for data in connection.execute(sa.select(schema.scores.c.record)).scalars()]
            keys = {
                table.name: {
                    (one, revision) for one, revision in connection.execute(sa.select(table.c.id, table.c.revision))
                }
                for table in (schema.articles, schema.scores)
            }
        hits = {
            fault.number: " ".join(
                path.read_text() for suffix in ("hit", "fell") if (path := fault.file(self._folder, suffix)).exists()
            )
            for fault in self._plan
        }
        return Outcome(
            content=content(self._store),
            keys=keys,
            hits=hits,
            buried={(one.topic, one.partition, one.offset) for one in letters if isinstance(one, DeadLetter)},
            poison=self._put,
            unsound=unsound(self._store),
            windows=windows,
            articles=[each for each in self._kept("articles") if isinstance(each[2], Article)],
            scored=[one for one in scored if isinstance(one, Scored)],
            told=[one for *_, one in self._kept("scored") if isinstance(one, Scored)],
            falls=self._falls,
        )

    def _kept(self, topic: str) -> Iterator[tuple[int, int, Any]]:
        """Partition, offset and record of what stands in a topic, without the driver's poison."""
        for message in self._log.records(topic):
            if (topic, message.partition, message.offset) not in self._put:
                yield message.partition, message.offset, decode(message.value)

    def _state(self) -> str:
        waiting = [fault for fault in self._plan if fault.number not in self._acted]
        return f"ingest {'has' if self._done else 'has not'} ended; not yet struck: {waiting}; to undo: {self._undo}"

    def _logs(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()[-2500:]}" for path in sorted(self._folder.glob("*.log")))


def put(log: Log, topic: str, value: bytes) -> int:
    """A record past all checks, as another program might append it, in partition 0; returns its offset."""
    if isinstance(log, EmbeddedLog):
        database: sqlite3.Connection = log.topic_database(topic)
        row = (0, "k", value, time.time())
        done = database.execute("INSERT INTO records (partition, key, value, at) VALUES (?, ?, ?, ?)", row)
        return int(done.lastrowid or 0)
    assert hasattr(log, "_producer")
    log.partitions(topic)
    place = log.place(topic, 0)  # type: ignore[attr-defined]
    sent = log._producer().send(place.topic, key=b"k", value=value, partition=0)
    return int(sent.get(30).offset)


def plan_of(seed: int, kind: Kind) -> list[Fault]:
    """A dozen faults at seeded moments, each that the kind can have."""
    rng = random.Random(seed)
    found: list[Fault] = []

    def strike(what: str, stages: Sequence[str] = STAGES, detail: str = "", seconds: float = 0.0) -> None:
        stage = rng.choice(stages)
        points = ("commit", "write") if stage == "alerts" else ("append", "write")
        point = "append" if what == "full" else rng.choice(points if stage == "ingest" else (*points, "commit"))
        found.append(Fault(0, what, stage, point, rng.randint(1, 3), detail, seconds))

    for stage in STAGES:
        strike("kill", [stage])
        strike("kill", [stage])
    strike("duplicate", detail=rng.choice(("articles", "scored", "windows")))
    strike("clock", detail=str(rng.choice((-3600, 60, 7200))))
    for which in rng.sample(sorted(POISON), 2):
        strike("poison", STAGES[:3], f"{rng.choice(('articles', 'scored', 'windows'))}: {which}")
    if kind.stream == "embedded":
        strike("full", STAGES[:3])
    else:
        # Some outages are waited for, some outlast the stages' patience.
        strike(rng.choice(("broker down", "broker silent")), detail="", seconds=rng.choice((2.0, 2.0, 10.0)))
        strike("join", ["classifier"], rng.choice(("dies", "leaves")), 3.0)
    if kind.store == "postgresql":
        strike(rng.choice(("database down", "database silent")), seconds=rng.choice((1.0, 4.0)))
    rng.shuffle(found)
    return [fault._replace(number=number) for number, fault in enumerate(found)]


def content(store: Store) -> Content:
    """All that must be equal, by table, each row as text."""
    found: Content = {}
    with store.read() as connection:
        for table in TABLES:
            columns = [column for column in table.c if column.name not in LEFT_OUT]
            found[table.name] = sorted(map(repr, connection.execute(sa.select(*columns))))
        alerts = connection.execute(sa.select(schema.alerts.c.record)).scalars()
        found["alerts"] = sorted(map(repr, map(decode, alerts)))
    return found


def differences(expected: Content, found: Content, tables: Iterable[str]) -> dict[str, tuple[list[str], list[str]]]:
    """By table that differs: what was lost, and what is there too often or should not be."""
    wrong = {}
    for table in tables:
        one, other = Counter(expected[table]), Counter(found[table])
        if one != other:
            wrong[table] = (sorted((one - other).elements()), sorted((other - one).elements()))
    return wrong


def windows_of(articles: Sequence[tuple[int, int, Article]], scored: Sequence[Scored]) -> dict[tuple[str, Any], bytes]:
    """The windows that are right for articles that came in this order, counted in the plainest way."""
    series_of = {(record.id, record.revision): record.series for record in scored}
    labels = {"negative": -1, "neutral": 0, "positive": 1}
    totals: defaultdict[tuple[str, Any], Totals] = defaultdict(Totals)
    known: set[tuple[str, int]] = set()
    counted: set[tuple[str, str, str]] = set()
    for partition, offset, article in articles:
        if (article.id, article.revision) in known:
            continue
        known.add((article.id, article.revision))
        start = floor_time(article.published_at, WINDOW_S)
        for series in series_of[article.id, article.revision]:
            row = Counted(
                series=series.name,
                partition=partition,
                offset=offset,
                label=labels[series.label],
                score_e4=series.score_e4,
                fresh=article.seen_at - article.published_at <= timedelta(hours=2),
                first_article=(series.name, "article", article.id) not in counted,
                first_story=(series.name, "story", article.story_id) not in counted,
            )
            counted |= {(series.name, "article", article.id), (series.name, "story", article.story_id)}
            totals[series.name, start] = add(totals[series.name, start], row)
    return {key: encode(window_of(key, sums)) for key, sums in totals.items() if sums.articles}

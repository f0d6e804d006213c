"""`kill -9` of any stage at any moment of a replay: in the end all is as in a run left in peace."""

import json
import random
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cli.replay import drained
from cli.supervisor import Supervisor, command
from moodwire.records import decode
from moodwire.settings import Place
from moodwire.store import schema
from moodwire.store.db import Store
from moodwire.stream.embedded import EmbeddedLog

ARTICLES = 2500
START = datetime(2024, 1, 1, tzinfo=UTC)
STAGES = ("ingest", "classifier", "trends", "alerts")
# Where a position is kept the same article can stand at another offset: what ingest appends twice moves the rest.
LEFT_OUT = {"seq", "known_at", "scored_at", "seen_at", "partition", "offset", "record"}
CONFIG = """
[model]
engine = "dummy"
batch = 100
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
# Seeded moments: the calls by which a stage is in the middle of its work. Ingest commits nothing, and alerts append
# only when an incident changes, too seldom to count on.
POINTS = {
    "ingest": ("append", "write"),
    "classifier": ("append", "commit", "write"),
    "trends": ("append", "commit", "write"),
    "alerts": ("commit", "write"),
}
PLAN = {}
for seed in range(5):
    rng = random.Random(seed)
    PLAN[seed] = (STAGES[seed % 4], rng.choice(POINTS[STAGES[seed % 4]]), rng.randint(3, 9))


def news(path: Path) -> Path:
    """Twenty days of seeded news with copies, corrections and three surges."""
    rng = random.Random(7)
    rows = []
    for number in range(ARTICLES):
        at = START + timedelta(seconds=rng.random() * 20 * 86_400)
        if number % 25 == 0:
            at = START + timedelta(days=5 + 5 * (number % 3), seconds=rng.random() * 1800)
        name = rng.choice(("Acme", "Globex", "Acme and Globex", "The market"))
        title = f"{name} reports item {rng.randint(0, ARTICLES // 2)}"
        rows.append(
            {"id": str(rng.randint(0, ARTICLES)), "title": title, "source": "s", "published_at": at.isoformat()}
        )
    rows.sort(key=lambda row: row["published_at"])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(folder: Path, replaced: Mapping[str, list[str]]) -> tuple[dict[str, list[Any]], int]:
    """A whole replay; `replaced`: by stage, the words before its own. The store's content, and the restarts."""
    folder.mkdir()
    (folder / "moodwire.toml").write_text(CONFIG)
    place = Place(folder / "data", folder / "moodwire.toml")
    words = {stage: ["run", stage] for stage in STAGES}
    words["ingest"] += ["--replay", str(news(folder / "news.jsonl"))]
    commands = {}
    for stage in STAGES:
        plain = command(place, *words[stage])
        faulty = [sys.executable, "-m", "tests.faulty_stage", *replaced.get(stage, []), "--", *plain[3:]]
        commands[stage] = faulty if stage in replaced else plain
    place.data.mkdir()
    store = Store(place.store_url(_settings()))
    store.upgrade()
    log = EmbeddedLog(place.log)
    stop = threading.Event()
    timer = threading.Timer(280, stop.set)
    timer.start()
    with Supervisor(place, commands, once=["ingest"]) as supervisor:
        supervisor.run(stop, lambda: "ingest" in supervisor.done and drained(log), interval_s=0.05)
    timer.cancel()
    logs = "\n".join(path.read_text()[-2000:] for path in (place.data / "logs").iterdir())
    assert not stop.is_set(), f"the replay did not end:\n{logs}"
    return content(store), supervisor.restarts


def _settings() -> Any:
    from moodwire.settings import Settings

    return Settings()


def content(store: Store) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    with store.read() as connection:
        for table in (schema.articles, schema.scores, schema.counted, schema.windows, schema.incidents, schema.peaks):
            columns = [column for column in table.c if column.name not in LEFT_OUT]
            found[table.name] = sorted(map(repr, connection.execute(sa.select(*columns))))
        alerts = connection.execute(sa.select(schema.alerts.c.record)).scalars()
        found["alerts"] = sorted(map(repr, map(decode, alerts)))
    return found


@pytest.fixture(scope="module")
def in_peace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    found, restarts = run(tmp_path_factory.mktemp("peace") / "run", {})
    assert restarts == 0
    assert len(found["scores"]) == len(found["articles"]) > ARTICLES // 2
    states = [row for row in found["alerts"] if "state='resolved'" in row]
    assert len(found["alerts"]) >= 4, "the surges must set off alarms, or their equality would say nothing"
    assert states
    return found


@pytest.mark.parametrize("seed", PLAN)
def test_a_killed_stage_changes_nothing(seed: int, in_peace: dict[str, list[Any]], tmp_path: Path) -> None:
    stage, point, count = PLAN[seed]
    marker = tmp_path / "died"
    found, restarts = run(tmp_path / "run", {stage: [point, str(count), str(marker)]})
    assert marker.exists(), f"{stage} was not killed at {point} {count}: nothing was in flight"
    assert restarts == 1
    for table, rows in in_peace.items():
        assert found[table] == rows, f"{table} differs after {stage} was killed at {marker.read_text()}"


def test_the_comparison_finds_a_stage_that_commits_before_it_writes(
    in_peace: dict[str, list[Any]], tmp_path: Path
) -> None:
    marker = tmp_path / "died"
    found, restarts = run(tmp_path / "run", {"classifier": ["append", "4", str(marker), "--commit-first"]})
    assert marker.exists()
    assert restarts == 1
    assert found != in_peace

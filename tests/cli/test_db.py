"""`moodwire db` and `moodwire dead-letters retry`, on both stores and both streams."""

import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from cli import db, status
from cli.stages import now, open_log, open_store
from moodwire.errors import BadInput
from moodwire.records import DeadLetter, encode
from moodwire.settings import Place, Settings, Store, Stream
from moodwire.stage import DEAD_LETTERS
from moodwire.store import queries, schema
from moodwire.store.scores import store_scores
from tests import services
from tests.helpers import T0, article, scored

URLS: dict[str, Callable[[], str]] = {"sqlite": lambda: "", "postgresql": lambda: services.postgres().database()}
STREAMS: dict[str, Callable[[Path], Stream]] = {
    "embedded": lambda folder: Stream(),
    "kafka": lambda folder: Stream(kind="kafka", servers=(services.kafka().server,), prefix=f"{folder.name}."),
}


@pytest.mark.parametrize("kind", URLS)
def test_the_store_is_checked_pruned_and_backed_up(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, settings = Place(tmp_path / "data"), Settings(store=Store(url=URLS[kind]()))
    store = open_store(place, settings)
    store_scores(store, [scored(1, 0), scored(2, 0)], timedelta(hours=2))
    assert db.run(place, settings, "upgrade", None) == 0
    assert db.run(place, settings, "check", None) == 0
    copy = tmp_path / "copy"
    assert db.run(place, settings, "backup", copy) == 0
    assert copy.stat().st_size > 1000
    assert db.run(place, settings, "prune", None) == 0  # the scores are of 2024, and kept for three years
    with store.write() as connection:
        connection.execute(sa.delete(schema.scores))
    assert db.run(place, settings, "check", None) == 1
    told = capsys.readouterr().out
    assert "is sound" in told
    assert "articles: 0 rows deleted" in told
    assert "2 counted articles have no score" in told
    with pytest.raises(BadInput, match="is there already"):
        db.run(place, settings, "backup", copy)
    with pytest.raises(BadInput, match="--to FILE"):
        db.run(place, settings, "backup", None)
    if kind == "sqlite":
        address = f"sqlite:///{copy}"
    else:
        address = services.postgres().database()
        plain = address.replace("+psycopg", "")
        subprocess.run(["pg_restore", "--clean", "--if-exists", "--dbname", plain, str(copy)], check=True)
    restored = Settings(store=Store(url=address))
    assert db.run(place, restored, "check", None) == 0
    assert len(queries.windows_as_of(open_store(place, restored), as_of=now())) == 1, "what it held is there"
    store.close()


@pytest.mark.parametrize("kind", STREAMS)
def test_dead_letters_are_put_back_once(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, settings = Place(tmp_path), Settings(stream=STREAMS[kind](tmp_path))
    log = open_log(place, settings)
    log.append("articles", [("k", encode(article(1, "one", 0)), 0), ("k", b"bad" * 2000, 0)])
    first, bad = log.records("articles")
    for offset in (bad.offset, bad.offset, 4711):  # one was set aside twice, after a crash; one is gone
        letter = DeadLetter(stage="s", topic="articles", partition=0, offset=offset, reason="r", at=T0)
        log.append(DEAD_LETTERS, [("articles", encode(letter), None)])
    log.append(
        DEAD_LETTERS, [("f", encode(DeadLetter(stage="s", topic="f", partition=0, offset=0, reason="r", at=T0)), None)]
    )
    assert status.retry(place, settings) == 0
    assert status.retry(place, settings) == 0
    told = capsys.readouterr().out
    assert "1 records put back; 2 are no records" in told
    assert "0 records put back; 0 are no records" in told
    assert [message.value for message in log.records("articles")] == [first.value, bad.value, bad.value]
    log.close()

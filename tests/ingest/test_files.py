"""Files and folders that are being written to: each finished line once, over stops and rotations."""

import gzip
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import files, stage
from ingest.fetch import Fetcher
from ingest.files import CHUNK, Place, portions
from ingest.stories import StoryIndex
from moodwire.records import DeadLetter, decode
from moodwire.settings import Files, Settings
from moodwire.stage import Context
from moodwire.store import schema
from moodwire.store.articles import feed_states
from tests.helpers import T0, context


def line(number: int) -> bytes:
    return json.dumps({"id": number, "title": f"Voltrix Energy reports number {number}"}).encode() + b"\n"


def opened(folder: Path, path: Path) -> Context:
    source = Files(name="drop", url=path.as_uri())
    return context(folder, Settings(sources=(source,)), lambda: datetime.now(UTC), "ingest")


def look(c: Context) -> None:
    (source,) = c.settings.sources
    stage.take(c, Fetcher(c.settings.fetching), StoryIndex(c.store), source)


def titles(c: Context) -> list[str]:
    with c.store.read() as connection:
        query = sa.select(schema.articles.c.title).order_by(schema.articles.c.seq)
        return [title.rpartition(" ")[2] for title in connection.execute(query).scalars()]


def letters(c: Context) -> list[str]:
    found = [decode(message.value) for message in c.log.read("dead_letters", 0, 1000)]
    return [f"{letter.topic}: {letter.reason}" for letter in found if isinstance(letter, DeadLetter)]


def test_the_last_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    path.write_bytes(line(1) + line(2)[:20])
    c = opened(tmp_path, path)
    look(c)
    assert titles(c) == ["1"]
    with path.open("ab") as file:
        file.write(line(2)[20:] + line(3))
    look(c)
    assert titles(c) == ["1", "2", "3"]
    assert letters(c) == []
    with c.store.read() as connection:
        assert set(connection.execute(sa.select(schema.articles.c.source)).scalars()) == {"drop"}


def test_a_file_that_is_begun_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    path.write_bytes(line(1) + line(2))
    c = opened(tmp_path, path)
    look(c)
    path.write_bytes(line(3))
    look(c)
    assert titles(c) == ["1", "2", "3"], "shorter than it was"
    path.write_bytes(line(4) * 3 + line(5))
    look(c)
    assert titles(c) == ["1", "2", "3", "4", "5"], "longer than it was, with other content"


def test_files_arrive_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(line(1))
    (folder / "b.csv").write_text("id,title\n2,Voltrix Energy reports number 2\n")
    (folder / "c.jsonl.gz").write_bytes(gzip.compress(line(3)))
    (folder / "d.jsonl.part").write_bytes(line(9))
    (folder / ".e.jsonl").write_bytes(line(9))
    c = opened(tmp_path, folder)
    look(c)
    assert titles(c) == ["1"], "what is read as a whole must have settled"
    for name in ("b.csv", "c.jsonl.gz"):
        os.utime(folder / name, (1e9, 1e9))
    look(c)
    assert titles(c) == ["1", "2", "3"]
    look(c)
    assert titles(c) == ["1", "2", "3"]
    state = feed_states(c.store)["drop"]
    assert (state["items"], state["failures"]) == (3, 0)
    (folder / "a.jsonl").unlink()
    look(c)
    with c.store.read() as connection:
        names = connection.execute(sa.select(schema.facts.c.name)).scalars().all()
    assert not any("a.jsonl" in name and "files:" in name for name in names), "what is gone is forgotten"


def test_bad_lines_and_a_missing_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    path.write_bytes(line(1) + b"{cut\n[1]\n" + b"[" * 100_000 + b"\n" + line(2))
    c = opened(tmp_path, path)
    look(c)
    assert titles(c) == ["1", "2"]
    assert len(letters(c)) == 3
    assert all(letter.startswith("drop: news.jsonl:") for letter in letters(c))
    path.unlink()
    look(c)
    assert "cannot be read" in feed_states(c.store)["drop"]["error"]


def test_a_line_without_end_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    path.write_bytes(b"x" * (CHUNK + 10) + b"\n" + line(1))
    found = [one for portion in portions(path, Place(), T0) for one in portion.lines]
    assert [one.item is not None for one in found] == [False, False, True]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 120), min_size=1, max_size=30), st.integers(1, 12))
def test_every_line_comes_once_however_the_file_is_written(tmp_path_factory, steps: list[int], count: int) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("grown") / "news.jsonl"
    whole = b"".join(line(number) for number in range(1, count + 1))
    place, got = Place(), []
    for end in [sum(steps[:at]) for at in range(1, len(steps) + 1)] + [len(whole)]:
        path.write_bytes(whole[:end])
        for portion in files.portions(path, place, T0):
            got += [one.item.guid for one in portion.lines if one.item]
            place = portion.place
    assert got == [str(number) for number in range(1, count + 1)]

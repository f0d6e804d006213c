import gzip
import json
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.readers import read, time_of
from ingest.replay import DELAY, replay
from moodwire.errors import BadInput
from moodwire.records import Article, DeadLetter, Heartbeat, decode
from moodwire.stage import Context
from tests.helpers import T0, after, context


def line(number: int, at: float, **more: object) -> str:
    row = {"id": str(number), "title": f"Title {number}", "published_at": after(at).isoformat(), **more}
    return json.dumps(row) + "\n"


def records(c: Context, topic: str = "articles") -> list[object]:
    return [decode(message.value) for message in c.log.read(topic, 0, 100_000)]


def bring(c: Context, *paths: Path, limit: int | None = None) -> list[int]:
    seen: list[int] = []
    replay(c, paths, None, seen.append, limit)
    return seen


def test_an_empty_store_gets_the_data_s_own_times(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line(1, 0) + line(2, 50))
    c = context(tmp_path, clock=lambda: after(10_000_000))
    assert bring(c, path) == [2]
    *articles, beat = records(c)
    assert [a.seen_at for a in articles if isinstance(a, Article)] == [T0 + DELAY, after(50) + DELAY]
    assert all(isinstance(a, Article) and a.replayed for a in articles)
    assert isinstance(beat, Heartbeat)
    assert beat.replayed
    assert beat.at == after(51) + timedelta(days=1)


def test_a_store_with_news_sees_the_old_now(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(line(1, 0))
    (tmp_path / "b.jsonl").write_text(line(2, 0))
    now = after(10_000_000)
    c = context(tmp_path, clock=lambda: now)
    bring(c, tmp_path / "a.jsonl")
    bring(c, tmp_path / "b.jsonl")
    second = [r for r in records(c) if isinstance(r, Article)][1]
    assert (second.seen_at, second.replayed) == (now, False)


def test_a_bad_line_is_named_and_the_rest_comes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        line(1, 0).encode()
        + b'{"id": "2", "title": "cut in ha\n'
        + b"[1]\n"
        + b"\xff\xfe\n"
        + b'{"id": "5", "title": "x", "published_at": "yesterday"}\n'
        + b'{"id": "6"}\n'
        + line(7, 9).encode()
    )
    c = context(tmp_path)
    bring(c, path)
    assert [r.title for r in records(c) if isinstance(r, Article)] == ["Title 1", "Title 7"]
    letters = [r for r in records(c, "dead_letters") if isinstance(r, DeadLetter)]
    assert [letter.topic for letter in letters] == [f"a.jsonl:{number}" for number in (2, 3, 4, 5, 6)]
    assert "yesterday" in letters[3].reason
    assert "neither a title nor a text" in letters[4].reason


def test_a_stopped_replay_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(line(n, n * 10.0) for n in range(1300)))
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole, parts = context(tmp_path / "whole"), context(tmp_path / "parts")
    bring(whole, path)

    def interrupt(lines: int) -> None:
        if lines <= 500:
            parts.stop.set()

    replay(parts, [path], None, interrupt)
    assert len([r for r in records(parts) if isinstance(r, Article)]) == 500
    parts.stop.clear()
    bring(parts, path)
    articles = [r for r in records(parts) if isinstance(r, Article)]
    assert articles == [r for r in records(whole) if isinstance(r, Article)]
    assert len(articles) == 1300


def test_lines_of_one_item_under_several_tickers_are_one_article(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl.gz"
    rows = [{"ts": T0.isoformat(), "ticker": t, "source": "@a", "title": "Hi", "lang": "en", "id": "1"} for t in "AB"]
    with gzip.open(path, "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = read(path)
    assert found.item is not None
    assert found.item.tickers == ("A", "B")
    assert found.number == 2


def test_csv_and_json_lists_are_read_with_a_null_body(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Headline,Date,Symbol\nProfit up,2024-01-02 03:04:05,$aapl\n")
    (tmp_path / "b.json").write_text(
        json.dumps([{"content": None, "title": "T", "url": "https://e.org/", "date_publish": "2024-01-02 03:04:05"}])
    )
    (row,) = read(tmp_path / "a.csv")
    (item,) = read(tmp_path / "b.json")
    assert row.item is not None
    assert item.item is not None
    assert (row.item.title, row.item.tickers, item.item.body) == ("Profit up", ("AAPL",), "")
    assert row.item.published_at == item.item.published_at == time_of("2024-01-02T03:04:05Z")


def test_what_is_no_file_of_news_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.jsonl.gz").write_bytes(b"no gzip")
    for name, what in (("a.json", "no JSON list"), ("b.jsonl.gz", "cannot be read"), ("c.jsonl", "cannot be read")):
        with pytest.raises(BadInput, match=what):
            list(read(tmp_path / name))


def test_a_limit_counts_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(line(n, n) for n in range(10)))
    c = context(tmp_path)
    bring(c, path, limit=4)
    assert len([r for r in records(c) if isinstance(r, Article)]) == 4

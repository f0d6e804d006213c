"""The command as its users call it: a process of its own each time."""

import csv
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest

from cli.main import EXAMPLES
from moodwire.errors import MoodwireError

NEWS = [
    {"id": "1", "title": "Acme profit rises", "source": "s", "published_at": "2024-01-01T10:00:05Z"},
    {"id": "2", "title": "Acme fined over emissions", "source": "s", "published_at": "2024-01-01T10:00:30Z"},
    {"id": "3", "title": "Acme PROFIT rises!", "source": "t", "published_at": "2024-01-01T10:20:00Z"},
    {"id": "4", "title": "Globex and Acme merge", "source": "t", "published_at": "2024-01-02T00:00:00Z"},
]
CONFIG = """
[model]
engine = "dummy"
[[watchlist.companies]]
symbol = "ACME"
names = ["Acme"]
groups = ["tools"]
"""


def moodwire(*words: str, folder: Path, code: int = 0) -> tuple[str, str]:
    """Output and error output of a call in a folder; its exit code is as said."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four articles replayed, a cut line among them."""
    folder = tmp_path_factory.mktemp("replayed")
    (folder / "moodwire.toml").write_text(CONFIG)
    lines = [json.dumps(row) for row in NEWS]
    (folder / "news.jsonl").write_text("\n".join([*lines[:2], lines[2][:30], *lines[2:]]) + "\n")
    out, _ = moodwire("--data", "past", "replay", "news.jsonl", folder=folder)
    assert "stored: 4 articles, 4 scores" in out
    return folder


def rows(folder: Path, *words: str) -> list[dict[str, str]]:
    out, _ = moodwire("--data", "past", "query", *words, "--format", "csv", folder=folder)
    return list(csv.DictReader(io.StringIO(out)))


def test_help_reads_like_a_manual_page(tmp_path: Path) -> None:
    out, _ = moodwire("--help", folder=tmp_path)
    for verb in (
        "demo",
        "up",
        "run",
        "replay",
        "classify",
        "status",
        "query",
        "check",
        "sources",
        "evaluate",
        "train",
        "dead-letters",
    ):
        assert re.search(rf"^    {verb}\b", out, re.MULTILINE)
        text, _ = moodwire(verb, "--help", folder=tmp_path)
        assert f"usage: moodwire {verb}" in text
    assert "examples:" in out
    told = {int(part.split()[0]) for part in EXAMPLES.split("exit codes:")[1].replace("\n", " ").split(";")}
    assert told == {0, 130, *(kind.exit_code for kind in errors())}


def errors() -> list[type[MoodwireError]]:
    found = [MoodwireError]
    for kind in found:
        found += [child for child in kind.__subclasses__() if child.__module__ == "moodwire.errors"]
    return found


def test_windows_come_out_with_the_records_names(replayed: Path) -> None:
    found = rows(replayed, "windows", "--series", "entity:ACME")
    assert [row["start"][:16] for row in found] == ["2024-01-01T10:00", "2024-01-01T10:20", "2024-01-02T00:00"]
    assert [row["stories"] for row in found] == ["2", "0", "1"], "the copy adds an article, no story"
    assert [row["articles"] for row in found] == ["2", "1", "1"]
    assert found[1]["score"] == "", "a window without stories has no score"
    assert -1 <= float(found[0]["score"]) <= 1
    assert rows(replayed, "windows", "--series", "entity:ACME", "--from", "2024-01-02") == found[2:]


def test_parquet_holds_what_csv_holds(replayed: Path, tmp_path: Path) -> None:
    words = ("--data", "past", "query", "stories", "--format", "parquet")
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *words],
        cwd=replayed,
        capture_output=True,
        timeout=120,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
        check=True,
    )
    table = pd.read_parquet(io.BytesIO(done.stdout))
    assert list(table["title"]) == [row["title"] for row in rows(replayed, "stories")]
    assert str(table["published_at"].dtype) == "datetime64[us, UTC]"


def test_articles_and_stories_differ_by_the_copies(replayed: Path) -> None:
    articles = rows(replayed, "articles", "--series", "group:tools")
    stories = rows(replayed, "stories", "--to", "2024-01-02")
    assert [row["title"] for row in articles] == [row["title"] for row in reversed(NEWS)]
    assert {row["title"]: row["copies"] for row in stories} == {NEWS[0]["title"]: "2", NEWS[1]["title"]: "1"}
    first = rows(replayed, "articles")[-1]
    assert datetime.fromisoformat(first["seen_at"]) > datetime.fromisoformat(first["published_at"])
    assert float(first["p_positive"]) - float(first["p_negative"]) == pytest.approx(float(first["score"]), abs=2e-4)


def test_json_is_for_programs_and_the_table_for_people(replayed: Path) -> None:
    out, _ = moodwire("--data", "past", "query", "articles", "--format", "json", "--limit", "1", folder=replayed)
    (row,) = json.loads(out)
    assert row["title"] == "Globex and Acme merge"
    assert row["published_at"] == "2024-01-02T00:00:00.000000Z"
    out, _ = moodwire("--data", "past", "query", "alerts", folder=replayed)
    assert out.strip().endswith("0 rows")
    out, _ = moodwire("--data", "past", "query", "articles", folder=replayed)
    assert "Acme fined over emissions" in out


def test_a_time_that_cannot_be_read_is_told_with_an_example(replayed: Path) -> None:
    _, error = moodwire("--data", "past", "query", "windows", "--from", "yesterday-ish", folder=replayed, code=3)
    assert "yesterday-ish" in error
    assert "2014-01-31" in error


def test_the_cut_line_is_among_the_dead_letters(replayed: Path) -> None:
    out, _ = moodwire("--data", "past", "dead-letters", "list", folder=replayed)
    assert "news.jsonl:3" in out
    assert out.strip().endswith("1 dead letters")
    assert moodwire("--data", "new", "dead-letters", "list", folder=replayed)[0] == "no dead letters\n"


def test_status_tells_the_stages_and_that_they_are_stopped(replayed: Path) -> None:
    out, _ = moodwire("--data", "past", "status", folder=replayed, code=1)
    for stage in ("ingest", "classifier", "trends", "alerts"):
        assert stage in out
    assert "not running" in out
    assert "no stage has run" in moodwire("--data", "new", "status", folder=replayed, code=1)[0]


def test_the_same_file_again_changes_nothing(replayed: Path) -> None:
    before = rows(replayed, "windows")
    out, _ = moodwire("--data", "past", "replay", "news.jsonl", folder=replayed)
    assert "stored: 4 articles" in out
    assert rows(replayed, "windows") == before


def test_check_tells_three_faults_and_says_right_when_it_is(tmp_path: Path) -> None:
    (tmp_path / "moodwire.toml").write_text('[model]\nengine = "x"\nthreads = -1\n[odd]\n')
    _, error = moodwire("check", folder=tmp_path, code=2)
    assert error.startswith("moodwire: 3 faults in the configuration\n  moodwire.toml:2: model.engine")
    (tmp_path / "moodwire.toml").write_text(CONFIG)
    assert "right (0 sources, 1 companies, 0 rules)" in moodwire("check", folder=tmp_path)[0]
    _, error = moodwire("--config", "none.toml", "check", folder=tmp_path, code=3)
    assert "none.toml" in error


def test_usage_errors_have_code_2(tmp_path: Path) -> None:
    for words in ([], ["nosuchverb"], ["replay"], ["replay", "x", "--speed", "0"], ["query", "cats"]):
        assert "usage: moodwire" in moodwire(*words, folder=tmp_path, code=2)[1]


def test_a_replay_of_no_file_is_told(tmp_path: Path) -> None:
    assert "nothing.jsonl is no file" in moodwire("replay", "nothing.jsonl", folder=tmp_path, code=3)[1]


def test_classify_gives_a_row_for_each_row_in_order(tmp_path: Path) -> None:
    (tmp_path / "moodwire.toml").write_text(CONFIG)
    texts = ["Acme profit rises", "", "汉字 😀", 'said "no", then\nleft', "Globex sues Acme"]
    frame = pd.DataFrame({"n": range(5), "text": texts, "who": ["Acme", "", "", "", "Globex"]})
    frame.to_csv(tmp_path / "in.csv", index=False)
    words = ("classify", "in.csv", "--text-column", "text", "--entity-column", "who")
    moodwire(*words, "--out", "out.csv", folder=tmp_path)
    found = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert found["n"].tolist() == list(range(5))
    assert found["text"].tolist() == texts
    added = ["sentiment", "p_negative", "p_neutral", "p_positive", "score", "topic", "p_topic", "entities", "model"]
    assert list(found.columns) == ["n", "text", "who", *added]
    assert (found[["p_negative", "p_neutral", "p_positive"]].sum(axis=1) - 1).abs().max() < 1e-5
    assert json.loads(found["entities"][0])[0]["symbol"] == "ACME"
    moodwire(*words, "--out", "out.jsonl", folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["score"] for line in lines] == pytest.approx(found["score"].tolist())


def test_classify_names_the_row_and_the_columns_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b\n1,2\n")
    _, error = moodwire("classify", "in.csv", "--text-column", "text", "--out", "out.csv", folder=tmp_path, code=3)
    assert "in.csv, row 1: there is no column 'text'; there are a, b" in error


def test_a_port_in_use_is_told_and_ends_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "moodwire.toml").write_text(f"{CONFIG}[dashboard]\nport = {port}\n")
        _, error = moodwire("run", "dashboard", folder=tmp_path, code=7)
        assert str(port) in error
        _, error = moodwire("up", folder=tmp_path, code=7)
        assert "stage dashboard cannot run" in error


def test_ctrl_c_ends_a_replay_with_nothing_lost(tmp_path: Path) -> None:
    (tmp_path / "moodwire.toml").write_text(CONFIG)
    count = 4000
    (tmp_path / "news.jsonl").write_text(
        "".join(
            json.dumps({"id": str(n), "title": f"Acme item {n}", "published_at": 1_700_000_000 + 60 * n}) + "\n"
            for n in range(count)
        )
    )
    words = [sys.executable, "-m", "cli.main", "--data", "past", "replay", "news.jsonl"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"}
    running = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not len(read_ids(tmp_path)) > 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 130, error
    assert 0 < len(read_ids(tmp_path)) < count, "the interruption must hit work in flight"
    moodwire("--data", "past", "replay", "news.jsonl", folder=tmp_path)
    assert len(read_ids(tmp_path)) == count
    out, _ = moodwire("--data", "past", "query", "windows", "--series", "all", "--format", "json", folder=tmp_path)
    assert sum(row["articles"] for row in json.loads(out)) == count


def read_ids(folder: Path) -> list[str]:
    import sqlite3

    path = folder / "past" / "moodwire.db"
    if not path.exists():
        return []
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return [row[0] for row in database.execute("SELECT id FROM articles")]
    except sqlite3.OperationalError:
        return []
    finally:
        database.close()


def test_evaluate_tells_figures_for_people_and_as_json(tmp_path: Path) -> None:
    (tmp_path / "moodwire.toml").write_text(CONFIG)
    rows = "".join(f"text {n},{('bad', 'good')[n % 2]}\n" for n in range(40))
    (tmp_path / "rows.csv").write_text(f"text,label\n{rows}")
    words = ("evaluate", "rows.csv", "--label", "bad=negative", "--label", "good=positive")
    out, _ = moodwire(*words, "--out", "figures.json", folder=tmp_path)
    (told,) = json.loads((tmp_path / "figures.json").read_text())
    assert told["rows"] == 40
    assert f"accuracy {told['accuracy']:.4f}" in out
    assert sum(map(sum, told["confusion"])) == 40
    assert set(told["classes"]) == {"negative", "neutral", "positive"}
    assert told["texts_per_s"] > 0


def test_evaluate_names_the_row_of_a_label_that_the_model_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "moodwire.toml").write_text(CONFIG)
    (tmp_path / "rows.csv").write_text("text,label\na,negative\nb,gloomy\n")
    _, error = moodwire("evaluate", "rows.csv", folder=tmp_path, code=3)
    assert "rows.csv, row 2: the model knows no sentiment 'gloomy'; it knows negative, neutral, positive" in error
    _, error = moodwire("evaluate", "rows.csv", "--label", "gloomy", folder=tmp_path, code=3)
    assert "THEIRS=OURS" in error


class News(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        pages = {
            "/": b"<html><head><link rel='alternate' type='application/rss+xml' href='/feed'></head></html>",
            "/feed": b"<rss version='2.0'><channel><item><title>One</title><link>/1</link></item><item/>"
            b"</channel></rss>",
            "/1": b"<html><body><article>" + b"<p>Profit rose in the quarter.</p>" * 20 + b"</article></body></html>",
        }
        body = pages.get(self.path, b"")
        if self.path == "/feed":
            body = body.replace(b"/1", f"http://{self.headers['Host']}/1".encode())
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_source_is_tested_before_anything_is_stored(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), News)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    (tmp_path / "moodwire.toml").write_text(
        f'{CONFIG}[fetching]\nhost_delay_s = 0\n[[sources]]\nname = "mine"\nurl = "{url}/"\n'
    )
    out, _ = moodwire("sources", "test", "mine", folder=tmp_path)
    assert f"it names its feed: {url}/feed" in out
    assert "2 items" in out
    assert "One" in out
    assert "refused: neither a title nor a text" in out
    assert "Profit rose in the quarter." in out
    assert not (tmp_path / "moodwire-data").exists()
    assert "HTTP 404" in moodwire("sources", "test", f"{url}/none", folder=tmp_path, code=1)[0]
    assert "there are: mine" in moodwire("sources", "test", "yours", folder=tmp_path, code=3)[1]
    assert "not fetched yet" in moodwire("sources", "list", folder=tmp_path)[0]
    server.shutdown()
    server.server_close()

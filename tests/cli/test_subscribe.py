"""`moodwire sources add`, `import` and `export` on a real file and a real server."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cli.main import main
from moodwire.configfile import load
from moodwire.settings import Settings, Sitemap

CONFIG = """\
# the desk's sources
[[sources]]
name = "First"   # the oldest
url = "https://one.example/feed"

[fetching]
host_delay_s = 0  # a test
"""
OPML = """<?xml version="1.0"?><!DOCTYPE o [<!ENTITY e "boom">]>
<opml version="2.0"><body><outline text="Desk"><outline type="rss" text="Wire: &amp; more" xmlUrl="https://two.example/f"/>
<outline title="First" xmlUrl="https://three.example/f"/><outline xmlUrl="https://one.example/feed" text="again"/>
<outline xmlUrl="https://two.example/f" text="twice"/></outline></body></opml>"""
RSS = b"<rss version='2.0'><channel><title>Wire</title><item><title>Voltrix up</title></item></channel></rss>"
MAP = b"<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><url><loc>https://a.example/1</loc></url></urlset>"
PAGES = {
    "/": b"<html><head><link rel='alternate' type='application/rss+xml' href='/feed.xml'></head></html>",
    "/feed.xml": RSS,
    "/map.xml": MAP,
    "/list": b"<html><body><a href='/about'>About</a><main><h3><a href='/n/1'>Voltrix up</a></h3></main></body></html>",
    "/latest.json": b'{"data": {"items": [{"head": {"line": "Voltrix up"}, "links": ["/n/1"]}]}}',
    "/news-map.xml": MAP.replace(b"</url>", b"<n:news><n:title>Voltrix up</n:title></n:news></url>").replace(
        b"xmlns=", b"xmlns:n='http://www.google.com/schemas/sitemap-news/0.9' xmlns="
    ),
    "/nothing": b"<html><body>Nothing here</body></html>",
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = PAGES.get(self.path)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "moodwire.toml"
    path.write_text(CONFIG)
    return path


def run(config: Path, *words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(config), "--data", str(config.parent / "data"), "sources", *words])
    return int(ended.value.code or 0)


def sources(config: Path) -> Settings:
    return load(config, {})


def test_add_finds_the_page_s_feed_and_keeps_the_comments(
    config: Path, site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "add", f"{site}/") == 0
    assert "Voltrix up" in capsys.readouterr().out
    text = config.read_text()
    for line in CONFIG.splitlines():
        assert line in text
    added = sources(config).sources[-1]
    assert (added.name, added.url) == ("Wire", f"{site}/feed.xml")
    assert sources(config).fetching.host_delay_s == 0
    assert run(config, "add", f"{site}/") == 3
    assert "is a source already: Wire" in capsys.readouterr().err


def test_add_knows_a_sitemap_and_adds_nothing_for_nothing(config: Path, site: str) -> None:
    assert run(config, "add", f"{site}/map.xml") == 0
    assert isinstance(sources(config).sources[-1], Sitemap)
    before = config.read_text()
    assert run(config, "add", f"{site}/nothing") == 1
    assert config.read_text() == before


@pytest.mark.parametrize(
    ("kind", "path", "more"),
    [
        ("page", "/list", 'selector = "main h3 a"'),
        ("json", "/latest.json", 'items = "data.items"\ntitle = "head.line"\naddress = "links.0"'),
        ("sitemap", "/news-map.xml", ""),
    ],
)
def test_a_source_of_each_kind_is_tried_as_it_is_configured(
    config: Path, site: str, kind: str, path: str, more: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(
        f'{CONFIG}\n[[sources]]\nkind = "{kind}"\nname = "Tried"\nurl = "{site}{path}"\narticles = false\n{more}\n'
    )
    assert run(config, "test", "Tried") == 0
    out = capsys.readouterr().out
    assert "1 items" in out
    assert "Voltrix up" in out
    assert "About" not in out
    assert not (config.parent / "data").exists()


def test_opml_comes_in_once_under_names_of_its_own_and_goes_out(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "feeds.opml"
    file.write_text(OPML)
    assert run(config, "import", str(file)) == 0
    assert [(source.name, source.url) for source in sources(config).sources] == [
        ("First", "https://one.example/feed"),
        ("Wire & more", "https://two.example/f"),
        ("First 2", "https://three.example/f"),
    ]
    before = config.read_text()
    assert run(config, "import", str(file)) == 0
    assert config.read_text() == before
    capsys.readouterr()
    assert run(config, "export") == 0
    out = tmp_path / "out.opml"
    out.write_text(capsys.readouterr().out)
    other = tmp_path / "other.toml"
    other.write_text("")
    assert run(other, "import", str(out)) == 0
    assert [s.url for s in sources(other).sources] == [s.url for s in sources(config).sources]


def test_what_is_no_opml_is_told(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "feeds.opml"
    file.write_text("<opml><cut")
    assert run(config, "import", str(file)) == 3
    assert "cannot be read as OPML" in capsys.readouterr().err
    assert config.read_text() == CONFIG


def test_a_folder_of_files_can_be_added(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"title": "Voltrix up"}\n{"cut')
    assert run(config, "add", folder.as_uri()) == 0
    assert "Voltrix up" in capsys.readouterr().out
    assert sources(config).sources[-1].url == folder.as_uri()

"""`moodwire tokens` and `moodwire forget`, as they are called."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.main import main
from moodwire.access import Person
from moodwire.store import access, queries
from moodwire.store.db import Store
from tests.moodwire.store.test_forget import SECRET, fill


def moodwire(folder: Path, *words: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--data", str(folder), *words])
    assert ended.value.code == code


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_token_is_told_once_listed_without_itself_and_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moodwire(tmp_path, "tokens", "make", "ada", "--role", "analyst", "--for", "30d")
    secret = capsys.readouterr().out.strip()
    assert re.fullmatch(r"mw_[\w-]{43}", secret)
    store = Store(f"sqlite:///{tmp_path}/moodwire.db")
    assert access.by_token(store, secret, datetime.now(UTC)) == Person("ada", "analyst")
    moodwire(tmp_path, "tokens", "list")
    told = capsys.readouterr().out
    assert "ada" in told
    assert "holds" in told
    assert secret not in told
    moodwire(tmp_path, "tokens", "revoke", "ada")
    assert access.by_token(store, secret, datetime.now(UTC)) is None
    moodwire(tmp_path, "tokens", "revoke", "ada", code=3)
    moodwire(tmp_path, "tokens", "trail")
    assert "revoke token" in capsys.readouterr().out


def test_nothing_is_forgotten_before_it_is_said_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(f"sqlite:///{tmp_path}/moodwire.db")
    store.upgrade()
    fill(store)
    moodwire(tmp_path, "forget", "Wire", code=1)
    assert "2 articles" in capsys.readouterr().out
    assert f"{SECRET} 0" in set(queries.articles(store)["title"])
    moodwire(tmp_path, "forget", "Wire", "--yes")
    assert "taken out of 1 alerts and 1 messages" in capsys.readouterr().out
    assert set(queries.articles(store)["title"]) == {"(forgotten)", f"{SECRET} 2"}
    moodwire(tmp_path, "forget", "Nobody", "--yes", code=3)

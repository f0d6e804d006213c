"""`moodwire alerts`, on the store that the stage left."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli import alerts
from cli.main import main
from moodwire.errors import BadInput
from moodwire.settings import Place, Rule, Settings
from tests.alerts.receivers import Hook, Mail
from tests.alerts.test_stage import MOOD, Flow
from tests.helpers import after as at


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    """One incident that fires, told and delivered to nobody yet."""
    flow = Flow(tmp_path, MOOD)
    for n in range(4):
        flow.story(n, title="Acme [warns] of losses")
    assert flow.tick(100)
    flow.messages(200)
    yield flow
    flow.context.log.close()
    flow.context.store.close()


def here(flow: Flow) -> tuple[Place, Settings]:
    return flow.context.place, flow.context.settings


def test_list_and_show_tell_what_fires_and_who_was_told(flow: Flow, capsys: pytest.CaptureFixture[str]) -> None:
    alerts.listed(*here(flow), 20)
    out = capsys.readouterr().out
    assert "firing" in out
    assert "mood/entity:ACME/2024-03-04T12:01:40Z" in out
    alerts.show(*here(flow), "ACME")
    out = capsys.readouterr().out
    assert "Acme [warns] of losses" in out
    assert "fires: mean score -0.70 of 4 stories" in out
    assert "message to hook: waiting" in out


def test_an_incident_is_found_by_a_part_of_its_name_and_else_there_is_a_list(flow: Flow) -> None:
    with pytest.raises(BadInput, match="no incident has it in its name"):
        alerts.show(*here(flow), "GLOB")
    flow.tick(3 * 3600)
    for n in range(4):
        flow.story(4 * 3600 + n)
    assert flow.tick(4 * 3600 + 60)
    assert alerts.show(*here(flow), "ACME") == 0, "the open one is meant"
    flow.tick(9 * 3600)
    with pytest.raises(BadInput, match="several incidents"):
        alerts.show(*here(flow), "ACME")


def test_ack_and_silence_are_carried_out_by_the_stage_and_their_result_is_told(
    flow: Flow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "WAIT_S", 0.0)
    alerts.ack(*here(flow), "ACME", "on it")
    assert "noted; it is carried out when the alerts stage runs" in capsys.readouterr().out
    monkeypatch.setattr(alerts, "WAIT_S", 60.0)
    stop = threading.Event()

    def stage() -> None:
        while not stop.wait(0.05):
            flow.desk.carry_out(flow.context.store, alerts.now())

    thread = threading.Thread(target=stage)
    thread.start()
    try:
        alerts.ack(*here(flow), "ACME", "")
        assert "it was acknowledged before" in capsys.readouterr().out
        alerts.silence(*here(flow), ["series=~entity:.*"], "2h", None, "results are out", None)
        assert "silence 3 holds until" in capsys.readouterr().out
        alerts.listed(*here(flow), 20)
        out = capsys.readouterr().out
        assert "acknowledged" in out
        assert "silence 3: series=~entity:.* until" in out
        assert "results are out" in out
        alerts.silence(*here(flow), [], "2h", None, "", 3)
        assert "silence 3 is over" in capsys.readouterr().out
    finally:
        stop.set()
        thread.join()
    alerts.show(*here(flow), "ACME")
    assert "on it" in capsys.readouterr().out


def test_a_pending_incident_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flow = Flow(tmp_path, Rule(name="slow", pending_s=600, windows=(3600,), minimum_stories=3))
    flow.story(-3 * 86_400, "neutral")
    for n in range(4):
        flow.story(n)
    assert flow.tick(100) == []
    alerts.listed(*here(flow), 20)
    assert "pending since 2024-03-04 12:01:40 UTC: slow, entity:ACME" in capsys.readouterr().out
    flow.restarted()
    (fired,) = flow.tick(700)
    assert (fired.change, fired.since) == ("fires", at(700))
    alerts.listed(*here(flow), 20)
    assert "pending" not in capsys.readouterr().out


def test_a_channel_is_tested_with_a_made_up_alert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mail, hook = Mail(), Hook()
    settings = Settings(channels=(mail.settings, hook.settings))
    try:
        assert alerts.test(settings, "desk") == 0
        assert "desk: delivered in" in capsys.readouterr().out
        assert mail.got[0]["Subject"].startswith("[moodwire] test: ")
        hook.answer = lambda: 500
        assert alerts.test(settings, "hook") == 1
        assert "hook: not delivered in" in (out := capsys.readouterr().out)
        assert "HTTP 500" in out
    finally:
        mail.stop()
        hook.stop()
    with pytest.raises(BadInput, match=r"no channel 'phone' .*desk, hook"):
        alerts.test(settings, "phone")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30min", 1800), ("1.5h", 5400), ("1d", 86_400)])
def test_durations(text: str, seconds: float) -> None:
    assert alerts.duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["alerts"], 2, "usage: moodwire alerts"),
        (["alerts", "ack"], 2, "usage: moodwire alerts ack"),
        (["alerts", "silence", "--reason", "r"], 3, "at least one matcher"),
        (["alerts", "silence", "rule=x", "--for", "soon", "--reason", "r"], 3, "'soon' is no duration"),
        (["alerts", "silence", "rule=x"], 3, "needs a reason"),
        (["alerts", "list"], 0, "no incident so far"),
    ],
)
def test_words_that_cannot_be_used(
    words: list[str], code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == code
    out = capsys.readouterr()
    assert told in out.out + out.err

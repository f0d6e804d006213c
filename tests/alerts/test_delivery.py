"""Messages on their way out: a real SMTP server, a real webhook receiver, the outbox between them and the store."""

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from msgspec.structs import replace

from alerts.channels import EmailChannel, Outcome, WebhookChannel, signature
from alerts.messages import Message, plain, subject
from alerts.outbox import GIVE_UP, after, send_due
from cli.demo import free_port
from moodwire.records import Alert, Evidence
from moodwire.settings import Email, Webhook
from moodwire.store import schema
from moodwire.store.db import Store
from moodwire.store.incidents import Delivery, store_alerts
from tests.helpers import T0
from tests.helpers import after as at

ALERT = Alert(
    incident_id="surge/entity:ACME/2024-03-04T12:00:00Z",
    rule="surge",
    series="entity:ACME",
    state="firing",
    at=T0,
    since=T0,
    window_s=3600,
    observed=9,
    expected=0.42,
    log10_tail=-8.1,
    reason="9 negative stories in 60 min, 0.42 expected",
    evidence=(
        Evidence(
            story_id="s1",
            article_id="a1",
            title="Acme <recalls> all & everything: ünïcode €",
            url="https://example.test/a?b=1&c=2",
            source="Wire",
            published_at=T0,
            score=-0.9,
            copies=4,
        ),
        Evidence(
            story_id="s2",
            article_id="a2",
            title="Acme under fire",
            url="javascript:alert(1)",
            source="Wire",
            published_at=T0,
            score=-0.5,
            copies=1,
        ),
    ),
)
MESSAGE = Message(key=f"{ALERT.incident_id}/firing/desk", alert=ALERT)


class Mail:
    """A server that keeps what it gets, or answers DATA with `answer`."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        self.answer = "250 ok"
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port(18025))
        self.controller.start()
        self.settings = Email(
            name="desk",
            host="127.0.0.1",
            port=self.controller.port,
            security="none",
            sender="moodwire@example.test",
            recipients=("desk@example.test", "night@example.test"),
        )

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.answer.startswith("250"):
            self.got.append(message_from_bytes(envelope.original_content, policy=policy.default))
        return self.answer


class Hook(ThreadingHTTPServer):
    """A receiver that keeps what it gets and answers with the next of `answers`, then with 204."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        super().__init__(("127.0.0.1", 0), HookHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.settings = Webhook(name="hook", url=f"http://127.0.0.1:{self.server_address[1]}/in", secret="s3cret")


class HookHandler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 204)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mail() -> Iterator[Mail]:
    mail = Mail()
    yield mail
    mail.controller.stop()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.shutdown()
    hook.server_close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'moodwire.db'}")
    store.upgrade()
    yield store
    store.close()


def put(store: Store, channels: tuple[str, ...], now: datetime = T0) -> None:
    with store.write() as connection:
        store_alerts(connection, [ALERT], [], {ALERT.incident_id: channels}, now, ("alerts", T0, {0: 1}))


def rows(store: Store) -> dict[str, Any]:
    with store.read() as connection:
        return {row.channel: row for row in connection.execute(sa.select(schema.deliveries))}


def test_a_mail_says_what_happened_in_plain_text_and_html(mail: Mail) -> None:
    assert EmailChannel(mail.settings).send(MESSAGE) == Outcome(True)
    (got,) = mail.got
    assert got["Subject"] == "[moodwire] negative news about ACME: 9 stories, 0.42 expected"
    assert got["To"] == "desk@example.test, night@example.test"
    assert got["Date"].datetime == T0
    text = got.get_body(("plain",)).get_content()
    assert ALERT.reason in text
    assert "Acme <recalls> all & everything: ünïcode €" in text
    assert "4 copies" in text
    html = got.get_body(("html",)).get_content()
    assert "Acme &lt;recalls&gt; all &amp; everything" in html
    assert 'href="https://example.test/a?b=1&amp;c=2"' in html
    assert "javascript:" not in html


def test_the_same_message_sent_again_has_the_same_message_id_and_others_have_others(mail: Mail) -> None:
    channel = EmailChannel(mail.settings)
    long_id = "surge/topic:" + "x" * 200
    for key in (MESSAGE.key, MESSAGE.key, f"{long_id}/firing/desk", f"{long_id}/resolved/desk"):
        channel.send(Message(key=key, alert=ALERT))
    first, again, firing, resolved = (got["Message-ID"] for got in mail.got)
    assert first == again
    assert len({first, firing, resolved}) == 3


@pytest.mark.parametrize(("answer", "retry"), [("451 try later", True), ("554 no such luck", False)])
def test_a_refusal_says_why_and_whether_to_try_again(mail: Mail, answer: str, retry: bool) -> None:
    mail.answer = answer
    outcome = EmailChannel(mail.settings).send(MESSAGE)
    assert outcome == Outcome(False, f"SMTP {answer}", retry=retry)


def test_a_mail_server_that_is_not_there_is_tried_again(mail: Mail) -> None:
    outcome = EmailChannel(replace(mail.settings, port=free_port(19025))).send(MESSAGE)
    assert outcome.retry
    assert "refused" in outcome.reason


def test_a_server_without_the_encryption_asked_for_gets_no_message(mail: Mail) -> None:
    settings = replace(mail.settings, security="starttls")
    assert not EmailChannel(settings).send(MESSAGE).delivered
    assert mail.got == []


def test_a_webhook_carries_the_alert_signed_with_the_time(hook: Hook) -> None:
    assert WebhookChannel(hook.settings, lambda: T0).send(MESSAGE) == Outcome(True)
    ((headers, body),) = hook.got
    told = json.loads(body)
    assert told["event"] == "alert"
    assert told["key"] == MESSAGE.key
    assert told["alert"]["observed"] == 9
    assert told["alert"]["evidence"][0]["copies"] == 4
    assert headers["x-moodwire-signature"] == signature("s3cret", int(T0.timestamp()), body)
    assert signature("other", int(T0.timestamp()), body) != headers["x-moodwire-signature"]
    assert bytes.fromhex(headers["idempotency-key"]).decode() == MESSAGE.key


@pytest.mark.parametrize(
    ("status", "retry"), [(500, True), (503, True), (429, True), (302, False), (404, False), (410, False)]
)
def test_what_a_receiver_answers_decides_whether_to_try_again(hook: Hook, status: int, retry: bool) -> None:
    hook.answers = [status]
    assert WebhookChannel(hook.settings, lambda: T0).send(MESSAGE) == Outcome(False, f"HTTP {status}", retry=retry)
    assert len(hook.got) == 1, "a redirect is not followed"


def test_the_outbox_sends_each_message_once_to_each_channel(store: Store, mail: Mail, hook: Hook) -> None:
    channels = {"desk": EmailChannel(mail.settings), "hook": WebhookChannel(hook.settings, lambda: T0)}
    put(store, ("desk", "hook"))
    put(store, ("desk", "hook"))  # the same change of state, written again after a crash
    assert send_due(store, channels, lambda: T0) == 2
    assert send_due(store, channels, lambda: at(3600)) == 0
    assert (len(mail.got), len(hook.got)) == (1, 1)
    assert {row.status for row in rows(store).values()} == {"delivered"}


def test_a_failing_receiver_is_tried_again_later_with_the_same_key(store: Store, hook: Hook) -> None:
    hook.answers = [500, 500]
    channels = {"hook": WebhookChannel(hook.settings, lambda: T0)}
    put(store, ("hook",))
    send_due(store, channels, lambda: T0)
    waiting = rows(store)["hook"]
    assert (waiting.status, waiting.attempts, waiting.last_error) == ("waiting", 1, "HTTP 500")
    assert waiting.next_at == at(1)
    assert send_due(store, channels, lambda: T0) == 0, "not before its time"
    send_due(store, channels, lambda: at(1))
    assert rows(store)["hook"].next_at == at(3)
    send_due(store, channels, lambda: at(3))
    assert rows(store)["hook"].status == "delivered"
    assert len({headers["idempotency-key"] for headers, _ in hook.got}) == 1


def test_a_channel_that_is_gone_from_the_configuration_fails_with_its_reason(store: Store) -> None:
    put(store, ("desk",))
    send_due(store, {}, lambda: T0)
    row = rows(store)["desk"]
    assert (row.status, row.last_error) == ("failed", "no channel of this name in moodwire.toml")


def test_waits_double_up_to_five_minutes_and_end_after_a_day() -> None:
    def wait(attempts: int, created: datetime = T0) -> float:
        delivery = Delivery("k", "hook", ALERT, attempts, created)
        return (after(delivery, Outcome(False, "HTTP 500"), T0)[1] - T0).total_seconds()

    assert [wait(attempts) for attempts in range(5)] == [1, 2, 4, 8, 16]
    assert wait(1000) == 300
    old = Delivery("k", "hook", ALERT, 300, T0 - GIVE_UP - timedelta(seconds=1))
    assert after(old, Outcome(False, "HTTP 500"), T0)[0] == "failed"
    assert after(old, Outcome(True), T0)[0] == "delivered"


def test_the_end_of_an_incident_reads_as_one() -> None:
    over = replace(ALERT, state="resolved", reason="back to normal for 60 min", evidence=())
    assert subject(over) == "[moodwire] over: negative news about ACME"
    assert "back to normal for 60 min" in plain(over)

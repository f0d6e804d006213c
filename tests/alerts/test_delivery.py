"""Messages on their way out: a real SMTP server, a real webhook receiver, the outbox between them and the store."""

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from alerts import outbox
from alerts.channels import AppriseChannel, EmailChannel, Outcome, WebhookChannel, signature
from alerts.messages import Mention, Message, new_key, plain, spark, subject, webhook
from alerts.outbox import GIVE_UP, after, route, send_due
from cli.demo import free_port
from moodwire.records import Alert, Course, Evidence
from moodwire.settings import AppriseService, Notifications, Settings
from moodwire.store import schema
from moodwire.store.db import Store
from moodwire.store.incidents import Delivery, store_alerts
from tests.alerts.receivers import Hanging, Hook, Mail
from tests.helpers import T0, turn_private
from tests.helpers import after as at

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "webhook.schema.json").read_text())
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
    words=("recall", "brakes"),
    sources=("Wire", "Herald"),
    share=0.75,
    ends_when="the count of the last 60 min is no longer strange for 60 min",
    course=Course(start=at(-14400), step_s=600, negative=(*([0] * 20), 1, 2, 4, 8)),
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
OVER = replace(ALERT, state="resolved", change="over", number=2, reason="quiet for 60 min", evidence=())
MESSAGE = Message(key=new_key("desk", (ALERT,), 0), alerts=(ALERT,))
FAILED = Outcome(False, "HTTP 500")
AT_ONCE = Settings(notifications=Notifications(group_wait_s=0, group_interval_s=0))


@pytest.fixture
def mail() -> Iterator[Mail]:
    mail = Mail()
    yield mail
    mail.stop()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.stop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'moodwire.db'}")
    store.upgrade()
    yield store
    store.close()


def put(store: Store, channels: tuple[str, ...], alert: Alert = ALERT, now: datetime = T0) -> None:
    """A change of state, and its messages as they are routed at once."""
    with store.write() as connection:
        store_alerts(connection, [alert], [], {alert.incident_id: channels}, now, now)
    route(store, AT_ONCE, {}, now)


def rows(store: Store) -> dict[str, Any]:
    with store.read() as connection:
        return {row.channel: row for row in connection.execute(sa.select(schema.deliveries))}


def send(store: Store, name: str, channel: Any, now: datetime) -> datetime | None:
    return send_due(store, name, channel, lambda: now, lambda: 1.0)


# --- e-mail


def test_a_mail_says_what_happened_in_plain_text_and_html(mail: Mail) -> None:
    assert EmailChannel(mail.settings).send(MESSAGE) == Outcome(True)
    (got,) = mail.got
    assert got["Subject"] == "[moodwire] negative news about ACME: 9 stories, 0.42 expected"
    assert got["To"] == "desk@example.test, night@example.test"
    assert got["Date"].datetime == T0
    text = got.get_body(("plain",)).get_content()
    html = got.get_body(("html",)).get_content()
    for told in (ALERT.reason, "4 copies", "recall, brakes", "Wire, Herald", "75%", ALERT.ends_when):
        assert told in text
        assert told in html
    assert "Acme <recalls> all & everything: ünïcode €" in text
    assert "▁▂▃▅█" in text
    assert "javascript:" not in text
    assert "Acme &lt;recalls&gt; all &amp; everything" in html
    assert 'href="https://example.test/a?b=1&amp;c=2"' in html
    assert "javascript:" not in html
    assert html.count("<td width='14'") == 24, "a bar for each step of the course"
    assert "<img" not in html


def test_mails_of_one_incident_are_one_thread_and_a_repeated_mail_is_recognisable(mail: Mail) -> None:
    channel = EmailChannel(mail.settings)
    over = Message(key=new_key("desk", (OVER,), 0), alerts=(OVER,))
    other = replace(ALERT, incident_id="surge/topic:" + "x" * 200)
    apart = Message(key=new_key("desk", (other,), 0), alerts=(other,))
    for message in (MESSAGE, MESSAGE, over, apart):
        channel.send(message)
    first, again, end, elsewhere = mail.got
    assert first["Message-ID"] == again["Message-ID"]
    assert len({got["Message-ID"] for got in mail.got}) == 3
    assert first["References"] == end["References"] == end["In-Reply-To"]
    assert elsewhere["References"] != first["References"]


def test_many_alarms_are_one_mail_that_names_them_and_belongs_to_all_their_threads(mail: Mail) -> None:
    alerts = tuple(
        replace(ALERT, incident_id=f"surge/entity:C{n}/x", series=f"entity:C{n}", reason=f"reason {n}")
        for n in range(8)
    )
    mention = Mention(incident_id="i", series="entity:ZZZ", reason="explained by its group: so and so")
    EmailChannel(mail.settings).send(Message(key="k", alerts=alerts, mentions=(mention,)))
    (got,) = mail.got
    assert got["Subject"] == "[moodwire] 8 alarms: C0, C1, C2, C3 …"
    assert len(got["References"].split()) == 8
    text, html = (got.get_body((kind,)).get_content() for kind in ("plain", "html"))
    for n in range(8):
        assert f"C{n}" in text
        assert f"reason {n}" in html
    assert "entity:ZZZ: explained by its group: so and so" in text
    assert "entity:ZZZ: explained by its group: so and so" in html


def test_the_end_of_an_incident_reads_as_one() -> None:
    message = Message(key="k", alerts=(OVER,))
    assert subject(message) == "[moodwire] over: negative news about ACME"
    assert "quiet for 60 min" in plain(message)
    assert "Ends" not in plain(message)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=48))
def test_a_course_in_characters_shows_the_highest_and_hides_no_story(counts: list[int]) -> None:
    line = spark(Course(start=T0, step_s=60, negative=tuple(counts)))
    assert len(line) == len(counts)
    for mark, count in zip(line, counts, strict=True):
        assert (mark == "▁") == (count == 0)
        assert (mark == "█") >= (count == max(counts) > 0)


@pytest.mark.parametrize(("answer", "retry"), [("451 try later", True), ("554 no such luck", False)])
def test_a_refusal_says_why_and_whether_to_try_again(mail: Mail, answer: str, retry: bool) -> None:
    mail.answer = lambda: answer
    outcome = EmailChannel(mail.settings).send(MESSAGE)
    assert outcome == Outcome(False, f"SMTP {answer}", retry=retry)


def test_a_mail_server_that_is_not_there_or_hangs_is_tried_again(mail: Mail) -> None:
    outcome = EmailChannel(replace(mail.settings, port=free_port(19025))).send(MESSAGE)
    assert outcome.retry
    assert "refused" in outcome.reason
    hanging = Hanging()
    outcome = EmailChannel(replace(mail.settings, port=hanging.port), timeout_s=0.2).send(MESSAGE)
    hanging.stop()
    assert outcome.retry
    assert "timed out" in outcome.reason


def test_a_server_without_the_encryption_asked_for_gets_no_message(mail: Mail) -> None:
    settings = replace(mail.settings, security="starttls")
    assert not EmailChannel(settings).send(MESSAGE).delivered
    assert mail.got == []


# --- webhook


def test_a_webhook_carries_the_alerts_signed_with_the_time(hook: Hook) -> None:
    assert WebhookChannel(hook.settings, lambda: T0).send(MESSAGE) == Outcome(True)
    ((headers, body),) = hook.got
    told = json.loads(body)
    assert told["event"] == "alert"
    assert told["key"] == MESSAGE.key
    assert told["alerts"][0]["observed"] == 9
    assert told["alerts"][0]["evidence"][0]["copies"] == 4
    assert headers["x-moodwire-signature"] == signature("s3cret", int(T0.timestamp()), body)
    assert signature("other", int(T0.timestamp()), body) != headers["x-moodwire-signature"]
    assert headers["idempotency-key"] == headers["x-moodwire-delivery"] == MESSAGE.key


def test_the_documents_way_of_verifying_a_signature_holds() -> None:
    text = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
    scope: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], scope)
    header = signature("s3cret", 1_700_000_000, b'{"a": 1}')
    assert scope["genuine"]("s3cret", header, b'{"a": 1}')
    assert not scope["genuine"]("s3cret", header, b'{"a": 2}')
    assert not scope["genuine"]("other", header, b'{"a": 1}')
    assert not scope["genuine"]("s3cret", header.replace("t=17", "t=18"), b'{"a": 1}')


def test_every_webhook_body_is_as_the_published_schema_says() -> None:
    check = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    taken = replace(OVER, state="acknowledged", change="acknowledged", by="ana", comment="on it")
    bare = replace(ALERT, evidence=(), words=(), sources=(), course=None, share=None)
    mention = Mention(incident_id="i", series="entity:ZZZ", reason="r")
    for message in (
        MESSAGE,
        Message(key=MESSAGE.key, alerts=(OVER, taken, bare), mentions=(mention,), repeat=True),
        Message(key=MESSAGE.key, alerts=(bare,), test=True),
    ):
        check.validate(json.loads(webhook(message)))
    fields = set(SCHEMA["$defs"]["alert"]["properties"])
    assert fields == {"type", *Alert.__struct_fields__}, "every field stands in the schema"
    assert not check.is_valid({**json.loads(webhook(MESSAGE)), "alerts": []})


@pytest.mark.parametrize(
    ("status", "retry"), [(500, True), (503, True), (429, True), (302, True), (404, True), (400, False), (410, False)]
)
def test_what_a_receiver_answers_decides_whether_to_try_again(hook: Hook, status: int, retry: bool) -> None:
    hook.answer = lambda: status
    outcome = WebhookChannel(hook.settings, lambda: T0).send(MESSAGE)
    assert (outcome.delivered, outcome.retry) == (False, retry)
    assert outcome.reason.startswith(f"HTTP {status}")
    assert len(hook.got) == 1, "a redirect is not followed"


def test_what_a_receiver_asks_for_is_told(hook: Hook) -> None:
    hook.answer, hook.extra = lambda: 429, {"Retry-After": "120"}
    assert WebhookChannel(hook.settings, lambda: T0).send(MESSAGE).wait_s == 120


def test_a_receiver_that_hangs_is_left_after_the_time_out(hook: Hook) -> None:
    hook.answer = lambda: None
    outcome = WebhookChannel(hook.settings, lambda: T0, timeout_s=0.2).send(MESSAGE)
    assert "ReadTimeout" in outcome.reason
    assert outcome.retry


def test_an_address_that_is_not_from_the_configuration_must_be_public(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn_private(monkeypatch)
    port = hook.server_address[1]
    for host in ("127.0.0.1", "localhost", "turning.test"):
        settings = replace(hook.settings, url=f"http://{host}:{port}/in")
        outcome = WebhookChannel(settings, lambda: T0, trusted=False).send(MESSAGE)
        assert outcome == Outcome(
            False, f"{host} is not a public address; set it in moodwire.toml instead", retry=False
        )
    assert hook.got == []
    assert WebhookChannel(hook.settings, lambda: T0, trusted=True).send(MESSAGE).delivered


# --- Apprise


def test_apprise_delivers_and_says_why_not(hook: Hook) -> None:
    port = hook.server_address[1]
    channel = AppriseChannel(AppriseService(name="chat", url=f"json://user:hidden@127.0.0.1:{port}/in"))
    assert channel.send(MESSAGE) == Outcome(True)
    told = json.loads(hook.got[0][1])
    assert told["title"] == "[moodwire] negative news about ACME: 9 stories, 0.42 expected"
    assert ALERT.reason in told["message"]
    hook.answer = lambda: 500
    outcome = channel.send(MESSAGE)
    assert (outcome.delivered, outcome.retry) == (False, True)
    assert "hidden" not in outcome.reason
    assert outcome.reason
    unknown = AppriseChannel(AppriseService(name="chat", url="nosuch://x")).send(MESSAGE)
    assert unknown == Outcome(False, "Apprise knows no such address; see its list of services", retry=False)


# --- the outbox


def test_the_outbox_sends_each_message_once_to_each_channel(store: Store, mail: Mail, hook: Hook) -> None:
    desk, web = EmailChannel(mail.settings), WebhookChannel(hook.settings, lambda: T0)
    put(store, ("desk", "hook"))
    put(store, ("desk", "hook"))  # the same change of state, written again after a crash
    for now in (T0, at(3600)):
        send(store, "desk", desk, now)
        send(store, "hook", web, now)
        route(store, AT_ONCE, {}, now)
    assert (len(mail.got), len(hook.got)) == (1, 1)
    assert {row.status for row in rows(store).values()} == {"delivered"}


def test_a_failing_receiver_is_tried_again_later_with_the_same_key(store: Store, hook: Hook) -> None:
    answers = [500, 500]
    hook.answer = lambda: answers.pop(0) if answers else 204
    web = WebhookChannel(hook.settings, lambda: T0)
    put(store, ("hook",))
    send(store, "hook", web, T0)
    waiting = rows(store)["hook"]
    assert (waiting.status, waiting.attempts, waiting.last_error) == ("waiting", 1, "HTTP 500")
    assert waiting.next_at == at(1)
    send(store, "hook", web, T0)
    assert len(hook.got) == 1, "not before its time"
    send(store, "hook", web, at(1))
    assert rows(store)["hook"].next_at == at(3)
    send(store, "hook", web, at(3))
    assert rows(store)["hook"].status == "delivered"
    assert len({headers["idempotency-key"] for headers, _ in hook.got}) == 1


def test_a_pause_that_is_asked_for_is_kept(store: Store, hook: Hook) -> None:
    hook.answer, hook.extra = lambda: 429, {"Retry-After": "600"}
    put(store, ("hook",))
    put(store, ("hook",), replace(ALERT, incident_id="other"))
    assert send(store, "hook", WebhookChannel(hook.settings, lambda: T0), T0) == at(600)
    assert len(hook.got) == 1, "the second message is not even tried"
    assert at(600) in {row.next_at for row in _all(store)}


def test_a_message_that_is_never_taken_does_not_hold_up_newer_ones(store: Store, hook: Hook) -> None:
    put(store, ("hook",))
    hook.answer = lambda: 500
    web = WebhookChannel(hook.settings, lambda: T0)
    for minute in range(3):
        send(store, "hook", web, at(60 * minute))
    put(store, ("hook",), replace(ALERT, incident_id="newer"), at(600))
    hook.got.clear()
    send(store, "hook", web, at(600))
    assert [json.loads(body)["alerts"][0]["incident_id"] for _, body in hook.got] == ["newer", ALERT.incident_id]


def test_a_channel_that_hangs_holds_up_no_other(store: Store, mail: Mail) -> None:
    """The webhook hangs until the mail has come, whatever the order of their threads."""
    came, stop = threading.Event(), threading.Event()

    class Slow:
        def send(self, message: Message) -> Outcome:
            return Outcome(came.wait(60), "the mail never came")

    class Told:
        def send(self, message: Message) -> Outcome:
            outcome = EmailChannel(mail.settings).send(message)
            came.set()
            return outcome

    put(store, ("desk", "slow"))
    channels = {"slow": Slow(), "desk": Told()}
    thread = threading.Thread(target=outbox.run, args=(store, AT_ONCE, channels, lambda: T0, stop, lambda: None))
    thread.start()
    assert came.wait(60)
    stop.set()
    thread.join(60)
    assert len(mail.got) == 1


def test_a_channel_whose_library_breaks_is_tried_again(store: Store) -> None:
    class Broken:
        def send(self, message: Message) -> Outcome:
            raise RuntimeError("inside")

    put(store, ("odd",))
    send(store, "odd", Broken(), T0)
    assert (rows(store)["odd"].status, rows(store)["odd"].last_error) == ("waiting", "RuntimeError: inside")


def test_a_channel_that_is_gone_from_the_configuration_fails_with_its_reason(store: Store) -> None:
    put(store, ("desk",))
    stop = threading.Event()
    stop.set()
    outbox.run(store, AT_ONCE, {}, lambda: T0, stop, lambda: None)
    row = rows(store)["desk"]
    assert (row.status, row.last_error) == ("failed", "no channel of this name in moodwire.toml")


def test_waits_double_up_to_five_minutes_and_end_after_a_day() -> None:
    def wait(attempts: int, jitter: float = 1.0, outcome: Outcome = FAILED) -> float:
        delivery = Delivery("k", "hook", b"", attempts, T0)
        return (after(delivery, outcome, T0, jitter).at - T0).total_seconds()

    assert [wait(attempts) for attempts in range(5)] == [1, 2, 4, 8, 16]
    assert wait(1000) == 300
    assert wait(3, jitter=0.0) == 4, "the jitter takes away up to a half"
    assert wait(3, outcome=Outcome(False, "HTTP 429", wait_s=77)) == 77
    assert wait(3, outcome=Outcome(False, "HTTP 429", wait_s=1e6)) == GIVE_UP.total_seconds(), "a last try is made"
    old = Delivery("k", "hook", b"", 300, T0 - GIVE_UP - timedelta(seconds=1))
    gone = after(old, Outcome(False, "HTTP 500"), T0, 0.5)
    assert (gone.status, gone.reason) == ("failed", "given up after 24 h: HTTP 500")
    assert after(old, Outcome(True), T0, 0.5).status == "delivered"


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 1e7))
def test_a_wait_is_never_negative_nor_shorter_than_asked_for_nor_past_the_day(
    attempts: int, jitter: float, asked: float | None
) -> None:
    then = after(Delivery("k", "hook", b"", attempts, T0), Outcome(False, "x", wait_s=asked), T0, jitter)
    assert T0 < then.at <= T0 + GIVE_UP
    assert then.at >= min(T0 + timedelta(seconds=asked or 0), T0 + GIVE_UP)


def test_a_message_comes_back_from_the_store_as_it_was(store: Store) -> None:
    put(store, ("hook",))
    back = msgspec.json.decode(rows(store)["hook"].record, type=Message)
    assert back.alerts == (ALERT,)


def _all(store: Store) -> list[Any]:
    with store.read() as connection:
        return list(connection.execute(sa.select(schema.deliveries)))

"""The stage with a real store and log: what it keeps, what people do, and what it tells."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from alerts import stage
from alerts.desk import Desk
from alerts.messages import Message, plain, subject
from alerts.outbox import groups_of, route
from moodwire.errors import BadInput
from moodwire.records import WINDOW_S, Alert, Stretch, Tick, Window, decode, floor_time
from moodwire.settings import (
    ArticleRule,
    Company,
    Notifications,
    PickupRule,
    Rule,
    ScoreRule,
    Settings,
    SilenceRule,
    Watchlist,
    Webhook,
)
from moodwire.stage import Context, Taken
from moodwire.store import commands, schema
from moodwire.store.articles import Draft, save_feed, store_articles
from moodwire.store.commands import Acknowledge, Comment, EndSilence, Silence
from moodwire.store.db import Store
from moodwire.store.incidents import silences
from moodwire.store.scores import store_scores
from moodwire.store.sources import set_silences
from moodwire.stream.log import Message as Logged
from tests.helpers import T0, context, scored
from tests.helpers import after as at

SURGE = Rule(name="surge", series=("entity:*",), windows=(3600,), minimum_stories=3, cooldown_s=600)
ARTICLE = ArticleRule(name="fraud", topic="fraud", series=("entity:ACME",), cooldown_s=600)
PICKUP = PickupRule(name="everywhere", series=("entity:ACME",), sources=3, cooldown_s=600)
MOOD = ScoreRule(name="mood", series=("entity:ACME",), below=-0.5, minimum_stories=4, severity="info")
DAY_S = 86_400


class Flow:
    """Articles, scores, windows and ticks as the stages before leave them. Times in seconds after T0."""

    def __init__(self, folder: Path, *rules: Any, notifications: Notifications | None = None) -> None:
        settings = Settings(
            rules=rules,
            channels=(Webhook(name="hook", url="http://127.0.0.1:1/"),),
            notifications=notifications or Notifications(group_wait_s=0, group_interval_s=0),
            watchlist=Watchlist(companies=(Company(symbol="ACME", groups=("tools",)),)),
        )
        self.context: Context = context(folder, settings, stage="alerts")
        self.number = 0
        self.handed: set[Any] = set()
        self.desk = self.restarted()

    def restarted(self) -> Desk:
        self.desk = Desk(*stage._restored(self.context), stage._told(self.context.settings))
        return self.desk

    def story(
        self,
        time: float,
        label: str = "negative",
        series: Sequence[str] = ("entity:ACME",),
        sources: Sequence[str] = ("wire",),
        title: str = "Acme news",
    ) -> None:
        first = self.number
        for source in sources:
            self.copy(first, time, source, label, series, title)

    def copy(
        self,
        first: int,
        time: float,
        source: str,
        label: str = "neutral",
        series: Sequence[str] = ("entity:ACME",),
        title: str = "Acme news",
    ) -> None:
        """An article of the story that began with that number."""
        draft = Draft(f"a{self.number}", source, "", title, "", "en", at(time), at(time + 1), replayed=True)
        store_articles(self.context.store, [draft], lambda _: f"a{first}")
        record = scored(self.number, time, label, tuple(series), story=f"a{first}")
        store_scores(self.context.store, [record], timedelta(hours=2))
        self.number += 1

    def tick(self, time: float, replayed: bool = False) -> list[Alert]:
        """Hand the stage what windows changed, and a tick; returns the alerts that came of it."""
        found = windows_counted(self.context.store, schema.counted.c.start < at(time))
        known = len(self.alerts())
        records: list[Any] = [_window(*row) for row in found if row not in self.handed]
        self.handed.update(found)
        records.append(Tick(at=at(time), positions={"0": self.number}, replayed=replayed))
        batch = [Taken(Logged(0, 0, "", b""), Stretch(records=tuple(records)))]
        stage._handle(self.context, self.desk, batch, notify_replayed=False)
        return self.alerts()[known:]

    def alerts(self) -> list[Alert]:
        """As they stand in the log."""
        return [decode(message.value) for message in self.context.log.read("alerts", 0, 1000)]  # type: ignore[misc]

    def messages(self, time: float) -> list[Message]:
        """What is newly routed."""
        d = schema.deliveries.c
        with self.context.store.read() as connection:
            before = set(connection.execute(sa.select(d.key)).scalars())
        route(self.context.store, self.context.settings, groups_of(self.context.settings), at(time))
        with self.context.store.read() as connection:
            rows = connection.execute(sa.select(d.key, d.record)).all()
        return [msgspec.json.decode(row.record, type=Message) for row in rows if row.key not in before]

    def do(self, command: commands.Command, time: float, by: str = "ana") -> str | None:
        seq = commands.give(self.context.store, "alerts", command, by, at(time))
        assert commands.result(self.context.store, seq) is None
        with self.desk.lock:
            self.desk.carry_out(self.context.store, at(time))
        stage._append(self.context)
        return commands.result(self.context.store, seq)

    def state(self) -> list[str]:
        with self.context.store.read() as connection:
            return list(connection.execute(sa.select(schema.incidents.c.state)).scalars())


def windows_counted(store: Store, *conditions: sa.ColumnElement[bool]) -> list[tuple[Any, ...]]:
    """What `_window` takes, of the windows with articles."""
    c = schema.counted.c
    query = (
        sa.select(
            c.series,
            c.start,
            sa.func.count(),
            sa.func.count().filter(c.first_story),
            sa.func.count().filter(c.first_story, c.label == -1),
        )
        .where(c.first_article, *conditions)
        .group_by(c.series, c.start)
    )
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(query)]


def _window(series: str, start: Any, articles: int, stories: int, negative: int) -> Window:
    counts = {"negative": negative, "neutral": stories - negative, "positive": 0}
    fresh = {f"fresh_{name}": count for name, count in counts.items()}
    return Window(
        series=series,
        start=floor_time(start, WINDOW_S),
        length_s=WINDOW_S,
        articles=articles,
        stories=stories,
        fresh_stories=stories,
        score_sum_e4=0,
        revision=articles,
        **counts,
        **fresh,
    )


@pytest.fixture
def surge(tmp_path: Path) -> Iterator[Flow]:
    """Three days of little, then a surge that fires."""
    flow = Flow(tmp_path, SURGE)
    for hour in range(0, 72, 6):
        flow.story(-3 * DAY_S + hour * 3600, "neutral", title="Acme holds its yearly meeting")
    flow.tick(-60)
    for minute in range(5):
        flow.story(minute * 60, sources=("wire", "herald"), title="Acme recalls brakes after crash")
    (fired,) = flow.tick(400)
    assert (fired.state, fired.change, fired.number) == ("firing", "fires", 1)
    yield flow
    flow.context.log.close()
    flow.context.store.close()


def test_an_alert_carries_its_evidence(surge: Flow) -> None:
    (fired,) = surge.alerts()
    assert fired.observed == 5
    assert fired.share == 1.0
    assert set(fired.sources) == {"herald", "wire"}
    assert {"recalls", "brakes", "crash"} <= set(fired.words)
    assert "acme" not in fired.words
    assert len(fired.evidence) == 5
    assert {story.copies for story in fired.evidence} == {2}
    assert fired.course is not None
    assert sum(fired.course.negative) == 5
    assert fired.ends_when


def test_what_stands_behind_the_last_tick_is_read_again(surge: Flow) -> None:
    window, first, second = _window("all", at(0), 1, 1, 0), *(Tick(at=at(time), positions={}) for time in (500, 600))
    for records, finished in (
        ([window], {}),
        ([window, first], {0: 8}),
        ([first, second, window], {0: 7}),
    ):
        batch = [Taken(Logged(0, 7, "", b""), Stretch(records=tuple(records)))]
        assert stage._handle(surge.context, surge.desk, batch, notify_replayed=False) == finished
    assert stage._handle(surge.context, surge.desk, [Taken(Logged(0, 8, "", b""), second)], False) == {0: 9}


def test_an_acknowledged_incident_is_told_and_repeated_no_more_and_survives_a_restart(surge: Flow) -> None:
    (fired,) = surge.alerts()
    assert [m.alerts[0].change for m in surge.messages(500)] == ["fires"]
    assert surge.do(Acknowledge(incident_id=fired.incident_id, comment="calling them"), 600) == "acknowledged"
    taken = surge.alerts()[-1]
    assert (taken.state, taken.number, taken.by, taken.comment) == ("acknowledged", 2, "ana", "calling them")
    assert [m.alerts[0].change for m in surge.messages(700)] == ["acknowledged"]
    assert surge.messages(7 * DAY_S) == []
    assert surge.state() == ["acknowledged"]
    again = Acknowledge(incident_id=fired.incident_id)
    assert surge.do(again, 710, by="bob") == "it was acknowledged before"
    surge.restarted()
    assert surge.do(again, 720, by="bob") == "it was acknowledged before"
    over = surge.tick(3 * 3600)
    assert [(alert.state, alert.number) for alert in over] == [("resolved", 3)]
    assert [m.alerts[0].change for m in surge.messages(4 * 3600)] == ["over"]
    assert surge.do(again, 5 * 3600) == "it is over"
    assert surge.do(Acknowledge(incident_id="nothing"), 5 * 3600) == "there is no incident nothing"


def test_what_worsens_is_told_though_it_was_acknowledged(surge: Flow) -> None:
    (fired,) = surge.alerts()
    surge.messages(500)
    surge.do(Acknowledge(incident_id=fired.incident_id), 510)
    surge.messages(520)
    for n in range(11):
        surge.story(530 + n)
    (worse,) = surge.tick(700)
    assert (worse.change, worse.state, worse.number, worse.observed) == ("worsens", "firing", 3, 16)
    assert [m.alerts[0].change for m in surge.messages(800)] == ["worsens"]
    assert surge.state() == ["firing"]


def test_a_silence_holds_messages_back_until_it_ends(surge: Flow) -> None:
    hush = Silence(matchers=("series=entity:ACME",), starts_at=at(400), ends_at=at(4000), reason="known")
    told = surge.do(hush, 450)
    assert told is not None
    assert "holds until 2024-03-04 13:06:40 UTC" in told
    assert surge.messages(500) == []
    with surge.context.store.read() as connection:
        (kept,) = silences(connection, at(500))
    assert (kept.by, kept.reason) == ("ana", "known")
    assert surge.do(EndSilence(id=kept.id), 600) == f"silence {kept.id} is over"
    assert surge.do(EndSilence(id=kept.id), 601) == f"there is no silence {kept.id} that holds"
    assert [m.alerts[0].change for m in surge.messages(602)] == ["fires"]


def test_comments_are_kept_with_their_author(surge: Flow) -> None:
    (fired,) = surge.alerts()
    assert surge.do(Comment(incident_id=fired.incident_id, text="a rumour"), 500) == "noted"
    assert surge.do(Comment(incident_id="x", text="a rumour"), 500) == "there is no incident x"
    with surge.context.store.read() as connection:
        row = connection.execute(sa.select(schema.comments)).one()
    assert (row.by, row.text, row.at) == ("ana", "a rumour", at(500))


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (Silence(matchers=(), starts_at=T0, ends_at=at(9), reason="r"), "at least one matcher"),
        (Silence(matchers=("x=y",), starts_at=T0, ends_at=at(9), reason="r"), "matches nothing"),
        (Silence(matchers=("rule=y",), starts_at=T0, ends_at=T0, reason="r"), "must end after it starts"),
        (Silence(matchers=("rule=y",), starts_at=T0, ends_at=at(9), reason=" "), "needs a reason"),
        (Comment(incident_id="i", text=""), "an empty comment"),
        (Comment(incident_id="i", text="x" * 2001), "longer than 2000 characters"),
    ],
)
def test_a_command_that_cannot_be_carried_out_is_refused_at_once(
    surge: Flow, command: commands.Command, fault: str
) -> None:
    with pytest.raises(BadInput, match=fault):
        commands.give(surge.context.store, "alerts", command, "ana", T0)


def test_a_replayed_alarm_is_kept_and_told_to_nobody(tmp_path: Path) -> None:
    flow = Flow(tmp_path, MOOD)
    for n in range(4):
        flow.story(n)
    (fired,) = flow.tick(100, replayed=True)
    assert fired.replayed
    assert flow.messages(1000) == []
    (over,) = flow.tick(3 * 3600)
    assert over.change == "over"
    assert flow.messages(4 * 3600) == [], "nobody is told the end of what nobody was told"


def test_plain_rules_fire_on_what_the_store_holds_with_the_stories_that_speak_for_them(tmp_path: Path) -> None:
    flow = Flow(tmp_path, ARTICLE, PICKUP, MOOD)
    flow.story(0, "positive", title="Acme wins an award", sources=("wire", "wire"))
    flow.story(10, "neutral", series=("topic:fraud", "entity:OTHER"))
    assert flow.tick(100) == [], "another company's fraud, and one source twice"
    flow.story(110, "neutral", series=("topic:fraud", "entity:ACME"), title="Acme fraud inquiry closed")
    (fraud,) = flow.tick(200)
    assert (fraud.kind, fraud.observed, fraud.state) == ("article", 1, "firing")
    assert [story.title for story in fraud.evidence] == ["Acme fraud inquiry closed"]
    flow.story(210, "positive", sources=("wire", "herald", "post"), title="Acme in all papers")
    (everywhere,) = flow.tick(300)
    assert (everywhere.kind, everywhere.observed, everywhere.sources) == ("pickup", 3, ("herald", "post", "wire"))
    for n in range(20):
        flow.story(310 + n)
    (mood,) = flow.tick(400)
    assert (mood.kind, mood.severity, len(mood.evidence)) == ("score", "info", 6)
    flow.restarted()
    assert flow.tick(402) == []
    over = flow.tick(3 * 3600)
    assert {alert.kind for alert in over} == {"article", "pickup", "score"}
    assert {alert.state for alert in over} == {"resolved"}


def test_copies_that_come_later_are_looked_at_when_they_come(tmp_path: Path) -> None:
    flow = Flow(tmp_path, PICKUP)
    flow.story(0, "neutral", sources=("wire",))
    assert flow.tick(60) == []
    flow.copy(0, 70, "post")
    assert flow.tick(120) == []
    flow.copy(0, 130, "herald")
    (everywhere,) = flow.tick(180)
    assert everywhere.sources == ("herald", "post", "wire")


def test_a_silent_source_is_told_and_so_is_that_it_was_heard_again(tmp_path: Path) -> None:
    flow = Flow(tmp_path, SilenceRule(name="silent sources", severity="info", cooldown_s=600))
    store = flow.context.store
    for name in ("wire", "post"):
        save_feed(store, {"source": name, "url": f"https://{name}.example/feed"})
    flow.story(0)
    set_silences(store, {"wire": "nothing new for 24 h, in which 94 items are usual", "post": ""}, at(70))
    assert flow.tick(60) == [], "the silence began after it"
    (fired,) = flow.tick(120)
    assert (fired.series, fired.kind, fired.severity, fired.evidence) == ("source:wire", "silence", "info", ())
    (message,) = flow.messages(130)
    assert subject(message) == ("[moodwire] nothing comes from wire: nothing new for 24 h, in which 94 items are usual")
    assert "Ends     when it has been silent no longer for 10 min" in plain(message)
    flow.restarted()
    assert flow.tick(180) == []
    set_silences(store, {"wire": ""}, at(190))
    assert flow.tick(240) == []
    (over,) = flow.tick(900)
    assert (over.incident_id, over.state) == (fired.incident_id, "resolved")
    (message,) = flow.messages(910)
    assert subject(message) == "[moodwire] over: nothing comes from wire"


def test_a_group_s_alarm_mentions_the_member_that_it_explains(tmp_path: Path) -> None:
    """Of two alerts, as the store holds them, one message is made."""
    flow = Flow(tmp_path, SURGE)
    (whole, member) = (
        Alert(
            incident_id=f"surge/{series}/x",
            rule="surge",
            series=series,
            state="firing",
            at=T0,
            since=T0,
            window_s=3600,
            observed=observed,
            expected=expected,
            log10_tail=-9.0,
            reason="r",
        )
        for series, observed, expected in (("group:tools", 60, 10.0), ("entity:ACME", 5, 0.8))
    )
    with flow.context.store.write() as connection:
        told = {alert.incident_id: ("hook",) for alert in (whole, member)}
        stage.store_alerts(connection, [whole, member], [], told, T0, T0)
    (message,) = flow.messages(10)
    assert [alert.series for alert in message.alerts] == ["group:tools"]
    assert [mention.series for mention in message.mentions] == ["entity:ACME"]
    assert "group:tools as a whole has 60 where 10 are expected" in message.mentions[0].reason
    assert flow.messages(20) == []

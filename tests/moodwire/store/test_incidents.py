"""Incidents, what is told of them, and what people ask for, in every kind of store."""

from datetime import timedelta

import sqlalchemy as sa

from moodwire.records import Alert
from moodwire.store import commands, incidents, queries, schema, watching
from moodwire.store.commands import Acknowledge, Comment
from moodwire.store.db import Store
from moodwire.store.detection import Expectation, PeakRow, expected, firing_windows, load_peaks, store_learnt
from tests.helpers import T0, after

ID = "surge/entity:X/1"


def alert(number: int, state: str, at: float) -> Alert:
    return Alert(
        incident_id=ID,
        number=number,
        rule="surge",
        series="entity:X",
        state=state,  # type: ignore[arg-type]
        at=after(at),
        since=T0,
        window_s=3600,
        observed=9,
        expected=0.4,
        log10_tail=-8.0,
        reason="9 where 0.4 were expected",
    )


def keep(store: Store, change: Alert) -> None:
    row = {"incident_id": ID, "rule": "surge", "series": "entity:X", "state": change.state, "since": T0}
    over = change.at if change.state == "resolved" else None
    told = {"number": change.number, "told_tail": -8.0, "told_observed": 9, "until": over, "quiet_since": None}
    with store.write() as connection:
        incidents.store_alerts(connection, [change], [{**row, **told}], {ID: ["hook"]}, change.at, change.at)


def test_an_incident_is_kept_told_and_over(store: Store) -> None:
    fires, over = alert(1, "firing", 60), alert(2, "resolved", 600)
    keep(store, fires)
    keep(store, fires)  # again, after a crash
    assert [change for _, change in incidents.alerts_after(store, 0)] == [fires]
    assert queries.open_incidents(store) == [fires]
    assert watching.incidents(store, "entity:X", after(0), after(900), None)["observed"].tolist() == [9]
    assert firing_windows(store, after(0)) == {("surge", "entity:X", T0): 3600}
    with store.write() as connection:
        assert incidents.notices(connection) == [incidents.Notice("hook", fires, after(60), 0, None)]
        incidents.post(connection, "hook", "k1", b"message", [fires], after(61))
    (message,) = incidents.due_deliveries(store, "hook", after(62))
    assert (message.key, message.record, message.attempts) == ("k1", b"message", 0)
    before = watching.mark(store)
    keep(store, over)
    assert watching.mark(store) != before
    with store.write() as connection:
        (notice,) = incidents.notices(connection)
        assert (notice.alert, notice.told, notice.told_at) == (over, 1, after(61))
        incidents.post(connection, "hook", "k2", b"message", [over], after(601))
        assert incidents.notices(connection) == []
    first, last = (seq for seq, _ in incidents.alerts_after(store, 0))
    assert first < last
    assert queries.open_incidents(store) == []


def test_a_command_waits_is_carried_out_and_has_its_result(store: Store) -> None:
    first = commands.give(store, "alerts", Acknowledge(incident_id=ID), "Ada", after(1))
    second = commands.give(store, "alerts", Comment(incident_id=ID, text="a strike"), "Bob", after(2))
    commands.give(store, "classifier", Comment(incident_id=ID, text="of another stage"), "Bob", after(2))
    with store.write() as connection:
        assert [(given.seq, given.by, given.given_at) for given in commands.waiting(connection, "alerts")] == [
            (first, "Ada", after(1)),
            (second, "Bob", after(2)),
        ]
        commands.done(connection, first, after(3), "taken on")
    assert (commands.result(store, first), commands.result(store, second)) == ("taken on", None)
    with store.read() as connection:
        assert [given.seq for given in commands.waiting(connection, "alerts")] == [second]


def test_silences_that_are_over_are_not_read(store: Store) -> None:
    with store.write() as connection:
        for number, hours in ((1, 1), (2, 3)):
            row = {"id": number, "matchers": "series=entity:X\nrule=surge", "by": "Ada", "reason": "known"}
            times = {"starts_at": T0, "ends_at": T0 + timedelta(hours=hours)}
            connection.execute(sa.insert(schema.silences).values(**row, **times))
        (silence,) = incidents.silences(connection, T0 + timedelta(hours=2))
    assert (silence.id, silence.matchers) == (2, ("series=entity:X", "rule=surge"))


def test_what_the_alarms_learn_is_kept(store: Store) -> None:
    row = Expectation("all", "surge", T0, [(3600, 1.5, 7), (900, 0.5, 3)])
    for score in (2.0, 3.0):  # the later word counts
        with store.write() as connection:
            store_learnt(connection, [PeakRow("surge", T0, "all", 3600, score)], [row])
    assert load_peaks(store, T0) == [PeakRow("surge", T0, "all", 3600, 3.0)]
    assert load_peaks(store, after(1)) == []
    assert [tuple(one) for one in expected(store, "all", T0, after(1))] == [
        ("surge", 900, T0, 0.5, 3),
        ("surge", 3600, T0, 1.5, 7),
    ]

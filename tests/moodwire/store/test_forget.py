"""Forgetting: the text goes from every table, the counts stay."""

from datetime import timedelta

import msgspec
import pytest

from moodwire import answers, tables
from moodwire.errors import BadInput
from moodwire.records import Evidence
from moodwire.store import queries
from moodwire.store.articles import Draft, store_articles
from moodwire.store.db import Store
from moodwire.store.find import Filter
from moodwire.store.forget import FORGOTTEN, Counts, count, forget, without
from moodwire.store.incidents import post, store_alerts
from moodwire.store.scores import store_scores
from tests.alerts.test_routing import alert
from tests.helpers import T0, after, scored

SECRET = "Zanzibar"


def fill(store: Store) -> None:
    for number, source in enumerate(("Wire", "Wire", "Post")):
        at = after(60 * number)
        body = f"{SECRET} body {number}"
        draft = Draft(
            f"a{number}", source, f"https://x.example/{SECRET}{number}", f"{SECRET} {number}", body, "en", at, at
        )
        store_articles(store, [draft], lambda new: new.id)
        store_scores(store, [scored(number, 60 * number, seen=60 * number)], timedelta(hours=2))
    story = Evidence(
        story_id="a0", article_id="a0", title=f"{SECRET} 0", url=f"https://x.example/{SECRET}0", source="Wire",
        published_at=T0, score=-0.7, copies=1,
    )  # fmt: skip
    one = alert(evidence=(story,), words=(SECRET.lower(),))
    with store.write() as connection:
        store_alerts(connection, [one], [], {one.incident_id: ["desk"]}, T0, T0)
        post(connection, "desk", "k1", msgspec.json.encode({"key": "k1", "alerts": [one]}), [one], T0)


def dump(store: Store) -> str:
    """Everything in the store that may hold a text."""
    with store.read() as connection:
        return "".join(
            str([bytes(value) if isinstance(value, memoryview) else value for value in row])
            for table in ("articles", "alerts", "deliveries", "scores", "counted")
            for row in connection.exec_driver_sql(f"select * from {table}")
        ).lower()


def test_a_source_is_forgotten_and_its_counts_stay(store: Store) -> None:
    fill(store)
    before = queries.windows_as_of(store, as_of=store.now())
    assert count(store, "Wire") == 2
    assert forget(store, "Wire", "root", T0) == Counts(2, 1, 1)
    text = dump(store)
    assert f"{SECRET.lower()} 2" in text, "another source's"
    assert f"{SECRET.lower()} 0" not in text
    assert f"{SECRET.lower()}0" not in text
    assert text.count(SECRET.lower()) == 3, "title, text and address of the other's"
    assert queries.windows_as_of(store, as_of=store.now()).equals(before)
    rows = tables.rows_of(answers.stories(store, Filter()).table)
    assert [(row["title"], row["url"] == "") for row in rows] == [
        (f"{SECRET} 2", False),
        (FORGOTTEN, True),
        (FORGOTTEN, True),
    ]
    assert answers.stories(store, Filter(words=SECRET)).table["id"].to_pylist() == ["a2"], "nor can it be searched for"
    assert forget(store, "Wire", "root", T0) == Counts(0, 0, 0)


def test_an_article_is_forgotten_alone_and_does_not_come_back(store: Store) -> None:
    fill(store)
    assert forget(store, "a1", "root", T0) == Counts(1, 0, 0)
    again = Draft("a1", "Wire", f"https://x.example/{SECRET}1", f"{SECRET} 1", f"{SECRET} body 1", "en", T0, T0)
    assert store_articles(store, [again], lambda new: new.id).known == 1
    assert f"{SECRET.lower()} 1" not in dump(store)


def test_what_is_not_there_is_told(store: Store) -> None:
    with pytest.raises(BadInput, match="neither an article nor a source 'x'"):
        forget(store, "x", "root", T0)


def test_an_alert_of_other_stories_stays_as_it_is() -> None:
    one = alert()
    assert without(one, lambda _: False) is one

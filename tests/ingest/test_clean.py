from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import clean
from ingest.clean import (
    AGAIN,
    Item,
    Refused,
    by_host_s_clock,
    canonical,
    cap,
    date,
    draft,
    item_id,
    language,
    look_again,
    mark_of,
    plain,
    unread,
)
from moodwire.records import MAX_BODY_BYTES, Article, decode, encode
from tests.helpers import T0

any_text = st.text(st.characters(), max_size=300)


@settings(deadline=None)  # the languages are read once
@given(any_text, any_text, any_text, any_text, st.none() | st.datetimes(timezones=st.just(UTC)))
def test_whatever_a_source_says_the_draft_is_sound_or_refused(
    title: str, body: str, url: str, guid: str, published_at: datetime | None
) -> None:
    made = draft(Item("s", title, body, url, guid, "en", published_at), T0)
    if isinstance(made, Refused):
        assert made.reason
        return
    assert made.title.strip()
    assert "\n" not in made.title
    assert not any(ord(c) < 32 for c in made.title)
    assert made.url == "" or made.url.startswith(("http://", "https://"))
    assert datetime(1990, 1, 1, tzinfo=UTC) <= made.published_at <= T0
    article = Article(
        id=made.id,
        source="s",
        title=made.title,
        body=made.body,
        url=made.url,
        published_at=made.published_at,
        seen_at=T0,
        story_id=made.id,
    )
    assert decode(encode(article)) == article


@pytest.mark.parametrize(
    ("said", "note"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), "before 1990"),
        (datetime(2090, 1, 1, tzinfo=UTC), "in the future"),
        (None, "no date"),
    ],
)
def test_impossible_dates_are_the_time_of_seeing_with_a_reason(said: datetime | None, note: str) -> None:
    used, why = date(said, T0)
    assert used == T0
    assert note in why
    assert date(T0 - timedelta(days=300), T0) == (T0 - timedelta(days=300), "")


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("<b>Profit</b>&nbsp;up &amp; away", "Profit up & away"),
        ("a\x00b\x1b[31mc\u202ed", "ab[31mcd"),
        ("5 < 6 and 7 > 3", "5 < 6 and 7 > 3"),
        ("lone \ud800 half", "lone half"),
    ],
)
def test_markup_and_control_characters_go(raw: str, clean: str) -> None:
    assert plain(raw) == clean


def test_no_title_takes_the_text_and_nothing_is_refused() -> None:
    made = draft(Item("s", "", "First words of a text"), T0)
    assert not isinstance(made, Refused)
    assert made.title == "First words of a text"
    assert draft(Item("s", " <i></i> ", "\x00"), T0) == Refused("neither a title nor a text")


@given(st.text(max_size=50), st.integers(0, 120))
def test_the_cap_cuts_between_characters(text: str, limit: int) -> None:
    text = text.encode("utf-8", "ignore").decode()
    cut = cap(text, limit)
    assert len(cut.encode()) <= limit
    assert text.startswith(cut)
    assert len(text.encode()) <= limit or len(cut.encode()) > limit - 4


def test_bodies_are_capped() -> None:
    made = draft(Item("s", "t", "é" * 400_000), T0)
    assert not isinstance(made, Refused)
    assert MAX_BODY_BYTES - 2 < len(made.body.encode()) <= MAX_BODY_BYTES


def test_one_address_is_one_article_whatever_its_tracking() -> None:
    plain_url = draft(Item("s", "t", url="https://e.org/a?id=1"), T0)
    tracked = draft(Item("other", "t2", url="https://E.org/a?id=1&utm_source=x#top", guid="9"), T0)
    assert not isinstance(plain_url, Refused)
    assert not isinstance(tracked, Refused)
    assert plain_url.id == tracked.id
    assert canonical("javascript:alert(1)") == canonical("http://[bad") == ""


def test_the_same_address_written_otherwise_is_the_same_article() -> None:
    addresses = (
        "https://e.org/a?id=1&b=2",
        "http://e.org/a/?b=2&id=1",
        "https://E.org:443/a?id=1&b=2&utm_source=x#top",
        "https://me:secret@e.org/a?id=1&b=2",
    )
    assert len({item_id(Item("s", "t", url=address)) for address in addresses}) == 1
    assert canonical("https://me:secret@e.org/a") == "https://e.org/a"
    assert item_id(Item("s", "t", url="https://e.org/b")) != item_id(Item("s", "t", url="https://e.org/a"))


@given(any_text, any_text, any_text)
def test_an_item_s_id_is_that_of_its_article(title: str, url: str, guid: str) -> None:
    made = draft(Item("s", title, "text", url, guid), T0)
    assert isinstance(made, Refused) or not plain(title) or made.id == item_id(Item("s", title, "text", url, guid))


def test_an_hour_that_a_host_s_clock_is_ahead_is_taken_off() -> None:
    item = Item("s", "t", published_at=T0 + timedelta(minutes=59))
    made = draft(by_host_s_clock(item, 3600.0), T0)
    assert not isinstance(made, Refused)
    assert made.published_at == T0 - timedelta(minutes=1)
    assert "60 min ahead" in made.date_note
    assert by_host_s_clock(item, 0.0) == item
    clamped = draft(item, T0)
    assert not isinstance(clamped, Refused)
    assert clamped.published_at == T0
    assert "in the future" in clamped.date_note


def test_a_language_is_detected_where_it_can_be_and_else_believed() -> None:
    text = "Der Gewinn stieg im dritten Quartal deutlich, wie der Konzern am Montag mitteilte."
    assert language(text, "") == "de"
    assert language(text, "en-US") == "de"
    assert language("Die Serie „House of the Dragon“ brachte dem Konzern im Quartal neue Kunden", "en") == "de"
    assert language("Profit of the group rose in the third quarter", "en") == "en"
    assert language("Profit of the group rose in the third quarter", "de") == "en"
    assert language("$AAPL up", "en_GB") == "en"
    assert language("$AAPL up", "") == ""
    dutch = "Het bedrijf zag de winst in het derde kwartaal dalen, was maandag over de beurs te horen"
    assert language(dutch, "") == "nl"


def test_plain_english_needs_no_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean, "detector", lambda: pytest.fail("the detector was asked"))
    assert language("Shares of the company are down after the results for the quarter", "") == "en"
    assert language("Shares down", "en") == "en"
    with pytest.raises(pytest.fail.Exception):
        language("Shares down", "")


def test_a_page_is_looked_at_again_where_the_source_says_something_new() -> None:
    first = mark_of(Item("s", "Headline", "3 comments"))
    known = {first: T0}
    assert look_again(first, {}, T0) == "its headline is new"
    assert look_again(first, known, T0 + 9 * AGAIN) == ""
    assert look_again(mark_of(Item("s", "Headline, corrected", "3 comments")), known, T0) == "its headline is new"
    counted = mark_of(Item("s", "Headline", "4 comments"))
    assert look_again(counted, known, T0 + AGAIN / 2) == ""
    assert look_again(counted, known, T0 + AGAIN) == "its summary was changed"
    missed = {unread(first): T0}
    assert look_again(first, missed, T0 + AGAIN / 2) == "", "a page that could not be had waits an hour"
    assert look_again(first, missed, T0 + AGAIN)

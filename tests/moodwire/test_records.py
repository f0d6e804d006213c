"""Records on the wire: what goes in comes out, and what is no record is named."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodwire.errors import BadInput
from moodwire.records import (
    EPOCH,
    MAX_BODY_BYTES,
    Article,
    Sentiment,
    Window,
    decode,
    encode,
    floor_time,
    from_micros,
    micros,
)
from tests.helpers import T0, article, scored

TIMES = st.datetimes(datetime(1960, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 (zone given)


@given(TIMES)
def test_microseconds_hold_a_time_exactly(time: datetime) -> None:
    assert from_micros(micros(time)) == time


@given(TIMES, st.sampled_from([0.5, 1, 2, 60, 3600]))
def test_a_span_begins_at_most_its_length_before_and_counts_from_1970(time: datetime, seconds: float) -> None:
    start = floor_time(time, seconds)
    assert timedelta() <= time - start < timedelta(seconds=seconds)
    assert (start - EPOCH) % timedelta(seconds=seconds) == timedelta()


def test_records_come_back_as_they_went() -> None:
    for record in (scored(1, 5.5, series=("all", "entity:X")), article(2, "Títle €", 3)):
        assert decode(encode(record)) == record


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff",
        b'{"type":"article"}',
        b'{"type":"other","id":"a"}',
        encode(article(1, "x", 0)).replace(b'"id":"a1"', b'"id":""'),
        encode(scored(1, 0)).replace(b'"negative":0.8', b'"negative":1.8', 1),
        encode(article(1, "x", 0)).replace(b"Z", b""),  # a time without a zone
    ],
)
def test_what_is_no_record_is_named(data: bytes) -> None:
    with pytest.raises(BadInput, match="not a moodwire record"):
        decode(data)


def test_a_record_over_the_cap_or_with_a_nul_is_refused() -> None:
    good = encode(article(1, "one", 0))
    with pytest.raises(BadInput, match="over the cap"):
        decode(good.replace(b"one", b"x" * 1_000_000))
    with pytest.raises(BadInput, match="NUL"):
        decode(good.replace(b"one", b"a \\u0000 b"))
    with pytest.raises(BadInput, match="NUL"):
        decode(good.replace(b"one", rb"\\\u0000"))
    told = decode(good.replace(b"one", rb"\\u0000"))
    assert isinstance(told, Article)
    assert told.title == r"\u0000", "a text about it is none"


def test_a_later_version_s_field_is_passed_over() -> None:
    assert decode(encode(article(1, "one", 0))[:-1] + b',"mood_ring":"blue"}') == article(1, "one", 0)


def test_the_cap_holds_a_whole_body_and_refuses_more() -> None:
    import msgspec

    whole = msgspec.structs.replace(article(1, "x", 0), body="\x01" * (MAX_BODY_BYTES // 2))
    with pytest.raises(BadInput, match="over the cap"):
        encode(msgspec.structs.replace(whole, body="x" * 1_000_000))
    with pytest.raises(BadInput, match="not Unicode"):
        encode(msgspec.structs.replace(whole, body="\ud800"))
    assert decode(encode(whole)) == whole


def test_a_tie_goes_to_neutral_then_negative() -> None:
    assert Sentiment(0.4, 0.4, 0.2).label == "neutral"
    assert Sentiment(0.4, 0.2, 0.4).label == "negative"
    assert Sentiment(0.1, 0.2, 0.7).label == "positive"


def test_a_window_without_stories_has_no_score() -> None:
    def window(stories: int, total: int) -> Window:
        return Window(
            series="all", start=T0, length_s=60, articles=3, stories=stories, negative=0, neutral=0, positive=stories,
            fresh_stories=0, fresh_negative=0, fresh_neutral=0, fresh_positive=0, score_sum_e4=total, revision=3,
        )  # fmt: skip

    assert window(0, 0).score is None
    assert window(4, 10_000).score == pytest.approx(0.25)

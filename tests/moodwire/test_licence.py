"""How much of a text is shown."""

from hypothesis import given
from hypothesis import strategies as st

from moodwire.licence import EXCERPT, shown


@given(st.text(max_size=2000))
def test_no_more_is_shown_than_is_allowed(text: str) -> None:
    assert shown(text, "full") == text
    assert shown(text, "title") == ""
    part = shown(text, "excerpt")
    assert len(part) <= EXCERPT + 2
    assert part == text or text.startswith(part.removesuffix(" …"))


def test_an_excerpt_ends_with_a_word() -> None:
    part = shown("abcde " * 100, "excerpt")
    assert part.endswith("abcde …")
    assert len(part) > EXCERPT - 10

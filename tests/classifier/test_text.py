from hypothesis import given
from hypothesis import strategies as st

from classifier.text import identity, normalise


@given(st.text(st.characters(exclude_categories=()), max_size=80))
def test_normalising_keeps_offsets_and_can_be_encoded(text: str) -> None:
    result = normalise(text)
    assert len(result) == len(text)
    result.encode()


def test_urls_and_entities_go() -> None:
    assert normalise("AT&amp;T up https://t.co/abc").split() == ["AT&", "T", "up"]
    assert normalise("a\x00b\ud800c") == "a b c"
    assert normalise("AT&T & S&P").split() == ["AT&T", "&", "S&P"]


def test_same_text_in_other_clothes() -> None:
    assert identity("Fed\u2019s move: \u201cno\u201d https://t.co/a") == identity("FED's move - no https://t.co/b")
    assert identity("Fed moves") != identity("Fed moved")

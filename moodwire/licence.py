"""How much of a text readers may be shown: what its source's licence lets us (`display` of a source). Pure."""

from moodwire.settings import Display

EXCERPT = 300  # characters


def shown(text: str, display: Display) -> str:
    """Nothing beside the title, the beginning to a whole word, or all."""
    if display == "full":
        return text
    if display == "title" or not text:
        return ""
    if len(text) <= EXCERPT:
        return text
    begin, space, _ = text[: EXCERPT + 1].rpartition(" ")
    return f"{begin if space else text[:EXCERPT]} …"

"""Which alarms a silence is for: `rule=surge`, `series!=all`, `series=~entity:.*`, `severity!~info|warning`."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from moodwire.errors import BadInput

LABELS = ("rule", "series", "severity")
_TEXT = re.compile(r"^\s*(\w+)\s*(=~|!~|!=|=)\s*(.+?)\s*$")
_HOLDS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda value, wanted: value == wanted,
    "!=": lambda value, wanted: value != wanted,
    "=~": lambda value, wanted: re.fullmatch(wanted, value) is not None,
    "!~": lambda value, wanted: re.fullmatch(wanted, value) is None,
}


class Matcher(NamedTuple):
    label: str
    sign: str
    wanted: str


def parse(text: str) -> Matcher:
    """The matcher in a text. Raises BadInput saying how one is written."""
    found = _TEXT.match(text)
    if found is None or found.group(1) not in LABELS:
        raise BadInput(f"{text!r} matches nothing; give rule, series or severity, then =, !=, =~ or !~, then a value")
    matcher = Matcher(*found.groups())
    if matcher.sign in {"=~", "!~"}:
        try:
            re.compile(matcher.wanted)
        except re.error as error:
            raise BadInput(f"{text!r}: {matcher.wanted!r} is no regular expression: {error}") from error
    return matcher


def match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether all hold."""
    return all(_HOLDS[sign](labels[label], wanted) for label, sign, wanted in matchers)

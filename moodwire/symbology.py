"""Large companies of the world by symbol: `companies.csv`, compiled for moodwire.

Columns: symbol (the plain ticker of a US listing, else with the exchange's suffix, as INFY.NS), exchange, names,
sector. Names are separated by `;`, the usual one first; one that is a word or something else too begins with `~`.
"""

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from moodwire.settings import Company


@cache
def companies() -> Mapping[str, Company]:
    """By symbol; a company's group is its sector."""
    rows = csv.DictReader((files("moodwire") / "companies.csv").read_text(encoding="utf-8").splitlines())
    return {row["symbol"]: company(row["symbol"], row["names"].split(";"), [row["sector"]]) for row in rows}


def company(symbol: str, names: list[str], groups: list[str]) -> Company:
    """A company from a list's row, where a name that needs context begins with `~`."""
    return Company(
        symbol=symbol,
        names=tuple(name for name in names if not name.startswith("~")),
        words=tuple(name.removeprefix("~") for name in names if name.startswith("~")),
        groups=tuple(groups),
    )

"""`moodwire companies`: what moodwire's own list of companies knows."""

from rich.console import Console
from rich.table import Table

from moodwire import symbology


def run(words: str) -> int:
    """Print the companies whose symbol or names hold all the words; 1 if there is none."""
    wanted = words.lower().split()
    found = []
    for company in symbology.companies().values():
        text = " ".join((company.symbol, *company.names, *company.words)).lower()
        if all(word in text for word in wanted):
            found.append(company)
    if not found:
        print(f"moodwire's list has no company {words!r}; add it under [[watchlist.companies]] with its names")
        return 1
    table = Table(box=None, header_style="bold")
    for head in ("symbol", "names", "with context", "sector"):
        table.add_column(head)
    for company in found:
        table.add_row(company.symbol, ", ".join(company.names), ", ".join(company.words), ", ".join(company.groups))
    Console().print(table)
    return 0

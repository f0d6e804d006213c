"""`moodwire tokens`: who may look at the dashboard and ask the API, and what they may do."""

import getpass
from datetime import datetime

from rich.console import Console
from rich.table import Table

from cli.alerts import duration
from cli.stages import now, open_store
from moodwire.access import Role
from moodwire.errors import BadInput
from moodwire.settings import Place, Settings
from moodwire.store import access, queries


def make(place: Place, settings: Settings, name: str, role: Role, span: str | None) -> int:
    """Prints the token: it is not to be had again. Raises BadInput."""
    store = open_store(place, settings)
    at = now()
    secret = access.make_token(store, name, role, getpass.getuser(), at, at + duration(span) if span else None)
    print(secret)
    return 0


def revoke(place: Place, settings: Settings, name: str) -> int:
    """Raises BadInput where there is none of that name."""
    if not access.revoke_token(open_store(place, settings), name, getpass.getuser(), now()):
        raise BadInput(f"there is no token {name!r} that holds; see `moodwire tokens list`")
    print(f"{name}: revoked, and its sessions are over")
    return 0


def listed(place: Place, settings: Settings) -> int:
    table = Table("name", "role", "made", "by", "until", "last used", "state", box=None, pad_edge=False)
    at = now()
    for token in access.tokens(open_store(place, settings)):
        over = token.ends_at is not None and token.ends_at <= at
        state = "revoked" if token.revoked_at else "over" if over else "holds"
        table.add_row(
            token.name, token.role, _day(token.made_at), token.made_by, _day(token.ends_at), _day(token.used_at), state
        )
    Console().print(table, markup=False)
    return 0


def trail(place: Place, settings: Settings, limit: int) -> int:
    table = Table("at (UTC)", "by", "what", "about", box=None, pad_edge=False)
    for row in queries.trail(open_store(place, settings), limit).itertuples():
        table.add_row(f"{row.at:%Y-%m-%d %H:%M:%S}", row.by, row.what, row.about)
    Console(width=None).print(table, markup=False)
    return 0


def _day(time: datetime | None) -> str:
    return "–" if time is None else f"{time:%Y-%m-%d}"

"""Tokens, sessions, and the trail of who did what. Of secrets only hashes are kept."""

from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from moodwire.access import Person, Role, hashed, new_secret
from moodwire.errors import BadInput
from moodwire.store import schema
from moodwire.store.db import Store

SESSION = timedelta(hours=12)
MOST_NAME = 60  # characters


class Token(NamedTuple):
    """What is told of a token."""

    id: int
    name: str
    role: Role
    made_at: datetime
    made_by: str
    ends_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None  # to the day


def make_token(store: Store, name: str, role: Role, by: str, now: datetime, ends_at: datetime | None = None) -> str:
    """A new token; the secret is told here and never again. Raises BadInput for a name that cannot be used."""
    name = name.strip()
    if not name or len(name) > MOST_NAME or not name.isprintable():
        raise BadInput(f"{name!r:.80} is no name: give 1 to {MOST_NAME} printable characters")
    secret = new_secret()
    t = schema.tokens.c
    same = sa.select(t.id).where(t.name == name, t.revoked_at.is_(None), sa.or_(t.ends_at.is_(None), t.ends_at > now))
    with store.write() as connection:
        if connection.execute(same).first() is not None:
            raise BadInput(f"{name!r} has a token; revoke it first (moodwire tokens revoke), or give another name")
        row = {"name": name, "role": role, "hash": hashed(secret), "made_at": now, "made_by": by, "ends_at": ends_at}
        connection.execute(sa.insert(schema.tokens).values(**row))
        note(connection, now, by, "make token", f"{name}, {role}")
    return secret


def revoke_token(store: Store, name: str, by: str, now: datetime) -> bool:
    """With all its sessions; False if there is none of that name that holds."""
    t = schema.tokens.c
    mine = sa.and_(t.name == name, t.revoked_at.is_(None))
    with store.write() as connection:
        ids = list(connection.execute(sa.select(t.id).where(mine)).scalars())
        connection.execute(sa.update(schema.tokens).where(mine).values(revoked_at=now))
        connection.execute(sa.delete(schema.sessions).where(schema.sessions.c.token.in_(ids)))
        if ids:
            note(connection, now, by, "revoke token", name)
    return bool(ids)


def tokens(store: Store) -> list[Token]:
    t = schema.tokens.c
    with store.read() as connection:
        rows = connection.execute(sa.select(*(t[name] for name in Token._fields)).order_by(t.id))
        return [Token(*row) for row in rows]


def any_token(store: Store, now: datetime) -> bool:
    """Whether somebody could log in."""
    with store.read() as connection:
        return connection.execute(sa.select(schema.tokens.c.id).where(_holds(now)).limit(1)).first() is not None


def by_token(store: Store, secret: str, now: datetime) -> Person | None:
    """Whose token it is, while it holds."""
    t = schema.tokens.c
    query = sa.select(t.name, t.role, t.id, t.used_at).where(t.hash == hashed(secret), _holds(now))
    with store.read() as connection:
        row = connection.execute(query).first()
    if row is None:
        return None
    if row.used_at is None or now - row.used_at > timedelta(days=1):
        with store.write() as connection:
            connection.execute(sa.update(schema.tokens).where(t.id == row.id).values(used_at=now))
    return Person(row.name, row.role)


def begin_session(store: Store, secret: str, now: datetime, where: str) -> str | None:
    """A browser's session for the owner of a token: the cookie's secret. None where the token does not hold."""
    t = schema.tokens.c
    cookie = new_secret("")
    with store.write() as connection:
        row = connection.execute(sa.select(t.id, t.name).where(t.hash == hashed(secret), _holds(now))).first()
        connection.execute(sa.delete(schema.sessions).where(schema.sessions.c.ends_at <= now))
        if row is None:
            note(connection, now, "", "login refused", where)
            return None
        values = {"hash": hashed(cookie), "token": row.id, "ends_at": now + SESSION}
        connection.execute(sa.insert(schema.sessions).values(**values))
        connection.execute(sa.update(schema.tokens).where(t.id == row.id).values(used_at=now))
        note(connection, now, row.name, "log in", where)
    return cookie


def by_session(store: Store, cookie: str, now: datetime) -> Person | None:
    t, s = schema.tokens.c, schema.sessions.c
    query = (
        sa.select(t.name, t.role)
        .join_from(schema.sessions, schema.tokens, s.token == t.id)
        .where(s.hash == hashed(cookie), s.ends_at > now, _holds(now))
    )
    with store.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else Person(row.name, row.role)


def end_session(store: Store, cookie: str, by: str, now: datetime) -> None:
    with store.write() as connection:
        mine = schema.sessions.c.hash == hashed(cookie)
        if connection.execute(sa.delete(schema.sessions).where(mine)).rowcount:
            note(connection, now, by, "log out", "")


def note(connection: sa.Connection, at: datetime, by: str, what: str, about: str) -> None:
    """Into the trail, in the transaction of the write itself."""
    row = {"at": at, "by": by, "what": what, "about": about[:500]}
    connection.execute(sa.insert(schema.audit).values(**row))


def _holds(now: datetime) -> sa.ColumnElement[bool]:
    t = schema.tokens.c
    return sa.and_(t.revoked_at.is_(None), sa.or_(t.ends_at.is_(None), t.ends_at > now))

"""A role of PostgreSQL for those who bring their own client: it reads, and only what is news and counts."""

import re
import secrets

import sqlalchemy as sa

from moodwire.errors import BadInput
from moodwire.store import schema
from moodwire.store.db import Store

VIEWS = ("v_sentiment_hourly", "v_sentiment_daily", "v_stories", "v_incidents")
WHOLE = ("registry", "scores", "counted", "windows", "incidents", "alerts", "feeds", "alembic_version")
LONGEST = "120s"  # of a statement
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


def make_reader(store: Store, name: str) -> str:
    """Make the role, or give it a new password; returns that. Its reach: the views, and the tables behind them.

    No texts (`articles.body`), tokens, sessions, messages, commands or trail. Raises BadInput on SQLite and for a name
    that needs quotes.
    """
    if store.sqlite:
        raise BadInput("SQLite has no roles: give the file to read (chmod), or open it with ?mode=ro&uri=true")
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r}: a role's name is made of a-z, 0-9 and _, and begins with a letter")
    password = secrets.token_urlsafe(24)
    columns = ", ".join(f'"{column.name}"' for column in schema.articles.c if column.name != "body")
    with store.write() as connection:
        there = connection.execute(sa.text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": name}).first()
        connection.exec_driver_sql(f"{'ALTER' if there else 'CREATE'} ROLE {name} LOGIN PASSWORD '{password}'")
        space = connection.execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
        for statement in (
            f"ALTER ROLE {name} SET default_transaction_read_only = on",
            f"ALTER ROLE {name} SET statement_timeout = '{LONGEST}'",
            f"GRANT USAGE ON SCHEMA {space} TO {name}",
            f"GRANT SELECT ON {', '.join((*VIEWS, *WHOLE))} TO {name}",
            f"GRANT SELECT ({columns}) ON articles TO {name}",
        ):
            connection.exec_driver_sql(statement)
    return password

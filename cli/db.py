"""`moodwire db`: the store's schema, retention, soundness and backup."""

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from cli.stages import now, open_store
from moodwire.errors import BadInput, StoreError
from moodwire.settings import Place, Settings
from moodwire.store.check import faults
from moodwire.store.db import Store
from moodwire.store.reader import make_reader
from moodwire.store.retention import prune


def run(place: Place, settings: Settings, action: str, to: Path | None, role: str | None = None) -> int:
    """0, or 1 where `check` finds faults."""
    store = open_store(place, settings)
    where = store.url.render_as_string(hide_password=True)
    try:
        if action == "upgrade":
            with store.read() as connection:
                version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
            print(f"{where} is of version {version}")
        elif action == "prune":
            for table, count in prune(store, settings.retention, now()).items():
                print(f"{table}: {count} rows deleted")
        elif action == "check":
            found = faults(store)
            print("\n".join(found) if found else f"{where} is sound")
            return 1 if found else 0
        elif action == "reader":
            if role is None:
                raise BadInput("db reader: name the role with --role NAME")
            password = make_reader(store, role)
            print(f"role {role} reads {where}; its password, told once: {password}")
        elif to is None:
            raise BadInput("db backup: say where to with --to FILE")
        else:
            backup(store, to)
            print(f"{where} is backed up in {to}")
    finally:
        store.close()
    return 0


def backup(store: Store, to: Path) -> None:
    """A copy of the whole store as of one moment, while the stages run. Raises BadInput, StoreError."""
    if to.exists():
        raise BadInput(f"{to} is there already; name another file")
    if store.sqlite:
        with closing(sqlite3.connect(str(store.url.database))) as source, closing(sqlite3.connect(to)) as copy:
            source.backup(copy)
        return
    plain = store.url.set(drivername="postgresql", password=None).render_as_string()
    secret = {"PGPASSWORD": str(store.url.password)} if store.url.password else {}
    command = ["pg_dump", "--format=custom", f"--file={to}", plain]
    try:
        done = subprocess.run(command, env={**os.environ, **secret}, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise StoreError("pg_dump is not installed: apt-get install postgresql-client") from error
    if done.returncode:
        raise StoreError(f"pg_dump failed: {done.stderr.strip()}")

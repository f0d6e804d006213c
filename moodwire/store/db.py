"""Opening the store, and its transactions. What is written and read stands beside this file, a module per matter."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import as_file, files
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite

from moodwire.errors import StoreError
from moodwire.store import schema

BUSY_S = 30


class Store:
    """A store at an SQLAlchemy address. Safe to use from several threads; cheap to keep open."""

    def __init__(self, url: str, busy_s: float = BUSY_S) -> None:
        self.url = sa.make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        if self.sqlite:
            self.engine = sa.create_engine(self.url, connect_args={"timeout": busy_s, "check_same_thread": False})
            event.listen(self.engine, "connect", _sqlite_connect)
            event.listen(self.engine, "begin", _sqlite_begin)
        else:
            self.engine = sa.create_engine(self.url)

    def upgrade(self) -> None:
        """Bring the schema to this version; several processes may do it at once."""
        with _told(self), as_file(files("moodwire.store") / "migrations") as scripts, self.write() as connection:
            config = Config()
            config.set_main_option("script_location", str(scripts))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction that writes: all of it is kept, or none."""
        with (
            _told(self),
            self.engine.connect().execution_options(moodwire_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent view of the store."""
        with _told(self), self.engine.connect() as connection, connection.begin():
            yield connection

    def now(self) -> datetime:
        """The store's own clock, by which `known_at` is set."""
        if self.sqlite:
            return datetime.now(UTC)
        with self.read() as connection:
            return connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()  # type: ignore[no-any-return]

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def _told(store: Store) -> Iterator[None]:
    try:
        yield
    except sa.exc.DatabaseError as error:
        if isinstance(error, sa.exc.IntegrityError | sa.exc.ProgrammingError | sa.exc.DataError):
            raise  # a fault in moodwire, not in the place
        what = str(error.orig)
        where = store.url.render_as_string(hide_password=True)
        if "locked" in what or "busy" in what:
            raise StoreError(
                f"the store {where} is locked by another program for more than {BUSY_S} s; "
                "close what holds it (a database browser, a backup) and start again"
            ) from error
        raise StoreError(f"the store {where} cannot be used: {what}") from error


def _sqlite_connect(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions begin where `_sqlite_begin` says
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # a commit survives a power cut
    cursor.execute("PRAGMA cache_size=-32000")
    cursor.close()


def _sqlite_begin(connection: sa.Connection) -> None:
    # A transaction that will write takes the lock at once: upgrading a read lock later can't be waited for.
    write = connection.get_execution_options().get("moodwire_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def fact(connection: sa.Connection, name: str, default: str = "") -> str:
    """A small stored fact."""
    value = connection.execute(sa.select(schema.facts.c.value).where(schema.facts.c.name == name)).scalar()
    return default if value is None else str(value)


def facts_like(connection: sa.Connection, prefix: str) -> dict[str, str]:
    """The facts whose names begin so."""
    f = schema.facts.c
    rows = connection.execute(sa.select(f.name, f.value).where(f.name.startswith(prefix, autoescape=True)))
    return {name: value for name, value in rows}


def drop_facts(connection: sa.Connection, names: Collection[str]) -> None:
    connection.execute(sa.delete(schema.facts).where(schema.facts.c.name.in_(names)))


def set_fact(connection: sa.Connection, name: str, value: str) -> None:
    upsert(connection, schema.facts, [{"name": name, "value": value}])


def upsert(
    connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], newer: sa.Column[Any] | None = None
) -> None:
    """Insert rows, replacing those of equal key; with `newer`, only where that column is not smaller."""
    if not rows:
        return
    statement = _insert(connection)(table)
    keys = [column.name for column in table.primary_key]
    replaced = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    where = None if newer is None else statement.excluded[newer.name] >= newer
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=replaced, where=where), rows)


def add_up(connection: sa.Connection, table: sa.Table, key: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    """Add to the counts of a row, which begins at nothing."""
    statement = _insert(connection)(table)
    sums = {name: table.c[name] + statement.excluded[name] for name in counts}
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=sums), [{**key, **counts}])


def insert_absent(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows whose key is not there yet; the first written stays."""
    if rows:
        connection.execute(_insert(connection)(table).on_conflict_do_nothing(), rows)


def _insert(connection: sa.Connection) -> Any:
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert

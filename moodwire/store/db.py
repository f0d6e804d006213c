"""Opening the store, and its transactions. What is written and read stands beside this file, a module per matter."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import as_file, files
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY

from moodwire.errors import StoreError
from moodwire.store import partitions, schema
from moodwire.store.bulk import BULK, Columns, copy_in, execute_many

BUSY_S = 30
POOLED = 15  # connections of a process, at most
PAUSED_S = 20  # after which a transaction that works under a lease, and does nothing, is ended
# A server that does not answer any more is noticed within half a minute.
_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # ms
    # And the server notices one of us that is cut off. Compiling what is asked would take longer than to answer it;
    # with more room, sums over two weeks of all series are hashed and not sorted (an overview a fifth sooner).
    "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c jit=off"
    " -c work_mem=16MB",
}


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
            # A connection that has planned before plans several times quicker: kept, and the one last used first.
            self.engine = sa.create_engine(
                self.url,
                pool_size=POOLED,
                max_overflow=0,
                pool_use_lifo=True,
                pool_pre_ping=True,
                connect_args=_PATIENCE,
            )
        self.fence: Callable[[sa.Connection], None] | None = None  # asked first in each transaction that writes
        self._reading = self._asking = self.engine
        if not self.sqlite:
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ")
            self._asking = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    def upgrade(self) -> None:
        """Bring the schema to this version; several processes may do it at once."""
        with _told(self), as_file(files("moodwire.store") / "migrations") as scripts, self.write() as connection:
            take_turns(connection, "upgrade")
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
            if self.fence is not None:
                self.fence(connection)
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent view of the store."""
        with _told(self), self._reading.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def ask(self) -> Iterator[sa.Connection]:
        """For one statement, which is a consistent view by itself: without a transaction's two trips to the server."""
        with _told(self), self._asking.connect() as connection:
            yield connection

    def make_room(self, table: sa.Table, times: Iterable[datetime]) -> None:
        """Before rows of these times are written into a table that stands in partitions.

        Asked of the store each time: another process may drop months.
        """
        if self.sqlite:
            return
        with self.write() as connection:  # of its own, and short: making a month locks the whole table
            months = partitions.missing(connection, table.name, times)
            if months:
                take_turns(connection, "months")  # IF NOT EXISTS does not see what another is just making
            for month in months:
                partitions.make(connection, table.name, month)

    def now(self) -> datetime:
        """The store's own clock, by which `known_at` is set."""
        if self.sqlite:
            return datetime.now(UTC)
        with self.ask() as connection:
            return clock(connection)

    def close(self) -> None:
        self.engine.dispose()


def clock(connection: sa.Connection) -> datetime:
    """The database's clock, now."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    return connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one().astimezone(UTC)  # type: ignore[no-any-return]


def take_turns(connection: sa.Connection, matter: str) -> None:
    """One transaction at a time for a matter, until it ends. SQLite has but one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_turn(matter))))


def share_turns(connection: sa.Connection, matter: str) -> None:
    """Several transactions at a time for a matter, but not beside one that takes its turn alone.

    One that does nothing for `PAUSED_S` is ended by the server, so that it holds up nobody for longer.
    """
    if connection.dialect.name == "postgresql":
        short = sa.func.set_config("idle_in_transaction_session_timeout", f"{PAUSED_S}s", True)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_turn(matter)), short))


def _turn(matter: str) -> Any:
    return sa.func.hashtextextended(f"moodwire:{matter}", 0)


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
    cursor.execute("PRAGMA cache_size=-8000")  # of each connection, and a stage holds several; the system caches too
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
    """Insert rows of different keys, replacing those there; with `newer`, only where that column is not smaller."""
    upsert_columns(connection, table, _columns_of(rows), newer)


def upsert_columns(
    connection: sa.Connection, table: sa.Table, columns: Columns, newer: sa.Column[Any] | None = None
) -> None:
    """The same of rows that stand in columns."""
    keys = [column.name for column in table.primary_key]

    def replacing(statement: Any) -> Any:
        replaced = {name: statement.excluded[name] for name in columns if name not in keys}
        where = None if newer is None else statement.excluded[newer.name] >= newer
        return statement.on_conflict_do_update(index_elements=keys, set_=replaced, where=where)

    _insert(connection, table, columns, replacing)


def add_up(connection: sa.Connection, table: sa.Table, columns: Columns) -> None:
    """Add to the numbers of rows of different keys, which begin at nothing."""
    keys = [column.name for column in table.primary_key]

    def adding(statement: Any) -> Any:
        sums = {name: table.c[name] + statement.excluded[name] for name in columns if name not in keys}
        return statement.on_conflict_do_update(index_elements=keys, set_=sums)

    _insert(connection, table, columns, adding)


def insert_absent(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows whose key is not there yet; the first written stays."""
    _insert(connection, table, _columns_of(rows), lambda statement: statement.on_conflict_do_nothing())


def _insert(connection: sa.Connection, table: sa.Table, columns: Columns, resolve: Callable[[Any], Any]) -> None:
    """Insert rows; resolve: adds to the statement what to do on a conflict."""
    count = max(map(len, columns.values()), default=0)
    if count >= BULK and connection.dialect.name == "postgresql":
        connection.execute(resolve(copy_in(connection, table, columns)))
    elif count >= BULK:
        execute_many(connection, resolve(insert_into(connection, table)), columns)
    elif count:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        connection.execute(resolve(insert_into(connection, table)), rows)


def _columns_of(rows: Sequence[Mapping[str, Any]]) -> Columns:
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def among(connection: sa.Connection, column: Any, values: Sequence[str]) -> sa.ColumnElement[bool]:
    """Whether a column holds one of these; in PostgreSQL they are one parameter, and the statement is one for all."""
    if connection.dialect.name == "sqlite":
        return column.in_(values)  # type: ignore[no-any-return]
    return column == sa.any_(sa.literal(list(values), ARRAY(sa.String)))  # type: ignore[no-any-return]


def insert_into(connection: sa.Connection, table: sa.Table) -> Any:
    """An insert that knows what to do on a conflict."""
    return (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(table)

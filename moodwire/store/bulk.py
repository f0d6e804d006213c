"""Many rows at once: by COPY into PostgreSQL, by the driver's own call into SQLite."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

BULK = 50  # fewer rows are not worth it
Columns = Mapping[str, Sequence[Any]]  # name -> its value in each row


def copy_in(connection: sa.Connection, table: sa.Table, columns: Columns) -> Any:
    """COPY the rows into a temporary table that ends with the transaction; returns an insert of them into the table."""
    names = list(columns)
    incoming = sa.table(f"incoming_{table.name}", *(sa.column(name, table.c[name].type) for name in names))
    quoted = ", ".join(f'"{name}"' for name in names)
    connection.exec_driver_sql(
        f'CREATE TEMPORARY TABLE IF NOT EXISTS "{incoming.name}" ON COMMIT DROP AS SELECT {quoted} FROM "{table.name}" '
        "WITH NO DATA"
    )
    connection.exec_driver_sql(f'TRUNCATE "{incoming.name}"')
    driver: Any = connection.connection.dbapi_connection
    with driver.cursor() as cursor, cursor.copy(f'COPY "{incoming.name}" ({quoted}) FROM STDIN') as copy:
        for row in zip(*columns.values(), strict=True):
            copy.write_row(row)
    return postgresql.insert(table).from_select(names, sa.select(*incoming.c))


def execute_many(connection: sa.Connection, statement: Any, columns: Columns) -> None:
    """As `connection.execute`, which on SQLite spends on a row many times what the database does: here types only."""
    compiled = statement.compile(dialect=connection.dialect, column_keys=list(columns))
    converted = []
    for name in compiled.positiontup:
        convert = statement.table.c[name].type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
        # Values come again and again (a window's start for each of its series): each is converted once.
        converted.append(list(map(cache(convert), columns[name])) if convert else columns[name])
    connection.exec_driver_sql(str(compiled), list(zip(*converted, strict=True)))

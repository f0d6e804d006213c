"""Many rows at once into PostgreSQL: COPY into a temporary table, then one insert from there."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

BULK = 50  # fewer rows are not worth a temporary table


def copy_in(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> Any:
    """The rows in a temporary table, which ends with the transaction; returns an insert of them into the table."""
    names = list(rows[0])
    incoming = sa.table(f"incoming_{table.name}", *(sa.column(name, table.c[name].type) for name in names))
    quoted = ", ".join(f'"{name}"' for name in names)
    connection.exec_driver_sql(
        f'CREATE TEMPORARY TABLE IF NOT EXISTS "{incoming.name}" ON COMMIT DROP AS SELECT {quoted} FROM "{table.name}" '
        "WITH NO DATA"
    )
    connection.exec_driver_sql(f'TRUNCATE "{incoming.name}"')
    driver: Any = connection.connection.dbapi_connection
    with driver.cursor() as cursor, cursor.copy(f'COPY "{incoming.name}" ({quoted}) FROM STDIN') as copy:
        for row in rows:
            copy.write_row([row[name] for name in names])
    return postgresql.insert(table).from_select(names, sa.select(*incoming.c))

"""All that is said to TimescaleDB, where the extension is: it then makes the partitions, and packs old ones.

Only `counted` is packed, a series' rows of a span together, as they are asked for: a fifth of the bytes at the same
speed. Articles and scores are asked for by id, in any order of time; packed, a page's newest stories took ten times as
long.
"""

from datetime import datetime

import sqlalchemy as sa

from moodwire.store import partitions

PACKED_AFTER = "35 days"


def is_available(connection: sa.Connection) -> bool:
    """Whether the extension is installed and loaded at the server's start, without which it cannot be made."""
    query = sa.text(
        "SELECT count(*) FROM pg_available_extensions WHERE name = 'timescaledb' "
        "AND current_setting('shared_preload_libraries') LIKE '%timescaledb%'"
    )
    return bool(connection.execute(query).scalar())


def make(connection: sa.Connection, table: str, time: str) -> None:
    """Turn a table into a hypertable of months; its key must hold the time already."""
    connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
    connection.execute(
        sa.text(
            "SELECT create_hypertable(CAST(:name AS regclass), by_range(:time, INTERVAL '1 month'), "
            "create_default_indexes => false, migrate_data => true)"  # the schema's own do
        ),
        {"name": table, "time": time},
    )


def pack(connection: sa.Connection) -> None:
    """See to it that of the hypertables `counted` alone is packed, by series; others are unpacked."""
    for table in partitions.TIMES:
        connection.execute(
            sa.text("SELECT remove_compression_policy(CAST(:name AS regclass), if_exists => true)"), {"name": table}
        )
        chunks = "SELECT decompress_chunk(c, if_compressed => true) FROM show_chunks(CAST(:name AS regclass)) c"
        connection.execute(sa.text(chunks), {"name": table})
        connection.execute(sa.text(f'ALTER TABLE "{table}" SET (timescaledb.compress = false)'))
    connection.execute(
        sa.text(
            "ALTER TABLE counted SET (timescaledb.compress, timescaledb.compress_segmentby = 'series', "
            "timescaledb.compress_orderby = 'start, partition, \"offset\"')"
        )
    )
    connection.execute(
        sa.text("SELECT add_compression_policy('counted', CAST(:after AS interval))"), {"after": PACKED_AFTER}
    )


def is_hypertable(connection: sa.Connection, table: str) -> bool:
    if connection.execute(sa.text("SELECT to_regclass('timescaledb_information.hypertables')")).scalar() is None:
        return False
    query = sa.text("SELECT count(*) FROM timescaledb_information.hypertables WHERE hypertable_name = :name")
    return bool(connection.execute(query, {"name": table}).scalar())


def drop(connection: sa.Connection, table: str, before: datetime) -> None:
    """Drop the chunks that end before a time."""
    connection.execute(
        sa.text("SELECT drop_chunks(CAST(:name AS regclass), older_than => :before)"),
        {"name": table, "before": before},
    )

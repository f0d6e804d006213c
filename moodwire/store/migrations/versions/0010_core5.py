"""What a rule expects of a series' windows at one time stands in one row."""

import sqlalchemy as sa
from alembic import op

from moodwire.store.schema import UtcTime

revision = "0010_core5"
down_revision = "0009_access"


def upgrade() -> None:
    op.rename_table("expectations", "expectations_by_window")
    op.create_table(
        "expectations",
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("by_window", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("series", "rule", "at", name="expectations_key"),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "sqlite":
        packed = "json_group_array(json_array(window_s, expected, threshold))"
    else:
        packed = "json_agg(json_build_array(window_s, expected, threshold))::text"
    op.execute(
        f"insert into expectations select series, rule, at, {packed} from expectations_by_window "
        "group by series, rule, at"
    )
    op.drop_table("expectations_by_window")

"""How often a feed really changes."""

import sqlalchemy as sa
from alembic import op

revision = "0007_learn"
down_revision = "0006_dash"


def upgrade() -> None:
    op.add_column("feeds", sa.Column("pace", sa.Float()))
    op.add_column("feeds", sa.Column("listed", sa.Integer(), server_default="0", nullable=False))
    op.drop_column("feeds", "unchanged")

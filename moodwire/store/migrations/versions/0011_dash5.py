"""What came from a source in a span, and which sources there are, without going through all articles.

Windows are always asked for by their length: an index of their starts alone led PostgreSQL astray, and cost each write.
"""

from alembic import op

revision = "0011_dash5"
down_revision = "0010_core5"


def upgrade() -> None:
    op.create_index("articles_source", "articles", ["source", "published_at", "seen_at"])
    op.drop_index("windows_start", table_name="windows")

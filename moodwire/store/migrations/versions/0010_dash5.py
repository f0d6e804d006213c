"""What came from a source in a span, and which sources there are, without going through all articles."""

from alembic import op

revision = "0010_dash5"
down_revision = "0009_access"


def upgrade() -> None:
    op.create_index("articles_source", "articles", ["source", "published_at", "seen_at"])

"""Words to search by, and corrected labels."""

import sqlalchemy as sa
from alembic import op

from moodwire.store.schema import UtcTime

revision = "0006_dash"
down_revision = "0005_ingest"


def upgrade() -> None:
    op.create_table(
        "labels",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("head", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("was", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("labels_article", "labels", ["id", "revision"])
    if op.get_bind().dialect.name != "sqlite":
        # English stems, but every word is looked for: the dictionary that is there leaves the frequent ones out.
        op.execute("create text search dictionary moodwire_stem (template = snowball, language = english)")
        op.execute("create text search configuration moodwire (copy = english)")
        op.execute(
            "alter text search configuration moodwire "
            "alter mapping for asciiword, word, asciihword, hword, hword_asciipart, hword_part with moodwire_stem"
        )
        op.execute(
            "create index articles_words on articles using gin (to_tsvector('moodwire', "
            "regexp_replace(normalize(title || ' ' || body, NFD), '[\\u0300-\\u036f]', '', 'g')))"
        )
        return
    # The words stand in the index only, the text in `articles`; triggers keep the two together, whoever writes.
    op.execute(
        "create virtual table articles_words using fts5("
        "title, body, content='articles', content_rowid='seq', tokenize='porter unicode61 remove_diacritics 2')"
    )
    op.execute("insert into articles_words(articles_words) values ('rebuild')")
    op.execute(
        "create trigger articles_words_new after insert on articles begin "
        "insert into articles_words(rowid, title, body) values (new.seq, new.title, new.body); end"
    )
    op.execute(
        "create trigger articles_words_gone after delete on articles begin "
        "insert into articles_words(articles_words, rowid, title, body) "
        "values ('delete', old.seq, old.title, old.body); end"
    )
    op.execute(
        "create trigger articles_words_changed after update of title, body on articles begin "
        "insert into articles_words(articles_words, rowid, title, body) "
        "values ('delete', old.seq, old.title, old.body); "
        "insert into articles_words(rowid, title, body) values (new.seq, new.title, new.body); end"
    )

"""Run by alembic; the connection is the one `Store.upgrade` holds."""

from alembic import context

from moodwire.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()

"""PostgreSQL: who may read the counts may read the registry, by which stories are found in their partitions."""

from alembic import op

revision = "0013_readers"
down_revision = "0012_packed"

_GRANT = """
DO $$
DECLARE reader name;
BEGIN
    FOR reader IN
        SELECT DISTINCT grantee FROM information_schema.role_table_grants
        WHERE table_schema = current_schema() AND table_name = 'counted' AND privilege_type = 'SELECT'
          AND grantee NOT IN (current_user, 'PUBLIC')
    LOOP
        EXECUTE 'GRANT SELECT ON registry TO ' || quote_ident(reader);
    END LOOP;
END $$
"""


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_GRANT)


def downgrade() -> None:
    raise NotImplementedError("restore a backup of the version before")

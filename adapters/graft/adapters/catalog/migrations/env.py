"""Alembic's environment for the catalog: it runs on the connection that `database.upgrade` hands over."""

from alembic import context

from graft.adapters.catalog.database import VERSION_TABLE
from graft.adapters.catalog.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()

"""Runs migrations on the connection that `infra.schema` hands over, in one transaction."""

from alembic import context

from infra import account_tables  # noqa: F401  importing them declares them
from infra.tables import metadata
from projections import catalogue  # noqa: F401  importing the read models declares their tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()

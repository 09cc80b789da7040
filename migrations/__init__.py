"""The schema's history, run by Alembic through `infra.schema`."""

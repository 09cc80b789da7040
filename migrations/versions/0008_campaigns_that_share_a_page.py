"""campaigns that share a page."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COLUMNS: tuple[sa.Column[Any], ...] = (
    sa.Column("weight", sa.Integer(), nullable=False, server_default="1"),
    sa.Column("rotation", sa.Text(), nullable=False, server_default="weight"),
    sa.Column("competitive_exclusion", postgresql.JSONB(), nullable=False, server_default="[]"),
    sa.Column("roadblock", sa.Boolean(), nullable=False, server_default="false"),
    sa.Column("house", sa.Boolean(), nullable=False, server_default="false"),
)


def upgrade() -> None:
    """Bring the schema up to this revision."""
    for column in COLUMNS:
        # No campaign so far says more than the default.
        op.add_column("campaigns", column)
        op.alter_column("campaigns", column.name, server_default=None)

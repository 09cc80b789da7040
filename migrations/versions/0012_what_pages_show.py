"""what pages show."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    op.add_column("creatives", sa.Column("media_file", sa.Text(), nullable=True))
    op.add_column("slots", sa.Column("refresh_seconds", sa.Integer(), nullable=True))
    op.add_column("slots", sa.Column("closable", sa.Boolean(), nullable=False, server_default="false"))
    # No slot so far can be closed.
    op.alter_column("slots", "closable", server_default=None)

"""whose campaigns people see."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    for table in ("users", "api_keys"):
        op.add_column(table, sa.Column("advertiser_ids", ARRAY(sa.Uuid()), nullable=False, server_default="{}"))
        op.alter_column(table, "advertiser_ids", server_default=None)
    op.add_column("api_keys", sa.Column("scopes", ARRAY(sa.Text()), nullable=True))

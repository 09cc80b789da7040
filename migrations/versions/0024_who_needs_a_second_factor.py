"""who needs a second factor."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    demanded: sa.Column[bool] = sa.Column(
        "second_factor_demanded", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("ledgers", demanded)

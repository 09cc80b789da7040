"""what players report."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    op.add_column("creatives", sa.Column("mime_type", sa.Text(), nullable=True))
    op.add_column("creatives", sa.Column("bit_rate_kbps", sa.Integer(), nullable=True))
    for name in ("starts", "first_quartiles", "midpoints", "third_quartiles", "completes", "errors"):
        op.add_column("deliveries", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))

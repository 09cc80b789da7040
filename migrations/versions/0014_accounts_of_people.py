"""accounts of people."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    added = (
        ("users", "name", ""),
        ("users", "timezone", "UTC"),
        ("refresh_tokens", "address", ""),
        ("refresh_tokens", "agent", ""),
    )
    for table, name, usual in added:
        op.add_column(table, sa.Column(name, sa.Text(), nullable=False, server_default=usual))
        op.alter_column(table, name, server_default=None)
    op.add_column("users", sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_users_changed", "users", ["ledger_id", "changed_at"])
    op.create_index("ix_refresh_tokens_revoked", "refresh_tokens", ["ledger_id", "revoked_at"])

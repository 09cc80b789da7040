"""who signs in through others."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    op.create_table(
        "spent_codes",
        sa.Column("code_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("code_sha256"),
        comment="What is good once when people sign in through a provider and was used, by hash, until it has expired.",
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON spent_codes TO ledger_app")

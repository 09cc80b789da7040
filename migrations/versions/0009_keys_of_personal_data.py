"""keys of personal data."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    op.create_table(
        "subject_keys",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Uuid(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=True),
        sa.Column("master", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("ledger_id", "subject", "key_id", name=op.f("pk_subject_keys")),
        comment="The keys of personal data in the log, wrapped by the named master key; NULL once they were destroyed.",
    )
    op.create_index("ix_subject_keys_master", "subject_keys", ["master"])
    op.execute("GRANT SELECT, INSERT, UPDATE ON subject_keys TO ledger_app")
    op.add_column("advertisers", sa.Column("legal_hold", sa.Text(), nullable=True))
    op.add_column("advertisers", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))

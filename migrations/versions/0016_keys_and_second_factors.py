"""keys of programs, and second factors."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    op.create_table(
        "api_keys",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("key_sha256", sa.LargeBinary(), nullable=False, unique=True),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("ledger_id", "id"),
        comment="Keys of programs that do what people do, by hash; a revoked one is gone.",
    )
    op.create_table(
        "second_factors",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("recovery_sha256", ARRAY(sa.LargeBinary()), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "user_id"),
        comment="Secrets of one-time passwords, encrypted under their owner's subject key; recovery codes by hash.",
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON api_keys, second_factors TO ledger_app")

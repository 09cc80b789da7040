"""what is mailed to people: tokens of their accounts, and invitations."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    op.add_column("users", sa.Column("email_verified", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.alter_column("users", "email_verified", server_default=None)
    op.create_table(
        "account_tokens",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "id", name=op.f("pk_account_tokens")),
        comment="What was mailed to people and is good once, by id: what proves it is in the letter alone. Used: gone.",
    )
    op.create_index("ix_account_tokens_user", "account_tokens", ["ledger_id", "user_id"])
    op.create_table(
        "invitations",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("advertiser_ids", ARRAY(sa.Uuid()), nullable=False),
        sa.Column("token_id", sa.Uuid(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("accepted_by", sa.Uuid(), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("ledger_id", "id", name=op.f("pk_invitations")),
        sa.UniqueConstraint("ledger_id", "token_id", name=op.f("uq_invitations_ledger_id_token_id")),
        comment="Who was asked to join, by e-mail, and what came of it; of the token that was mailed, only its id.",
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON account_tokens, invitations TO ledger_app")

"""what is sent."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    op.create_table(
        "webhooks",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event_types", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "id", name=op.f("pk_webhooks")),
        comment="URLs that are told of events, with the secrets that sign what they are told, encrypted.",
    )
    op.create_table(
        "mail_choices",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "user_id", "reason", name=op.f("pk_mail_choices")),
        comment="Which mail people want or do not want, where it is not what people of their role get.",
    )
    op.create_table(
        "subscribers",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("subscriber", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "subscriber", name=op.f("pk_subscribers")),
        comment="How far the log was read for what is to be sent: to each webhook, and as mail.",
    )
    op.create_table(
        "outbox",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("subscriber", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("content", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("parked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "subscriber", "name", name=op.f("pk_outbox")),
        comment="What is to be sent, put here in the transaction that moves the position; one row a reason.",
    )
    op.create_index(
        "ix_outbox_waiting",
        "outbox",
        ["ledger_id", "subscriber", "stream", "position"],
        unique=False,
        postgresql_where=sa.text("sent_at IS NULL"),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON webhooks, mail_choices, subscribers, outbox TO ledger_app")
    # Of what a ledger holds by now nobody gets mail.
    op.execute("INSERT INTO subscribers SELECT ledger_id, 'mail', position FROM ledger_heads")

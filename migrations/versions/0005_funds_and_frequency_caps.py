"""funds and frequency caps."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    op.alter_column("budgets", "campaign_id", new_column_name="budget_id")
    op.add_column("budgets", sa.Column("advertiser_id", sa.Uuid(), nullable=True))
    op.add_column("budgets", sa.Column("currency", sa.Text(), nullable=True))
    op.add_column("budgets", sa.Column("flat_micros", sa.BigInteger(), nullable=False, server_default="0"))
    op.alter_column("budgets", "flat_micros", server_default=None)
    # What is known of a campaign is in its stream: its advertiser never changes, its currency is the last one set.
    op.execute("""
        UPDATE budgets SET
            advertiser_id = (
                SELECT (entry -> 'event' ->> 'advertiser_id')::uuid FROM events
                WHERE events.ledger_id = budgets.ledger_id AND stream_id = 'campaign-' || budget_id AND version = 1
            ),
            currency = (
                SELECT entry -> 'event' ->> 'currency' FROM events
                WHERE events.ledger_id = budgets.ledger_id AND stream_id = 'campaign-' || budget_id
                    AND entry -> 'event' ->> 'currency' IS NOT NULL
                ORDER BY version DESC LIMIT 1
            ),
            flat_micros = (
                SELECT CASE entry -> 'event' -> 'pricing' ->> 'model'
                    WHEN 'flat' THEN (entry -> 'event' -> 'pricing' ->> 'price_micros')::bigint ELSE 0 END
                FROM events
                WHERE events.ledger_id = budgets.ledger_id AND stream_id = 'campaign-' || budget_id
                    AND entry -> 'event' -> 'pricing' IS NOT NULL
                ORDER BY version DESC LIMIT 1
            )
    """)
    op.alter_column("budgets", "currency", nullable=False)
    op.create_index("ix_budgets_advertiser", "budgets", ["ledger_id", "advertiser_id"])
    op.create_table_comment(
        "budgets",
        "What each campaign, and each advertiser out of its funds, may spend and has spent; kept by the writer.",
    )
    op.create_table(
        "viewings",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Uuid(), nullable=False),
        sa.Column("viewer", sa.Text(), nullable=False),
        sa.Column("views", sa.BigInteger(), nullable=False),
        sa.Column("times", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "subject", "viewer", name=op.f("pk_viewings")),
        comment="When (seconds since 1970) viewers, by pseudonym, saw what has a frequency cap; kept by the writer.",
    )
    op.create_index("ix_viewings_position", "viewings", ["ledger_id", "position"])
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON viewings TO ledger_app")
    op.add_column("advertisers", sa.Column("currency", sa.Text(), nullable=True))
    op.add_column("advertisers", sa.Column("funds_micros", sa.BigInteger(), nullable=True))

"""tallies of requests."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    # What a worker was asked for is no part of the catalogue, which is read in whole when a worker starts.
    op.drop_index("ix_events_catalogue", "events")
    op.create_index(
        "ix_events_catalogue",
        "events",
        ["ledger_id", "position"],
        postgresql_where=sa.text("stream_id !~~ 'decision-%' AND stream_id !~~ 'requests-%'"),
    )
    op.create_index(
        "ix_events_requests",
        "events",
        ["ledger_id", "position"],
        postgresql_where=sa.text("stream_id ~~ 'requests-%'"),
    )
    op.create_table(
        "ad_requests",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("slot_id", sa.Uuid(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "hour", "slot_id", "country", "reason", name=op.f("pk_ad_requests")),
        comment="Read model: creatives asked for by hour (UTC). reason: why there was none, empty where there was one.",
    )
    op.execute("ALTER TABLE ad_requests SET (fillfactor = 50)")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ad_requests TO ledger_app")

"""who was let in."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    op.drop_index("ix_events_catalogue", table_name="events")
    op.create_index(
        "ix_events_catalogue",
        "events",
        ["ledger_id", "position"],
        postgresql_where=sa.text(
            "stream_id !~~ 'decision-%' AND stream_id !~~ 'requests-%' AND stream_id !~~ 'conversion-%'"
            " AND stream_id !~~ 'access-%'"
        ),
    )
    op.create_index(
        "ix_events_security",
        "events",
        ["ledger_id", "recorded_at", "position"],
        postgresql_where=sa.text("stream_id ~~ 'access-%' OR type = 'slot_key_issued' OR type = 'slot_key_revoked'"),
    )

"""what counts."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

WINDOW = '{"value": 30, "unit": "day"}'


def upgrade() -> None:
    """Bring the schema up to this revision."""
    columns: tuple[tuple[str, sa.Column[Any]], ...] = (
        ("slots", sa.Column("traffic", sa.Text(), nullable=False, server_default="any")),
        ("slots", sa.Column("click_without_impression", sa.Text(), nullable=False, server_default="counted")),
        ("advertisers", sa.Column("attribution_window", postgresql.JSONB(), nullable=False, server_default=WINDOW)),
    )
    for table, column in columns:
        # What there is so far says no more than the default.
        op.add_column(table, column)
        op.alter_column(table, column.name, server_default=None)
    op.add_column("advertisers", sa.Column("click_id_parameter", sa.Text(), nullable=True))
    for name in ("conversions", "conversion_micros"):
        op.add_column("deliveries", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    op.drop_index("ix_events_catalogue", table_name="events")
    op.create_index(
        "ix_events_catalogue",
        "events",
        ["ledger_id", "position"],
        postgresql_where=sa.text(
            "stream_id !~~ 'decision-%' AND stream_id !~~ 'requests-%' AND stream_id !~~ 'conversion-%'"
        ),
    )

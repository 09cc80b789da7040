"""whom campaigns are for."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LISTS = ("excluded_targeting", "page_categories", "languages", "device_types", "domains", "excluded_domains")


def upgrade() -> None:
    """Bring the schema up to this revision."""
    added = {
        **dict.fromkeys((*LISTS, "time_slots", "weekdays"), (postgresql.JSONB(), "[]")),
        "key_values": (postgresql.JSONB(), "{}"),
        "time_basis": (sa.Text(), "campaign"),
    }
    # Campaigns that stand there already have what a campaign has that does not say.
    for name, (kind, usual) in added.items():
        op.add_column("campaigns", sa.Column(name, kind, nullable=False, server_default=usual))
        op.alter_column("campaigns", name, server_default=None)

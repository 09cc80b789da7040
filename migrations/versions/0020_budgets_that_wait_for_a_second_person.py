"""budgets that wait for a second person."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    op.add_column("campaigns", sa.Column("budget_request", JSONB(), nullable=True))
    waiting, requests = sa.text("budget_request IS NOT NULL"), sa.text("type = 'budget_requested'")
    op.create_index("ix_campaigns_asked", "campaigns", ["ledger_id"], postgresql_where=waiting)
    op.create_index("ix_histories_requests", "histories", ["ledger_id"], postgresql_where=requests)

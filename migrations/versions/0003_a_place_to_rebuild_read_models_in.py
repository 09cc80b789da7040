"""a place to rebuild read models in."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    op.execute("CREATE SCHEMA rebuild")
    op.execute("COMMENT ON SCHEMA rebuild IS 'Read models being made anew, and how far each has come.'")
    # The tables of read models come and go beside these two: the service creates them like the live ones.
    op.execute("CREATE TABLE rebuild.checkpoints (LIKE checkpoints INCLUDING ALL)")
    op.execute("CREATE TABLE rebuild.parked_events (LIKE parked_events INCLUDING ALL)")
    op.execute("GRANT USAGE, CREATE ON SCHEMA rebuild TO ledger_app")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON rebuild.checkpoints, rebuild.parked_events TO ledger_app")

"""the cosignatures of witnesses."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    op.create_table(
        "log_cosigned",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "size", name=op.f("pk_log_cosigned")),
        comment="Checkpoints that as many witnesses have cosigned as the policy asks for, with their cosignatures.",
    )
    op.execute("GRANT SELECT, INSERT ON log_cosigned TO ledger_app")
    op.execute("""
        CREATE TRIGGER log_cosigned_append_only BEFORE UPDATE OR DELETE ON log_cosigned
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """)

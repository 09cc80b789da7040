"""the Merkle tree of the log."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    op.create_table(
        "tiles",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "level", "number", name=op.f("pk_tiles")),
        comment="The Merkle tree over the log: up to 256 hashes a row, which only grow.",
    )
    op.create_table(
        "log_checkpoints",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "size", name=op.f("pk_log_checkpoints")),
        comment="Every tree that was ever signed, with the signed note.",
    )
    op.create_table(
        "log_keys",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("verifier_key", sa.Text(), nullable=False),
        sa.Column("first_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "verifier_key", name=op.f("pk_log_keys")),
        comment=(
            "The public keys of the log, as verifier keys of signed notes; the private ones are never in the database."
        ),
    )
    _protect()


def _protect() -> None:
    """Let the service add to the tree, and nobody change what is in it."""
    op.execute("GRANT SELECT, INSERT, UPDATE ON tiles TO ledger_app")
    op.execute("GRANT SELECT, INSERT ON log_checkpoints, log_keys TO ledger_app")
    op.execute("""
        CREATE FUNCTION refuse_other_hashes() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF substr(NEW.hashes, 1, length(OLD.hashes)) IS DISTINCT FROM OLD.hashes THEN
                RAISE EXCEPTION 'a tile only grows: tile % of level % is refused', OLD.number, OLD.level
                    USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER tiles_only_grow BEFORE UPDATE ON tiles
        FOR EACH ROW EXECUTE FUNCTION refuse_other_hashes()
    """)
    for table in ("log_checkpoints", "log_keys"):
        op.execute(f"""
            CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}
            FOR EACH ROW EXECUTE FUNCTION refuse_change()
        """)

"""organisations, their members, and a wall between them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

WALLED = (
    *("events", "ledger_heads", "idempotency_keys", "budgets", "viewings", "workers", "leases", "checkpoints"),
    *("parked_events", "tiles", "log_checkpoints", "log_keys", "log_cosigned", "subject_keys", "api_keys"),
    *("webhooks", "invitations", "mail_choices", "subscribers", "outbox"),
    *("advertisers", "campaigns", "creatives", "slots", "spendings", "deliveries", "histories", "ad_requests"),
)
"""What is of one ledger alone. The rest says who belongs where, and is looked up before that is known."""


# A sub-select is asked once for each statement, and not for each row.
IN_VIEW = "(SELECT nullif(current_setting('ledger.id', true), '')::uuid)"


def upgrade() -> None:
    """Bring the schema up to this revision."""
    _describe_organisations()
    _tell_members_from_people()
    _build_wall()


def _describe_organisations() -> None:
    op.add_column("ledgers", sa.Column("slug", sa.Text(), nullable=True))
    op.add_column("ledgers", sa.Column("logo_url", sa.Text(), nullable=True))
    op.add_column("ledgers", sa.Column("logo_file", sa.Text(), nullable=True))
    op.add_column("ledgers", sa.Column("timezone", sa.Text(), nullable=False, server_default="UTC"))
    op.add_column("ledgers", sa.Column("currency", sa.Text(), nullable=True))
    op.execute("UPDATE ledgers SET slug = ledger_id::text")
    op.alter_column("ledgers", "slug", nullable=False)
    op.alter_column("ledgers", "timezone", server_default=None)
    op.create_unique_constraint("uq_ledgers_slug", "ledgers", ["slug"])
    op.create_table_comment(
        "ledgers",
        "One row a ledger: the unit of order, of proof and of scale; and the organisation that owns it.",
        existing_comment="One row a ledger: the unit of order, of proof and of scale.",
    )
    op.execute("GRANT UPDATE ON ledgers TO ledger_app")


def _tell_members_from_people() -> None:
    op.create_table(
        "people",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("email_verified", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_people")),
        sa.UniqueConstraint("email", name=op.f("uq_people_email")),
        comment="Identity is not in the log, which refers to people by id. E-mail addresses are kept in lower case.",
    )
    op.create_table(
        "members",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("advertiser_ids", ARRAY(sa.Uuid()), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "user_id", name=op.f("pk_members")),
        comment="Who belongs to which organisations, and what they may do there; operators belong to the id of zeros.",
    )
    op.create_index("ix_members_person", "members", ["user_id"])
    op.create_index("ix_members_changed", "members", ["changed_at"])
    op.execute("""
        INSERT INTO people (id, email, password_hash, created_at, name, timezone, email_verified)
        SELECT id, email, password_hash, created_at, name, timezone, email_verified FROM users
    """)
    op.execute("""
        INSERT INTO members (ledger_id, user_id, role, active, joined_at, changed_at, advertiser_ids)
        SELECT ledger_id, id, role, active, created_at, changed_at, advertiser_ids FROM users
    """)
    op.drop_table("users")
    op.execute("""
        CREATE VIEW users WITH (security_invoker) AS
        SELECT
            ledger_id, id, email, password_hash, role, active, created_at, name, timezone, joined_at, changed_at,
            advertiser_ids, email_verified
        FROM members JOIN people ON people.id = members.user_id
    """)
    op.execute("GRANT SELECT, INSERT, UPDATE ON people, members TO ledger_app")
    op.execute("GRANT SELECT, UPDATE ON users TO ledger_app")
    op.drop_index("ix_account_tokens_user", table_name="account_tokens")
    op.create_index("ix_account_tokens_user", "account_tokens", ["user_id"])
    op.drop_index("ix_refresh_tokens_revoked", table_name="refresh_tokens")
    op.create_index("ix_refresh_tokens_revoked", "refresh_tokens", ["revoked_at"])
    op.create_index("ix_refresh_tokens_person", "refresh_tokens", ["user_id", "family_id"])
    op.drop_constraint("pk_second_factors", "second_factors")
    op.create_primary_key("pk_second_factors", "second_factors", ["user_id"])
    op.create_table_comment(
        "second_factors",
        "Secrets of one-time passwords, encrypted under their owner's key in that ledger; recovery codes by hash.",
        existing_comment="Secrets of one-time passwords, encrypted under their owner's subject key; recovery codes by "
        "hash.",
    )


def _build_wall() -> None:
    """Show web workers the one ledger that a connection looks at, and background workers all of them."""
    op.execute("""
        DO $$ BEGIN
            CREATE ROLE ledger_worker NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
    """)
    op.execute("GRANT ledger_app TO ledger_worker")
    op.execute("GRANT ledger_worker TO CURRENT_USER")
    for table in WALLED:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY one_ledger ON {table} TO ledger_app USING (ledger_id = {IN_VIEW})")
        op.execute(f"CREATE POLICY all_ledgers ON {table} TO ledger_worker USING (true)")

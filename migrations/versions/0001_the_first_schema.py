"""the first schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up to this revision."""
    _the_log()
    _budgets()
    _people()
    _projecting()
    _advertisers_and_slots()
    _campaigns()
    _creatives()
    _deliveries()
    _spendings()
    _protect()


def _the_log() -> None:
    """The ledgers, their logs, and the answers that were given."""
    op.create_table(
        "events",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("stream_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("entry", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "position", name=op.f("pk_events")),
        sa.UniqueConstraint("ledger_id", "stream_id", "version", name=op.f("uq_events_ledger_id_stream_id_version")),
        comment="The log. `entry` is the exact JSON text that is hashed; the other columns repeat it for indexing.",
    )
    op.create_index(
        "ix_events_catalogue",
        "events",
        ["ledger_id", "position"],
        unique=False,
        postgresql_where=sa.text("stream_id !~~ 'decision-%'"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("answer", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "actor", "key", name=op.f("pk_idempotency_keys")),
        comment="The first answer, receipt or refusal, to each request that carried an Idempotency-Key.",
    )
    op.create_table(
        "ledger_heads",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("command_position", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", name=op.f("pk_ledger_heads")),
        comment="The end of each log; its row lock makes positions gapless. command_position: the last of a command.",
    )
    op.create_table(
        "ledgers",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", name=op.f("pk_ledgers")),
        comment="One row a ledger: the unit of order, of proof and of scale.",
    )


def _budgets() -> None:
    """What may be spent, and what of it workers have set aside."""
    op.create_table(
        "budgets",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("impression_micros", sa.BigInteger(), nullable=False),
        sa.Column("click_micros", sa.BigInteger(), nullable=False),
        sa.Column("budget_micros", sa.BigInteger(), nullable=True),
        sa.Column("daily_budget_micros", sa.BigInteger(), nullable=True),
        sa.Column("impression_budget", sa.BigInteger(), nullable=True),
        sa.Column("daily_impression_budget", sa.BigInteger(), nullable=True),
        sa.Column("spent_micros", sa.BigInteger(), nullable=False),
        sa.Column("impressions", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("day_spent_micros", sa.BigInteger(), nullable=False),
        sa.Column("day_impressions", sa.BigInteger(), nullable=False),
        sa.Column("leased_impressions", sa.BigInteger(), nullable=False),
        sa.Column("leased_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "campaign_id", name=op.f("pk_budgets")),
        comment="What each campaign may spend and has spent, kept by the writer in the transaction that appends.",
    )
    op.create_table(
        "workers",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("worker", sa.BigInteger(), nullable=False),
        sa.Column("alive_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("silent_from", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "worker", name=op.f("pk_workers")),
        comment="Processes that lease budget. Unheard of until silent_from, none can have a promise open.",
    )
    op.create_table(
        "leases",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("worker", sa.BigInteger(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("impressions", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "worker", "campaign_id", name=op.f("pk_leases")),
        comment="Impressions that a worker may promise, or has promised and that are not yet confirmed.",
    )


def _people() -> None:
    """Who may sign in, and who is signed in."""
    op.create_table(
        "login_attempts",
        sa.Column("subject_hash", sa.LargeBinary(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("window_started_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject_hash", name=op.f("pk_login_attempts")),
        comment="Sign-ins in the current window that did not succeed, by keyed hash of the account and of the address.",
    )
    op.create_table(
        "refresh_tokens",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("family_id", sa.Uuid(), nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("ledger_id", "user_id", "family_id", "token_sha256", name=op.f("pk_refresh_tokens")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_refresh_tokens_token_sha256")),
        comment="Rotating refresh tokens, by hash; one family a sign-in. Using one twice revokes its family.",
    )
    op.create_table(
        "users",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        comment="Identity is not in the log, which refers to people by id. E-mail addresses are kept in lower case.",
    )


def _projecting() -> None:
    """How far each projection has come, and what it could not apply."""
    op.create_table(
        "checkpoints",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("projection", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "projection", name=op.f("pk_checkpoints")),
        comment="How far each projection has come; moved in the transaction that applies the batch.",
    )
    op.create_table(
        "parked_events",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("projection", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("parked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "projection", "key", "position", name=op.f("pk_parked_events")),
        comment="Events that a projection could not apply, and those of the same key after them.",
    )


def _advertisers_and_slots() -> None:
    """Read models of advertisers and slots."""
    op.create_table(
        "advertisers",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("company_name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "id", name=op.f("pk_advertisers")),
        comment="Read model: advertisers as they stand.",
    )
    op.create_table(
        "slots",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ad_type", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("media_types", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("floor_cpm_micros", sa.BigInteger(), nullable=False),
        sa.Column("max_rating", sa.Text(), nullable=False),
        sa.Column("hold_seconds", sa.Integer(), nullable=False),
        sa.Column("token_seconds", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("keys", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "id", name=op.f("pk_slots")),
        comment="Read model: slots as they stand.",
    )


def _campaigns() -> None:
    """The read model of campaigns."""
    op.create_table(
        "campaigns",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("advertiser_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("start_date", sa.Date(), nullable=False),
        sa.Column("end_date", sa.Date(), nullable=True),
        sa.Column("expiry_date", sa.Date(), nullable=True),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("pricing", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("budget_micros", sa.BigInteger(), nullable=True),
        sa.Column("daily_budget_micros", sa.BigInteger(), nullable=True),
        sa.Column("impression_budget", sa.BigInteger(), nullable=True),
        sa.Column("daily_impression_budget", sa.BigInteger(), nullable=True),
        sa.Column("pacing", sa.Text(), nullable=False),
        sa.Column("max_view_count", sa.BigInteger(), nullable=True),
        sa.Column("max_view_duration", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("targeting", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("keywords", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("categories", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("blocked_categories", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "id", name=op.f("pk_campaigns")),
        comment="Read model: campaigns as they stand.",
    )
    op.create_index("ix_campaigns_advertiser", "campaigns", ["ledger_id", "advertiser_id"], unique=False)
    op.create_index("ix_campaigns_created", "campaigns", ["ledger_id", "created_at", "id"], unique=False)


def _creatives() -> None:
    """The read model of creatives."""
    op.create_table(
        "creatives",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("review", sa.Text(), nullable=False),
        sa.Column("denial_reason", sa.Text(), nullable=True),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("ad_type", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("media_url", sa.Text(), nullable=True),
        sa.Column("media_content", sa.Text(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("duration_seconds", sa.Integer(), nullable=True),
        sa.Column("alt_text", sa.Text(), nullable=False),
        sa.Column("click_url", sa.Text(), nullable=False),
        sa.Column("start_date", sa.Date(), nullable=True),
        sa.Column("end_date", sa.Date(), nullable=True),
        sa.Column("expiry_date", sa.Date(), nullable=True),
        sa.Column("impression_duration", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("in_view_duration", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("time_slots", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("max_views", sa.BigInteger(), nullable=True),
        sa.Column("content_rating", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "id", name=op.f("pk_creatives")),
        comment="Read model: creatives as they stand.",
    )
    op.create_index("ix_creatives_campaign", "creatives", ["ledger_id", "campaign_id"], unique=False)
    op.create_index("ix_creatives_created", "creatives", ["ledger_id", "created_at", "id"], unique=False)


def _deliveries() -> None:
    """Read models of deliveries and histories."""
    op.create_table(
        "deliveries",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("creative_id", sa.Uuid(), nullable=False),
        sa.Column("advertiser_id", sa.Uuid(), nullable=False),
        sa.Column("slot_id", sa.Uuid(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("city", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("impressions", sa.BigInteger(), nullable=False),
        sa.Column("views", sa.BigInteger(), nullable=False),
        sa.Column("clicks", sa.BigInteger(), nullable=False),
        sa.Column("spent_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "ledger_id",
            "hour",
            "campaign_id",
            "creative_id",
            "advertiser_id",
            "slot_id",
            "country",
            "region",
            "city",
            "currency",
            "reason",
            name=op.f("pk_deliveries"),
        ),
        comment="Read model: deliveries by the hour (UTC) they occurred in. reason: why unbilled, empty when billed.",
    )
    op.create_table(
        "histories",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fields", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "campaign_id", "version", name=op.f("pk_histories")),
        comment="Read model: what happened to each campaign.",
    )


def _spendings() -> None:
    """The read model of budgets."""
    op.create_table(
        "spendings",
        sa.Column("ledger_id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("advertiser_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("budget_micros", sa.BigInteger(), nullable=True),
        sa.Column("daily_budget_micros", sa.BigInteger(), nullable=True),
        sa.Column("impression_budget", sa.BigInteger(), nullable=True),
        sa.Column("daily_impression_budget", sa.BigInteger(), nullable=True),
        sa.Column("impressions", sa.BigInteger(), nullable=False),
        sa.Column("billed_impressions", sa.BigInteger(), nullable=False),
        sa.Column("views", sa.BigInteger(), nullable=False),
        sa.Column("clicks", sa.BigInteger(), nullable=False),
        sa.Column("billed_clicks", sa.BigInteger(), nullable=False),
        sa.Column("spent_micros", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("day_impressions", sa.BigInteger(), nullable=False),
        sa.Column("day_billed_impressions", sa.BigInteger(), nullable=False),
        sa.Column("day_clicks", sa.BigInteger(), nullable=False),
        sa.Column("day_billed_clicks", sa.BigInteger(), nullable=False),
        sa.Column("day_spent_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "campaign_id", name=op.f("pk_spendings")),
        comment="Read model: what each campaign may spend, has spent and has delivered, in all and on its current day.",
    )


def _protect() -> None:
    """Let the service append to the log, and nobody change it."""
    op.execute("""
        DO $$ BEGIN
            CREATE ROLE ledger_app NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
    """)
    op.execute("GRANT ledger_app TO CURRENT_USER")
    op.execute("GRANT USAGE ON SCHEMA public TO ledger_app")
    op.execute("GRANT SELECT, INSERT ON events, ledgers, idempotency_keys TO ledger_app")
    op.execute("GRANT SELECT, INSERT, UPDATE ON ledger_heads, budgets, checkpoints, users TO ledger_app")
    op.execute("""
        GRANT SELECT, INSERT, UPDATE, DELETE
        ON parked_events, refresh_tokens, login_attempts, workers, leases TO ledger_app
    """)
    op.execute("""
        GRANT SELECT, INSERT, UPDATE, DELETE
        ON advertisers, campaigns, creatives, slots, spendings, deliveries, histories TO ledger_app
    """)
    op.execute("GRANT SELECT ON alembic_version TO ledger_app")
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the log is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
                USING ERRCODE = 'insufficient_privilege';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE ON events
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """)
    op.execute("""
        CREATE TRIGGER events_never_truncated BEFORE TRUNCATE ON events
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """)

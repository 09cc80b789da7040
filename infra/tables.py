"""The tables of the log and of what surrounds it, as SQLAlchemy Core declares them; Alembic compares against these.

Every primary key begins with `ledger_id` and nothing joins across ledgers, so that the tables can be distributed by it.
Read models declare their own tables, beside their folds, in `projections`.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ledgers = Table(
    "ledgers",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("slug", Text, nullable=False, unique=True),
    Column("logo_url", Text),
    Column("logo_file", Text),
    Column("timezone", Text, nullable=False),
    Column("currency", Text),
    Column("second_factor_demanded", Boolean, nullable=False, server_default=false()),
    comment="One row a ledger: the unit of order, of proof and of scale; and the organisation that owns it.",
)

ledger_heads = Table(
    "ledger_heads",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("command_position", BigInteger, nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    comment="The end of each log; its row lock makes positions gapless. command_position: the last of a command.",
)

events = Table(
    "events",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("stream_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("entry", JSON, nullable=False),
    UniqueConstraint("ledger_id", "stream_id", "version"),
    Index(
        "ix_events_catalogue",
        "ledger_id",
        "position",
        postgresql_where=text(
            "stream_id !~~ 'decision-%' AND stream_id !~~ 'requests-%' AND stream_id !~~ 'conversion-%'"
            " AND stream_id !~~ 'access-%'"
        ),
    ),
    Index("ix_events_requests", "ledger_id", "position", postgresql_where=text("stream_id ~~ 'requests-%'")),
    Index(
        "ix_events_security",
        "ledger_id",
        "recorded_at",
        "position",
        postgresql_where=text("stream_id ~~ 'access-%' OR type = 'slot_key_issued' OR type = 'slot_key_revoked'"),
    ),
    comment="The log. `entry` is the exact JSON text that is hashed; the other columns repeat it for indexing.",
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("actor", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_sha256", LargeBinary, nullable=False),
    Column("answer", JSON, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    comment="The first answer, receipt or refusal, to each request that carried an Idempotency-Key.",
)

budgets = Table(
    "budgets",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("budget_id", Uuid, primary_key=True),
    Column("timezone", Text, nullable=False),
    Column("impression_micros", BigInteger, nullable=False),
    Column("click_micros", BigInteger, nullable=False),
    Column("budget_micros", BigInteger),
    Column("daily_budget_micros", BigInteger),
    Column("impression_budget", BigInteger),
    Column("daily_impression_budget", BigInteger),
    Column("spent_micros", BigInteger, nullable=False),
    Column("impressions", BigInteger, nullable=False),
    Column("day", Date, nullable=False),
    Column("day_spent_micros", BigInteger, nullable=False),
    Column("day_impressions", BigInteger, nullable=False),
    Column("leased_impressions", BigInteger, nullable=False),
    Column("leased_micros", BigInteger, nullable=False),
    Column("advertiser_id", Uuid),
    Column("currency", Text, nullable=False),
    Column("flat_micros", BigInteger, nullable=False),
    Index("ix_budgets_advertiser", "ledger_id", "advertiser_id"),
    comment="What each campaign, and each advertiser out of its funds, may spend and has spent; kept by the writer.",
)

viewings = Table(
    "viewings",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("subject", Uuid, primary_key=True),
    Column("viewer", Text, primary_key=True),
    Column("views", BigInteger, nullable=False),
    Column("times", ARRAY(BigInteger), nullable=False),
    Column("position", BigInteger, nullable=False),
    Index("ix_viewings_position", "ledger_id", "position"),
    comment="When (seconds since 1970) viewers, by pseudonym, saw what has a frequency cap; kept by the writer.",
)

workers = Table(
    "workers",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("worker", BigInteger, primary_key=True),
    Column("alive_until", DateTime(timezone=True), nullable=False),
    Column("silent_from", DateTime(timezone=True), nullable=False),
    comment="Processes that lease budget. Unheard of until silent_from, none can have a promise open.",
)

leases = Table(
    "leases",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("worker", BigInteger, primary_key=True),
    Column("campaign_id", Uuid, primary_key=True),
    Column("impressions", BigInteger, nullable=False),
    comment="Impressions that a worker may promise, or has promised and that are not yet confirmed.",
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("projection", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    comment="How far each projection has come; moved in the transaction that applies the batch.",
)

parked_events = Table(
    "parked_events",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("projection", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("error", Text, nullable=False),
    Column("parked_at", DateTime(timezone=True), nullable=False),
    comment="Events that a projection could not apply, and those of the same key after them.",
)

tiles = Table(
    "tiles",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("level", SmallInteger, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("hashes", LargeBinary, nullable=False),
    comment="The Merkle tree over the log: up to 256 hashes a row, which only grow.",
)

log_checkpoints = Table(
    "log_checkpoints",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("size", BigInteger, primary_key=True),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    Column("signed_at", DateTime(timezone=True), nullable=False),
    comment="Every tree that was ever signed, with the signed note.",
)

log_keys = Table(
    "log_keys",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("verifier_key", Text, primary_key=True),
    Column("first_used_at", DateTime(timezone=True), nullable=False),
    comment="The public keys of the log, as verifier keys of signed notes; the private ones are never in the database.",
)

log_cosigned = Table(
    "log_cosigned",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("size", BigInteger, primary_key=True),
    Column("note", Text, nullable=False),
    comment="Checkpoints that as many witnesses have cosigned as the policy asks for, with their cosignatures.",
)

subject_keys = Table(
    "subject_keys",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("subject", Uuid, primary_key=True),
    Column("key_id", Uuid, primary_key=True),
    Column("wrapped", LargeBinary),
    Column("master", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("erased_at", DateTime(timezone=True)),
    Index("ix_subject_keys_master", "master"),
    comment="The keys of personal data in the log, wrapped by the named master key; NULL once they were destroyed.",
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("user_id", Uuid, primary_key=True),
    Column("family_id", Uuid, primary_key=True),
    Column("token_sha256", LargeBinary, primary_key=True, unique=True),
    Column("issued_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("used_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("address", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Index("ix_refresh_tokens_person", "user_id", "family_id"),
    Index("ix_refresh_tokens_revoked", "revoked_at"),
    comment="Rotating refresh tokens, by hash; one family a sign-in. Using one twice revokes its family.",
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("key_sha256", LargeBinary, nullable=False, unique=True),
    Column("created_by", Uuid, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
    Column("advertiser_ids", ARRAY(Uuid), nullable=False),
    Column("scopes", ARRAY(Text)),
    comment="Keys of programs that do what people do, by hash; a revoked one is gone.",
)

second_factors = Table(
    "second_factors",
    metadata,
    Column("ledger_id", Uuid, nullable=False),
    Column("user_id", Uuid, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("confirmed", Boolean, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("recovery_sha256", ARRAY(LargeBinary), nullable=False),
    comment="Secrets of one-time passwords, encrypted under their owner's key in that ledger; recovery codes by hash.",
)

login_attempts = Table(
    "login_attempts",
    metadata,
    Column("subject_hash", LargeBinary, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("window_started_at", DateTime(timezone=True), nullable=False),
    comment="Sign-ins in the current window that did not succeed, by keyed hash of the account and of the address.",
)

spent_codes = Table(
    "spent_codes",
    metadata,
    Column("code_sha256", LargeBinary, primary_key=True),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    comment="What is good once when people sign in through a provider and was used, by hash, until it has expired.",
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("url", Text, nullable=False),
    Column("event_types", ARRAY(Text), nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("created_by", Text, nullable=False),
    Column("delivered_at", DateTime(timezone=True)),
    Column("error", Text, nullable=False),
    comment="URLs that are told of events, with the secrets that sign what they are told, encrypted.",
)

mail_choices = Table(
    "mail_choices",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("user_id", Uuid, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("wanted", Boolean, nullable=False),
    comment="Which mail people want or do not want, where it is not what people of their role get.",
)

subscribers = Table(
    "subscribers",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("subscriber", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    comment="How far the log was read for what is to be sent: to each webhook, and as mail.",
)

outbox = Table(
    "outbox",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("subscriber", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("stream", Text, nullable=False),
    Column("content", JSON),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("sent_at", DateTime(timezone=True)),
    Column("parked_at", DateTime(timezone=True)),
    Column("error", Text, nullable=False),
    Index(
        "ix_outbox_waiting",
        "ledger_id",
        "subscriber",
        "stream",
        "position",
        postgresql_where=text("sent_at IS NULL"),
    ),
    comment="What is to be sent, put here in the transaction that moves the position; one row a reason.",
)

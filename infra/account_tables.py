"""The tables of people, of where they are members, and of what is mailed to them about their accounts."""

from sqlalchemy import DDL, Boolean, Column, DateTime, Index, Table, Text, UniqueConstraint, Uuid, event
from sqlalchemy.dialects.postgresql import ARRAY

from infra.tables import metadata

people = Table(
    "people",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("email", Text, nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("name", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("email_verified", Boolean, nullable=False),
    comment="Identity is not in the log, which refers to people by id. E-mail addresses are kept in lower case.",
)

members = Table(
    "members",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("user_id", Uuid, primary_key=True),
    Column("role", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("joined_at", DateTime(timezone=True), nullable=False),
    Column("changed_at", DateTime(timezone=True)),
    Column("advertiser_ids", ARRAY(Uuid), nullable=False),
    Index("ix_members_person", "user_id"),
    Index("ix_members_changed", "changed_at"),
    comment="Who belongs to which organisations, and what they may do there; operators belong to the id of zeros.",
)

event.listen(
    metadata,
    "after_create",
    DDL(  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
        """
        CREATE VIEW users WITH (security_invoker) AS
        SELECT
            ledger_id, id, email, password_hash, role, active, created_at, name, timezone, joined_at, changed_at,
            advertiser_ids, email_verified
        FROM members JOIN people ON people.id = members.user_id
        """
    ),
)
"""People as the members of their organisations, which is how they are mostly read."""

account_tokens = Table(
    "account_tokens",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Index("ix_account_tokens_user", "user_id"),
    comment="What was mailed to people and is good once, by id: what proves it is in the letter alone. Used: gone.",
)

provider_links = Table(
    "provider_links",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("linked_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("issuer", "subject"),
    UniqueConstraint("user_id", "issuer"),
    comment="Whom people are at providers of OpenID Connect, by issuer and sub; each once, and one of each issuer.",
)

invitations = Table(
    "invitations",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("email", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("advertiser_ids", ARRAY(Uuid), nullable=False),
    Column("token_id", Uuid, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("sent_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("accepted_at", DateTime(timezone=True)),
    Column("accepted_by", Uuid),
    Column("withdrawn_at", DateTime(timezone=True)),
    UniqueConstraint("ledger_id", "token_id"),
    comment="Who was asked to join, by e-mail, and what came of it; of the token that was mailed, only its id.",
)

"""The tables of what is mailed to people about their accounts: tokens, and invitations to have one."""

from sqlalchemy import Column, DateTime, Index, Table, Text, UniqueConstraint, Uuid
from sqlalchemy.dialects.postgresql import ARRAY

from infra.tables import metadata

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
    Index("ix_account_tokens_user", "ledger_id", "user_id"),
    comment="What was mailed to people and is good once, by id: what proves it is in the letter alone. Used: gone.",
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

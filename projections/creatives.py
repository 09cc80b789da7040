"""The read model of creatives: row, fold and queries."""

from datetime import datetime
from typing import Final, assert_never
from uuid import UUID

from msgspec import structs
from sqlalchemy import BigInteger, Column, Date, DateTime, Index, Integer, Table, Text, Uuid, column, select, table
from sqlalchemy.dialects.postgresql import JSONB

from domain.creative import CreativeStatus, Review
from domain.decider import begun, named_fields
from domain.events import (
    CreativeActivated,
    CreativeApproved,
    CreativeArchived,
    CreativeChanged,
    CreativeCreated,
    CreativeDenied,
    CreativeEvent,
    CreativePaused,
    CreativeSubmitted,
)
from domain.terms import CreativeTerms
from infra.event_log import Recorded
from infra.tables import metadata
from projections.rows import ReadModel, stamp, subject_of
from projections.runner import Projection

creatives = Table(
    "creatives",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("status", Text, nullable=False),
    Column("review", Text, nullable=False),
    Column("denial_reason", Text),
    Column("campaign_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("ad_type", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("media_url", Text),
    Column("media_content", Text),
    Column("width", Integer),
    Column("height", Integer),
    Column("duration_seconds", Integer),
    Column("alt_text", Text, nullable=False),
    Column("click_url", Text, nullable=False),
    Column("start_date", Date),
    Column("end_date", Date),
    Column("expiry_date", Date),
    Column("impression_duration", JSONB),
    Column("in_view_duration", JSONB),
    Column("time_slots", JSONB, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("max_views", BigInteger),
    Column("content_rating", JSONB, nullable=False),
    Column("mime_type", Text),
    Column("bit_rate_kbps", Integer),
    Column("media_file", Text),
    comment="Read model: creatives as they stand.",
)
Index("ix_creatives_created", creatives.c.ledger_id, creatives.c.created_at, creatives.c.id)
Index("ix_creatives_campaign", creatives.c.ledger_id, creatives.c.campaign_id)


class CreativeRow(CreativeTerms, frozen=True, kw_only=True):
    """A creative as it stands, its status and review, and since when."""

    id: UUID
    version: int
    position: int
    created_at: datetime
    updated_at: datetime
    status: CreativeStatus = "draft"
    review: Review = "unsubmitted"
    denial_reason: str | None = None


def fold(row: CreativeRow | None, recorded: Recorded) -> CreativeRow:
    """Return the row after an entry."""
    entry = recorded.entry
    event: CreativeEvent = entry.event  # type: ignore[assignment]  # the runner hands over what is handled
    match event:
        case CreativeCreated():
            return CreativeRow(
                id=subject_of(recorded), created_at=entry.recorded_at, **stamp(recorded), **structs.asdict(event)
            )
        case CreativeChanged():
            return structs.replace(begun(row), **stamp(recorded), **named_fields(event))
        case CreativeSubmitted():
            return structs.replace(begun(row), **stamp(recorded), review="pending", denial_reason=None)
        case CreativeApproved():
            return structs.replace(begun(row), **stamp(recorded), review="approved", denial_reason=None)
        case CreativeDenied():
            return structs.replace(begun(row), **stamp(recorded), review="denied", denial_reason=event.reason)
        case CreativeActivated():
            return structs.replace(begun(row), **stamp(recorded), status="active")
        case CreativePaused():
            return structs.replace(begun(row), **stamp(recorded), status="paused")
        case CreativeArchived():
            return structs.replace(begun(row), **stamp(recorded), status="inactive")
        case _:
            assert_never(event)


_campaigns: Final = table("campaigns", column("ledger_id", Uuid), column("id", Uuid), column("advertiser_id", Uuid))
"""A campaign never changes hands, so it tells whose its creatives are as of any moment."""

READ_MODEL: Final = ReadModel(
    "creative",
    "creatives",
    creatives,
    CreativeRow,
    fold,
    sortable=("created_at", "updated_at", "name", "status", "review", "weight"),
    advertiser=select(_campaigns.c.advertiser_id)
    .where(_campaigns.c.ledger_id == creatives.c.ledger_id, _campaigns.c.id == creatives.c.campaign_id)
    .scalar_subquery(),
)

PROJECTION: Final = Projection(
    name=READ_MODEL.projection,
    version=1,
    handles=(
        CreativeCreated,
        CreativeChanged,
        CreativeSubmitted,
        CreativeApproved,
        CreativeDenied,
        CreativeActivated,
        CreativePaused,
        CreativeArchived,
    ),
    key=lambda recorded: recorded.entry.stream,
    write=READ_MODEL.write,
    table=creatives,
)

"""The read model of campaigns: row, fold and queries."""

from datetime import date, datetime
from typing import Final, assert_never, get_args
from uuid import UUID

from msgspec import Struct, structs
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    Uuid,
    and_,
    null,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from domain.campaign import BUDGETED, CLOCK, ENTERS, Draft
from domain.decider import begun, copied, named_fields
from domain.events import (
    BudgetAsked,
    BudgetConfirmed,
    BudgetRefused,
    BudgetRequested,
    CampaignActivated,
    CampaignArchived,
    CampaignChanged,
    CampaignCompleted,
    CampaignCreated,
    CampaignEvent,
    CampaignExpired,
    CampaignPaused,
)
from domain.terms import BudgetRequest, CampaignTerms
from infra.composed import fetch
from infra.database import Connection
from infra.event_log import Recorded
from infra.tables import metadata
from projections.listing import Listing, Page, read_page
from projections.rows import ReadModel, stamp, subject_of
from projections.runner import Projection

campaigns = Table(
    "campaigns",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("status", Text, nullable=False),
    Column("advertiser_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("start_date", Date, nullable=False),
    Column("end_date", Date),
    Column("expiry_date", Date),
    Column("timezone", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("pricing", JSONB, nullable=False),
    Column("currency", Text, nullable=False),
    Column("budget_micros", BigInteger),
    Column("daily_budget_micros", BigInteger),
    Column("impression_budget", BigInteger),
    Column("daily_impression_budget", BigInteger),
    Column("pacing", Text, nullable=False),
    Column("max_view_count", BigInteger),
    Column("max_view_duration", JSONB),
    Column("targeting", JSONB, nullable=False),
    Column("keywords", JSONB, nullable=False),
    Column("categories", JSONB, nullable=False),
    Column("blocked_categories", JSONB, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("rotation", Text, nullable=False),
    Column("competitive_exclusion", JSONB, nullable=False),
    Column("roadblock", Boolean, nullable=False),
    Column("house", Boolean, nullable=False),
    Column("excluded_targeting", JSONB, nullable=False),
    Column("page_categories", JSONB, nullable=False),
    Column("languages", JSONB, nullable=False),
    Column("device_types", JSONB, nullable=False),
    Column("domains", JSONB, nullable=False),
    Column("excluded_domains", JSONB, nullable=False),
    Column("time_slots", JSONB, nullable=False),
    Column("weekdays", JSONB, nullable=False),
    Column("key_values", JSONB, nullable=False),
    Column("time_basis", Text, nullable=False),
    Column("budget_request", JSONB),
    comment="Read model: campaigns as they stand.",
)
Index("ix_campaigns_created", campaigns.c.ledger_id, campaigns.c.created_at, campaigns.c.id)
Index("ix_campaigns_asked", campaigns.c.ledger_id, postgresql_where=campaigns.c.budget_request.is_not(null()))
Index("ix_campaigns_advertiser", campaigns.c.ledger_id, campaigns.c.advertiser_id)


class CampaignRow(CampaignTerms, frozen=True, kw_only=True):
    """A campaign as it stands, its status, and since when.

    `budget_request` is a budget that has no effect yet, because a second person has to confirm it.
    """

    id: UUID
    version: int
    position: int
    created_at: datetime
    updated_at: datetime
    status: str
    budget_request: BudgetRequest | None = None


def fold(row: CampaignRow | None, recorded: Recorded) -> CampaignRow:
    """Return the row after an entry."""
    entry = recorded.entry
    event: CampaignEvent = entry.event  # type: ignore[assignment]  # the runner hands over what is handled
    match event:
        case CampaignCreated():
            return CampaignRow(
                id=subject_of(recorded),
                created_at=entry.recorded_at,
                status=str(Draft.__struct_config__.tag),
                **stamp(recorded),
                **structs.asdict(event),
            )
        case CampaignChanged():
            waits = begun(row).budget_request if BUDGETED.isdisjoint(named_fields(event)) else None
            return structs.replace(begun(row), **stamp(recorded), **named_fields(event), budget_request=waits)
        case BudgetRequested():
            return structs.replace(begun(row), **stamp(recorded), budget_request=copied(BudgetRequest, event))
        case BudgetConfirmed() | BudgetRefused():
            return structs.replace(begun(row), **stamp(recorded), budget_request=None)
        case CampaignActivated() | CampaignPaused() | CampaignCompleted() | CampaignExpired() | CampaignArchived():
            return structs.replace(begun(row), **stamp(recorded), status=str(ENTERS[type(event)].__struct_config__.tag))
        case _:
            assert_never(event)


async def awaiting(connection: Connection, ledger_id: UUID, listing: Listing) -> Page[CampaignRow]:
    """Return a page of the campaigns with a budget that waits for a second person."""
    conditions = [campaigns.c.budget_request.is_not(null())]
    return await read_page(
        connection, campaigns, CampaignRow, ledger_id, listing, conditions=conditions, sortable=READ_MODEL.sortable
    )


async def ending(connection: Connection, ledger_id: UUID, day: date) -> list[UUID]:
    """Return the campaigns that the clock may have to do with: their date lies before a day, in whatever time zone."""
    due = (
        and_(campaigns.c[field] < day, campaigns.c.status.in_([str(phase.__struct_config__.tag) for phase in phases]))
        for field, phases, _ in CLOCK
    )
    statement = select(campaigns.c.id).where(campaigns.c.ledger_id == ledger_id, or_(*due))
    return [row.id for row in await fetch(connection, statement, _Id)]


class _Id(Struct, frozen=True, kw_only=True):
    id: UUID


READ_MODEL: Final = ReadModel(
    "campaign",
    "campaigns",
    campaigns,
    CampaignRow,
    fold,
    sortable=("created_at", "updated_at", "name", "status", "start_date", "priority"),
    advertiser=campaigns.c.advertiser_id,
)

PROJECTION: Final = Projection(
    name=READ_MODEL.projection,
    version=1,
    handles=(
        CampaignCreated,
        CampaignChanged,
        CampaignActivated,
        CampaignPaused,
        CampaignCompleted,
        CampaignExpired,
        CampaignArchived,
        *get_args(BudgetAsked),
    ),
    key=lambda recorded: recorded.entry.stream,
    write=READ_MODEL.write,
    table=campaigns,
)

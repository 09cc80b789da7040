"""The read model of budgets: what each campaign may spend, has spent and has delivered."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Final
from uuid import UUID

from msgspec import Struct, structs
from sqlalchemy import BigInteger, Column, Date, DateTime, Table, Text, Uuid

from domain.campaign import CAMPAIGN
from domain.decider import begun, named_fields, stream_of
from domain.events import (
    CampaignChanged,
    CampaignCreated,
    ClickRecorded,
    DeliveryRecorded,
    ImpressionRecorded,
    ViewRecorded,
)
from domain.values import local_date
from infra.database import Connection
from infra.event_log import Recorded
from infra.tables import metadata
from projections.rows import ReadModel, load, subject_of, upsert
from projections.runner import Projection

spendings = Table(
    "spendings",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("campaign_id", Uuid, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("advertiser_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("budget_micros", BigInteger),
    Column("daily_budget_micros", BigInteger),
    Column("impression_budget", BigInteger),
    Column("daily_impression_budget", BigInteger),
    Column("impressions", BigInteger, nullable=False),
    Column("billed_impressions", BigInteger, nullable=False),
    Column("views", BigInteger, nullable=False),
    Column("clicks", BigInteger, nullable=False),
    Column("billed_clicks", BigInteger, nullable=False),
    Column("spent_micros", BigInteger, nullable=False),
    Column("day", Date, nullable=False),
    Column("day_impressions", BigInteger, nullable=False),
    Column("day_billed_impressions", BigInteger, nullable=False),
    Column("day_clicks", BigInteger, nullable=False),
    Column("day_billed_clicks", BigInteger, nullable=False),
    Column("day_spent_micros", BigInteger, nullable=False),
    comment="Read model: what each campaign may spend, has spent and has delivered, in all and on its current day.",
)


class SpendingRow(Struct, frozen=True, kw_only=True):
    """A campaign's limits, money and counts; `day` is the last day, in its time zone, on which something arrived."""

    campaign_id: UUID
    position: int
    created_at: datetime
    advertiser_id: UUID
    name: str
    timezone: str
    currency: str
    budget_micros: int | None = None
    daily_budget_micros: int | None = None
    impression_budget: int | None = None
    daily_impression_budget: int | None = None
    impressions: int = 0
    billed_impressions: int = 0
    views: int = 0
    clicks: int = 0
    billed_clicks: int = 0
    spent_micros: int = 0
    day: date = date.min
    day_impressions: int = 0
    day_billed_impressions: int = 0
    day_clicks: int = 0
    day_billed_clicks: int = 0
    day_spent_micros: int = 0


class Today(Struct, frozen=True, kw_only=True):
    """What a campaign delivered on the current day of its time zone, and what is left of that day's limits."""

    date: date
    impressions: int
    billed_impressions: int
    clicks: int
    billed_clicks: int
    spent_micros: int
    remaining_micros: int | None
    remaining_impressions: int | None


class BudgetReport(Struct, frozen=True, kw_only=True):
    """A campaign's money: spent, and remaining (null: no limit).

    `leased` impressions are set aside for workers to promise; `held` of them the answering worker has promised. As of a
    moment both are null, for the log does not say.
    """

    campaign_id: UUID
    advertiser_id: UUID
    name: str
    currency: str
    budget_micros: int | None
    daily_budget_micros: int | None
    impression_budget: int | None
    daily_impression_budget: int | None
    impressions: int
    billed_impressions: int
    views: int
    clicks: int
    billed_clicks: int
    spent_micros: int
    held: int | None
    leased: int | None
    remaining_micros: int | None
    remaining_impressions: int | None
    today: Today


_LIMITS: Final = (
    "name",
    "timezone",
    "currency",
    "budget_micros",
    "daily_budget_micros",
    "impression_budget",
    "daily_impression_budget",
)
_NEW_DAY: Final = {
    "day_impressions": 0,
    "day_billed_impressions": 0,
    "day_clicks": 0,
    "day_billed_clicks": 0,
    "day_spent_micros": 0,
}


def campaign_of(recorded: Recorded) -> UUID:
    """Return the campaign that an entry is about."""
    event = recorded.entry.event
    return event.campaign_id if isinstance(event, DeliveryRecorded) else subject_of(recorded)


def fold(row: SpendingRow | None, recorded: Recorded) -> SpendingRow:
    """Return the row after an entry."""
    event = recorded.entry.event
    if isinstance(event, CampaignCreated):
        return SpendingRow(
            campaign_id=subject_of(recorded),
            position=recorded.position,
            created_at=recorded.entry.recorded_at,
            advertiser_id=event.advertiser_id,
            **{name: getattr(event, name) for name in _LIMITS},
        )
    if isinstance(event, CampaignChanged):
        limits = {name: value for name, value in named_fields(event).items() if name in _LIMITS}
        return structs.replace(begun(row), position=recorded.position, **limits)
    assert isinstance(event, DeliveryRecorded)  # noqa: S101  the runner hands over what is handled
    return _delivered(_on_day(begun(row), recorded.entry.recorded_at), event, recorded.position)


def _on_day(row: SpendingRow, recorded_at: datetime) -> SpendingRow:
    day = local_date(recorded_at, row.timezone)
    return row if day <= row.day else structs.replace(row, day=day, **_NEW_DAY)


def _delivered(row: SpendingRow, event: DeliveryRecorded, position: int) -> SpendingRow:
    impression, click = isinstance(event, ImpressionRecorded), isinstance(event, ClickRecorded)
    spent = event.price_micros if event.billed else 0
    return structs.replace(
        row,
        position=position,
        impressions=row.impressions + impression,
        billed_impressions=row.billed_impressions + (impression and event.billed),
        views=row.views + isinstance(event, ViewRecorded),
        clicks=row.clicks + click,
        billed_clicks=row.billed_clicks + (click and event.billed),
        spent_micros=row.spent_micros + spent,
        day_impressions=row.day_impressions + impression,
        day_billed_impressions=row.day_billed_impressions + (impression and event.billed),
        day_clicks=row.day_clicks + click,
        day_billed_clicks=row.day_billed_clicks + (click and event.billed),
        day_spent_micros=row.day_spent_micros + spent,
    )


async def write(connection: Connection, ledger_id: UUID, batch: Sequence[Recorded]) -> None:
    """Fold a batch into the table."""
    rows = await load(connection, spendings, SpendingRow, ledger_id, {campaign_of(recorded) for recorded in batch})
    for recorded in batch:
        campaign_id = campaign_of(recorded)
        rows[campaign_id] = fold(rows.get(campaign_id), recorded)
    await upsert(connection, spendings, ledger_id, list(rows.values()))


def report(row: SpendingRow, *, now: datetime, held: int | None = None, leased: int | None = None) -> BudgetReport:
    """Return a campaign's money as of now, with the impressions set aside for workers and those one has promised."""
    day = local_date(now, row.timezone)
    current = _on_day(row, now)
    return BudgetReport(
        **{
            name: getattr(row, name) for name in BudgetReport.__struct_fields__ if name in SpendingRow.__struct_fields__
        },
        held=held,
        leased=leased,
        remaining_micros=_remaining(row.budget_micros, row.spent_micros),
        remaining_impressions=_remaining(row.impression_budget, row.billed_impressions),
        today=Today(
            date=max(day, current.day),
            impressions=current.day_impressions,
            billed_impressions=current.day_billed_impressions,
            clicks=current.day_clicks,
            billed_clicks=current.day_billed_clicks,
            spent_micros=current.day_spent_micros,
            remaining_micros=_remaining(row.daily_budget_micros, current.day_spent_micros),
            remaining_impressions=_remaining(row.daily_impression_budget, current.day_billed_impressions),
        ),
    )


def _remaining(limit: int | None, used: int) -> int | None:
    return None if limit is None else max(0, limit - used)


READ_MODEL: Final = ReadModel(
    "campaign", "budgets", spendings, SpendingRow, fold, sortable=("created_at", "name", "spent_micros", "impressions")
)

PROJECTION: Final = Projection(
    name=READ_MODEL.projection,
    version=1,
    handles=(CampaignCreated, CampaignChanged, ImpressionRecorded, ViewRecorded, ClickRecorded),
    key=lambda recorded: stream_of(CAMPAIGN.thing, campaign_of(recorded)),
    write=write,
    table=spendings,
    catalogue_only=False,
)

"""The read model of budgets: what each campaign may spend, has spent and has delivered."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct, structs
from sqlalchemy import BigInteger, Column, Date, DateTime, Table, Text, Uuid

from domain.campaign import CAMPAIGN
from domain.decider import begun, named_fields
from domain.events import CampaignChanged, CampaignCreated
from domain.values import local_date
from infra.database import Connection
from infra.event_log import CATALOGUE, Recorded, decode_entry
from infra.tables import metadata
from projections.counting import DELIVERIES, VALID, Counting, Cut, Span, conditions, counted, parameters, row_of
from projections.rows import ReadModel, load, subject_of, upsert

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


class Spent(Struct, frozen=True, kw_only=True):
    """What a campaign's deliveries of one quarter of an hour come to; of the last: its position, and when it came.

    Of those that are invalid no more is told.
    """

    campaign_id: UUID
    position: int
    recorded_at: datetime
    impressions: int
    billed_impressions: int
    views: int
    clicks: int
    billed_clicks: int
    spent_micros: int


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


KEY: Final = f"""
    CASE WHEN (stream_id LIKE 'decision-%%' OR stream_id LIKE 'conversion-%%')
        AND entry #>> '{{event,campaign_id}}' IS NOT NULL
    THEN '{CAMPAIGN.thing}-' || (entry #>> '{{event,campaign_id}}') ELSE stream_id END
"""

_COMMANDS: Final = f"""
    SELECT position, entry::text AS entry FROM events
    WHERE ledger_id = %(ledger_id)s AND position > %(after)s AND position <= %(until)s
        AND {CATALOGUE} AND type IN ('campaign_created', 'campaign_changed') {{}}
    ORDER BY position
"""

_CUT: Final = Cut(
    '"creative_id":',
    '"price_micros":',
    """before LIKE '%%"type":%%' AND before LIKE '%%"campaign_id":%%' AND rest LIKE '%%"billed":%%"reason":%%'""",
)
# In every time zone a day begins at a full quarter of an hour of UTC; a campaign may move from one zone to another.
_TEXT_BY: Final = (
    "width_bucket(position, %(commands)s::bigint[]) AS commands",
    "date_bin('15 minutes', recorded_at, '2000-01-01T00:00Z') AS quarter",
)
_BY: Final = """
    campaign_id, commands, quarter, max(grouped.position) AS position, max(grouped.recorded_at) AS recorded_at
"""

_decode: Final = msgspec.json.Decoder(list[Spent]).decode

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


def fold(row: SpendingRow | None, said: Recorded | Spent) -> SpendingRow:
    """Return the row after a command's entry, or after deliveries."""
    if isinstance(said, Spent):
        return _spent(_on_day(begun(row), said.recorded_at), said)
    event = said.entry.event
    if isinstance(event, CampaignCreated):
        return SpendingRow(
            campaign_id=subject_of(said),
            position=said.position,
            created_at=said.entry.recorded_at,
            advertiser_id=event.advertiser_id,
            **{name: getattr(event, name) for name in _LIMITS},
        )
    assert isinstance(event, CampaignChanged)  # noqa: S101  no other entries are read
    limits = {name: value for name, value in named_fields(event).items() if name in _LIMITS}
    return structs.replace(begun(row), position=said.position, **limits)


def _on_day(row: SpendingRow, recorded_at: datetime) -> SpendingRow:
    day = local_date(recorded_at, row.timezone)
    return row if day <= row.day else structs.replace(row, day=day, **_NEW_DAY)


def _spent(row: SpendingRow, counts: Spent) -> SpendingRow:
    return structs.replace(
        row,
        position=counts.position,
        impressions=row.impressions + counts.impressions,
        billed_impressions=row.billed_impressions + counts.billed_impressions,
        views=row.views + counts.views,
        clicks=row.clicks + counts.clicks,
        billed_clicks=row.billed_clicks + counts.billed_clicks,
        spent_micros=row.spent_micros + counts.spent_micros,
        day_impressions=row.day_impressions + counts.impressions,
        day_billed_impressions=row.day_billed_impressions + counts.billed_impressions,
        day_clicks=row.day_clicks + counts.clicks,
        day_billed_clicks=row.day_billed_clicks + counts.billed_clicks,
        day_spent_micros=row.day_spent_micros + counts.spent_micros,
    )


async def tally(connection: Connection, span: Span) -> list[Recorded | Spent]:
    """Return what commands say of budgets in a range, and what is spent between them, in the order of positions."""
    said: list[Recorded | Spent] = [
        Recorded(position=row["position"], entry=decode_entry(row["entry"]))
        for row in await (
            await connection.execute(_COMMANDS.format(conditions(span, KEY)).encode(), parameters(span))
        ).fetchall()
    ]
    fields = "campaign_id uuid, reason text"
    lines = counted(span, KEY, cut=_CUT, text_by=_TEXT_BY, fields=fields, by=_BY, columns=3, counts=VALID)
    statement = f"SELECT coalesce(json_agg(lines), '[]')::text AS spent FROM ({lines}) AS lines"
    row = await row_of(connection, statement, {**parameters(span), "commands": [each.position for each in said]})
    return sorted([*said, *_decode(row["spent"])], key=lambda each: each.position)


async def add(connection: Connection, ledger_id: UUID, said: Sequence[Recorded | Spent]) -> None:
    """Fold what a range says into the table."""
    rows = await load(connection, spendings, SpendingRow, ledger_id, {_campaign_of(each) for each in said})
    for each in said:
        campaign_id = _campaign_of(each)
        rows[campaign_id] = fold(rows.get(campaign_id), each)
    await upsert(connection, spendings, ledger_id, list(rows.values()))


def _campaign_of(said: Recorded | Spent) -> UUID:
    return said.campaign_id if isinstance(said, Spent) else subject_of(said)


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
    "campaign",
    "budgets",
    spendings,
    SpendingRow,
    fold,
    sortable=("created_at", "name", "spent_micros", "impressions"),
    advertiser=spendings.c.advertiser_id,
)

PROJECTION: Final = Counting(
    name=READ_MODEL.projection,
    version=1,
    handles=(CampaignCreated, CampaignChanged, *DELIVERIES),
    table=spendings,
    key=KEY,
    tally=tally,
    add=add,
)

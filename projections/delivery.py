"""The read model of delivery: what was shown, seen and clicked, by hour, creative, slot and place."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

from msgspec import Struct
from sqlalchemy import BigInteger, Column, DateTime, Double, Select, Table, Text, Uuid, cast, func, select
from sqlalchemy.sql.elements import ColumnElement, Label

from domain.events import ClickRecorded, DeliveryRecorded, ImpressionRecorded, ViewRecorded
from infra.database import Connection, fetch
from infra.event_log import Recorded
from infra.tables import metadata
from projections.rows import add
from projections.runner import Projection

BILLED: Final = ""
"""What stands in the place of a reason when a delivery was billed."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("hour", DateTime(timezone=True), primary_key=True),
    Column("campaign_id", Uuid, primary_key=True),
    Column("creative_id", Uuid, primary_key=True),
    Column("advertiser_id", Uuid, primary_key=True),
    Column("slot_id", Uuid, primary_key=True),
    Column("country", Text, primary_key=True),
    Column("region", Text, primary_key=True),
    Column("city", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("impressions", BigInteger, nullable=False),
    Column("views", BigInteger, nullable=False),
    Column("clicks", BigInteger, nullable=False),
    Column("spent_micros", BigInteger, nullable=False),
    comment="Read model: deliveries by the hour (UTC) they occurred in. reason: why unbilled, empty when billed.",
)

Dimension = Literal["hour", "day", "campaign", "creative", "advertiser", "slot", "country", "region", "city"]


class DeliveryRow(Struct, frozen=True, kw_only=True):
    """The deliveries of one hour that have everything else in common."""

    hour: datetime
    campaign_id: UUID
    creative_id: UUID
    advertiser_id: UUID
    slot_id: UUID
    country: str
    region: str
    city: str
    currency: str
    reason: str
    impressions: int
    views: int
    clicks: int
    spent_micros: int


class DeliveryReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the report: the dimensions that were asked for, and counts and money of what they have in common."""

    hour: datetime | None = None
    day: datetime | None = None
    campaign_id: UUID | None = None
    creative_id: UUID | None = None
    advertiser_id: UUID | None = None
    slot_id: UUID | None = None
    country: str | None = None
    region: str | None = None
    city: str | None = None
    currency: str
    impressions: int
    billed_impressions: int
    unbilled: dict[str, int]
    views: int
    clicks: int
    billed_clicks: int
    ctr: float
    spent_micros: int


async def write(connection: Connection, ledger_id: UUID, batch: Sequence[Recorded]) -> None:
    """Add a batch to the table."""
    await add(
        connection,
        deliveries,
        ledger_id,
        fold(batch),
        counters=("impressions", "views", "clicks", "spent_micros"),
    )


# The same as `fold` and `write` of a batch, where the entries are: five times as fast, for making the table anew.
_WRITE_RANGE: Final = """
    INSERT INTO deliveries
    SELECT %(ledger_id)s, date_trunc('hour', recorded.occurred_at),
        campaign_id, creative_id, advertiser_id, slot_id,
        coalesce(country, ''), coalesce(region, ''), coalesce(city, ''), currency, coalesce(reason, ''),
        count(*) FILTER (WHERE events.type = 'impression_recorded'),
        count(*) FILTER (WHERE events.type = 'view_recorded'),
        count(*) FILTER (WHERE events.type = 'click_recorded'),
        coalesce(sum(price_micros) FILTER (WHERE billed), 0)
    FROM events,
        json_to_record(entry) AS recorded (occurred_at timestamptz, event json),
        json_to_record(recorded.event) AS event (
            campaign_id uuid, creative_id uuid, advertiser_id uuid, slot_id uuid, country text, region text, city text,
            currency text, reason text, price_micros bigint, billed boolean
        )
    WHERE ledger_id = %(ledger_id)s AND position > %(after)s AND position <= %(until)s
        AND events.type IN ('impression_recorded', 'view_recorded', 'click_recorded')
    GROUP BY 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
    ON CONFLICT (
        ledger_id, hour, campaign_id, creative_id, advertiser_id, slot_id, country, region, city, currency, reason
    ) DO UPDATE SET
        impressions = deliveries.impressions + EXCLUDED.impressions,
        views = deliveries.views + EXCLUDED.views,
        clicks = deliveries.clicks + EXCLUDED.clicks,
        spent_micros = deliveries.spent_micros + EXCLUDED.spent_micros
"""


async def write_range(connection: Connection, ledger_id: UUID, after: int, until: int) -> None:
    """Add the entries after one position, up to another, to the table; psycopg.DataError when one is malformed."""
    await connection.execute(_WRITE_RANGE, {"ledger_id": ledger_id, "after": after, "until": until})


def fold(batch: Sequence[Recorded]) -> list[DeliveryRow]:
    """Return what a batch adds, one row for all that has everything in common."""
    counts: dict[tuple[object, ...], list[int]] = {}
    for recorded in batch:
        event = recorded.entry.event
        assert isinstance(event, DeliveryRecorded)  # noqa: S101  the runner hands over what is handled
        key = (
            recorded.entry.occurred_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0),
            event.campaign_id,
            event.creative_id,
            event.advertiser_id,
            event.slot_id,
            event.country or "",
            event.region or "",
            event.city or "",
            event.currency,
            event.reason or BILLED,
        )
        count = counts.setdefault(key, [0, 0, 0, 0])
        match event:
            case ImpressionRecorded():
                count[0] += 1
            case ViewRecorded():
                count[1] += 1
            case ClickRecorded():
                count[2] += 1
        count[3] += event.price_micros if event.billed else 0
    return [_row((*key, *count)) for key, count in counts.items()]


def _row(values: tuple[Any, ...]) -> DeliveryRow:
    return DeliveryRow(**dict(zip(DeliveryRow.__struct_fields__, values, strict=True)))


class DeliveryQuery(Struct, frozen=True, kw_only=True):
    """Which deliveries a report is about, and what its lines are grouped by."""

    group_by: tuple[Dimension, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    campaign_id: UUID | None = None
    creative_id: UUID | None = None
    advertiser_id: UUID | None = None
    slot_id: UUID | None = None


async def read_report(
    connection: Connection, ledger_id: UUID, query: DeliveryQuery, *, limit: int, offset: int
) -> list[DeliveryReport]:
    """Return the lines of a report, in the order of what they are grouped by; money of one currency each."""
    return await fetch(connection, compose(ledger_id, query).limit(limit).offset(offset), DeliveryReport)


def compose(ledger_id: UUID, query: DeliveryQuery) -> Select[tuple[object, ...]]:
    """Return the statement of a report: sums by reason inside, the reasons gathered outside."""
    table = deliveries
    dimensions = [_dimension(name) for name in query.group_by]
    billed = table.c.reason == BILLED
    inner = (
        select(
            *dimensions,
            table.c.currency,
            table.c.reason,
            func.sum(table.c.impressions).label("impressions"),
            func.sum(table.c.impressions).filter(billed).label("billed_impressions"),
            func.sum(table.c.views).label("views"),
            func.sum(table.c.clicks).label("clicks"),
            func.sum(table.c.clicks).filter(billed).label("billed_clicks"),
            func.sum(table.c.spent_micros).label("spent_micros"),
        )
        .where(table.c.ledger_id == ledger_id, *_conditions(query))
        .group_by(*dimensions, table.c.currency, table.c.reason)
        .subquery()
    )
    outer = [inner.c[dimension.name] for dimension in dimensions]
    impressions, clicks = _total(inner.c.impressions), _total(inner.c.clicks)
    unbilled = func.jsonb_object_agg(inner.c.reason, inner.c.impressions).filter(
        inner.c.reason != BILLED, inner.c.impressions > 0
    )
    return (
        select(
            *outer,
            inner.c.currency,
            impressions.label("impressions"),
            _total(inner.c.billed_impressions).label("billed_impressions"),
            func.coalesce(unbilled, func.jsonb_build_object()).label("unbilled"),
            _total(inner.c.views).label("views"),
            clicks.label("clicks"),
            _total(inner.c.billed_clicks).label("billed_clicks"),
            func.coalesce(cast(clicks, Double) / func.nullif(impressions, 0), 0).label("ctr"),
            _total(inner.c.spent_micros).label("spent_micros"),
        )
        .group_by(*outer, inner.c.currency)
        .order_by(*outer, inner.c.currency)
    )


def _dimension(name: Dimension) -> Label[object]:
    match name:
        case "hour":
            return deliveries.c.hour.label("hour")
        case "day":
            return func.date_trunc("day", deliveries.c.hour).label("day")
        case "country" | "region" | "city":
            return deliveries.c[name].label(name)
        case _:
            return deliveries.c[f"{name}_id"].label(f"{name}_id")


def _conditions(query: DeliveryQuery) -> list[ColumnElement[bool]]:
    conditions = [
        deliveries.c[name] == value
        for name in ("campaign_id", "creative_id", "advertiser_id", "slot_id")
        if (value := getattr(query, name)) is not None
    ]
    if query.since is not None:
        conditions.append(deliveries.c.hour >= query.since)
    if query.until is not None:
        conditions.append(deliveries.c.hour < query.until)
    return conditions


def _total(column: ColumnElement[int]) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0).cast(BigInteger)


PROJECTION: Final = Projection(
    name="delivery",
    version=1,
    handles=(ImpressionRecorded, ViewRecorded, ClickRecorded),
    key=lambda recorded: recorded.entry.stream,
    write=write,
    table=deliveries,
    write_range=write_range,
    catalogue_only=False,
)

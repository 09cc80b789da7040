"""The read model of delivery: what was shown, seen and clicked, by hour, creative, slot and place."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from msgspec import Struct
from sqlalchemy import BigInteger, Column, DateTime, Double, Select, Table, Text, Uuid, cast, func, literal, select
from sqlalchemy.sql.elements import ColumnElement, Label

from domain.delivery import PLAYBACK
from infra.composed import fetch
from infra.database import Connection
from infra.tables import metadata
from projections.counting import DELIVERIES, Counting, Cut, Span, counted, parameters, row_of

BILLED: Final = ""
"""What stands in the place of a reason when a delivery was billed."""

KEY: Final = "stream_id"

PLAYED: Final = tuple(f"{kind}s" for kind in PLAYBACK)
"""The columns of what players report."""

FURTHER: Final = (*PLAYED, "conversions", "conversion_micros")
"""Beside them, the columns of what clicks led to, and of what that is worth to the advertiser."""

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
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in FURTHER),
    comment="Read model: deliveries by the hour (UTC) they occurred in. reason: why unbilled, empty when billed.",
)

Dimension = Literal["hour", "day", "campaign", "creative", "advertiser", "slot", "country", "region", "city"]


class DeliveryRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
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
    starts: int = 0
    first_quartiles: int = 0
    midpoints: int = 0
    third_quartiles: int = 0
    completes: int = 0
    errors: int = 0
    conversions: int = 0
    conversion_micros: int = 0


class DeliveryReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the report: the dimensions that were asked for, and counts and money of what they have in common.

    Impressions, views, clicks and `progress` are net: valid. Gross is with those that are invalid, which are told by
    their reasons, as is what was valid and not billed. `progress` says how often players reported each point of video
    and audio, and the rate how many of the started were completed. `conversions` are those attributed to
    clicks, worth `conversion_micros` to the advertiser; others are `unattributed` for a reason. Where nothing was
    delivered there is no currency. Requests are creatives asked for; fills are those that were found.
    """

    hour: datetime | None = None
    day: datetime | None = None
    campaign_id: UUID | None = None
    creative_id: UUID | None = None
    advertiser_id: UUID | None = None
    slot_id: UUID | None = None
    country: str | None = None
    region: str | None = None
    city: str | None = None
    currency: str | None
    impressions: int
    billed_impressions: int
    unbilled: dict[str, int]
    gross_impressions: int
    invalid: dict[str, int]
    views: int
    gross_views: int
    invalid_views: dict[str, int]
    clicks: int
    billed_clicks: int
    unbilled_clicks: dict[str, int]
    gross_clicks: int
    invalid_clicks: dict[str, int]
    ctr: float
    spent_micros: int
    progress: dict[str, int]
    completion_rate: float
    conversions: int
    unattributed: dict[str, int]
    conversion_rate: float
    conversion_micros: int
    requests: int | None = None
    fills: int | None = None
    fill_rate: float | None = None
    no_fill: dict[str, int] | None = None


_KEY: Final = ("hour", "campaign_id", "creative_id", "advertiser_id", "slot_id", "country", "region", "city")
_COLUMNS: Final = (*_KEY, "currency", "reason", *("impressions", "views", "clicks", "spent_micros"), *FURTHER)

_CUT: Final = Cut(
    '"viewer":',
    '"currency":',
    """position(':'::bytea IN gap) = 0 AND rest LIKE '%%"price_micros":%%"billed":%%"reason":%%'""",
)
_FIELDS: Final = """
    campaign_id uuid, creative_id uuid, advertiser_id uuid, slot_id uuid, country text, region text, city text,
    currency text, reason text
"""
_BY: Final = """
    date_trunc(
        'hour', (convert_from(occurred, 'UTF8') || CASE length(occurred) WHEN 13 THEN ':00Z' ELSE '' END)::timestamptz
    ) AS hour,
    campaign_id, creative_id, advertiser_id, slot_id,
    coalesce(country, '') AS country, coalesce(region, '') AS region, coalesce(city, '') AS city, currency,
    coalesce(reason, '') AS reason
"""

# Sums travel as they are written in an array of PostgreSQL: nobody in between has to read them. In the order of the
# primary key they are added in four fifths of the time.
_TOLD: Final = f"""
    unnest(
        %(hour)s::timestamptz[], %(campaign_id)s::uuid[], %(creative_id)s::uuid[], %(advertiser_id)s::uuid[],
        %(slot_id)s::uuid[], %(country)s::text[], %(region)s::text[], %(city)s::text[], %(currency)s::text[],
        %(reason)s::text[], %(impressions)s::bigint[], %(views)s::bigint[], %(clicks)s::bigint[],
        %(spent_micros)s::bigint[], {", ".join(f"%({name})s::bigint[]" for name in FURTHER)}
    )
"""

_ADD: Final = """
    INSERT INTO deliveries SELECT %(ledger_id)s, {columns} FROM {lines} AS lines ({columns})
    ORDER BY hour, campaign_id, creative_id, slot_id
    ON CONFLICT (
        ledger_id, hour, campaign_id, creative_id, advertiser_id, slot_id, country, region, city, currency, reason
    ) DO UPDATE SET
        impressions = deliveries.impressions + EXCLUDED.impressions,
        views = deliveries.views + EXCLUDED.views,
        clicks = deliveries.clicks + EXCLUDED.clicks,
        spent_micros = deliveries.spent_micros + EXCLUDED.spent_micros,
        {further}
"""
_ADDED: Final = ", ".join(f"{name} = deliveries.{name} + EXCLUDED.{name}" for name in FURTHER)


async def tally(connection: Connection, span: Span) -> Mapping[str, str | None]:
    """Return what a range adds to the table, each column as the text of an array; null where there is nothing."""
    columns = ", ".join(f"array_agg({name})::text AS {name}" for name in _COLUMNS)
    return await row_of(connection, f"SELECT {columns} FROM {_lines(span)} AS lines", parameters(span))


async def add(connection: Connection, ledger_id: UUID, counts: Mapping[str, str | None]) -> None:
    """Add what a range comes to."""
    if counts["hour"] is not None:
        statement = _ADD.format(columns=", ".join(_COLUMNS), lines=_TOLD, further=_ADDED)
        await connection.execute(statement.encode(), {"ledger_id": ledger_id, **counts})


async def count(connection: Connection, span: Span) -> None:
    """Add what a range comes to, in one statement."""
    statement = _ADD.format(columns=", ".join(_COLUMNS), lines=_lines(span), further=_ADDED)
    await connection.execute(statement.encode(), parameters(span))


def _lines(span: Span) -> str:
    lines = counted(span, KEY, cut=_CUT, text_by=("occurred",), fields=_FIELDS, by=_BY, columns=10)
    return f"(SELECT {', '.join(_COLUMNS)} FROM ({lines}) AS counted)"


class DeliveryQuery(Struct, frozen=True, kw_only=True):
    """Which deliveries a report is about, and what its lines are grouped by.

    Where `advertisers` is not None, it is asked for by somebody who sees what these own, and nothing else.
    """

    group_by: tuple[Dimension, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    campaign_id: UUID | None = None
    creative_id: UUID | None = None
    advertiser_id: UUID | None = None
    slot_id: UUID | None = None
    advertisers: frozenset[UUID] | None = None


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
            *(func.sum(table.c[name]).label(name) for name in FURTHER),
        )
        .where(table.c.ledger_id == ledger_id, *_conditions(query))
        .group_by(*dimensions, table.c.currency, table.c.reason)
        .subquery()
    )
    outer = [inner.c[dimension.name] for dimension in dimensions]
    invalid = inner.c.reason.like("invalid:%")
    impressions, clicks = (_total(inner.c[name], ~invalid) for name in ("impressions", "clicks"))
    played = {kind: _total(inner.c[f"{kind}s"], ~invalid) for kind in PLAYBACK}
    progress = (each for kind, total in played.items() for each in (literal(kind), func.nullif(total, 0)))
    conversions = _total(inner.c.conversions, inner.c.reason == BILLED)
    completed = cast(played["complete"], Double) / func.nullif(played["start"], 0)

    def by_reason(name: str, *which: ColumnElement[bool]) -> ColumnElement[object]:
        gathered = func.jsonb_object_agg(inner.c.reason, inner.c[name]).filter(inner.c[name] > 0, *which)
        return func.coalesce(gathered, func.jsonb_build_object())

    unbilled = (inner.c.reason != BILLED, ~invalid)
    return (
        select(
            *outer,
            inner.c.currency,
            impressions.label("impressions"),
            _total(inner.c.billed_impressions).label("billed_impressions"),
            by_reason("impressions", *unbilled).label("unbilled"),
            _total(inner.c.impressions).label("gross_impressions"),
            by_reason("impressions", invalid).label("invalid"),
            _total(inner.c.views, ~invalid).label("views"),
            _total(inner.c.views).label("gross_views"),
            by_reason("views", invalid).label("invalid_views"),
            clicks.label("clicks"),
            _total(inner.c.billed_clicks).label("billed_clicks"),
            by_reason("clicks", *unbilled).label("unbilled_clicks"),
            _total(inner.c.clicks).label("gross_clicks"),
            by_reason("clicks", invalid).label("invalid_clicks"),
            func.coalesce(cast(clicks, Double) / func.nullif(impressions, 0), 0).label("ctr"),
            _total(inner.c.spent_micros).label("spent_micros"),
            func.jsonb_strip_nulls(func.jsonb_build_object(*progress)).label("progress"),
            func.coalesce(completed, 0).label("completion_rate"),
            conversions.label("conversions"),
            by_reason("conversions", inner.c.reason != BILLED).label("unattributed"),
            func.coalesce(cast(conversions, Double) / func.nullif(clicks, 0), 0).label("conversion_rate"),
            _total(inner.c.conversion_micros, inner.c.reason == BILLED).label("conversion_micros"),
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
    if query.advertisers is not None:
        conditions.append(deliveries.c.advertiser_id.in_(query.advertisers))
    if query.since is not None:
        conditions.append(deliveries.c.hour >= query.since)
    if query.until is not None:
        conditions.append(deliveries.c.hour < query.until)
    return conditions


def _total(column: ColumnElement[int], *which: ColumnElement[bool]) -> ColumnElement[int]:
    summed = func.sum(column).filter(*which) if which else func.sum(column)
    return func.coalesce(summed, 0).cast(BigInteger)


PROJECTION: Final = Counting(
    name="delivery", version=1, handles=DELIVERIES, table=deliveries, key=KEY, tally=tally, add=add, in_place=count
)

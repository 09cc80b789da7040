"""The report of delivery, and beside what was delivered what was asked for: requests, fills, and why there was none.

Requests are known by hour, slot and country. Nobody asks for a campaign: where lines are grouped by one, or are about
one, there are deliveries alone. In a group whose money is of several currencies, requests stand in its first line.
"""

from typing import Any, Final
from uuid import UUID

from sqlalchemy import Double, Select, Subquery, and_, cast, func, literal, select
from sqlalchemy.sql.elements import ColumnElement, Label
from sqlalchemy.types import BigInteger, NullType

from infra.composed import fetch
from infra.database import Connection
from projections import delivery
from projections.delivery import DeliveryQuery, DeliveryReport
from projections.requests import FILLED, ad_requests

ASKED_BY: Final = frozenset({"hour", "day", "slot", "country"})
"""What requests can be grouped by."""

MEASURES: Final = ("requests", "fills", "fill_rate", "no_fill")


def has_requests(query: DeliveryQuery) -> bool:
    """Tell whether what a report is about, and grouped by, is known of requests."""
    of_one = (query.campaign_id, query.creative_id, query.advertiser_id)
    return ASKED_BY.issuperset(query.group_by) and of_one == (None, None, None) and query.advertisers is None


async def read_report(
    connection: Connection, ledger_id: UUID, query: DeliveryQuery, *, limit: int, offset: int
) -> list[DeliveryReport]:
    """Return the lines of a report, with requests where they are known, in the order of what they are grouped by."""
    if not has_requests(query):
        return await delivery.read_report(connection, ledger_id, query, limit=limit, offset=offset)
    return await fetch(connection, compose(ledger_id, query).limit(limit).offset(offset), DeliveryReport)


def compose(ledger_id: UUID, query: DeliveryQuery) -> Select[Any]:
    """Return the statement of a report: each line of deliveries beside the requests of its group."""
    asked = _asked(ledger_id, query)
    grouped = [column.name for column in asked.c if column.name not in {*MEASURES, "line"}]
    lines = delivery.compose(ledger_id, query).order_by(None).subquery()
    number = func.row_number().over(partition_by=[lines.c[name] for name in grouped] or None, order_by=lines.c.currency)
    delivered = select(lines, number.label("line")).subquery()
    same = and_(*(delivered.c[name] == asked.c[name] for name in (*grouped, "line")))
    groups = [func.coalesce(delivered.c[name], asked.c[name]).label(name) for name in grouped]
    return (
        select(
            *groups,
            delivered.c.currency,
            *(_or_nothing(column) for column in delivered.c if column.name not in {*grouped, "currency", "line"}),
            *(asked.c[name] for name in MEASURES),
        )
        .select_from(delivered.join(asked, same, full=True))
        .order_by(*groups, delivered.c.currency)
    )


def _asked(ledger_id: UUID, query: DeliveryQuery) -> Subquery:
    """Return what was asked for: sums by reason inside, the reasons gathered outside."""
    dimensions = [_dimension(name) for name in query.group_by]
    conditions = [
        ad_requests.c.hour >= query.since if query.since is not None else None,
        ad_requests.c.hour < query.until if query.until is not None else None,
        ad_requests.c.slot_id == query.slot_id if query.slot_id is not None else None,
    ]
    by_reason = (
        select(*dimensions, ad_requests.c.reason, func.sum(ad_requests.c.requests).label("requests"))
        .where(ad_requests.c.ledger_id == ledger_id, *(each for each in conditions if each is not None))
        .group_by(*dimensions, ad_requests.c.reason)
        .subquery()
    )
    groups = [by_reason.c[dimension.name] for dimension in dimensions]
    count, filled = by_reason.c.requests, by_reason.c.reason == FILLED
    requests, fills = func.sum(count), func.coalesce(func.sum(count).filter(filled), 0)
    no_fill = func.jsonb_object_agg(by_reason.c.reason, count).filter(~filled)
    return (
        select(
            *groups,
            requests.cast(BigInteger).label("requests"),
            fills.cast(BigInteger).label("fills"),
            (cast(fills, Double) / cast(requests, Double)).label("fill_rate"),
            func.coalesce(no_fill, func.jsonb_build_object()).label("no_fill"),
            literal(1).label("line"),
        )
        .group_by(*groups)
        .having(func.count() > 0)
        .subquery()
    )


def _dimension(name: str) -> Label[object]:
    match name:
        case "day":
            return func.date_trunc("day", ad_requests.c.hour).label("day")
        case "slot":
            return ad_requests.c.slot_id.label("slot_id")
        case _:
            return ad_requests.c[name].label(name)


def _or_nothing(column: ColumnElement[Any]) -> Label[object]:
    """Return a measure of deliveries, which is nothing where there are none."""
    nothing = func.jsonb_build_object() if isinstance(column.type, NullType) else literal(0)
    return func.coalesce(column, nothing).label(column.name)

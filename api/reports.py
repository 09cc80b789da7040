"""The door to reports: money by campaign, and deliveries by whatever they have in common."""

import csv
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Final, Literal, get_args
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.openapi.spec.enums import OpenAPIFormat
from litestar.params import QueryParameter
from msgspec import Meta, Struct, structs

from api import lists, problems
from api.access import caller_of, may_see
from api.audited import record_export
from api.lists import Limit, Reader
from api.problems import Malformed
from domain.errors import NotAllowed
from infra import clock, leasing
from infra.database import Connection
from projections import budgets, delivery, requests, status
from projections.budgets import BudgetReport
from projections.delivery import DeliveryQuery, DeliveryReport, Dimension
from projections.fill_rates import MEASURES, has_requests, read_report
from projections.listing import LIMIT_DEFAULT, BadCursor, Listing

OFFSET_DIGITS_MAX: Final = 9

CSV: Final = "text/csv"

_Moment = Annotated[datetime, Meta(tz=True)]

_DIMENSIONS: Final = "^(({0})(,({0}))*)?$".format("|".join(get_args(Dimension)))

GroupBy = Annotated[
    str,
    QueryParameter(
        max_length=200,
        description=f"Any of {', '.join(get_args(Dimension))}, separated by commas.",
        schema_extra={"pattern": _DIMENSIONS},
        examples=[Example(value="day,campaign")],
    ),
]
Since = Annotated[
    str | None,
    QueryParameter(
        name="from",
        description="The first hour that is reported, as RFC 3339 has it, with a time zone.",
        schema_extra={"format": OpenAPIFormat.DATE_TIME},
        examples=[Example(value="2026-03-01T00:00:00Z")],
    ),
]
Until = Annotated[
    str | None,
    QueryParameter(
        name="to",
        description="The first hour that is not reported any more.",
        schema_extra={"format": OpenAPIFormat.DATE_TIME},
        examples=[Example(value="2026-04-01T00:00:00Z")],
    ),
]
Format = Annotated[Literal["json", "csv"], QueryParameter(name="format", description="How to write the report.")]
Offset = Annotated[
    str | None,
    QueryParameter(
        max_length=OFFSET_DIGITS_MAX,
        description="The `next_cursor` of the page before.",
        schema_extra={"pattern": "^[0-9]+$"},
    ),
]
OfCampaign = Annotated[UUID | None, QueryParameter(description="Only this campaign.")]
OfCreative = Annotated[UUID | None, QueryParameter(description="Only this creative.")]
OfAdvertiser = Annotated[UUID | None, QueryParameter(description="Only campaigns of this advertiser.")]
OfSlot = Annotated[UUID | None, QueryParameter(description="Only this slot.")]


class BudgetReports(Struct, frozen=True, kw_only=True):
    """Money by campaign, as of a position of the log."""

    items: list[BudgetReport]
    next_cursor: str | None
    position: int


class DeliveryReports(Struct, frozen=True, kw_only=True):
    """Deliveries, as of a position of the log."""

    items: list[DeliveryReport]
    next_cursor: str | None
    position: int


class ReportController(Controller):
    """Reports, as JSON or CSV."""

    path = "/reports"
    tags = ("reports",)

    @get("/budgets", operation_id="report_budgets", guards=[may_see], responses=problems.LISTING)
    async def report_budgets(
        self,
        reader: NamedDependency[Reader],
        page: NamedDependency[Listing],
        advertiser_id: OfAdvertiser = None,
        campaign_id: OfCampaign = None,
    ) -> BudgetReports:
        """Show what each campaign may spend, has spent, and has left.

        As of a moment, `today` is the day of that moment; `held` and `leased` are null, for the log does not say.
        """
        ledger_id, as_of = reader.ledger_id, reader.as_of
        filters = {"advertiser_id": advertiser_id, "campaign_id": campaign_id}
        async with _standing(reader, budgets.PROJECTION.name) as (connection, now):
            position = await status.read_position(connection, ledger_id, budgets.PROJECTION.name)
            rows = await lists.read_page(connection, ledger_id, budgets.READ_MODEL, page, **filters)
            campaigns = [row.campaign_id for row in rows.items]
            leased = {} if as_of is not None else await leasing.leased_impressions(connection, ledger_id, campaigns)
        held = reader.services.ledgers.of(ledger_id).serving.holds.held
        items = [
            budgets.report(row, now=now)
            if as_of is not None
            else budgets.report(row, now=now, held=held(row.campaign_id), leased=leased.get(row.campaign_id, 0))
            for row in rows.items
        ]
        return BudgetReports(items=items, next_cursor=rows.next_cursor, position=position)

    @get(
        "/delivery",
        operation_id="report_delivery",
        guards=[may_see],
        responses=problems.LISTING,
        also_as={CSV: "A line of names, then a line for each of the report; `X-Next-Cursor` says how to go on."},
    )
    async def report_delivery(
        self,
        request: Request[Any, Any, Any],
        reader: NamedDependency[Reader],
        group_by: GroupBy = "campaign",
        since: Since = None,
        until: Until = None,
        campaign_id: OfCampaign = None,
        creative_id: OfCreative = None,
        advertiser_id: OfAdvertiser = None,
        slot_id: OfSlot = None,
        report_format: Format = "json",
        limit: Limit = LIMIT_DEFAULT,
        cursor: Offset = None,
    ) -> Response[DeliveryReports] | Response[str]:
        """Show what was delivered, grouped by any of its dimensions; hours and days are UTC.

        Lines by hour, day, slot or country also say what was asked for, and why it was not filled; but not to whoever
        sees the campaigns of some advertisers alone, to whom nothing is told by slot.
        """
        advertisers = caller_of(request).advertisers
        query = DeliveryQuery(
            group_by=_dimensions(group_by),
            since=moment(since, "from"),
            until=moment(until, "to"),
            campaign_id=campaign_id,
            creative_id=creative_id,
            advertiser_id=advertiser_id,
            slot_id=slot_id,
            advertisers=advertisers,
        )
        if advertisers is not None and ("slot" in query.group_by or slot_id is not None):
            raise NotAllowed("What slots earn is not for advertisers.")
        offset = _offset(cursor)
        read = [delivery.PROJECTION.name, *([requests.PROJECTION.name] if has_requests(query) else [])]
        async with _standing(reader, read[0], beside=read[1:]) as (connection, _):
            position = min([await status.read_position(connection, reader.ledger_id, name) for name in read])
            lines = await read_report(connection, reader.ledger_id, query, limit=limit + 1, offset=offset)
        following = str(offset + limit) if len(lines) > limit else None
        if report_format == "csv":
            await record_export(request, "report")
            return _as_csv(query, lines[:limit], following)
        return Response(DeliveryReports(items=lines[:limit], next_cursor=following, position=position))


@asynccontextmanager
async def _standing(
    reader: Reader, projection: str, *, beside: Sequence[str] = ()
) -> AsyncIterator[tuple[Connection, datetime]]:
    """Yield a connection on which read models stand still, as of a moment or as it is now; and that time."""
    if reader.as_of is not None:
        async with reader.replayed(projection, reader.as_of, beside=beside) as (connection, standing):
            yield connection, standing.at
        return
    async with reader.services.log.pool.connection() as connection:
        if projection != delivery.PROJECTION.name:  # commands change nothing in what was delivered
            await status.wait_for_commands(connection, reader.ledger_id, projection)
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield connection, clock.now()


def _dimensions(text: str) -> tuple[Dimension, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    known: tuple[Dimension, ...] = get_args(Dimension)
    for name in names:
        if name not in known:
            raise Malformed(f"group_by takes any of {', '.join(known)}.")
    return tuple(name for name in known if name in names)


def moment(text: str | None, name: str) -> datetime | None:
    """Return the time that a parameter says, if it is sent; raise Malformed."""
    try:
        return None if text is None else msgspec.convert(text, _Moment)
    except msgspec.ValidationError as error:
        raise Malformed(f"{name} is a time with a time zone, such as 2026-03-01T00:00:00Z.") from error


def _offset(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit():
        raise BadCursor("The cursor is not one that this report handed out.", pointer="/cursor")
    return int(cursor)


def _counts(counts: Mapping[str, int]) -> str:
    return " ".join(f"{reason}={count}" for reason, count in sorted(counts.items()))


def _as_csv(query: DeliveryQuery, lines: list[DeliveryReport], following: str | None) -> Response[str]:
    text = io.StringIO()
    ids = {"campaign", "creative", "advertiser", "slot"}
    grouped = [f"{name}_id" if name in ids else name for name in query.group_by]
    rest = structs.fields(DeliveryReport)
    measures = [field.name for field in rest if field.required]
    measures += MEASURES if has_requests(query) else ()
    rows = csv.DictWriter(text, [*grouped, *measures], extrasaction="ignore")
    rows.writeheader()
    for line in lines:
        fields = structs.asdict(line)
        reasons = {name: _counts(value) for name, value in fields.items() if isinstance(value, dict)}
        times = {name: moment.isoformat() for name in ("hour", "day") if (moment := fields[name]) is not None}
        rows.writerow(fields | times | reasons)
    headers = {"Content-Disposition": 'attachment; filename="delivery.csv"'}
    if following is not None:
        headers["X-Next-Cursor"] = following
    return Response(text.getvalue(), media_type=CSV, headers=headers)

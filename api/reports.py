"""The door to reports: money by campaign, and deliveries by whatever they have in common."""

import csv
import io
from datetime import datetime
from typing import Annotated, Final, Literal, get_args
from uuid import UUID

from litestar import Controller, Response, get
from litestar.params import Parameter
from msgspec import Struct, structs

from api import problems
from api.access import may_read
from api.lists import Limit
from api.problems import Malformed
from api.services import Services
from infra import clock
from infra.execute import Asked
from projections import budgets, delivery
from projections.budgets import BudgetReport
from projections.delivery import DeliveryQuery, DeliveryReport, Dimension
from projections.listing import LIMIT_DEFAULT, BadCursor, Listing
from projections.status import wait_for_commands

OFFSET_DIGITS_MAX: Final = 9

Moment = Annotated[datetime | None, Parameter(description="RFC 3339, such as 2026-03-01T00:00:00Z.")]
Format = Annotated[Literal["json", "csv"], Parameter(query="format")]
GroupBy = Annotated[
    str, Parameter(query="group_by", max_length=200, description=f"Any of {', '.join(get_args(Dimension))}.")
]


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

    @get("/budgets", operation_id="report_budgets", guards=[may_read], responses=problems.LISTING)
    async def report_budgets(
        self,
        asked: Asked,
        page: Listing,
        services: Services,
        advertiser_id: UUID | None = None,
        campaign_id: UUID | None = None,
    ) -> BudgetReports:
        """Show what each campaign may spend, has spent, and has left."""
        async with services.log.pool.connection() as connection:
            position = await wait_for_commands(connection, asked.ledger_id, budgets.PROJECTION.name)
            rows = await budgets.READ_MODEL.browse(
                connection, asked.ledger_id, page, advertiser_id=advertiser_id, campaign_id=campaign_id
            )
        now = clock.now()
        held = services.serving.holds.held
        items = [budgets.report(row, held=held(row.campaign_id).impressions, now=now) for row in rows.items]
        return BudgetReports(items=items, next_cursor=rows.next_cursor, position=position)

    @get("/delivery", operation_id="report_delivery", guards=[may_read], responses=problems.LISTING)
    async def report_delivery(
        self,
        asked: Asked,
        services: Services,
        group_by: GroupBy = "campaign",
        since: Annotated[Moment, Parameter(query="from")] = None,
        until: Annotated[Moment, Parameter(query="to")] = None,
        campaign_id: UUID | None = None,
        creative_id: UUID | None = None,
        advertiser_id: UUID | None = None,
        slot_id: UUID | None = None,
        report_format: Format = "json",
        limit: Limit = LIMIT_DEFAULT,
        cursor: Annotated[str | None, Parameter(max_length=OFFSET_DIGITS_MAX)] = None,
    ) -> Response[DeliveryReports] | Response[str]:
        """Show what was delivered, grouped by any of its dimensions; hours and days are UTC."""
        query = DeliveryQuery(
            group_by=_dimensions(group_by),
            since=_aware(since, "from"),
            until=_aware(until, "to"),
            campaign_id=campaign_id,
            creative_id=creative_id,
            advertiser_id=advertiser_id,
            slot_id=slot_id,
        )
        offset = _offset(cursor)
        async with services.log.pool.connection() as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            position = await delivery.read_position(connection, asked.ledger_id)
            lines = await delivery.read_report(connection, asked.ledger_id, query, limit=limit + 1, offset=offset)
        following = str(offset + limit) if len(lines) > limit else None
        if report_format == "csv":
            return _as_csv(query, lines[:limit], following)
        return Response(DeliveryReports(items=lines[:limit], next_cursor=following, position=position))


def _dimensions(text: str) -> tuple[Dimension, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    known: tuple[Dimension, ...] = get_args(Dimension)
    for name in names:
        if name not in known:
            raise Malformed(f"group_by takes any of {', '.join(known)}.")
    return tuple(name for name in known if name in names)


def _aware(moment: datetime | None, name: str) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        raise Malformed(f"{name} needs a time zone, such as Z.")
    return moment


def _offset(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit():
        raise BadCursor("The cursor is not one that this report handed out.", pointer="/cursor")
    return int(cursor)


def _as_csv(query: DeliveryQuery, lines: list[DeliveryReport], following: str | None) -> Response[str]:
    text = io.StringIO()
    ids = {"campaign", "creative", "advertiser", "slot"}
    grouped = [f"{name}_id" if name in ids else name for name in query.group_by]
    rest = structs.fields(DeliveryReport)
    measures = [field.name for field in rest if field.required]
    rows = csv.DictWriter(text, [*grouped, *measures], extrasaction="ignore")
    rows.writeheader()
    for line in lines:
        fields = structs.asdict(line)
        reasons = " ".join(f"{reason}={count}" for reason, count in sorted(line.unbilled.items()))
        times = {name: moment.isoformat() for name in ("hour", "day") if (moment := fields[name]) is not None}
        rows.writerow(fields | times | {"unbilled": reasons})
    headers = {"Content-Disposition": 'attachment; filename="delivery.csv"'}
    if following is not None:
        headers["X-Next-Cursor"] = following
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)

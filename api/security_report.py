"""The door to the report of security: who was let in, who was not, and who changed what somebody may do."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from msgspec import Struct, structs

from api import problems
from api.access import may_audit
from api.audited import record_export
from api.lists import Limit
from api.reports import CSV, Format, Since, Until, moment
from api.services import Services
from infra import clock
from infra.event_log import read_head
from projections import security
from projections.listing import LIMIT_DEFAULT, BadCursor
from projections.security import FIRST, Place, SecurityItem, SecurityKind, SecurityQuery, SecuritySum

DAYS_DEFAULT: Final = 30
CURSOR_CHARACTERS_MAX: Final = 30
_DIGITS_MAX: Final = 18
_NO_END: Final = datetime(9999, 1, 1, tzinfo=UTC)

OfKind = Annotated[SecurityKind | None, QueryParameter(description="Only what is of this kind.")]
OfPerson = Annotated[UUID | None, QueryParameter(description="Only what this person did, or was done about them.")]
AfterPlace = Annotated[
    str | None,
    QueryParameter(
        max_length=CURSOR_CHARACTERS_MAX,
        description="The `next_cursor` of the page before.",
        schema_extra={"pattern": "^[0-9]+-[0-9]+$"},
    ),
]


class SecurityReport(Struct, frozen=True, kw_only=True):
    """A page of what was done and refused, the newest first, and the sums of all of it, as of a position of the log."""

    items: list[SecurityItem]
    sums: list[SecuritySum]
    next_cursor: str | None
    position: int


class SecurityController(Controller):
    """The audit of people."""

    path = "/reports"
    tags = ("reports",)
    guards = (may_audit,)

    @get(
        "/security",
        operation_id="report_security",
        responses=problems.LISTING,
        also_as={CSV: "A line of names, then a line for each item; `X-Next-Cursor` says how to go on."},
    )
    async def report_security(
        self,
        request: Request[Any, Any, Any],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
        since: Since = None,
        until: Until = None,
        kind: OfKind = None,
        person: OfPerson = None,
        report_format: Format = "json",
        limit: Limit = LIMIT_DEFAULT,
        cursor: AfterPlace = None,
    ) -> Response[SecurityReport] | Response[str]:
        """Show who was let in, who was not, and who changed what somebody may do; of 30 days, unless `from` says else.

        What was refused is gathered for up to a minute before it is here.
        """
        end = moment(until, "to")
        begin = moment(since, "from") or (end or clock.now()) - timedelta(days=DAYS_DEFAULT)
        query = SecurityQuery(since=begin, until=end or _NO_END, kind=kind, person=person)
        place = _place(cursor)
        async with services.log.pool.connection() as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            position = (await read_head(connection, ledger_id)).position
            found = await security.read_page(connection, ledger_id, query, after=place, limit=limit + 1)
            sums = [] if report_format == "csv" else await security.read_sums(connection, ledger_id, query)
        items = found[:limit]
        following = f"{items[-1].position}-{items[-1].line}" if len(found) > limit else None
        if report_format == "csv":
            await record_export(request, "report")
            return _as_csv(items, following)
        return Response(SecurityReport(items=items, sums=sums, next_cursor=following, position=position))


def _place(cursor: str | None) -> Place:
    if cursor is None:
        return FIRST
    position, _, line = cursor.partition("-")
    if not all(part.isascii() and part.isdigit() and len(part) <= _DIGITS_MAX for part in (position, line)):
        raise BadCursor("The cursor is not one that this report handed out.", pointer="/cursor")
    return Place(position=int(position), line=int(line))


def _as_csv(items: list[SecurityItem], following: str | None) -> Response[str]:
    text = io.StringIO()
    rows = csv.DictWriter(text, SecurityItem.__struct_fields__)
    rows.writeheader()
    for item in items:
        rows.writerow(structs.asdict(item) | {"recorded_at": item.recorded_at.isoformat()})
    headers = {"Content-Disposition": 'attachment; filename="security.csv"'}
    if following is not None:
        headers["X-Next-Cursor"] = following
    return Response(text.getvalue(), media_type=CSV, headers=headers)

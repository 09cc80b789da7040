"""The door for auditors: the log itself, and how far what is read from it has come."""

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import QueryParameter
from msgspec import Struct

from api import problems
from api.access import may_audit
from api.lists import WITHOUT_NUL, Limit, moment_of
from api.services import Services
from infra import event_log
from infra.event_log import Text
from projections import replay, status
from projections.changes import CampaignChanges, OutOfOrder, read_changes
from projections.listing import LIMIT_DEFAULT
from projections.status import ProjectionStatus

NDJSON: Final = "application/x-ndjson"
POSITION_MAX: Final = 2**62

After = Annotated[int, QueryParameter(ge=0, le=POSITION_MAX, description="The position after which to begin.")]
Type = Annotated[
    str | None,
    QueryParameter(name="type", max_length=100, pattern=WITHOUT_NUL, description="Only events with this tag."),
]
Stream = Annotated[
    str | None,
    QueryParameter(max_length=200, pattern=WITHOUT_NUL, description="Only this stream, such as `campaign-0199...`."),
]

From = Annotated[
    str,
    QueryParameter(
        name="from",
        max_length=50,
        description="The earlier moment: a position of the log, or a time with a time zone.",
        examples=[Example(value="0"), Example(value="2026-03-01T00:00:00Z")],
    ),
]
To = Annotated[
    str | None,
    QueryParameter(
        name="to",
        max_length=50,
        description="The later moment; the end of the log when left out.",
        examples=[Example(value="1200"), Example(value="2026-03-02T00:00:00Z")],
    ),
]
AfterCampaign = Annotated[UUID | None, QueryParameter(description="The `next_cursor` of the page before.")]


class LogPage(Struct, frozen=True, kw_only=True):
    """Entries of the log, each as the exact text that is hashed."""

    items: list[Text]
    next_after: int | None


class Changes(Struct, frozen=True, kw_only=True):
    """What changed after one position of the log, up to another: campaigns by id."""

    from_position: int
    to_position: int
    items: list[CampaignChanges]
    next_cursor: str | None


class AuditController(Controller):
    """Checking the log."""

    path = "/audit/v1"
    tags = ("audit",)

    @get(
        "/events",
        operation_id="read_log",
        guards=[may_audit],
        responses=problems.READING,
        also_as={NDJSON: "An entry a line, each a JSON object with its position and its exact text."},
    )
    async def events(
        self,
        request: Request[Any, Any, Any],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
        after: After = 0,
        limit: Limit = LIMIT_DEFAULT,
        event_type: Type = None,
        stream: Stream = None,
    ) -> Response[LogPage] | Response[bytes]:
        """Read the log in order; who accepts application/x-ndjson gets a line an entry."""
        async with services.log.pool.connection() as connection:
            texts = await event_log.read_texts(
                connection, ledger_id, after, limit=limit, event_type=event_type, stream=stream
            )
        if NDJSON in request.headers.get("Accept", ""):
            return Response(b"".join(msgspec.json.encode(text) + b"\n" for text in texts), media_type=NDJSON)
        following = texts[-1].position if len(texts) == limit else None
        return Response(LogPage(items=texts, next_after=following))

    @get("/diff", operation_id="read_changes", guards=[may_audit], responses=problems.LISTING)
    async def changes(
        self,
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
        since: From,
        until: To = None,
        limit: Limit = LIMIT_DEFAULT,
        cursor: AfterCampaign = None,
    ) -> Changes:
        """Show what changed between two moments: of each campaign the fields, the money and the counts."""
        async with services.log.pool.connection() as connection:
            first = await replay.standing(connection, ledger_id, moment_of(since, "from") or 0)
            head = (await event_log.read_head(connection, ledger_id)).position
            asked = moment_of(until, "to")
            last = await replay.standing(connection, ledger_id, head if asked is None else asked)
        if last.position < first.position:
            raise OutOfOrder("The moment in `to` comes before the one in `from`.")
        items = await read_changes(
            services.database_url,
            ledger_id,
            after=first.position,
            until=last.position,
            begin=cursor,
            limit=limit + 1,
        )
        following = str(items[limit - 1].campaign_id) if len(items) > limit else None
        return Changes(
            from_position=first.position, to_position=last.position, items=items[:limit], next_cursor=following
        )

    @get("/projections", operation_id="list_projections", guards=[may_audit], responses=problems.READING)
    async def projections(
        self, ledger_id: NamedDependency[UUID], services: NamedDependency[Services]
    ) -> list[ProjectionStatus]:
        """Show how far each read model has come."""
        async with services.log.pool.connection() as connection:
            return await status.read_status(connection, ledger_id)

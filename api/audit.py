"""The door for auditors: the log itself, and how far what is read from it has come."""

from datetime import timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream
from msgspec import Struct, structs

from api import problems, streams
from api.access import may_audit
from api.audited import record_export
from api.lists import WITHOUT_NUL, Limit, moment_of
from api.problems import Malformed
from api.services import Services
from api.streams import Line, Selection
from infra import event_log
from projections import replay, status
from projections.changes import CampaignChanges, OutOfOrder, read_changes
from projections.listing import LIMIT_DEFAULT, LIMIT_MAX
from projections.status import ProjectionStatus

NDJSON: Final = "application/x-ndjson"
SERVER_SENT_EVENTS: Final = "text/event-stream"
POSITION_MAX: Final = 2**62

After = Annotated[int, QueryParameter(ge=0, le=POSITION_MAX, description="The position after which to begin.")]
Type = Annotated[
    str | None,
    QueryParameter(name="type", max_length=100, pattern=WITHOUT_NUL, description="Only events with this tag."),
]
OfStream = Annotated[
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

EntryLimit = Annotated[
    int | None,
    QueryParameter(ge=1, le=LIMIT_MAX, description="How many entries at most; when left out, JSON has 50, NDJSON all."),
]
Actor = Annotated[
    str | None,
    QueryParameter(max_length=200, pattern=WITHOUT_NUL, description="Only what this actor did, such as `clock`."),
]
Since = Annotated[
    str | None,
    QueryParameter(
        name="from",
        max_length=50,
        description="The first moment: a position of the log, or a time with a time zone.",
        examples=[Example(value="2026-03-01T00:00:00Z")],
    ),
]
Until = Annotated[
    str | None,
    QueryParameter(
        name="to",
        max_length=50,
        description="The last moment: a position of the log, or a time with a time zone.",
        examples=[Example(value="2026-03-02T00:00:00Z")],
    ),
]
LastEventId = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID",
        description="Of a stream of events: the position of the last one that was received.",
        schema_extra={"pattern": "^[0-9]{1,18}$"},
    ),
]


class LogPage(Struct, frozen=True, kw_only=True):
    """Entries of the log, each as the exact text that is hashed."""

    items: list[Line]
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
        responses=problems.LISTING,
        also_as={
            NDJSON: "An entry a line, each a JSON object as in the JSON answer; all entries, up to the end of the log, "
            "unless `limit` says otherwise.",
            SERVER_SENT_EVENTS: "An entry an event, its position as `id`; and on and on, as the log grows.",
        },
    )
    async def events(
        self,
        request: Request[Any, Any, Any],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
        after: After = 0,
        limit: EntryLimit = None,
        event_type: Type = None,
        stream: OfStream = None,
        actor: Actor = None,
        since: Since = None,
        until: Until = None,
        last_event_id: LastEventId = None,
    ) -> Response[LogPage] | Stream:
        """Read the log in order, or follow it.

        Who accepts application/x-ndjson gets all of it, a line an entry. Who accepts text/event-stream gets what is
        there and what is yet to come; `Last-Event-ID` resumes after a position. Of either, the log is told.
        """
        accepted = request.headers.get("Accept", "")
        asked = await _selected(
            services,
            ledger_id,
            Selection(after=after, event_type=event_type, stream=stream, actor=actor),
            since=since,
            until=until,
        )
        pool, resumed = services.log.pool, structs.replace(asked, after=_resumed(last_event_id, asked.after))
        if SERVER_SENT_EVENTS in accepted or NDJSON in accepted:
            await record_export(request, "log")
        if SERVER_SENT_EVENTS in accepted:
            return Stream(
                streams.tail(pool, ledger_id, resumed, services.stopping),
                media_type=SERVER_SENT_EVENTS,
                headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
            )
        if NDJSON in accepted:
            return Stream(streams.ndjson(pool, ledger_id, asked, limit=limit), media_type=NDJSON)
        limit = limit or LIMIT_DEFAULT
        texts = await streams.read(pool, ledger_id, asked, limit=limit)
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


async def _selected(
    services: Services, ledger_id: UUID, asked: Selection, *, since: str | None, until: str | None
) -> Selection:
    """Return a selection between two moments; raise Malformed or BeyondHead."""
    first, last = moment_of(since, "from"), moment_of(until, "to")
    if first is None and last is None:
        return asked
    async with services.log.pool.connection() as connection:
        if first is not None:
            # What is recorded at the moment itself is asked for as well.
            just_before = max(0, first - 1) if isinstance(first, int) else first - timedelta(microseconds=1)
            begin = (await replay.standing(connection, ledger_id, just_before)).position
            asked = structs.replace(asked, after=max(asked.after, begin))
        if last is not None:
            end = (await replay.standing(connection, ledger_id, last)).position
            asked = structs.replace(asked, until=end)
    return asked


def _resumed(last_event_id: str | None, after: int) -> int:
    if last_event_id is None:
        return after
    position = moment_of(last_event_id, "Last-Event-ID")
    if not isinstance(position, int):
        raise Malformed("Last-Event-ID is the position of an entry.")
    return position

"""What the doors to things that are listed have in common: how a page is asked for, and how one thing is answered."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple, TypeVar
from uuid import UUID

import msgspec
import psycopg
from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import QueryParameter
from msgspec import Meta, Struct

from api.access import caller_of
from api.problems import Malformed
from api.services import Services
from domain.errors import NotFound
from infra.batch import Receipt
from infra.database import Connection
from projections import replay
from projections.catalogue import named
from projections.listing import LIMIT_DEFAULT, LIMIT_MAX, BadCursor, Listing, Page
from projections.replay import Standing
from projections.rows import ReadModel
from projections.status import wait_for_commands

Moment = int | datetime

R = TypeVar("R", bound=Struct)

POSITION_DIGITS_MAX: Final = 18
WITHOUT_NUL: Final = r"^[^\x00]*$"
"""PostgreSQL has no text with that character in it."""

_Time = Annotated[datetime, Meta(tz=True)]

Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX, description="How many rows at most.")]
Cursor = Annotated[str | None, QueryParameter(max_length=1_000, description="The `next_cursor` of the page before.")]
Sort = Annotated[
    str,
    QueryParameter(
        max_length=50,
        description="The field to sort by, such as `name`; a leading minus puts the largest first.",
        examples=[Example(value="-created_at")],
    ),
]
Name = Annotated[
    str | None, QueryParameter(max_length=200, pattern=WITHOUT_NUL, description="Only those with exactly this name.")
]


_AsOf = Annotated[
    str | None,
    QueryParameter(
        name="as_of",
        max_length=50,
        description="Answer as the ledger stood then: a position of the log, or a time as RFC 3339 has it, with a time "
        "zone, which means the last entry recorded by then.",
        examples=[Example(value="1200"), Example(value="2026-03-01T00:00:00Z")],
    ),
]


def as_of(moment: _AsOf = None) -> Moment | None:
    """Return the moment as of which an answer is asked for; None: as it is."""
    return moment_of(moment, "as_of")


def moment_of(moment: str | None, parameter: str) -> Moment | None:
    """Return the position or the time that a parameter names; raise Malformed."""
    if moment is None or (moment.isascii() and moment.isdigit() and len(moment) <= POSITION_DIGITS_MAX):
        return None if moment is None else int(moment)
    try:
        return msgspec.convert(moment, _Time)
    except msgspec.ValidationError as error:
        raise Malformed(
            f"{parameter} is a position of the log, or a time with a time zone, such as 2026-03-01T00:00:00Z."
        ) from error


def listing(
    request: Request[Any, Any, Any], limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None, sort: Sort = "-created_at"
) -> Listing:
    """Return which page of a list is asked for, and of whose things."""
    return Listing(limit=limit, cursor=cursor, sort=sort, advertisers=caller_of(request).advertisers)


class Reader(NamedTuple):
    """Reads a ledger's read models as of a moment, or, without one, when they hold every command that was answered."""

    services: Services
    ledger_id: UUID
    as_of: Moment | None

    async def browse(self, model: ReadModel[R], page: Listing, **filters: object) -> Page[R]:
        """Return a page of a read model; raise BeyondHead, BadCursor or BadSort."""
        async with self._standing(model.projection) as connection:
            return await read_page(connection, self.ledger_id, model, page, **filters)

    async def show(self, model: ReadModel[R], thing_id: UUID) -> Response[R]:
        """Return one row, with its version as ETag; raise BeyondHead or NotFound."""
        async with self.services.log.pool.connection() as connection:
            if self.as_of is None:
                await wait_for_commands(connection, self.ledger_id, model.projection)
                row = await model.read(connection, self.ledger_id, thing_id)
            else:
                standing = await replay.standing(connection, self.ledger_id, self.as_of)
                row = await replay.read_one(connection, model, self.ledger_id, thing_id, standing.position)
        if row is None:
            raise NotFound(model.thing, thing_id)
        return Response(row, headers={"ETag": f'"{getattr(row, "version", 0)}"'})

    @asynccontextmanager
    async def replayed(
        self, projection: str, as_of: Moment, *, beside: Sequence[str] = ()
    ) -> AsyncIterator[tuple[Connection, Standing]]:
        """Yield a connection on which read models stand as of a moment, and that moment; raise BeyondHead."""
        async with self.services.log.pool.connection() as connection:
            standing = await replay.standing(connection, self.ledger_id, as_of)
        others = [named(name) for name in beside]
        async with replay.replayed(
            self.services.database_url, named(projection), self.ledger_id, standing.position, beside=others
        ) as connection:
            yield connection, standing

    @asynccontextmanager
    async def _standing(self, projection: str) -> AsyncIterator[Connection]:
        if self.as_of is not None:
            async with self.replayed(projection, self.as_of) as (connection, _):
                yield connection
            return
        async with self.services.log.pool.connection() as connection:
            await wait_for_commands(connection, self.ledger_id, projection)
            yield connection


def reader(
    services: NamedDependency[Services],
    ledger_id: NamedDependency[UUID],
    as_of: NamedDependency[Moment | None],
) -> Reader:
    """Return what reads the ledger of whoever asks."""
    return Reader(services, ledger_id, as_of)


async def read_page(
    connection: Connection, ledger_id: UUID, model: ReadModel[R], page: Listing, **filters: object
) -> Page[R]:
    """Return a page of a read model as it stands; raise BadCursor or BadSort."""
    try:
        return await model.browse(connection, ledger_id, page, **filters)
    except psycopg.DataError as error:
        # Filters have been checked, so it is a cursor of somebody's own making, with a value that is none of the field.
        raise BadCursor("The cursor is not one that this list handed out.", pointer="/cursor") from error


def receipt(answer: Receipt, *, created: bool = False) -> Response[Receipt]:
    """Return the answer to a command."""
    return Response(answer, status_code=201 if created else 200, headers={"ETag": f'"{answer.version}"'})

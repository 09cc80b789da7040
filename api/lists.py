"""What the doors to things that are listed have in common: how a page is asked for, and how one thing is answered."""

from typing import Annotated, Final, TypeVar
from uuid import UUID

import psycopg
from litestar import Response
from litestar.openapi.spec import Example
from litestar.params import QueryParameter
from msgspec import Struct

from api.services import Services
from domain.errors import NotFound
from infra.batch import Receipt
from infra.database import Connection
from projections.listing import LIMIT_DEFAULT, LIMIT_MAX, BadCursor, Listing, Page
from projections.rows import ReadModel
from projections.status import wait_for_commands

R = TypeVar("R", bound=Struct)

WITHOUT_NUL: Final = r"^[^\x00]*$"
"""PostgreSQL has no text with that character in it."""

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


def listing(limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None, sort: Sort = "-created_at") -> Listing:
    """Return which page of a list is asked for."""
    return Listing(limit=limit, cursor=cursor, sort=sort)


async def browse(services: Services, ledger_id: UUID, model: ReadModel[R], page: Listing, **filters: object) -> Page[R]:
    """Return a page of a read model that holds every command that was answered."""
    async with services.log.pool.connection() as connection:
        await wait_for_commands(connection, ledger_id, model.projection)
        return await read_page(connection, ledger_id, model, page, **filters)


async def read_page(
    connection: Connection, ledger_id: UUID, model: ReadModel[R], page: Listing, **filters: object
) -> Page[R]:
    """Return a page of a read model as it stands; raise BadCursor or BadSort."""
    try:
        return await model.browse(connection, ledger_id, page, **filters)
    except psycopg.DataError as error:
        # Filters have been checked, so it is a cursor of somebody's own making, with a value that is none of the field.
        raise BadCursor("The cursor is not one that this list handed out.", pointer="/cursor") from error


async def show(services: Services, ledger_id: UUID, model: ReadModel[R], thing_id: UUID) -> Response[R]:
    """Return one row of a read model that holds every command that was answered, its version as ETag."""
    async with services.log.pool.connection() as connection:
        await wait_for_commands(connection, ledger_id, model.projection)
        row = await model.read(connection, ledger_id, thing_id)
    if row is None:
        raise NotFound(model.thing, thing_id)
    return Response(row, headers={"ETag": f'"{getattr(row, "version", 0)}"'})


def receipt(answer: Receipt, *, created: bool = False) -> Response[Receipt]:
    """Return the answer to a command."""
    return Response(answer, status_code=201 if created else 200, headers={"ETag": f'"{answer.version}"'})

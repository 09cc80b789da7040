"""What the doors to things that are listed have in common: how a page is asked for, and how one thing is answered."""

from typing import Annotated, TypeVar
from uuid import UUID

from litestar import Response
from litestar.params import Parameter
from msgspec import Struct

from api.services import Services
from domain.errors import NotFound
from infra.batch import Receipt
from projections.listing import LIMIT_DEFAULT, LIMIT_MAX, Listing, Page
from projections.rows import ReadModel
from projections.status import wait_for_commands

R = TypeVar("R", bound=Struct)

Limit = Annotated[int, Parameter(ge=1, le=LIMIT_MAX, description="How many rows at most.")]
Cursor = Annotated[str | None, Parameter(max_length=1_000, description="`next_cursor` of the page before.")]
Sort = Annotated[str, Parameter(max_length=50, description="A field; a leading minus sorts the largest first.")]
Filter = Annotated[str | None, Parameter(max_length=200)]


def listing(limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None, sort: Sort = "-created_at") -> Listing:
    """Return which page of a list is asked for."""
    return Listing(limit=limit, cursor=cursor, sort=sort)


async def browse(services: Services, ledger_id: UUID, model: ReadModel[R], page: Listing, **filters: object) -> Page[R]:
    """Return a page of a read model that holds every command that was answered."""
    async with services.log.pool.connection() as connection:
        await wait_for_commands(connection, ledger_id, model.projection)
        return await model.browse(connection, ledger_id, page, **filters)


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

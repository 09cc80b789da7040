"""Pages of a read model: filtered, sorted, and continued from a cursor that survives insertions."""

import base64
import binascii
from collections.abc import Sequence
from typing import Final, Generic, TypeVar
from uuid import UUID

import msgspec
import psycopg
from msgspec import Struct
from sqlalchemy import Table, cast, select, tuple_
from sqlalchemy.sql.elements import ColumnElement

from domain.errors import Refusal
from infra.composed import fetch
from infra.database import Connection

R = TypeVar("R", bound=Struct)

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 500


class BadCursor(Refusal):
    """The cursor is not one that this list handed out for this sorting."""

    code = "bad_cursor"


class BadSort(Refusal):
    """The list cannot be sorted by that field."""

    code = "bad_sort"


class Page(Struct, Generic[R], frozen=True, kw_only=True):
    """Some rows of a list, and the cursor of what follows them (null: nothing does)."""

    items: list[R]
    next_cursor: str | None = None


class Listing(Struct, frozen=True, kw_only=True):
    """How a list is asked for: how many rows, after which cursor, by which field (a leading minus: descending).

    Where `advertisers` is not None, it is asked for by somebody who sees what these own, and nothing else.
    """

    limit: int = LIMIT_DEFAULT
    cursor: str | None = None
    sort: str = "-created_at"
    advertisers: frozenset[UUID] | None = None


async def read_page(
    connection: Connection,
    table: Table,
    kind: type[R],
    ledger_id: UUID,
    listing: Listing,
    *,
    conditions: Sequence[ColumnElement[bool]] = (),
    sortable: Sequence[str],
) -> Page[R]:
    """Return one page of a ledger's rows; ties in the sorted field are broken by the id, the table's second column."""
    name = listing.sort.removeprefix("-")
    if name not in sortable:
        raise BadSort(f"This list is sorted by one of: {', '.join(sortable)}.", pointer="/sort")
    descending = listing.sort.startswith("-")
    order = (table.columns[name], table.columns[1])
    place = tuple_(*order)
    statement = select(*(table.columns[field] for field in kind.__struct_fields__))
    statement = statement.where(table.c.ledger_id == ledger_id, *conditions)
    if listing.cursor is not None:
        values = zip(_decoded(listing.cursor, listing.sort), order, strict=True)
        after = tuple_(*(cast(value, column.type) for value, column in values))
        statement = statement.where(place < after if descending else place > after)
    statement = statement.order_by(*(column.desc() if descending else column.asc() for column in order))
    try:
        rows = await fetch(connection, statement.limit(listing.limit + 1), kind)
    except psycopg.DataError as error:
        if listing.cursor is None:
            raise
        raise _foreign() from error
    page = rows[: listing.limit]
    if len(rows) <= listing.limit:
        return Page(items=page)
    last = page[-1]
    return Page(items=page, next_cursor=_encoded(listing.sort, getattr(last, name), getattr(last, order[1].name)))


def _encoded(sort: str, value: object, row_id: object) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([sort, str(value), str(row_id)])).decode().rstrip("=")


def _decoded(cursor: str, sort: str) -> tuple[str, str]:
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        of_sort, value, row_id = msgspec.json.decode(raw, type=tuple[str, str, str])
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise _foreign() from error
    if of_sort != sort:
        raise BadCursor("The cursor belongs to another order of this list.", pointer="/cursor")
    return value, row_id


def _foreign() -> BadCursor:
    return BadCursor("The cursor is not one that this list handed out.", pointer="/cursor")

"""Rows of read models: how a set of them is loaded, folded and written, one statement each.

A read model's row is a struct whose fields are named as the columns of its table.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import Table, false
from sqlalchemy.sql.elements import ColumnElement

from infra.database import Connection, as_structs
from infra.event_log import Recorded
from projections.listing import Listing, Page, read_page

R = TypeVar("R", bound=Struct)


class ReadModel(NamedTuple, Generic[R]):
    """Things as they stand, one row each: the table, the row, how an entry changes it, by what it can be sorted.

    The first two columns of the table are `ledger_id` and the id of the thing. `advertiser` says whose a row is; of
    what is nobody's, whoever sees the things of some advertisers alone sees nothing.
    """

    thing: str
    projection: str
    table: Table
    kind: type[R]
    fold: Callable[[R | None, Recorded], R]
    sortable: tuple[str, ...]
    advertiser: ColumnElement[UUID] | None = None

    async def read(self, connection: Connection, ledger_id: UUID, thing_id: UUID) -> R | None:
        """Return one row, or None."""
        return (await load(connection, self.table, self.kind, ledger_id, [thing_id])).get(thing_id)

    async def browse(self, connection: Connection, ledger_id: UUID, listing: Listing, **filters: object) -> Page[R]:
        """Return a page of the rows whose columns equal the filters that are not None, of those that may be seen."""
        conditions = [self.table.columns[name] == value for name, value in filters.items() if value is not None]
        if listing.advertisers is not None:
            conditions.append(false() if self.advertiser is None else self.advertiser.in_(listing.advertisers))
        return await read_page(
            connection, self.table, self.kind, ledger_id, listing, conditions=conditions, sortable=self.sortable
        )

    async def write(self, connection: Connection, ledger_id: UUID, batch: Sequence[Recorded]) -> None:
        """Load the rows that a batch is about, fold its entries into them, and write them back."""
        rows = await load(connection, self.table, self.kind, ledger_id, {subject_of(recorded) for recorded in batch})
        for recorded in batch:
            subject = subject_of(recorded)
            rows[subject] = self.fold(rows.get(subject), recorded)
        await upsert(connection, self.table, ledger_id, list(rows.values()))


def subject_of(recorded: Recorded) -> UUID:
    """Return the id of the thing whose stream an entry belongs to."""
    return UUID(recorded.entry.stream.partition("-")[2])


def stamp(recorded: Recorded) -> dict[str, Any]:
    """Return the fields that every entry sets in the row of its thing."""
    return {
        "version": recorded.entry.version,
        "position": recorded.position,
        "updated_at": recorded.entry.recorded_at,
    }


async def load(
    connection: Connection, table: Table, kind: type[R], ledger_id: UUID, ids: Iterable[UUID]
) -> dict[UUID, R]:
    """Return the rows of a ledger with these ids, by id; the second column of the table is the id."""
    key = table.columns[1]
    cursor = await connection.execute(
        f"SELECT {', '.join(kind.__struct_fields__)} FROM {table.name} WHERE ledger_id = %s AND {key.name} = ANY(%s)",
        (ledger_id, list(ids)),
    )
    return {getattr(row, key.name): row for row in as_structs(await cursor.fetchall(), kind)}


async def upsert(connection: Connection, table: Table, ledger_id: UUID, rows: Sequence[Struct]) -> None:
    """Write rows of one kind, in place of those with the same primary key."""
    if not rows:
        return
    columns = ", ".join(rows[0].__struct_fields__)
    key = ", ".join(column.name for column in table.primary_key)
    replaced = ", ".join(f"EXCLUDED.{name}" for name in rows[0].__struct_fields__)
    await connection.execute(
        f"""
        INSERT INTO {table.name} (ledger_id, {columns})
        SELECT %(ledger_id)s, {columns} FROM json_populate_recordset(NULL::{table.name}, %(rows)s::json)
        ON CONFLICT ({key}) DO UPDATE SET ({columns}) = ROW({replaced})
        """,
        {"ledger_id": ledger_id, "rows": msgspec.json.encode(rows).decode()},
    )

"""Time travel: a read model as it stood, made again from the log by the fold, write and queries of the live one.

What tells the two apart is the schema: tables of another one go before the live ones in the search path of a connection
that is used for nothing else, so that every statement finds them.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, TypeVar
from uuid import UUID

from msgspec import Struct

from domain.decider import stream_of
from domain.errors import Refusal
from infra import clock, tables
from infra.database import Connection, connect_to
from infra.event_log import read_head, read_recorded_at, read_streams
from projections import filling
from projections.rows import ReadModel
from projections.runner import AnyProjection

LIVE: Final = "public"
"""The schema of the tables that everybody reads."""

ROOM: Final = "WITH (fillfactor = 50)"
"""Rows that are written over and over find room beside themselves: half the cost of adding to them."""

PAGE_ENTRIES: Final = 1_000
"""Folded in one go, while nothing else is answered by the process."""

REPLAYS_MAX: Final = 2
"""Bounds what time travel takes from a process that serves; whoever comes later waits."""

R = TypeVar("R", bound=Struct)

_replaying: Final = asyncio.Semaphore(REPLAYS_MAX)


class BeyondHead(Refusal):
    """The log has not come that far yet."""

    code = "as_of_beyond_head"


class Standing(Struct, frozen=True, kw_only=True):
    """A position of the log, and the time at which it is looked at: the one that was asked for, or its entry's."""

    position: int
    at: datetime


async def standing(connection: Connection, ledger_id: UUID, moment: int | datetime) -> Standing:
    """Return the position that is meant: itself, or that of the last entry recorded by a time; raise BeyondHead.

    Times are those of the server that recorded the entries, and never decrease along the log. Position 0 is before all.
    """
    head = await read_head(connection, ledger_id)
    if isinstance(moment, datetime):
        if moment > max(clock.now(), head.recorded_at):
            raise BeyondHead(f"The log has not come to {moment.isoformat()} yet.")
        return Standing(position=await _last_by(connection, ledger_id, head.position, moment), at=moment)
    if moment > head.position:
        raise BeyondHead(f"The log ends at position {head.position}.")
    if moment == 0:
        return Standing(position=0, at=head.recorded_at)
    return Standing(position=moment, at=await read_recorded_at(connection, ledger_id, moment))


async def read_one(
    connection: Connection, model: ReadModel[R], ledger_id: UUID, thing_id: UUID, position: int
) -> R | None:
    """Return the row of a thing as of a position, from its stream alone; None when there was no such thing."""
    stream = stream_of(model.thing, thing_id)
    row = None
    for recorded in (await read_streams(connection, ledger_id, [stream]))[stream]:
        if recorded.position <= position:
            row = model.fold(row, recorded)
    return row


@asynccontextmanager
async def replayed(
    url: str,
    projection: AnyProjection,
    ledger_id: UUID,
    position: int,
    *,
    after: int = 0,
    beside: Sequence[AnyProjection] = (),
) -> AsyncIterator[Connection]:
    """Yield a connection on which a read model, and others beside it, stand as of a position, made of all `after` one.

    Memory does not grow with the log: it is read in pages, and what is made of it is in temporary tables, which end
    with the connection.
    """
    async with _replaying, await connect_to(url, ledger_id) as connection:
        await put_in_front(connection, "pg_temp")
        replayed = (projection, *beside)
        for name in (tables.checkpoints.name, tables.parked_events.name, *(each.table.name for each in replayed)):
            await connection.execute(f"CREATE TABLE pg_temp.{name} (LIKE {LIVE}.{name} INCLUDING ALL) {ROOM}")
        for each in replayed:
            await connection.execute(
                """
                INSERT INTO checkpoints (ledger_id, projection, version, position, updated_at)
                VALUES (%s, %s, %s, %s, %s)
                """,
                (ledger_id, each.name, each.version, after, clock.now()),
            )
            async with filling.opened(url, each, ledger_id) as lanes:
                async for _ in filling.fill(connection, each, ledger_id, position, lanes=lanes, limit=PAGE_ENTRIES):
                    pass
        yield connection


async def put_in_front(connection: Connection, schema: str) -> None:
    """Let every statement of a connection find the tables of a schema before the live ones."""
    await connection.execute(f"SET search_path TO {schema}, {LIVE}")


async def _last_by(connection: Connection, ledger_id: UUID, last: int, time: datetime) -> int:
    """Return the position of the last entry recorded by a time, by bisection; 0 when there is none."""
    first = 0
    while first < last:
        middle = (first + last + 1) // 2
        if await read_recorded_at(connection, ledger_id, middle) <= time:
            first = middle
        else:
            last = middle - 1
    return first

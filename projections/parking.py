"""What projections could not apply: which keys, why, and how they are applied after all."""

from datetime import datetime
from uuid import UUID

import msgspec
import psycopg
from msgspec import Struct

from infra.database import Connection, as_structs
from infra.event_log import Recorded, Text, decode_entry
from projections import counting
from projections.counting import Counting
from projections.runner import BATCH_ENTRIES_MAX, AnyProjection, Projection


class NotApplied(Exception):
    """The events of {key} cannot be applied to {projection} yet: {reason}."""

    def __init__(self, key: str, projection: str, reason: str) -> None:
        """Name the key and the projection, and say why."""
        super().__init__(str(self.__doc__).format(key=key, projection=projection, reason=reason.rstrip(".")))


class ParkedKey(Struct, frozen=True, kw_only=True):
    """A key that a projection has stopped at: the error of its first event, and how many events wait behind it."""

    projection: str
    key: str
    error: str
    position: int
    events: int
    parked_at: datetime


async def read_parked(connection: Connection, ledger_id: UUID, *, key: str | None = None) -> list[ParkedKey]:
    """Return the keys of a ledger that are parked, or that one, by projection and position."""
    cursor = await connection.execute(
        """
        SELECT DISTINCT ON (projection, key) projection, key, error, position, parked_at,
            count(*) OVER (PARTITION BY projection, key) AS events
        FROM parked_events
        WHERE ledger_id = %(ledger_id)s AND (%(key)s::text IS NULL OR key = %(key)s)
        ORDER BY projection, key, position
        """,
        {"ledger_id": ledger_id, "key": key},
    )
    found = as_structs(await cursor.fetchall(), ParkedKey)
    return sorted(found, key=lambda parked: (parked.projection, parked.position))


async def retry(connection: Connection, projection: AnyProjection, ledger_id: UUID, key: str) -> int:
    """Apply all events of a parked key, in order and in one transaction; return how many. Raise NotApplied.

    The projection's runner waits meanwhile.
    """
    applied, position = 0, 0
    async with connection.transaction():
        await connection.execute(
            "SELECT FROM checkpoints WHERE ledger_id = %s AND projection = %s FOR UPDATE", (ledger_id, projection.name)
        )
        while texts := await _read(connection, projection, ledger_id, key, after=position):
            if isinstance(projection, Counting):
                await _count(connection, projection, ledger_id, key, texts)
            else:
                await _apply(connection, projection, ledger_id, key, texts)
            applied, position = applied + len(texts), texts[-1].position
        await connection.execute(
            "DELETE FROM parked_events WHERE ledger_id = %s AND projection = %s AND key = %s",
            (ledger_id, projection.name, key),
        )
    return applied


async def _read(
    connection: Connection, projection: AnyProjection, ledger_id: UUID, key: str, *, after: int
) -> list[Text]:
    cursor = await connection.execute(
        """
        SELECT position, entry::text AS entry FROM parked_events JOIN events USING (ledger_id, position)
        WHERE ledger_id = %(ledger_id)s AND projection = %(projection)s AND key = %(key)s AND position > %(after)s
        ORDER BY position LIMIT %(limit)s
        """,
        {
            "ledger_id": ledger_id,
            "projection": projection.name,
            "key": key,
            "after": after,
            "limit": BATCH_ENTRIES_MAX,
        },
    )
    return [Text(position=row["position"], entry=row["entry"]) for row in await cursor.fetchall()]


async def _apply(connection: Connection, projection: Projection, ledger_id: UUID, key: str, texts: list[Text]) -> None:
    try:
        batch = [Recorded(position=text.position, entry=decode_entry(text.entry)) for text in texts]
    except msgspec.DecodeError as error:
        raise NotApplied(key, projection.name, str(error)) from error
    batch = [recorded for recorded in batch if isinstance(recorded.entry.event, projection.handles)]
    if any(projection.key(recorded) != key for recorded in batch):
        # Parked while nobody could read whose it is: what came after it in that row has been applied.
        raise NotApplied(
            key, projection.name, f"they come too late, run `ledger projections rebuild {projection.name}`"
        )
    try:
        async with connection.transaction():
            if batch:
                await projection.write(connection, ledger_id, batch)
    except psycopg.OperationalError:
        raise
    except Exception as error:
        raise NotApplied(key, projection.name, repr(error)) from error


async def _count(connection: Connection, projection: Counting, ledger_id: UUID, key: str, texts: list[Text]) -> None:
    try:
        async with connection.transaction():
            await counting.recount(connection, projection, ledger_id, [text.position for text in texts])
    except psycopg.OperationalError:
        raise
    except Exception as error:
        raise NotApplied(key, projection.name, repr(error)) from error

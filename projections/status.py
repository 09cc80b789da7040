"""How far each projection has come, and whether a reader may already rely on it."""

import asyncio
from datetime import datetime
from time import monotonic
from typing import Final
from uuid import UUID

from msgspec import Struct

from infra.database import Connection, as_structs
from projections.catalogue import PROJECTIONS

CATCH_UP_SECONDS_MAX: Final = 5.0
POLL_SECONDS: Final = 0.01


class ProjectionBehind(Exception):
    """The read models are behind the log; try again in a moment."""


class ProjectionStatus(Struct, frozen=True, kw_only=True):
    """A projection's version and position, how many events it is behind, and how many it could not apply."""

    name: str
    version: int
    position: int
    lag: int
    parked: int
    updated_at: datetime


async def read_status(connection: Connection, ledger_id: UUID) -> list[ProjectionStatus]:
    """Return the status of every projection of a ledger, by name; one without deliveries is behind commands only."""
    cursor = await connection.execute(
        """
        SELECT projection AS name, version, reached.position, reached.updated_at,
            greatest(0, CASE WHEN projection = ANY(%(without_deliveries)s) THEN head.command_position
                ELSE head.position END - reached.position) AS lag,
            (SELECT count(*) FROM parked_events AS parked
             WHERE parked.ledger_id = reached.ledger_id AND parked.projection = reached.projection) AS parked
        FROM checkpoints AS reached JOIN ledger_heads AS head USING (ledger_id)
        WHERE ledger_id = %(ledger_id)s ORDER BY projection
        """,
        {"ledger_id": ledger_id, "without_deliveries": [each.name for each in PROJECTIONS if each.catalogue_only]},
    )
    return as_structs(await cursor.fetchall(), ProjectionStatus)


async def read_position(connection: Connection, ledger_id: UUID, projection: str) -> int:
    """Return the position of the log that a read model stands at."""
    cursor = await connection.execute(
        "SELECT position FROM checkpoints WHERE ledger_id = %s AND projection = %s", (ledger_id, projection)
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row["position"])


async def wait_for_commands(connection: Connection, ledger_id: UUID, projection: str) -> int:
    """Wait until a projection holds every command that was answered, and return its position.

    Deliveries are not waited for, so that a flood of them does not slow an admin's reading down. Raise ProjectionBehind
    when that takes too long.
    """
    deadline = monotonic() + CATCH_UP_SECONDS_MAX
    while True:
        cursor = await connection.execute(
            """
            SELECT coalesce(reached.position, 0) AS position, head.command_position
            FROM ledger_heads AS head
            LEFT JOIN checkpoints AS reached ON reached.ledger_id = head.ledger_id AND projection = %s
            WHERE head.ledger_id = %s
            """,
            (projection, ledger_id),
        )
        row = await cursor.fetchone()
        if row is not None and row["position"] >= row["command_position"]:
            return int(row["position"])
        if monotonic() > deadline:
            raise ProjectionBehind
        await asyncio.sleep(POLL_SECONDS)

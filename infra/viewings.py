"""What viewers have seen of what has a frequency cap, as the writer keeps it."""

from uuid import UUID

from msgspec import Struct

from domain.frequency import Viewing
from infra.database import Connection


class Viewed(Struct, frozen=True, kw_only=True):
    """What a viewer has seen of a campaign or creative, and the log's position at which it last changed."""

    subject: UUID
    viewer: str
    viewing: Viewing
    position: int


async def read_viewings(connection: Connection, ledger_id: UUID, after: int) -> list[Viewed]:
    """Return what has changed after a position of the log, in the order in which it did."""
    cursor = await connection.execute(
        """
        SELECT subject, viewer, views, times, position FROM viewings
        WHERE ledger_id = %s AND position > %s ORDER BY position
        """,
        (ledger_id, after),
    )
    return [
        Viewed(
            subject=row["subject"],
            viewer=row["viewer"],
            viewing=Viewing(row["views"], tuple(row["times"])),
            position=row["position"],
        )
        for row in await cursor.fetchall()
    ]


async def read_position_of_last(connection: Connection, ledger_id: UUID, count: int) -> int:
    """Return a position after which so many viewings changed; 0 when there are fewer."""
    cursor = await connection.execute(
        "SELECT position FROM viewings WHERE ledger_id = %s ORDER BY position DESC OFFSET %s LIMIT 1",
        (ledger_id, count),
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row["position"])

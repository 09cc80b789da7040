"""What of the budgets is leased, as the database has it."""

from collections.abc import Sequence
from uuid import UUID

from infra.database import Connection


async def leased_impressions(connection: Connection, ledger_id: UUID, campaigns: Sequence[UUID]) -> dict[UUID, int]:
    """Return how many impressions of each campaign are set aside for workers."""
    cursor = await connection.execute(
        "SELECT campaign_id, leased_impressions FROM budgets WHERE ledger_id = %s AND campaign_id = ANY(%s)",
        (ledger_id, list(campaigns)),
    )
    return {row["campaign_id"]: row["leased_impressions"] for row in await cursor.fetchall()}

"""What of budgets and funds is spent and leased, as the writer keeps it."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from msgspec import Struct

from infra.database import Connection


async def leased_impressions(connection: Connection, ledger_id: UUID, campaigns: Sequence[UUID]) -> dict[UUID, int]:
    """Return how many impressions of each campaign are set aside for workers."""
    cursor = await connection.execute(
        "SELECT budget_id, leased_impressions FROM budgets WHERE ledger_id = %s AND budget_id = ANY(%s)",
        (ledger_id, list(campaigns)),
    )
    return {row["budget_id"]: row["leased_impressions"] for row in await cursor.fetchall()}


class Funds(Struct, frozen=True, kw_only=True):
    """An advertiser's funds; what is leased is set aside for impressions that workers may promise to ad slots."""

    currency: str
    deposited_micros: int
    spent_micros: int
    leased_micros: int
    remaining_micros: int


async def read_funds(connection: Connection, ledger_id: UUID, advertiser_id: UUID) -> Funds | None:
    """Return the funds of an advertiser, or None when it never deposited any."""
    cursor = await connection.execute(
        """
        SELECT currency, budget_micros AS deposited_micros, spent_micros, leased_micros,
            budget_micros - spent_micros AS remaining_micros
        FROM budgets WHERE ledger_id = %s AND budget_id = %s AND advertiser_id IS NULL
        """,
        (ledger_id, advertiser_id),
    )
    row = await cursor.fetchone()
    return None if row is None else msgspec.convert(row, Funds)

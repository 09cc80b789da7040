"""How a test looks at all read models of a ledger, and makes them anew from the log."""

from typing import Any, Final
from uuid import UUID

from infra.database import Connection
from projections import advertisers, budgets, campaigns, creatives, delivery, history, requests, slots
from projections.catalogue import PROJECTIONS
from projections.runner import catch_up

TABLES: Final = (
    advertisers.advertisers,
    budgets.spendings,
    campaigns.campaigns,
    creatives.creatives,
    delivery.deliveries,
    history.histories,
    requests.ad_requests,
    slots.slots,
)

Contents = dict[str, list[dict[str, Any]]]


async def contents(connection: Connection, ledger_id: UUID) -> Contents:
    """Return the rows of every read model of a ledger, in the order of their keys."""
    found: Contents = {}
    for table in TABLES:
        key = ", ".join(column.name for column in table.primary_key)
        query = f"SELECT * FROM {table.name} WHERE ledger_id = %s ORDER BY {key}"
        found[table.name] = await (await connection.execute(query.encode(), (ledger_id,))).fetchall()
    return found


async def caught_up(connection: Connection) -> None:
    """Bring every read model to the end of the log."""
    for projection in PROJECTIONS:
        await catch_up(connection, projection)


async def rebuilt(connection: Connection, ledger_id: UUID) -> Contents:
    """Empty every read model of a ledger, make it anew from the log, and return the rows."""
    async with connection.transaction():
        for name in [*(table.name for table in TABLES), "parked_events"]:
            await connection.execute(f"DELETE FROM {name} WHERE ledger_id = %s".encode(), (ledger_id,))
        await connection.execute("UPDATE checkpoints SET position = 0 WHERE ledger_id = %s", (ledger_id,))
    await caught_up(connection)
    return await contents(connection, ledger_id)

"""The condition of an installation and of each ledger in it: sizes and delays, and nothing that anybody keeps there."""

from importlib.metadata import version
from typing import Final
from uuid import UUID

from msgspec import Struct

from infra import clock, schema, tree
from infra.database import Connection, see
from infra.event_log import read_head
from projections import status

# Workers that hold a part of the ledger's budgets, or would if there were any.
WORKERS: Final = "SELECT count(*) AS alive FROM workers WHERE ledger_id = %s AND alive_until > clock_timestamp()"

SIZES: Final = """
    SELECT pg_database_size(current_database()) AS database_bytes, (SELECT count(*) FROM ledgers) AS organisations
"""

PAGE: Final = """
    SELECT ledger_id FROM ledgers WHERE %(after)s::uuid IS NULL OR ledger_id > %(after)s
    ORDER BY ledger_id LIMIT %(limit)s
"""


class LedgerCondition(Struct, frozen=True, kw_only=True):
    """How many entries a ledger has and how many are sealed, what is behind, and how many workers serve it.

    `lags` are numbers of entries by read model, `unsealed_seconds` is the age of the first entry without a seal.
    """

    ledger_id: UUID
    entries: int
    sealed_entries: int
    unsealed_seconds: float
    lags: dict[str, int]
    parked: int
    workers: int


class InstallationCondition(Struct, frozen=True, kw_only=True):
    """What runs, how large it has become, and a page of its ledgers."""

    release: str
    schema_revision: str | None
    database_bytes: int
    organisations: int
    ledgers: list[LedgerCondition]
    next_cursor: str | None


async def read(connection: Connection, *, after: UUID | None, limit: int) -> InstallationCondition:
    """Return the condition of an installation, with the ledgers after one of them by id."""
    sizes = await (await connection.execute(SIZES)).fetchone()
    assert sizes is not None  # noqa: S101  it is one row
    cursor = await connection.execute(PAGE, {"after": after, "limit": limit})
    ledgers = [await _of_ledger(connection, row["ledger_id"]) for row in await cursor.fetchall()]
    return InstallationCondition(
        release=version("campaign-ledger"),
        schema_revision=await schema.revision_of(connection),
        database_bytes=sizes["database_bytes"],
        organisations=sizes["organisations"],
        ledgers=ledgers,
        next_cursor=str(ledgers[-1].ledger_id) if len(ledgers) == limit else None,
    )


async def _of_ledger(connection: Connection, ledger_id: UUID) -> LedgerCondition:
    await see(connection, ledger_id)
    found = await status.read_status(connection, ledger_id)
    sealed = await tree.read_checkpoint(connection, ledger_id)
    since = await tree.unsealed_since(connection, ledger_id)
    workers = await (await connection.execute(WORKERS, (ledger_id,))).fetchone()
    return LedgerCondition(
        ledger_id=ledger_id,
        entries=(await read_head(connection, ledger_id)).position,
        sealed_entries=sealed.size if sealed else 0,
        unsealed_seconds=max(0.0, (clock.now() - since).total_seconds()) if since else 0.0,
        lags={each.name: each.lag for each in found},
        parked=sum(each.parked for each in found),
        workers=workers["alive"] if workers else 0,
    )

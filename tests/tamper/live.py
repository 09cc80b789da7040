"""Every kind of tampering with the live database, and which check finds it."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, NamedTuple

from domain import merkle
from domain.budget import Budget
from infra.database import Connection
from infra.verifier import Report
from tests import evening
from tests.sealing import meddle
from tests.writing import owning

READ_MODELS: Final = ("advertisers", "campaigns", "creatives", "slots", "spendings", "deliveries", "histories")
CHANGED: Final = {
    "boolean": "NOT coalesce({0}, false)",
    "bigint": "coalesce({0}, 0) + 1000",
    "integer": "coalesce({0}, 0) + 1000",
    "smallint": "coalesce({0}, 0) + 1000",
    "text": "coalesce({0}, '') || 'x'",
    "uuid": "gen_random_uuid()",
    "date": "coalesce({0}, '2026-01-01') + 1",
    "timestamp with time zone": "coalesce({0}, now()) + interval '100 hours'",
    "jsonb": "jsonb_build_object('changed', {0})",
}

DatabaseTamper = Callable[[Connection, Random], Awaitable[None]]


class LiveKind(NamedTuple):
    """A kind of tampering, the check that has to find it, and whether that takes a checkpoint that was kept."""

    name: str
    tamper: DatabaseTamper
    found_by: str
    kept: bool = False


async def change_column(owner: Connection, random: Random) -> None:
    """Change what stands beside an entry."""
    column = random.choice(["stream_id", "version", "type", "recorded_at"])
    kind = {"stream_id": "text", "version": "integer", "type": "text"}.get(column, "timestamp with time zone")
    value = CHANGED[kind].format(column)
    await meddle(owner, f"UPDATE events SET {column} = {value} WHERE position = %s", random.randrange(1, 500))


async def change_read_model(owner: Connection, random: Random) -> None:
    """Change one field of one row of a read model."""
    await _change_row(owner, random, random.choice(READ_MODELS))


async def remove_read_model(owner: Connection, random: Random) -> None:
    """Remove one row of a read model."""
    table = random.choice(READ_MODELS)
    await meddle(owner, f"DELETE FROM {table} WHERE ctid = ({_some_row(table)})", random.random())


async def change_budget(owner: Connection, random: Random) -> None:
    """Change what the writer believes of a budget."""
    told = {*Budget.__struct_fields__} - {"budget_id", "day"}  # a day on which nothing is billed yet may be any
    await _change_row(owner, random, "budgets", random.choice(sorted(told)))


async def edit_row(owner: Connection, random: Random) -> None:
    """Change an entry where it is kept."""
    position, actor = random.randrange(1, 500), f"user:{random.getrandbits(32)}"
    change = (
        "UPDATE events SET entry = jsonb_set(entry::jsonb, '{actor}', to_jsonb(%s::text))::json WHERE position = %s"
    )
    await meddle(owner, change, actor, position)


async def drop_row(owner: Connection, random: Random) -> None:
    """Remove an entry where it is kept."""
    await meddle(owner, "DELETE FROM events WHERE position = %s", random.randrange(1, 500))


async def swap_rows(owner: Connection, random: Random) -> None:
    """Change the places of two entries where they are kept."""
    one, other = random.sample(range(1, 500), 2)
    for old, new in ((one, -1), (other, one), (-1, other)):
        await meddle(owner, "UPDATE events SET position = %s WHERE position = %s", new, old)


async def add_row(owner: Connection, random: Random) -> None:
    """Add an entry that nobody recorded."""
    copied = "stream_id || %s, 1, type, recorded_at, entry FROM events WHERE position = %s"
    place = "SELECT ledger_id, (SELECT max(position) + 1 FROM events)"
    columns = "INSERT INTO events (ledger_id, position, stream_id, version, type, recorded_at, entry)"
    await meddle(owner, f"{columns} {place}, {copied}", f"-{random.getrandbits(32)}", random.randrange(1, 500))


async def cut_rows(owner: Connection, random: Random) -> None:
    """Remove the end of the log, and say that it ends there."""
    position = random.randrange(500)
    await meddle(owner, "DELETE FROM events WHERE position > %s", position)
    await meddle(owner, "UPDATE ledger_heads SET position = %s", position)


async def roll_back_database(owner: Connection, random: Random) -> None:
    """Bring everything back to where it was at an earlier checkpoint."""
    size = random.choice([1, 100, 256, 400])
    await meddle(owner, "DELETE FROM events WHERE position > %s", size)
    await meddle(owner, "UPDATE ledger_heads SET position = %s", size)
    await meddle(owner, "DELETE FROM log_checkpoints WHERE size > %s", size)


async def change_tile(owner: Connection, random: Random) -> None:
    """Change a hash of an entry where the tree is kept."""
    at = random.randrange(100) * merkle.HASH_BYTES
    change = "UPDATE tiles SET hashes = overlay(hashes PLACING sha256('x') FROM %s) WHERE level = 0 AND number = %s"
    await meddle(owner, change, at + 1, random.randrange(2))


async def change_note(owner: Connection, random: Random) -> None:
    """Change a checkpoint where it is kept."""
    size = random.choice([1, 100, 256, 400])
    await meddle(owner, "UPDATE log_checkpoints SET note = overlay(note PLACING 'x' FROM 90) WHERE size = %s", size)


LIVE_KINDS: Final = (
    LiveKind("live: changed column", change_column, "columns"),
    LiveKind("live: changed read model", change_read_model, "read models"),
    LiveKind("live: removed row of a read model", remove_read_model, "read models"),
    LiveKind("live: changed budget of the writer", change_budget, "read models"),
    LiveKind("live: edited entry", edit_row, "entries"),
    LiveKind("live: dropped entry", drop_row, "structure"),
    LiveKind("live: swapped entries", swap_rows, "entries"),
    LiveKind("live: added entry", add_row, "structure"),
    LiveKind("live: truncated tail", cut_rows, "structure"),
    LiveKind("live: rolled back", roll_back_database, "consistency", kept=True),
    LiveKind("live: changed hash", change_tile, "entries"),
    LiveKind("live: changed checkpoint", change_note, "signatures"),
)


async def try_live(kind: LiveKind, url: str, seed: int) -> Report:
    """Tamper with a database, return what the verifier finds, and leave everything as it was."""
    async with owning(url) as owner, owner.transaction(force_rollback=True):
        kept = [await evening.last_note(owner)] if kind.kept else []
        await kind.tamper(owner, Random(f"{kind.name} {seed}"))
        return await evening.inspected_live(owner, *kept, within=True)


def _some_row(table: str) -> str:
    return f"SELECT ctid FROM {table} ORDER BY ctid OFFSET floor(%s * (SELECT count(*) FROM {table})) LIMIT 1"


async def _change_row(owner: Connection, random: Random, table: str, column: str | None = None) -> None:
    cursor = await owner.execute(
        """
        SELECT column_name, data_type FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position
        """,
        (table,),
    )
    columns = {row["column_name"]: row["data_type"] for row in await cursor.fetchall()}
    name = column or random.choice(sorted(columns))
    change = f"UPDATE {table} SET {name} = {CHANGED[columns[name]].format(name)} WHERE ctid = ({_some_row(table)})"
    await meddle(owner, change, random.random())

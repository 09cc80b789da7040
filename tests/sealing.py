"""Short words with which a test fills a log, seals it, and meddles with it as only the owner of a database can."""

from pathlib import Path
from typing import Final
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from domain import merkle
from infra import tree
from infra.database import Connection
from infra.log_keys import LogKeys, SigningRefused
from infra.sealer import Seal
from infra.tree import TreeDamaged
from tests.writing import rows

FILL: Final = """
    INSERT INTO events (ledger_id, position, stream_id, version, type, recorded_at, entry)
    SELECT %(ledger_id)s, number, 'decision-' || number, 1, 'test', now(), json_build_object('entry', number)
    FROM generate_series(%(after)s::bigint + 1, %(upto)s) AS number
"""


def log_keys_in(folder: Path, name: str = "log.pem") -> LogKeys:
    """Return a fresh key of a log, as if it had been read from a folder."""
    return LogKeys(path=folder / name, ed25519=Ed25519PrivateKey.generate())


async def fill(connection: Connection, ledger_id: UUID, count: int) -> int:
    """Append that many entries of no meaning, and return the position of the last."""
    [head] = await rows(connection, "SELECT position FROM ledger_heads WHERE ledger_id = %s", ledger_id)
    after: int = head["position"]
    await connection.execute(FILL, {"ledger_id": ledger_id, "after": after, "upto": after + count})
    await connection.execute("UPDATE ledger_heads SET position = %s WHERE ledger_id = %s", (after + count, ledger_id))
    return after + count


async def leaves(connection: Connection, ledger_id: UUID) -> list[bytes]:
    """Return the leaf hashes of a log, hashed here."""
    found = await rows(
        connection, "SELECT entry::text AS entry FROM events WHERE ledger_id = %s ORDER BY position", ledger_id
    )
    return [merkle.leaf_hash(row["entry"].encode()) for row in found]


async def meddle(owner: Connection, statement: str, *parameters: object) -> None:
    """Do to the log what its triggers refuse: the connection is that of the database's owner."""
    async with owner.transaction():
        await owner.execute("SET LOCAL session_replication_role = replica")
        await owner.execute(statement.encode(), parameters)


async def cut(owner: Connection, ledger_id: UUID, position: int) -> None:
    """Leave nothing in the log after a position, as a database restored from a backup does."""
    await meddle(owner, "DELETE FROM events WHERE ledger_id = %s AND position > %s", ledger_id, position)
    await owner.execute("UPDATE ledger_heads SET position = %s WHERE ledger_id = %s", (position, ledger_id))


async def roll_back_tree(owner: Connection, ledger_id: UUID, size: int) -> None:
    """Leave of the tree what was there when it had so many entries."""
    _, tiles = merkle.extended(merkle.EMPTY_EDGE, b"".join((await leaves(owner, ledger_id))[:size]))
    await meddle(owner, "DELETE FROM log_checkpoints WHERE ledger_id = %s AND size > %s", ledger_id, size)
    await meddle(owner, "DELETE FROM tiles WHERE ledger_id = %s", ledger_id)
    await tree.write_tiles(owner, ledger_id, tiles)


async def edit(owner: Connection, ledger_id: UUID, position: int, entry: str) -> str:
    """Put another text in the place of an entry's, and return the one that was there."""
    [row] = await rows(
        owner, "SELECT entry::text AS entry FROM events WHERE ledger_id = %s AND position = %s", ledger_id, position
    )
    change = "UPDATE events SET entry = %s::json WHERE ledger_id = %s AND position = %s"
    await meddle(owner, change, entry, ledger_id, position)
    return str(row["entry"])


async def sealed(connection: Connection, keys: LogKeys, ledger_id: UUID, count: int) -> Seal:
    """Append entries and seal them."""
    position = await fill(connection, ledger_id, count)
    seal = Seal(keys, ledger_id)
    await seal.look(connection, position)
    assert seal.size == position
    return seal


async def signed_sizes(connection: Connection, ledger_id: UUID) -> list[int]:
    """Return the sizes that were ever signed."""
    found = await rows(connection, "SELECT size FROM log_checkpoints WHERE ledger_id = %s ORDER BY size", ledger_id)
    return [row["size"] for row in found]


async def refused(connection: Connection, keys: LogKeys, ledger_id: UUID) -> str:
    """Return why a sealer that starts now signs nothing, having seen that it does not."""
    before = await signed_sizes(connection, ledger_id)
    [head] = await rows(connection, "SELECT position FROM ledger_heads WHERE ledger_id = %s", ledger_id)
    with pytest.raises((SigningRefused, TreeDamaged)) as raised:
        await Seal(keys, ledger_id).resume(connection, head["position"])
    seal = Seal(keys, ledger_id)
    await seal.look(connection, head["position"])
    await seal.look(connection, head["position"] + 5_000)
    assert await signed_sizes(connection, ledger_id) == before
    return str(raised.value)

"""The Merkle tree of a log as PostgreSQL keeps it: leaf hashes of its entries, tiles, and the signed checkpoints."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from domain import merkle
from domain.merkle import HASH_BYTES, Edge, Node, Tile
from infra.database import Connection, as_structs
from infra.signed_note import VerifierKey


class TreeDamaged(Exception):
    """The stored tree does not have a part that it must have."""


class Sealed(Struct, frozen=True, kw_only=True):
    """A tree that was signed: its size, its root, and the signed note."""

    size: int
    root: bytes
    note: str


# The hashes are made where the entries are: 32 bytes travel instead of some hundred, in one row whatever the number.
_READ_LEAVES: Final = """
    SELECT string_agg(sha256('\\x00'::bytea || convert_to(entry::text, 'UTF8')), '' ORDER BY position) AS hashes
    FROM events WHERE ledger_id = %(ledger_id)s AND position > %(after)s AND position <= %(upto)s
"""

_READ_TILES: Final = """
    SELECT level, number, hashes
    FROM tiles JOIN unnest(%(levels)s::smallint[], %(numbers)s::bigint[]) AS wanted (level, number)
        USING (level, number)
    WHERE ledger_id = %(ledger_id)s
"""

_WRITE_TILES: Final = """
    INSERT INTO tiles (ledger_id, level, number, hashes)
    SELECT %(ledger_id)s, level, number, hashes
    FROM unnest(%(levels)s::smallint[], %(numbers)s::bigint[], %(hashes)s::bytea[]) AS grown (level, number, hashes)
    ON CONFLICT (ledger_id, level, number) DO UPDATE SET hashes = EXCLUDED.hashes
"""

_READ_CHECKPOINTS: Final = """
    SELECT size, root, note FROM log_checkpoints WHERE ledger_id = %(ledger_id)s
"""

_WRITE_CHECKPOINT: Final = """
    INSERT INTO log_checkpoints (ledger_id, size, root, note, signed_at)
    VALUES (%(ledger_id)s, %(size)s, %(root)s, %(note)s, %(now)s)
"""


async def read_leaves(connection: Connection, ledger_id: UUID, after: int, upto: int) -> bytes:
    """Return the leaf hashes of the entries after a position up to another, concatenated.

    Raises TreeDamaged when there are not as many entries as positions.
    """
    cursor = await connection.execute(_READ_LEAVES, {"ledger_id": ledger_id, "after": after, "upto": upto})
    row = await cursor.fetchone()
    hashes: bytes = (row and row["hashes"]) or b""
    if len(hashes) != (upto - after) * HASH_BYTES:
        raise TreeDamaged(f"of the positions {after + 1:,} to {upto:,}, {len(hashes) // HASH_BYTES:,} have an entry")
    return hashes


async def read_tiles(
    connection: Connection, ledger_id: UUID, wanted: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], bytes]:
    """Return the hashes of tiles by level and number, as far as they are there."""
    places = sorted(set(wanted))
    cursor = await connection.execute(
        _READ_TILES,
        {
            "ledger_id": ledger_id,
            "levels": [level for level, _ in places],
            "numbers": [number for _, number in places],
        },
    )
    return {(row["level"], row["number"]): row["hashes"] for row in await cursor.fetchall()}


async def write_tiles(connection: Connection, ledger_id: UUID, tiles: Sequence[Tile]) -> None:
    """Write tiles that have begun or grown."""
    columns = {
        "levels": [tile.level for tile in tiles],
        "numbers": [tile.number for tile in tiles],
        "hashes": [tile.hashes for tile in tiles],
    }
    await connection.execute(_WRITE_TILES, {"ledger_id": ledger_id, **columns})


async def read_nodes(connection: Connection, ledger_id: UUID, nodes: Iterable[Node]) -> Callable[[Node], bytes]:
    """Return how to get the hashes of these nodes; asked for one that is not stored, that raises TreeDamaged."""
    stored = await read_tiles(connection, ledger_id, map(merkle.tile_of, nodes))

    def node_of(node: Node) -> bytes:
        try:
            return merkle.node_in_tile(stored[merkle.tile_of(node)], node)
        except (KeyError, ValueError) as error:
            raise TreeDamaged(f"tile {merkle.tile_of(node)} does not have the node {node}") from error

    return node_of


async def read_edge(connection: Connection, ledger_id: UUID, size: int) -> Edge:
    """Return the right edge of the tree as it was at a size; raise TreeDamaged."""
    places = merkle.edge_places(size)
    stored = await read_tiles(connection, ledger_id, [(level, number) for level, number, _ in places])
    levels = {level: stored.get((level, number), b"")[: width * HASH_BYTES] for level, number, width in places}
    edge = tuple(levels.get(level, b"") for level in range(max(levels, default=-1) + 1))
    if merkle.edge_size(edge) != size:
        raise TreeDamaged(f"the tiles do not reach {size:,} entries")
    return edge


async def read_root(connection: Connection, ledger_id: UUID, size: int) -> bytes:
    """Return the root of the tree as it was at a size; raise TreeDamaged."""
    return merkle.edge_root(await read_edge(connection, ledger_id, size))


async def read_checkpoint(connection: Connection, ledger_id: UUID, size: int | None = None) -> Sealed | None:
    """Return the checkpoint of that size, or the last one; None when there is none."""
    which = "ORDER BY size DESC LIMIT 1" if size is None else "AND size = %(size)s"
    cursor = await connection.execute(f"{_READ_CHECKPOINTS} {which}", {"ledger_id": ledger_id, "size": size})
    found = as_structs(await cursor.fetchall(), Sealed)
    return found[0] if found else None


async def read_published(
    connection: Connection, ledger_id: UUID, size: int | None = None, *, cosigned: bool
) -> Sealed | None:
    """Return the checkpoint of that size, or the last one, as everybody may see it; None when there is none.

    `cosigned` says that the last one is the last that enough witnesses have cosigned. One that they have cosigned comes
    with their cosignatures.
    """
    which = "AND size = %(size)s" if size is not None else "AND cosigned.note IS NOT NULL" if cosigned else ""
    cursor = await connection.execute(
        f"""
        SELECT size, root, coalesce(cosigned.note, signed.note) AS note
        FROM log_checkpoints AS signed LEFT JOIN log_cosigned AS cosigned USING (ledger_id, size)
        WHERE ledger_id = %(ledger_id)s {which} ORDER BY size DESC LIMIT 1
        """,
        {"ledger_id": ledger_id, "size": size},
    )
    found = as_structs(await cursor.fetchall(), Sealed)
    return found[0] if found else None


async def write_cosigned(connection: Connection, ledger_id: UUID, size: int, note: str) -> None:
    """Add a checkpoint that enough witnesses have cosigned."""
    await connection.execute(
        "INSERT INTO log_cosigned (ledger_id, size, note) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        (ledger_id, size, note),
    )


async def unsealed_since(connection: Connection, ledger_id: UUID) -> datetime | None:
    """Return when the first entry was recorded that is in no signed tree; None when all are."""
    cursor = await connection.execute(
        """
        SELECT recorded_at FROM events
        WHERE ledger_id = %(ledger_id)s AND position = 1 + coalesce(
            (SELECT max(size) FROM log_checkpoints WHERE ledger_id = %(ledger_id)s), 0
        )
        """,
        {"ledger_id": ledger_id},
    )
    row = await cursor.fetchone()
    return None if row is None else row["recorded_at"]


async def write_checkpoint(connection: Connection, ledger_id: UUID, sealed: Sealed, now: datetime) -> None:
    """Add a signed checkpoint."""
    await connection.execute(
        _WRITE_CHECKPOINT,
        {"ledger_id": ledger_id, "size": sealed.size, "root": sealed.root, "note": sealed.note, "now": now},
    )


async def write_keys(connection: Connection, ledger_id: UUID, keys: Iterable[VerifierKey], now: datetime) -> None:
    """Add public keys that sign the log from now on, as far as they are new."""
    await connection.execute(
        """
        INSERT INTO log_keys (ledger_id, verifier_key, first_used_at)
        SELECT %s, unnest(%s::text[]), %s ON CONFLICT DO NOTHING
        """,
        (ledger_id, list(map(str, keys)), now),
    )


async def read_keys(connection: Connection, ledger_id: UUID) -> list[str]:
    """Return every public key that has signed the log, as verifier keys, the oldest first."""
    cursor = await connection.execute(
        "SELECT verifier_key FROM log_keys WHERE ledger_id = %s ORDER BY first_used_at, verifier_key", (ledger_id,)
    )
    return [row["verifier_key"] for row in await cursor.fetchall()]

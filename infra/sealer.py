"""The sealer: extends the Merkle tree over each log, and signs where it stands.

One works across all processes: an advisory lock elects it, and the stored size fences off one that was frozen. It signs
nothing that does not continue what it signed before (see `infra.log_keys`), and goes through the sealed entries again
and again, so that one that was changed behind the service's back is noticed.
"""

import asyncio
from time import monotonic
from typing import Final
from uuid import UUID

import psycopg
import structlog
from psycopg.errors import InsufficientPrivilege

from domain import merkle
from domain.decider import stream_of
from domain.events import LogKeyReplaced
from domain.merkle import EMPTY_EDGE, HASH_BYTES, TILE_HASHES, Edge
from infra import checkpoint, clock, election, log_keys, metrics, signed_note, tree
from infra.batch import Appending
from infra.checkpoint import Checkpoint
from infra.commit import commit
from infra.database import Connection, connect
from infra.event_log import read_streams
from infra.log_keys import LogKeys, SigningRefused
from infra.signed_note import ED25519, Note, NoteMalformed, VerifierKey
from infra.tree import Sealed, TreeDamaged

ACTOR: Final = "sealer"
LOG_THING: Final = "log"
LOOK_EVERY_SECONDS: Final = 0.1
SEAL_EVERY_SECONDS: Final = 1.0
SEAL_AT_ONCE_ENTRIES: Final = 1_000
SEAL_ENTRIES_MAX: Final = 65_536
REVIEW_EVERY_SECONDS: Final = 5.0
REVIEW_ENTRIES_MAX: Final = 65_536
RETRY_SECONDS: Final = 1.0
FROZEN_SECONDS_MAX: Final = 15
"""How long the elected sealer may ask the database for nothing before another is elected."""

REFUSED_AGAIN_SECONDS: Final = 30.0

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class Overtaken(Exception):
    """Another sealer has sealed since: this one stood still and lost the election without noticing."""


class Seal:
    """What the sealer knows of one log: the edge of its tree, how far it was reviewed, and when to look again."""

    def __init__(self, keys: LogKeys, ledger_id: UUID) -> None:
        """Begin without having looked at the log."""
        self.ledger_id = ledger_id
        self.edge: Edge = EMPTY_EDGE
        self._keys = keys
        self._origin = keys.origin_of(ledger_id)
        self._signers = keys.signers(ledger_id)
        self._resumed = False
        self._sealed_at = 0.0
        self._reviewed_at = 0.0
        self._reviewed = 0
        self._refused_until = 0.0

    @property
    def size(self) -> int:
        """How many entries are sealed."""
        return merkle.edge_size(self.edge)

    async def look(self, connection: Connection, position: int) -> None:
        """Do for a log that has come to a position what is due; raise Overtaken."""
        now = monotonic()
        if now < self._refused_until:
            return
        try:
            if not self._resumed:
                await self.resume(connection, position)
            unsealed = position - self.size
            if unsealed >= SEAL_AT_ONCE_ENTRIES or (unsealed and now >= self._sealed_at + SEAL_EVERY_SECONDS):
                await self.extend(connection, position)
            elif now >= self._reviewed_at + REVIEW_EVERY_SECONDS:
                await self.review(connection)
                self._reviewed_at = now
        except (SigningRefused, TreeDamaged) as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        self._refused_until = monotonic() + REFUSED_AGAIN_SECONDS
        self._resumed = False
        metrics.SEALING_REFUSED.set(1)
        log.error("signing refused", ledger=str(self.ledger_id), reason=str(error))

    async def resume(self, connection: Connection, position: int) -> None:
        """Take up what was sealed before; raise SigningRefused or TreeDamaged when the log does not continue it."""
        last = await tree.read_checkpoint(connection, self.ledger_id)
        size = last.size if last else 0
        if position < size:
            raise SigningRefused(f"the log ends at position {position:,}, but {size:,} entries were sealed")
        self.edge = await tree.read_edge(connection, self.ledger_id, size)
        replaced = self._replaced(last) if last else None
        for remembered in self._keys.recalled(self.ledger_id):
            await self._check_remembered(connection, remembered, position)
        self._reviewed = max(0, size - REVIEW_ENTRIES_MAX)
        await self.review(connection)
        if replaced is not None:
            await self._announce(connection, replaced)
        await tree.write_keys(connection, self.ledger_id, [signer.key for signer in self._signers], clock.now())
        self._resumed = True
        metrics.SEALING_REFUSED.set(0)

    async def extend(self, connection: Connection, position: int) -> None:
        """Seal what is not sealed up to a position; raise Overtaken, SigningRefused or TreeDamaged."""
        while self.size < position:
            await self._seal(connection, min(position, self.size + SEAL_ENTRIES_MAX))

    async def review(self, connection: Connection) -> None:
        """Compare some sealed entries with the tree, beginning anew at the end; raise SigningRefused or TreeDamaged."""
        if self._reviewed >= self.size:
            self._reviewed = 0
        start = self._reviewed // TILE_HASHES * TILE_HASHES
        end = min(self.size, start + REVIEW_ENTRIES_MAX)
        numbers = range(start // TILE_HASHES, -(-end // TILE_HASHES))
        stored = await tree.read_tiles(connection, self.ledger_id, [(0, number) for number in numbers])
        sealed = b"".join([stored.get((0, number), b"") for number in numbers])[: (end - start) * HASH_BYTES]
        leaves = await tree.read_leaves(connection, self.ledger_id, start, end)
        if leaves != sealed:
            position = start + _first_difference(leaves, sealed) + 1
            raise SigningRefused(f"the entry at position {position:,} is not the one that was sealed")
        self._reviewed = end

    async def _seal(self, connection: Connection, upto: int) -> None:
        async with connection.transaction():
            await self._become_writer(connection)
            edge = await self._write_tiles(connection, self.edge, upto)
            signed = Checkpoint(self._origin, upto, merkle.edge_root(edge))
            now = clock.now()
            note = checkpoint.sign(signed, self._signers, timestamp=int(now.timestamp()))
            await asyncio.to_thread(log_keys.remember, self._keys.memory(self.ledger_id), note)
            sealed = Sealed(size=upto, root=signed.root, note=str(note))
            await tree.write_checkpoint(connection, self.ledger_id, sealed, now)
        self._sealed(edge)

    async def _seal_again(self, connection: Connection, note: Note, signed: Checkpoint) -> None:
        """Store a checkpoint that was signed, and then not stored or lost, if the log still has what was signed."""
        async with connection.transaction():
            await self._become_writer(connection)
            edge = self.edge
            while (size := merkle.edge_size(edge)) < signed.size:
                edge = await self._write_tiles(connection, edge, min(signed.size, size + SEAL_ENTRIES_MAX))
            _check_same(merkle.edge_root(edge), signed)
            sealed = Sealed(size=signed.size, root=signed.root, note=str(note))
            await tree.write_checkpoint(connection, self.ledger_id, sealed, clock.now())
        self._sealed(edge)

    async def _become_writer(self, connection: Connection) -> None:
        # Waits for a sealer that is just writing; whoever comes second finds that the size is not its own.
        lock = f"seal {self.ledger_id}"
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (lock,))
        last = await tree.read_checkpoint(connection, self.ledger_id)
        if (last.size if last else 0) != self.size:
            raise Overtaken(Overtaken.__doc__)

    async def _write_tiles(self, connection: Connection, edge: Edge, upto: int) -> Edge:
        leaves = await tree.read_leaves(connection, self.ledger_id, merkle.edge_size(edge), upto)
        edge, tiles = merkle.extended(edge, leaves)
        try:
            await tree.write_tiles(connection, self.ledger_id, tiles)
        except InsufficientPrivilege as error:
            raise TreeDamaged(str(error).partition("\n")[0]) from error
        return edge

    def _sealed(self, edge: Edge) -> None:
        self.edge = edge
        self._sealed_at = monotonic()
        metrics.SEALED_ENTRIES.set(self.size)

    def _replaced(self, last: Sealed) -> VerifierKey | None:
        """Return the key that signed last, where ours replaces it; raise SigningRefused when it was somebody else's."""
        keys = [signer.key for signer in self._signers if signer.key.kind == ED25519]
        try:
            note = signed_note.parse(last.note.encode())
            signed_by = checkpoint.signers_of(note, keys)
        except NoteMalformed as error:
            raise SigningRefused(f"the last checkpoint in the database is damaged: {error}") from error
        if not signed_by:
            raise SigningRefused(f"the last checkpoint in the database is not signed by the key {keys[0]}")
        if checkpoint.parse(note.text) != Checkpoint(self._origin, last.size, merkle.edge_root(self.edge)):
            raise SigningRefused(f"the tree in the database is not the one that was signed at {last.size:,} entries")
        return None if keys[0] in signed_by else signed_by[0]

    async def _announce(self, connection: Connection, replaced: VerifierKey) -> None:
        """Write into the log which key replaces which, if that is not there yet."""
        event = LogKeyReplaced(old_key=str(replaced), new_key=str(self._signers[0].key))
        stream = stream_of(LOG_THING, self.ledger_id)
        recorded = (await read_streams(connection, self.ledger_id, [stream]))[stream]
        if any(each.entry.event == event for each in recorded):
            return
        appending = Appending(
            ledger_id=self.ledger_id,
            subject=self.ledger_id,
            stream=stream,
            expected_version=len(recorded),
            position=0,
            events=(event,),
            actor=ACTOR,
        )
        await commit(connection, self.ledger_id, [appending], clock.now)
        log.info("log key replaced", ledger=str(self.ledger_id), old=event.old_key, new=event.new_key)

    async def _check_remembered(self, connection: Connection, note: Note, position: int) -> None:
        signed = checkpoint.parse(note.text)
        if signed.origin != self._origin:
            raise SigningRefused(f"the log was called {signed.origin} before, and never changes its name")
        if signed.size > position:
            raise SigningRefused(f"the log ends at position {position:,}, but {signed.size:,} entries were signed")
        if signed.size > self.size:
            await self._seal_again(connection, note, signed)
        else:
            _check_same(await tree.read_root(connection, self.ledger_id, signed.size), signed)


def _check_same(root: bytes, signed: Checkpoint) -> None:
    if root != signed.root:
        raise SigningRefused(f"the first {signed.size:,} entries of the log are not those that were signed")


def _first_difference(leaves: bytes, sealed: bytes) -> int:
    places = range(0, len(leaves), HASH_BYTES)
    return next(at for at in places if leaves[at : at + HASH_BYTES] != sealed[at : at + HASH_BYTES]) // HASH_BYTES


async def run(url: str, keys: LogKeys) -> None:
    """Seal every log until cancelled."""
    while True:
        try:
            async with await connect(url) as connection:
                await election.win(connection, "sealer")
                for setting in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
                    await connection.execute(f"SET {setting} = '{FROZEN_SECONDS_MAX}s'")
                seals: dict[UUID, Seal] = {}
                while True:
                    await seal_all(connection, keys, seals)
                    await asyncio.sleep(LOOK_EVERY_SECONDS)
        except Overtaken:
            log.warning("sealer overtaken")
        except (OSError, psycopg.Error) as error:
            log.warning("sealer interrupted", error=type(error).__name__)
        await asyncio.sleep(RETRY_SECONDS)


async def seal_all(connection: Connection, keys: LogKeys, seals: dict[UUID, Seal]) -> None:
    """Do for every log what is due; `seals` is what is known of them."""
    cursor = await connection.execute("SELECT ledger_id, position FROM ledger_heads")
    for row in await cursor.fetchall():
        seal = seals.setdefault(row["ledger_id"], Seal(keys, row["ledger_id"]))
        await seal.look(connection, row["position"])

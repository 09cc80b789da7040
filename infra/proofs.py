"""Proofs about a log: that an entry is in a signed tree, and that a tree begins with an older one."""

import base64
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct

from domain import merkle
from domain.errors import Refusal
from domain.merkle import Peaks
from infra import event_log, tree
from infra.database import Connection
from infra.tree import Sealed

TLOG_PROOF: Final = "c2sp.org/tlog-proof@v1"


class NotSealed(Refusal):
    """The log is not sealed that far, or has no checkpoint of that size."""

    kind = "missing"
    code = "not_sealed"


class SizesOutOfOrder(Refusal):
    """A tree begins with smaller trees only."""

    code = "sizes_out_of_order"


class InclusionProof(Struct, frozen=True, kw_only=True):
    """An entry's exact text, and the hashes (RFC 9162, section 2.1.3) that lead from it to the root of a signed tree.

    The leaf index is the position less one. `checkpoint` is the signed note with size and root. Hashes are in base64.
    """

    position: int
    leaf_index: int
    entry: str
    leaf_hash: bytes
    hashes: list[bytes]
    size: int
    root: bytes
    checkpoint: str

    def as_tlog_proof(self) -> str:
        """Return the proof as a file (C2SP tlog-proof) that holds the entry's bytes as its extra data."""
        extra = base64.b64encode(self.entry.encode()).decode()
        return f"{TLOG_PROOF}\nextra {extra}\nindex {self.leaf_index}\n{_lines(self.hashes)}\n{self.checkpoint}"


class ConsistencyProof(Struct, frozen=True, kw_only=True):
    """The hashes (RFC 9162, section 2.1.4) that lead to the roots of both trees; `checkpoint` is the larger, signed."""

    old_size: int
    old_root: bytes
    size: int
    root: bytes
    hashes: list[bytes]
    checkpoint: str

    def as_submission(self) -> str:
        """Return the proof as a witness that knows the smaller tree takes it (C2SP tlog-witness, add-checkpoint)."""
        return f"old {self.old_size}\n{_lines(self.hashes)}\n{self.checkpoint}"


async def prove_inclusion(
    connection: Connection, ledger_id: UUID, position: int, *, size: int | None = None, cosigned: bool = False
) -> InclusionProof:
    """Return the proof of an entry in the tree of a size, or the last one; raise NotSealed or TreeDamaged.

    `cosigned` says that the last tree is the last that enough witnesses have cosigned.
    """
    sealed = await _sealed(connection, ledger_id, size, cosigned=cosigned)
    if not 0 < position <= sealed.size:
        raise NotSealed(f"Position {position:,} is not among the first {sealed.size:,}, which are sealed.")
    [text] = await event_log.read_texts(connection, ledger_id, position - 1, limit=1)
    hashes = await _hashes(connection, ledger_id, merkle.inclusion_path(position - 1, sealed.size))
    return InclusionProof(
        position=position,
        leaf_index=position - 1,
        entry=text.entry,
        leaf_hash=merkle.leaf_hash(text.entry.encode()),
        hashes=hashes,
        size=sealed.size,
        root=sealed.root,
        checkpoint=sealed.note,
    )


async def prove_consistency(
    connection: Connection, ledger_id: UUID, old_size: int, *, size: int | None = None, cosigned: bool = False
) -> ConsistencyProof:
    """Return the proof that the tree of a size, or the last one, begins with that of an older size.

    `cosigned` says that the last tree is the last that enough witnesses have cosigned.
    Raises SizesOutOfOrder, NotSealed or TreeDamaged.
    """
    sealed = await _sealed(connection, ledger_id, size, cosigned=cosigned)
    if old_size > sealed.size:
        raise SizesOutOfOrder(f"A tree of {sealed.size:,} entries does not begin with one of {old_size:,}.")
    return ConsistencyProof(
        old_size=old_size,
        old_root=await tree.read_root(connection, ledger_id, old_size),
        size=sealed.size,
        root=sealed.root,
        hashes=await _hashes(connection, ledger_id, merkle.consistency_path(old_size, sealed.size)),
        checkpoint=sealed.note,
    )


async def _sealed(connection: Connection, ledger_id: UUID, size: int | None, *, cosigned: bool) -> Sealed:
    sealed = await tree.read_published(connection, ledger_id, size, cosigned=cosigned)
    if sealed is None:
        which = "no checkpoint yet" if size is None else f"no checkpoint of {size:,} entries"
        raise NotSealed(f"The log has {which}.")
    return sealed


async def _hashes(connection: Connection, ledger_id: UUID, path: Sequence[Peaks]) -> list[bytes]:
    nodes = [node for part in path for node in part]
    return merkle.resolved(path, await tree.read_nodes(connection, ledger_id, nodes))


def _lines(hashes: Sequence[bytes]) -> str:
    return "".join(f"{base64.b64encode(each).decode()}\n" for each in hashes)

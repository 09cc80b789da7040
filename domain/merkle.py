"""The Merkle tree of a log: SHA-256 over its entries in their order (RFC 9162, section 2.1; the same tree as RFC 6962).

`Node(level, number)` names the root over the 2**level leaves from number * 2**level on, all of which exist. A tree of
any size is made of such nodes, so that they never change once they are there; they are kept in tiles of 256.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import takewhile
from typing import Final, NamedTuple

HASH_BYTES: Final = 32
TILE_LEVELS: Final = 8
TILE_HASHES: Final = 1 << TILE_LEVELS
TILE_BYTES: Final = TILE_HASHES * HASH_BYTES
EMPTY_ROOT: Final = sha256(b"").digest()

Edge = tuple[bytes, ...]
"""The right edge of a tree, which determines its size and root: by level of tiles, the hashes that fill no tile yet."""

EMPTY_EDGE: Final[Edge] = ()


class Node(NamedTuple):
    """The place of a node over 2**level leaves."""

    level: int
    number: int


class Tile(NamedTuple):
    """The nodes of level 8 * `level` from 256 * `number` on, up to 256 of them, concatenated."""

    level: int
    number: int
    hashes: bytes


Peaks = tuple[Node, ...]
"""The largest nodes that a range of leaves is made of, from left to right; they fold into the root over the range."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node over two others."""
    return sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes."""
    return edge_root(extended(EMPTY_EDGE, b"".join(leaves))[0])


def perfect_root(hashes: bytes) -> bytes:
    """Return the root over 2**n concatenated hashes."""
    while len(hashes) > HASH_BYTES:
        # Two neighbours are one slice: nothing is taken apart and put together again.
        pairs = range(0, len(hashes), 2 * HASH_BYTES)
        hashes = b"".join([sha256(b"\x01" + hashes[at : at + 2 * HASH_BYTES]).digest() for at in pairs])
    return hashes


def edge_size(edge: Edge) -> int:
    """Return the number of leaves of the tree that ends in this edge."""
    return sum(len(hashes) // HASH_BYTES << TILE_LEVELS * level for level, hashes in enumerate(edge))


def edge_root(edge: Edge) -> bytes:
    """Return the root of the tree that ends in this edge."""
    parts = [perfect_root(part) for hashes in reversed(edge) for part in _powers(hashes)]
    return _folded(parts) if parts else EMPTY_ROOT


def extended(edge: Edge, leaves: bytes) -> tuple[Edge, list[Tile]]:
    """Return the edge after more concatenated leaf hashes, and every tile that has begun or grown since."""
    levels: list[bytes] = []
    tiles: list[Tile] = []
    size = edge_size(edge)
    added, level = leaves, 0
    while added or level < len(edge):
        hashes = (edge[level] if level < len(edge) else b"") + added
        first = size >> TILE_LEVELS * (level + 1)
        cut = [hashes[at : at + TILE_BYTES] for at in range(0, len(hashes), TILE_BYTES)] if added else []
        tiles.extend(Tile(level, first + number, part) for number, part in enumerate(cut))
        full = list(takewhile(lambda part: len(part) == TILE_BYTES, cut))
        levels.append(hashes[len(full) * TILE_BYTES :])
        added = b"".join(map(perfect_root, full))
        level += 1
    return tuple(levels), tiles


def edge_places(size: int) -> list[tuple[int, int, int]]:
    """Return level, number and width (1 to 255) of the tiles at the right edge of a tree of this size."""
    places = []
    for level in range((size.bit_length() + TILE_LEVELS - 1) // TILE_LEVELS):
        number, width = divmod(size >> TILE_LEVELS * level, TILE_HASHES)
        if width:
            places.append((level, number, width))
    return places


def tile_of(node: Node) -> tuple[int, int]:
    """Return level and number of the tile that a node is made from."""
    level, height = divmod(node.level, TILE_LEVELS)
    return level, node.number >> (TILE_LEVELS - height)


def node_in_tile(hashes: bytes, node: Node) -> bytes:
    """Return a node from the tile that `tile_of` names; ValueError says that the tile does not reach that far yet."""
    height = node.level % TILE_LEVELS
    width = HASH_BYTES << height
    start = node.number % (TILE_HASHES >> height) * width
    if len(hashes) < start + width:
        raise ValueError(f"the tile has no node {node.number} of level {node.level}")
    return perfect_root(hashes[start : start + width])


def peaks(start: int, end: int) -> Peaks:
    """Return what a range of leaves is made of; it begins where a node of at least its length begins."""
    found = []
    while start < end:
        level = (end - start).bit_length() - 1
        found.append(Node(level, start >> level))
        start += 1 << level
    return tuple(found)


def inclusion_path(index: int, size: int) -> list[Peaks]:
    """Return what the proof that a leaf is in a tree is made of, the sibling of the leaf first (section 2.1.3.1)."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _half(end - start)
        if index < middle:
            path.append(peaks(middle, end))
            end = middle
        else:
            path.append(peaks(start, middle))
            start = middle
    return path[::-1]


def consistency_path(old: int, new: int) -> list[Peaks]:
    """Return what the proof that a tree begins with an older one is made of: nothing for size 0 (section 2.1.4.1)."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves does not begin with one of {old}")
    path = []
    start, end = 0, new if old else 0
    while old != end:
        middle = start + _half(end - start)
        if old <= middle:
            path.append(peaks(middle, end))
            end = middle
        else:
            path.append(peaks(start, middle))
            start = middle
    return [*([peaks(start, end)] if start else []), *path[::-1]]


def resolved(path: Sequence[Peaks], node: Callable[[Node], bytes]) -> list[bytes]:
    """Return the hashes of a proof, from what it is made of."""
    return [_folded([node(each) for each in part]) for part in path]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes) -> bool:
    """Tell whether a proof shows that a leaf hash stands at an index of the tree with that root (section 2.1.3.2)."""
    if not 0 <= index < size or not _are_hashes(leaf, *proof):
        return False
    own, last, hashed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if own % 2 or own == last:
            hashed = node_hash(sibling, hashed)
            while own and not own % 2:
                own, last = own >> 1, last >> 1
        else:
            hashed = node_hash(hashed, sibling)
        own, last = own >> 1, last >> 1
    return last == 0 and hashed == expected_root


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Tell whether a proof shows that the tree with the new root begins with that of the old one (section 2.1.4.2)."""
    if not 0 <= old <= new or not _are_hashes(old_root, new_root, *proof):
        return False
    if old == 0:
        return not proof and old_root == EMPTY_ROOT and (new > 0 or new_root == EMPTY_ROOT)
    if old == new:
        return not proof and old_root == new_root
    whole = old & (old - 1) == 0  # the old root is then itself a node of the new tree, and not repeated in the proof
    if not whole and not proof:
        return False
    first, rest = (old_root, proof) if whole else (proof[0], proof[1:])
    own, last = old - 1, new - 1
    while own % 2:
        own, last = own >> 1, last >> 1
    old_hash = new_hash = first
    for sibling in rest:
        if last == 0:
            return False
        if own % 2 or own == last:
            old_hash, new_hash = node_hash(sibling, old_hash), node_hash(sibling, new_hash)
            while own and not own % 2:
                own, last = own >> 1, last >> 1
        else:
            new_hash = node_hash(new_hash, sibling)
        own, last = own >> 1, last >> 1
    return last == 0 and old_hash == old_root and new_hash == new_root


def _are_hashes(*hashes: bytes) -> bool:
    # Of two parts of another length, the border between them would not be hashed.
    return all(len(each) == HASH_BYTES for each in hashes)


def _half(size: int) -> int:
    """Return the largest power of two below a size of at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _powers(hashes: bytes) -> Iterator[bytes]:
    """Yield parts of concatenated hashes, each a power of two long, the longest first."""
    at = 0
    while rest := (len(hashes) - at) // HASH_BYTES:
        length = HASH_BYTES << (rest.bit_length() - 1)
        yield hashes[at : at + length]
        at += length


def _folded(parts: Sequence[bytes]) -> bytes:
    hashed = parts[-1]
    for part in parts[-2::-1]:
        hashed = node_hash(part, hashed)
    return hashed

"""The Merkle tree: known figures, laws, and a foreign implementation as the oracle."""

import base64
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree
from pymerkle.proof import InclusionProof

from domain import merkle
from domain.merkle import EMPTY_EDGE, EMPTY_ROOT, HASH_BYTES, TILE_BYTES, Edge, Node, Tile

# The eight inputs and the roots that Certificate Transparency has published since RFC 6962.
INPUTS: Final = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS: Final = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAF_OF_HELLO_WORLD: Final = "TszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0="

sizes = st.one_of(st.integers(0, 40), st.integers(250, 260), st.sampled_from([511, 512, 513, 700]))


def leaves_of(count: int) -> list[bytes]:
    """As many different leaf hashes as are asked for."""
    return [merkle.leaf_hash(b"leaf %d" % number) for number in range(count)]


def by_the_book(leaves: Sequence[bytes]) -> bytes:
    """The root as section 2.1.1 defines it, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return sha256(b"\x01" + by_the_book(leaves[:half]) + by_the_book(leaves[half:])).digest()


def reader(leaves: Sequence[bytes]) -> Any:
    """Nodes of the tree over these leaves, each by the book."""
    return lambda node: by_the_book(leaves[node.number << node.level : node.number + 1 << node.level])


def oracle(leaves_count: int) -> InmemoryTree:
    """The same tree in a foreign implementation."""
    tree = InmemoryTree(algorithm="sha256")
    tree.append_entries([b"leaf %d" % number for number in range(leaves_count)])
    return tree


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_published(size: int) -> None:
    """The trees over the first n of the published inputs have the published roots."""
    assert merkle.root([merkle.leaf_hash(each) for each in INPUTS[:size]]).hex() == ROOTS[size]


def test_a_leaf_hash_is_that_of_go() -> None:
    """A record hashes as golang.org/x/mod/sumdb/tlog hashes it."""
    assert base64.b64encode(merkle.leaf_hash(b"hello world")).decode() == LEAF_OF_HELLO_WORLD


@pytest.mark.parametrize(
    ("index", "size", "proof"),
    [
        (0, 1, []),
        (
            0,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (
            1,
            5,
            [
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ],
)
def test_inclusion_proofs_are_those_published(index: int, size: int, proof: list[str]) -> None:
    """The proofs of Certificate Transparency's test figures are made, and hold."""
    leaves = [merkle.leaf_hash(each) for each in INPUTS]
    made = merkle.resolved(merkle.inclusion_path(index, size), reader(leaves))
    assert [each.hex() for each in made] == proof
    assert merkle.verify_inclusion(leaves[index], index, size, made, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(
    ("old", "new", "proof"),
    [
        (1, 1, []),
        (
            1,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            [
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ],
)
def test_consistency_proofs_are_those_published(old: int, new: int, proof: list[str]) -> None:
    """The proofs of Certificate Transparency's test figures are made, and hold."""
    made = merkle.resolved(merkle.consistency_path(old, new), reader([merkle.leaf_hash(each) for each in INPUTS]))
    assert [each.hex() for each in made] == proof
    roots = bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new])
    assert merkle.verify_consistency(old, new, made, *roots)


@given(sizes)
def test_the_root_is_that_by_the_book_and_of_the_oracle(size: int) -> None:
    """The incremental root is the recursive one, and that of a foreign implementation."""
    leaves = leaves_of(size)
    assert merkle.root(leaves) == by_the_book(leaves) == (oracle(size).get_root() if size else EMPTY_ROOT)


@given(st.lists(st.integers(0, 300), max_size=5))
def test_a_tree_may_grow_in_any_steps(steps: list[int]) -> None:
    """The edge and the tiles depend on the leaves alone, not on the steps in which they came."""
    leaves = leaves_of(sum(steps))
    edge: Edge = EMPTY_EDGE
    grown: dict[tuple[int, int], bytes] = {}
    for step in steps:
        size = merkle.edge_size(edge)
        edge, tiles = merkle.extended(edge, b"".join(leaves[size : size + step]))
        assert all(tile.hashes.startswith(grown.get(tile[:2], b"")) for tile in tiles)
        grown |= {tile[:2]: tile.hashes for tile in tiles}
    at_once, all_tiles = merkle.extended(EMPTY_EDGE, b"".join(leaves))
    assert merkle.edge_root(edge) == merkle.edge_root(at_once)
    assert merkle.edge_size(edge) == len(leaves)
    assert grown == {tile[:2]: tile.hashes for tile in all_tiles}


def test_tiles_are_those_of_the_specification() -> None:
    """A tree of 70,000 leaves has the tiles that tlog-tiles counts for it."""
    edge, tiles = merkle.extended(EMPTY_EDGE, bytes(HASH_BYTES) * 70_000)
    full = [tile.level for tile in tiles if len(tile.hashes) == TILE_BYTES]
    partial = {tile.level: len(tile.hashes) // HASH_BYTES for tile in tiles if len(tile.hashes) < TILE_BYTES}
    assert (full.count(0), full.count(1), len(full)) == (273, 1, 274)
    assert partial == {0: 112, 1: 17, 2: 1}
    assert merkle.edge_places(70_000) == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
    assert merkle.edge_places(256) == [(1, 0, 1)]
    assert merkle.edge_size(edge) == 70_000


@given(st.data(), sizes.filter(bool))
def test_inclusion_is_proved(data: st.DataObject, size: int) -> None:
    """Every leaf of every tree can be proved with the proof of the oracle; nothing else can be proved with it."""
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.resolved(merkle.inclusion_path(index, size), reader(leaves))
    theirs = oracle(size).prove_inclusion(index + 1, size)
    assert isinstance(theirs, InclusionProof)
    assert proof == theirs.path[1:]
    root = by_the_book(leaves)
    assert merkle.verify_inclusion(leaves[index], index, size, proof, root)
    other = data.draw(st.integers(0, size))
    assert merkle.verify_inclusion(leaves[index], other, size, proof, root) == (other == index)
    assert not merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, size, proof, root)
    for broken in _broken(data, proof):
        assert not merkle.verify_inclusion(leaves[index], index, size, broken, root)


@given(st.data(), sizes)
def test_consistency_is_proved(data: st.DataObject, new: int) -> None:
    """Every tree is proved to begin with every smaller one, by the proof of the RFC and by none that is bent."""
    leaves = leaves_of(new)
    old = data.draw(st.integers(0, new))
    proof = merkle.resolved(merkle.consistency_path(old, new), reader(leaves))
    old_root, new_root = by_the_book(leaves[:old]), by_the_book(leaves)
    assert merkle.verify_consistency(old, new, proof, old_root, new_root)
    assert not merkle.verify_consistency(old, new, proof, merkle.leaf_hash(b"other"), new_root)
    if old:
        assert not merkle.verify_consistency(old, new, proof, old_root, merkle.leaf_hash(b"other"))
        # The oracle's own proofs take more hashes than the RFC's; the roots that both prove are the same.
        assert (old_root, new_root) == (oracle(new).get_root(old), oracle(new).get_root(new))
    for broken in _broken(data, proof):
        assert not merkle.verify_consistency(old, new, broken, old_root, new_root)


@pytest.mark.parametrize("new", range(18))
def test_small_trees_are_consistent_with_all_before_them(new: int) -> None:
    """Every tree of up to 17 leaves is proved to begin with every smaller one."""
    leaves = leaves_of(new)
    for old in range(new + 1):
        proof = merkle.resolved(merkle.consistency_path(old, new), reader(leaves))
        assert merkle.verify_consistency(old, new, proof, by_the_book(leaves[:old]), by_the_book(leaves))


def _broken(data: st.DataObject, proof: list[bytes]) -> list[list[bytes]]:
    """The proof with a hash too many, one too few, one changed, two swapped, and none at all."""
    bent = [[*proof, bytes(HASH_BYTES)], [bytes(HASH_BYTES), *proof], [*proof, b""]]
    if proof:
        bent.append([])
        at = data.draw(st.integers(0, len(proof) - 1))
        bent += [proof[:at] + proof[at + 1 :], [*proof[:at], bytes(HASH_BYTES), *proof[at + 1 :]]]
        swapped = [*proof[:at], *proof[at + 1 :], proof[at]]
        bent += [swapped] if swapped != proof else []
    return bent


@given(st.integers(1, 700), st.data())
def test_proofs_are_made_from_tiles(size: int, data: st.DataObject) -> None:
    """Every node that a proof needs is in the tile that it is said to be in."""
    leaves = leaves_of(size)
    _, tiles = merkle.extended(EMPTY_EDGE, b"".join(leaves))
    stored = {tile[:2]: tile.hashes for tile in tiles}
    index = data.draw(st.integers(0, size - 1))

    def from_tile(node: Node) -> bytes:
        return merkle.node_in_tile(stored[merkle.tile_of(node)], node)

    for path in (merkle.inclusion_path(index, size), merkle.consistency_path(index, size)):
        assert merkle.resolved(path, from_tile) == merkle.resolved(path, reader(leaves))


def test_what_is_not_there_is_not_proved() -> None:
    """There is no proof of a leaf past the end, of a tree larger than the tree, or from a tile that is too short."""
    with pytest.raises(ValueError, match="has no leaf 8"):
        merkle.inclusion_path(8, 8)
    with pytest.raises(ValueError, match="does not begin"):
        merkle.consistency_path(9, 8)
    with pytest.raises(ValueError, match="no node 1 of level 1"):
        merkle.node_in_tile(bytes(3 * HASH_BYTES), Node(1, 1))
    assert not merkle.verify_consistency(9, 8, [], EMPTY_ROOT, EMPTY_ROOT)
    assert Tile(0, 0, b"").hashes == b""


def test_a_proof_has_as_many_hashes_as_it_needs() -> None:
    """A proof with a hash too many or too few, or of a leaf past the end, shows nothing."""
    leaves = leaves_of(7)
    root, before = by_the_book(leaves), by_the_book(leaves[:3])
    inclusion, consistency = (
        merkle.resolved(path, reader(leaves)) for path in (merkle.inclusion_path(3, 7), merkle.consistency_path(3, 7))
    )
    assert merkle.verify_inclusion(leaves[3], 3, 7, inclusion, root)
    assert not merkle.verify_inclusion(leaves[3], 7, 7, inclusion, root)
    assert merkle.verify_consistency(3, 7, consistency, before, root)
    for bent in (lambda proof: [*proof, root], lambda proof: proof[:-1], lambda _proof: []):
        assert not merkle.verify_inclusion(leaves[3], 3, 7, bent(inclusion), root)
        assert not merkle.verify_consistency(3, 7, bent(consistency), before, root)


def test_a_node_is_in_its_tile() -> None:
    """The leaves of a node high in a tile are hashed from it; the 256th leaf opens a second tile, and a level."""
    leaves = leaves_of(300)
    _, tiles = merkle.extended(EMPTY_EDGE, b"".join(leaves))
    stored = {tile[:2]: tile.hashes for tile in tiles}
    for node, place in ((Node(3, 5), (0, 0)), (Node(0, 256), (0, 1)), (Node(8, 0), (1, 0))):
        assert merkle.tile_of(node) == place
        assert merkle.node_in_tile(stored[place], node) == reader(leaves)(node)

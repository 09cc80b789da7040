"""The names and the layout of a tiled log's resources."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import merkle
from infra import tiles
from infra.tiles import Place


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (Place(0, 0), "0/000"),
        (Place(0, 5, 112), "0/005.p/112"),
        (Place(1, 1_234_067), "1/x001/x234/067"),
        (Place(0, 123_456_078, 2), "0/x123/x456/078.p/2"),
        (Place(2, 999), "2/999"),
        (Place(2, 1_000), "2/x001/000"),
        (Place(63, 0, 255), "63/000.p/255"),
        (Place(None, 0), "entries/000"),
        (Place(None, 1_234, 1), "entries/x001/234.p/1"),
    ],
)
def test_resources_are_named_as_specified(place: Place, path: str) -> None:
    """The example of the specification, and the edges around it."""
    assert place.path == path
    assert tiles.parse_path(path) == place


@given(st.one_of(st.none(), st.integers(0, 63)), st.integers(0, 10**18 - 1), st.integers(1, 256))
def test_names_are_read_back(level: int | None, number: int, width: int) -> None:
    """Every resource has a name, and only that resource has it."""
    place = Place(level, number, width)
    assert tiles.parse_path(place.path) == place


@pytest.mark.parametrize(
    "path",
    [
        "",
        "0",
        "0/0",
        "0/00",
        "0/0000",
        "0/1234",
        "00/000",
        "01/000",
        "64/000",
        "-1/000",
        "0/x000/000",
        "0/x000/067",
        "0/123/456",
        "0/x123",
        "0/x123/",
        "0/000.p",
        "0/000.p/",
        "0/000.p/0",
        "0/000.p/01",
        "0/000.p/256",
        "0/000.p/999",
        "0/000.p/1/",
        "/0/000",
        "0/000 ",
        "0/000\n",
        "0/\u0660\u0660\u0660",
        "data/000",
        "entries/",
        "0/../000",
    ],
)
def test_no_resource_has_a_second_name(path: str) -> None:
    """What is written in another way names nothing, so that caches hold everything once."""
    assert tiles.parse_path(path) is None


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 70_000])
def test_a_tree_has_the_resources_that_it_is_made_of(size: int) -> None:
    """The tiles of a size are those that growing to it makes, and the bundles cover the leaves."""
    _, made = merkle.extended(merkle.EMPTY_EDGE, bytes(merkle.HASH_BYTES) * size)
    listed = list(tiles.places(size))
    assert {(place.level, place.number, place.width) for place in listed if place.level is not None} == {
        (tile.level, tile.number, len(tile.hashes) // merkle.HASH_BYTES) for tile in made
    }
    assert sum(place.width for place in listed if place.level is None) == size


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundles_hold_entries_exactly(entries: list[bytes]) -> None:
    """Entries come out of a bundle as they went in."""
    assert tiles.entries_of(tiles.bundle(entries)) == entries


def test_bundles_are_laid_out_as_specified() -> None:
    """Each entry stands after its length in two bytes, the higher one first."""
    assert tiles.bundle([b"ab", b"", b"c" * 258]) == b"\x00\x02ab\x00\x00\x01\x02" + b"c" * 258


def test_an_entry_must_fit() -> None:
    """An entry of more than 65,535 bytes cannot be bundled, one of just as many can."""
    assert len(tiles.bundle([bytes(65_535)])) == 65_537
    with pytest.raises(ValueError, match="65,536 bytes"):
        tiles.bundle([bytes(65_536)])


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_bundle_that_is_cut_off_is_refused(cut: int) -> None:
    """What misses bytes at the end is no bundle."""
    with pytest.raises(ValueError, match="cut off"):
        tiles.entries_of(tiles.bundle([b"ab", b"cd"])[:-cut])

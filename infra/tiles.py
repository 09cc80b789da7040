"""The resources of a tiled log (C2SP tlog-tiles): how tiles and entry bundles are named, and bundles laid out."""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from domain.merkle import TILE_HASHES

LENGTH_BYTES: Final = 2
ENTRY_BYTES_MAX: Final = 0xFFFF
"""A bundle has two bytes for the length of an entry."""

_PATH: Final = re.compile(r"(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_LEVEL_MAX: Final = 63


class Place(NamedTuple):
    """Which resource: the tile's level (None: an entry bundle), its number, and how many of 256 places it fills."""

    level: int | None
    number: int
    width: int = TILE_HASHES

    @property
    def path(self) -> str:
        """The path below `tile/`, such as `0/x001/234` or `entries/000.p/17`."""
        digits = f"{self.number:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        number = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
        partial = "" if self.width == TILE_HASHES else f".p/{self.width}"
        return f"{'entries' if self.level is None else self.level}/{number}{partial}"


def parse_path(path: str) -> Place | None:
    """Return which resource a path below `tile/` names; None when it is not written as it must be."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    level = None if found[1] == "entries" else int(found[1])
    number = int(found[2].replace("x", "").replace("/", ""))
    place = Place(level, number, int(found[3] or TILE_HASHES))
    named = place.path == path and (level or 0) <= _LEVEL_MAX and place.width <= TILE_HASHES
    return place if named else None


def places(size: int) -> Iterator[Place]:
    """Yield every tile and entry bundle of a tree of this size, the partial ones at its right edge too."""
    for level in (None, *range(_LEVEL_MAX + 1)):
        hashes = size >> 8 * (level or 0)
        full, width = divmod(hashes, TILE_HASHES)
        yield from (Place(level, number) for number in range(full))
        if width:
            yield Place(level, full, width)
        if not hashes:
            return


def bundle(entries: Iterable[bytes]) -> bytes:
    """Return entries as one bundle, each after its length; ValueError says that one is too long for that."""
    parts = []
    for entry in entries:
        if len(entry) > ENTRY_BYTES_MAX:
            raise ValueError(f"an entry of {len(entry):,} bytes does not fit into a bundle")
        parts += [len(entry).to_bytes(LENGTH_BYTES, "big"), entry]
    return b"".join(parts)


def entries_of(packed: bytes) -> list[bytes]:
    """Return the entries of a bundle; ValueError says that it is cut off."""
    entries = []
    at = 0
    while at < len(packed):
        start = at + LENGTH_BYTES
        at = start + int.from_bytes(packed[at:start], "big")
        entries.append(packed[start:at])
    if at != len(packed):
        raise ValueError("the entry bundle is cut off")
    return entries

"""The networks of data centres, from a file that the operator supplies: whoever asks from there is no viewer.

The file has a network a line, such as 192.0.2.0/24 or 2001:db8::/32; what follows a `#` is a remark. It is read again
when it has changed.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from pathlib import Path
from typing import Final

import structlog

LOOK_EVERY_SECONDS: Final = 10
ADDRESSES_KNOWN_MAX: Final = 16_384

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)

Ranges = tuple[list[int], list[int]]
"""The first and the last addresses of networks that do not overlap, in order, as numbers."""


class NetworksUnreadable(Exception):
    """{path} cannot be read as networks of data centres: {why}."""

    def __init__(self, path: Path, why: object) -> None:
        """Say which file, and what is wrong with it."""
        super().__init__(str(self.__doc__).format(path=path, why=why))


class DataCentres:
    """The networks as the file has them; none without a file."""

    def __init__(self, path: Path | None) -> None:
        """Read the file, if there is one; raise NetworksUnreadable."""
        self._path = path
        self._changed_at = 0
        self._take({})
        if path is not None:
            self._take(self._read(path))

    def __contains__(self, address: str) -> bool:
        """Tell whether an address belongs to a data centre."""
        return bool(self._ranges) and self._known(address)

    async def follow(self) -> None:
        """Read the file again whenever it changes, until cancelled; one that cannot be read changes nothing."""
        while self._path is not None:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            try:
                if self._path.stat().st_mtime_ns != self._changed_at:
                    self._take(await asyncio.to_thread(self._read, self._path))
            except (OSError, NetworksUnreadable) as error:
                log.warning("data centres are not read again", error=str(error))

    def _read(self, path: Path) -> dict[int, Ranges]:
        try:
            self._changed_at = path.stat().st_mtime_ns
            return ranges(path.read_text(encoding="utf-8").splitlines())
        except (OSError, ValueError) as error:
            raise NetworksUnreadable(path, error) from error

    def _take(self, found: dict[int, Ranges]) -> None:
        self._ranges = found

        @lru_cache(maxsize=ADDRESSES_KNOWN_MAX)
        def known(address: str) -> bool:
            return contains(found, address)

        self._known = known


def ranges(lines: Iterable[str]) -> dict[int, Ranges]:
    """Return the ranges that lines name, by version of the protocol; raise ValueError."""
    texts = (line.partition("#")[0].strip() for line in lines)
    networks = [ip_network(text) for text in texts if text]
    four = list(collapse_addresses(each for each in networks if isinstance(each, IPv4Network)))
    six = list(collapse_addresses(each for each in networks if isinstance(each, IPv6Network)))
    found: dict[int, Ranges] = {}
    if four:
        found[4] = [int(each[0]) for each in four], [int(each[-1]) for each in four]
    if six:
        found[6] = [int(each[0]) for each in six], [int(each[-1]) for each in six]
    return found


def contains(found: dict[int, Ranges], address: str) -> bool:
    """Tell whether an address is in one of the ranges; what is no address is not."""
    try:
        parsed = ip_address(address)
    except ValueError:  # a proxy's name, or a socket without an address
        return False
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    firsts, lasts = found.get(parsed.version, ([], []))
    at = bisect_right(firsts, int(parsed)) - 1
    return at >= 0 and int(parsed) <= lasts[at]

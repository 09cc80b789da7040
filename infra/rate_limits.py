"""Rate limits that hold across the web workers of a service, without a question to the database.

The workers count in a file that all of them map into memory: each in a row of its own, so that nobody writes what
another writes, and everybody reads the sum. Two workers that count at the same moment may not see each other: a limit
is exceeded by at most one request for each other worker. Whoever is counted has a place in the row by its hash; where
two meet, the later takes the place, so that a collision lets somebody through and never turns anybody away. Windows are
fixed, as `limits` has them: across the end of one, twice the limit may pass. Each node counts for itself.
"""

import fcntl
import mmap
import os
from pathlib import Path
from typing import Final

from limits import RateLimitItem, parse_many

from infra import clock
from infra.throttle import network_of

PLACES: Final = 1 << 18
"""So many that ten thousand at once take a place from one in 25 of them; memory is used for those that are taken."""

PLACE_BYTES: Final = 8
ROW_BYTES: Final = PLACES * PLACE_BYTES
COUNT_BITS: Final = 24
"""Of the 64 bits of a place, how many count; the others say for whom and in which window."""

COUNT_MAX: Final = (1 << COUNT_BITS) - 1
_TAG_MASK: Final = (1 << 64) - 1 - COUNT_MAX


Rates = list[tuple[str, int, int]]
"""Under which name something is counted, how often it may happen, and within how many seconds."""


class RateExceeded(Exception):
    """There were too many requests; try again later."""

    def __init__(self, retry_after_seconds: int) -> None:
        """Say after how many seconds to try again."""
        super().__init__(self.__doc__)
        self.retry_after_seconds = retry_after_seconds


class RatesUnreadable(Exception):
    """{said!r} is no rate of 1 to {most:,} requests; say for example 500/second, or 500/second;10000/minute."""

    def __init__(self, said: str) -> None:
        """Say what cannot be read."""
        super().__init__(str(self.__doc__).format(said=said, most=COUNT_MAX))


class SharedCounts:
    """How often something happened in a window, counted in memory that several processes share."""

    def __init__(self, path: Path | None, workers: int) -> None:
        """Count with the other workers in the file at `path`, or alone without one."""
        self._file = -1 if path is None else os.open(path, os.O_RDWR)
        if path is not None:
            os.truncate(self._file, ROW_BYTES * workers)
        memory = mmap.mmap(self._file, ROW_BYTES * (1 if path is None else workers))
        self._places = memoryview(memory).cast("Q")
        own = 0 if path is None else self._claimed(workers)
        self._own = own * PLACES
        self._others = [row for row in range(0, len(self._places), PLACES) if row != self._own]

    def add(self, kind: str, whom: str, window: int) -> int:
        """Count once, and return how often all have counted whoever it is in that window."""
        # Strings are hashed with a seed, which the supervisor hands down: nobody can choose where to collide.
        hashed = hash((kind, whom, window))
        place, tag = hashed % PLACES, hashed & _TAG_MASK
        places = self._places
        mine = places[self._own + place]
        count = (mine & COUNT_MAX if mine & _TAG_MASK == tag else 0) + 1
        places[self._own + place] = tag | min(count, COUNT_MAX)
        for row in self._others:
            known = places[row + place]
            if known & _TAG_MASK == tag:
                count += known & COUNT_MAX
        return count

    def _claimed(self, workers: int) -> int:
        """Return the first row that no living process has claimed; the lock on it ends with this process."""
        for row in range(workers):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row)
            except OSError:
                continue
            return row
        return workers - 1  # while a worker that is being replaced ends: it counts no more


class RateLimits:
    """How many requests a slot key, and an address, may make."""

    def __init__(self, per_key: str, per_address: str, counts: SharedCounts) -> None:
        """Take the rates in the notation of `limits`, empty for none; raise RatesUnreadable."""
        self._counts = counts
        self._per_key = rates("key", per_key)
        self.counts_keys = bool(self._per_key)
        self._per_address = rates("address", per_address)

    def count(self, key: str, address: str) -> None:
        """Count a request, whose key may be empty; raise RateExceeded.

        What its address is refused is not counted for keys: else whoever makes up keys would fill their places.
        """
        if self._per_address:
            # Whoever has one address of IPv6 has 2**64 of them.
            self._count(self._per_address, network_of(address) if ":" in address else address)
        if key:
            self._count(self._per_key, key)

    def _count(self, of_kind: Rates, whom: str) -> None:
        for kind, amount, seconds in of_kind:
            second = clock.second()
            if self._counts.add(kind, whom, second // seconds) > amount:
                raise RateExceeded(seconds - second % seconds)


def rates(of: str, said: str) -> Rates:
    """Return the rates that a text says, under names by which they are counted; raise RatesUnreadable."""
    try:
        found: list[RateLimitItem] = parse_many(said) if said else []
    except ValueError as error:
        raise RatesUnreadable(said) from error
    if not all(0 < rate.amount <= COUNT_MAX for rate in found):
        raise RatesUnreadable(said)
    return [(f"{of} {rate}", rate.amount, rate.get_expiry()) for rate in found]

"""Rate limits that hold across the web workers of a service, without a question to the database.

The workers count in a file that all of them map into memory: each in a row of its own, so that nobody writes what
another writes, and everybody reads the sum. Whoever is counted has a place in the row by its hash; where two meet, the
later takes the place, so that a collision lets somebody through and never turns anybody away. Two workers that count at
the same moment may not see each other: a limit is exceeded by at most one request for each other worker. Windows are
fixed, as `limits` has them: across the end of one, twice the limit may pass. Each node counts for itself.
"""

import fcntl
import mmap
import os
from pathlib import Path
from typing import Final

from limits import RateLimitItem, parse_many
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from infra import clock

PLACES: Final = 65_536
PLACE_BYTES: Final = 8
ROW_BYTES: Final = PLACES * PLACE_BYTES
COUNT_BITS: Final = 24
"""Of the 64 bits of a place, how many count; the others say for whom and in which window."""

_COUNT_MAX: Final = (1 << COUNT_BITS) - 1
_TAG_MASK: Final = (1 << 64) - 1 - _COUNT_MAX


class RateExceeded(Exception):
    """There were too many requests; try again later."""

    def __init__(self, retry_after_seconds: int) -> None:
        """Say after how many seconds to try again."""
        super().__init__(self.__doc__)
        self.retry_after_seconds = retry_after_seconds


class RatesUnreadable(Exception):
    """{said!r} is no rate; say for example 500/second, or 500/second;10000/minute."""

    def __init__(self, said: str) -> None:
        """Say what cannot be read."""
        super().__init__(str(self.__doc__).format(said=said))


class SharedCounts(Storage):
    """Counts of a fixed window in memory that several processes share, as `limits` wants them stored."""

    STORAGE_SCHEME = None

    def __init__(self, path: Path | None, workers: int) -> None:
        """Count with the other workers in the file at `path`, or alone without one."""
        super().__init__()
        self._file = -1 if path is None else os.open(path, os.O_RDWR)
        if path is not None:
            os.truncate(self._file, ROW_BYTES * workers)
        self._memory = mmap.mmap(self._file, ROW_BYTES * (1 if path is None else workers))
        self._places = memoryview(self._memory).cast("Q")
        self._rows = range(0, len(self._places), PLACES)
        self._own = 0 if path is None else self._claimed(workers) * PLACES

    @property
    def base_exceptions(self) -> type[Exception]:
        """What goes wrong here."""
        return OSError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, and return how many there are of a key in the present window of so many seconds."""
        place, tag = self._find(key, expiry)
        places = self._places
        mine = places[self._own + place]
        count = (mine & _COUNT_MAX if mine & _TAG_MASK == tag else 0) + amount
        places[self._own + place] = tag | min(count, _COUNT_MAX)
        return count + sum(
            known & _COUNT_MAX
            for row in self._rows
            if row != self._own and (known := places[row + place]) & _TAG_MASK == tag
        )

    def get(self, key: str) -> int:  # noqa: ARG002  as `limits` calls it
        """Return 0: nothing here asks without counting."""
        return 0

    def get_expiry(self, key: str) -> float:  # noqa: ARG002  as `limits` calls it
        """Return the present: windows end at multiples of their length, which a key does not tell."""
        return clock.second()

    def check(self) -> bool:
        """Tell that memory is there."""
        return True

    def reset(self) -> int | None:
        """Forget what this process has counted."""
        self._places[self._own : self._own + PLACES] = memoryview(bytes(ROW_BYTES)).cast("Q")
        return None

    def clear(self, key: str) -> None:
        """Do nothing: what was counted ends with its window."""

    def _find(self, key: str, expiry: int) -> tuple[int, int]:
        # Strings are hashed with a seed, which the supervisor hands down: nobody can choose where to collide.
        hashed = hash((key, clock.second() // expiry))
        return hashed % PLACES, hashed & _TAG_MASK

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
        self._limiter = FixedWindowRateLimiter(counts)
        self._per_key = _rates(per_key)
        self._per_address = _rates(per_address)

    def count(self, key: str, address: str) -> None:
        """Count a request, whose key may be empty; raise RateExceeded."""
        if key:
            self._count(self._per_key, "key", key)
        self._count(self._per_address, "address", address)

    def _count(self, rates: list[RateLimitItem], kind: str, whom: str) -> None:
        for rate in rates:
            if not self._limiter.hit(rate, kind, whom):
                seconds = rate.get_expiry()
                raise RateExceeded(seconds - clock.second() % seconds)


def _rates(said: str) -> list[RateLimitItem]:
    try:
        return parse_many(said) if said else []
    except ValueError as error:
        raise RatesUnreadable(said) from error

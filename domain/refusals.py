"""Refusals: whom a worker turned away and why, counted until it is told to the log.

An attacker decides how many there are, so neither memory nor the log grows with their number: it is lines that are
kept, and beyond so many, those of one kind become one line. Like `tally.Tally` it is mutable, and touched
only between two awaits.
"""

from datetime import datetime
from typing import Final

from domain.access import AccessRefused, RefusalKind, RefusalTally

LINES_MAX: Final = 200
"""How many lines an interval has that tell people and networks apart: one event holds them."""

_Line = tuple[RefusalKind, str, str, str]


class Refusals:
    """Whom one worker refused, in one ledger, since it last took the event of it."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._counts: dict[_Line, int] = {}

    def add(self, kind: RefusalKind, *, actor: str, reason: str, network: str) -> None:
        """Count one that was refused."""
        line = (kind, actor, reason, network)
        if line not in self._counts and len(self._counts) >= LINES_MAX:
            line = (kind, "", "", "")
        self._counts[line] = self._counts.get(line, 0) + 1

    def take(self, since: datetime) -> tuple[AccessRefused, ...]:
        """Return what was counted since a time, and begin anew; nothing is no event."""
        counts, self._counts = self._counts, {}
        lines = tuple(
            RefusalTally(kind=kind, actor=actor, reason=reason, network=network, count=count)
            for (kind, actor, reason, network), count in counts.items()
        )
        return (AccessRefused(since=since, lines=lines),) if lines else ()

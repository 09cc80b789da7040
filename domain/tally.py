"""The tally: what a worker was asked for and what became of it, counted until it is told to the log.

Creatives are counted, as many as a placement asks for; what is asked for as a test is not. Like `holds.Holds` it is
mutable, and touched only between two awaits.
"""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from domain.events import RequestsTallied, RequestTally

HOUR_SECONDS: Final = 3_600
LINES_MAX: Final = 200
"""How many lines one event has, so that it is not larger than the log takes."""

KINDS_MAX: Final = 5_000
"""Bounds what is kept in memory: beyond so many slots and countries, countries are no longer told apart."""

_FILLED: Final = ""
"""What stands in the place of a reason when a creative was found."""


class Tally:
    """What one worker was asked for since it last took the events of it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._hour = 0
        self._kinds: dict[tuple[UUID, str | None], dict[str, int]] = {}
        self._closed: list[RequestsTallied] = []

    def add(
        self, slot_id: UUID, country: str | None, *, second: int, asked: int, filled: int, reason: str | None
    ) -> None:
        """Count what a placement asked for at a moment, in seconds since 1970, and how many creatives it got.

        Where it got fewer than it asked for, there is a reason.
        """
        hour = second // HOUR_SECONDS
        if hour != self._hour:
            self._close()
            self._hour = hour
        counts = self._kinds.get((slot_id, country))
        if counts is None:
            counts = self._kinds.setdefault((slot_id, country if len(self._kinds) < KINDS_MAX else None), {})
        if filled:
            counts[_FILLED] = counts.get(_FILLED, 0) + filled
        if asked > filled and reason is not None:
            counts[reason] = counts.get(reason, 0) + asked - filled

    def take(self) -> tuple[RequestsTallied, ...]:
        """Return what was counted, and begin anew: an event an hour, and more where one cannot hold it all."""
        self._close()
        taken, self._closed = tuple(self._closed), []
        return taken

    def _close(self) -> None:
        lines = [
            RequestTally(
                slot_id=slot_id,
                country=country,
                fills=counts.pop(_FILLED, 0),
                no_fill=counts,
            )
            for (slot_id, country), counts in self._kinds.items()
        ]
        hour = datetime.fromtimestamp(self._hour * HOUR_SECONDS, UTC)
        self._closed += [
            RequestsTallied(hour=hour, lines=tuple(lines[first : first + LINES_MAX]))
            for first in range(0, len(lines), LINES_MAX)
        ]
        self._kinds = {}

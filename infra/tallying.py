"""Telling the log what a worker was asked for: one append an interval, into a stream that this worker alone writes.

An append whose answer was lost is repeated as it was, at the same version of the stream: were it in the log already,
the log would refuse it. So every interval is in the log once. A worker that is killed takes the last one with it.
"""

import asyncio
from contextlib import suppress
from typing import Final
from uuid import UUID

from domain.decider import stream_of
from domain.errors import VersionConflict
from domain.events import RequestsTallied
from domain.tally import Tally
from infra import clock
from infra.batch import Appending
from infra.writer import LogBusy, LogUnavailable, Writer

INTERVAL_SECONDS: Final = 10.0

THING: Final = "requests"
"""Streams of tallies are named after it; the index of the catalogue leaves them out."""


class Tallying:
    """What one worker has counted, on its way into the log."""

    def __init__(self, ledger_id: UUID, worker: int, tally: Tally) -> None:
        """Take what is counted in `tally`; nothing is in the log yet."""
        self._ledger_id = ledger_id
        self._worker = worker
        self._tally = tally
        self._subject = clock.fresh_id()
        self._version = 0
        self._waiting: tuple[RequestsTallied, ...] = ()

    async def keep(self, writer: Writer) -> None:
        """Append what was counted, every interval, until cancelled; then the rest."""
        try:
            while True:
                await asyncio.sleep(INTERVAL_SECONDS)
                await self.append(writer)
        finally:
            await self.append(writer)

    async def append(self, writer: Writer) -> None:
        """Append what waits to be, and what was counted since; where that cannot be done now, it waits."""
        if self._waiting:
            await self._append(writer)
        if not self._waiting:
            self._waiting = self._tally.take()
            await self._append(writer)

    async def _append(self, writer: Writer) -> None:
        if not self._waiting:
            return
        appending = Appending(
            ledger_id=self._ledger_id,
            subject=self._subject,
            stream=stream_of(THING, self._subject),
            expected_version=self._version,
            position=0,
            events=self._waiting,
            actor=f"worker:{self._worker}",
        )
        with suppress(LogBusy, LogUnavailable):
            with suppress(VersionConflict):  # nobody else writes this stream: it is in the log
                await writer.append(appending)
            self._version += len(self._waiting)
            self._waiting = ()

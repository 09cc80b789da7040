"""The serving snapshot: what this process may answer ad requests with, kept in memory and fed from the log."""

import asyncio
import gc
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
import structlog

from domain.budget import Budget
from domain.campaign import CAMPAIGN, Campaign
from domain.choosing import Snapshot, index
from domain.creative import CREATIVE, Creative
from domain.decider import Decider
from domain.holds import Holds
from domain.slot import SLOT, Slot
from infra.database import Connection, connect
from infra.event_log import CHANNEL, Recorded, read_catalogue
from projections.rows import subject_of

REFRESH_SECONDS_MIN: Final = 0.05
"""Bounds how often the log is looked at while deliveries arrive by the thousand."""

POLL_SECONDS: Final = 1.0

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class Serving:
    """The catalogue of one ledger as it stands, and the immutable snapshot made from it, swapped whole."""

    def __init__(self, ledger_id: UUID, holds: Holds) -> None:
        """Begin with nothing to serve; `holds` is told of budgets that other processes changed."""
        self.ledger_id: Final = ledger_id
        self.holds: Final = holds
        self.snapshot = Snapshot()
        self.position = 0
        self._budgets_position = -1
        self._campaigns: dict[UUID, Campaign] = {}
        self._creatives: dict[UUID, Creative] = {}
        self._slots: dict[UUID, Slot] = {}

    def click_url(self, creative_id: UUID) -> str | None:
        """Return where a click on a creative leads, also when it is not served any more; None when it is unknown."""
        creative = self._creatives.get(creative_id)
        return None if creative is None else creative.terms.click_url

    async def refresh(self, connection: Connection) -> None:
        """Take in what the log and the budgets have gained, and swap in a new snapshot if that changes it."""
        await self._see_budgets(connection)
        before = self.position
        async for recorded in read_catalogue(connection, self.ledger_id, self.position):
            self._take(recorded)
            self.position = recorded.position
        if self.position != before:
            # In a thread, so that requests are answered from the old snapshot while a large one is made.
            self.snapshot = await asyncio.to_thread(
                index,
                position=self.position,
                campaigns=dict(self._campaigns),
                creatives=dict(self._creatives),
                slots=dict(self._slots),
            )
            # What serves stays for long: the collector need not walk it while requests wait (80 ms for 30,000 creatives).
            gc.freeze()

    async def follow(self, url: str) -> None:
        """Refresh whenever the log grows, until cancelled."""
        while True:
            try:
                async with await connect(url) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    while True:
                        await self.refresh(connection)
                        await asyncio.sleep(REFRESH_SECONDS_MIN)
                        async for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                            pass
            except (OSError, psycopg.Error) as error:
                log.warning("serving snapshot is not refreshed", error=type(error).__name__)
                await asyncio.sleep(POLL_SECONDS)

    async def _see_budgets(self, connection: Connection) -> None:
        cursor = await connection.execute(
            "SELECT * FROM budgets WHERE ledger_id = %s AND position > %s", (self.ledger_id, self._budgets_position)
        )
        budgets = [msgspec.convert(row, Budget) for row in await cursor.fetchall()]
        self.holds.see({budget.campaign_id: budget for budget in budgets})
        self._budgets_position = max([self._budgets_position, *(budget.position for budget in budgets)])

    def _take(self, recorded: Recorded) -> None:
        match recorded.entry.stream.partition("-")[0]:
            case CAMPAIGN.thing:
                _evolve(CAMPAIGN, self._campaigns, recorded)
            case CREATIVE.thing:
                _evolve(CREATIVE, self._creatives, recorded)
            case SLOT.thing:
                _evolve(SLOT, self._slots, recorded)


def _evolve(decider: Decider[Any, Any, Any], states: dict[UUID, Any], recorded: Recorded) -> None:
    subject = subject_of(recorded)
    states[subject] = decider.evolve(states.get(subject), recorded.entry.event)

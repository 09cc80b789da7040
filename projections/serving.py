"""The serving snapshot: what this process may answer ad requests with, kept in memory and fed from the log."""

import asyncio
import gc
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Final
from uuid import UUID

from msgspec import structs

from domain.advertiser import ADVERTISER, Advertiser
from domain.campaign import CAMPAIGN, Campaign
from domain.choosing import Lineup, Snapshot, index, of_campaigns
from domain.creative import CREATIVE, Creative
from domain.decider import Decider
from domain.events import CampaignActivated
from domain.explanation import Catalogue
from domain.frequency import VIEWERS_MAX, Viewings
from domain.holds import Holds
from domain.leasing import Want
from domain.pacing import Pace
from domain.precedence import paced
from domain.slot import SLOT, Slot
from domain.tally import Tally
from domain.terms import AdvertiserTerms, SlotTerms
from infra import clock
from infra.batch import Leasing
from infra.database import Connection
from infra.event_log import Recorded, read_catalogue
from infra.viewings import read_position_of_last, read_viewings
from infra.writer import LogBusy, LogUnavailable, Writer
from projections.pacer import Pacer, plans
from projections.rows import subject_of

REFRESH_SECONDS_MIN: Final = 0.05
"""Bounds how often the log is looked at while deliveries arrive by the thousand."""

POLL_SECONDS: Final = 1.0
FREEZE_SECONDS_MIN: Final = 60.0
RESTOCK_SECONDS: Final = 0.1
WANTS_MAX: Final = 500
"""Bounds how long leasing many campaigns at once keeps other batches waiting."""


class Serving:
    """The catalogue of one ledger as it stands, and the immutable snapshot made from it, swapped whole."""

    def __init__(self, ledger_id: UUID, holds: Holds) -> None:
        """Begin with nothing to serve; `holds` is told which campaigns to stock."""
        self.ledger_id: Final = ledger_id
        self.holds: Final = holds
        self.snapshot = Snapshot()
        self.position = 0
        self._changed = False
        self.refreshed_at = 0.0
        self._frozen_at = float("-inf")
        self._sold_out: dict[UUID, tuple[Lineup, int, int]] = {}
        self._campaigns: dict[UUID, Campaign] = {}
        self._creatives: dict[UUID, Creative] = {}
        self._slots: dict[UUID, Slot] = {}
        self._advertisers: dict[UUID, Advertiser] = {}
        self.viewings: Final = Viewings()
        self.tally: Final = Tally()
        self.pacer: Final = Pacer()
        self._began: dict[UUID, int] = {}
        self._viewed_until: int | None = None

    def sold_out(self, slot_id: UUID) -> int:
        """Return the bitset of those in a slot's lineup that have nothing left to promise, as of the last change."""
        lineup = self.snapshot.lineups.get(slot_id)
        if lineup is None:
            return 0
        known = self._sold_out.get(slot_id)
        if known is None or known[0] is not lineup or known[1] != self.holds.changes:
            bits = of_campaigns(lineup, self.holds.sold_out())
            known = self._sold_out[slot_id] = (lineup, self.holds.changes, bits)
        return known[2]

    def markup(self, creative_id: UUID) -> str | None:
        """Return what an HTML creative consists of, while its review holds; else None."""
        creative = self._creatives.get(creative_id)
        if creative is None or creative.review != "approved" or creative.terms.media_type != "html":
            return None
        return creative.terms.media_content

    def click_url(self, creative_id: UUID) -> str | None:
        """Return where a click on a creative leads, also when it is not served any more; None when it is unknown."""
        creative = self._creatives.get(creative_id)
        return None if creative is None else creative.terms.click_url

    def slot(self, slot_id: UUID) -> SlotTerms | None:
        """Return what a slot is, also when it is not active any more; None when it is unknown."""
        slot = self._slots.get(slot_id)
        return None if slot is None else slot.terms

    def advertiser(self, advertiser_id: UUID) -> AdvertiserTerms | None:
        """Return what an advertiser is, its contact as the log has it; None when it is unknown."""
        advertiser = self._advertisers.get(advertiser_id)
        return None if advertiser is None else advertiser.terms

    def creative(self, creative_id: UUID) -> Creative | None:
        """Return a creative as it stands, also when it is not served any more; None when it is unknown."""
        return self._creatives.get(creative_id)

    def campaign(self, campaign_id: UUID) -> Campaign | None:
        """Return a campaign as it stands; None when it is unknown."""
        return self._campaigns.get(campaign_id)

    def catalogue(self) -> Catalogue:
        """Return everything that there is, as the snapshot was made of it."""
        return Catalogue(
            campaigns=dict(self._campaigns),
            creatives=dict(self._creatives),
            slots=dict(self._slots),
            advertisers=dict(self._advertisers),
        )

    async def refresh(self, connection: Connection) -> None:
        """Take in what the log has gained, and swap in a new snapshot if that changes what can be served."""
        async for recorded in read_catalogue(connection, self.ledger_id, self.position):
            self._changed |= self.take(recorded)
            self.position = recorded.position
        if self._changed:  # also by what was read before a connection was lost
            # In a thread, so that requests are answered from the old snapshot while a large one is made.
            snapshot = await asyncio.to_thread(
                index,
                position=self.position,
                campaigns=dict(self._campaigns),
                creatives=dict(self._creatives),
                slots=dict(self._slots),
                advertisers=dict(self._advertisers),
            )
            self.pacer.know(await asyncio.to_thread(plans, snapshot, dict(self._began)))
            self.snapshot = await self._paced(snapshot, connection)
            self._changed = False
            self.holds.know(self.snapshot.limited)
            self._spare_collector()
        elif self.pacer.is_due(monotonic()):
            self.snapshot = await self._paced(self.snapshot, connection)
        if self.snapshot.caps:
            await self._learn_viewings(connection)
        self.refreshed_at = monotonic()

    async def _paced(self, snapshot: Snapshot, connection: Connection) -> Snapshot:
        paces = await self.pacer.look(connection, self.ledger_id, self.holds, clock.now())
        if _urgent(paces) == _urgent(snapshot.paces):
            return structs.replace(snapshot, paces=paces)
        return await asyncio.to_thread(paced, snapshot, paces)

    async def _learn_viewings(self, connection: Connection) -> None:
        """Take in what viewers have seen of what is capped, through whichever worker: at first of those seen last."""
        if self._viewed_until is None:
            self._viewed_until = await read_position_of_last(connection, self.ledger_id, VIEWERS_MAX)
        for viewed in await read_viewings(connection, self.ledger_id, self._viewed_until):
            self.viewings.learn(viewed.subject, viewed.viewer, viewed.viewing)
            self._viewed_until = viewed.position

    def _spare_collector(self) -> None:
        # What serves stays for long: the collector need not walk it while requests wait (80 ms for 30,000 creatives).
        # Not at every change, for what is garbage at that moment is never collected.
        if monotonic() >= self._frozen_at + FREEZE_SECONDS_MIN:
            self._frozen_at = monotonic()
            gc.freeze()

    async def keep_stocked(self, writer: Writer) -> None:
        """Lease what may be promised, as it is needed, until cancelled; then give back what is free."""
        try:
            while True:
                tick = monotonic()
                wants = self.holds.wants(tick)
                if wants or self.holds.is_due(tick):
                    for first in range(0, max(len(wants), 1), WANTS_MAX):
                        await self._lease(writer, wants[first : first + WANTS_MAX])
                await asyncio.sleep(RESTOCK_SECONDS)
        finally:
            await self._lease(writer, self.holds.all_free(), ends=True)

    async def _lease(self, writer: Writer, wants: list[Want], *, ends: bool = False) -> None:
        hold_seconds = max((slot.hold_seconds for slot in self.snapshot.slots.values()), default=0)
        leasing = Leasing(
            ledger_id=self.ledger_id,
            worker=self.holds.worker,
            wants=tuple(wants),
            hold_seconds=hold_seconds,
            ends=ends,
        )
        with suppress(LogBusy, LogUnavailable):  # the next round asks again; until then the leases run out
            await writer.lease(leasing)

    def take(self, recorded: Recorded) -> bool:
        """Take in an entry of the log; tell whether it can change what is served."""
        match recorded.entry.stream.partition("-")[0]:
            case CAMPAIGN.thing:
                _evolve(CAMPAIGN, self._campaigns, recorded)
                if isinstance(recorded.entry.event, CampaignActivated):
                    self._began.setdefault(subject_of(recorded), int(recorded.entry.recorded_at.timestamp()))
            case CREATIVE.thing:
                _evolve(CREATIVE, self._creatives, recorded)
            case SLOT.thing:
                _evolve(SLOT, self._slots, recorded)
            case ADVERTISER.thing:
                _evolve(ADVERTISER, self._advertisers, recorded)
            case _:
                return False
        return True


def _urgent(paces: Mapping[UUID, Pace]) -> dict[UUID, int]:
    return {campaign_id: pace.urgency for campaign_id, pace in paces.items() if pace.urgency > 1}


async def catalogue_at(connection: Connection, ledger_id: UUID, position: int) -> Catalogue:
    """Return everything that there was as of a position of the log."""
    past = Serving(ledger_id, Holds())
    async for recorded in read_catalogue(connection, ledger_id, 0):
        if recorded.position > position:
            break
        past.take(recorded)
    return past.catalogue()


def _evolve(decider: Decider[Any, Any, Any], states: dict[UUID, Any], recorded: Recorded) -> None:
    subject = subject_of(recorded)
    states[subject] = decider.evolve(states.get(subject), recorded.entry.event)

"""Holds: what a worker may promise to ad slots, and has promised, so that nothing is promised twice.

A decision takes one leased impression and holds it until it is confirmed or the hold expires. This is the one mutable
structure of the domain: a worker keeps one, and touches it only between two awaits. Its time is a steady clock, in
seconds, which no adjustment of the wall clock moves and which goes on while the process is stopped.
"""

import heapq
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Final
from uuid import UUID

from domain.leasing import LEASE_SECONDS, Want

STOCK_IMPRESSIONS_MIN: Final = 16
"""What a worker wants of each campaign before it knows how often it is asked for it."""

STOCK_SECONDS: Final = 2.0
"""For how long the stock of a campaign should last at the rate at which it was last promised."""

RENEW_SECONDS: Final = LEASE_SECONDS / 3
PATIENCE_SECONDS_MIN: Final = 0.1
PATIENCE_SECONDS_MAX: Final = 5.0
"""For how long a worker that was given nothing of a campaign waits before it asks again: twice as long every time."""

OFFERS_MAX: Final = 500
"""Bounds how many leases a worker offers to give back at a time, because nobody asked it for them."""

MARGIN_SECONDS: Final = 5.0
"""How much earlier than the ledger a worker takes its leases for over: as long as an answer may be on its way."""

CLOCKS_SECONDS: Final = 1.0
"""How much later than the ledger a worker takes a hold for over, as their clocks may differ."""


class _Lot:
    """One campaign's leased impressions: `leased` as the ledger last said, of which some are held, the rest free.

    Of `at_once` half were asked for by one request, and could not be had.
    """

    __slots__ = ("ask_at", "at_once", "elsewhere", "free", "held", "leased", "patience", "rate", "rated_at", "taken")

    def __init__(self) -> None:
        self.at_once = 0
        self.leased = 0
        self.free = 0
        self.held = 0
        self.elsewhere = 0
        self.taken = 0
        self.rate = 0.0
        self.rated_at = 0.0
        self.patience = 0.0
        self.ask_at = 0.0


class Holds:
    """The stock and the holds of one worker."""

    def __init__(self, worker: int = 0) -> None:
        """Begin with nothing leased; `worker` is the number under which the ledger knows this worker."""
        self.worker: Final = worker
        self.changes = 0
        self._lots: dict[UUID, _Lot] = {}
        self._open: dict[UUID, UUID] = {}
        self._expiries: list[tuple[float, UUID]] = []
        self._uncertain: set[UUID] = set()
        self._asking: set[UUID] = set()
        self._valid_until = 0.0
        self._looked_at = 0.0
        self._looks = 0
        self._ended = False
        self._stocked: frozenset[UUID] = frozenset()

    def know(self, campaigns: Collection[UUID]) -> None:
        """Stock these campaigns from now on, ask anew for those of which nothing was left, and give back all others."""
        self._stocked = frozenset(campaigns)
        for campaign_id in self._stocked.difference(self._lots):
            self._lots[campaign_id] = _Lot()
            self.changes += 1
        for lot in self._lots.values():
            lot.ask_at = 0.0
        self._asking.update(self._lots)

    def held(self, campaign_id: UUID) -> int:
        """Return how many impressions of a campaign are promised and neither confirmed nor expired."""
        lot = self._lots.get(campaign_id)
        return 0 if lot is None else lot.held

    def part_held(self, campaign_id: UUID) -> float:
        """Return which part of what is leased of a campaign is promised; with other workers it may be about as much."""
        lot = self._lots.get(campaign_id)
        return 0.0 if lot is None or lot.leased <= 0 else min(lot.held / lot.leased, 1.0)

    def take(self, campaign_id: UUID, decision_id: UUID, *, tick: float, hold_seconds: int) -> bool:
        """Hold one impression for a decision; False when none is free, or the leases are over."""
        lot = self._lots.get(campaign_id)
        if lot is None or lot.free <= 0 or tick >= self._valid_until:
            return False
        lot.free -= 1
        lot.held += 1
        lot.taken += 1
        self._asking.add(campaign_id)
        if not lot.free:
            self.changes += 1
        self._open[decision_id] = campaign_id
        heapq.heappush(self._expiries, (tick + hold_seconds + CLOCKS_SECONDS, decision_id))
        return True

    def take_all(self, campaign_id: UUID, decisions: Mapping[UUID, int], *, tick: float) -> bool:
        """Hold an impression for each of these decisions, for so many seconds, or none for any of them."""
        taken: list[UUID] = []
        for decision_id, hold_seconds in decisions.items():
            if not self.take(campaign_id, decision_id, tick=tick, hold_seconds=hold_seconds):
                break
            taken.append(decision_id)
        else:
            return True
        for decision_id in taken:
            self.give_back(decision_id)
        lot = self._lots.get(campaign_id)
        if lot is not None:
            # Who has less than half of what it wants asks for more.
            lot.at_once = 2 * len(decisions)
            self._asking.add(campaign_id)
        return False

    def give_back(self, decision_id: UUID) -> None:
        """Free the impression of a decision that nobody was told of; to be called before the next await."""
        campaign_id = self._open.pop(decision_id, None)
        if campaign_id is not None:
            lot = self._lots[campaign_id]
            if not lot.free:
                self.changes += 1
            lot.free += 1
            lot.held -= 1
            lot.taken -= 1

    def confirm(self, decision_id: UUID) -> None:
        """Close the hold of a decision whose impression this worker saw recorded."""
        campaign_id = self._open.pop(decision_id, None)
        if campaign_id is not None:
            lot = self._lots[campaign_id]
            lot.held -= 1
            lot.leased -= 1

    def confirm_elsewhere(self, decisions: Iterable[UUID]) -> None:
        """Close the holds of decisions whose impressions were recorded through other workers.

        Whether an answer that is on its way knows of them is uncertain; until one that does, they are not free again.
        """
        for decision_id in decisions:
            campaign_id = self._open.get(decision_id)
            if campaign_id is not None:
                self.confirm(decision_id)
                self._lots[campaign_id].elsewhere += 1
                self._uncertain.add(campaign_id)

    def sold_out(self) -> list[UUID]:
        """Return the campaigns of which nothing is free; it is worth asking again when `changes` has changed."""
        return [campaign_id for campaign_id, lot in self._lots.items() if lot.free <= 0]

    def wants(self, tick: float) -> list[Want]:
        """Return what to ask the ledger for, if anything, and close the holds that are over.

        An expired hold does not free its impression here: it may have been confirmed through another worker. The answer
        of the ledger says what is left of the lease, and so what is free.
        """
        self._expire(tick)
        offering = self._look(tick) if tick >= self._looked_at + RENEW_SECONDS else frozenset()
        asking, self._asking = self._asking | self._uncertain, set()
        wants = []
        for campaign_id in asking:
            lot = self._lots[campaign_id]
            if tick < lot.ask_at and campaign_id not in self._uncertain:
                self._asking.add(campaign_id)
                continue
            offers = lot.free if campaign_id in offering and lot.free > 1 and not lot.taken else 0
            wanted = self._wanted(campaign_id, lot, tick)
            is_unclear = campaign_id in self._uncertain or lot.leased > lot.held + lot.free
            if lot.free * 2 < wanted or lot.free > 2 * wanted or offers or is_unclear:
                wants.append(Want(campaign_id=campaign_id, impressions=wanted - lot.free, offers=offers))
                # What is given back, or may be, is not promised while the answer is on its way.
                lot.free = min(lot.free, wanted, 1 if offers else lot.free)
                lot.elsewhere = 0
        self._uncertain.clear()
        return wants

    def granted(self, leases: Mapping[UUID, int], *, asked: float) -> None:
        """Take over what the ledger says is leased to this worker, in answer to what it was asked at a tick.

        To be called in the order of commits: what was confirmed in a later one must not be free again. When the leases
        were over, the ledger may have reclaimed them, and of those it does not speak of nothing is free any more.
        """
        if asked >= self._valid_until:
            for lot in self._lots.values():
                lot.free = 0
            self._asking.update(self._lots)
        if not self._ended:
            self._valid_until = asked + LEASE_SECONDS - MARGIN_SECONDS
        for campaign_id, impressions in leases.items():
            lot = self._lots[campaign_id]
            lot.leased = impressions
            lot.free = max(0, impressions - lot.held - lot.elsewhere)
            if lot.free or campaign_id not in self._stocked:
                lot.patience = lot.ask_at = 0.0
            else:
                lot.patience = min(max(2 * lot.patience, PATIENCE_SECONDS_MIN), PATIENCE_SECONDS_MAX)
                lot.ask_at = asked + lot.patience
                self._asking.add(campaign_id)
        self.changes += 1

    def is_due(self, tick: float) -> bool:
        """Tell whether the ledger has to hear of this worker, wants or not, lest its leases end."""
        return tick >= self._valid_until - LEASE_SECONDS + MARGIN_SECONDS + RENEW_SECONDS

    def all_free(self) -> list[Want]:
        """Return what a worker that ends gives back, and promise nothing more."""
        self._valid_until = 0.0
        self._ended = True
        return [
            Want(campaign_id=campaign_id, impressions=-lot.free) for campaign_id, lot in self._lots.items() if lot.free
        ]

    def _look(self, tick: float) -> Collection[UUID]:
        """Look at everything, as from time to time; return whose stock to offer, a part of all after the other."""
        self._looked_at = tick
        self._looks += 1
        self._asking.update(self._lots)
        parts = len(self._lots) // OFFERS_MAX + 1
        return frozenset(islice(self._lots, self._looks % parts, None, parts))

    def _wanted(self, campaign_id: UUID, lot: _Lot, tick: float) -> int:
        elapsed = max(tick - lot.rated_at, PATIENCE_SECONDS_MIN)
        lot.rate = 0.5 * lot.rate + 0.5 * lot.taken / elapsed
        lot.rated_at, lot.taken = tick, 0
        if campaign_id not in self._stocked:
            return 0
        return max(STOCK_IMPRESSIONS_MIN, lot.at_once, int(lot.rate * STOCK_SECONDS))

    def _expire(self, tick: float) -> None:
        while self._expiries and self._expiries[0][0] <= tick:
            campaign_id = self._open.pop(heapq.heappop(self._expiries)[1], None)
            if campaign_id is not None:
                self._lots[campaign_id].held -= 1
                self._uncertain.add(campaign_id)

"""Holds: what has been promised to ad slots and not yet been confirmed, so that nothing is promised twice.

A decision holds what its impression will cost until the impression is confirmed or the hold expires. This is the one
mutable structure of the domain: a worker keeps one, and touches it only between two awaits.
"""

import heapq
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from msgspec import structs

from domain.budget import NOTHING, Budget, Charge, affords, on_day, price_of
from domain.choosing import Candidate


class Holds:
    """The holds of one worker, beside the budgets as it last saw them."""

    def __init__(self) -> None:
        """Start with no budget known and nothing held."""
        self._budgets: dict[UUID, Budget] = {}
        self._held: dict[UUID, Charge] = {}
        self._open: dict[UUID, tuple[UUID, Charge]] = {}
        self._expiries: list[tuple[float, UUID]] = []

    def see(self, budgets: Mapping[UUID, Budget]) -> None:
        """Take note of budgets as the log's writer left them, unless newer copies are known."""
        for campaign_id, budget in budgets.items():
            known = self._budgets.get(campaign_id)
            if known is None or known.position <= budget.position:
                self._budgets[campaign_id] = budget

    def held(self, campaign_id: UUID) -> Charge:
        """Return what is held of a campaign's budget."""
        return self._held.get(campaign_id, NOTHING)

    def take(self, candidate: Candidate, decision_id: UUID, *, now: datetime, hold_seconds: int) -> bool:
        """Hold what one impression of a candidate costs; False when no limit leaves room for it."""
        self.release_expired(now)
        budget = self._budgets.get(candidate.campaign_id)
        if budget is None:
            return False
        budget = on_day(budget, now)
        held = self._held.get(candidate.campaign_id, NOTHING)
        charge = price_of("impression", candidate.campaign.pricing, budget)
        if not affords(_with(budget, held), charge) or not _has_money_for_a_click(candidate, budget):
            return False
        if candidate.campaign.pricing.model == "flat":
            # Paid once, with whichever impression comes first: held by each it would count again beside what is spent.
            charge = Charge(impressions=1)
        self._held[candidate.campaign_id] = _plus(held, charge, 1)
        self._open[decision_id] = (candidate.campaign_id, charge)
        heapq.heappush(self._expiries, (now.timestamp() + hold_seconds, decision_id))
        return True

    def release(self, decision_id: UUID) -> None:
        """Give back what a decision held; nothing happens when it holds nothing any more."""
        opened = self._open.pop(decision_id, None)
        if opened is not None:
            campaign_id, charge = opened
            self._held[campaign_id] = _plus(self._held[campaign_id], charge, -1)

    def release_expired(self, now: datetime) -> None:
        """Give back what decisions held whose time is over."""
        second = now.timestamp()
        while self._expiries and self._expiries[0][0] <= second:
            self.release(heapq.heappop(self._expiries)[1])


def _with(budget: Budget, held: Charge) -> Budget:
    return structs.replace(
        budget,
        spent_micros=budget.spent_micros + held.micros,
        impressions=budget.impressions + held.impressions,
        day_spent_micros=budget.day_spent_micros + held.micros,
        day_impressions=budget.day_impressions + held.impressions,
    )


def _plus(held: Charge, charge: Charge, times: int) -> Charge:
    return Charge(micros=held.micros + times * charge.micros, impressions=held.impressions + times * charge.impressions)


def _has_money_for_a_click(candidate: Candidate, budget: Budget) -> bool:
    return affords(budget, price_of("click", candidate.campaign.pricing, budget))

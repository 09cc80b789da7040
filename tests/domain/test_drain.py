"""Draining: under steady demand workers sell a budget to its end, however the demand is spread over them."""

from typing import Any, Final
from uuid import UUID

from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from domain.books import Books
from domain.budget import Budget
from domain.delivery import settle
from domain.events import FundsDeposited
from domain.holds import PATIENCE_SECONDS_MAX, RENEW_SECONDS, Holds
from domain.leasing import LeaseKey, lease
from tests.domain.deliveries import CAMPAIGN_ID, CPM, NOON, delivery, ticket
from tests.domain.strategies import law
from tests.domain.workers import Ledger

ADVERTISER_ID: Final = UUID(int=301)
ROUND_SECONDS: Final = 0.1
QUIET_SECONDS: Final = PATIENCE_SECONDS_MAX + 4 * RENEW_SECONDS
"""For so long nothing is promised before the budget is taken for drained."""


def drained(impressions: int, demand: list[int]) -> int:
    """Return how many impressions are billed, when each worker is asked for so many ten times a second.

    Each impression is reported at once, through the next worker.
    """
    ledger = Ledger(
        CPM,
        Budget(budget_id=CAMPAIGN_ID, currency="CNY", timezone="UTC", day=NOON.date(), impression_budget=impressions),
    )
    workers = [ledger.start() for _ in demand]
    promised_at = 0.0
    while ledger.tick < promised_at + QUIET_SECONDS:
        for worker in workers:
            ledger.ask(worker)
            ledger.read(worker)
        for worker, asked in zip(workers, demand, strict=True):
            for _ in range(asked):
                if ledger.promise(worker):
                    promised_at = ledger.tick
                    assert len(ledger.promises) <= impressions
                    ledger.deliver("impression", len(ledger.promises), workers[worker % len(workers)])
        for worker in workers:
            ledger.read(worker)
        ledger.notice()
        ledger.tick += ROUND_SECONDS
    assert ledger.is_kept()
    assert ledger.budget.impressions == len(ledger.promises)
    return ledger.budget.impressions


@settings(law, max_examples=25)
@for_all(impressions=st.integers(0, 400), demand=st.lists(st.integers(1, 20), min_size=1, max_size=4))
def test_a_budget_in_demand_is_delivered_whole(impressions: int, demand: list[int]) -> None:
    """Where every worker is asked, however unevenly, nothing of the budget is left."""
    assert drained(impressions, demand) == impressions


@settings(law, max_examples=25)
@for_all(
    impressions=st.integers(0, 400),
    demand=st.lists(st.integers(0, 20), min_size=2, max_size=4).filter(any),
)
def test_one_impression_stays_with_a_worker_that_nobody_asks(impressions: int, demand: list[int]) -> None:
    """Each worker that is asked for nothing keeps one impression at most, as long as it lives."""
    assert drained(impressions, demand) >= impressions - demand.count(0)


@settings(law, max_examples=25)
@for_all(impressions=st.integers(1, 200), demand=st.lists(st.integers(0, 20), min_size=2, max_size=5).filter(any))
def test_funds_go_to_the_campaigns_that_are_asked_for(impressions: int, demand: list[int]) -> None:
    """Of the funds of several campaigns all is delivered but one impression for each campaign that nobody asks for."""
    campaigns = [UUID(int=number) for number in range(1, len(demand) + 1)]
    payer: dict[str, Any] = {"advertiser_id": ADVERTISER_ID, "currency": "CNY", "timezone": "UTC", "day": NOON.date()}
    budgets = {each: Budget(budget_id=each, impression_micros=2, **payer) for each in campaigns}
    opened = Books(budgets, NOON)
    opened.fund(ADVERTISER_ID, FundsDeposited(amount_micros=2 * impressions + 1, currency="CNY"))
    holds, leases, sold = Holds(1), dict[LeaseKey, int](), 0
    holds.know(campaigns)
    tick = sold_at = 0.0
    while tick < sold_at + QUIET_SECONDS:
        after = lease(1, holds.wants(tick), workers=1, leases=leases, books=opened)
        leases |= after
        holds.granted({campaign_id: has for (_, campaign_id), has in after.items()}, asked=tick)
        for campaign_id, asked in zip(campaigns, demand, strict=True):
            for _ in range(asked):
                if not holds.take(campaign_id, UUID(int=1_000 + sold), tick=tick, hold_seconds=60):
                    break
                promise = ticket(1_000 + sold, campaign_id=campaign_id, worker=1)
                found = settle([delivery(of=promise)], recorded={}, books=opened, leases=leases, viewings={}, now=NOON)
                assert found.outcomes[0] is not None
                assert found.outcomes[0].event.billed
                holds.confirm(promise.decision_id)
                leases |= found.leases
                sold, sold_at = sold + 1, tick
        tick += ROUND_SECONDS
    assert impressions >= sold >= impressions - demand.count(0)

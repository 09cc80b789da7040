"""Draining: under steady demand workers sell a budget to its end, however the demand is spread over them."""

from typing import Final

from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from domain.budget import Budget
from domain.holds import PATIENCE_SECONDS_MAX, RENEW_SECONDS
from tests.domain.deliveries import CAMPAIGN_ID, CPM, NOON
from tests.domain.strategies import law
from tests.domain.workers import Ledger

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

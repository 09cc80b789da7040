"""Tickets, deliveries and budgets small enough that limits are met often."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from hypothesis import strategies as st
from msgspec import structs

from domain.books import Books
from domain.budget import Budget, DeliveryKind, leased
from domain.delivery import Delivery, Settled, Ticket, settle
from domain.leasing import LeaseKey, Want, lease, reclaim
from domain.values import Pricing

NOON: Final = datetime(2026, 3, 10, 12, tzinfo=UTC)
CPM: Final = Pricing(model="cpm", price_micros=2_000)
CPC: Final = Pricing(model="cpc", price_micros=5)
FLAT: Final = Pricing(model="flat", price_micros=7)
CAMPAIGN_IDS: Final = (UUID(int=101), UUID(int=102))
CAMPAIGN_ID: Final = CAMPAIGN_IDS[0]
LIMITS: Final = ("budget_micros", "daily_budget_micros", "impression_budget", "daily_impression_budget")


def ticket(decision: int = 1, *, pricing: Pricing = CPM, **fields: Any) -> Ticket:
    """Return the ticket of a decision, good for an hour from noon."""
    whole = Ticket(
        decision_id=UUID(int=decision),
        campaign_id=CAMPAIGN_ID,
        creative_id=UUID(int=201),
        advertiser_id=UUID(int=301),
        slot_id=UUID(int=401),
        country="CN",
        region="216",
        city="217",
        viewer="f00d",
        expires_at=int(NOON.timestamp()) + 3_600,
        hold_expires_at=int(NOON.timestamp()) + 60,
        worker=0,
        pricing=pricing,
        currency="CNY",
        test=False,
    )
    return structs.replace(whole, **fields)


def delivery(kind: DeliveryKind = "impression", of: Ticket | None = None) -> Delivery:
    """Return a delivery at noon."""
    return Delivery(kind=kind, ticket=of or ticket(), occurred_at=NOON)


class Outcome(NamedTuple):
    """What became of each delivery, and the budgets and leases that changed."""

    outcomes: tuple[Settled | None, ...]
    budgets: dict[UUID, Budget]
    leases: dict[LeaseKey, int]


def settled_on(
    deliveries: Sequence[Delivery],
    *,
    recorded: Mapping[UUID, frozenset[DeliveryKind]],
    budgets: Mapping[UUID, Budget],
    leases: Mapping[LeaseKey, int],
    now: datetime,
) -> Outcome:
    """Settle deliveries of which none is capped, with books that are opened for them."""
    books = Books(budgets, now)
    settlement = settle(deliveries, recorded=recorded, books=books, leases=leases, viewings={}, now=now)
    assert not settlement.viewings
    return Outcome(settlement.outcomes, books.changed, settlement.leases)


def leased_to(
    worker: int,
    wants: Sequence[Want],
    *,
    workers: int,
    leases: Mapping[LeaseKey, int],
    budgets: Mapping[UUID, Budget],
    now: datetime,
) -> tuple[dict[LeaseKey, int], dict[UUID, Budget]]:
    """Return the leases that a worker has of what it wants, and the budgets that changed."""
    books = Books(budgets, now)
    return lease(worker, wants, workers=workers, leases=leases, books=books), books.changed


def reclaimed(silent: Mapping[LeaseKey, int], budgets: Mapping[UUID, Budget], now: datetime) -> dict[UUID, Budget]:
    """Return the budgets that change when the leases of silent workers return to them."""
    books = Books(budgets, now)
    reclaim(silent, books)
    return books.changed


def with_leased(budget: Budget, impressions: int) -> Budget:
    """Return a campaign's budget with so many more of its impressions set aside."""
    return leased(budget, impressions, impressions * budget.impression_micros)


def recorded_after(
    recorded: Mapping[UUID, frozenset[DeliveryKind]], delivered: Delivery, outcome: Settled | None
) -> dict[UUID, frozenset[DeliveryKind]]:
    """Return what the log has of each decision after a delivery was settled."""
    decision_id = delivered.ticket.decision_id
    new = frozenset[DeliveryKind]() if outcome is None else frozenset({delivered.kind})
    return {**recorded, decision_id: recorded.get(decision_id, frozenset()) | new}


def is_within_limits(budget: Budget, *, micros: int = 0, impressions: int = 0) -> bool:
    """Tell whether what was billed, and this much more, is within all four limits."""
    taken = (
        (budget.spent_micros + micros, budget.budget_micros),
        (budget.day_spent_micros + micros, budget.daily_budget_micros),
        (budget.impressions + impressions, budget.impression_budget),
        (budget.day_impressions + impressions, budget.daily_impression_budget),
    )
    return all(limit is None or amount <= limit for amount, limit in taken)


kinds: Final[st.SearchStrategy[DeliveryKind]] = st.sampled_from(["impression", "view", "click"])
pricings: Final = (
    st.integers(1, 5).map(lambda price: Pricing(model="cpm", price_micros=price * 1_000))
    | st.integers(1, 5).map(lambda price: Pricing(model="cpc", price_micros=price))
    | st.integers(1, 12).map(lambda price: Pricing(model="flat", price_micros=price))
)
timezones: Final = st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York"])


def limits_up_to(most: int) -> st.SearchStrategy[dict[str, int | None]]:
    """Return changes of limits, each of which may be set or lifted or left alone."""
    return st.fixed_dictionaries({}, optional={name: st.none() | st.integers(1, most) for name in LIMITS})


def budgets_up_to(most: int) -> st.SearchStrategy[Budget]:
    """Return budgets with nothing spent and limits of at most so much."""
    return st.builds(
        lambda timezone, named: Budget(
            budget_id=CAMPAIGN_ID, currency="CNY", timezone=timezone, day=date(2026, 3, 9), **named
        ),
        timezones,
        limits_up_to(most),
    )


limits: Final = limits_up_to(20)
budgets: Final = budgets_up_to(20)

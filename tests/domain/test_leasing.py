"""Leases: what workers get of what they want, and that nothing is set aside twice or lost."""

from typing import Any, Final

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec import structs

from domain.budget import Budget
from domain.leasing import LeaseKey, Want
from tests.domain.deliveries import (
    CAMPAIGN_ID,
    CAMPAIGN_IDS,
    NOON,
    budgets,
    is_within_limits,
    leased_to,
    reclaimed,
    with_leased,
)
from tests.domain.strategies import law

BUDGET: Final = Budget(
    budget_id=CAMPAIGN_ID, currency="CNY", timezone="UTC", impression_micros=2, impression_budget=100
)
KEY: Final[LeaseKey] = (7, CAMPAIGN_ID)


def gets(
    wanted: int, *, offers: int = 0, budget: Budget = BUDGET, has: int = 0, workers: int = 1
) -> tuple[int, Budget]:
    """Return what worker 7 has leased after it asked for more, and the budget."""
    before = with_leased(budget, has)
    leases, changed = leased_to(
        7,
        [Want(campaign_id=CAMPAIGN_ID, impressions=wanted, offers=offers)],
        workers=workers,
        leases={KEY: has} if has else {},
        budgets={CAMPAIGN_ID: before},
        now=NOON,
    )
    return leases[KEY], changed.get(CAMPAIGN_ID, before)


def test_a_worker_gets_what_it_wants() -> None:
    """While there is room, a worker has so many more impressions leased, and the budget has set them aside."""
    has, budget = gets(16, has=4)
    assert (has, budget.leased_impressions, budget.leased_micros) == (20, 20, 40)


def test_a_worker_alone_gets_all_there_is() -> None:
    """Nobody else is in need of what the only worker does not get."""
    assert gets(1_000)[0] == 100
    assert gets(1_000, has=30)[0] == 100
    assert gets(1_000, workers=0)[0] == 100


@pytest.mark.parametrize(
    ("limits", "wanted", "workers", "expected"),
    [
        ({"impression_budget": 100}, 1_000, 2, 25),
        ({"impression_budget": 100}, 10, 2, 10),
        ({"impression_budget": 100}, 1_000, 4, 13),
        ({"impression_budget": 1}, 1_000, 4, 1),
        ({"impression_budget": 0}, 1_000, 4, 0),
        ({"impression_budget": None}, 1_000, 4, 1_000),
        ({"impression_budget": None, "budget_micros": 80}, 1_000, 2, 10),
    ],
)
def test_one_of_several_workers_gets_a_share(limits: dict[str, Any], wanted: int, workers: int, expected: int) -> None:
    """A worker gets at most half of its share of what is left, and at least one while one is left."""
    assert gets(wanted, budget=structs.replace(BUDGET, **limits), workers=workers)[0] == expected


def test_a_worker_gives_back_no_more_than_it_has() -> None:
    """A negative want gives back, down to nothing."""
    has, budget = gets(-3, has=4)
    assert (has, budget.leased_impressions) == (1, 1)
    has, budget = gets(-9, has=4)
    assert (has, budget) == (0, BUDGET_TODAY)


BUDGET_TODAY: Final = structs.replace(BUDGET, day=NOON.date())


def test_a_want_of_nothing_tells_what_is_left() -> None:
    """A worker that wants nothing is told how much of its lease is left, and no row is written."""
    want = Want(campaign_id=CAMPAIGN_ID, impressions=0)
    budgets = {CAMPAIGN_ID: with_leased(BUDGET, 4)}
    assert leased_to(7, [want], workers=1, leases={KEY: 4}, budgets=budgets, now=NOON) == ({KEY: 4}, {})


@pytest.mark.parametrize(
    ("limit", "has", "offers", "workers", "expected"),
    [
        (1_000, 16, 16, 2, 16),  # there is plenty
        (16, 16, 16, 1, 16),  # there is nobody else
        (16, 16, 16, 2, 4),  # nothing else is left
        (20, 16, 16, 2, 5),
        (16, 16, 10, 2, 9),  # the other six are promised already
        (16, 2, 2, 2, 4),  # more than its share is not taken
        (4, 4, 4, 4, 1),
        (2, 2, 2, 4, 1),  # the last one may have been promised meanwhile
        (1, 1, 1, 4, 1),
        (16, 16, 99, 2, 4),  # a worker whose lease was taken back offers what it has not
    ],
)
def test_what_is_offered_is_shared(limit: int, has: int, offers: int, workers: int, expected: int) -> None:
    """Of what a worker offers it keeps its share of what is left, and one at least; the others can have the rest."""
    budget = structs.replace(BUDGET, impression_budget=limit)
    wanted = 2 if has == 2 else 0
    assert gets(wanted, offers=offers, budget=budget, has=has, workers=workers)[0] == expected


def test_a_click_that_cannot_be_paid_leaves_one() -> None:
    """Where there is no room at all, a worker still keeps one of what it offers."""
    broke = structs.replace(BUDGET, click_micros=5, budget_micros=4)
    assert gets(0, offers=9, budget=broke, has=9, workers=2)[0] == 1


def test_a_new_day_has_room_again() -> None:
    """What was spent yesterday takes no room from today's limit."""
    yesterday = structs.replace(BUDGET, daily_impression_budget=5, day_impressions=5)
    assert gets(9, budget=yesterday)[0] == 5


def test_an_unknown_campaign_has_nothing_to_lease() -> None:
    """A want of a campaign without a budget is passed over."""
    want = Want(campaign_id=CAMPAIGN_ID, impressions=1)
    assert leased_to(7, [want], workers=1, leases={}, budgets={}, now=NOON) == ({}, {})


def test_what_the_silent_leased_returns() -> None:
    """The leases of all silent workers go back to their campaigns' budgets, as far as these are known."""
    silent = {KEY: 3, (8, CAMPAIGN_ID): 2, (8, CAMPAIGN_IDS[1]): 9}
    assert reclaimed(silent, {CAMPAIGN_ID: with_leased(BUDGET, 6)}, NOON) == {CAMPAIGN_ID: with_leased(BUDGET_TODAY, 1)}
    assert reclaimed({}, {CAMPAIGN_ID: BUDGET}, NOON) == {}


wants: Final = st.lists(st.tuples(st.integers(1, 3), st.integers(-10, 30), st.integers(0, 10)), max_size=20)


@law
@for_all(budget=budgets, wants=wants, workers=st.integers(1, 3))
def test_leases_stay_within_every_limit(budget: Budget, wants: list[tuple[int, int, int]], workers: int) -> None:
    """Whoever asks for whatever: what is spent and leased is within every limit, and all of it returns in the end."""
    budget = structs.replace(budget, impression_micros=2, day=NOON.date())
    before = budget
    leases: dict[LeaseKey, int] = {}
    for worker, wanted, offers in wants:
        want = Want(campaign_id=CAMPAIGN_ID, impressions=wanted, offers=offers)
        after, changed = leased_to(
            worker, [want], workers=workers, leases=leases, budgets={CAMPAIGN_ID: budget}, now=NOON
        )
        has = leases.get((worker, CAMPAIGN_ID), 0)
        assert 0 <= after[worker, CAMPAIGN_ID] <= max(has, has + wanted)
        leases |= after
        budget = changed.get(CAMPAIGN_ID, budget)
        assert budget.leased_impressions == sum(leases.values())
        assert is_within_limits(budget, micros=budget.leased_micros, impressions=budget.leased_impressions)
    assert reclaimed(leases, {CAMPAIGN_ID: budget}, NOON).get(CAMPAIGN_ID, before) == before

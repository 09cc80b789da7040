"""Holds: a worker promises what it leased, each impression once, and what is not used can be used again."""

from itertools import pairwise
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.budget import Budget, on_day, room
from domain.holds import (
    CLOCKS_SECONDS,
    MARGIN_SECONDS,
    OFFERS_MAX,
    PATIENCE_SECONDS_MAX,
    RENEW_SECONDS,
    STOCK_IMPRESSIONS_MIN,
    Holds,
)
from domain.leasing import LEASE_SECONDS, Want
from domain.values import Pricing
from tests.domain.deliveries import CAMPAIGN_ID, CAMPAIGN_IDS, budgets_up_to, limits_up_to, pricings
from tests.domain.strategies import law
from tests.domain.workers import HOLD_SECONDS, SILENCE_SECONDS, Move, happen, ledger_of, moves

OTHER_ID: Final = CAMPAIGN_IDS[1]
FIRST, SECOND, THIRD = UUID(int=1), UUID(int=2), UUID(int=3)


def stocked(impressions: int, *, at: float = 0.0) -> Holds:
    """Return the holds of a worker that has leased so many impressions of one campaign, and has just asked."""
    holds = Holds(7)
    holds.know({CAMPAIGN_ID})
    holds.wants(at)
    holds.granted({CAMPAIGN_ID: impressions}, asked=at)
    return holds


def takes(holds: Holds, decision_id: UUID, *, at: float = 0.0, campaign_id: UUID = CAMPAIGN_ID) -> bool:
    """Try to promise one impression."""
    return holds.take(campaign_id, decision_id, tick=at, hold_seconds=HOLD_SECONDS)


def want(impressions: int, *, offers: int = 0) -> Want:
    """Return what a worker asks for."""
    return Want(campaign_id=CAMPAIGN_ID, impressions=impressions, offers=offers)


def test_a_worker_promises_what_it_leased() -> None:
    """Each promise holds one impression, and what was not leased is not promised."""
    holds = stocked(2)
    assert holds.worker == 7
    assert [takes(holds, decision_id) for decision_id in (FIRST, SECOND, THIRD)] == [True, True, False]
    assert (holds.held(CAMPAIGN_ID), holds.held(OTHER_ID)) == (2, 0)


def test_nothing_is_promised_before_anything_is_leased() -> None:
    """A worker that knows nothing, or was granted nothing, promises nothing."""
    assert not takes(Holds(), FIRST)
    holds = Holds()
    holds.know({CAMPAIGN_ID})
    assert not takes(holds, FIRST)
    assert not takes(stocked(0), FIRST)


def test_ten_impressions_are_promised_ten_times() -> None:
    """Of two hundred requests for a campaign of ten impressions ten are answered."""
    holds = stocked(10)
    assert [takes(holds, UUID(int=number)) for number in range(200)].count(True) == 10


def test_many_are_held_at_once_or_none() -> None:
    """What a page needs all of is held for all of its places; what was short is asked for, and nothing stays held."""
    holds = stocked(STOCK_IMPRESSIONS_MIN)
    many = dict.fromkeys((UUID(int=number) for number in range(STOCK_IMPRESSIONS_MIN + 1)), HOLD_SECONDS)
    assert not holds.take_all(CAMPAIGN_ID, many, tick=0.0)
    assert (holds.held(CAMPAIGN_ID), holds.take_all(OTHER_ID, many, tick=0.0)) == (0, False)
    holds.give_back(THIRD)  # which nobody was promised
    assert holds.wants(1.0) == [want(2 * len(many) - STOCK_IMPRESSIONS_MIN)]
    holds.granted({CAMPAIGN_ID: len(many)}, asked=1.0)
    assert (holds.take_all(CAMPAIGN_ID, many, tick=1.0), holds.held(CAMPAIGN_ID)) == (True, len(many))
    assert not takes(holds, UUID(int=99), at=1.0)
    assert not Holds().take_all(CAMPAIGN_ID, many, tick=1.0)


def test_it_is_known_which_part_is_held() -> None:
    """Of what is leased a part is promised; of what is not leased, none."""
    holds = stocked(4)
    assert takes(holds, FIRST)
    assert (holds.part_held(CAMPAIGN_ID), holds.part_held(OTHER_ID), stocked(0).part_held(CAMPAIGN_ID)) == (0.25, 0, 0)


def test_campaigns_are_stocked_apart() -> None:
    """One campaign's promises take nothing from another's stock."""
    holds = stocked(1)
    holds.know({CAMPAIGN_ID, OTHER_ID})
    holds.granted({OTHER_ID: 1}, asked=0.0)
    assert takes(holds, FIRST)
    assert takes(holds, SECOND, campaign_id=OTHER_ID)
    holds.confirm(FIRST)
    assert (holds.held(CAMPAIGN_ID), holds.held(OTHER_ID)) == (0, 1)


def test_what_was_confirmed_is_used_up() -> None:
    """A confirmed impression is held no more, and not free again; confirming it again changes nothing."""
    holds = stocked(2)
    takes(holds, FIRST)
    for decision_id in (FIRST, FIRST, THIRD):
        holds.confirm(decision_id)
    assert holds.held(CAMPAIGN_ID) == 0
    assert [takes(holds, decision_id) for decision_id in (SECOND, THIRD)] == [True, False]
    holds = stocked(STOCK_IMPRESSIONS_MIN)
    takes(holds, FIRST)
    holds.confirm(FIRST)
    asked = [holds.wants(at) for at in (1.0, HOLD_SECONDS + CLOCKS_SECONDS)]
    assert (asked, holds.held(CAMPAIGN_ID)) == ([[], [want(1, offers=STOCK_IMPRESSIONS_MIN - 1)]], 0)


def test_what_another_worker_confirmed_is_asked_about() -> None:
    """A hold closed elsewhere is open no more, and the ledger is asked what is left."""
    holds = stocked(STOCK_IMPRESSIONS_MIN)
    takes(holds, FIRST)
    holds.confirm_elsewhere([SECOND])
    assert holds.wants(1.0) == []
    holds.confirm_elsewhere([FIRST, SECOND])
    assert holds.held(CAMPAIGN_ID) == 0
    assert holds.wants(2.0) == [want(1)]
    assert holds.wants(3.0) == []


def test_an_answer_may_be_older_than_what_another_worker_confirmed() -> None:
    """What was confirmed elsewhere while an answer was on its way is not taken for free because of that answer."""
    holds = stocked(2)
    takes(holds, FIRST)
    assert holds.wants(1.0) == [want(STOCK_IMPRESSIONS_MIN - 1)]
    holds.confirm_elsewhere([FIRST])
    holds.granted({CAMPAIGN_ID: 2}, asked=1.0)
    assert [takes(holds, decision_id, at=1.0) for decision_id in (SECOND, THIRD)] == [True, False]
    assert holds.wants(1.0) == [want(STOCK_IMPRESSIONS_MIN)]
    holds.granted({CAMPAIGN_ID: 2}, asked=1.0)
    assert takes(holds, THIRD, at=1.0)


def test_what_expired_is_free_when_the_ledger_says_so() -> None:
    """A hold that is over may have been confirmed elsewhere: only the ledger knows whether its impression is left."""
    over = HOLD_SECONDS + CLOCKS_SECONDS
    for left, free in ((1, True), (0, False)):
        holds = stocked(1)
        takes(holds, FIRST)
        assert (holds.wants(over - 0.1), holds.held(CAMPAIGN_ID)) == ([want(STOCK_IMPRESSIONS_MIN)], 1)
        assert holds.wants(over) == [want(STOCK_IMPRESSIONS_MIN)]
        assert holds.held(CAMPAIGN_ID) == 0
        assert not takes(holds, SECOND, at=over)
        holds.granted({CAMPAIGN_ID: left}, asked=over)
        assert takes(holds, SECOND, at=over) == free


def test_what_is_held_is_not_granted_again() -> None:
    """What the ledger says is leased includes what is promised already, however much of it."""
    holds = stocked(3)
    takes(holds, FIRST)
    takes(holds, SECOND)
    holds.granted({CAMPAIGN_ID: 3}, asked=1.0)
    assert takes(holds, THIRD, at=1.0)
    holds.granted({CAMPAIGN_ID: 2}, asked=2.0)
    assert not takes(holds, UUID(int=4), at=2.0)


def test_leases_are_over_before_the_ledger_takes_them_back() -> None:
    """A worker that was not answered for some time promises nothing more, until it is told anew what it has."""
    end = 100.0 + LEASE_SECONDS - MARGIN_SECONDS
    holds = stocked(3, at=100.0)
    assert takes(holds, FIRST, at=end - 0.1)
    assert not takes(holds, SECOND, at=end)
    holds.granted({}, asked=end - 0.1)
    assert takes(holds, SECOND, at=end)
    holds = stocked(3, at=100.0)
    holds.granted({}, asked=end)
    assert not takes(holds, SECOND, at=end)
    assert holds.wants(end) == [want(STOCK_IMPRESSIONS_MIN)]
    holds.granted({CAMPAIGN_ID: 2}, asked=end)
    assert takes(holds, SECOND, at=end)


def test_a_worker_is_heard_of_in_time() -> None:
    """The ledger hears of a worker well before its leases end, and at once when it never has."""
    assert Holds().is_due(0.0)
    holds = stocked(0, at=100.0)
    assert not holds.is_due(100.0 + RENEW_SECONDS - 0.1)
    assert holds.is_due(100.0 + RENEW_SECONDS)
    assert RENEW_SECONDS < LEASE_SECONDS - MARGIN_SECONDS


def test_stock_is_asked_for_when_half_is_left() -> None:
    """A worker asks for what it misses once less than half of its stock is free."""
    holds = Holds()
    holds.know({CAMPAIGN_ID})
    assert holds.wants(0.0) == [want(STOCK_IMPRESSIONS_MIN)]
    holds.granted({CAMPAIGN_ID: STOCK_IMPRESSIONS_MIN}, asked=0.0)
    half = STOCK_IMPRESSIONS_MIN // 2
    for number in range(half):
        takes(holds, UUID(int=number))
    assert holds.wants(1.0) == []
    takes(holds, UUID(int=99))
    assert holds.wants(2.0) == [want(half + 1)]
    assert holds.wants(2.0) == []


@pytest.mark.parametrize("surplus", [0, 1])
def test_stock_is_given_back_when_twice_of_it_is_there(surplus: int) -> None:
    """A worker keeps up to twice the stock it wants, and of more than that gives all the surplus back."""
    holds = stocked(2 * STOCK_IMPRESSIONS_MIN + surplus)
    holds.know({CAMPAIGN_ID})
    assert holds.wants(1.0) == ([want(-STOCK_IMPRESSIONS_MIN - 1)] if surplus else [])


def test_stock_follows_the_rate() -> None:
    """The more often a campaign is promised the more of it is stocked, and less again when that is over."""
    holds = stocked(100)
    for number in range(100):
        takes(holds, UUID(int=number))
    assert holds.wants(1.0) == [want(100)]  # half of 100 a second, for two seconds
    holds.granted({CAMPAIGN_ID: 300}, asked=1.0)
    takes(holds, UUID(int=100))
    assert holds.wants(2.0) == [want(51 - 199)]


def test_what_nobody_asks_for_is_offered() -> None:
    """From time to time a worker offers what it did not promise, and promises but one of it until it is answered."""
    holds = stocked(STOCK_IMPRESSIONS_MIN)
    assert holds.wants(RENEW_SECONDS - 0.1) == []
    assert holds.wants(RENEW_SECONDS) == [want(0, offers=STOCK_IMPRESSIONS_MIN)]
    assert [takes(holds, decision_id, at=RENEW_SECONDS) for decision_id in (FIRST, SECOND)] == [True, False]
    holds.granted({CAMPAIGN_ID: 3}, asked=RENEW_SECONDS)
    assert [takes(holds, decision_id, at=RENEW_SECONDS) for decision_id in (SECOND, THIRD)] == [True, True]
    assert not takes(holds, UUID(int=4), at=RENEW_SECONDS)
    assert stocked(2).wants(RENEW_SECONDS) == [want(STOCK_IMPRESSIONS_MIN - 2, offers=2)]
    assert stocked(1).wants(RENEW_SECONDS) == [want(STOCK_IMPRESSIONS_MIN - 1)]


def test_offers_are_made_a_part_at_a_time() -> None:
    """Of very many campaigns a worker offers some at a time, and each in its turn."""
    campaigns = [UUID(int=number) for number in range(OFFERS_MAX + 1)]
    holds = Holds()
    holds.know(campaigns)
    offered: list[UUID] = []
    for tick in (0.0, RENEW_SECONDS, 2 * RENEW_SECONDS):
        offers = [each.campaign_id for each in holds.wants(tick) if each.offers]
        assert len(offers) <= OFFERS_MAX
        offered.extend(offers)
        holds.granted(dict.fromkeys(campaigns, STOCK_IMPRESSIONS_MIN), asked=tick)
    assert sorted(offered) == campaigns


def test_what_is_sold_out_is_asked_for_less_and_less_often() -> None:
    """A worker that is given nothing waits twice as long every time before it asks again, up to some seconds."""
    holds = Holds()
    holds.know({CAMPAIGN_ID})
    asked = []
    for tick in (hundredth / 100 for hundredth in range(2_000)):
        if holds.wants(tick):
            asked.append(tick)
            holds.granted({CAMPAIGN_ID: 0}, asked=tick)
    waits = [later - earlier for earlier, later in pairwise(asked)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, *[PATIENCE_SECONDS_MAX] * 2], abs=0.02)
    holds.know({CAMPAIGN_ID})
    assert holds.wants(20.0) == [want(STOCK_IMPRESSIONS_MIN)]


def test_whoever_is_given_something_is_patient_no_more() -> None:
    """A worker that was given something asks for more as soon as it needs it."""
    holds = stocked(0)
    assert holds.wants(0.1) == [want(STOCK_IMPRESSIONS_MIN)]
    holds.granted({CAMPAIGN_ID: 1}, asked=0.1)
    takes(holds, FIRST, at=0.1)
    assert holds.wants(0.1) == [want(STOCK_IMPRESSIONS_MIN)]


def test_campaigns_that_are_served_no_more_are_given_back() -> None:
    """What is free of a campaign that is not stocked any more goes back at once, what is held when it is over."""
    over = HOLD_SECONDS + CLOCKS_SECONDS
    holds = stocked(3)
    takes(holds, FIRST)
    holds.know(())
    assert holds.wants(1.0) == [want(-2)]
    assert not takes(holds, SECOND, at=1.0)
    holds.granted({CAMPAIGN_ID: 1}, asked=1.0)
    assert holds.wants(2.0) == []
    assert holds.wants(over) == [want(0)]
    holds.granted({CAMPAIGN_ID: 1}, asked=over)
    assert holds.wants(over) == [want(-1)]


def test_a_worker_that_ends_gives_back_what_is_free() -> None:
    """On its end a worker gives back all but what it has promised, and whatever it is answered it promises no more."""
    holds = stocked(3)
    takes(holds, FIRST)
    assert holds.all_free() == [want(-2)]
    assert not takes(holds, SECOND)
    holds.granted({CAMPAIGN_ID: 3}, asked=0.0)
    assert not takes(holds, SECOND)
    assert stocked(0).all_free() == []


def test_what_is_sold_out_is_told_when_it_changes() -> None:
    """Campaigns of which nothing is free are named, and a counter says when to ask again."""
    holds = stocked(2)
    assert holds.sold_out() == []
    changes = holds.changes
    holds.know({CAMPAIGN_ID, OTHER_ID})
    assert holds.sold_out() == [OTHER_ID]
    assert holds.changes > changes
    changes = holds.changes
    takes(holds, FIRST)
    assert (holds.sold_out(), holds.changes) == ([OTHER_ID], changes)
    takes(holds, SECOND)
    assert holds.sold_out() == [CAMPAIGN_ID, OTHER_ID]
    assert holds.changes > changes
    changes = holds.changes
    holds.granted({OTHER_ID: 1}, asked=0.0)
    assert holds.sold_out() == [CAMPAIGN_ID]
    assert holds.changes > changes


def test_knowing_the_same_campaigns_again_changes_nothing() -> None:
    """Campaigns that are known already keep their stock."""
    holds = stocked(1)
    changes = holds.changes
    holds.know({CAMPAIGN_ID})
    assert holds.changes == changes
    assert takes(holds, FIRST)


@pytest.mark.parametrize("ticks", [(2.0, 2.0), (2.0, 1.0)])
def test_a_clock_that_stands_still_breaks_nothing(ticks: tuple[float, float]) -> None:
    """Asking twice at the same tick gives a rate, not an error."""
    holds = stocked(STOCK_IMPRESSIONS_MIN)
    assert [holds.wants(tick) for tick in ticks] == [[], []]


@law
@for_all(
    budget=budgets_up_to(4),
    pricing=pricings,
    moves=moves,
    limits=st.lists(st.tuples(st.integers(0, 60), limits_up_to(4)), max_size=3),
)
def test_what_is_promised_in_time_is_billed(
    budget: Budget, pricing: Pricing, moves: list[Move], limits: list[tuple[int, dict[str, Any]]]
) -> None:
    """Whatever workers do and miss: all that is billed and leased is within every limit, and covers every open promise.

    An impression that comes while its promise is open is billed, always; `Ledger.deliver` holds it to that.
    """
    ledger = ledger_of(budget, pricing)
    for number, move in enumerate(moves):
        happen(ledger, move)
        assert ledger.is_kept()
        for when, change in limits:
            if when == number:
                ledger.relimit(change)
                assert ledger.is_kept()


@law
@for_all(budget=budgets_up_to(4), pricing=pricings, moves=moves)
def test_nothing_stays_leased_for_ever(budget: Budget, pricing: Pricing, moves: list[Move]) -> None:
    """When all workers have fallen silent all leases have returned, and one new worker sells exactly what is left."""
    ledger = ledger_of(budget, pricing)
    for move in moves:
        happen(ledger, move)
    ledger.settle_down()
    assert ledger.is_kept()
    assert (ledger.budget.leased_impressions, ledger.budget.leased_micros) == (0, 0)
    budget = on_day(ledger.budget, ledger.now)
    left = min(room(budget, budget), 30)
    worker, sold = ledger.start(), 0
    for _ in range(100):  # twenty seconds, in which no promise expires
        ledger.ask(worker)
        ledger.read(worker)
        sold += ledger.promise(worker)
        ledger.tick += 0.2
    assert min(sold, 30) == left


@law
@for_all(budget=budgets_up_to(4), pricing=pricings, moves=moves)
def test_no_promise_is_stuck(budget: Budget, pricing: Pricing, moves: list[Move]) -> None:
    """What workers that live on do not use they can use again, whatever they missed."""
    ledger = ledger_of(budget, pricing)
    for move in moves:
        happen(ledger, move)
    ledger.tick += 2 * SILENCE_SECONDS
    for _ in range(3):
        for worker in ledger.holds:
            ledger.ask(worker)
            ledger.read(worker)
    assert ledger.is_kept()
    assert all(holds.held(CAMPAIGN_ID) == 0 for holds in ledger.holds.values())

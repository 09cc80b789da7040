"""Budgets: what deliveries cost, and that nothing is ever billed beyond a limit."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec import structs

from domain.budget import (
    NOTHING,
    UNLIMITED,
    Budget,
    Charge,
    DeliveryKind,
    affords,
    charged,
    is_limited,
    on_day,
    opened,
    price_of,
    price_of_click,
    price_of_impression,
    relimited,
    room,
)
from domain.errors import BudgetBelowSpent
from domain.events import CampaignChanged, CampaignCreated
from domain.terms import CampaignTerms
from domain.values import MICROS_MAX, Pricing, local_date
from tests.domain.deliveries import (
    CAMPAIGN_ID,
    CPC,
    CPM,
    FLAT,
    LIMITS,
    NOON,
    budgets,
    delivery,
    is_within_limits,
    kinds,
    limits,
    pricings,
    recorded_after,
    settled_on,
    ticket,
    with_leased,
)
from tests.domain.stored import stored
from tests.domain.strategies import evenly, law

FRESH: Final = Budget(budget_id=CAMPAIGN_ID, currency="CNY", timezone="UTC")
USED: Final = Budget(
    budget_id=CAMPAIGN_ID,
    currency="CNY",
    timezone="UTC",
    spent_micros=50,
    impressions=6,
    day=date(2026, 3, 10),
    day_spent_micros=20,
    day_impressions=2,
)


@pytest.mark.parametrize(
    ("kind", "pricing", "charge"),
    [
        ("impression", CPM, Charge(micros=2, impressions=1)),
        ("view", CPM, NOTHING),
        ("click", CPM, NOTHING),
        ("impression", CPC, Charge(micros=0, impressions=1)),
        ("view", CPC, NOTHING),
        ("click", CPC, Charge(micros=5, impressions=0)),
        ("impression", FLAT, Charge(micros=7, impressions=1)),
        ("view", FLAT, NOTHING),
        ("click", FLAT, NOTHING),
    ],
)
def test_each_pricing_charges_for_its_own_kind(kind: DeliveryKind, pricing: Pricing, charge: Charge) -> None:
    """Cpm charges a thousandth an impression, cpc each click, flat the first impression; a view costs nothing."""
    assert price_of(kind, pricing, FRESH) == charge


def test_a_flat_price_is_charged_once() -> None:
    """When one impression was billed, all others of a flat campaign are free."""
    assert price_of("impression", FLAT, structs.replace(FRESH, impressions=1)) == Charge(micros=0, impressions=1)


@pytest.mark.parametrize(("pricing", "impression", "click"), [(CPM, 2, 0), (CPC, 0, 5), (FLAT, 0, 0)])
def test_each_pricing_has_a_price_of_its_own_kind(pricing: Pricing, impression: int, click: int) -> None:
    """Only cpm prices every impression, only cpc every click."""
    assert (price_of_impression(pricing), price_of_click(pricing)) == (impression, click)


@pytest.mark.parametrize("limit", LIMITS)
def test_one_limit_makes_a_campaign_limited(limit: str) -> None:
    """A campaign with any limit has to lease what it promises, one without has not."""
    terms = structs.replace(CampaignTerms(**structs.asdict(stored(CampaignCreated))), **dict.fromkeys(LIMITS))
    assert not is_limited(terms)
    assert is_limited(structs.replace(terms, **{limit: 1}))


def test_a_new_day_has_nothing_spent() -> None:
    """At midnight of the campaign's time zone the day's counters begin anew, and the totals stay."""
    shanghai = structs.replace(USED, timezone="Asia/Shanghai")
    midnight = datetime(2026, 3, 10, 16, tzinfo=UTC)
    assert on_day(shanghai, midnight - timedelta(seconds=1)) == shanghai
    assert on_day(shanghai, midnight) == structs.replace(
        shanghai, day=date(2026, 3, 11), day_spent_micros=0, day_impressions=0
    )


def test_a_clock_that_steps_back_opens_no_old_day() -> None:
    """What was spent on a day still counts when the clock says that the day before has come again."""
    assert on_day(USED, NOON - timedelta(days=1)) == USED


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(("left", "affordable"), [(2, True), (1, False), (0, False), (-1, False), (None, True)])
def test_every_limit_is_kept(limit: str, left: int | None, affordable: bool) -> None:
    """A charge is affordable up to what is left of each limit, and always where there is no limit."""
    taken = {"budget_micros": 50, "daily_budget_micros": 20, "impression_budget": 6, "daily_impression_budget": 2}
    budget = structs.replace(USED, **{limit: None if left is None else taken[limit] + left})
    assert affords(budget, Charge(micros=2, impressions=2)) == affordable
    higher = structs.replace(budget, impression_micros=1, **{limit: None if left is None else taken[limit] + left + 3})
    assert affords(with_leased(higher, 3), Charge(micros=2, impressions=2)) == affordable


@pytest.mark.parametrize("limit", LIMITS)
def test_what_costs_nothing_is_always_affordable(limit: str) -> None:
    """A limit that was used up keeps nothing away that takes nothing from it."""
    assert affords(structs.replace(USED, **{limit: 0}), NOTHING)


def test_a_charge_is_added_everywhere() -> None:
    """What is billed counts in all and on the day."""
    assert charged(USED, Charge(micros=2, impressions=1)) == structs.replace(
        USED, spent_micros=52, impressions=7, day_spent_micros=22, day_impressions=3
    )


def test_a_lease_is_set_aside_and_given_back() -> None:
    """For each leased impression its price is set aside; a negative number gives back."""
    three = with_leased(structs.replace(USED, impression_micros=2), 3)
    assert three == structs.replace(USED, impression_micros=2, leased_impressions=3, leased_micros=6)
    assert with_leased(three, -3) == structs.replace(USED, impression_micros=2)


@pytest.mark.parametrize(
    ("limits", "times"),
    [
        ({}, (MICROS_MAX - 50) // 2),
        ({"budget_micros": 59}, 4),
        ({"daily_budget_micros": 27}, 3),
        ({"impression_budget": 8}, 2),
        ({"daily_impression_budget": 3}, 1),
        (
            {
                "budget_micros": 1_000,
                "daily_budget_micros": 1_000,
                "impression_budget": 9,
                "daily_impression_budget": 9,
            },
            3,
        ),
        ({"budget_micros": 51}, 0),
        ({"budget_micros": 40}, 0),
    ],
)
def test_there_is_room_for_what_every_limit_leaves(limits: dict[str, Any], times: int) -> None:
    """As many impressions can be leased as fit into the narrowest limit, beside what is leased already."""
    budget = structs.replace(USED, impression_micros=2, **limits)
    assert room(budget, budget) == times
    if times:
        assert room(budget, with_leased(budget, 1)) == times - 1
        assert room(budget, with_leased(budget, times)) == 0


@pytest.mark.parametrize(("limit", "least"), [("budget_micros", 55), ("daily_budget_micros", 25)])
def test_there_is_room_while_a_click_can_be_paid(limit: str, least: int) -> None:
    """A campaign paid by the click is served as long as one more click is affordable, whatever it takes to get it."""
    budget = structs.replace(USED, click_micros=5)
    assert room(budget, structs.replace(budget, **{limit: least})) == UNLIMITED
    assert room(budget, structs.replace(budget, **{limit: least, "impression_budget": 9})) == 3
    assert room(budget, structs.replace(budget, **{limit: least - 1})) == 0


@pytest.mark.parametrize(
    ("pricing", "prices"),
    [(CPM, {"impression_micros": 2}), (CPC, {"click_micros": 5}), (FLAT, {"flat_micros": 7})],
)
def test_a_budget_opens_with_the_limits_of_its_campaign(pricing: Pricing, prices: dict[str, int]) -> None:
    """A drafted campaign has a budget with its limits and prices, in its time zone, with nothing spent or leased."""
    created = structs.replace(stored(CampaignCreated), pricing=pricing)
    budget = Budget(
        budget_id=CAMPAIGN_ID,
        advertiser_id=created.advertiser_id,
        currency=created.currency,
        timezone=created.timezone,
        budget_micros=created.budget_micros,
        daily_budget_micros=created.daily_budget_micros,
        impression_budget=created.impression_budget,
        daily_impression_budget=created.daily_impression_budget,
    )
    assert opened(CAMPAIGN_ID, created) == structs.replace(budget, **prices)


@pytest.mark.parametrize(
    ("limit", "least"),
    [
        ("budget_micros", 50 + 2),
        ("daily_budget_micros", 20 + 2),
        ("impression_budget", 6 + 1),
        ("daily_impression_budget", 2 + 1),
    ],
)
def test_a_limit_is_lowered_to_what_is_spent_and_leased(limit: str, least: int) -> None:
    """A limit may be set to what is spent and leased, to more, or to none, and to nothing less."""
    budget = with_leased(structs.replace(USED, impression_micros=2), 1)
    for value in (least, least + 1, None):
        change = CampaignChanged(**{limit: value})  # type: ignore[arg-type]  # any limit by name
        assert relimited(budget, change, NOON) == structs.replace(budget, **{limit: value})
    change = CampaignChanged(**{limit: least - 1})  # type: ignore[arg-type]  # any limit by name
    with pytest.raises(BudgetBelowSpent) as refused:
        relimited(budget, change, NOON)
    assert refused.value.pointer == f"/{limit}"


def test_a_daily_limit_is_lowered_against_the_day_that_is() -> None:
    """What was spent yesterday does not keep today's limit up."""
    lowered = relimited(USED, CampaignChanged(daily_budget_micros=0), NOON + timedelta(days=1))
    assert (lowered.daily_budget_micros, lowered.day_spent_micros, lowered.day) == (0, 0, date(2026, 3, 11))


def test_other_changes_leave_limits_alone() -> None:
    """A change that names no limit is no reason to look at them, even where one was passed before it was set."""
    overdrawn = structs.replace(USED, budget_micros=1)
    assert relimited(overdrawn, CampaignChanged(name="x"), NOON) == overdrawn


def test_a_budget_follows_the_draft() -> None:
    """A change of time zone or pricing changes where days begin and what is set aside."""
    budget = relimited(FRESH, CampaignChanged(timezone="Asia/Shanghai", pricing=CPM), NOON)
    assert (budget.timezone, budget.impression_micros, budget.click_micros) == ("Asia/Shanghai", 2, 0)
    budget = relimited(budget, CampaignChanged(pricing=CPC), NOON)
    assert (budget.timezone, budget.impression_micros, budget.click_micros) == ("Asia/Shanghai", 0, 5)


def test_a_draft_begins_its_day_where_it_moves() -> None:
    """A draft that moves west is not ahead of its days there, so that two of them would share one day's limit."""
    evening = datetime(2026, 3, 10, 20, tzinfo=UTC)
    budget = relimited(FRESH, CampaignChanged(timezone="Asia/Shanghai"), evening)
    assert budget.day == date(2026, 3, 11)
    assert relimited(budget, CampaignChanged(timezone="America/New_York"), evening).day == date(2026, 3, 10)


Step = tuple[str, Any]
_deliveries: Final = st.tuples(kinds, st.integers(1, 30), st.sampled_from(["", "", "", "late", "test"]))
_step: Final[st.SearchStrategy[Step]] = evenly(
    *[st.tuples(st.just("deliver"), _deliveries)] * 4,
    st.tuples(st.just("clock"), st.integers(-3_000, 3_000).map(lambda minutes: timedelta(minutes=minutes))),
    st.tuples(st.just("limits"), limits),
)
steps: Final = st.lists(_step, max_size=40) | st.lists(_step, min_size=20, max_size=40)


@law
@for_all(budget=budgets, pricing=pricings, steps=steps)
def test_nothing_is_billed_beyond_a_limit(budget: Budget, pricing: Pricing, steps: list[Step]) -> None:
    """Whatever is delivered, wherever the clock goes and however limits change: billed is within every limit.

    The test keeps its own accounts from the events, by the latest day that any clock has told.
    """
    now, latest = NOON, budget.day
    recorded: dict[UUID, frozenset[DeliveryKind]] = {}
    billed: Counter[object] = Counter()
    for what, value in steps:
        if what == "clock":
            now += value
        elif what == "limits":
            try:
                budget = relimited(budget, CampaignChanged(**value), now)
            except BudgetBelowSpent:
                assert any(limit is not None for limit in value.values())
            else:
                latest = max(latest, local_date(now, budget.timezone))
        else:
            kind, decision, flaw = value
            expires_at = int(now.timestamp()) - 1 if flaw == "late" else int(now.timestamp())
            delivered = delivery(kind, ticket(decision, pricing=pricing, expires_at=expires_at, test=flaw == "test"))
            settlement = settled_on([delivered], recorded=recorded, budgets={CAMPAIGN_ID: budget}, leases={}, now=now)
            (outcome,) = settlement.outcomes
            recorded = recorded_after(recorded, delivered, outcome)
            budget = settlement.budgets.get(CAMPAIGN_ID, budget)
            if outcome is not None and outcome.event.billed:
                latest = max(latest, local_date(now, budget.timezone))
                impressions = 1 if kind == "impression" else 0
                for of in ("all", latest):
                    billed[of, "micros"] += outcome.event.price_micros
                    billed[of, "impressions"] += impressions
        accounts = (billed["all", "micros"], billed["all", "impressions"])
        of_day = (billed[latest, "micros"], billed[latest, "impressions"])
        assert (budget.spent_micros, budget.impressions) == accounts
        assert (budget.day, budget.day_spent_micros, budget.day_impressions) == (latest, *of_day)
        assert is_within_limits(budget)

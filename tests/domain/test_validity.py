"""Valid and invalid traffic: each rule with what passes it and what it stops, and what becomes of the money."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from domain.budget import Budget, DeliveryKind
from domain.delivery import Delivery, Settled, mark
from domain.frequency import Cap
from domain.validity import Invalid, Signs, is_invalid, why_invalid
from tests.domain.deliveries import CAMPAIGN_ID, NOON, Outcome, delivery, settled_on, ticket
from tests.domain.strategies import law

REASONS: Final[tuple[Invalid, ...]] = (
    *("invalid:prefetch", "invalid:crawler", "invalid:non_browser", "invalid:data_centre", "invalid:activity"),
    "invalid:no_impression",
)
KINDS: Final[tuple[DeliveryKind, ...]] = ("impression", "view", "click")
LIMITED: Final = Budget(budget_id=CAMPAIGN_ID, currency="CNY", timezone="UTC", impression_budget=10)


@pytest.mark.parametrize(
    ("signs", "only_browsers", "expected"),
    [
        (Signs(), True, None),
        (Signs(prefetched=True), False, "invalid:prefetch"),
        (Signs(prefetched=True, vouched=True), False, "invalid:prefetch"),
        (Signs(agent="crawler"), False, "invalid:crawler"),
        (Signs(agent="crawler", vouched=True), False, "invalid:crawler"),
        (Signs(agent="library"), True, "invalid:non_browser"),
        (Signs(agent="unnamed"), True, "invalid:non_browser"),
        (Signs(agent="library"), False, None),
        (Signs(agent="library", vouched=True), True, None),
        (Signs(in_data_centre=True), False, "invalid:data_centre"),
        (Signs(in_data_centre=True, vouched=True), True, None),
        (Signs(too_active=True), False, "invalid:activity"),
        (Signs(too_active=True, vouched=True), True, None),
        (Signs(prefetched=True, agent="crawler", in_data_centre=True, too_active=True), True, "invalid:prefetch"),
        (Signs(agent="library", in_data_centre=True, too_active=True), True, "invalid:non_browser"),
    ],
)
def test_each_rule_stops_what_it_is_about(signs: Signs, only_browsers: bool, expected: str | None) -> None:
    """A beacon is invalid for the first rule that stops it, and for none if none does."""
    assert why_invalid(signs, only_browsers=only_browsers) == expected


def settled(*deliveries: Delivery, budget: Budget = LIMITED) -> Outcome:
    """Settle deliveries at noon, of a campaign with a limit of which a worker has leased five impressions."""
    lease = {(deliveries[0].ticket.worker, CAMPAIGN_ID): 5} if deliveries[0].ticket.worker else {}
    return settled_on(deliveries, recorded={}, budgets={CAMPAIGN_ID: budget}, leases=lease, now=NOON)


def reasons(outcome: Outcome) -> list[str | None]:
    """Return what each delivery was recorded with; `repeated` for one that was not."""
    return ["repeated" if each is None else each.event.reason for each in outcome.outcomes]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("invalid", REASONS)
def test_what_is_invalid_moves_nothing(kind: DeliveryKind, invalid: Invalid) -> None:
    """An invalid delivery is recorded with its reason; budget, lease and viewings stay as they are."""
    capped = ticket(worker=7, viewer="f00d", campaign_cap=Cap(views=1, seconds=60))
    outcome = settled(structs.replace(delivery(kind, capped), invalid=invalid))
    assert (reasons(outcome), outcome.budgets, outcome.leases) == ([invalid], {}, {})
    assert isinstance(outcome.outcomes[0], Settled)
    assert not outcome.outcomes[0].event.billed


def test_an_invalid_beacon_takes_nothing_from_a_valid_one() -> None:
    """A decision has each kind at most twice: once invalid, for the first reason, and then once valid."""
    beacons = [
        structs.replace(delivery("impression"), invalid=invalid)
        for invalid in ("invalid:prefetch", "invalid:crawler", None, None, "invalid:activity")
    ]
    outcome = settled(*beacons)
    assert reasons(outcome) == ["invalid:prefetch", "repeated", None, "repeated", "repeated"]
    assert [each.version for each in outcome.outcomes if each is not None] == [1, 2]
    assert outcome.budgets[CAMPAIGN_ID].impressions == 1
    first, *_ = settled(*reversed(beacons)).outcomes
    assert first is not None
    assert first.event.reason == "invalid:activity"


def test_a_click_may_need_an_impression() -> None:
    """Where a slot says so, a click counts after an impression that counts, and neither before nor after another."""
    shown, click = delivery("impression"), structs.replace(delivery("click"), needs_impression=True)
    assert reasons(settled(click, shown, click)) == ["invalid:no_impression", None, None]
    crawled = structs.replace(shown, invalid="invalid:crawler")
    assert reasons(settled(crawled, click)) == ["invalid:crawler", "invalid:no_impression"]
    assert reasons(settled(delivery("click"), shown)) == [None, None]
    robot = structs.replace(click, invalid="invalid:crawler")
    assert reasons(settled(shown, robot, click)) == [None, "invalid:crawler", None]


def test_a_test_is_a_test() -> None:
    """What is asked for as a test is recorded as one, whoever asks."""
    tried = delivery("click", ticket(test=True))
    found = settled(structs.replace(tried, invalid="invalid:non_browser", needs_impression=True))
    assert reasons(found) == ["test"]


@law
@given(
    beacons=st.lists(
        st.tuples(st.sampled_from(KINDS), st.none() | st.sampled_from(REASONS), st.booleans(), st.integers(1, 3)),
        max_size=12,
    )
)
def test_money_follows_the_valid_alone(beacons: list[tuple[DeliveryKind, Invalid | None, bool, int]]) -> None:
    """Whatever arrives in whatever order, what is charged is what the valid deliveries alone are charged."""
    budget = structs.replace(LIMITED, impression_budget=2)
    deliveries = [
        Delivery(
            kind=kind,
            ticket=ticket(number),
            occurred_at=NOON,
            invalid=invalid,
            needs_impression=needs,
        )
        for kind, invalid, needs, number in beacons
    ]
    outcome = settled_on(deliveries, recorded={}, budgets={CAMPAIGN_ID: budget}, leases={}, now=NOON)
    marks = [
        (each.ticket.decision_id, mark(each.kind, found.event.reason))
        for each, found in zip(deliveries, outcome.outcomes, strict=True)
        if found is not None
    ]
    assert len(marks) == len(set(marks))
    valid = [
        structs.replace(each, invalid=None, needs_impression=False)
        for each, found in zip(deliveries, outcome.outcomes, strict=True)
        if found is not None and not is_invalid(found.event.reason)
    ]
    alone = settled_on(valid, recorded={}, budgets={CAMPAIGN_ID: budget}, leases={}, now=NOON)
    assert (alone.budgets, None in alone.outcomes) == (outcome.budgets, False)

"""Deliveries: each is recorded once, billed at most once, and settled alike however it arrives."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from operator import itemgetter
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.budget import Budget, DeliveryKind
from domain.delivery import EVENT_OF, Delivery, Settled, Ticket, concerned
from domain.events import ClickRecorded, ImpressionRecorded, ViewRecorded
from domain.leasing import LeaseKey
from domain.validity import RULES
from domain.values import Pricing
from tests.domain.deliveries import (
    CAMPAIGN_ID,
    CAMPAIGN_IDS,
    CPC,
    FLAT,
    NOON,
    Outcome,
    delivery,
    kinds,
    limits,
    pricings,
    recorded_after,
    settled_on,
    ticket,
    with_leased,
)
from tests.domain.strategies import law

BUDGET: Final = Budget(budget_id=CAMPAIGN_ID, currency="CNY", timezone="UTC")
IMPRESSION: Final = ImpressionRecorded(
    campaign_id=CAMPAIGN_ID,
    creative_id=UUID(int=201),
    advertiser_id=UUID(int=301),
    slot_id=UUID(int=401),
    country="CN",
    region="216",
    city="217",
    viewer="f00d",
    currency="CNY",
    price_micros=2,
    billed=True,
    reason=None,
    rules=RULES,
)

Recorded = Mapping[UUID, frozenset[DeliveryKind]]
Leases = Mapping[LeaseKey, int]


def settled(
    *deliveries: Delivery, recorded: Recorded | None = None, budget: Budget = BUDGET, leases: Leases | None = None
) -> Outcome:
    """Settle deliveries at noon."""
    budgets = {budget.budget_id: budget}
    return settled_on(deliveries, recorded=recorded or {}, budgets=budgets, leases=leases or {}, now=NOON)


def reason(delivered: Delivery, budget: Budget = BUDGET, *, after: timedelta = timedelta(0)) -> str | None:
    """Return why a delivery is not billed, None when it is; the budget changes only when it is."""
    budgets = {budget.budget_id: budget}
    (outcome,), changed, _ = settled_on([delivered], recorded={}, budgets=budgets, leases={}, now=NOON + after)
    assert outcome is not None
    event = outcome.event
    assert event.billed == (event.reason is None) == bool(changed)
    return event.reason


def test_an_impression_is_recorded_and_billed() -> None:
    """An event says what was shown where and what it cost, and the budget has it."""
    outcomes, budgets, _ = settled(delivery())
    assert outcomes == (Settled(1, IMPRESSION),)
    budget = budgets[CAMPAIGN_ID]
    assert (budget.spent_micros, budget.impressions, budget.day) == (2, 1, NOON.date())


@pytest.mark.parametrize(
    ("kind", "event_type"), [("impression", ImpressionRecorded), ("view", ViewRecorded), ("click", ClickRecorded)]
)
def test_each_kind_has_its_event(kind: DeliveryKind, event_type: type) -> None:
    """An impression, a view and a click are recorded as events of their own types."""
    (outcome,) = settled(delivery(kind)).outcomes
    assert outcome is not None
    assert type(outcome.event) is event_type is EVENT_OF[kind]
    assert isinstance(outcome.event, EVENT_OF[kind])


def test_what_is_repeated_adds_nothing() -> None:
    """A beacon that came before, in the log or in the same batch, is recorded no second time."""
    outcomes, budgets, _ = settled(delivery(), delivery(), delivery("click"), delivery("click"))
    assert [outcome and outcome.version for outcome in outcomes] == [1, None, 2, None]
    assert budgets[CAMPAIGN_ID].impressions == 1
    both: Recorded = {UUID(int=1): frozenset({"impression", "click"})}
    outcomes, budgets, _ = settled(delivery(), delivery("click"), delivery("view"), recorded=both)
    assert [outcome and outcome.version for outcome in outcomes] == [None, None, 3]
    assert settled(delivery(), recorded=both) == Outcome((None,), {}, {})


@pytest.mark.parametrize(("seconds", "expected"), [(3_600, None), (3_600.5, "late"), (3_601, "late")])
def test_what_comes_late_is_not_billed(seconds: float, expected: str | None) -> None:
    """A ticket is good until the moment it expires; what comes later is recorded and free."""
    assert reason(delivery(), after=timedelta(seconds=seconds)) == expected


def test_what_is_a_test_is_not_billed() -> None:
    """A delivery of a test request costs nothing, late or not."""
    assert reason(delivery(of=ticket(test=True))) == "test"
    assert reason(delivery(of=ticket(test=True)), after=timedelta(days=9)) == "test"


def test_what_is_over_budget_is_not_billed() -> None:
    """A delivery that no limit leaves room for is recorded with its price and free."""
    spent = msgspec.structs.replace(BUDGET, budget_micros=3, spent_micros=2)
    assert reason(delivery(), spent) == "over_budget"
    (outcome,) = settled(delivery(), budget=spent).outcomes
    assert outcome is not None
    assert (outcome.event.price_micros, outcome.event.billed) == (2, False)
    assert reason(delivery("view"), spent) is None


def test_what_belongs_to_no_known_campaign_is_not_billed() -> None:
    """An authentic delivery is recorded even when its campaign has no budget here."""
    (outcome,), budgets, leases = settled_on(
        [delivery(of=ticket(worker=7))], recorded={}, budgets={}, leases={(7, CAMPAIGN_ID): 1}, now=NOON
    )
    assert outcome is not None
    assert (outcome.version, outcome.event.price_micros, outcome.event.billed) == (1, 0, False)
    assert outcome.event.reason == "unknown_campaign"
    assert (budgets, leases) == ({}, {})


def test_a_click_without_an_impression_is_recorded() -> None:
    """Beacons may arrive in any order; each is the next version of the decision's stream."""
    of = ticket(pricing=CPC)
    outcomes, budgets, _ = settled(delivery("click", of), delivery("impression", of))
    assert [outcome and outcome.version for outcome in outcomes] == [1, 2]
    assert (budgets[CAMPAIGN_ID].spent_micros, budgets[CAMPAIGN_ID].impressions) == (5, 1)


def test_a_flat_price_is_billed_once() -> None:
    """Of many impressions in one batch the first pays the flat price and the others are billed nothing."""
    outcomes, budgets, _ = settled(*(delivery(of=ticket(number, pricing=FLAT)) for number in range(1, 4)))
    assert [outcome and (outcome.event.price_micros, outcome.event.billed) for outcome in outcomes] == [
        (7, True),
        (0, True),
        (0, True),
    ]
    assert budgets[CAMPAIGN_ID].spent_micros == 7


def test_ten_impressions_under_two_hundred_beacons() -> None:
    """A campaign of ten impressions bills exactly ten of two hundred, and records them all."""
    budget = msgspec.structs.replace(BUDGET, impression_budget=10)
    outcomes, budgets, _ = settled(*(delivery(of=ticket(number)) for number in range(1, 201)), budget=budget)
    assert Counter(outcome.event.reason for outcome in outcomes if outcome) == {None: 10, "over_budget": 190}
    assert (budgets[CAMPAIGN_ID].impressions, budgets[CAMPAIGN_ID].spent_micros) == (10, 20)


PROMISED: Final = ticket(worker=7)
STOCK: Final = {(7, CAMPAIGN_ID): 2, (8, CAMPAIGN_ID): 5}
FULL: Final = with_leased(
    msgspec.structs.replace(BUDGET, impression_micros=2, budget_micros=20, impression_budget=10, spent_micros=6), 7
)


def test_what_was_leased_is_billed_when_it_is_confirmed() -> None:
    """An impression that comes while its hold lasts takes what was set aside for it, though nothing else is left."""
    (outcome,), budgets, leases = settled(delivery(of=PROMISED), budget=FULL, leases=STOCK)
    assert outcome == Settled(1, IMPRESSION)
    assert leases == {(7, CAMPAIGN_ID): 1}
    after = budgets[CAMPAIGN_ID]
    assert (after.leased_impressions, after.leased_micros, after.spent_micros, after.impressions) == (6, 12, 8, 1)


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("impression", ticket(worker=7, hold_expires_at=int(NOON.timestamp()))),
        ("impression", ticket(worker=9)),
        ("impression", ticket()),
        ("impression", ticket(worker=7, campaign_id=CAMPAIGN_ID, test=True)),
        ("view", PROMISED),
        ("click", PROMISED),
    ],
)
def test_what_is_not_held_takes_nothing_of_a_lease(kind: DeliveryKind, of: Ticket) -> None:
    """A lease is for impressions whose hold lasts; all others have to do with what is neither spent nor leased."""
    (outcome,), budgets, leases = settled(delivery(kind, of), budget=FULL, leases=STOCK)
    assert outcome is not None
    assert outcome.event.billed == (kind != "impression")
    assert leases == {}
    assert budgets.get(CAMPAIGN_ID, FULL).leased_impressions == 7


def test_a_lease_is_used_up() -> None:
    """Of three promised impressions in one batch only as many take of the lease as it has left, a repeated one none."""
    promised = [delivery(of=ticket(number, worker=7)) for number in (1, 1, 2, 3)]
    outcomes, budgets, leases = settled(*promised, budget=FULL, leases=STOCK)
    assert [outcome and outcome.event.reason for outcome in outcomes] == [None, None, None, "over_budget"]
    assert outcomes[1] is None
    assert leases == {(7, CAMPAIGN_ID): 0}
    assert budgets[CAMPAIGN_ID].leased_impressions == 5


def test_a_lease_is_used_up_by_what_cannot_be_billed() -> None:
    """An impression whose ticket is over while its hold lasts gives back what was set aside for it."""
    late = ticket(worker=7, expires_at=int(NOON.timestamp()) - 1)
    (outcome,), budgets, leases = settled(delivery(of=late), budget=FULL, leases=STOCK)
    assert outcome is not None
    assert outcome.event.reason == "late"
    assert (leases, budgets[CAMPAIGN_ID].leased_impressions) == ({(7, CAMPAIGN_ID): 1}, 6)
    assert budgets[CAMPAIGN_ID].spent_micros == FULL.spent_micros


def test_a_batch_concerns_the_campaigns_of_its_tickets() -> None:
    """The budgets a batch may charge are those of the campaigns it names."""
    other = CAMPAIGN_IDS[1]
    assert concerned([delivery(), delivery("click"), delivery(of=ticket(2, campaign_id=other))]) == {CAMPAIGN_ID, other}
    assert concerned([]) == frozenset()


def test_a_ticket_travels_as_a_short_list() -> None:
    """A ticket is a JSON array in the order of its fields, and comes back from it the same."""
    encoded = msgspec.json.encode(ticket())
    assert encoded.startswith(b'["00000000-0000-0000-0000-000000000001",')
    assert msgspec.json.decode(encoded, type=Ticket, strict=True) == ticket()


class Batch(NamedTuple):
    """Deliveries that arrive together, and what the writer knows when they do."""

    deliveries: list[Delivery]
    budgets: dict[UUID, Budget]
    leases: dict[LeaseKey, int]


@st.composite
def batches(draw: st.DrawFn, *, distinct: bool = False, leased_max: int = 3) -> Batch:
    """Return a batch of two campaigns, each with one pricing, of which one may be unknown to the writer."""
    prices = [draw(pricings), draw(pricings)]
    known = CAMPAIGN_IDS[: draw(st.sampled_from([1, 2, 2, 2]))]
    has = {(7, campaign_id): draw(st.integers(0, leased_max)) for campaign_id in known}
    budgets = {
        key[1]: with_leased(msgspec.structs.replace(BUDGET, budget_id=key[1], **draw(limits)), impressions)
        for key, impressions in has.items()
    }
    facts = st.tuples(st.integers(1, 12), kinds, st.sampled_from(["", "", "", "late", "test", "released"]))
    few_or_many = st.sampled_from([0, 8]).flatmap(
        lambda least: st.lists(facts, min_size=least, max_size=25, unique_by=itemgetter(0) if distinct else None)
    )
    second = int(NOON.timestamp())
    deliveries = [
        delivery(
            kind,
            ticket(
                number,
                campaign_id=CAMPAIGN_IDS[number % 2],
                pricing=prices[number % 2],
                worker=7 if number % 3 else 0,
                expires_at=second - (1 if flaw == "late" else 0),
                hold_expires_at=second + (0 if flaw == "released" else 1),
                test=flaw == "test",
            ),
        )
        for number, kind, flaw in draw(few_or_many)
    ]
    return Batch(deliveries, budgets, has)


def one_by_one(batch: Batch) -> tuple[list[Settled | None], Recorded, Batch]:
    """Settle each delivery of a batch alone; return the outcomes, what is recorded, and the batch as of afterwards."""
    outcomes: list[Settled | None] = []
    recorded: Recorded = {}
    deliveries, budgets, leases = batch
    for delivered in deliveries:
        (outcome,), changed, left = settled_on([delivered], recorded=recorded, budgets=budgets, leases=leases, now=NOON)
        outcomes.append(outcome)
        recorded = recorded_after(recorded, delivered, outcome)
        budgets, leases = budgets | changed, leases | left
    return outcomes, recorded, Batch(deliveries, budgets, leases)


@law
@for_all(batch=batches())
def test_a_batch_is_settled_like_its_deliveries_one_by_one(batch: Batch) -> None:
    """How deliveries are gathered into batches changes nothing."""
    deliveries, budgets, leases = batch
    outcomes, changed, left = settled_on(deliveries, recorded={}, budgets=budgets, leases=leases, now=NOON)
    alone, _, after = one_by_one(batch)
    assert list(outcomes) == alone
    assert (budgets | changed, leases | left) == (after.budgets, after.leases)


@law
@for_all(batch=batches())
def test_every_delivery_is_recorded_once_and_billed_at_most_once(batch: Batch) -> None:
    """There is one event of each kind that was delivered of a decision, and delivering everything again adds none."""
    outcomes, recorded, after = one_by_one(batch)
    events = Counter(
        (delivered.ticket.decision_id, delivered.kind)
        for delivered, outcome in zip(batch.deliveries, outcomes, strict=True)
        if outcome is not None
    )
    assert events == dict.fromkeys({(d.ticket.decision_id, d.kind) for d in batch.deliveries}, 1)
    again = settled_on(batch.deliveries, recorded=recorded, budgets=after.budgets, leases=after.leases, now=NOON)
    assert again == Outcome((None,) * len(batch.deliveries), {}, {})


@law
@for_all(batch=batches())
def test_versions_of_a_decision_have_no_gaps(batch: Batch) -> None:
    """The events of a decision are versions 1, 2, 3 of its stream, in the order in which they were recorded."""
    versions: dict[UUID, list[int]] = {}
    for delivered, outcome in zip(batch.deliveries, one_by_one(batch)[0], strict=True):
        if outcome is not None:
            versions.setdefault(delivered.ticket.decision_id, []).append(outcome.version)
    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())


@law
@for_all(batch=batches())
def test_budgets_and_leases_agree(batch: Batch) -> None:
    """What a budget has set aside is what is left of the leases, and never less than nothing."""
    _, _, (_, budgets, leases) = one_by_one(batch)
    for (_, campaign_id), impressions in leases.items():
        assert budgets[campaign_id].leased_impressions == impressions >= 0


@law
@for_all(batch=batches(distinct=True, leased_max=0), data=st.data())
def test_the_order_of_distinct_decisions_does_not_count(batch: Batch, data: st.DataObject) -> None:
    """In any order, as many deliveries of each campaign are billed, for as much, and the budgets end the same."""
    shuffled = data.draw(st.permutations(batch.deliveries))
    straight, mixed = (
        settled_on(order, recorded={}, budgets=batch.budgets, leases={}, now=NOON)
        for order in (batch.deliveries, shuffled)
    )
    assert mixed.budgets == straight.budgets
    assert _tally(mixed) == _tally(straight)


def _tally(settlement: Outcome) -> Counter[tuple[UUID, str, str | None]]:
    return Counter(
        (outcome.event.campaign_id, type(outcome.event).__name__, outcome.event.reason)
        for outcome in settlement.outcomes
        if outcome is not None
    )


@pytest.mark.parametrize("pricing", [Pricing(model="cpm", price_micros=9_000_000_000_000_000)])
def test_the_greatest_price_is_billed_exactly(pricing: Pricing) -> None:
    """Money is counted in whole numbers, however much it is."""
    _, budgets, _ = settled(*(delivery(of=ticket(number, pricing=pricing)) for number in range(1, 1_001)))
    assert budgets[CAMPAIGN_ID].spent_micros == 9_000_000_000_000_000

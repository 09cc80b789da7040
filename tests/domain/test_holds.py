"""Holds: what is promised is never promised twice, and is given back when it is not used."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec import structs

from domain.budget import NOTHING, Budget, Charge, DeliveryKind, on_day, relimited
from domain.campaign import Active
from domain.choosing import Candidate, index
from domain.creative import Creative
from domain.delivery import settle
from domain.errors import BudgetBelowSpent
from domain.events import CampaignChanged, CampaignCreated, CampaignTerms, CreativeCreated, CreativeTerms, SlotTerms
from domain.holds import Holds
from domain.slot import Slot
from domain.values import Pricing
from tests.domain.deliveries import (
    CAMPAIGN_ID,
    CAMPAIGN_IDS,
    CPC,
    CPM,
    FLAT,
    NOON,
    budgets,
    delivery,
    is_within_limits,
    limits,
    pricings,
    recorded_after,
    ticket,
)
from tests.domain.stored import stored
from tests.domain.strategies import evenly, law

BUDGET: Final = Budget(campaign_id=CAMPAIGN_ID, timezone="UTC")
HOLD_SECONDS: Final = 60
FIRST, SECOND, THIRD = UUID(int=1), UUID(int=2), UUID(int=3)


def candidate(pricing: Pricing = CPM, campaign_id: UUID = CAMPAIGN_ID) -> Candidate:
    """Return the only candidate of a campaign with this pricing."""
    campaign = CampaignTerms(**structs.asdict(stored(CampaignCreated)))
    creative = CreativeTerms(**structs.asdict(stored(CreativeCreated)))
    slot = SlotTerms(name="Slot", ad_type=creative.ad_type, width=creative.width, height=creative.height)
    snapshot = index(
        position=1,
        campaigns={campaign_id: Active(terms=structs.replace(campaign, pricing=pricing))},
        creatives={
            UUID(int=201): Creative(
                terms=structs.replace(creative, campaign_id=campaign_id), status="active", review="approved"
            )
        },
        slots={UUID(int=401): Slot(terms=slot)},
    )
    (only,) = snapshot.lineups[UUID(int=401)].candidates
    return only


def seeing(**fields: Any) -> Holds:
    """Return holds beside one campaign's budget."""
    holds = Holds()
    holds.see({CAMPAIGN_ID: structs.replace(BUDGET, **fields)})
    return holds


def takes(holds: Holds, decision_id: UUID, pricing: Pricing = CPM, *, seconds: float = 0) -> bool:
    """Try to hold one impression, some seconds after noon."""
    now = NOON + timedelta(seconds=seconds)
    return holds.take(candidate(pricing), decision_id, now=now, hold_seconds=HOLD_SECONDS)


def test_what_an_impression_costs_is_held() -> None:
    """Each decision holds one impression and its price."""
    holds = seeing()
    assert holds.held(CAMPAIGN_ID) == NOTHING
    assert takes(holds, FIRST)
    assert takes(holds, SECOND)
    assert holds.held(CAMPAIGN_ID) == Charge(micros=4, impressions=2)
    assert holds.held(CAMPAIGN_IDS[1]) == NOTHING


def test_nothing_is_held_of_an_unknown_budget() -> None:
    """A campaign whose budget was never seen is not served."""
    assert not takes(Holds(), FIRST)


@pytest.mark.parametrize(
    "fields",
    [
        {"budget_micros": 10, "spent_micros": 6},
        {"daily_budget_micros": 10, "day_spent_micros": 6, "day": NOON.date()},
        {"impression_budget": 10, "impressions": 8},
        {"daily_impression_budget": 10, "day_impressions": 8, "day": NOON.date()},
    ],
)
def test_no_limit_is_promised_twice(fields: dict[str, Any]) -> None:
    """What is spent and held leaves no room for a third, until one of the two is given back."""
    holds = seeing(**fields)
    assert [takes(holds, decision_id) for decision_id in (FIRST, SECOND, THIRD)] == [True, True, False]
    holds.release(FIRST)
    assert takes(holds, THIRD)


def test_campaigns_hold_apart() -> None:
    """One campaign's holds take nothing from another's budget."""
    holds = seeing(impression_budget=1)
    other = CAMPAIGN_IDS[1]
    holds.see({other: structs.replace(BUDGET, campaign_id=other, impression_budget=1)})
    assert takes(holds, FIRST)
    assert holds.take(candidate(campaign_id=other), SECOND, now=NOON, hold_seconds=HOLD_SECONDS)
    holds.release(FIRST)
    assert (holds.held(CAMPAIGN_ID), holds.held(other)) == (NOTHING, Charge(micros=2, impressions=1))


def test_what_is_given_back_is_given_back_once() -> None:
    """Releasing a decision again, or one that never held anything, changes nothing."""
    holds = seeing()
    takes(holds, FIRST)
    takes(holds, SECOND)
    for decision_id in (FIRST, FIRST, THIRD):
        holds.release(decision_id)
    assert holds.held(CAMPAIGN_ID) == Charge(micros=2, impressions=1)


def test_a_hold_expires() -> None:
    """A hold lasts its seconds and no longer; what expired earlier by release is not given back again."""
    holds = seeing(impression_budget=1)
    assert takes(holds, FIRST)
    assert not takes(holds, SECOND, seconds=59)
    assert takes(holds, SECOND, seconds=60)
    holds.release_expired(NOON + timedelta(seconds=119))
    assert holds.held(CAMPAIGN_ID) == Charge(micros=2, impressions=1)
    holds.release(SECOND)
    holds.release_expired(NOON + timedelta(seconds=120))
    assert holds.held(CAMPAIGN_ID) == NOTHING


def test_a_new_day_is_promised_anew() -> None:
    """What was spent yesterday leaves today's limit free, though the budget was last seen yesterday."""
    holds = seeing(daily_impression_budget=1, day=NOON.date(), day_impressions=1)
    assert not takes(holds, FIRST)
    assert takes(holds, FIRST, seconds=12 * 3_600)


def test_the_newer_budget_counts() -> None:
    """Of two copies of a budget the one of the higher position stays, whichever is seen last."""
    holds = seeing(position=7, impression_budget=1, impressions=1)
    holds.see({CAMPAIGN_ID: structs.replace(BUDGET, position=6)})
    assert not takes(holds, FIRST)
    holds.see({CAMPAIGN_ID: structs.replace(BUDGET, position=7)})
    assert takes(holds, FIRST)


def test_a_flat_price_is_needed_once() -> None:
    """A flat campaign is served while its price can be paid, and freely once it was paid."""
    assert not takes(seeing(budget_micros=6), FIRST, FLAT)
    holds = seeing(budget_micros=7)
    assert takes(holds, FIRST, FLAT)
    assert takes(holds, SECOND, FLAT)
    assert holds.held(CAMPAIGN_ID) == Charge(micros=0, impressions=2)
    assert takes(seeing(budget_micros=7, spent_micros=7, impressions=1), FIRST, FLAT)


def test_clicks_have_to_be_affordable() -> None:
    """A campaign paid by the click is served while one more click could be paid."""
    assert takes(seeing(budget_micros=10, spent_micros=5), FIRST, CPC)
    assert not takes(seeing(budget_micros=10, spent_micros=6), FIRST, CPC)
    assert not takes(seeing(daily_budget_micros=4), FIRST, CPC)


def test_ten_impressions_are_promised_ten_times() -> None:
    """Of two hundred requests for a campaign of ten impressions ten are answered."""
    holds = seeing(impression_budget=10)
    assert [takes(holds, UUID(int=number)) for number in range(200)].count(True) == 10


@dataclass
class Play:
    """A worker with its holds beside the log's writer with its budget, and a clock that goes forward.

    The worker learns of a delivery as it does in the service: the budget is seen and the hold released in one go.
    """

    pricing: Pricing
    budget: Budget
    holds: Holds = field(default_factory=Holds)
    now: datetime = NOON
    decisions: int = 0
    recorded: dict[UUID, frozenset[DeliveryKind]] = field(default_factory=dict)
    taken: dict[int, datetime] = field(default_factory=dict)

    def is_held(self, decision: int) -> bool:
        """Tell whether a decision was made so lately that its hold lasts."""
        return self.now < self.taken[decision] + timedelta(seconds=HOLD_SECONDS)

    def take(self) -> bool:
        """Hold for one more decision."""
        self.decisions += 1
        decision_id = UUID(int=self.decisions)
        took = self.holds.take(candidate(self.pricing), decision_id, now=self.now, hold_seconds=HOLD_SECONDS)
        if took:
            self.taken[self.decisions] = self.now
        return took

    def deliver(self, kind: DeliveryKind, decision: int) -> bool:
        """Settle a delivery; tell whether it was billed or had been recorded before."""
        delivered = delivery(kind, ticket(decision, pricing=self.pricing, expires_at=2**40))
        budgets_ = {CAMPAIGN_ID: self.budget}
        (outcome,), changed = settle([delivered], recorded=self.recorded, budgets=budgets_, now=self.now)
        self.recorded = recorded_after(self.recorded, delivered, outcome)
        self._see(changed.get(CAMPAIGN_ID, self.budget))
        if kind == "impression":
            self.holds.release(UUID(int=decision))
        return outcome is None or outcome.event.billed

    def relimit(self, named: dict[str, Any]) -> None:
        """Change limits, as far as what is spent and held allows."""
        held = self.holds.held(CAMPAIGN_ID)
        try:
            self._see(relimited(self.budget, CampaignChanged(**named), held=held, now=self.now))
        except BudgetBelowSpent:
            assert named

    def is_kept(self) -> bool:
        """Tell whether what was billed and what is held is within every limit, on the day that it is."""
        held = self.holds.held(CAMPAIGN_ID)
        return is_within_limits(on_day(self.budget, self.now), micros=held.micros, impressions=held.impressions)

    def _see(self, budget: Budget) -> None:
        self.budget = structs.replace(budget, position=self.budget.position + 1)
        self.holds.see({CAMPAIGN_ID: self.budget})


Move = tuple[str, Any]
_move: Final[st.SearchStrategy[Move]] = evenly(
    *[st.just(("take", None))] * 5,
    *[st.tuples(st.sampled_from(["confirm", "confirm", "release", "click"]), st.integers(0, 9))] * 5,
    st.tuples(st.just("clock"), st.integers(0, 90)),
    st.tuples(st.just("clock"), st.sampled_from([HOLD_SECONDS, 6 * 3_600, 24 * 3_600])),
    st.tuples(st.just("limits"), limits),
)
moves: Final = st.lists(_move, max_size=40) | st.lists(_move, min_size=20, max_size=40)


@law
@for_all(budget=budgets, pricing=pricings, moves=moves)
def test_confirmed_and_held_never_exceed_a_limit(budget: Budget, pricing: Pricing, moves: list[Move]) -> None:
    """While impressions come before their holds expire: confirmed and held are within every limit, and each is billed.

    The one exception is a flat price, of which nothing is held: whoever lowers the budget below it may be served free.
    """
    play = Play(pricing, budget)
    play.holds.see({CAMPAIGN_ID: budget})
    for what, value in moves:
        if what == "take":
            play.take()
        elif what == "clock":
            play.now += timedelta(seconds=value)
            play.holds.release_expired(play.now)
        elif what == "limits":
            play.relimit(value)
        elif value < len(play.taken):
            decision = list(play.taken)[-1 - value]
            if what == "release":
                play.holds.release(UUID(int=decision))
                del play.taken[decision]
            elif what == "click":
                play.deliver("click", decision)
            elif play.is_held(decision):
                assert play.deliver("impression", decision) or pricing.model == "flat"
        assert play.is_kept()


@law
@for_all(budget=budgets, pricing=pricings, moves=moves)
def test_nothing_more_is_promised_than_a_limit_has_room_for(
    budget: Budget, pricing: Pricing, moves: list[Move]
) -> None:
    """Even when impressions come after their holds expired: billed is within limits, and so is every new promise."""
    play = Play(pricing, budget)
    play.holds.see({CAMPAIGN_ID: budget})
    for what, value in moves:
        if what == "take" and play.take():
            assert play.is_kept()
        elif what == "clock":
            play.now += timedelta(seconds=value)
        elif what in {"confirm", "click"} and value < len(play.taken):
            play.deliver("impression" if what == "confirm" else "click", list(play.taken)[-1 - value])
        elif what == "release" and value < len(play.taken):
            play.holds.release(UUID(int=list(play.taken)[-1 - value]))
        assert is_within_limits(play.budget)


@law
@for_all(budget=budgets, pricing=pricings, moves=moves)
def test_what_is_neither_confirmed_nor_held_is_free_again(budget: Budget, pricing: Pricing, moves: list[Move]) -> None:
    """When every hold has expired nothing is held, whatever happened before."""
    play = Play(pricing, budget)
    play.holds.see({CAMPAIGN_ID: budget})
    for what, value in moves:
        if what == "take":
            play.take()
        elif what == "confirm" and value < len(play.taken):
            play.deliver("impression", list(play.taken)[-1 - value])
        elif what == "clock":
            play.now += timedelta(seconds=value)
    play.holds.release_expired(play.now + timedelta(seconds=HOLD_SECONDS))
    assert play.holds.held(CAMPAIGN_ID) == NOTHING

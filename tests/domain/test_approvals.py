"""Budgets that need a second person: which, what holds meanwhile, and who may confirm them."""

from collections.abc import Sequence
from datetime import date
from typing import Any, Final
from uuid import UUID, uuid5

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec import structs

from domain.advertiser import Advertiser
from domain.campaign import (
    CAMPAIGN,
    ArchiveCampaign,
    Campaign,
    ChangeCampaign,
    ConfirmBudget,
    CreateCampaign,
    RefuseBudget,
)
from domain.decider import Context, fold, stream_of
from domain.errors import (
    LimitsInconsistent,
    NothingAsked,
    Refusal,
    SecondPersonNeeded,
    UnknownCurrency,
    WrongState,
)
from domain.events import (
    BudgetConfirmed,
    BudgetPolicySet,
    BudgetRefused,
    BudgetRequested,
    CampaignActivated,
    CampaignChanged,
    CampaignCreated,
)
from domain.policy import POLICY, POLICY_STREAM, SetBudgetPolicy
from domain.terms import AdvertiserTerms, BudgetLimit, BudgetPolicy, CampaignTerms
from domain.values import Pricing
from tests.domain.given import NOW, SUBJECT, given
from tests.domain.strategies import law

ADVERTISER: Final = UUID(int=1)
ASKER: Final = UUID(int=11)
OTHER: Final = UUID(int=12)
LIMIT: Final = 1_000_000
EUROS: Final = BudgetPolicy(limits=(BudgetLimit(currency="EUR", above_micros=LIMIT),))
OTHERS: Final = {
    stream_of("advertiser", ADVERTISER): Advertiser(terms=AdvertiserTerms(name="Shoes")),
    POLICY_STREAM: EUROS,
}
DRAFT: Final = CreateCampaign(
    advertiser_id=ADVERTISER,
    name="Spring",
    start_date=date(2026, 3, 1),
    pricing=Pricing(model="cpm", price_micros=2_000),
    currency="EUR",
    budget_micros=LIMIT,
)
CREATED: Final = CampaignCreated(**structs.asdict(DRAFT))


def decided(campaign: Campaign | None, command: Any, *, person: UUID | None = ASKER) -> tuple[Any, ...]:
    """Return what a person's command leads to."""
    context = Context(now=NOW, actor="user:somebody", subject=SUBJECT, others=OTHERS, person=person)
    return CAMPAIGN.decide(campaign, command, context)


def after(*events: Any) -> Campaign:
    """Return a campaign as its events have made it."""
    campaign = fold(CAMPAIGN, None, events)
    assert campaign is not None
    return campaign


def asked(micros: int | None, daily: int | None = None, *, number: int = 1) -> BudgetRequested:
    """Return the request for a budget that somebody has made as the first, second ... of a campaign."""
    return BudgetRequested(
        request_id=uuid5(SUBJECT, f"budget {number}"),
        requested_micros=micros,
        requested_daily_micros=daily,
        currency="EUR",
        asked_by=ASKER,
    )


def test_what_one_person_may_allow_is_set() -> None:
    """A budget up to the limit, or in a currency without one, is set as it always was."""
    assert decided(None, DRAFT) == (CREATED,)
    dollars = structs.replace(DRAFT, currency="USD", budget_micros=None)
    assert decided(None, dollars) == (structs.replace(CREATED, currency="USD", budget_micros=None),)
    changed = CampaignChanged(budget_micros=LIMIT - 1)
    assert decided(after(CREATED), ChangeCampaign(budget_micros=LIMIT - 1)) == (changed,)


@pytest.mark.parametrize(("micros", "daily"), [(LIMIT + 1, None), (None, None), (5 * LIMIT, 2 * LIMIT), (2 * LIMIT, 5)])
def test_a_new_campaign_begins_with_what_one_person_may_allow(micros: int | None, daily: int | None) -> None:
    """A campaign that is to spend more, or without limit, is drafted with the limit, and the rest is asked for."""
    created, request = decided(None, structs.replace(DRAFT, budget_micros=micros, daily_budget_micros=daily))
    assert created == structs.replace(CREATED, daily_budget_micros=None if daily is None else min(daily, LIMIT))
    assert request == asked(micros, daily)
    assert (request.asked_by, request.currency) == (ASKER, "EUR")


def test_a_higher_budget_is_asked_for_and_the_rest_is_set() -> None:
    """What else is to change does so at once; the campaign goes on with the budget that it has."""
    change = ChangeCampaign(name="Summer", budget_micros=3 * LIMIT, daily_budget_micros=2 * LIMIT)
    for events in ((CREATED,), (CREATED, CampaignActivated())):
        named, request = decided(after(*events), change)
        assert named == CampaignChanged(name="Summer")
        assert (request.requested_micros, request.requested_daily_micros) == (3 * LIMIT, 2 * LIMIT)
        assert after(*events, named, request).terms.budget_micros == LIMIT


def test_what_was_allowed_before_still_is() -> None:
    """A budget above the limit, set before there was one, may be lowered by one person, and not raised."""
    rich = after(structs.replace(CREATED, budget_micros=9 * LIMIT))
    assert decided(rich, ChangeCampaign(budget_micros=8 * LIMIT)) == (CampaignChanged(budget_micros=8 * LIMIT),)
    assert isinstance(decided(rich, ChangeCampaign(budget_micros=10 * LIMIT))[-1], BudgetRequested)
    assert isinstance(decided(rich, ChangeCampaign(budget_micros=None))[-1], BudgetRequested)
    unlimited = after(structs.replace(CREATED, budget_micros=None))
    assert decided(unlimited, ChangeCampaign(budget_micros=8 * LIMIT)) == (CampaignChanged(budget_micros=8 * LIMIT),)
    assert decided(unlimited, ChangeCampaign(name="Summer")) == (CampaignChanged(name="Summer"),)


def test_another_currency_is_another_budget() -> None:
    """A draft that comes to be paid in a currency with a limit has at most that, until more is confirmed."""
    dollars = after(structs.replace(CREATED, currency="USD", budget_micros=9 * LIMIT))
    changed, request = decided(dollars, ChangeCampaign(currency="EUR"))
    assert changed == CampaignChanged(currency="EUR", budget_micros=LIMIT)
    assert request == asked(9 * LIMIT)


def test_who_asks_again_asks_anew_unless_it_is_the_same() -> None:
    """Asking for the same adds nothing; asking for something else, or somebody else's asking, takes its place."""
    campaign = after(CREATED, asked(2 * LIMIT))
    assert decided(campaign, ChangeCampaign(budget_micros=2 * LIMIT)) == ()
    (request,) = decided(campaign, ChangeCampaign(budget_micros=2 * LIMIT), person=OTHER)
    assert request == structs.replace(asked(2 * LIMIT, number=2), asked_by=OTHER)
    with pytest.raises(NothingAsked):
        decided(after(CREATED, asked(2 * LIMIT), request), ConfirmBudget(request_id=asked(2 * LIMIT).request_id))


def test_another_person_confirms() -> None:
    """The budget is set once somebody else than who asked confirms it, and once only."""
    request = asked(3 * LIMIT, 2 * LIMIT)
    command = ConfirmBudget(request_id=request.request_id)
    campaign = after(CREATED, request)
    for person in (ASKER, None):
        with pytest.raises(SecondPersonNeeded):
            decided(campaign, command, person=person)
    events = decided(campaign, command, person=OTHER)
    changed = CampaignChanged(budget_micros=3 * LIMIT, daily_budget_micros=2 * LIMIT)
    assert events == (BudgetConfirmed(request_id=request.request_id), changed)
    with pytest.raises(NothingAsked):
        decided(after(CREATED, request, *events), command, person=OTHER)


def test_a_request_is_refused_by_whoever_may_or_takes_it_back() -> None:
    """After that the budget is what it was, and there is nothing to confirm."""
    request = asked(None)
    for person in (ASKER, OTHER):
        events = decided(after(CREATED, request), RefuseBudget(request_id=request.request_id), person=person)
        assert events == (BudgetRefused(request_id=request.request_id),)
        campaign = after(CREATED, request, *events)
        assert (campaign.asked, campaign.terms.budget_micros) == (None, LIMIT)
        with pytest.raises(NothingAsked):
            decided(campaign, RefuseBudget(request_id=request.request_id))


def test_setting_the_budget_leaves_nothing_asked_for() -> None:
    """Whoever sets a budget has said what it is to be; what else changes leaves the request."""
    campaign = after(CREATED, asked(2 * LIMIT), CampaignActivated())
    assert after(CREATED, asked(2 * LIMIT), CampaignActivated(), CampaignChanged(name="Summer")).asked == campaign.asked
    assert after(CREATED, asked(2 * LIMIT), CampaignChanged(budget_micros=5)).asked is None


def test_what_is_over_is_not_confirmed() -> None:
    """A campaign that was put away keeps the budget it had."""
    request = asked(2 * LIMIT)
    campaign = after(CREATED, request)
    campaign = after(CREATED, request, *decided(campaign, ArchiveCampaign()))
    with pytest.raises(WrongState):
        decided(campaign, ConfirmBudget(request_id=request.request_id), person=OTHER)


def test_a_flat_price_beyond_the_limit_waits_for_its_budget() -> None:
    """One person cannot draft a campaign that would be served for nothing until its budget is confirmed."""
    flat = structs.replace(DRAFT, pricing=Pricing(model="flat", price_micros=2 * LIMIT), budget_micros=2 * LIMIT)
    with pytest.raises(LimitsInconsistent):
        decided(None, flat)


def test_requests_belong_to_campaigns() -> None:
    """At the start of a stream they are a sign of damage."""
    for event in (asked(None), BudgetConfirmed(request_id=SUBJECT), BudgetRefused(request_id=SUBJECT)):
        with pytest.raises(ValueError, match="begins with its creation"):
            CAMPAIGN.evolve(None, event)


def test_a_policy_is_set_as_a_whole() -> None:
    """A policy replaces the one before; the same again is no event, and each currency has one limit."""
    state = given(POLICY).when(SetBudgetPolicy(limits=EUROS.limits)).then(BudgetPolicySet(limits=EUROS.limits))
    assert state == EUROS
    known = given(POLICY, BudgetPolicySet(limits=EUROS.limits))
    known.when(SetBudgetPolicy(limits=EUROS.limits)).then()
    assert known.when(SetBudgetPolicy()).then(BudgetPolicySet(limits=())) == BudgetPolicy()
    assert given(POLICY).when(SetBudgetPolicy()).events == ()
    twice = SetBudgetPolicy(limits=(*EUROS.limits, BudgetLimit(currency="EUR", above_micros=1)))
    known.when(twice).then_refused(LimitsInconsistent, pointer="/limits/1/currency")
    unknown = SetBudgetPolicy(limits=(BudgetLimit(currency="XQQ", above_micros=1),))
    known.when(unknown).then_refused(UnknownCurrency, pointer="/limits/0/currency")


budgets = st.none() | st.sampled_from([0, LIMIT - 1, LIMIT, LIMIT + 1, 3 * LIMIT, 9 * LIMIT])
changes = st.builds(ChangeCampaign, budget_micros=budgets, daily_budget_micros=budgets, currency=st.just("EUR"))
dollars = st.just(ChangeCampaign(currency="USD"))
people = st.sampled_from([None, ASKER, OTHER])


@law
@for_all(
    budgets,
    st.lists(st.tuples(changes | dollars | st.sampled_from([ConfirmBudget, RefuseBudget]), people), max_size=12),
)
def test_nobody_spends_more_than_two_people_allow(first: int | None, acts: Sequence[tuple[Any, UUID | None]]) -> None:
    """A budget beyond the limit is never in force unless somebody asked for it and somebody else confirmed it."""
    campaign = fold(CAMPAIGN, None, decided(None, structs.replace(DRAFT, budget_micros=first)))
    for act, person in acts:
        assert campaign is not None
        before, request = campaign.terms, campaign.asked
        command = act(request_id=request.request_id if request else SUBJECT) if isinstance(act, type) else act
        try:
            campaign = fold(CAMPAIGN, campaign, decided(campaign, command, person=person))
        except Refusal:
            continue
        assert campaign is not None
        now = campaign.terms
        if isinstance(command, ConfirmBudget):
            assert request is not None
            assert person not in {None, request.asked_by}
            assert now.budget_micros == request.requested_micros
        elif now.currency == "EUR" and (before.currency, _size(before)) != ("EUR", _size(now)):
            assert _size(now) <= (max(LIMIT, _size(before)) if before.currency == "EUR" else LIMIT)


def _size(terms: CampaignTerms) -> int:
    return 10 * LIMIT if terms.budget_micros is None else terms.budget_micros

"""Campaigns: what can be drafted and changed, the life cycle, and what the clock asks for."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import given as for_all
from msgspec import structs

from domain.advertiser import Advertiser
from domain.booking import check_terms
from domain.campaign import (
    CAMPAIGN,
    CLOCK,
    STEPS,
    ActivateCampaign,
    Active,
    Campaign,
    CampaignCommand,
    CampaignStep,
    ChangeCampaign,
    CompleteCampaign,
    Completed,
    CreateCampaign,
    Draft,
    ExpireCampaign,
    Expired,
    Inactive,
    Paused,
    due,
    status_of,
)
from domain.creative import Creative
from domain.errors import (
    AlreadyExists,
    CurrencyDiffers,
    DateOutOfRange,
    DatesOutOfOrder,
    FieldFixed,
    LimitsInconsistent,
    NotFound,
    PostcodeMalformed,
    PriceNotWhole,
    Refusal,
    TargetEmpty,
    TargetingContradictory,
    TargetingTooWide,
    UnknownCountry,
    UnknownCurrency,
    UnknownReference,
    UnknownTimeZone,
    WrongState,
)
from domain.events import (
    CampaignActivated,
    CampaignArchived,
    CampaignChanged,
    CampaignCompleted,
    CampaignCreated,
    CampaignEvent,
    CampaignExpired,
    CampaignPaused,
    CreativeCreated,
)
from domain.policy import POLICY_STREAM
from domain.terms import AdvertiserTerms, CampaignTerms, CreativeTerms
from domain.values import CapWindow, Pricing, Target
from tests.domain.given import given
from tests.domain.stored import stored
from tests.domain.strategies import drafted_campaigns, law

ADVERTISER_ID: Final = UUID(int=7)
OTHERS: Final = {f"advertiser-{ADVERTISER_ID}": Advertiser(terms=AdvertiserTerms(name="Shoes"))}
DRAFT: Final = CreateCampaign(
    advertiser_id=ADVERTISER_ID,
    name="Spring",
    start_date=date(2026, 3, 1),
    end_date=date(2026, 3, 14),
    expiry_date=date(2026, 3, 31),
    timezone="Asia/Shanghai",
    pricing=Pricing(model="cpm", price_micros=2_000),
    currency="CNY",
)
CREATED: Final = CampaignCreated(**structs.asdict(DRAFT))

# How a campaign comes into each phase.
WAYS: Final[dict[type[Campaign], tuple[CampaignEvent, ...]]] = {
    Draft: (CREATED,),
    Active: (CREATED, CampaignActivated()),
    Paused: (CREATED, CampaignActivated(), CampaignPaused()),
    Completed: (CREATED, CampaignActivated(), CampaignCompleted()),
    Expired: (CREATED, CampaignActivated(), CampaignExpired()),
    Inactive: (CREATED, CampaignArchived()),
}
PHASES: Final = pytest.mark.parametrize("phase", WAYS, ids=lambda phase: phase.__name__)

# The life cycle as it was agreed: in each status, what may be asked, and the status that follows.
LIFE_CYCLE: Final = {
    "draft": {"activate": "active", "expire": "expired", "archive": "inactive"},
    "active": {"pause": "paused", "complete": "completed", "expire": "expired"},
    "paused": {"activate": "active", "complete": "completed", "expire": "expired", "archive": "inactive"},
    "completed": {"expire": "expired", "archive": "inactive"},
    "expired": {"archive": "inactive"},
    "inactive": {},
}


def test_a_campaign_is_drafted_for_an_active_advertiser() -> None:
    """Drafting a campaign records all of its terms."""
    state = given(CAMPAIGN).when(DRAFT, others=OTHERS).then(CREATED)
    assert state == Draft(terms=CampaignTerms(**structs.asdict(DRAFT)))


def test_a_campaign_is_drafted_once() -> None:
    """A stream that has begun does not begin again."""
    given(CAMPAIGN, CREATED).when(DRAFT, others=OTHERS).then_refused(AlreadyExists)


def test_a_campaign_needs_an_advertiser_that_is_active() -> None:
    """An advertiser that is unknown, or inactive, runs no campaign; neither does anything else under its name."""
    given(CAMPAIGN).when(DRAFT).then_refused(UnknownReference, pointer="/advertiser_id")
    inactive = Advertiser(terms=AdvertiserTerms(name="Shoes", status="inactive"))
    given(CAMPAIGN).when(DRAFT, others=dict.fromkeys(OTHERS, inactive)).then_refused(WrongState)
    creative = Creative(terms=CreativeTerms(**structs.asdict(stored(CreativeCreated))))
    given(CAMPAIGN).when(DRAFT, others=dict.fromkeys(OTHERS, creative)).then_refused(
        UnknownReference, pointer="/advertiser_id"
    )


def test_a_campaign_is_paid_in_the_currency_of_the_funds() -> None:
    """An advertiser that has deposited money can be charged in no other currency."""
    funded = Advertiser(terms=AdvertiserTerms(name="Shoes"), currency="USD", funds_micros=1)
    others = {f"advertiser-{ADVERTISER_ID}": funded}
    given(CAMPAIGN).when(DRAFT, others=others).then_refused(CurrencyDiffers, pointer="/currency")


def test_a_cap_counts_no_more_than_is_remembered() -> None:
    """A frequency cap of more impressions than a viewer's moments are kept of is refused."""
    cap = {"max_view_count": 1_001, "max_view_duration": CapWindow(value=1, unit="day")}
    given(CAMPAIGN).when(structs.replace(DRAFT, **cap), others=OTHERS).then_refused(
        LimitsInconsistent, pointer="/max_view_count"
    )


def test_a_decision_sees_the_advertiser() -> None:
    """Drafting a campaign needs to see its advertiser and, like changing it, the policy of budgets; a step nothing."""
    assert CAMPAIGN.references(DRAFT) == (*OTHERS, POLICY_STREAM)
    assert CAMPAIGN.references(ChangeCampaign(name="x")) == (POLICY_STREAM,)
    assert CAMPAIGN.references(ActivateCampaign()) == ()


def test_countries_are_kept_as_alpha_2() -> None:
    """A country given as alpha-3 is recorded as alpha-2, when drafting and when changing."""
    targeting = (Target(country="CHN", region="216"), Target(country="DE"), Target())
    short = (Target(country="CN", region="216"), Target(country="DE"), Target())
    drafted = structs.replace(DRAFT, targeting=targeting)
    given(CAMPAIGN).when(drafted, others=OTHERS).then(structs.replace(CREATED, targeting=short))
    given(CAMPAIGN, CREATED).when(ChangeCampaign(targeting=targeting)).then(CampaignChanged(targeting=short))
    given(CAMPAIGN, CREATED, CampaignChanged(targeting=short)).when(ChangeCampaign(targeting=targeting)).then()


BROKEN_RULES: Final[list[tuple[dict[str, Any], type[Refusal], str]]] = [
    ({"currency": "XXX"}, UnknownCurrency, "/currency"),
    ({"timezone": "Mars/Olympus"}, UnknownTimeZone, "/timezone"),
    ({"pricing": Pricing(model="cpm", price_micros=1_500)}, PriceNotWhole, "/pricing/price_micros"),
    ({"pricing": Pricing(model="cpm", price_micros=999)}, PriceNotWhole, "/pricing/price_micros"),
    ({"start_date": date(1969, 12, 31)}, DateOutOfRange, "/start_date"),
    ({"end_date": date.max}, DateOutOfRange, "/end_date"),
    ({"expiry_date": date(3000, 1, 1)}, DateOutOfRange, "/expiry_date"),
    ({"end_date": date(2026, 2, 28)}, DatesOutOfOrder, "/end_date"),
    ({"expiry_date": date(2026, 3, 13)}, DatesOutOfOrder, "/expiry_date"),
    ({"end_date": None, "expiry_date": date(2026, 2, 28)}, DatesOutOfOrder, "/expiry_date"),
    ({"budget_micros": 1, "daily_budget_micros": 2}, LimitsInconsistent, "/daily_budget_micros"),
    ({"impression_budget": 1, "daily_impression_budget": 2}, LimitsInconsistent, "/daily_impression_budget"),
    (
        {"pricing": Pricing(model="flat", price_micros=9), "budget_micros": 8},
        LimitsInconsistent,
        "/budget_micros",
    ),
    (
        {"pricing": Pricing(model="flat", price_micros=9), "budget_micros": 9, "daily_budget_micros": 8},
        LimitsInconsistent,
        "/daily_budget_micros",
    ),
    ({"max_view_count": 1}, LimitsInconsistent, "/max_view_count"),
    ({"max_view_duration": CapWindow(value=1, unit="day")}, LimitsInconsistent, "/max_view_count"),
    ({"targeting": (Target(), Target(country="XX"))}, UnknownCountry, "/targeting/1/country"),
    ({"targeting": (Target(cities=("a",) * 200, postcodes=("b",) * 6),)}, TargetingTooWide, "/targeting/0"),
    ({"excluded_targeting": (Target(country="XX"),)}, UnknownCountry, "/excluded_targeting/0/country"),
    ({"excluded_targeting": (Target(country="DE"), Target())}, TargetEmpty, "/excluded_targeting/1"),
    ({"targeting": (Target(postcodes=("1", "*")),)}, PostcodeMalformed, "/targeting/0/postcodes/1"),
    ({"targeting": (Target(postcodes=(" *",)),)}, PostcodeMalformed, "/targeting/0/postcodes/0"),
    ({"excluded_targeting": (Target(postcodes=("1*1",)),)}, PostcodeMalformed, "/excluded_targeting/0/postcodes/0"),
    (
        {"domains": ("b.example", "a.news.example"), "excluded_domains": ("news.example",)},
        TargetingContradictory,
        "/domains/1",
    ),
    (
        {"page_categories": ("IAB2", "IAB1-3"), "blocked_categories": ("IAB1",)},
        TargetingContradictory,
        "/page_categories/1",
    ),
]


@pytest.mark.parametrize(("fields", "refusal", "pointer"), BROKEN_RULES)
def test_terms_that_break_a_rule_are_refused(fields: dict[str, Any], refusal: type[Refusal], pointer: str) -> None:
    """A rule is kept alike when a campaign is drafted and when it is changed, and the field that breaks it is named."""
    given(CAMPAIGN).when(structs.replace(DRAFT, **fields), others=OTHERS).then_refused(refusal, pointer=pointer)
    given(CAMPAIGN, CREATED).when(ChangeCampaign(**fields)).then_refused(refusal, pointer=pointer)


@pytest.mark.parametrize(
    "fields",
    [
        {"end_date": date(2026, 3, 1), "expiry_date": date(2026, 3, 1)},
        {"end_date": None, "expiry_date": None},
        {"start_date": date(1970, 1, 1), "end_date": date(2999, 12, 31), "expiry_date": date(2999, 12, 31)},
        {"pricing": Pricing(model="cpc", price_micros=1)},
        {"pricing": Pricing(model="flat", price_micros=999)},
        {"pricing": Pricing(model="flat", price_micros=9), "budget_micros": 9, "daily_budget_micros": 9},
        {"pricing": Pricing(model="cpc", price_micros=9), "budget_micros": 8},
        {"budget_micros": 2, "daily_budget_micros": 2, "impression_budget": 3, "daily_impression_budget": 3},
        {"budget_micros": 0},
        {"daily_budget_micros": 2, "daily_impression_budget": 3},
        {"max_view_count": 3, "max_view_duration": CapWindow(value=1, unit="day")},
        {"targeting": (Target(cities=("a",) * 200, postcodes=("b",) * 5), Target(cities=("a",) * 200))},
        {"targeting": (Target(postcodes=("1*", "SW1A 1AA", "SW1 *")),)},
        {"domains": ("news.example",), "excluded_domains": ("a.news.example", "ws.example")},
        {"page_categories": ("IAB1",), "blocked_categories": ("IAB1-3", "IAB10")},
    ],
)
def test_terms_at_the_edge_of_a_rule_pass(fields: dict[str, Any]) -> None:
    """What just keeps a rule is recorded."""
    given(CAMPAIGN).when(structs.replace(DRAFT, **fields), others=OTHERS).then(structs.replace(CREATED, **fields))


@law
@for_all(command=drafted_campaigns)
def test_terms_that_keep_the_rules_are_recorded_whole(command: CreateCampaign) -> None:
    """Whatever keeps the rules can be drafted, and nothing of it is lost but the spelling of countries."""
    advertiser = Advertiser(terms=AdvertiserTerms(name="Shoes"))
    answer = given(CAMPAIGN).when(command, others={f"advertiser-{command.advertiser_id}": advertiser})
    terms = answer.then(*answer.events).terms
    spelled: dict[str, Any] = {"targeting": (), "excluded_targeting": ()}
    assert structs.asdict(terms) | spelled == structs.asdict(command) | spelled
    check_terms(terms)


def test_a_change_sets_the_fields_it_names() -> None:
    """A change records the fields that differ, and leaves phase and other terms alone."""
    change = ChangeCampaign(name="Spring", priority=1, budget_micros=5)
    state = given(CAMPAIGN, *WAYS[Paused]).when(change).then(CampaignChanged(priority=1, budget_micros=5))
    terms = CampaignTerms(**structs.asdict(DRAFT))
    assert state == Paused(terms=structs.replace(terms, priority=1, budget_micros=5))


@PHASES
def test_a_change_of_nothing_is_no_event(phase: type[Campaign]) -> None:
    """A change to what is the case already records nothing, while changes are possible at all."""
    answer = given(CAMPAIGN, *WAYS[phase]).when(ChangeCampaign(name="Spring", currency="CNY"))
    if phase in {Draft, Active, Paused}:
        answer.then()
    else:
        answer.then_refused(WrongState)


@pytest.mark.parametrize(
    ("field", "value"),
    [("currency", "EUR"), ("timezone", "UTC"), ("pricing", Pricing(model="cpm", price_micros=3_000))],
)
@PHASES
def test_what_is_paid_and_where_days_begin_is_fixed_after_the_draft(
    phase: type[Campaign], field: str, value: object
) -> None:
    """Currency, time zone and pricing change in a draft only."""
    answer = given(CAMPAIGN, *WAYS[phase]).when(ChangeCampaign(**{field: value}))  # type: ignore[arg-type]  # any field by name
    if phase is Draft:
        answer.then(CampaignChanged(**{field: value}))  # type: ignore[arg-type]  # any field by name
    elif phase in {Active, Paused}:
        answer.then_refused(FieldFixed, pointer=f"/{field}")
    else:
        answer.then_refused(WrongState)


@PHASES
def test_a_campaign_that_is_over_does_not_change(phase: type[Campaign]) -> None:
    """Names and limits change in draft, active and paused campaigns, and in no other."""
    answer = given(CAMPAIGN, *WAYS[phase]).when(ChangeCampaign(name="Summer"))
    if phase in {Draft, Active, Paused}:
        answer.then(CampaignChanged(name="Summer"))
    else:
        answer.then_refused(WrongState)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
@PHASES
def test_the_life_cycle_is_its_table(phase: type[Campaign], step: type[CampaignStep]) -> None:
    """Every step of the table is taken and leads where it says; every other is refused."""
    line = STEPS[step]
    answer = given(CAMPAIGN, *WAYS[phase]).when(step())
    if phase in line.leaves:
        assert answer.then(line.event()) == line.enters(terms=CampaignTerms(**structs.asdict(DRAFT)))
    else:
        answer.then_refused(WrongState)


def test_the_table_is_the_life_cycle_that_was_agreed() -> None:
    """The table in the domain says what the agreed one says."""
    statuses = {phase: status_of(phase(terms=CREATED)) for phase in WAYS}
    assert {
        status: {step.name: statuses[step.enters] for step in STEPS.values() if phase in step.leaves}
        for phase, status in statuses.items()
    } == LIFE_CYCLE


@pytest.mark.parametrize("command", [ChangeCampaign(name="x"), *(step() for step in STEPS)])
def test_what_is_not_there_cannot_change(command: CampaignCommand) -> None:
    """A campaign that was never drafted is not found."""
    given(CAMPAIGN).when(command).then_refused(NotFound)


def test_a_flight_that_is_over_cannot_be_activated() -> None:
    """A campaign can be activated until the last day has ended in its own time zone, and not after."""
    over = datetime(2026, 3, 14, 16, tzinfo=UTC)  # midnight after the last day in Shanghai
    given(CAMPAIGN, CREATED).when(ActivateCampaign(), now=over - timedelta(seconds=1)).then(CampaignActivated())
    given(CAMPAIGN, CREATED).when(ActivateCampaign(), now=over).then_refused(DatesOutOfOrder)
    endless = CampaignChanged(end_date=None)
    given(CAMPAIGN, CREATED, endless).when(ActivateCampaign(), now=over).then(CampaignActivated())
    given(CAMPAIGN, CREATED, endless).when(ActivateCampaign(), now=EXPIRY).then_refused(DatesOutOfOrder)


def test_a_completed_campaign_is_refused_for_its_state() -> None:
    """Of two reasons not to activate a campaign, the one that no change of dates can cure is given."""
    long_after = datetime(2027, 1, 1, tzinfo=UTC)
    given(CAMPAIGN, *WAYS[Completed]).when(ActivateCampaign(), now=long_after).then_refused(WrongState)


END: Final = datetime(2026, 3, 14, 16, tzinfo=UTC)
EXPIRY: Final = datetime(2026, 3, 31, 16, tzinfo=UTC)


@pytest.mark.parametrize(
    ("phase", "now", "step"),
    [
        (Draft, END, None),
        (Active, END - timedelta(seconds=1), None),
        (Active, END, CompleteCampaign()),
        (Paused, END, CompleteCampaign()),
        (Completed, END, None),
        (Active, EXPIRY - timedelta(seconds=1), CompleteCampaign()),
        (Completed, EXPIRY - timedelta(seconds=1), None),
        (Draft, EXPIRY, ExpireCampaign()),
        (Active, EXPIRY, ExpireCampaign()),
        (Paused, EXPIRY, ExpireCampaign()),
        (Completed, EXPIRY, ExpireCampaign()),
        (Expired, EXPIRY, None),
        (Inactive, EXPIRY, None),
    ],
)
def test_the_clock_asks_for_the_end_and_the_expiry(
    phase: type[Campaign], now: datetime, step: CampaignStep | None
) -> None:
    """A flight ends after its last day and a campaign expires after its expiry date, in its own time zone."""
    state = given(CAMPAIGN, *WAYS[phase]).state
    assert state is not None
    assert due(state, now) == step


@PHASES
def test_the_clock_asks_nothing_of_an_endless_campaign(phase: type[Campaign]) -> None:
    """A campaign without dates to end on goes on."""
    state = given(CAMPAIGN, *WAYS[phase]).state
    assert state is not None
    endless = structs.replace(state, terms=structs.replace(state.terms, end_date=None, expiry_date=None))
    assert due(endless, datetime(2999, 1, 1, tzinfo=UTC)) is None


def test_the_clock_asks_only_for_steps_that_can_be_taken() -> None:
    """Every line of the clock's table leads out of phases that the life cycle lets it leave."""
    assert all(phase in STEPS[step].leaves for _, phases, step in CLOCK for phase in phases)
    assert [step for _, _, step in CLOCK] == [ExpireCampaign, CompleteCampaign]

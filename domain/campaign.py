"""Campaigns: what may be decided about one, and how it lives.

The life cycle is the table `STEPS`. What the clock does is the table `CLOCK`.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple, TypeVar, assert_never
from uuid import UUID, uuid5

from msgspec import UNSET, Struct, structs

from domain.advertiser import Advertiser
from domain.booking import check_terms
from domain.decider import (
    Context,
    Decider,
    absent,
    begun,
    changed,
    copied,
    differing_fields,
    existing,
    named_fields,
    stream_of,
)
from domain.errors import (
    CurrencyDiffers,
    DatesOutOfOrder,
    FieldFixed,
    NothingAsked,
    SecondPersonNeeded,
    UnknownReference,
    WrongState,
)
from domain.events import (
    BudgetConfirmed,
    BudgetRefused,
    BudgetRequested,
    CampaignActivated,
    CampaignArchived,
    CampaignChanged,
    CampaignCompleted,
    CampaignCreated,
    CampaignEvent,
    CampaignExpired,
    CampaignPaused,
    CampaignStepTaken,
)
from domain.iso import alpha_2
from domain.policy import POLICY_STREAM, held_back
from domain.rights import check_change
from domain.terms import BudgetRequest, CampaignChanges, CampaignTerms
from domain.values import midnight

T = TypeVar("T", "CreateCampaign", "ChangeCampaign")


class CreateCampaign(CampaignTerms, frozen=True, kw_only=True):
    """Draft a campaign."""


class ChangeCampaign(CampaignChanges, frozen=True, kw_only=True):
    """Set fields of a campaign."""


class ActivateCampaign(Struct, frozen=True, kw_only=True):
    """Let a campaign be served on its flight dates."""


class PauseCampaign(Struct, frozen=True, kw_only=True):
    """Stop serving a campaign for the time being."""


class CompleteCampaign(Struct, frozen=True, kw_only=True):
    """Bring a campaign to its end."""


class ExpireCampaign(Struct, frozen=True, kw_only=True):
    """Close a campaign whose expiry date has passed."""


class ArchiveCampaign(Struct, frozen=True, kw_only=True):
    """Put a campaign away."""


class ConfirmBudget(Struct, frozen=True, kw_only=True):
    """Let the budget take effect that somebody else has asked for."""

    request_id: UUID


class RefuseBudget(Struct, frozen=True, kw_only=True):
    """Leave the budget as it is, whatever was asked for."""

    request_id: UUID


CampaignStep = ActivateCampaign | PauseCampaign | CompleteCampaign | ExpireCampaign | ArchiveCampaign
CampaignCommand = CreateCampaign | ChangeCampaign | ConfirmBudget | RefuseBudget | CampaignStep


class Campaign(Struct, frozen=True, kw_only=True):
    """A campaign as it stands, in one of the phases below, and which budget waits for a second person to confirm it."""

    terms: CampaignTerms
    asked: BudgetRequest | None = None
    times_asked: int = 0


class Draft(Campaign, frozen=True, kw_only=True, tag="draft", tag_field="status"):
    """Never served yet: everything about it may change."""


class Active(Campaign, frozen=True, kw_only=True, tag="active", tag_field="status"):
    """Served on its flight dates."""


class Paused(Campaign, frozen=True, kw_only=True, tag="paused", tag_field="status"):
    """Not served until it is activated again."""


class Completed(Campaign, frozen=True, kw_only=True, tag="completed", tag_field="status"):
    """Over; what was delivered late can still arrive."""


class Expired(Campaign, frozen=True, kw_only=True, tag="expired", tag_field="status"):
    """Closed: past its expiry date."""


class Inactive(Campaign, frozen=True, kw_only=True, tag="inactive", tag_field="status"):
    """Put away."""


class Step(NamedTuple):
    """A line of the life cycle: its name, the phases it leaves, the event it writes, and the phase it enters."""

    name: str
    leaves: tuple[type[Campaign], ...]
    event: type[CampaignStepTaken]
    enters: type[Campaign]


STEPS: Final[Mapping[type[CampaignStep], Step]] = {
    ActivateCampaign: Step("activate", (Draft, Paused), CampaignActivated, Active),
    PauseCampaign: Step("pause", (Active,), CampaignPaused, Paused),
    CompleteCampaign: Step("complete", (Active, Paused), CampaignCompleted, Completed),
    ExpireCampaign: Step("expire", (Draft, Active, Paused, Completed), CampaignExpired, Expired),
    ArchiveCampaign: Step("archive", (Draft, Paused, Completed, Expired), CampaignArchived, Inactive),
}
ENTERS: Final[Mapping[type[CampaignStepTaken], type[Campaign]]] = {step.event: step.enters for step in STEPS.values()}
"""The phase that each step's event leads to."""

CLOCK: Final = (
    # at the moment after   in these phases             the clock asks for
    ("expiry_date", (Draft, Active, Paused, Completed), ExpireCampaign),
    ("end_date", (Active, Paused), CompleteCampaign),
)
"""What the clock asks for, first match first. A start date asks for nothing: an active campaign is served from then."""

BUDGETED: Final = frozenset({"budget_micros", "currency"})
"""Whoever sets one of these sets the budget anew, whatever was asked for."""

_CHANGEABLE: Final = (Draft, Active, Paused)
_FIXED_AFTER_DRAFT: Final = ("currency", "timezone", "pricing")


def decide(state: Campaign | None, command: CampaignCommand, context: Context) -> tuple[CampaignEvent, ...]:
    """Return what follows from a command; raise a Refusal when the rules do not allow it."""
    match command:
        case CreateCampaign():
            absent("campaign", state, context)
            return create(command, context)
        case ChangeCampaign():
            campaign = existing("campaign", state, context)
            fields = differing_fields(campaign.terms, _with_short_countries(command))
            check_change(context.rights, fields, draft=isinstance(campaign, Draft))
            return change(campaign, command, context)
        case ConfirmBudget():
            return confirm(existing("campaign", state, context), command, context)
        case RefuseBudget():
            _check_asked(existing("campaign", state, context), command.request_id)
            return (BudgetRefused(request_id=command.request_id),)
        case ActivateCampaign():
            campaign = existing("campaign", state, context)
            events = take(campaign, command)
            _check_not_over(campaign, context.now)
            return events
        case PauseCampaign() | CompleteCampaign() | ExpireCampaign() | ArchiveCampaign():
            return take(existing("campaign", state, context), command)
        case _:
            assert_never(command)


def create(command: CreateCampaign, context: Context) -> tuple[CampaignEvent, ...]:
    """Draft a campaign for an advertiser that is active."""
    advertiser = context.others.get(stream_of("advertiser", command.advertiser_id))
    if not isinstance(advertiser, Advertiser) or not context.rights.knows(command.advertiser_id):
        raise UnknownReference("advertiser", command.advertiser_id, pointer="/advertiser_id")
    if advertiser.terms.status != "active":
        raise WrongState("advertiser", advertiser.terms.status, "run a campaign")
    if advertiser.currency not in {None, command.currency}:
        raise CurrencyDiffers(f"The funds of this advertiser are in {advertiser.currency}.", pointer="/currency")
    check_terms(command)
    created = copied(CampaignCreated, _with_short_countries(command))
    allowed = held_back(context.others.get(POLICY_STREAM), None, created)
    if allowed is None:
        return (created,)
    check_terms(allowed)
    return copied(CampaignCreated, allowed), _request(created, 0, context)


def change(campaign: Campaign, command: ChangeCampaign, context: Context) -> tuple[CampaignEvent, ...]:
    """Set fields while the campaign is not over; what is paid and in which time zone is fixed once it has run.

    A budget that one person alone may not allow is asked for, and not set.
    """
    if not isinstance(campaign, _CHANGEABLE):
        raise WrongState("campaign", status_of(campaign), "change")
    fields = differing_fields(campaign.terms, _with_short_countries(command))
    if not isinstance(campaign, Draft):
        for name in _FIXED_AFTER_DRAFT:
            if name in fields:
                raise FieldFixed(f"The {name} of a campaign is fixed once it has been activated.", pointer=f"/{name}")
    if not fields:
        return ()
    event = CampaignChanged(**fields)
    wanted = changed(campaign.terms, event)
    check_terms(wanted)
    allowed = held_back(context.others.get(POLICY_STREAM), campaign.terms, wanted)
    return (event,) if allowed is None else _asking(campaign, wanted, allowed, context)


def _asking(
    campaign: Campaign, wanted: CampaignTerms, allowed: CampaignTerms, context: Context
) -> tuple[CampaignEvent, ...]:
    """Set what is allowed of a change, and ask for the rest, unless the same person has asked for just that."""
    check_terms(allowed)
    differing = {
        name: value for name, value in structs.asdict(allowed).items() if value != getattr(campaign.terms, name)
    }
    set_now = (CampaignChanged(**differing),) if differing else ()
    request = _request(wanted, campaign.times_asked, context)
    known = campaign.asked and structs.replace(campaign.asked, request_id=request.request_id)
    return set_now if known == copied(BudgetRequest, request) else (*set_now, request)


def _request(wanted: CampaignTerms, times_asked: int, context: Context) -> BudgetRequested:
    return BudgetRequested(
        request_id=uuid5(context.subject, f"budget {times_asked + 1}"),
        requested_micros=wanted.budget_micros,
        requested_daily_micros=wanted.daily_budget_micros,
        currency=wanted.currency,
        asked_by=context.person,
    )


def confirm(campaign: Campaign, command: ConfirmBudget, context: Context) -> tuple[CampaignEvent, ...]:
    """Let a budget take effect that another person has asked for."""
    asked = _check_asked(campaign, command.request_id)
    if context.person is None or context.person == asked.asked_by:
        raise SecondPersonNeeded("Somebody else than who asked for this budget has to confirm it.")
    if not isinstance(campaign, _CHANGEABLE):
        raise WrongState("campaign", status_of(campaign), "change")
    wanted = CampaignChanges(budget_micros=asked.requested_micros, daily_budget_micros=asked.requested_daily_micros)
    event = CampaignChanged(**differing_fields(campaign.terms, wanted))
    check_terms(changed(campaign.terms, event))
    return BudgetConfirmed(request_id=asked.request_id), event


def _check_asked(campaign: Campaign, request_id: UUID) -> BudgetRequest:
    if campaign.asked is None or campaign.asked.request_id != request_id:
        raise NothingAsked("This was answered already, or something else was asked for or set since.")
    return campaign.asked


def take(campaign: Campaign, command: CampaignStep) -> tuple[CampaignEvent, ...]:
    """Take a step of the life cycle; raise WrongState when the table does not have it."""
    step = STEPS[type(command)]
    if not isinstance(campaign, step.leaves):
        raise WrongState("campaign", status_of(campaign), step.name)
    return (step.event(),)


def evolve(state: Campaign | None, event: CampaignEvent) -> Campaign:
    """Return the campaign after an event."""
    match event:
        case CampaignCreated():
            return Draft(terms=copied(CampaignTerms, event))
        case CampaignChanged():
            campaign = begun(state)
            asked = campaign.asked if BUDGETED.isdisjoint(named_fields(event)) else None
            return structs.replace(campaign, terms=changed(campaign.terms, event), asked=asked)
        case BudgetRequested():
            campaign = begun(state)
            return structs.replace(campaign, asked=copied(BudgetRequest, event), times_asked=campaign.times_asked + 1)
        case BudgetConfirmed() | BudgetRefused():
            return structs.replace(begun(state), asked=None)
        case CampaignActivated() | CampaignPaused() | CampaignCompleted() | CampaignExpired() | CampaignArchived():
            campaign = begun(state)
            return ENTERS[type(event)](terms=campaign.terms, asked=campaign.asked, times_asked=campaign.times_asked)
        case _:
            assert_never(event)


def references(command: CampaignCommand) -> tuple[str, ...]:
    """Return the streams whose state the decision needs."""
    match command:
        case CreateCampaign():
            return stream_of("advertiser", command.advertiser_id), POLICY_STREAM
        case ChangeCampaign():
            return (POLICY_STREAM,)
        case _:
            return ()


def status_of(campaign: Campaign) -> str:
    """Return the word of the API for the phase a campaign is in."""
    return str(campaign.__struct_config__.tag)


def due(campaign: Campaign, now: datetime) -> CampaignStep | None:
    """Return the step that the clock has to ask for, if any."""
    for field, phases, step in CLOCK:
        day = getattr(campaign.terms, field)
        if day is not None and isinstance(campaign, phases) and _is_past(day, campaign.terms.timezone, now):
            return step()
    return None


def _check_not_over(campaign: Campaign, now: datetime) -> None:
    terms = campaign.terms
    for name, day in (("end", terms.end_date), ("expiry", terms.expiry_date)):
        if day is not None and _is_past(day, terms.timezone, now):
            raise DatesOutOfOrder(f"The campaign's {name} date {day} has passed; move it first.")


def _is_past(day: date, timezone: str, now: datetime) -> bool:
    return now >= midnight(day + timedelta(days=1), timezone)


def _with_short_countries(source: T) -> T:
    targets = {
        name: tuple(
            structs.replace(target, country=target.country and (alpha_2(target.country) or target.country))
            for target in named
        )
        for name in ("targeting", "excluded_targeting")
        if (named := getattr(source, name)) is not UNSET
    }
    return structs.replace(source, **targets)


CAMPAIGN: Final = Decider("campaign", decide, evolve, references)

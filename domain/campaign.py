"""Campaigns: what may be decided about one, and how it lives.

The life cycle is the table `STEPS`. What the clock does is the table `CLOCK`.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple, TypeVar, assert_never

from msgspec import UNSET, Struct, structs

from domain.advertiser import Advertiser
from domain.decider import Context, Decider, absent, begun, changed, copied, differing_fields, existing, stream_of
from domain.errors import (
    CurrencyDiffers,
    DateOutOfRange,
    DatesOutOfOrder,
    FieldFixed,
    LimitsInconsistent,
    PostcodeMalformed,
    PriceNotWhole,
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
    CampaignStepTaken,
)
from domain.iso import CURRENCIES, alpha_2
from domain.rights import check_change
from domain.targeting import categories_of, domains_of, postcode_of
from domain.terms import CampaignChanges, CampaignTerms, CreativeTerms
from domain.values import DATE_MAX, DATE_MIN, Target, midnight, zone

T = TypeVar("T", "CreateCampaign", "ChangeCampaign")

IMPRESSIONS_PER_CPM: Final = 1_000
PLACES_PER_TARGET_MAX: Final = 1_000
VIEWS_PER_CAP_MAX: Final = 1_000
"""Bounds what is remembered of each viewer: the time of every impression that a cap still counts."""


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


CampaignStep = ActivateCampaign | PauseCampaign | CompleteCampaign | ExpireCampaign | ArchiveCampaign
CampaignCommand = CreateCampaign | ChangeCampaign | CampaignStep


class Campaign(Struct, frozen=True, kw_only=True):
    """A campaign as it stands, in one of the phases below."""

    terms: CampaignTerms


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
            return change(campaign, command)
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
    return (copied(CampaignCreated, _with_short_countries(command)),)


def change(campaign: Campaign, command: ChangeCampaign) -> tuple[CampaignEvent, ...]:
    """Set fields while the campaign is not over; what is paid and in which time zone is fixed once it has run."""
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
    check_terms(changed(campaign.terms, event))
    return (event,)


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
            return type(campaign)(terms=changed(campaign.terms, event))
        case CampaignActivated() | CampaignPaused() | CampaignCompleted() | CampaignExpired() | CampaignArchived():
            campaign = begun(state)
            return ENTERS[type(event)](terms=campaign.terms)
        case _:
            assert_never(event)


def references(command: CampaignCommand) -> tuple[str, ...]:
    """Return the streams whose state the decision needs."""
    return (stream_of("advertiser", command.advertiser_id),) if isinstance(command, CreateCampaign) else ()


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


def check_terms(terms: CampaignTerms) -> None:
    """Raise the refusal of the first rule that the terms break."""
    if terms.currency not in CURRENCIES:
        raise UnknownCurrency(f"ISO 4217 has no currency {terms.currency}.", pointer="/currency")
    if zone(terms.timezone) is None:
        raise UnknownTimeZone(f"There is no time zone {terms.timezone}.", pointer="/timezone")
    if terms.pricing.model == "cpm" and terms.pricing.price_micros % IMPRESSIONS_PER_CPM:
        raise PriceNotWhole(
            "A CPM price is a multiple of 1,000 micros, so that one impression costs a whole number of them.",
            pointer="/pricing/price_micros",
        )
    check_dates("campaign", terms)
    _check_limits(terms)
    _check_targeting(terms)


def check_dates(thing: str, terms: CampaignTerms | CreativeTerms) -> None:
    """Raise the refusal of the first rule that the dates of a campaign or a creative break."""
    for name in ("start_date", "end_date", "expiry_date"):
        day = getattr(terms, name)
        if day is not None and not DATE_MIN <= day <= DATE_MAX:
            raise DateOutOfRange(f"The {name} lies before {DATE_MIN} or after {DATE_MAX}.", pointer=f"/{name}")
    if terms.start_date is not None and terms.end_date is not None and terms.end_date < terms.start_date:
        raise DatesOutOfOrder("The end date lies before the start date.", pointer="/end_date")
    last_day = terms.end_date or terms.start_date
    if terms.expiry_date is not None and last_day is not None and terms.expiry_date < last_day:
        raise DatesOutOfOrder(f"The expiry date lies before the {thing}'s last day.", pointer="/expiry_date")


def _check_limits(terms: CampaignTerms) -> None:
    for total, daily in (("budget_micros", "daily_budget_micros"), ("impression_budget", "daily_impression_budget")):
        whole, part = getattr(terms, total), getattr(terms, daily)
        if whole is not None and part is not None and part > whole:
            raise LimitsInconsistent(f"The {daily} is more than the {total}.", pointer=f"/{daily}")
    for name in ("budget_micros", "daily_budget_micros"):
        limit = getattr(terms, name)
        if terms.pricing.model == "flat" and limit is not None and limit < terms.pricing.price_micros:
            # It could never be billed, and would be served for nothing.
            raise LimitsInconsistent(f"The {name} is less than the flat price.", pointer=f"/{name}")
    if (terms.max_view_count is None) != (terms.max_view_duration is None):
        raise LimitsInconsistent(
            "A frequency cap needs both max_view_count and max_view_duration.", pointer="/max_view_count"
        )
    if terms.max_view_count is not None and terms.max_view_count > VIEWS_PER_CAP_MAX:
        raise LimitsInconsistent(
            f"A frequency cap allows at most {VIEWS_PER_CAP_MAX:,} impressions.", pointer="/max_view_count"
        )


def _check_targeting(terms: CampaignTerms) -> None:
    for index, target in enumerate(terms.targeting):
        _check_target(target, f"/targeting/{index}")
    for index, target in enumerate(terms.excluded_targeting):
        _check_target(target, f"/excluded_targeting/{index}")
        if target == Target():
            raise TargetEmpty("This would leave out every place.", pointer=f"/excluded_targeting/{index}")
    for index, domain in enumerate(terms.domains):
        if not domains_of(domain).isdisjoint(terms.excluded_domains):
            raise TargetingContradictory(f"The domain {domain} is excluded as well.", pointer=f"/domains/{index}")
    for index, category in enumerate(terms.page_categories):
        if not categories_of([category]).isdisjoint(terms.blocked_categories):
            raise TargetingContradictory(
                f"The category {category} is blocked as well.", pointer=f"/page_categories/{index}"
            )


def _check_target(target: Target, pointer: str) -> None:
    if target.country is not None and alpha_2(target.country) is None:
        raise UnknownCountry(f"ISO 3166-1 has no country {target.country}.", pointer=f"{pointer}/country")
    if max(1, len(target.cities)) * max(1, len(target.postcodes)) > PLACES_PER_TARGET_MAX:
        raise TargetingTooWide(
            f"A target names at most {PLACES_PER_TARGET_MAX:,} pairs of city and postcode.", pointer=pointer
        )
    for index, postcode in enumerate(target.postcodes):
        if "*" in postcode[:-1] or not postcode_of(postcode).rstrip("*"):
            raise PostcodeMalformed(
                "A beginning of postcodes is written with one asterisk after it, as 10*.",
                pointer=f"{pointer}/postcodes/{index}",
            )


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

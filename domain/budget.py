"""Budgets: what a campaign may spend and has spent, and whether one more delivery is within it.

The row of a campaign's budget is kept by the log's writer in the transaction that appends the events, so that at every
position of the log what was billed is within every limit that is set. The funds that an advertiser deposited are a
budget of their own, from which all of its campaigns draw.
"""

from datetime import date, datetime
from typing import Final, Literal
from uuid import UUID

from msgspec import UNSET, Struct, structs

from domain.advertiser import funds_after
from domain.booking import IMPRESSIONS_PER_CPM
from domain.errors import BudgetBelowSpent, FundsOutOfRange
from domain.events import CampaignChanged, CampaignCreated, FundsMoved, FundsWithdrawn
from domain.terms import CampaignTerms
from domain.values import MICROS_MAX, Pricing, local_date

PlaybackKind = Literal["start", "first_quartile", "midpoint", "third_quartile", "complete", "error"]
DeliveryKind = Literal["impression", "view", "click"] | PlaybackKind


class Budget(Struct, frozen=True, kw_only=True):
    """Limits (None: no limit) and what was billed, in all and on `day`, a date in the campaign's time zone.

    What is leased is set aside for workers to promise to ad slots: at every moment, what is spent and what is leased
    are together within every limit. For a leased impression `impression_micros` are set aside.

    `budget_id` is the campaign's id, and `advertiser_id` that of the budget which is the advertiser's funds, if it has
    any. Funds have no other limit than `budget_micros`, and no `advertiser_id`.
    """

    budget_id: UUID
    advertiser_id: UUID | None = None
    currency: str
    timezone: str
    impression_micros: int = 0
    click_micros: int = 0
    flat_micros: int = 0
    budget_micros: int | None = None
    daily_budget_micros: int | None = None
    impression_budget: int | None = None
    daily_impression_budget: int | None = None
    spent_micros: int = 0
    impressions: int = 0
    day: date = date.min
    day_spent_micros: int = 0
    day_impressions: int = 0
    leased_impressions: int = 0
    leased_micros: int = 0


class Charge(Struct, frozen=True, kw_only=True):
    """What one delivery, or several, take from a budget."""

    micros: int = 0
    impressions: int = 0


NOTHING: Final = Charge()
UNLIMITED: Final = 2**62
"""More impressions than anybody can ask for."""


def price_of(kind: DeliveryKind, pricing: Pricing, budget: Budget) -> Charge:
    """Return what a delivery costs: views and playback nothing, a flat price with the first billed impression."""
    match kind, pricing.model:
        case "impression", "cpm":
            return Charge(micros=price_of_impression(pricing), impressions=1)
        case "impression", "flat":
            return Charge(micros=0 if budget.impressions else pricing.price_micros, impressions=1)
        case "impression", _:
            return Charge(micros=0, impressions=1)
        case "click", _:
            return Charge(micros=price_of_click(pricing))
        case _:
            return NOTHING


def price_of_impression(pricing: Pricing) -> int:
    """Return what each impression costs, in micros: of the models, only cpm prices impressions."""
    return pricing.price_micros // IMPRESSIONS_PER_CPM if pricing.model == "cpm" else 0


def price_of_click(pricing: Pricing) -> int:
    """Return what each click costs, in micros: of the models, only cpc prices clicks."""
    return pricing.price_micros if pricing.model == "cpc" else 0


def prices(pricing: Pricing) -> dict[str, int]:
    """Return what is set aside for an impression, charged for a click, and charged once, in micros."""
    return {
        "impression_micros": price_of_impression(pricing),
        "click_micros": price_of_click(pricing),
        "flat_micros": pricing.price_micros if pricing.model == "flat" else 0,
    }


def is_limited(terms: CampaignTerms) -> bool:
    """Tell whether a campaign has any limit, so that its impressions have to be leased before they are promised."""
    limits = (terms.budget_micros, terms.daily_budget_micros, terms.impression_budget, terms.daily_impression_budget)
    return any(limit is not None for limit in limits)


def on_day(budget: Budget, now: datetime) -> Budget:
    """Return the budget as of a moment: a new day has nothing spent; a clock that steps back opens no old day again."""
    day = local_date(now, budget.timezone)
    return budget if day <= budget.day else structs.replace(budget, day=day, day_spent_micros=0, day_impressions=0)


def affords(budget: Budget, charge: Charge) -> bool:
    """Tell whether a charge is within every limit, on the budget's day, beside all that is leased."""
    return _fits(budget, charge) >= 1


def room(campaign: Budget, budget: Budget) -> int:
    """Return how many more impressions of a campaign can be leased of a budget: its own, or its advertiser's funds.

    Where impressions cost nothing, because clicks are paid or a flat price, there is room as long as that could be.
    """
    due = campaign.click_micros or (0 if campaign.impressions else campaign.flat_micros)
    if due and not affords(budget, Charge(micros=due)):
        return 0
    return _fits(budget, Charge(micros=campaign.impression_micros, impressions=1))


def leased(budget: Budget, impressions: int, micros: int) -> Budget:
    """Return the budget with so many more impressions and micros set aside; fewer, where they are negative."""
    return structs.replace(
        budget,
        leased_impressions=budget.leased_impressions + impressions,
        leased_micros=budget.leased_micros + micros,
    )


def charged(budget: Budget, charge: Charge) -> Budget:
    """Return the budget after a charge that it affords."""
    return structs.replace(
        budget,
        spent_micros=budget.spent_micros + charge.micros,
        impressions=budget.impressions + charge.impressions,
        day_spent_micros=budget.day_spent_micros + charge.micros,
        day_impressions=budget.day_impressions + charge.impressions,
    )


def opened(campaign_id: UUID, event: CampaignCreated) -> Budget:
    """Return the budget of a campaign that was just drafted."""
    budget = Budget(
        budget_id=campaign_id,
        advertiser_id=event.advertiser_id,
        currency=event.currency,
        timezone=event.timezone,
        budget_micros=event.budget_micros,
        daily_budget_micros=event.daily_budget_micros,
        impression_budget=event.impression_budget,
        daily_impression_budget=event.daily_impression_budget,
    )
    return structs.replace(budget, **prices(event.pricing))


def relimited(budget: Budget, event: CampaignChanged, now: datetime) -> Budget:
    """Return the budget after a change; raise BudgetBelowSpent when more than a new limit is spent and held already."""
    named = {name: value for name in _RELIMITED if (value := getattr(event, name)) is not UNSET}
    if event.pricing is not UNSET:
        named |= prices(event.pricing)
    if event.timezone is not UNSET:  # of a draft, which has no day behind it
        named["day"] = date.min
    after = on_day(structs.replace(budget, **named), now)
    for limit, spent in (
        ("budget_micros", after.spent_micros + after.leased_micros),
        ("daily_budget_micros", after.day_spent_micros + after.leased_micros),
        ("impression_budget", after.impressions + after.leased_impressions),
        ("daily_impression_budget", after.day_impressions + after.leased_impressions),
    ):
        if named.get(limit) is not None and named[limit] < spent:
            raise BudgetBelowSpent(f"{spent:,} are spent and held; the {limit} cannot be less.", pointer=f"/{limit}")
    return after


def funded(funds: Budget, event: FundsMoved) -> Budget:
    """Return an advertiser's funds after a deposit or a withdrawal; raise FundsOutOfRange.

    What is spent or set aside cannot be withdrawn. What was billed before the first deposit is not taken from it.
    """
    deposited = funds_after(funds.budget_micros, event)
    taken = funds.spent_micros + funds.leased_micros
    if deposited < (taken if isinstance(event, FundsWithdrawn) else 0) or deposited > MICROS_MAX:
        detail = f"{taken:,} micros are spent and held, and at most {MICROS_MAX:,} can be deposited in all."
        raise FundsOutOfRange(detail, pointer="/amount_micros")
    return structs.replace(funds, budget_micros=deposited)


_RELIMITED: Final = (
    *("currency", "timezone"),
    *("budget_micros", "daily_budget_micros", "impression_budget", "daily_impression_budget"),
)


def _fits(budget: Budget, charge: Charge) -> int:
    """Return how many times a charge fits into what every limit leaves."""
    times = UNLIMITED
    for limit, used, each in (
        (MICROS_MAX, budget.spent_micros + budget.leased_micros, charge.micros),  # what can be counted at all
        (budget.budget_micros, budget.spent_micros + budget.leased_micros, charge.micros),
        (budget.daily_budget_micros, budget.day_spent_micros + budget.leased_micros, charge.micros),
        (budget.impression_budget, budget.impressions + budget.leased_impressions, charge.impressions),
        (budget.daily_impression_budget, budget.day_impressions + budget.leased_impressions, charge.impressions),
    ):
        # What costs nothing always fits, so that a limit of money does not turn free deliveries away.
        if limit is not None and each:
            times = min(times, (limit - used) // each)
    return max(times, 0)

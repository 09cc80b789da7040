"""Budgets: what a campaign may spend and has spent, and whether one more delivery is within it.

The row of a campaign's budget is kept by the log's writer in the transaction that appends the events, so that at every
position of the log what was billed is within every limit that is set.
"""

from datetime import date, datetime
from typing import Final, Literal
from uuid import UUID

from msgspec import UNSET, Struct, structs

from domain.campaign import IMPRESSIONS_PER_CPM
from domain.errors import BudgetBelowSpent
from domain.events import CampaignChanged, CampaignCreated
from domain.values import Pricing, local_date

DeliveryKind = Literal["impression", "view", "click"]


class Budget(Struct, frozen=True, kw_only=True):
    """Limits (None: no limit) and what was billed, in all and on `day`, a date in the campaign's time zone.

    `position` is the log's when the row was last written: of two copies, the one with the higher position is newer.
    """

    campaign_id: UUID
    position: int = 0
    timezone: str
    budget_micros: int | None = None
    daily_budget_micros: int | None = None
    impression_budget: int | None = None
    daily_impression_budget: int | None = None
    spent_micros: int = 0
    impressions: int = 0
    day: date = date.min
    day_spent_micros: int = 0
    day_impressions: int = 0


class Charge(Struct, frozen=True, kw_only=True):
    """What one delivery, or several, take from a budget."""

    micros: int = 0
    impressions: int = 0


NOTHING: Final = Charge()


def price_of(kind: DeliveryKind, pricing: Pricing, budget: Budget) -> Charge:
    """Return what a delivery costs: a view nothing, a flat price with the first billed impression."""
    match kind, pricing.model:
        case "impression", "cpm":
            return Charge(micros=pricing.price_micros // IMPRESSIONS_PER_CPM, impressions=1)
        case "impression", "flat":
            return Charge(micros=0 if budget.impressions else pricing.price_micros, impressions=1)
        case "impression", _:
            return Charge(micros=0, impressions=1)
        case "click", "cpc":
            return Charge(micros=pricing.price_micros, impressions=0)
        case _:
            return Charge(micros=0, impressions=0)


def on_day(budget: Budget, now: datetime) -> Budget:
    """Return the budget as of a moment: a new day has nothing spent; a clock that steps back opens no old day again."""
    day = local_date(now, budget.timezone)
    if day <= budget.day:
        return budget
    return structs.replace(budget, day=day, day_spent_micros=0, day_impressions=0)


def affords(budget: Budget, charge: Charge) -> bool:
    """Tell whether a charge is within every limit, on the budget's day."""
    return (
        _within(budget.spent_micros, charge.micros, budget.budget_micros)
        and _within(budget.day_spent_micros, charge.micros, budget.daily_budget_micros)
        and _within(budget.impressions, charge.impressions, budget.impression_budget)
        and _within(budget.day_impressions, charge.impressions, budget.daily_impression_budget)
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
    return Budget(
        campaign_id=campaign_id,
        timezone=event.timezone,
        budget_micros=event.budget_micros,
        daily_budget_micros=event.daily_budget_micros,
        impression_budget=event.impression_budget,
        daily_impression_budget=event.daily_impression_budget,
    )


def relimited(budget: Budget, event: CampaignChanged, *, held: Charge, now: datetime) -> Budget:
    """Return the budget with the limits a change sets; raise BudgetBelowSpent when more is spent and held already."""
    fields = ("timezone", "budget_micros", "daily_budget_micros", "impression_budget", "daily_impression_budget")
    named = {name: value for name in fields if (value := getattr(event, name)) is not UNSET}
    after = structs.replace(on_day(budget, now), **named)
    for limit, spent in (
        ("budget_micros", after.spent_micros + held.micros),
        ("daily_budget_micros", after.day_spent_micros + held.micros),
        ("impression_budget", after.impressions + held.impressions),
        ("daily_impression_budget", after.day_impressions + held.impressions),
    ):
        if named.get(limit) is not None and named[limit] < spent:
            raise BudgetBelowSpent(f"{spent:,} are spent and held; the {limit} cannot be less.", pointer=f"/{limit}")
    return after


def _within(spent: int, more: int, limit: int | None) -> bool:
    # What costs nothing is always affordable, so that a lowered daily limit does not turn free deliveries away.
    return limit is None or more == 0 or spent + more <= limit

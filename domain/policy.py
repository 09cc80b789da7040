"""Policy: above which amounts a campaign's budget takes effect only when a second person confirms it.

Only the budget in all is held to it. A daily budget spends nothing beyond it, and deposits are money that comes in.
"""

from typing import Final

from msgspec import structs

from domain.decider import Context, Decider, stream_of
from domain.errors import LimitsInconsistent, UnknownCurrency
from domain.events import BudgetPolicySet
from domain.iso import CURRENCIES
from domain.terms import BudgetPolicy, CampaignTerms
from domain.values import NIL


class SetBudgetPolicy(BudgetPolicy, frozen=True, kw_only=True):
    """Say above which amount budgets need a second person, by currency; of those left out they need none."""


def decide(state: BudgetPolicy | None, command: SetBudgetPolicy, _context: Context) -> tuple[BudgetPolicySet, ...]:
    """Return what follows from a command; raise UnknownCurrency, or LimitsInconsistent for a currency with two."""
    named = [limit.currency for limit in command.limits]
    for number, currency in enumerate(named):
        if currency not in CURRENCIES:
            raise UnknownCurrency(f"ISO 4217 has no currency {currency}.", pointer=f"/limits/{number}/currency")
        if currency in named[:number]:
            raise LimitsInconsistent(f"There are two limits of {currency}.", pointer=f"/limits/{number}/currency")
    return () if command.limits == (state or BudgetPolicy()).limits else (BudgetPolicySet(limits=command.limits),)


def evolve(_state: BudgetPolicy | None, event: BudgetPolicySet) -> BudgetPolicy:
    """Return the policy after an event."""
    return BudgetPolicy(limits=event.limits)


def held_back(policy: object, before: CampaignTerms | None, after: CampaignTerms) -> CampaignTerms | None:
    """Return the terms that hold until a second person has confirmed those after a change; None if nobody has to.

    What was allowed before still is. A campaign that is new, or is to be paid in another currency, begins with what one
    person may allow.
    """
    limits = policy.limits if isinstance(policy, BudgetPolicy) else ()
    limit = next((each.above_micros for each in limits if each.currency == after.currency), None)
    if limit is None or (after.budget_micros is not None and after.budget_micros <= limit):
        return None
    if before is not None and before.currency == after.currency:
        if before.budget_micros is None or before.budget_micros >= (after.budget_micros or before.budget_micros + 1):
            return None
        daily = before.daily_budget_micros
        return structs.replace(after, budget_micros=before.budget_micros, daily_budget_micros=daily)
    daily = after.daily_budget_micros
    return structs.replace(after, budget_micros=limit, daily_budget_micros=None if daily is None else min(daily, limit))


POLICY: Final = Decider("policy", decide, evolve)
POLICY_STREAM: Final = stream_of(POLICY.thing, NIL)
"""A ledger has one policy, in a stream of its own."""

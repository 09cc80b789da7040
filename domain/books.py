"""Books: the budgets that a batch concerns, as they change while it is settled.

What is set aside for or charged to a campaign is set aside for or charged to the funds of its advertiser too, always in
this order, so that the two can never disagree.
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from domain.budget import Budget, Charge, affords, charged, funded, leased, on_day, room
from domain.events import FundsMoved


class Books:
    """Budgets by id, of campaigns and of advertisers' funds, as they stand on their present days.

    Like `holds.Holds` it is mutable, because it lives as long as one batch is being settled, and no longer.
    """

    def __init__(self, budgets: Mapping[UUID, Budget], now: datetime) -> None:
        """Open the books at a moment; a budget whose day is over begins its new one."""
        self._given = {budget_id: on_day(budget, now) for budget_id, budget in budgets.items()}
        self._standing = dict(self._given)
        self._has_funds = any(budget.advertiser_id is None for budget in budgets.values())

    @property
    def changed(self) -> dict[UUID, Budget]:
        """The budgets that are no longer what they were."""
        return {key: budget for key, budget in self._standing.items() if budget is not self._given.get(key)}

    def find(self, budget_id: UUID) -> Budget | None:
        """Return a budget as it stands."""
        return self._standing.get(budget_id)

    def enter(self, budget: Budget) -> None:
        """Let a budget stand as given."""
        self._standing[budget.budget_id] = budget

    def share(self, campaign: Budget, offered: int = 0, *, workers: int = 1) -> int:
        """Return how many more impressions of a campaign one of so many workers can lease, if it gave back so many.

        Of what others may lease too, which is the case of funds with one worker already, it is at most half of an equal
        part: so leases shrink towards one as a budget drains, and nobody sits on what somebody else could promise.
        """
        if self._cannot_pay(campaign):
            return 0
        rooms = [room(campaign, _leased(each, campaign, -offered)) for each in self._of(campaign)]
        parts = (2 * workers if workers > 1 else 1, 2 * workers)
        return min(-(-left // part) for left, part in zip(rooms, parts, strict=False))

    def lease(self, campaign: Budget, impressions: int) -> Budget:
        """Return the campaign's budget with so many more impressions set aside; fewer, where the number is negative."""
        for each in self._of(campaign):
            self.enter(_leased(each, campaign, impressions))
        return self._standing[campaign.budget_id]

    def why_not(self, campaign: Budget, charge: Charge) -> str | None:
        """Return why a charge cannot be billed, if it cannot."""
        if not affords(campaign, charge):
            return "over_budget"
        funds = self._funds(campaign)
        if funds is not None and charge.micros and not (funds.currency == campaign.currency and affords(funds, charge)):
            return "over_funds"
        return None

    def charge(self, campaign: Budget, charge: Charge) -> None:
        """Bill a charge, for which there is no reason why not."""
        for each in self._of(campaign):
            self.enter(charged(each, charge))

    def fund(self, advertiser_id: UUID, event: FundsMoved) -> None:
        """Move an advertiser's funds, from which is set aside what its campaigns leased; raise FundsOutOfRange."""
        funds = self.find(advertiser_id)
        if funds is None:
            payer = (advertiser_id, event.currency)
            rows = self._standing.values()
            held = [row for row in rows if (row.advertiser_id, row.currency) == payer]
            funds = leased(
                Budget(budget_id=advertiser_id, currency=event.currency, timezone="UTC", budget_micros=0),
                sum(row.leased_impressions for row in held),
                sum(row.leased_micros for row in held),
            )
        self.enter(funded(funds, event))
        self._has_funds = True

    def _of(self, campaign: Budget) -> tuple[Budget, ...]:
        funds = self._funds(campaign)
        return (campaign,) if funds is None or funds.currency != campaign.currency else (campaign, funds)

    def _cannot_pay(self, campaign: Budget) -> bool:
        funds = self._funds(campaign)
        return funds is not None and funds.currency != campaign.currency

    def _funds(self, campaign: Budget) -> Budget | None:
        if not self._has_funds or campaign.advertiser_id is None:
            return None
        return self._standing.get(campaign.advertiser_id)


def _leased(budget: Budget, campaign: Budget, impressions: int) -> Budget:
    return leased(budget, impressions, impressions * campaign.impression_micros)

"""Books: whatever happens to the campaigns of an advertiser happens to its funds, and neither is ever overdrawn."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec import structs

from domain.books import Books
from domain.budget import UNLIMITED, Budget, Charge, DeliveryKind
from domain.delivery import settle
from domain.errors import FundsOutOfRange
from domain.events import FundsDeposited, FundsMoved, FundsWithdrawn
from domain.leasing import LeaseKey, Want, lease, reclaim
from domain.values import MICROS_MAX
from tests.domain.deliveries import CAMPAIGN_IDS, CPC, CPM, NOON, delivery, ticket
from tests.domain.strategies import law

ADVERTISER: Final = UUID(int=301)
CHARGE: Final = Charge(micros=2, impressions=1)


def campaign(number: int = 0, **fields: object) -> Budget:
    """Return the budget of a campaign of the advertiser, with impressions at two micros."""
    whole = Budget(
        budget_id=CAMPAIGN_IDS[number],
        advertiser_id=ADVERTISER,
        currency="EUR",
        timezone="UTC",
        day=NOON.date(),
        impression_micros=2,
    )
    return structs.replace(whole, **fields)


def deposit(micros: int, currency: str = "EUR") -> FundsDeposited:
    """Return a deposit."""
    return FundsDeposited(amount_micros=micros, currency=currency)


def books(*budgets: Budget, deposited: int | None = None, currency: str = "EUR") -> Books:
    """Return books with these budgets, and funds if anything was deposited."""
    opened = Books({budget.budget_id: budget for budget in budgets}, NOON)
    if deposited is not None:
        opened.fund(ADVERTISER, deposit(deposited, currency))
    return opened


def funds_in(opened: Books) -> Budget:
    """Return the advertiser's funds."""
    funds = opened.find(ADVERTISER)
    assert funds is not None
    return funds


def test_campaigns_draw_from_the_same_funds() -> None:
    """What one campaign spends, another of the same advertiser cannot."""
    one, other = campaign(0), campaign(1)
    opened = books(one, other, deposited=3)
    assert opened.why_not(one, CHARGE) is None
    opened.charge(one, CHARGE)
    assert opened.why_not(other, CHARGE) == "over_funds"
    assert (funds_in(opened).spent_micros, funds_in(opened).budget_micros) == (2, 3)
    assert opened.changed.keys() == {one.budget_id, ADVERTISER}


def test_without_a_deposit_there_is_no_limit() -> None:
    """An advertiser that never deposited anything pays in arrears."""
    opened = books(campaign())
    assert opened.why_not(campaign(), CHARGE) is None
    assert opened.share(campaign()) == MICROS_MAX // 2
    assert opened.changed == {}


def test_a_budget_that_no_advertiser_is_known_of_is_limited_by_itself() -> None:
    """Funds concern only the campaigns of their advertiser."""
    stranger = campaign(advertiser_id=None)
    opened = books(stranger, deposited=1)
    assert opened.share(stranger) == MICROS_MAX // 2


def test_what_costs_nothing_needs_no_funds() -> None:
    """Views, and impressions of a campaign that pays for clicks, are free however little there is; clicks are not."""
    opened = books(campaign(), deposited=1)
    assert opened.why_not(campaign(), Charge(impressions=1)) is None
    assert opened.why_not(campaign(), Charge(micros=1)) is None
    assert opened.why_not(campaign(), Charge(micros=2)) == "over_funds"


def test_funds_in_another_currency_pay_nothing() -> None:
    """A campaign cannot spend, nor lease, what its advertiser deposited in another currency."""
    foreign = campaign(currency="USD")
    opened = books(foreign, deposited=1_000)
    assert opened.why_not(foreign, CHARGE) == "over_funds"
    assert opened.share(foreign) == 0
    assert opened.lease(foreign, 3).leased_impressions == 3
    assert funds_in(opened).leased_micros == 0


def test_leases_are_set_aside_twice() -> None:
    """An impression that is leased is set aside of the campaign's budget and of the funds, for both have to last."""
    opened = books(campaign(impression_budget=9), deposited=10)
    after = opened.lease(campaign(impression_budget=9), 4)
    assert (after.leased_impressions, funds_in(opened).leased_micros) == (4, 8)
    assert (funds_in(opened).leased_impressions, opened.share(after, 1)) == (4, 1)


@pytest.mark.parametrize(
    ("workers", "offered", "share"), [(1, 0, 5), (2, 0, 3), (3, 0, 2), (5, 0, 1), (9, 0, 1), (1, 3, 7), (2, 2, 3)]
)
def test_funds_are_shared_with_the_other_campaigns(workers: int, offered: int, share: int) -> None:
    """One worker leases half of what the funds leave, one of several half of its part, whoever else may want the rest.

    What it would give back is divided with the rest.
    """
    opened = books(campaign(leased_impressions=3, leased_micros=6), campaign(1), deposited=26)
    found = opened.share(campaign(leased_impressions=3, leased_micros=6), offered, workers=workers)
    assert found == share
    narrow = campaign(1, impression_budget=1)
    assert opened.share(narrow, workers=workers) == 1


@pytest.mark.parametrize(("price", "expected"), [({"click_micros": 5}, 5), ({"flat_micros": 5}, 5)])
def test_there_is_room_while_the_next_price_can_be_paid(price: dict[str, int], expected: int) -> None:
    """A campaign of free impressions is served while its click, or its flat price, could be paid out of the funds."""
    paid = campaign(impression_micros=0, **price)
    assert books(paid, deposited=expected).share(paid) == UNLIMITED // 2
    assert books(paid, deposited=expected - 1).share(paid) == 0
    settled = structs.replace(paid, impressions=1)
    assert books(settled, deposited=1).share(settled) == (UNLIMITED // 2 if "flat_micros" in price else 0)


def test_the_first_deposit_sets_aside_what_is_leased() -> None:
    """What workers hold when an advertiser's first deposit comes is paid out of it."""
    opened = books(
        campaign(0, leased_impressions=3, leased_micros=6),
        campaign(1, leased_impressions=1, leased_micros=2, currency="USD"),
        deposited=1,
    )
    assert (funds_in(opened).leased_micros, funds_in(opened).budget_micros) == (6, 1)


def test_what_is_spent_or_held_cannot_be_withdrawn() -> None:
    """A withdrawal leaves what is spent and set aside; a deposit cannot go beyond what can be counted."""
    opened = books(campaign(), deposited=10)
    opened.charge(campaign(), CHARGE)
    opened.lease(campaign(), 3)
    with pytest.raises(FundsOutOfRange):
        opened.fund(ADVERTISER, FundsWithdrawn(amount_micros=3, currency="EUR"))
    opened.fund(ADVERTISER, FundsWithdrawn(amount_micros=2, currency="EUR"))
    assert funds_in(opened).budget_micros == 8
    with pytest.raises(FundsOutOfRange):
        opened.fund(ADVERTISER, deposit(MICROS_MAX - 7))


_amounts: Final = st.integers(1, 12)
_moves: Final = st.lists(
    st.tuples(st.just("charge"), st.integers(0, 1), _amounts)
    | st.tuples(st.just("lease"), st.integers(0, 1), st.integers(-3, 5))
    | st.tuples(st.sampled_from(["deposit", "withdraw"]), st.just(0), _amounts),
    max_size=30,
)


@law
@for_all(moves=_moves, limits=st.tuples(st.none() | st.integers(0, 30), st.none() | st.integers(0, 30)))
def test_nothing_is_ever_overdrawn(moves: list[tuple[str, int, int]], limits: tuple[int | None, int | None]) -> None:
    """Whatever is deposited, leased, charged and withdrawn: spent and leased are within the funds and every budget."""
    opened = books(*(campaign(number, budget_micros=limit) for number, limit in enumerate(limits)), deposited=6)
    for what, number, amount in moves:
        budget = opened.find(CAMPAIGN_IDS[number])
        assert budget is not None
        if what == "charge" and opened.why_not(budget, Charge(micros=amount, impressions=1)) is None:
            opened.charge(budget, Charge(micros=amount, impressions=1))
        elif what == "lease":
            opened.lease(budget, max(min(amount, opened.share(budget)), -budget.leased_impressions))
        elif what in {"deposit", "withdraw"}:
            kind: type[FundsMoved] = FundsDeposited if what == "deposit" else FundsWithdrawn
            before = funds_in(opened)
            try:
                opened.fund(ADVERTISER, kind(amount_micros=amount, currency="EUR"))
            except FundsOutOfRange:
                assert funds_in(opened) is before
        rows = [opened.find(campaign_id) for campaign_id in CAMPAIGN_IDS]
        campaigns = [row for row in rows if row is not None]
        for row in (*campaigns, funds_in(opened)):
            assert row.budget_micros is None or row.spent_micros + row.leased_micros <= row.budget_micros
        assert funds_in(opened).spent_micros == sum(row.spent_micros for row in campaigns)
        assert funds_in(opened).leased_micros == sum(row.leased_micros for row in campaigns)


class Ledger:
    """Two campaigns of one advertiser: their books, what is leased to whom, and what was billed of funds."""

    def __init__(self, limits: Sequence[int | None]) -> None:
        """Begin with limits of the campaigns, and no funds."""
        prices = ({"impression_micros": 2}, {"impression_micros": 0, "click_micros": 5})
        rows = [campaign(n, budget_micros=limit, **prices[n]) for n, limit in enumerate(limits)]
        self.budgets = {row.budget_id: row for row in rows}
        self.leases: dict[LeaseKey, int] = {}
        self.decisions = 0
        self.billed = 0
        self.held_before = 0

    @property
    def funds(self) -> Budget | None:
        """The advertiser's funds, once it has any."""
        return self.budgets.get(ADVERTISER)

    def fund(self, event: FundsMoved) -> None:
        """Move the funds, unless that is refused."""
        if self.funds is None and isinstance(event, FundsWithdrawn):
            return  # which the advertiser's own rules refuse
        opened = Books(self.budgets, NOON)
        if self.funds is None:
            self.held_before = sum(row.leased_micros for row in self.budgets.values())
        try:
            opened.fund(ADVERTISER, event)
        except FundsOutOfRange:
            assert opened.changed == {}
        self.budgets |= opened.changed

    def want(self, worker: int, number: int, impressions: int, offers: int) -> None:
        """Let a worker lease, give back or offer."""
        opened = Books(self.budgets, NOON)
        want = Want(campaign_id=CAMPAIGN_IDS[number], impressions=impressions, offers=offers)
        self.leases |= lease(worker, [want], workers=2, leases=self.leases, books=opened)
        self.budgets |= opened.changed

    def confirm(self, worker: int, number: int, kind: DeliveryKind) -> None:
        """Settle a delivery that a worker promised, out of its lease if it has one."""
        self.decisions += 1
        of = ticket(
            self.decisions,
            campaign_id=CAMPAIGN_IDS[number],
            worker=worker,
            pricing=(CPM, CPC)[number],
            currency="EUR",
        )
        opened = Books(self.budgets, NOON)
        (outcome,), left, _ = settle(
            [delivery(kind, of)], recorded={}, books=opened, leases=self.leases, viewings={}, now=NOON
        )
        assert outcome is not None
        if outcome.event.billed and self.funds is not None:
            self.billed += outcome.event.price_micros
        self.leases |= left
        self.budgets |= opened.changed

    def reclaim(self, worker: int) -> None:
        """Take back what a worker leased."""
        opened = Books(self.budgets, NOON)
        silent = {key: impressions for key, impressions in self.leases.items() if key[0] == worker}
        reclaim(silent, opened)
        self.leases = {key: impressions for key, impressions in self.leases.items() if key not in silent}
        self.budgets |= opened.changed

    def check(self) -> None:
        """Assert that every budget is kept, with what is leased of it."""
        campaigns = [self.budgets[campaign_id] for campaign_id in CAMPAIGN_IDS]
        for row in campaigns:
            assert row.budget_micros is None or row.spent_micros + row.leased_micros <= row.budget_micros
            assert row.leased_impressions == sum(n for key, n in self.leases.items() if key[1] == row.budget_id)
        funds = self.funds
        if funds is not None:
            assert funds.budget_micros is not None
            assert funds.spent_micros == self.billed <= funds.budget_micros
            assert funds.spent_micros + funds.leased_micros <= max(funds.budget_micros, self.held_before)
            assert funds.leased_micros == sum(row.leased_micros for row in campaigns)
            assert funds.leased_impressions == sum(row.leased_impressions for row in campaigns)


_kinds: Final = (*["impression"] * 4, *["click"] * 3, *["want"] * 4, *["deposit"] * 3, "withdraw", "reclaim")
# Long ones, because it takes some steps for anything to go wrong.
_steps: Final = st.lists(
    st.tuples(st.sampled_from(_kinds), st.integers(0, 2), st.integers(0, 1), _amounts), min_size=20, max_size=50
)


@law
@for_all(steps=_steps, limits=st.tuples(st.none() | st.integers(0, 30), st.none() | st.integers(0, 30)))
def test_nobody_spends_what_is_not_there(
    steps: list[tuple[str, int, int, int]], limits: tuple[int | None, int | None]
) -> None:
    """In whatever order money moves, workers lease and fall silent, and deliveries come in: all limits are kept.

    What is billed from the first deposit on is never more than the funds, and neither is it with what is leased, unless
    more than the first deposit was leased before it.
    """
    ledger = Ledger(limits)
    for what, worker, number, amount in steps:
        match what:
            case "want":
                ledger.want(worker, number, amount - 4, offers=worker)
            case "impression" | "click":
                ledger.confirm(worker, number, "impression" if what == "impression" else "click")
            case "reclaim":
                ledger.reclaim(worker)
            case "deposit":
                ledger.fund(deposit(amount))
            case _:
                ledger.fund(FundsWithdrawn(amount_micros=amount, currency="EUR"))
        ledger.check()

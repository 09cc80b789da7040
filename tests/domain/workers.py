"""Workers beside a ledger: everything that may happen between what is leased, promised, confirmed and given back.

What a worker hears of the ledger comes late, and may be lost: answers and the confirmations of its own process in the
order of commits, what other workers confirmed at any time.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from hypothesis import strategies as st
from msgspec import structs

from domain.budget import Budget, DeliveryKind, on_day, price_of_click, price_of_impression, relimited
from domain.errors import BudgetBelowSpent
from domain.events import CampaignChanged
from domain.holds import Holds
from domain.leasing import LEASE_SECONDS, LeaseKey
from domain.values import Pricing
from tests.domain.deliveries import (
    CAMPAIGN_ID,
    NOON,
    delivery,
    is_within_limits,
    leased_to,
    reclaimed,
    recorded_after,
    settled_on,
    ticket,
)

HOLD_SECONDS: Final = 60
SILENCE_SECONDS: Final = LEASE_SECONDS + HOLD_SECONDS
"""After so long a silence the ledger takes a worker's leases back."""


class Promise(NamedTuple):
    """What a worker promised, and the second from which it is held no more."""

    worker: int
    until: int


class Ledger:
    """A ledger with one campaign, and the workers that promise its impressions."""

    def __init__(self, pricing: Pricing, budget: Budget) -> None:
        """Begin at noon, with nobody at work."""
        self.pricing = pricing
        self.budget = structs.replace(
            budget,
            impression_micros=price_of_impression(pricing),
            click_micros=price_of_click(pricing),
            flat_micros=pricing.price_micros if pricing.model == "flat" else 0,
        )
        self.leases: dict[LeaseKey, int] = {}
        self.recorded: dict[UUID, frozenset[DeliveryKind]] = {}
        self.promises: dict[int, Promise] = {}
        self.holds: dict[int, Holds] = {}
        self.heard: dict[int, float] = {}
        self.inbox: dict[int, list[Callable[[], None]]] = {}
        self.notices: list[tuple[int, UUID]] = []
        self.tick = 0.0

    @property
    def now(self) -> datetime:
        """What every clock says."""
        return NOON + timedelta(seconds=self.tick)

    def start(self) -> int:
        """Let a worker begin, under a number that was never used; return the number."""
        worker = len(self.inbox) + 1
        self.holds[worker] = Holds(worker)
        self.holds[worker].know({CAMPAIGN_ID})
        self.inbox[worker] = []
        return worker

    def kill(self, worker: int) -> None:
        """Let a worker fall silent for ever."""
        del self.holds[worker]

    def ask(self, worker: int) -> None:
        """Let a worker ask for what it wants; the answer waits in its inbox."""
        holds, asked = self.holds[worker], self.tick
        wants = holds.wants(asked)
        if not wants and not holds.is_due(asked):
            return
        self.heard[worker] = asked
        self._forget_the_silent()
        after, changed = leased_to(
            worker, wants, workers=len(self.heard), leases=self.leases, budgets={CAMPAIGN_ID: self.budget}, now=self.now
        )
        self.leases |= after
        self.budget = changed.get(CAMPAIGN_ID, self.budget)
        answer = {campaign_id: impressions for (_, campaign_id), impressions in after.items()}
        self.inbox[worker].append(lambda: holds.granted(answer, asked=asked))

    def read(self, worker: int) -> None:
        """Let a worker take note of all that its own process was answered, in the order of commits."""
        while self.inbox[worker]:
            self.inbox[worker].pop(0)()

    def notice(self) -> None:
        """Let the workers take note of what others confirmed."""
        for worker, decision_id in self.notices:
            if worker in self.holds:
                self.holds[worker].confirm_elsewhere([decision_id])
        self.notices.clear()

    def promise(self, worker: int) -> bool:
        """Let a worker promise one impression more, if it can."""
        decision = len(self.promises) + 1
        took = self.holds[worker].take(CAMPAIGN_ID, UUID(int=decision), tick=self.tick, hold_seconds=HOLD_SECONDS)
        if took:
            self.promises[decision] = Promise(worker, int(self.now.timestamp()) + HOLD_SECONDS)
        return took

    def deliver(self, kind: DeliveryKind, decision: int, through: int) -> None:
        """Settle a delivery that comes in through a worker; an impression that was held has to be billed."""
        worker, until = self.promises[decision]
        expected = kind == "impression" and self.is_open(decision)
        delivered = delivery(
            kind,
            ticket(decision, pricing=self.pricing, worker=worker, hold_expires_at=until, expires_at=2**40),
        )
        (outcome,), changed, left = settled_on(
            [delivered],
            recorded=self.recorded,
            budgets={CAMPAIGN_ID: self.budget},
            leases=self.leases,
            now=self.now,
        )
        self.recorded = recorded_after(self.recorded, delivered, outcome)
        self.budget = changed.get(CAMPAIGN_ID, self.budget)
        self.leases |= left
        assert not expected or (outcome is not None and outcome.event.billed)
        if kind == "impression" and outcome is not None:
            decision_id = delivered.ticket.decision_id
            if through == worker and worker in self.holds:
                holds = self.holds[worker]
                self.inbox[worker].append(lambda: holds.confirm(decision_id))
            else:
                self.notices.append((worker, decision_id))

    def relimit(self, limits: dict[str, Any]) -> None:
        """Change limits, as far as what is spent and leased allows, and a flat price remains payable."""
        if self.pricing.model == "flat":
            limits = {name: limit for name, limit in limits.items() if "micros" not in name}
        try:
            self.budget = relimited(self.budget, CampaignChanged(**limits), self.now)
        except BudgetBelowSpent:
            assert limits

    def is_open(self, decision: int) -> bool:
        """Tell whether a promise is held still and no impression of it was recorded."""
        is_recorded = "impression" in self.recorded.get(UUID(int=decision), ())
        return not is_recorded and self.now.timestamp() < self.promises[decision].until

    def is_kept(self) -> bool:
        """Tell whether every limit is kept, every lease set aside, and every open promise covered by a lease."""
        budget = on_day(self.budget, self.now)
        open_of: dict[int, int] = {}
        for decision, (worker, _) in self.promises.items():
            open_of[worker] = open_of.get(worker, 0) + self.is_open(decision)
        return (
            is_within_limits(budget, micros=budget.leased_micros, impressions=budget.leased_impressions)
            and sum(self.leases.values()) == budget.leased_impressions
            and budget.leased_micros == budget.leased_impressions * budget.impression_micros
            and all(self.leases.get((worker, CAMPAIGN_ID), 0) >= count for worker, count in open_of.items())
        )

    def settle_down(self) -> None:
        """Let everybody fall silent, and the ledger take everything back."""
        self.holds.clear()
        self.tick += SILENCE_SECONDS
        self._forget_the_silent()

    def _forget_the_silent(self) -> None:
        silent = [worker for worker, heard in self.heard.items() if heard + SILENCE_SECONDS <= self.tick]
        returned = {key: impressions for key, impressions in self.leases.items() if key[0] in silent}
        for worker in silent:
            del self.heard[worker]
        self.leases = {key: impressions for key, impressions in self.leases.items() if key not in returned}
        self.budget = reclaimed(returned, {CAMPAIGN_ID: self.budget}, self.now).get(CAMPAIGN_ID, self.budget)


Move = tuple[str, int, int]
"""What happens, at which of the workers that live, and to which of the last promises or for how long."""

SECONDS: Final = (0.1, 0.5, 1.0, 5.0, LEASE_SECONDS, HOLD_SECONDS, SILENCE_SECONDS, 12 * 3_600)
_moves: Final = (
    *("promise", "impression") * 5,
    *("ask and read",) * 3,
    *("ask", "read", "notice") * 2,
    *("click", "clock", "lose notices", "lose answers", "ask in vain", "kill", "stock"),
)
_move: Final = st.tuples(st.sampled_from(_moves), st.integers(0, 1), st.integers(0, 7))
# Long ones, because it takes some moves for anything to go wrong.
moves: Final = st.lists(_move, min_size=40, max_size=70)


def happen(ledger: Ledger, move: Move) -> None:
    """Let one thing happen."""
    what, nth, which = move
    worker = list(ledger.holds)[nth]
    match what:
        case "promise":
            ledger.promise(worker)
        case "impression" | "click":
            if ledger.promises:
                ledger.deliver(what, len(ledger.promises) - which % len(ledger.promises), worker)
        case "ask":
            ledger.ask(worker)
        case "read":
            ledger.read(worker)
        case "ask and read":
            ledger.ask(worker)
            ledger.read(worker)
        case "clock":
            ledger.tick += SECONDS[which]
        case "notice":
            ledger.notice()
        case "lose notices":
            ledger.notices.clear()
        case "lose answers":
            ledger.inbox[worker].clear()
        case "ask in vain":
            ledger.holds[worker].wants(ledger.tick)
        case "stock":
            ledger.holds[worker].know({CAMPAIGN_ID} if which else ())
        case "kill":
            ledger.kill(worker)
            ledger.start()


def ledger_of(budget: Budget, pricing: Pricing) -> Ledger:
    """Return a ledger with two workers; a flat price is payable, as the rules of campaigns demand."""
    if pricing.model == "flat":
        named = {name: getattr(budget, name) for name in ("budget_micros", "daily_budget_micros")}
        payable = {name: limit and max(limit, pricing.price_micros) for name, limit in named.items()}
        budget = structs.replace(budget, **payable)
    ledger = Ledger(pricing, budget)
    for _ in range(2):
        ledger.start()
    return ledger

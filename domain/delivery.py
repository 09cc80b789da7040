"""Deliveries: what becomes of a batch of impressions, views and clicks, decided under the lock of the ledger.

Counting is not billing: every authentic delivery is recorded once; whether it is billed is written into its event.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from msgspec import Struct

from domain.budget import Budget, DeliveryKind, affords, charged, leased, on_day, price_of
from domain.events import ClickRecorded, DeliveryEvent, ImpressionRecorded, ViewRecorded
from domain.leasing import LeaseKey
from domain.values import Pricing

EVENT_OF: Final[Mapping[DeliveryKind, type[DeliveryEvent]]] = {
    "impression": ImpressionRecorded,
    "view": ViewRecorded,
    "click": ClickRecorded,
}


class Ticket(Struct, frozen=True, kw_only=True, array_like=True):
    """What a decision promised, as its signed tokens carry it; array-like because tokens travel in URLs."""

    decision_id: UUID
    campaign_id: UUID
    creative_id: UUID
    advertiser_id: UUID
    slot_id: UUID
    country: str | None
    region: str | None
    city: str | None
    viewer: str | None
    expires_at: int
    hold_expires_at: int
    worker: int
    pricing: Pricing
    currency: str
    test: bool


class Delivery(Struct, frozen=True, kw_only=True):
    """One beacon: what happened to which decision, when it is said to have happened."""

    kind: DeliveryKind
    ticket: Ticket
    occurred_at: datetime


class Settled(NamedTuple):
    """A delivery that is recorded: its version in the decision's stream, and its event."""

    version: int
    event: DeliveryEvent


class Settlement(NamedTuple):
    """For each delivery what is recorded (None: it was recorded before), and the budgets and leases that changed."""

    outcomes: tuple[Settled | None, ...]
    budgets: dict[UUID, Budget]
    leases: dict[LeaseKey, int]


def settle(
    deliveries: Sequence[Delivery],
    *,
    recorded: Mapping[UUID, frozenset[DeliveryKind]],
    budgets: Mapping[UUID, Budget],
    leases: Mapping[LeaseKey, int],
    now: datetime,
) -> Settlement:
    """Return what a batch adds to the log, the budgets and the leases, in the order of the batch.

    `recorded` holds what the log has of each decision, `budgets` the rows of the campaigns concerned, `leases` how many
    impressions are left of the leases that the decisions were promised from.
    """
    seen = dict(recorded)
    changed: dict[UUID, Budget] = {}
    left: dict[LeaseKey, int] = {}
    outcomes: list[Settled | None] = []
    for delivery in deliveries:
        ticket = delivery.ticket
        kinds = seen.get(ticket.decision_id, frozenset())
        if delivery.kind in kinds:
            outcomes.append(None)
            continue
        seen[ticket.decision_id] = kinds | {delivery.kind}
        budget = changed.get(ticket.campaign_id) or budgets.get(ticket.campaign_id)
        if budget is None:
            outcomes.append(Settled(len(kinds) + 1, _event(delivery, 0, "unknown_campaign")))
            continue
        budget = on_day(budget, now)
        key = (ticket.worker, ticket.campaign_id)
        impressions = left.get(key, leases.get(key, 0))
        if impressions and delivery.kind == "impression" and is_held(ticket, now):
            # What was set aside for this impression is free for it now, and for nothing else.
            left[key] = impressions - 1
            budget = changed[ticket.campaign_id] = leased(budget, -1)
        event, after = bill(delivery, budget, now)
        if after is not None:
            changed[ticket.campaign_id] = after
        outcomes.append(Settled(len(kinds) + 1, event))
    return Settlement(tuple(outcomes), changed, left)


def is_held(ticket: Ticket, now: datetime) -> bool:
    """Tell whether a decision still holds the impression that it promised."""
    return not ticket.test and now.timestamp() < ticket.hold_expires_at


def bill(delivery: Delivery, budget: Budget, now: datetime) -> tuple[DeliveryEvent, Budget | None]:
    """Return the event of a delivery, and the budget (as of its day) after it when the delivery is billed."""
    ticket = delivery.ticket
    charge = price_of(delivery.kind, ticket.pricing, budget)
    reason = _why_unbilled(ticket, now) or (None if affords(budget, charge) else "over_budget")
    if reason is not None:
        return _event(delivery, charge.micros, reason), None
    return _event(delivery, charge.micros, None), charged(budget, charge)


def _why_unbilled(ticket: Ticket, now: datetime) -> str | None:
    if ticket.test:
        return "test"
    if now.timestamp() > ticket.expires_at:
        return "late"
    return None


def _event(delivery: Delivery, price_micros: int, reason: str | None) -> DeliveryEvent:
    ticket = delivery.ticket
    return EVENT_OF[delivery.kind](
        campaign_id=ticket.campaign_id,
        creative_id=ticket.creative_id,
        advertiser_id=ticket.advertiser_id,
        slot_id=ticket.slot_id,
        country=ticket.country,
        region=ticket.region,
        city=ticket.city,
        viewer=ticket.viewer,
        currency=ticket.currency,
        price_micros=price_micros,
        billed=reason is None,
        reason=reason,
    )


def concerned(deliveries: Iterable[Delivery]) -> frozenset[UUID]:
    """Return the campaigns whose budgets a batch may charge."""
    return frozenset(delivery.ticket.campaign_id for delivery in deliveries)

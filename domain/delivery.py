"""Deliveries: what becomes of a batch of impressions, views and clicks, decided under the lock of the ledger.

Counting is not billing: every authentic delivery is recorded once; whether it is billed is written into its event.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, get_args
from uuid import UUID

from msgspec import Struct

from domain.basis import Basis
from domain.books import Books
from domain.budget import Budget, DeliveryKind, PlaybackKind, price_of
from domain.events import (
    ClickRecorded,
    CompleteRecorded,
    DeliveryEvent,
    ErrorRecorded,
    FirstQuartileRecorded,
    ImpressionRecorded,
    MidpointRecorded,
    StartRecorded,
    ThirdQuartileRecorded,
    ViewRecorded,
)
from domain.frequency import Cap, Viewing, ViewingKey, counted, is_reached, seen
from domain.leasing import LeaseKey
from domain.validity import RULES, Invalid, is_invalid
from domain.values import Pricing

PLAYBACK: Final[tuple[PlaybackKind, ...]] = get_args(PlaybackKind)
"""What players report: recorded like everything else, and free."""

EVENT_OF: Final[Mapping[DeliveryKind, type[DeliveryEvent]]] = {
    "impression": ImpressionRecorded,
    "view": ViewRecorded,
    "click": ClickRecorded,
    "start": StartRecorded,
    "first_quartile": FirstQuartileRecorded,
    "midpoint": MidpointRecorded,
    "third_quartile": ThirdQuartileRecorded,
    "complete": CompleteRecorded,
    "error": ErrorRecorded,
}


class Ticket(Struct, frozen=True, kw_only=True, array_like=True):
    """What a decision promised, as its signed tokens carry it; array-like because tokens travel in URLs.

    Only tokens of impressions carry the basis of the decision. `earlier` is the viewer's pseudonym of the period
    before, where caps still count what was seen under it; it is not recorded.
    """

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
    campaign_cap: Cap | None = None
    creative_cap: Cap | None = None
    basis: Basis | None = None
    earlier: str | None = None


class Delivery(Struct, frozen=True, kw_only=True):
    """One beacon: what happened to which decision, when it is said to have happened; of an error, VAST's code."""

    kind: DeliveryKind
    ticket: Ticket
    occurred_at: datetime
    error_code: int | None = None
    invalid: Invalid | None = None
    """Why it is invalid, as far as the door could tell."""

    needs_impression: bool = False
    """Whether it is invalid, too, unless an impression of the decision counts already."""


class Settled(NamedTuple):
    """A delivery that is recorded: its version in the decision's stream, and its event."""

    version: int
    event: DeliveryEvent


class Settlement(NamedTuple):
    """For each delivery what is recorded (None: it was recorded before), and the leases and viewings that changed."""

    outcomes: tuple[Settled | None, ...]
    leases: dict[LeaseKey, int]
    viewings: dict[ViewingKey, Viewing]


def settle(
    deliveries: Sequence[Delivery],
    *,
    recorded: Mapping[UUID, frozenset[str]],
    books: Books,
    leases: Mapping[LeaseKey, int],
    viewings: Mapping[ViewingKey, Viewing],
    now: datetime,
) -> Settlement:
    """Return what a batch adds to the log, the leases and the viewings, in the order of the batch, and charge `books`.

    `recorded` holds the marks (see `mark`) of what the log has of each decision, `leases` how many impressions are left
    of the leases that the decisions were promised from, `viewings` what their viewers have seen of what is capped.
    """
    second = now.timestamp()
    seen_kinds = dict(recorded)
    left: dict[LeaseKey, int] = {}
    standing = dict(viewings)
    outcomes: list[Settled | None] = []
    for delivery in deliveries:
        ticket = delivery.ticket
        kinds = seen_kinds.get(ticket.decision_id, frozenset())
        if delivery.kind in kinds:
            outcomes.append(None)
            continue
        invalid = _why_invalid(delivery, kinds)
        marked = mark(delivery.kind, invalid)
        if marked in kinds:
            outcomes.append(None)
            continue
        seen_kinds[ticket.decision_id] = kinds | {marked}
        budget = books.find(ticket.campaign_id)
        if budget is None:
            outcomes.append(Settled(len(kinds) + 1, _event(delivery, 0, invalid or "unknown_campaign")))
            continue
        if invalid is None and ticket.worker and delivery.kind == "impression" and is_held(ticket, second):
            key = (ticket.worker, ticket.campaign_id)
            impressions = left.get(key, leases.get(key, 0))
            if impressions:
                # What was set aside for this impression is free for it now, and for nothing else.
                left[key] = impressions - 1
                budget = books.lease(budget, -1)
        reason = invalid or _why_unbilled(ticket, second)
        if reason is None and delivery.kind == "impression" and (ticket.campaign_cap or ticket.creative_cap):
            reason = _why_capped(ticket, standing, int(second))
        outcomes.append(Settled(len(kinds) + 1, bill(delivery, budget, books, reason)))
    viewed = {key: viewing for key, viewing in standing.items() if viewing is not viewings.get(key)}
    return Settlement(tuple(outcomes), left, viewed)


def mark(kind: DeliveryKind, reason: str | None) -> str:
    """Return the name under which a decision has a delivery at most once; invalid ones have one of their own.

    So an invalid beacon takes nothing from a valid one that comes after it; what comes after a valid one adds nothing.
    """
    return f"invalid {kind}" if is_invalid(reason) else kind


def is_held(ticket: Ticket, second: float) -> bool:
    """Tell whether a decision still holds the impression that it promised, at a moment in seconds since 1970."""
    return not ticket.test and second < ticket.hold_expires_at


def bill(delivery: Delivery, budget: Budget, books: Books, reason: str | None) -> DeliveryEvent:
    """Return the event of a delivery, and charge its campaign's budget unless there is a reason not to."""
    charge = price_of(delivery.kind, delivery.ticket.pricing, budget)
    reason = reason or books.why_not(budget, charge)
    if reason is None:
        books.charge(budget, charge)
    return _event(delivery, charge.micros, reason)


def caps_of(ticket: Ticket) -> Iterator[tuple[ViewingKey, Cap]]:
    """Yield what an impression counts as seen of, by whom, and the cap of each; nothing when nobody knows by whom."""
    if ticket.viewer is not None:
        if ticket.campaign_cap is not None:
            yield (ticket.campaign_id, ticket.viewer), ticket.campaign_cap
        if ticket.creative_cap is not None:
            yield (ticket.creative_id, ticket.viewer), ticket.creative_cap


def _why_invalid(delivery: Delivery, kinds: frozenset[str]) -> Invalid | None:
    if delivery.ticket.test:
        return None
    if delivery.invalid is None and delivery.needs_impression and "impression" not in kinds:
        return "invalid:no_impression"
    return delivery.invalid


def _why_unbilled(ticket: Ticket, second: float) -> str | None:
    if ticket.test:
        return "test"
    if second > ticket.expires_at:
        return "late"
    return None


def _why_capped(ticket: Ticket, viewings: dict[ViewingKey, Viewing], second: int) -> str | None:
    """Return that an impression is beyond a cap, if it is; else note that the viewer has seen it."""
    after: dict[ViewingKey, Viewing] = {}
    for key, cap in caps_of(ticket):
        viewing = viewings.get(key, Viewing())
        before = viewings.get((key[0], ticket.earlier), Viewing()) if ticket.earlier is not None else Viewing()
        if is_reached(viewing, cap, second, open_views=counted(before, cap, second)):
            return "over_cap"
        after[key] = seen(viewing, cap, second)
    viewings.update(after)
    return None


def _event(delivery: Delivery, price_micros: int, reason: str | None) -> DeliveryEvent:
    ticket = delivery.ticket
    kind: Callable[..., DeliveryEvent] = EVENT_OF[delivery.kind]
    return kind(
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
        rules=RULES,
        **({"code": delivery.error_code} if delivery.kind == "error" else {}),
        **({"basis": ticket.basis} if delivery.kind == "impression" and ticket.basis is not None else {}),
    )


def concerned(deliveries: Iterable[Delivery]) -> frozenset[UUID]:
    """Return the campaigns whose budgets a batch may charge."""
    return frozenset(delivery.ticket.campaign_id for delivery in deliveries)


def viewings_of(deliveries: Iterable[Delivery]) -> frozenset[ViewingKey]:
    """Return what is capped among the impressions of a batch, each with its viewer by every name that counts."""
    tickets = [each.ticket for each in deliveries if each.kind == "impression" and each.invalid is None]
    keys = {key for ticket in tickets for key, _ in caps_of(ticket)}
    keys |= {(key[0], ticket.earlier) for ticket in tickets if ticket.earlier is not None for key, _ in caps_of(ticket)}
    return frozenset(keys)

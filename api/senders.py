"""Who sends a beacon, as the request and the memory of the process tell: what the rules of valid traffic ask about."""

from contextlib import suppress
from datetime import datetime
from typing import Final, NamedTuple

from litestar.types import HTTPScope

from api.open_ledgers import OpenLedger
from api.problems import Unauthenticated
from api.services import Services
from domain.budget import DeliveryKind
from domain.delivery import Delivery, Ticket
from domain.terms import SlotTerms
from domain.validity import Agent, Invalid, Signs, why_invalid
from infra.agents import agent_of

_PREFETCH_HEADERS: Final = frozenset({b"sec-purpose", b"purpose", b"x-purpose", b"x-moz"})
_UNKNOWN_SLOT: Final = SlotTerms(name="unknown", ad_type="top_bar_ad")
"""What holds for a slot that this process has not heard of yet."""


class Sender(NamedTuple):
    """Who sends a request: whether ahead of need, under which name, from where, and with whose slot key, if any."""

    prefetched: bool
    agent: Agent
    address: str
    vouched_by: OpenLedger | None


def exchange(ledger: OpenLedger) -> Sender:
    """Return who alone has the token of a ledger's notice, and so reports for others, from wherever its servers are."""
    return Sender(prefetched=False, agent="unnamed", address="", vouched_by=ledger)


def sender_of(services: Services, scope: HTTPScope) -> Sender:
    """Return who sends a request."""
    headers = dict(scope["headers"])
    authorization = headers.get(b"authorization")
    return Sender(
        prefetched=not _PREFETCH_HEADERS.isdisjoint(headers),
        agent=agent_of(headers.get(b"user-agent", b"")),
        address=scope["client"][0] if scope["client"] else "",
        vouched_by=None if authorization is None else _voucher(services, authorization),
    )


def delivered(
    services: Services, ledger: OpenLedger, sender: Sender, kind: DeliveryKind, ticket: Ticket, occurred_at: datetime
) -> Delivery:
    """Return what a beacon says, marked as invalid if the rules say so."""
    slot = ledger.serving.slot(ticket.slot_id) or _UNKNOWN_SLOT
    vouched = sender.vouched_by is ledger
    signs = Signs(
        prefetched=sender.prefetched,
        agent=sender.agent,
        in_data_centre=sender.address in services.data_centres,
        too_active=not vouched and services.activity.is_too_much(kind, ticket.viewer, sender.address),
        vouched=vouched,
    )
    return Delivery(
        kind=kind,
        ticket=ticket,
        occurred_at=occurred_at,
        invalid=why_invalid(signs, only_browsers=slot.traffic == "browser"),
        needs_impression=kind == "click" and slot.click_without_impression == "invalid",
    )


def why_no_conversion(sender: Sender) -> Invalid | None:
    """Return why what somebody reports is no conversion: advertisers' servers may report any, crawlers none."""
    signs = Signs(prefetched=sender.prefetched, agent=sender.agent, vouched=True)
    return why_invalid(signs, only_browsers=False)


def _voucher(services: Services, authorization: bytes) -> OpenLedger | None:
    with suppress(Unauthenticated):
        return services.ledgers.of_slot_key(authorization.decode("latin-1").partition(" ")[2].strip())
    return None

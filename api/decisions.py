"""The door of ad slots: which creative to show. No request here touches the database."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from litestar import Controller, Request, get, post
from litestar.openapi.spec import SecurityRequirement
from litestar.params import RequestBody
from msgspec import Struct

from api import problems
from api.access import bearer, caller_of, permit
from api.answers import DecisionResponse, PlacementDecision
from api.open_ledgers import OpenLedger
from api.pages import Filling, Wish
from api.problems import Unauthenticated
from api.services import Services, services_of
from domain.ad_request import AdRequest
from domain.explanation import explain

SLOT_KEY: Final[tuple[SecurityRequirement, ...]] = ({"slot_key": []},)


class AdSlot(Struct, frozen=True, kw_only=True):
    """An active slot of the ledger, as those see it who hold a slot key."""

    id: UUID
    name: str
    ad_type: str
    width: int | None
    height: int | None


class DecisionController(Controller):
    """Asking for creatives, with the key of any slot of the ledger."""

    tags = ("ad slots",)

    @post("/decisions", operation_id="decide", status_code=200, security=SLOT_KEY, responses=problems.DECIDING)
    async def decide(self, data: RequestBody[AdRequest], request: Request[Any, Any, Any]) -> DecisionResponse:
        """Choose creatives for the placements of a page; the first impression of each is held for a while.

        With an access token in place of a slot key, `explain` tells what would be chosen and why, and nothing is held.
        """
        services = services_of(request)
        if data.explain:
            permit(request, "manage")
            return await rehearse(services, services.ledgers.of(caller_of(request).ledger), data)
        ledger = services.ledgers.of_slot_key(bearer(request))
        return decide(services, ledger, data, str(request.base_url).rstrip("/"))

    @get("/slots", operation_id="list_ad_slots", security=SLOT_KEY, responses=problems.REPORTING)
    async def list_slots(self, request: Request[Any, Any, Any]) -> list[AdSlot]:
        """List the active slots that a slot key may ask creatives for."""
        ledger = services_of(request).ledgers.of_slot_key(bearer(request))
        return [
            AdSlot(id=slot_id, name=slot.name, ad_type=slot.ad_type, width=slot.width, height=slot.height)
            for slot_id, slot in ledger.serving.snapshot.slots.items()
        ]


def decide(
    services: Services,
    ledger: OpenLedger,
    request: AdRequest,
    base_url: str,
    wishes: Mapping[str, Wish] = MappingProxyType({}),
) -> DecisionResponse:
    """Choose creatives of a ledger for the placements of a page; raise UnknownReference with nothing held.

    `base_url` is the address that was asked: beacons go to the same, unless the settings name another. `wishes` are
    those of placements, by their ids.
    """
    if request.explain:  # which is not for whoever holds a slot key
        raise Unauthenticated
    page = Filling(services, ledger, request, services.settings.public_url or base_url, wishes)
    page.fill()
    return DecisionResponse(id=request.id, decisions=page.decided())


async def rehearse(services: Services, ledger: OpenLedger, request: AdRequest) -> DecisionResponse:
    """Say what each placement of a page would get, and why; nothing is held, signed or counted."""
    page, catalogue = Filling(services, ledger, request, ""), ledger.serving.catalogue()
    page.fill()
    decisions = []
    for placement, reason, known in page.rehearsed():
        explanations = [
            # In a thread, so that requests are answered meanwhile.
            await asyncio.to_thread(explain, catalogue, basis, placement.slot_id, request.geo, page.now, chosen)
            for chosen, basis in known
        ]
        decisions.append(
            PlacementDecision(placement_id=placement.id, ads=[], no_bid_reason=reason, explanations=explanations)
        )
    return DecisionResponse(id=request.id, decisions=decisions)

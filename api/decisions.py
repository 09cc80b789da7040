"""The door of ad slots: which creative to show. No request here touches the database."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from time import monotonic
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import UUID

from litestar import Controller, Request, get, post
from litestar.openapi.spec import SecurityRequirement
from litestar.params import RequestBody
from msgspec import Struct, structs

from api import problems
from api.access import bearer, permit
from api.answers import (
    CLICK_PATH,
    FRAME_PATH,
    IMPRESSION_PATH,
    MEDIA_PATH,
    VIEW_PATH,
    Ad,
    DecisionResponse,
    NoBidReason,
    PlacementDecision,
)
from api.problems import Unauthenticated
from api.services import Services, services_of
from domain.ad_request import AdRequest, Placement, may_identify
from domain.basis import Basis
from domain.choosing import Candidate, Snapshot, eligible, of_subjects
from domain.delivery import Ticket
from domain.errors import UnknownRating, UnknownReference
from domain.explanation import basis_of, explain, second_of
from domain.iso import alpha_2
from domain.pacing import passes
from domain.pods import Pod, fill, is_filled
from domain.precedence import choose
from domain.rating import is_known
from domain.terms import SlotTerms
from infra import clock, metrics
from infra.devices import device_type_of
from infra.ledger_keys import draw, pseudonym
from infra.slot_keys import digest

SLOT_KEY: Final[tuple[SecurityRequirement, ...]] = ({"slot_key": []},)

_NOTHING: Final[AbstractSet[UUID]] = frozenset()

OFFERED_PER_POD_MAX: Final = 40
"""How many creatives are looked at to fill a pod."""

_Taken = tuple[Candidate, UUID]
"""A creative that is held, and its decision."""


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
        if data.explain:
            permit("manage", request)
            return await rehearse(services_of(request), data)
        return decide(services_of(request), data, bearer(request), str(request.base_url).rstrip("/"))

    @get("/slots", operation_id="list_ad_slots", security=SLOT_KEY, responses=problems.REPORTING)
    async def list_slots(self, request: Request[Any, Any, Any]) -> list[AdSlot]:
        """List the active slots that a slot key may ask creatives for."""
        services = services_of(request)
        slot_of(request, services)
        return [
            AdSlot(id=slot_id, name=slot.name, ad_type=slot.ad_type, width=slot.width, height=slot.height)
            for slot_id, slot in services.serving.snapshot.slots.items()
        ]


class Wish(NamedTuple):
    """What a placement takes of what its slot does, and the pod that it makes of it, if it is one."""

    admits: Callable[[Candidate], bool]
    pod: Pod | None = None


def decide(
    services: Services,
    request: AdRequest,
    slot_key: str,
    base_url: str,
    wishes: Mapping[str, Wish] = MappingProxyType({}),
) -> DecisionResponse:
    """Choose creatives for the placements of a page; raise Unauthenticated or UnknownReference with nothing held.

    `base_url` is the address that was asked: beacons go to the same, unless the settings name another. `wishes` are
    those of placements, by their ids.
    """
    if request.explain:  # which is not for whoever holds a slot key
        raise Unauthenticated
    _slot_of_key(services, slot_key)
    page = _Page(services, request, services.settings.public_url or base_url, wishes)
    return DecisionResponse(id=request.id, decisions=[page.fill(number) for number in range(len(request.placements))])


async def rehearse(services: Services, request: AdRequest) -> DecisionResponse:
    """Say what each placement of a page would get, and why; nothing is held, signed or counted."""
    page, catalogue = _Page(services, request, ""), services.serving.catalogue()
    decisions = [page.fill(number) for number in range(len(request.placements))]
    for number, (placement, chosen, basis) in enumerate(page.rehearsed):
        # In a thread, so that requests are answered meanwhile.
        told = await asyncio.to_thread(explain, catalogue, basis, placement.slot_id, request.geo, page.now, chosen)
        decisions[number] = structs.replace(decisions[number], explanation=told)
    return DecisionResponse(id=request.id, decisions=decisions)


class _Page:
    """The placements of one request, filled one after the other, no creative twice.

    Of a request for explanations nothing is held, signed or counted; what was found is in `rehearsed`.
    """

    def __init__(
        self, services: Services, request: AdRequest, base_url: str, wishes: Mapping[str, Wish] = MappingProxyType({})
    ) -> None:
        """Raise UnknownReference when one of their slots is not active."""
        self._services = services
        self._wishes = wishes
        self._serving = services.serving
        self._snapshot = services.serving.snapshot
        self._request = request = _completed(request, self._snapshot)
        self._base_url = base_url
        # A wall clock that was set back must not stamp promises that the log would take for expired.
        self.now = self._now = max(clock.now(), services.log.writer.recorded_at)
        self._tick = monotonic()
        self._shown: list[UUID] = []
        self.rehearsed: list[tuple[Placement, UUID | None, Basis]] = []
        self._country = request.geo.country and alpha_2(request.geo.country)
        viewer = request.viewer.id if may_identify(request) else None
        self._viewer = viewer and pseudonym(services.ledger_keys.viewer, viewer)
        # All of them before anything is held for any.
        self._slots = [self._slot(number, placement) for number, placement in enumerate(request.placements)]

    def fill(self, number: int) -> PlacementDecision:
        """Return what the placement of that number gets."""
        placement, slot = self._request.placements[number], self._slots[number]
        bits = eligible(self._snapshot, self._request, placement, creatives=self._shown)
        enough = self._seen_enough()
        capped = bits & of_subjects(self._snapshot, placement.slot_id, enough) if enough else 0
        bits &= ~capped
        sold_out = 0 if self._request.test else bits & self._serving.sold_out(placement.slot_id)
        decision_id = clock.fresh_id()
        drawn = draw(self._services.ledger_keys.draw, decision_id)
        wish = self._wishes.get(placement.id)
        pod = None if wish is None else wish.pod
        taken: list[_Taken] = []
        paced = False
        for candidate in self._offered(placement, bits & ~sold_out, drawn):
            if wish is not None and not wish.admits(candidate):
                continue
            if not enough.isdisjoint((candidate.campaign_id, candidate.creative_id)):
                capped |= self._bit(placement, candidate)
                continue
            if not self._is_due(candidate):
                paced = True
                continue
            if not self._hold(candidate, decision_id, slot):
                sold_out |= self._bit(placement, candidate)
                continue
            enough = self._promise(candidate, slot)
            taken.append((candidate, decision_id))
            if len(taken) == (placement.count if pod is None else OFFERED_PER_POD_MAX):
                break
            decision_id = clock.fresh_id()
        asked = placement.count
        if pod is not None:
            taken = self._in_pod(taken, pod, slot)
            asked = len(taken) + (not is_filled(pod, [candidate.creative.duration_seconds for candidate, _ in taken]))
        out = {"frequency_capped": capped, "no_budget": sold_out}
        if self._request.explain:
            return self._rehearsed(placement, taken, out)
        ads = [self._ad(candidate, placement, slot, decision_id, out) for candidate, decision_id in taken]
        paced = paced or (len(ads) < asked and self._is_paced(placement, bits & ~sold_out, drawn))
        reason = _why_not(sold_out=bool(sold_out), paced=paced, capped=bool(capped))
        if ads:
            metrics.decision_counter("filled").inc(len(ads))
        if missing := asked - len(ads):
            metrics.decision_counter(reason).inc(missing)
        if not self._request.test:
            filled, second = len(ads), int(self._now.timestamp())
            self._serving.tally.add(
                placement.slot_id, self._country, second=second, asked=asked, filled=filled, reason=reason
            )
        return PlacementDecision(
            placement_id=placement.id,
            ads=ads,
            no_bid_reason=reason if missing else None,
            refresh_seconds=slot.refresh_seconds,
            closable=slot.closable,
        )

    def _rehearsed(self, placement: Placement, taken: list[_Taken], out: Mapping[str, int]) -> PlacementDecision:
        self._shown.extend(candidate.creative_id for candidate, _ in taken[:-1])
        chosen, decision_id = taken[-1] if taken else (None, clock.fresh_id())
        basis = self._basis(placement, chosen, decision_id, out)
        self.rehearsed.append((placement, None if chosen is None else chosen.creative_id, basis))
        self._shown.extend(candidate.creative_id for candidate, _ in taken[-1:])
        return PlacementDecision(placement_id=placement.id, ads=[], no_bid_reason=None)

    def _basis(
        self, placement: Placement, chosen: Candidate | None, decision_id: UUID, out: Mapping[str, int]
    ) -> Basis:
        if self._shown:
            out = {**out, "on_page": of_subjects(self._snapshot, placement.slot_id, self._shown)}
        late_seconds = int(self._now.timestamp()) - second_of(decision_id)
        return basis_of(self._snapshot, self._request, placement, chosen, out, late_seconds=late_seconds)

    def _offered(self, placement: Placement, bits: int, drawn: int) -> Iterator[Candidate]:
        minutes_ahead = self._request.geo.utcoffset
        return choose(self._snapshot, bits, placement, self._now, drawn, minutes_ahead=minutes_ahead)

    def _bit(self, placement: Placement, candidate: Candidate) -> int:
        return self._snapshot.lineups[placement.slot_id].by_creative[candidate.creative_id]

    def _slot(self, number: int, placement: Placement) -> SlotTerms:
        slot = self._snapshot.slots.get(placement.slot_id)
        if slot is None:
            raise UnknownReference("active slot", placement.slot_id, pointer=f"/placements/{number}/slot_id")
        return slot

    def _is_due(self, candidate: Candidate) -> bool:
        """Tell whether this worker may promise one more of a campaign just now."""
        if self._request.test or candidate.campaign_id not in self._snapshot.paces:
            return True
        if self._request.explain:
            return self._serving.pacer.may_take(candidate.campaign_id)
        return self._serving.pacer.take(candidate.campaign_id)

    def _is_paced(self, placement: Placement, bits: int, drawn: int) -> bool:
        """Tell whether the pace of any campaign kept it out."""
        lineup, paces = self._snapshot.lineups.get(placement.slot_id), self._snapshot.paces
        return lineup is not None and any(
            bits & lineup.by_campaign.get(campaign_id, 0) and not passes(pace, campaign_id.int, drawn)
            for campaign_id, pace in paces.items()
        )

    def _hold(self, candidate: Candidate, decision_id: UUID, slot: SlotTerms) -> bool:
        if self._request.test or not candidate.limited:
            return True
        holds = self._serving.holds
        if self._request.explain:
            return holds.may_take(candidate.campaign_id, tick=self._tick)
        return holds.take(candidate.campaign_id, decision_id, tick=self._tick, hold_seconds=slot.hold_seconds)

    def _in_pod(self, taken: list[_Taken], pod: Pod, slot: SlotTerms) -> list[_Taken]:
        """Return what fills a pod of what was taken for it, and give the rest back."""
        shown = set(fill([candidate.creative.duration_seconds or 0 for candidate, _ in taken], pod))
        for number, (candidate, decision_id) in enumerate(taken):
            if number not in shown:
                self._serving.holds.give_back(decision_id)
                if self._viewer is not None and not self._request.test:
                    until = self._tick + slot.hold_seconds
                    self._serving.viewings.take_back(self._viewer, _capped(candidate), until=until)
        return [taken[number] for number in sorted(shown)]

    def _seen_enough(self) -> AbstractSet[UUID]:
        """Return the campaigns and creatives that the viewer has seen as often as their caps allow."""
        if self._viewer is None or self._request.test:
            return _NOTHING
        second, caps = int(self._now.timestamp()), self._snapshot.caps
        return self._serving.viewings.reached(self._viewer, caps, second=second, tick=self._tick)

    def _promise(self, candidate: Candidate, slot: SlotTerms) -> AbstractSet[UUID]:
        """Count a capped creative as seen while it is held; return what the viewer has then seen enough of."""
        if self._viewer is None or self._request.test or self._request.explain:
            return _NOTHING
        if capped := _capped(candidate):
            self._serving.viewings.promise(self._viewer, capped, until=self._tick + slot.hold_seconds)
        return self._seen_enough()

    def _ad(
        self, candidate: Candidate, placement: Placement, slot: SlotTerms, decision_id: UUID, out: Mapping[str, int]
    ) -> Ad:
        """Return a creative with its signed tokens; it is on the page from now on."""
        creative, campaign = candidate.creative, candidate.campaign
        second = int(self._now.timestamp())
        impression, view, click = self._services.beacon_tokens.sign_all(
            Ticket(
                decision_id=decision_id,
                campaign_id=candidate.campaign_id,
                creative_id=candidate.creative_id,
                advertiser_id=campaign.advertiser_id,
                slot_id=placement.slot_id,
                country=self._country,
                region=self._request.geo.region,
                city=self._request.geo.city,
                viewer=self._viewer,
                expires_at=second + slot.token_seconds,
                hold_expires_at=second + slot.hold_seconds,
                worker=self._serving.holds.worker if candidate.limited else 0,
                pricing=campaign.pricing,
                currency=campaign.currency,
                test=self._request.test,
                campaign_cap=candidate.campaign_cap if self._viewer else None,
                creative_cap=candidate.creative_cap if self._viewer else None,
            ),
            None if self._request.test else self._basis(placement, candidate, decision_id, out),
        )
        self._shown.append(candidate.creative_id)
        return Ad(
            decision_id=decision_id,
            campaign_id=candidate.campaign_id,
            creative_id=candidate.creative_id,
            advertiser_id=campaign.advertiser_id,
            media_type=creative.media_type,
            media_url=creative.media_url
            if creative.media_file is None
            else f"{self._base_url}{MEDIA_PATH}{creative.media_file}",
            media_content=creative.media_content,
            warning_required=creative.content_rating.warning_required,
            content_warnings=creative.content_rating.content_warnings,
            width=creative.width,
            height=creative.height,
            alt_text=creative.alt_text,
            impression_url=f"{self._base_url}{IMPRESSION_PATH}{impression}",
            view_url=f"{self._base_url}{VIEW_PATH}{view}",
            click_url=f"{self._base_url}{CLICK_PATH}{click}",
            hold_expires_at=datetime.fromtimestamp(second + slot.hold_seconds, UTC),
            expires_at=datetime.fromtimestamp(second + slot.token_seconds, UTC),
            frame_url=f"{self._base_url}{FRAME_PATH}{click}" if creative.media_type == "html" else None,
        )


def _capped(candidate: Candidate) -> list[UUID]:
    capped = [candidate.campaign_id] if candidate.campaign_cap else []
    return capped + ([candidate.creative_id] if candidate.creative_cap else [])


def _why_not(*, sold_out: bool, paced: bool, capped: bool) -> NoBidReason:
    """Return why a placement gets less than it asked for: what kept out those that came furthest."""
    if sold_out:
        return "no_budget"
    if paced:
        return "paced"
    return "frequency_capped" if capped else "no_matching_creative"


def _completed(request: AdRequest, snapshot: Snapshot) -> AdRequest:
    """Return a request with the kind of device that its User-Agent names, where anybody asks; raise UnknownRating."""
    if not is_known(request.content):
        raise UnknownRating("The rating label is not one of its rating system's.", pointer="/content/rating_label")
    device = request.device
    if not snapshot.asks_for_devices or device.type is not None or device.ua is None:
        return request
    return structs.replace(request, device=structs.replace(device, type=device_type_of(device.ua)))


def slot_of(request: Request[Any, Any, Any], services: Services) -> UUID:
    """Return the slot whose key a request carries; raise Unauthenticated."""
    return _slot_of_key(services, bearer(request))


def _slot_of_key(services: Services, slot_key: str) -> UUID:
    slot_id = services.serving.snapshot.slot_by_key_sha256.get(digest(slot_key))
    if slot_id is None:
        raise Unauthenticated
    return slot_id

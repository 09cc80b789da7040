"""The door of ad slots: which creative to show. No request here touches the database."""

from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, Literal
from uuid import UUID

from litestar import Controller, Request, get, post
from litestar.openapi.spec import SecurityRequirement
from litestar.params import RequestBody
from msgspec import Struct

from api import problems
from api.access import bearer
from api.problems import Unauthenticated
from api.services import Services, services_of
from domain.ad_request import AdRequest, Placement, may_identify
from domain.choosing import Candidate, eligible, of_subjects
from domain.delivery import Ticket
from domain.errors import UnknownReference
from domain.iso import alpha_2
from domain.pacing import passes
from domain.precedence import choose
from domain.terms import SlotTerms
from domain.values import MediaType
from infra import clock, metrics
from infra.ledger_keys import draw, pseudonym
from infra.slot_keys import digest

NoBidReason = Literal["no_matching_creative", "no_budget", "paced", "frequency_capped"]

SLOT_KEY: Final[tuple[SecurityRequirement, ...]] = ({"slot_key": []},)

_NOTHING: Final[AbstractSet[UUID]] = frozenset()

DECISIONS_PATH: Final = "/ads/v1/decisions"
IMPRESSION_PATH: Final = "/ads/v1/i/"
VIEW_PATH: Final = "/ads/v1/v/"
CLICK_PATH: Final = "/ads/v1/c/"


class Ad(Struct, frozen=True, kw_only=True):
    """A creative to show, and the URLs that report what became of it."""

    decision_id: UUID
    campaign_id: UUID
    creative_id: UUID
    advertiser_id: UUID
    media_type: MediaType
    media_url: str | None
    media_content: str | None
    width: int | None
    height: int | None
    alt_text: str
    impression_url: str
    click_url: str
    view_url: str
    hold_expires_at: datetime
    expires_at: datetime


class PlacementDecision(Struct, frozen=True, kw_only=True):
    """What one placement gets; why it gets less than it asked for, if so."""

    placement_id: str
    ads: list[Ad]
    no_bid_reason: NoBidReason | None


class DecisionResponse(Struct, frozen=True, kw_only=True):
    """The answer to an ad request, under the id that the caller gave it."""

    id: str
    decisions: list[PlacementDecision]


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
        """Choose creatives for the placements of a page; the first impression of each is held for a while."""
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


def decide(services: Services, request: AdRequest, slot_key: str, base_url: str) -> DecisionResponse:
    """Choose creatives for the placements of a page; raise Unauthenticated or UnknownReference with nothing held.

    `base_url` is the address that was asked: beacons go to the same, unless the settings name another.
    """
    _slot_of_key(services, slot_key)
    page = _Page(services, request, services.settings.public_url or base_url)
    return DecisionResponse(id=request.id, decisions=[page.fill(number) for number in range(len(request.placements))])


class _Page:
    """The placements of one request, filled one after the other, no creative twice."""

    def __init__(self, services: Services, request: AdRequest, base_url: str) -> None:
        """Raise UnknownReference when one of their slots is not active."""
        self._services = services
        self._serving = services.serving
        self._snapshot = services.serving.snapshot
        self._request = request
        self._base_url = base_url
        # A wall clock that was set back must not stamp promises that the log would take for expired.
        self._now = max(clock.now(), services.log.writer.recorded_at)
        self._tick = monotonic()
        self._shown: list[UUID] = []
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
        ads: list[Ad] = []
        paced = False
        for candidate in choose(self._snapshot, bits & ~sold_out, placement, self._now, drawn):
            if not enough.isdisjoint((candidate.campaign_id, candidate.creative_id)):
                capped = 1
                continue
            if not self._is_due(candidate):
                paced = True
                continue
            if not self._hold(candidate, decision_id, slot):
                sold_out = 1
                continue
            enough = self._promise(candidate, slot)
            ads.append(self._ad(candidate, placement, slot, decision_id))
            if len(ads) == placement.count:
                break
            decision_id = clock.fresh_id()
        self._shown.extend(ad.creative_id for ad in ads)
        paced = paced or (len(ads) < placement.count and self._is_paced(placement, bits & ~sold_out, drawn))
        reason = _why_not(sold_out=bool(sold_out), paced=paced, capped=bool(capped))
        if ads:
            metrics.decision_counter("filled").inc(len(ads))
        if missing := placement.count - len(ads):
            metrics.decision_counter(reason).inc(missing)
        if not self._request.test:
            asked, filled, second = placement.count, len(ads), int(self._now.timestamp())
            self._serving.tally.add(
                placement.slot_id, self._country, second=second, asked=asked, filled=filled, reason=reason
            )
        return PlacementDecision(placement_id=placement.id, ads=ads, no_bid_reason=reason if missing else None)

    def _slot(self, number: int, placement: Placement) -> SlotTerms:
        slot = self._snapshot.slots.get(placement.slot_id)
        if slot is None:
            raise UnknownReference("active slot", placement.slot_id, pointer=f"/placements/{number}/slot_id")
        return slot

    def _is_due(self, candidate: Candidate) -> bool:
        """Tell whether this worker may promise one more of a campaign just now."""
        if self._request.test or candidate.campaign_id not in self._snapshot.paces:
            return True
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
        return holds.take(candidate.campaign_id, decision_id, tick=self._tick, hold_seconds=slot.hold_seconds)

    def _seen_enough(self) -> AbstractSet[UUID]:
        """Return the campaigns and creatives that the viewer has seen as often as their caps allow."""
        if self._viewer is None or self._request.test:
            return _NOTHING
        second, caps = int(self._now.timestamp()), self._snapshot.caps
        return self._serving.viewings.reached(self._viewer, caps, second=second, tick=self._tick)

    def _promise(self, candidate: Candidate, slot: SlotTerms) -> AbstractSet[UUID]:
        """Count a capped creative as seen while it is held; return what the viewer has then seen enough of."""
        if self._viewer is None or self._request.test:
            return _NOTHING
        capped = [candidate.campaign_id] if candidate.campaign_cap else []
        capped += [candidate.creative_id] if candidate.creative_cap else []
        if capped:
            self._serving.viewings.promise(self._viewer, capped, until=self._tick + slot.hold_seconds)
        return self._seen_enough()

    def _ad(self, candidate: Candidate, placement: Placement, slot: SlotTerms, decision_id: UUID) -> Ad:
        """Return a creative with its signed tokens."""
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
            )
        )
        return Ad(
            decision_id=decision_id,
            campaign_id=candidate.campaign_id,
            creative_id=candidate.creative_id,
            advertiser_id=campaign.advertiser_id,
            media_type=creative.media_type,
            media_url=creative.media_url,
            media_content=creative.media_content,
            width=creative.width,
            height=creative.height,
            alt_text=creative.alt_text,
            impression_url=f"{self._base_url}{IMPRESSION_PATH}{impression}",
            view_url=f"{self._base_url}{VIEW_PATH}{view}",
            click_url=f"{self._base_url}{CLICK_PATH}{click}",
            hold_expires_at=datetime.fromtimestamp(second + slot.hold_seconds, UTC),
            expires_at=datetime.fromtimestamp(second + slot.token_seconds, UTC),
        )


def _why_not(*, sold_out: bool, paced: bool, capped: bool) -> NoBidReason:
    """Return why a placement gets less than it asked for: what kept out those that came furthest."""
    if sold_out:
        return "no_budget"
    if paced:
        return "paced"
    return "frequency_capped" if capped else "no_matching_creative"


def slot_of(request: Request[Any, Any, Any], services: Services) -> UUID:
    """Return the slot whose key a request carries; raise Unauthenticated."""
    return _slot_of_key(services, bearer(request))


def _slot_of_key(services: Services, slot_key: str) -> UUID:
    slot_id = services.serving.snapshot.slot_by_key_sha256.get(digest(slot_key))
    if slot_id is None:
        raise Unauthenticated
    return slot_id

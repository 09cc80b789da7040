"""The door of ad slots: which creative to show. No request here touches the database."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from litestar import Controller, Request, get, post
from msgspec import Struct

from api import problems
from api.access import bearer
from api.problems import Unauthenticated
from api.services import Services, services_of
from domain.ad_request import AdRequest, Placement, may_identify
from domain.choosing import Candidate, choose, eligible
from domain.delivery import Ticket
from domain.errors import UnknownReference
from domain.events import SlotTerms
from domain.iso import alpha_2
from domain.values import MediaType
from infra import clock, metrics
from infra.ledger_keys import draw, pseudonym
from infra.slot_keys import digest

NoBidReason = Literal["no_matching_creative", "no_budget"]

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

    @post("/decisions", operation_id="decide", status_code=200, responses=problems.DECIDING)
    async def decide(self, data: AdRequest, request: Request[Any, Any, Any]) -> DecisionResponse:
        """Choose creatives for the placements of a page; the first impression of each is held for a while."""
        services = services_of(request)
        slot_of(request, services)
        snapshot = services.serving.snapshot
        now = clock.now()
        shown: list[UUID] = []
        maker = _Maker(services, data, _base_url(services, request), now)
        decisions = []
        for number, placement in enumerate(data.placements):
            slot = snapshot.slots.get(placement.slot_id)
            if slot is None:
                raise UnknownReference("active slot", placement.slot_id, pointer=f"/placements/{number}/slot_id")
            ads: list[Ad] = []
            reason: NoBidReason = "no_matching_creative"
            first_id = clock.fresh_id()
            bits = eligible(snapshot, data, placement, creatives=shown)
            for candidate in choose(snapshot, bits, placement, now, draw(services.ledger_keys.draw, first_id)):
                decision_id = clock.fresh_id() if ads else first_id
                if not data.test and not services.serving.holds.take(
                    candidate, decision_id, now=now, hold_seconds=slot.hold_seconds
                ):
                    reason = "no_budget"
                    continue
                ads.append(maker.ad(candidate, placement, slot, decision_id))
                shown.append(candidate.creative_id)
                if len(ads) == placement.count:
                    break
            missing = placement.count - len(ads)
            if ads:
                metrics.decision_counter("filled").inc(len(ads))
            if missing:
                metrics.decision_counter(reason).inc(missing)
            decisions.append(
                PlacementDecision(placement_id=placement.id, ads=ads, no_bid_reason=reason if missing else None)
            )
        return DecisionResponse(id=data.id, decisions=decisions)

    @get("/slots", operation_id="list_ad_slots", responses=problems.READING)
    async def list_slots(self, request: Request[Any, Any, Any]) -> list[AdSlot]:
        """List the active slots that a slot key may ask creatives for."""
        services = services_of(request)
        slot_of(request, services)
        return [
            AdSlot(id=slot_id, name=slot.name, ad_type=slot.ad_type, width=slot.width, height=slot.height)
            for slot_id, slot in services.serving.snapshot.slots.items()
        ]


class _Maker:
    """Makes the ads of one request, from what they have in common."""

    def __init__(self, services: Services, request: AdRequest, base_url: str, now: datetime) -> None:
        self._tokens = services.beacon_tokens
        self._base_url = base_url
        self._now = now
        self._test = request.test
        self._geo = request.geo
        self._country = request.geo.country and alpha_2(request.geo.country)
        viewer = request.viewer.id if may_identify(request) else None
        self._viewer = viewer and pseudonym(services.ledger_keys.viewer, viewer)

    def ad(self, candidate: Candidate, placement: Placement, slot: SlotTerms, decision_id: UUID) -> Ad:
        """Return a creative with its signed tokens."""
        expires_at = int(self._now.timestamp()) + slot.token_seconds
        creative, campaign = candidate.creative, candidate.campaign
        impression, view, click = self._tokens.sign_all(
            Ticket(
                decision_id=decision_id,
                campaign_id=candidate.campaign_id,
                creative_id=candidate.creative_id,
                advertiser_id=campaign.advertiser_id,
                slot_id=placement.slot_id,
                country=self._country,
                region=self._geo.region,
                city=self._geo.city,
                viewer=self._viewer,
                expires_at=expires_at,
                pricing=campaign.pricing,
                currency=campaign.currency,
                test=self._test,
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
            hold_expires_at=self._now + timedelta(seconds=slot.hold_seconds),
            expires_at=datetime.fromtimestamp(expires_at, UTC),
        )


def slot_of(request: Request[Any, Any, Any], services: Services) -> UUID:
    """Return the slot whose key a request carries; raise Unauthenticated."""
    slot_id = services.serving.snapshot.slot_by_key_sha256.get(digest(bearer(request)))
    if slot_id is None:
        raise Unauthenticated
    return slot_id


def _base_url(services: Services, request: Request[Any, Any, Any]) -> str:
    return services.settings.public_url or str(request.base_url).rstrip("/")

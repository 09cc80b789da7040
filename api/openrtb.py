"""The door of exchanges: a bid request of OpenRTB 2.6 is answered with bids, or with why there are none."""

import html
import re
from collections.abc import Iterable, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit
from uuid import UUID

from litestar import Controller, Request, Response, post
from litestar.params import RequestBody

from api import problems
from api.access import bearer
from api.answers import IMPRESSION_PATH, NOTICE_PATH, Ad
from api.bid_request import Banner, Bid, BidRequest, BidResponse, Format, Imp, Playable, Programme, SeatBid
from api.decisions import SLOT_KEY, decide
from api.open_ledgers import OpenLedger
from api.pages import Wish
from api.playing import is_playable, played
from api.services import Services, services_of
from api.vast_xml import document
from domain.ad_request import (
    PLACEMENTS_MAX,
    AdRequest,
    Blocked,
    Content,
    Device,
    Geo,
    Placement,
    Privacy,
    Site,
    Viewer,
)
from domain.choosing import Candidate
from domain.pods import ADS_PER_POD_MAX, POD_SECONDS_MAX, Pod, fits
from domain.terms import CreativeTerms, SlotTerms
from domain.values import AUDIENCES, DeviceType, MediaType

VERSION: Final = {"x-openrtb-version": "2.6"}
ANSWER_MS: Final = 10
"""Who waits for less cannot be sure to be answered in time."""

NBR_INVALID_REQUEST: Final = 2
NBR_DAILY_USER_CAP_MET: Final = 9
NBR_INSUFFICIENT_TIME: Final = 15
NBR_NO_MATCHING_CREATIVE: Final = 500
NBR_NO_BUDGET: Final = 501
NBR_PACED: Final = 502
NBR_OF_REASON: Final = {
    "frequency_capped": NBR_DAILY_USER_CAP_MET,
    "no_matching_creative": NBR_NO_MATCHING_CREATIVE,
    "no_budget": NBR_NO_BUDGET,
    "paced": NBR_PACED,
}
"""AdCOM 1.0 'No-Bid Reason Codes'; those from 500 on are left to bidders."""

MTYPE_OF: Final[dict[MediaType, Literal[1, 2, 3]]] = {"image": 1, "html": 1, "text": 1, "video": 2, "audio": 3}
DEVICE_TYPES: Final[tuple[DeviceType, ...]] = get_args(DeviceType)
CURRENCY_IF_UNSAID: Final = "USD"
CPM_UNIT_MICROS: Final = 1_000_000
MINUTES_AHEAD_MAX: Final = 840
RATINGS: Final = range(1, len(AUDIENCES) + 1)
"""AdCOM 1.0 'Media Ratings': the audiences in their order."""


FRAME_MAY: Final = "allow-scripts allow-popups allow-popups-to-escape-sandbox"

_CONTENT_CATEGORY: Final = re.compile(r"IAB\d+(-\d+)?")


class Offer:
    """An impression that is offered, and the slot of ours that it is."""

    def __init__(self, imp: Imp, slot_id: UUID, slot: SlotTerms) -> None:
        """Find out what is wanted: whatever can be played, or banners of a size that the slot has, but those in no pod.

        Nothing is wanted of an impression that only deals may have: there are none.
        """
        self.imp = imp
        self.slot_id = slot_id
        self.slot = slot
        self.pod: Pod | None = None
        self.kinds: dict[MediaType, Playable | Banner] = {}
        if imp.pmp.private_auction:
            return
        played: tuple[tuple[MediaType, Playable | None], ...] = (("video", imp.video), ("audio", imp.audio))
        for media_type, playable in played:
            if playable is not None:
                pod = _pod(playable)
                if pod.seconds is not None or pod.ads_max > 1:
                    self.pod, self.kinds = pod, {media_type: playable}
                    return
                self.kinds[media_type] = playable
        if imp.banner is not None and _has_size(imp.banner, slot):
            self.kinds |= dict.fromkeys(("image", "html", "text"), imp.banner)

    def admits(self, request: BidRequest, currency: str, candidate: Candidate) -> bool:
        """Tell whether a creative may be bid: paid by the thousand in the currency of the bid, and what is wanted."""
        creative, pricing = candidate.creative, candidate.campaign.pricing
        kind = self.kinds.get(creative.media_type)
        if kind is None or pricing.model != "cpm" or candidate.campaign.currency != currency:
            return False
        if pricing.price_micros < self._floor_micros(kind, creative):
            return False
        seat = str(candidate.campaign.advertiser_id)
        if seat in request.bseat or (request.wseat and seat not in request.wseat):
            return False
        if request.badv and _is_domain_of(domain_of(creative), request.badv):
            return False
        if self.imp.secure and creative.media_url is not None and not creative.media_url.startswith("https:"):
            return False
        if isinstance(kind, Banner):
            return True
        is_known = is_playable(candidate) and creative.mime_type in kind.mimes
        return is_known and fits(_pod(kind), creative.duration_seconds)

    def is_priced_in(self, currency: str) -> bool:
        """Tell whether what is asked at least can be compared with prices in a currency."""
        by_second = any(isinstance(kind, Playable) and kind.mincpmpersec for kind in self.kinds.values())
        return self.imp.bidfloorcur == currency or not (self.imp.bidfloor or by_second)

    def _floor_micros(self, kind: Playable | Banner, creative: CreativeTerms) -> int:
        """Return what a thousand have to cost at least: of a pod it may be said by the second."""
        by_second = kind.mincpmpersec * (creative.duration_seconds or 0) if isinstance(kind, Playable) else 0.0
        return round(max(self.imp.bidfloor, by_second) * CPM_UNIT_MICROS)


class OpenRtbController(Controller):
    """Answering bid requests."""

    tags = ("ad slots",)

    @post("/openrtb", operation_id="bid", status_code=200, security=SLOT_KEY, responses=problems.BIDDING)
    async def bid(self, data: RequestBody[BidRequest], request: Request[Any, Any, Any]) -> Response[BidResponse]:
        """Answer a bid request of OpenRTB 2.6 with bids in one currency, or with `nbr`.

        Each impression names its slot by `tagid` or `ext.ledger.slot_id`. What is paid by the thousand is bid at that
        price, in the first currency of `cur`, or else USD. `burl` records the impression, as showing `adm` does.
        """
        services = services_of(request)
        ledger = services.ledgers.of_slot_key(bearer(request))
        answered = answer(services, ledger, data, str(request.base_url).rstrip("/"))
        return Response(answered, status_code=HTTPStatus.OK.value, headers=VERSION)


def answer(services: Services, ledger: OpenLedger, request: BidRequest, base_url: str) -> BidResponse:
    """Return the bids for what is offered, or the first reason why there are none; raise Unauthenticated."""
    if not _is_sound(request):
        return BidResponse(id=request.id, nbr=NBR_INVALID_REQUEST)
    if request.tmax is not None and request.tmax < ANSWER_MS:
        return BidResponse(id=request.id, nbr=NBR_INSUFFICIENT_TIME)
    offers = list(_offers(ledger, request))[:PLACEMENTS_MAX]
    if not offers:
        return BidResponse(id=request.id, nbr=NBR_INVALID_REQUEST)
    currency = request.cur[0] if request.cur else CURRENCY_IF_UNSAID
    biddable = [offer for offer in offers if offer.kinds and offer.is_priced_in(currency)]
    if not biddable:
        return BidResponse(id=request.id, nbr=NBR_NO_MATCHING_CREATIVE)
    wishes = {
        str(number): Wish(partial(offer.admits, request, currency), offer.pod) for number, offer in enumerate(biddable)
    }
    asked = ad_request(request, [offer.slot_id for offer in biddable])
    decided = decide(services, ledger, asked, base_url, wishes).decisions
    seats: dict[UUID, list[Bid]] = {}
    for offer, decision in zip(biddable, decided, strict=True):
        for ad in decision.ads:
            seats.setdefault(ad.advertiser_id, []).append(_bid(ledger, asked, offer, ad))
    if not seats:
        reasons = [decision.no_bid_reason for decision in decided]
        return BidResponse(id=request.id, nbr=NBR_OF_REASON.get(reasons[0] or "", NBR_NO_MATCHING_CREATIVE))
    return BidResponse(
        id=request.id, seatbid=[SeatBid(seat=seat, bid=bids) for seat, bids in seats.items()], cur=currency
    )


def ad_request(request: BidRequest, slots: Iterable[UUID]) -> AdRequest:
    """Return what is asked of slots in the words of this ledger; what those have no room for is left out."""
    device, programme = request.device, request.site or request.app or request.dooh or Programme()
    geo = device.geo or request.user.geo
    keywords = programme.kwarray or tuple((programme.keywords or "").split(","))
    categories = (*programme.cat, *programme.sectioncat, *programme.pagecat)
    rating = programme.content.qagmediarating
    known_device = device.devicetype is not None and 1 <= device.devicetype <= len(DEVICE_TYPES)
    return AdRequest(
        id=_short(request.id) or "bid",
        placements=tuple(Placement(id=str(number), slot_id=slot_id) for number, slot_id in enumerate(slots)),
        geo=Geo()
        if geo is None
        else Geo(
            country=geo.country if geo.country and re.fullmatch("[A-Z]{2,3}", geo.country) else None,
            region=_short(geo.region),
            city=_short(geo.city),
            zip=_short(geo.zip),
            utcoffset=geo.utcoffset if abs(geo.utcoffset or 0) <= MINUTES_AHEAD_MAX else None,
        ),
        viewer=Viewer(id=_short(request.user.id or device.ifa)),
        device=Device(
            ua=_line(device.ua, 1_000),
            language=_short(device.langb or device.language),
            type=DEVICE_TYPES[device.devicetype - 1] if known_device and device.devicetype else None,
        ),
        site=Site(
            domain=_short(programme.domain or programme.bundle),
            page=_line(programme.page, 2_000),
            keywords=_words(keywords),
            categories=_words(categories),
        ),
        content=Content(max_rating=AUDIENCES[rating - 1] if rating is not None and rating in RATINGS else None),
        blocked=Blocked(categories=_words(request.bcat)),
        privacy=Privacy(
            gpc=request.regs.ext.gpc in {1, "1"} or _opted_out(request.regs.us_privacy),
            dnt=bool(device.dnt or device.lmt or (request.regs.gdpr and not request.user.consent)),
            coppa=bool(request.regs.coppa),
        ),
        test=bool(request.test),
    )


def _opted_out(us_privacy: str | None) -> bool:
    """Tell whether a US Privacy string says that its subject has opted out of the sale of data."""
    return us_privacy is not None and us_privacy[2:3].upper() == "Y"


def domain_of(creative: CreativeTerms) -> str:
    """Return the domain that a creative advertises: where a click on it leads."""
    return (urlsplit(creative.click_url).hostname or "").removeprefix("www.")


def _is_sound(request: BidRequest) -> bool:
    """Tell whether a request keeps the rules of the standard that go beyond types (3.2.1, 3.2.7)."""
    programmes = [each for each in (request.site, request.app, request.dooh) if each is not None]
    ids = [imp.id for imp in request.imp]
    playables = [each for imp in request.imp for each in (imp.video, imp.audio) if each is not None]
    return (
        len(programmes) <= 1
        and len(set(ids)) == len(ids)
        and all(imp.banner or imp.video or imp.audio or imp.native for imp in request.imp)
        and not any(each.rqddurs and (each.minduration or each.maxduration) for each in playables)
    )


def _offers(ledger: OpenLedger, request: BidRequest) -> Iterator[Offer]:
    slots = ledger.serving.snapshot.slots
    for imp in request.imp:
        slot_id = imp.ext.ledger.slot_id or _uuid(imp.tagid)
        if slot_id is not None and slot_id in slots:
            yield Offer(imp, slot_id, slots[slot_id])


def _pod(playable: Playable) -> Pod:
    seconds = min(playable.poddur, POD_SECONDS_MAX) if playable.poddur else None
    several = ADS_PER_POD_MAX if seconds else 1
    return Pod(
        seconds=seconds,
        ads_max=min(playable.maxseq or several, ADS_PER_POD_MAX),
        durations=playable.rqddurs,
        seconds_min=playable.minduration or 1,
        seconds_max=playable.maxduration or POD_SECONDS_MAX,
    )


def _has_size(banner: Banner, slot: SlotTerms) -> bool:
    sizes = [*banner.format, *([Format(w=banner.w, h=banner.h)] if banner.w or banner.h else [])]
    return not sizes or any((size.w, size.h) == (slot.width, slot.height) for size in sizes)


def _bid(ledger: OpenLedger, asked: AdRequest, offer: Offer, ad: Ad) -> Bid:
    creative = ledger.serving.creative(ad.creative_id)
    campaign = ledger.serving.campaign(ad.campaign_id)
    assert creative is not None  # noqa: S101  it was just chosen
    assert campaign is not None  # noqa: S101  as the line above
    terms, kind = creative.terms, offer.kinds[ad.media_type]
    is_played = isinstance(kind, Playable)
    return Bid(
        id=ad.decision_id,
        impid=offer.imp.id,
        price=campaign.terms.pricing.price_micros / CPM_UNIT_MICROS,
        adm=document([played(ledger, ad, asked)], error_url="").decode() if is_played else markup(ad),
        burl=_notice_url(ledger, ad),
        adomain=[domain_of(terms)],
        crid=ad.creative_id,
        cid=ad.campaign_id,
        cat=[each for each in campaign.terms.categories if _CONTENT_CATEGORY.fullmatch(each)],
        dur=terms.duration_seconds if is_played else None,
        mtype=MTYPE_OF[ad.media_type],
        w=terms.width,
        h=terms.height,
        exp=offer.slot.hold_seconds,
        slotinpod=kind.slotinpod if isinstance(kind, Playable) else 0,
    )


def _notice_url(ledger: OpenLedger, ad: Ad) -> str:
    base_url, _, token = ad.impression_url.rpartition(IMPRESSION_PATH)
    _, ticket = ledger.beacon_tokens.verify(token)
    return f"{base_url}{NOTICE_PATH}{ledger.beacon_tokens.sign_notice(ticket)}"


def markup(ad: Ad) -> str:
    """Return a banner as HTML that leads to its target and reports when it is shown; documents stay in their frame."""
    size = f' width="{ad.width}" height="{ad.height}"' if ad.width and ad.height else ""
    target = f'href="{html.escape(ad.click_url)}" target="_blank" rel="noopener"'
    if ad.frame_url is not None:
        shown = f'<iframe src="{html.escape(ad.frame_url)}"{size} sandbox="{FRAME_MAY}" scrolling="no" frameborder="0">'
        shown += "</iframe>"
    elif ad.media_type == "image":
        image = f'<img src="{html.escape(ad.media_url or "")}"{size} alt="{html.escape(ad.alt_text)}" border="0">'
        shown = f"<a {target}>{image}</a>"
    else:
        shown = f"<a {target}>{html.escape(ad.media_content or '')}</a>"
    return f'{shown}<img src="{html.escape(ad.impression_url)}" width="1" height="1" alt="" style="display:none">'


def _is_domain_of(domain: str, blocked: Iterable[str]) -> bool:
    return any(domain == each or domain.endswith(f".{each}") for each in (name.casefold() for name in blocked))


def _uuid(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None


def _line(text: str | None, characters_max: int) -> str | None:
    return text[:characters_max] if text and text.isprintable() else None


def _short(text: str | None) -> str | None:
    return _line(text and text.strip(), 100) or None


def _words(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(short for word in words if (short := _short(word)) is not None)[:100]

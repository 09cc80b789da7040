"""What is asked and answered in OpenRTB 2.6 (IAB Tech Lab), as far as this ledger has to do with it.

Whatever else a request says is tolerated, as the standard wants it (section 2.4), and what it says is of its type.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

Flag = Literal[0, 1]
Text = Annotated[str, Meta(max_length=10_000)]
Word = Annotated[str, Meta(max_length=255)]
Words = Annotated[tuple[Word, ...], Meta(max_length=3_000)]
"""Bounded so that a list that is as long as it may be is within what a body may have."""

Seconds = Annotated[int, Meta(ge=0, le=86_400)]
Price = Annotated[float, Meta(ge=0, le=1_000_000_000)]


class Format(Struct, frozen=True, kw_only=True):
    """A size that is allowed (3.2.10)."""

    w: int | None = None
    h: int | None = None


class Banner(Struct, frozen=True, kw_only=True):
    """A picture, a text or a document is wanted (3.2.6), of any of these sizes if there are any."""

    format: tuple[Format, ...] = ()
    w: int | None = None
    h: int | None = None


class Playable(Struct, frozen=True, kw_only=True):
    """What video (3.2.7) and audio (3.2.8) have in common: what can be played, how long, and in what pod."""

    mimes: Words
    minduration: Seconds | None = None
    maxduration: Seconds | None = None
    rqddurs: Annotated[tuple[Seconds, ...], Meta(max_length=100)] = ()
    poddur: Seconds | None = None
    maxseq: Annotated[int, Meta(ge=0)] | None = None
    podid: Text | None = None
    slotinpod: int = 0
    mincpmpersec: Price = 0


class Deals(Struct, frozen=True, kw_only=True):
    """Whether only deals may have an impression (3.2.11): there are none here."""

    private_auction: Flag = 0


class OfLedger(Struct, frozen=True, kw_only=True):
    """Which slot of this ledger is meant."""

    slot_id: UUID | None = None


class ImpExt(Struct, frozen=True, kw_only=True):
    """What this ledger adds to an impression."""

    ledger: OfLedger = OfLedger()


class Imp(Struct, frozen=True, kw_only=True):
    """An impression that is offered (3.2.4); `tagid` is the id of a slot, unless `ext.ledger.slot_id` is.

    Native ads are none that this ledger has: what takes nothing else gets no bid.
    """

    id: Text
    banner: Banner | None = None
    video: Playable | None = None
    audio: Playable | None = None
    native: dict[str, Any] | None = None
    tagid: Text | None = None
    bidfloor: Price = 0
    bidfloorcur: Text = "USD"
    secure: Flag = 0
    pmp: Deals = Deals()
    ext: ImpExt = ImpExt()


class BidGeo(Struct, frozen=True, kw_only=True):
    """Where a device or its user is (3.2.19)."""

    country: Text | None = None
    region: Text | None = None
    city: Text | None = None
    zip: Text | None = None
    utcoffset: int | None = None


class BidDevice(Struct, frozen=True, kw_only=True):
    """What a user looks or listens with (3.2.18)."""

    ua: Text | None = None
    geo: BidGeo | None = None
    dnt: Flag = 0
    lmt: Flag = 0
    language: Text | None = None
    langb: Text | None = None
    devicetype: int | None = None
    ifa: Text | None = None


class BidContent(Struct, frozen=True, kw_only=True):
    """What is looked at or listened to (3.2.16), for whom it is (AdCOM 1.0 'Media Ratings')."""

    qagmediarating: int | None = None


class Programme(Struct, frozen=True, kw_only=True):
    """Where the impression is: a site (3.2.13), an app (3.2.14) or a screen out of home (3.2.28)."""

    domain: Text | None = None
    bundle: Text | None = None
    page: Text | None = None
    cat: Words = ()
    sectioncat: Words = ()
    pagecat: Words = ()
    keywords: Text | None = None
    kwarray: Words = ()
    content: BidContent = BidContent()


class BidUser(Struct, frozen=True, kw_only=True):
    """Who looks or listens (3.2.20), under a name that is kept only as a keyed pseudonym."""

    id: Text | None = None
    geo: BidGeo | None = None
    consent: Text | None = None


class RegsExt(Struct, frozen=True, kw_only=True):
    """Signals that the standard has no field for."""

    gpc: Flag | Text = 0


class Regs(Struct, frozen=True, kw_only=True):
    """What the law says of this request (3.2.3): where the GDPR applies, nobody is known without a consent."""

    coppa: Flag = 0
    gdpr: Flag = 0
    us_privacy: Text | None = None
    ext: RegsExt = RegsExt()


class BidRequest(Struct, frozen=True, kw_only=True):
    """A request for bids (3.2.1)."""

    id: Text
    imp: Annotated[tuple[Imp, ...], Meta(min_length=1, max_length=1_000)]
    site: Programme | None = None
    app: Programme | None = None
    dooh: Programme | None = None
    device: BidDevice = BidDevice()
    user: BidUser = BidUser()
    regs: Regs = Regs()
    test: Flag = 0
    tmax: int | None = None
    wseat: Words = ()
    bseat: Words = ()
    cur: Words = ()
    bcat: Words = ()
    badv: Words = ()


class Bid(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bid (4.2.3): a creative for an impression, and what a thousand of them cost.

    `burl` reports the impression, as `adm` does by itself: whichever comes first is recorded, and billed, once.
    """

    id: UUID
    impid: str
    price: float
    adm: str
    burl: str
    adomain: list[str]
    crid: UUID
    cid: UUID
    cat: list[str] = []
    dur: int | None = None
    mtype: Literal[1, 2, 3]
    w: int | None = None
    h: int | None = None
    exp: int
    slotinpod: int = 0


class SeatBid(Struct, frozen=True, kw_only=True):
    """The bids of one advertiser (4.2.2), whose id is the seat."""

    seat: UUID
    bid: list[Bid]


class BidResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bids in one currency (4.2.1), or why there are none (`nbr`, AdCOM 1.0 'No-Bid Reason Codes').

    Of the codes that are left to bidders, 500 means that no creative matches, 501 that none has budget left, and 502
    that those that have keep to their pace.
    """

    id: str
    seatbid: list[SeatBid] = []
    cur: str | None = None
    nbr: int | None = None

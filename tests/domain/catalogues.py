"""Small catalogues and requests that often fit one another, and what the rules say fits."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from hypothesis import strategies as st
from msgspec import Struct, structs

from domain.ad_request import AdRequest, Blocked, Content, Device, Geo, Placement, Privacy, Site
from domain.campaign import Active, Campaign, Completed, Draft, Expired, Inactive, Paused
from domain.choosing import Snapshot, eligible, index
from domain.creative import Creative
from domain.precedence import choose
from domain.rules import Case, first_stop
from domain.slot import Slot
from domain.terms import CampaignTerms, CreativeTerms, SlotTerms
from domain.values import ContentRating, Pricing, Target, TimeSlot

NIGHT_OF_THE_CLOCKS: Final = datetime(2026, 3, 8, 7, tzinfo=UTC)
"""The moment at which New York goes over to daylight saving time."""

CAMPAIGN_ID: Final = UUID(int=101)
CREATIVE_ID: Final = UUID(int=201)
ADVERTISER_ID: Final = UUID(int=301)
SLOT_ID: Final = UUID(int=401)
OTHER_SLOT_ID: Final = UUID(int=402)
PLACEMENT: Final = Placement(id="p1", slot_id=SLOT_ID)
REQUEST: Final = AdRequest(id="r1", placements=(PLACEMENT,))

# A campaign, a creative and a slot that fit one another and any request.
CAMPAIGN: Final = CampaignTerms(
    advertiser_id=ADVERTISER_ID,
    name="Spring",
    start_date=date(2026, 3, 1),
    pricing=Pricing(model="cpm", price_micros=2_000),
    currency="USD",
)
CREATIVE: Final = CreativeTerms(
    campaign_id=CAMPAIGN_ID,
    name="Banner",
    ad_type="top_bar_ad",
    media_type="image",
    media_url="https://media.example/1.png",
    width=300,
    height=250,
    click_url="https://shop.example",
    content_rating=ContentRating(rating_system="PEGI", rating_label="3"),
)
SLOT: Final = SlotTerms(name="Front page", ad_type="top_bar_ad", width=300, height=250)


class Catalogue(Struct, frozen=True, kw_only=True):
    """Everything that there is, by id."""

    campaigns: dict[UUID, Campaign]
    creatives: dict[UUID, Creative]
    slots: dict[UUID, Slot]

    def snapshot(self) -> Snapshot:
        """Return the catalogue as it is served."""
        return index(position=7, campaigns=self.campaigns, creatives=self.creatives, slots=self.slots)


def shown(creative: CreativeTerms) -> Creative:
    """Return a creative that is shown when its campaign is."""
    return Creative(terms=creative, status="active", review="approved")


def catalogue_of(
    campaign: CampaignTerms = CAMPAIGN, creative: CreativeTerms = CREATIVE, slot: SlotTerms = SLOT
) -> Catalogue:
    """Return a catalogue of one campaign with one creative and one slot."""
    return Catalogue(
        campaigns={CAMPAIGN_ID: Active(terms=campaign)},
        creatives={CREATIVE_ID: shown(creative)},
        slots={SLOT_ID: Slot(terms=slot)},
    )


def weighted(*weights: int, priorities: tuple[int, ...] = ()) -> Catalogue:
    """Return a catalogue of creatives with these weights, numbered from 0, all of one priority unless told."""
    ranks = priorities or (3,) * len(weights)
    return Catalogue(
        campaigns={UUID(int=100 + rank): Active(terms=structs.replace(CAMPAIGN, priority=rank)) for rank in ranks},
        creatives={
            UUID(int=number): shown(structs.replace(CREATIVE, weight=weight, campaign_id=UUID(int=100 + rank)))
            for number, (weight, rank) in enumerate(zip(weights, ranks, strict=True))
        },
        slots={SLOT_ID: Slot(terms=SLOT)},
    )


def chosen(
    catalogue: Catalogue,
    request: AdRequest = REQUEST,
    *,
    now: datetime = NIGHT_OF_THE_CLOCKS,
    draw: int = 2**200 // 7,
    placement: Placement = PLACEMENT,
) -> list[UUID]:
    """Return the creatives a placement gets, in the order in which they are tried."""
    snapshot = catalogue.snapshot()
    bits = eligible(snapshot, request, placement)
    found = choose(snapshot, bits, placement, now, draw, minutes_ahead=request.geo.utcoffset)
    return [candidate.creative_id for candidate in found]


def _mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual] * 9 * len(others) + list(others))


def _days(*others: date | None) -> st.SearchStrategy[Any]:
    return _mostly(None, *others)


_BEFORE, _ON, _AFTER = date(2026, 3, 7), date(2026, 3, 8), date(2026, 3, 9)
_TARGETS: Final = (
    (Target(country="CN"),),
    (Target(country="CN", region="216"), Target(country="US")),
    (Target(region="216"),),
    (Target(cities=("Köln", "STRASSE")),),
    (Target(country="US", cities=("Köln",), postcodes=("1", "2")), Target(postcodes=("3",))),
    (Target(country="US"), Target()),
    (Target(country="US", postcodes=("1", "SW1*")), Target(postcodes=("sw1a 1aa", "s*"))),
)
_TIMES: Final = (
    (TimeSlot(start="00:00", end="12:00"),),
    (TimeSlot(start="22:00", end="03:30"),),
    (TimeSlot(start="06:00", end="06:00"),),
    (TimeSlot(start="18:00", end="20:00"), TimeSlot(start="01:00", end="03:00")),
)
_RATINGS: Final = (None, ("PEGI", "3"), ("PEGI", "7"), ("MPAA", "PG-13"), ("MPAA", "NC-17"), ("TV_PG", "TV-MA"))

_campaign_terms: Final = st.builds(
    lambda **fields: structs.replace(CAMPAIGN, **fields),
    advertiser_id=st.integers(301, 303).map(lambda number: UUID(int=number)),
    start_date=_mostly(_BEFORE, _ON, _AFTER),
    end_date=_days(_BEFORE, _ON, _AFTER),
    expiry_date=_days(_ON, _AFTER),
    timezone=st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York"]),
    priority=st.integers(1, 5),
    pricing=_mostly(
        CAMPAIGN.pricing,
        Pricing(model="cpm", price_micros=1_000),
        Pricing(model="cpc", price_micros=1),
        Pricing(model="flat", price_micros=1),
    ),
    targeting=st.sampled_from([(), (), *_TARGETS]),
    excluded_targeting=_mostly((), *(targets[:1] for targets in _TARGETS)),
    keywords=_mostly((), ("Shoes",), ("shoes", "STRASSE")),
    categories=_mostly((), ("IAB1",), ("IAB1-2", "IAB2")),
    page_categories=_mostly((), ("IAB1",), ("IAB1-2", "IAB4")),
    blocked_categories=_mostly((), ("IAB3",), ("IAB3-1", "IAB4")),
    languages=_mostly((), ("zh",), ("zh-Hans", "de")),
    device_types=_mostly((), ("mobile",), ("phone", "computer")),
    domains=_mostly((), ("news.example",), ("example", "a.news.example")),
    excluded_domains=_mostly((), ("news.example",), ("a.news.example",)),
    key_values=_mostly({}, {"seat": ("a",)}, {"seat": ("a", "b"), "row": ("1",), "hall": ("x", "y")}),
    time_slots=_mostly((), *_TIMES),
    weekdays=_mostly((), ("sunday",), ("saturday", "monday")),
    time_basis=_mostly("campaign", "viewer"),
)
_phases: Final = _mostly(Active, Draft, Paused, Completed, Expired, Inactive)
_campaigns: Final = st.builds(lambda phase, terms: phase(terms=terms), _phases, _campaign_terms)
_creative_terms: Final = st.builds(
    lambda **fields: structs.replace(CREATIVE, **fields),
    campaign_id=st.sampled_from([UUID(int=101), UUID(int=101), UUID(int=102), UUID(int=103)]),
    ad_type=_mostly("top_bar_ad", "bottom_left_ad"),
    media_type=_mostly("image", "text", "audio"),
    width=_mostly(300, None, 728),
    height=_mostly(250, None, 90),
    start_date=_days(_BEFORE, _ON, _AFTER),
    end_date=_days(_BEFORE, _ON, _AFTER),
    expiry_date=_days(_ON, _AFTER),
    time_slots=_mostly((), *_TIMES),
    weight=st.integers(1, 1_000),
    content_rating=_mostly(("PEGI", "3"), *_RATINGS).map(
        lambda known: ContentRating(rating_system=known[0], rating_label=known[1]) if known else ContentRating()
    ),
)
_creatives: Final = st.builds(
    Creative,
    terms=_creative_terms,
    status=_mostly("active", "draft", "paused", "inactive"),
    review=_mostly("approved", "unsubmitted", "pending", "denied"),
)
_slots: Final = st.builds(
    lambda **fields: Slot(terms=structs.replace(SLOT, **fields)),
    ad_type=_mostly("top_bar_ad", "bottom_left_ad"),
    width=_mostly(300, None),
    height=_mostly(250, None),
    media_types=_mostly(("image", "html", "text"), ("image",), ("audio",), ("text", "audio")),
    floor_cpm_micros=_mostly(0, 2_000, 2_001),
    max_rating=_mostly("mature", "over_12", "all_audiences"),
    status=_mostly("active", "inactive"),
)
_ids: Final = st.lists(st.integers(1, 3), max_size=1)

catalogues: Final = st.builds(
    lambda campaigns, creatives, slots: Catalogue(
        campaigns={UUID(int=101 + number): campaign for number, campaign in enumerate(campaigns)},
        creatives={UUID(int=201 + number): creative for number, creative in enumerate(creatives)},
        slots={UUID(int=401 + number): slot for number, slot in enumerate(slots)},
    ),
    st.lists(_campaigns, min_size=1, max_size=3),
    st.lists(_creatives, min_size=4, max_size=10),
    st.lists(_slots, min_size=2, max_size=2),
)
requests: Final = st.builds(
    lambda **fields: structs.replace(REQUEST, **fields),
    geo=st.builds(
        Geo,
        country=st.sampled_from([None, "XX", "CN", "CHN", "US", "USA"]),
        region=st.sampled_from([None, "217", "216", "216"]),
        city=st.sampled_from([None, "Berlin", "Köln", "KÖLN", "straße"]),
        zip=st.sampled_from([None, "1", "3", "SW1A1AA", "sw2"]),
        utcoffset=st.sampled_from([None, -300, 0, 345, 480]),
    ),
    site=st.builds(
        Site,
        domain=st.sampled_from([None, "NEWS.example", "b.a.news.example.", "otherexample"]),
        page=st.sampled_from([None, "https://a.news.example/1", "//["]),
        keywords=st.sampled_from([(), ("SHOES", "boots"), ("straße",)]),
        categories=_mostly((), ("IAB3",), ("IAB1", "IAB4"), ("IAB1-2", "IAB3-1")),
    ),
    device=st.builds(
        Device,
        language=st.sampled_from([None, "zh_hans_CN", "zh", "DE-at", "zhx"]),
        type=st.sampled_from([None, "phone", "tablet", "computer"]),
    ),
    key_values=st.sampled_from(
        [{}, {"seat": ("b", "a")}, {"seat": ("b",), "row": ("1", "2"), "hall": ("y",), "x": ("a",)}]
    ),
    content=_mostly(
        Content(),
        *(Content(max_rating=audience) for audience in ("all_audiences", "over_12", "mature")),
        Content(rating_system="PEGI", rating_label="3"),
        Content(rating_system="MPAA", rating_label="R"),
    ),
    blocked=st.builds(
        lambda advertisers, creatives, categories: Blocked(
            advertisers=tuple(UUID(int=300 + number) for number in advertisers),
            creatives=tuple(UUID(int=200 + number) for number in creatives),
            categories=categories,
        ),
        _ids,
        _ids,
        _mostly((), ("IAB1",), ("IAB2", "IAB3")),
    ),
    privacy=_mostly(Privacy(), Privacy(coppa=True), Privacy(gpc=True, dnt=True)),
)
placements: Final = st.sampled_from([PLACEMENT, PLACEMENT, Placement(id="p2", slot_id=OTHER_SLOT_ID)])
moments: Final = st.integers(-36 * 60, 36 * 60).map(lambda minute: NIGHT_OF_THE_CLOCKS + timedelta(minutes=minute))


def fitting(catalogue: Catalogue, request: AdRequest, placement: Placement, now: datetime) -> set[UUID]:
    """Return what may be shown, by looking at every creative and asking one rule after the other."""
    slot = catalogue.slots.get(placement.slot_id)
    if slot is None or slot.terms.status != "active":
        return set()
    return {
        creative_id
        for creative_id, creative in catalogue.creatives.items()
        if (campaign := catalogue.campaigns.get(creative.terms.campaign_id)) is not None
        and first_stop(
            Case(
                creative_id=creative_id,
                creative=creative,
                campaign=campaign,
                request=request,
                slot=slot.terms,
                now=now,
            )
        )
        is None
    }

"""Two hundred synthetic campaigns of every kind, the slots of a recorded evening, and what its rows ask for."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple
from uuid import UUID

from domain.ad_request import AdRequest, Blocked, Content, Device, Geo, Placement, Privacy, Site, Viewer
from domain.campaign import Active
from domain.choosing import Snapshot, index
from domain.creative import Creative
from domain.slot import Slot
from domain.terms import CampaignTerms, CreativeTerms, SlotTerms
from domain.values import CapWindow, ContentRating, Pricing, RatingSystem, Target, TimeSlot

CAMPAIGNS: Final = 200
RECORDED: Final = Path(__file__).parents[3] / "shared" / "data" / "ipinyou" / "impressions.tsv"
CHINA_AHEAD: Final = timedelta(hours=8)
SIZES: Final = ((300, 250), (960, 90), (728, 90), (1000, 90), (336, 280), (950, 90), (120, 600), (160, 600))
LABELS: Final[tuple[tuple[RatingSystem, str], ...]] = (
    ("MPAA", "G"),
    ("MPAA", "R"),
    ("TV_PG", "TV-14"),
    ("PEGI", "7"),
    ("PEGI", "16"),
    ("ESRB", "T"),
)
CATEGORIES: Final = ("IAB1", "IAB1-2", "IAB2-3", "IAB17", "IAB18-1", "IAB18")
WORDS: Final = ("shoes", "Football", "NEWS", "travel")
DOMAINS: Final = ("news.example", "sport.news.example", "video.example", "games.example")
KINDS: Final = ("computer", "phone", "tablet", "connected_tv")
TONGUES: Final = ("zh", "zh-Hans-CN", "en-GB", "de")


class Asking(NamedTuple):
    """A request of a viewer at a moment."""

    at: datetime
    request: AdRequest


def campaigns(chance: Random) -> dict[UUID, CampaignTerms]:
    """Return campaigns that each choose in some respects, and are limited in some."""
    return {UUID(int=1_000 + number): _campaign(chance, number) for number in range(CAMPAIGNS)}


def creatives(chance: Random, of: dict[UUID, CampaignTerms]) -> dict[UUID, CreativeTerms]:
    """Return two to five creatives of each campaign."""
    ids = iter(range(10_000, 20_000))
    return {
        UUID(int=next(ids)): _creative(chance, campaign_id) for campaign_id in of for _ in range(chance.randint(2, 5))
    }


def slots(chance: Random) -> dict[UUID, SlotTerms]:
    """Return a slot of each size."""
    return {
        UUID(int=number + 1): SlotTerms(
            name=f"{width} by {height}",
            ad_type="top_bar_ad",
            width=width,
            height=height,
            max_rating=chance.choice(["mature", "mature", "over_12"]),
            floor_cpm_micros=chance.choice([0, 0, 2_000]),
        )
        for number, (width, height) in enumerate(SIZES)
    }


def snapshot(
    campaigns_: dict[UUID, CampaignTerms], creatives_: dict[UUID, CreativeTerms], slots_: dict[UUID, SlotTerms]
) -> Snapshot:
    """Return what a worker keeps in memory of all this."""
    return index(
        position=1,
        campaigns={each: Active(terms=terms) for each, terms in campaigns_.items()},
        creatives={
            each: Creative(terms=terms, status="active", review="approved") for each, terms in creatives_.items()
        },
        slots={each: Slot(terms=terms) for each, terms in slots_.items()},
    )


def evening(chance: Random, slots_: dict[UUID, SlotTerms]) -> Iterator[Asking]:
    """Yield what the rows of the recorded evening ask for; what they do not say is made up."""
    slot_of = {(terms.width, terms.height): slot_id for slot_id, terms in slots_.items()}
    for line in sorted(RECORDED.read_text(encoding="utf-8", errors="replace").splitlines(), key=_time_of):
        cells = line.split("\t")
        own = slot_of.get((int(cells[13]), int(cells[14])), UUID(int=1))
        others = chance.choices(list(slots_), k=chance.choice([0, 0, 0, 1, 2]))
        yield Asking(_time_of(line), _request(chance, cells, (own, *others)))


def _time_of(line: str) -> datetime:
    return datetime.strptime(line.split("\t")[1][:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC) - CHINA_AHEAD


def _campaign(chance: Random, number: int) -> CampaignTerms:
    """Return a campaign that is choosy in about two respects."""
    fields: dict[str, Any] = {}
    some: dict[str, Callable[[], Any]] = {
        "targeting": lambda: (_target(chance), _target(chance)),
        "excluded_targeting": lambda: (_target(chance),),
        "keywords": lambda: tuple(chance.sample(WORDS, 2)),
        "page_categories": lambda: tuple(chance.sample(CATEGORIES, 2)),
        "blocked_categories": lambda: (chance.choice(CATEGORIES),),
        "languages": lambda: (chance.choice(["zh", "en", "zh-hans"]),),
        "device_types": lambda: tuple(chance.sample((*KINDS, "mobile"), 2)),
        "domains": lambda: (chance.choice(DOMAINS),),
        "excluded_domains": lambda: (chance.choice(DOMAINS),),
        "key_values": lambda: {"seat": (chance.choice("ab"),)} | ({"row": ("1", "2")} if chance.random() < 0.3 else {}),
        "time_slots": lambda: (TimeSlot(start=f"{chance.randrange(24):02}:30", end=f"{chance.randrange(24):02}:15"),),
        "weekdays": lambda: tuple(chance.sample(["monday", "tuesday", "sunday"], 2)),
        "impression_budget": lambda: chance.randint(5, 60),
        "max_view_count": lambda: chance.randint(1, 2),
        "competitive_exclusion": lambda: (chance.choice(["Shoes", "shoes", "cars"]),),
    }
    for name in chance.sample(list(some), chance.choice([1, 2, 3, 4])):
        fields[name] = some[name]()
    if "max_view_count" in fields:
        fields["max_view_duration"] = CapWindow(value=chance.randint(1, 3), unit="hour")
    return CampaignTerms(
        advertiser_id=UUID(int=number % 20 + 500),
        name=f"Campaign {number}",
        start_date=date(2013, 10, chance.choice([1, 1, 1, 21, 22])),
        end_date=chance.choice([None, None, date(2013, 10, 20), date(2013, 11, 20)]),
        timezone=chance.choice(["UTC", "Asia/Shanghai"]),
        time_basis=chance.choice(["campaign", "campaign", "viewer"]),
        priority=chance.randint(1, 5),
        pricing=Pricing(model=chance.choice(["cpm", "cpc"]), price_micros=1_000 * chance.randint(1, 4)),
        currency="CNY",
        categories=(chance.choice(CATEGORIES),),
        weight=chance.randint(1, 9),
        roadblock=chance.random() < 0.1,
        house=chance.random() < 0.1,
        **fields,
    )


def _creative(chance: Random, campaign_id: UUID) -> CreativeTerms:
    width, height = chance.choice(SIZES)
    system, label = chance.choice(LABELS) if chance.random() < 0.9 else (None, None)
    return CreativeTerms(
        campaign_id=campaign_id,
        name="Banner",
        ad_type="top_bar_ad",
        media_type=chance.choice(["image", "image", "html", "text", "video"]),
        media_url="https://cdn.example/1.png",
        width=width,
        height=height,
        click_url="https://shop.example",
        weight=chance.randint(1, 9),
        max_views=chance.choice([None, None, 3]),
        time_slots=() if chance.random() < 0.9 else (TimeSlot(start="18:00", end="20:30"),),
        content_rating=ContentRating(rating_system=system, rating_label=label),
    )


def _target(chance: Random) -> Target:
    region = chance.choice(["216", "80", "94", "1", None])
    return Target(
        country=chance.choice(["CN", "CN", "CN", "DE", None]),
        region=region,
        cities=tuple(str(chance.randint(217, 240)) for _ in range(8)) if chance.random() < 0.2 else (),
        postcodes=chance.choice([(), (), ("1*", "20"), ("2 1*",)]) if region is None else (),
    )


def _request(chance: Random, cells: list[str], wanted: tuple[UUID, ...]) -> AdRequest:
    """Return what a row asks for, from where; a part of it says what kind of page and viewer it is."""
    system, label = chance.choice(LABELS) if chance.random() < 0.3 else (None, None)
    return AdRequest(
        id=cells[0],
        placements=tuple(
            Placement(id=str(number), slot_id=slot_id, count=chance.choice([1, 1, 1, 2]))
            for number, slot_id in enumerate(wanted)
        ),
        geo=Geo(
            country=chance.choice(["CN", "CHN", "CHN", None]),
            region=cells[6],
            city=cells[7],
            zip=chance.choice([None, "1 0", "20", "215"]),
            utcoffset=chance.choice([None, 480, 540]),
        ),
        viewer=Viewer(id=None if cells[3] == "null" else cells[3][:7]),
        device=Device(language=chance.choice([None, *TONGUES]), type=chance.choice([None, *KINDS])),
        site=Site(
            domain=chance.choice([None, *DOMAINS]),
            page=chance.choice([None, "https://sport.news.example/1"]),
            keywords=tuple(chance.sample(("SHOES", "football", "news", "x"), chance.randint(0, 2))),
            categories=tuple(chance.sample(CATEGORIES, chance.randint(0, 2))),
        ),
        content=Content(
            max_rating=chance.choice([None, None, None, "over_12", "all_audiences"]),
            rating_system=system,
            rating_label=label,
        ),
        blocked=Blocked(
            advertisers=tuple(UUID(int=chance.randint(500, 519)) for _ in range(chance.choice([0, 0, 2]))),
            creatives=tuple(UUID(int=chance.randint(10_000, 10_700)) for _ in range(chance.choice([0, 0, 9]))),
            categories=(chance.choice(CATEGORIES),) if chance.random() < 0.2 else (),
        ),
        privacy=Privacy(coppa=chance.random() < 0.05, gpc=chance.random() < 0.05, dnt=chance.random() < 0.05),
        key_values=chance.choice([{}, {"seat": ("a",)}, {"seat": ("b", "a"), "row": ("2",)}]),
    )

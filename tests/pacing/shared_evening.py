"""A recorded evening whose requests 200 campaigns share, all of them paced: who is chosen, and how far each comes."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import ceil
from random import Random
from typing import Final, NamedTuple
from uuid import UUID

from msgspec import structs

from domain.ad_request import AdRequest, Geo, Placement, Site
from domain.campaign import Active
from domain.choosing import Candidate, Snapshot, eligible, index
from domain.dayparts import hours_of
from domain.pacing import Portion, pace, target
from domain.precedence import choose, paced
from domain.slot import Slot
from domain.terms import CampaignTerms, CreativeTerms, SlotTerms
from domain.traffic import Curve, curve, learned, openings
from domain.values import Target, TimeSlot
from tests.domain.catalogues import CAMPAIGN, CREATIVE, SLOT, shown
from tests.pacing.scenes import EVENING, HOUR, MONDAY, RECORDED

COUNT: Final = 200
BEGINS: Final = MONDAY + 18 * HOUR + 29 * 60
ENDS: Final = MONDAY + EVENING[1]
MARKS: Final = (*range(BEGINS + 900, ENDS, 900), ENDS)
LOOK_SECONDS: Final = 10
"""The figures are looked at so often; looking every second takes several times as long."""

SOLD_PART: Final = 0.5
"""This part of the requests is sold, in all: where it is much more, those of the last priority come too late."""

LATE: Final = (TimeSlot(start="20:00", end="22:30"),)


class Asked(NamedTuple):
    """A request for one creative, and the second at which it came."""

    second: int
    request: AdRequest


class Sale(NamedTuple):
    """What is for sale in an evening, and who bought it."""

    asked: Sequence[Asked]
    slots: Mapping[UUID, SlotTerms]
    campaigns: Mapping[UUID, CampaignTerms]
    creatives: Mapping[UUID, CreativeTerms]

    @property
    def snapshot(self) -> Snapshot:
        """What is served of it."""
        return index(
            position=1,
            campaigns={each: Active(terms=terms) for each, terms in self.campaigns.items()},
            creatives={each: shown(terms) for each, terms in self.creatives.items()},
            slots={each: Slot(terms=terms) for each, terms in self.slots.items()},
        )


class Course(NamedTuple):
    """How far a campaign had come, and how far it should have, at each of the marks."""

    limit: int
    delivered: list[int]
    due: list[float]

    @property
    def off(self) -> float:
        """By how many impressions it was off at most, at any of them."""
        return max(abs(done - due) for done, due in zip(self.delivered, self.due, strict=True))


def sale(seed: int = 1) -> Sale:
    """Return the requests of the record, and campaigns for some sizes, places, pages and hours that share them."""
    random, asked, slots = Random(seed), list[Asked](), dict[tuple[int, int], UUID]()
    lines = [line.split("\t") for line in RECORDED.read_text(encoding="utf-8", errors="replace").splitlines()]
    for line in sorted(lines, key=lambda line: line[1]):
        at = datetime.strptime(line[1][:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        slot_id = slots.setdefault((int(line[13]), int(line[14])), UUID(int=400 + len(slots)))
        asked.append(
            Asked(
                MONDAY + at.hour * HOUR + at.minute * 60 + at.second,
                AdRequest(
                    id="r",
                    placements=(Placement(id="p", slot_id=slot_id),),
                    geo=Geo(country="CN", region=line[6], city=line[7]),
                    site=Site(domain=f"{line[9][:1]}.example"),
                ),
            )
        )
    terms = {slot_id: structs.replace(SLOT, width=width, height=height) for (width, height), slot_id in slots.items()}
    asked = [each for each in asked if BEGINS <= each.second < ENDS]
    campaigns = {UUID(int=1_000 + number): _campaign(random, asked) for number in range(COUNT)}
    creatives = {}
    for number, campaign_id in enumerate(campaigns):
        (placement,) = random.choice(asked).request.placements
        width, height = terms[placement.slot_id].width, terms[placement.slot_id].height
        creative = structs.replace(CREATIVE, campaign_id=campaign_id, width=width, height=height)
        creatives[UUID(int=2_000 + number)] = creative
    return _sold(Sale(asked, terms, campaigns, creatives))


def play(sold: Sale) -> list[Candidate | None]:
    """Return what each request gets, of one worker that looks at its own figures every few seconds."""
    snapshot, curves, look_at = sold.snapshot, _curves(sold), BEGINS
    delivered: Counter[UUID] = Counter()
    left: dict[UUID, int] = {}
    shown: list[Candidate | None] = []
    for number, (second, request) in enumerate(sold.asked):
        if second >= look_at:
            paces = {
                each: pace([_portion(terms, delivered[each])], curves[each], second)
                for each, terms in sold.campaigns.items()
            }
            snapshot, look_at = paced(snapshot, paces), second + LOOK_SECONDS
            left = {
                each: min(paces[each].allowance, (terms.impression_budget or 0) - delivered[each])
                for each, terms in sold.campaigns.items()
            }
        candidates = _candidates(snapshot, second, request, number)
        taken = next((each for each in candidates if left[each.campaign_id] > 0), None)
        shown.append(taken)
        if taken is not None:
            left[taken.campaign_id] -= 1
            delivered[taken.campaign_id] += 1
    return shown


def courses(sold: Sale, shown: Sequence[Candidate | None]) -> dict[UUID, Course]:
    """Return how far each campaign came by what was shown."""
    seconds: dict[UUID, list[int]] = {each: [] for each in sold.campaigns}
    for (second, _), candidate in zip(sold.asked, shown, strict=True):
        if candidate is not None:
            seconds[candidate.campaign_id].append(second)
    curves = _curves(sold)
    return {
        each: Course(
            terms.impression_budget or 0,
            [bisect_left(seconds[each], mark) for mark in MARKS],
            [target(_portion(terms, 0), curves[each], mark) for mark in MARKS],
        )
        for each, terms in sold.campaigns.items()
    }


def _campaign(random: Random, asked: Sequence[Asked]) -> CampaignTerms:
    regions = dict.fromkeys(each.request.geo.region for each in random.sample(asked, random.randint(2, 12)))
    places = tuple(Target(country="CN", region=region) for region in regions)
    return structs.replace(
        CAMPAIGN,
        start_date=datetime.fromtimestamp(MONDAY, UTC).date(),
        pacing="even",
        priority=random.randint(1, 5),
        weight=random.randint(1, 10),
        targeting=random.choice([(), places]),
        excluded_targeting=random.choice([(), (), (), places[:1]]),
        excluded_domains=random.choice([(), (), (f"{random.randrange(16):x}.example",)]),
        time_slots=random.choice([(), (), (), LATE]),
    )


def _sold(free: Sale) -> Sale:
    """Return the sale with budgets: a part of each request is sold, to all together who may have it."""
    bought: Counter[UUID] = Counter()
    snapshot = free.snapshot
    for number, (second, request) in enumerate(free.asked):
        buyers = [each.campaign_id for each in _candidates(snapshot, second, request, number)]
        bought.update(dict.fromkeys(buyers, SOLD_PART / max(len(buyers), 1)))
    return free._replace(
        campaigns={
            each: structs.replace(terms, impression_budget=ceil(bought[each])) for each, terms in free.campaigns.items()
        }
    )


def _candidates(snapshot: Snapshot, second: int, request: AdRequest, number: int) -> Iterator[Candidate]:
    (placement,) = request.placements
    bits, draw = eligible(snapshot, request, placement), Random(number).getrandbits(512)
    return choose(snapshot, bits, placement, datetime.fromtimestamp(second, UTC), draw)


def _portion(terms: CampaignTerms, delivered: int) -> Portion:
    return Portion(limit=terms.impression_budget or 0, delivered=delivered, since=BEGINS, until=ENDS)


def _curves(sold: Sale) -> dict[UUID, Curve]:
    """Return the curve of each campaign; the shape of the evening is known of the seven days before."""
    by_hour: Counter[int] = Counter()
    for second, _ in sold.asked:
        by_hour.update(second // HOUR - day * 24 for day in range(1, 8))
    shape = learned(by_hour, MONDAY // HOUR - 168, MONDAY // HOUR)
    return {
        each: curve(shape, openings([hours] if (hours := hours_of(terms.time_slots)) else [], 0))
        for each, terms in sold.campaigns.items()
    }

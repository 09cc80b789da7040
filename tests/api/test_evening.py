"""A recorded evening, played against campaigns of every kind: no rule is broken, by an independent reading of them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, NamedTuple
from uuid import UUID

import pytest

from api.promises import Promise, Promises
from domain.ad_request import AdRequest, may_identify
from domain.choosing import Candidate, eligible, of_subjects
from domain.frequency import Viewing, seen, window_seconds
from domain.holds import Holds
from domain.pages import Opening, Page, Seat, fill
from domain.terms import CampaignTerms, CreativeTerms, SlotTerms
from projections.serving import Serving
from tests.api import synthetic
from tests.api.synthetic import CHINA_AHEAD, RECORDED, Asking

REQUESTS: Final = 10_000
LEDGER: Final = UUID(int=9)
EVERY: Final = 50
"""Of so many requests one is looked at for what was passed over."""

GRANTED_EVERY_SECONDS: Final = 5

SCALES: Final = {
    "MPAA": ["G", "PG", "PG-13", "R", "NC-17"],
    "TV_PG": ["TV-Y", "TV-Y7", "TV-G", "TV-PG", "TV-14", "TV-MA"],
    "PEGI": ["3", "7", "12", "16", "18"],
    "ESRB": ["E", "E10+", "T", "M", "AO"],
}
AGES: Final = {
    **dict.fromkeys(["G", "PG", "TV-Y", "TV-Y7", "TV-G", "3", "7", "E", "E10+"], 1),
    **dict.fromkeys(["PG-13", "TV-PG", "TV-14", "12", "T"], 2),
}
"""AdCOM 1.0 'Media Ratings': 1 for all audiences, 2 for everyone over 12, and 3 for mature audiences."""
LIMITS: Final = {"all_audiences": 1, "over_12": 2, "mature": 3, None: 3}


class Served(NamedTuple):
    """What a place of a request got."""

    number: int
    campaign_id: UUID
    creative_id: UUID


class Evening:
    """A worker that plays the evening, of which every impression is recorded at once."""

    def __init__(self, chance: Random) -> None:
        self.campaigns = synthetic.campaigns(chance)
        self.creatives = synthetic.creatives(chance, self.campaigns)
        self.slots = synthetic.slots(chance)
        self.serving = Serving(LEDGER, Holds())
        self.serving.snapshot = synthetic.snapshot(self.campaigns, self.creatives, self.slots)
        self.serving.holds.know(self.serving.snapshot.limited)
        self.views: dict[tuple[UUID, str], Viewing] = {}
        self.shown: dict[UUID, int] = defaultdict(int)
        self.decisions = 0
        self.granted_at = 0

    def play(self, asking: Asking, chance: Random) -> list[Served]:
        """Return what a request is answered with."""
        at, request = asking
        second, snapshot = int(at.timestamp()), self.serving.snapshot
        if second >= self.granted_at + GRANTED_EVERY_SECONDS:
            left = {each: (self.campaigns[each].impression_budget or 0) - self.shown[each] for each in snapshot.limited}
            self.serving.holds.granted(left, asked=float(second))
            self.granted_at = second
        viewer = request.viewer.id if may_identify(request) else None
        promises = Promises(self.serving, viewer, second=second, tick=float(second), test=False)
        openings = []
        for placement in request.placements:
            bits = eligible(snapshot, request, placement) & ~self.serving.sold_out(placement.slot_id)
            bits &= ~of_subjects(snapshot, placement.slot_id, promises.seen_enough())
            openings.append(Opening(placement, placement.count, snapshot.lineups[placement.slot_id], bits))
        served: list[Served] = []

        def take(seats: Sequence[Seat]) -> bool:
            wanted = []
            for number, candidate in seats:
                self.decisions += 1
                slot = self.slots[request.placements[number].slot_id]
                wanted.append(Promise(candidate, UUID(int=self.decisions), slot, 0))
            if promises.take(wanted) is not None:
                return False
            served.extend(Served(seat.number, *_ids(seat.candidate)) for seat in seats)
            for promise in wanted:
                self._record(promise, viewer, second)
            return True

        page = Page(snapshot=snapshot, openings=openings, now=at, minutes_ahead=request.geo.utcoffset)
        fill(page, lambda _opening: chance.getrandbits(256), take)
        return served

    def _record(self, promise: Promise, viewer: str | None, second: int) -> None:
        candidate = promise.candidate
        self.shown[candidate.campaign_id] += 1
        self.serving.holds.confirm(promise.decision_id)
        caps = ((candidate.campaign_id, candidate.campaign_cap), (candidate.creative_id, candidate.creative_cap))
        for subject, cap in caps:
            if viewer is not None and cap is not None:
                self.views[subject, viewer] = seen(self.views.get((subject, viewer), Viewing()), cap, second)
                self.serving.viewings.learn(subject, viewer, self.views[subject, viewer])


def _ids(candidate: Candidate) -> tuple[UUID, UUID]:
    return candidate.campaign_id, candidate.creative_id


def broken(campaign: CampaignTerms, creative: CreativeTerms, slot: SlotTerms, creative_id: UUID, asked: Asking) -> str:
    """Return what a naive reader of the rules objects to, or nothing."""
    request = asked.request
    checks = (_of_slot(campaign, creative, slot), _of_page(campaign, creative, creative_id, request))
    found = [*checks, _of_viewer(campaign, request), _of_time(campaign, creative, asked)]
    return ", ".join(each for of_kind in found for each in of_kind)


def _of_slot(campaign: CampaignTerms, creative: CreativeTerms, slot: SlotTerms) -> Iterator[str]:
    if (creative.width, creative.height, creative.ad_type) != (slot.width, slot.height, slot.ad_type):
        yield "format"
    if creative.media_type not in {"image", "html", "text"}:
        yield "media type"
    if campaign.pricing.model == "cpm" and campaign.pricing.price_micros < slot.floor_cpm_micros:
        yield "floor"
    if _age(creative) > LIMITS[slot.max_rating]:
        yield "rating of the slot"


def _age(creative: CreativeTerms) -> int:
    return AGES.get(creative.content_rating.rating_label or "", 3)


def _of_page(campaign: CampaignTerms, creative: CreativeTerms, creative_id: UUID, request: AdRequest) -> Iterator[str]:
    rating, content = creative.content_rating, request.content
    if _age(creative) > LIMITS[content.max_rating] or (request.privacy.coppa and _age(creative) > 1):
        yield "rating of the page"
    if content.rating_system and content.rating_label:
        scale = SCALES[content.rating_system]
        if rating.rating_system == content.rating_system and rating.rating_label:
            if scale.index(rating.rating_label) > scale.index(content.rating_label):
                yield "label"
        elif _age(creative) > AGES.get(content.rating_label, 3):
            yield "label of another system"
    if creative_id in request.blocked.creatives or campaign.advertiser_id in request.blocked.advertisers:
        yield "blocked"
    if any(_lies_in(own, each) for own in campaign.categories for each in request.blocked.categories):
        yield "blocked category"
    here = request.site.categories
    if any(_lies_in(each, avoided) for each in here for avoided in campaign.blocked_categories):
        yield "page's category"
    if campaign.page_categories and not any(_lies_in(each, own) for each in here for own in campaign.page_categories):
        yield "other category"
    words = {word.lower() for word in request.site.keywords}
    if campaign.keywords and not words & {word.lower() for word in campaign.keywords}:
        yield "keyword"
    domain = request.site.domain or ("sport.news.example" if request.site.page else "")
    if campaign.domains and not any(_is_below(domain, each) for each in campaign.domains):
        yield "domain"
    if any(_is_below(domain, each) for each in campaign.excluded_domains):
        yield "excluded domain"
    for key, values in campaign.key_values.items():
        if not set(values) & set(request.key_values.get(key, ())):
            yield f"key {key}"


def _lies_in(category: str, wanted: str) -> bool:
    return category == wanted or ("-" in category and category.partition("-")[0] == wanted)


def _is_below(domain: str, wanted: str) -> bool:
    return domain == wanted or domain.endswith("." + wanted)


def _of_viewer(campaign: CampaignTerms, request: AdRequest) -> Iterator[str]:
    if campaign.targeting and not any(_is_in(request, target) for target in campaign.targeting):
        yield "place"
    if any(_is_in(request, target) for target in campaign.excluded_targeting):
        yield "excluded place"
    tongue = (request.device.language or "").lower()
    if campaign.languages and not any(tongue == each or tongue.startswith(each + "-") for each in campaign.languages):
        yield "language"
    kind = request.device.type
    kinds = {kind, "mobile"} if kind in {"phone", "tablet"} else {kind}
    if campaign.device_types and not kinds & set(campaign.device_types):
        yield "device"


def _is_in(request: AdRequest, target: Any) -> bool:
    geo = request.geo
    postcode = (geo.zip or "").replace(" ", "")
    wanted = [each.replace(" ", "") for each in target.postcodes]
    return (
        target.country in {None, "CN" if geo.country else "nowhere"}
        and target.region in {None, geo.region}
        and (not target.cities or geo.city in target.cities)
        and (not wanted or any(_matches(postcode, each) for each in wanted))
    )


def _matches(postcode: str, wanted: str) -> bool:
    return postcode.startswith(wanted[:-1]) if wanted[-1] == "*" else postcode == wanted


def _of_time(campaign: CampaignTerms, creative: CreativeTerms, asked: Asking) -> Iterator[str]:
    there = asked.at + (CHINA_AHEAD if campaign.timezone == "Asia/Shanghai" else timedelta(0))
    if there.date() < campaign.start_date or (campaign.end_date and there.date() > campaign.end_date):
        yield "flight"
    for slots, weekdays in ((campaign.time_slots, campaign.weekdays), (creative.time_slots, ())):
        if slots or weekdays:
            ahead = asked.request.geo.utcoffset
            if campaign.time_basis == "viewer" and ahead is None:
                yield "unknown time"
            else:
                local = asked.at + timedelta(minutes=ahead or 0) if campaign.time_basis == "viewer" else there
                if not _is_open(local, slots, weekdays):
                    yield f"time {local}"


def _is_open(local: datetime, slots: Sequence[Any], weekdays: Sequence[str]) -> bool:
    """Tell whether a minute is in a slot that began on one of the weekdays, by going back to where each began."""
    spans = [(each.start, each.end) for each in slots] or [("00:00", "00:00")]
    for begins, ends in spans:
        minutes = {text: int(text[:2]) * 60 + int(text[3:]) for text in (begins, ends)}
        length = (minutes[ends] - minutes[begins]) % 1_440 or 1_440
        for days_ago in (0, 1):
            day = local - timedelta(days=days_ago)
            began = day.replace(hour=0, minute=0, second=0) + timedelta(minutes=minutes[begins])
            is_day = not weekdays or began.strftime("%A").lower() in weekdays
            if is_day and began <= local < began + timedelta(minutes=length):
                return True
    return False


def check_page(evening: Evening, asked: Asking, served: list[Served]) -> None:
    """Assert that what is on a page may be there together."""
    on_page = [evening.campaigns[each.campaign_id] for each in served]
    assert len({each.creative_id for each in served}) == len(served)
    for one, first in zip(served, on_page, strict=True):
        for other, second in zip(served, on_page, strict=True):
            groups = ({group.lower() for group in each.competitive_exclusion} for each in (first, second))
            assert one.campaign_id == other.campaign_id or set.isdisjoint(*groups)
    if any(each.roadblock for each in on_page):
        assert len({each.campaign_id for each in served}) == 1
        assert len(served) == sum(placement.count for placement in asked.request.placements)


def check_passed_over(evening: Evening, asked: Asking, served: list[Served]) -> None:
    """Assert that who came first had the earliest priority of all that fitted and had no limits."""
    placement = asked.request.placements[0]
    slot = evening.slots[placement.slot_id]
    ranks = [
        (campaign.house, campaign.priority)
        for creative_id, creative in evening.creatives.items()
        if (campaign := evening.campaigns[creative.campaign_id]).roadblock is False
        and not broken(campaign, creative, slot, creative_id, asked)
        and campaign.impression_budget is None
        and campaign.max_view_count is None
        and creative.max_views is None
    ]
    first = next((evening.campaigns[each.campaign_id] for each in served if each.number == 0), None)
    if ranks:
        assert first is not None
        assert (first.house, first.priority) <= min(ranks)


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded evening is not here")
def test_no_rule_is_broken_in_an_evening() -> None:
    """Of ten thousand requests all that was served fits, within budgets and caps, and by priority."""
    chance = Random(20131021)
    evening = Evening(chance)
    times: dict[tuple[UUID, str], list[int]] = defaultdict(list)
    kinds: dict[str, int] = defaultdict(int)
    requests = 0
    for asked in synthetic.evening(chance, evening.slots):
        requests += 1
        served = evening.play(asked, chance)
        kinds["filled" if served else "empty"] += 1
        for each in served:
            campaign, creative = evening.campaigns[each.campaign_id], evening.creatives[each.creative_id]
            slot = evening.slots[asked.request.placements[each.number].slot_id]
            assert not broken(campaign, creative, slot, each.creative_id, asked)
            kinds["roadblock"] += campaign.roadblock
            kinds["house"] += campaign.house
            privacy = asked.request.privacy
            if asked.request.viewer.id and not (privacy.gpc or privacy.dnt or privacy.coppa):
                for subject in (each.campaign_id, each.creative_id):
                    times[subject, asked.request.viewer.id].append(int(asked.at.timestamp()))
        check_page(evening, asked, served)
        if requests % EVERY == 0 and len(asked.request.placements) == 1:
            check_passed_over(evening, asked, served)
    assert requests == REQUESTS
    assert all(kinds[kind] > 50 for kind in ("filled", "empty", "roadblock", "house")), dict(kinds)
    sold = {each: terms.impression_budget for each, terms in evening.campaigns.items() if terms.impression_budget}
    assert all(evening.shown[each] <= limit for each, limit in sold.items())
    assert any(evening.shown[each] == limit for each, limit in sold.items())
    assert _capped(evening, times)


def _capped(evening: Evening, times: dict[tuple[UUID, str], list[int]]) -> bool:
    """Assert that nobody saw more than the caps allow; tell whether any cap was reached."""
    reached = False
    for (subject, _), moments in times.items():
        campaign, creative = evening.campaigns.get(subject), evening.creatives.get(subject)
        if creative is not None and creative.max_views is not None:
            assert len(moments) <= creative.max_views
        if campaign is not None and campaign.max_view_count and campaign.max_view_duration:
            window = window_seconds(campaign.max_view_duration)
            reached |= len(moments) >= campaign.max_view_count
            for first, later in zip(moments, moments[campaign.max_view_count :], strict=False):
                assert later - first >= window
    return reached

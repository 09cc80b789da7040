"""A recorded evening that 200 paced campaigns of mixed targeting share: no rule is broken, each is on its curve."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, time

import pytest

from domain.ad_request import AdRequest
from domain.choosing import Candidate
from domain.values import Target
from tests.domain.flights import LEAST
from tests.domain.scenes import RECORDED
from tests.domain.shared_evening import COUNT, SOLD_PART, Asked, Sale, courses, play, sale

pytestmark = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded evening is not here")


@pytest.fixture(scope="module")
def sold() -> Sale:
    """What is for sale."""
    return sale()


@pytest.fixture(scope="module")
def shown(sold: Sale) -> Sequence[Candidate | None]:
    """What each request got."""
    return play(sold)


def test_each_campaign_follows_its_curve(sold: Sale, shown: Sequence[Candidate | None]) -> None:
    """Whatever the others want, each is within a few impressions at every quarter, and is delivered in full."""
    found = courses(sold, shown).values()
    assert len(found) == COUNT
    assert max(course.off for course in found) <= LEAST
    assert [course.delivered[-1] for course in found] == [course.limit for course in found]
    assert sum(course.limit for course in found) == pytest.approx(SOLD_PART * len(sold.asked), rel=0.05)


def test_no_rule_is_broken(sold: Sale, shown: Sequence[Candidate | None]) -> None:
    """Whatever is shown is what somebody who knows nothing of indexes finds right; and each rule stops somebody."""
    stopped: Counter[str] = Counter()
    for asked, candidate in zip(sold.asked, shown, strict=True):
        if candidate is not None:
            assert broken(sold, candidate, asked) == []
            stopped.update(rule for other in shown[::200] if other for rule in broken(sold, other, asked))
    assert {"size", "place", "excluded place", "domain", "hour"} == stopped.keys()


def broken(sold: Sale, candidate: Candidate, asked: Asked) -> list[str]:
    """Return the rules that showing a creative breaks, by its terms and those of its campaign."""
    creative, request = sold.creatives[candidate.creative_id], asked.request
    campaign, slot = sold.campaigns[creative.campaign_id], sold.slots[request.placements[0].slot_id]
    clock = datetime.fromtimestamp(asked.second, UTC).time()
    rules = {
        "size": (creative.width, creative.height) == (slot.width, slot.height),
        "place": not campaign.targeting or within(campaign.targeting, request),
        "excluded place": not within(campaign.excluded_targeting, request),
        "domain": request.site.domain not in campaign.excluded_domains,
        "hour": not campaign.time_slots or time(20) <= clock < time(22, 30),
    }
    return [rule for rule, holds in rules.items() if not holds]


def within(places: Sequence[Target], request: AdRequest) -> bool:
    """Tell whether a request comes from one of these regions."""
    return any((place.country, place.region) == (request.geo.country, request.geo.region) for place in places)

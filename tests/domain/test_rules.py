"""Rules: what keeps a creative out has a name."""

from datetime import UTC, datetime

from msgspec import structs

from domain.ad_request import Geo
from domain.rules import Case, first_stop
from domain.terms import CampaignTerms, CreativeTerms
from domain.values import TimeSlot
from tests.domain.catalogues import CAMPAIGN, CAMPAIGN_ID, CREATIVE, CREATIVE_ID, REQUEST, SLOT, catalogue_of


def case_of(campaign: CampaignTerms, creative: CreativeTerms, now: datetime) -> Case:
    """Return the case of the one creative of the one campaign that there is."""
    catalogue = catalogue_of(campaign, creative, SLOT)
    return Case(
        creative_id=CREATIVE_ID,
        creative=catalogue.creatives[CREATIVE_ID],
        campaign=catalogue.campaigns[CAMPAIGN_ID],
        is_advertiser_active=True,
        request=REQUEST,
        slot=SLOT,
        now=now,
    )


def test_a_viewers_clock_that_is_not_told_is_named() -> None:
    """A campaign that keeps to the viewer's clock is kept out where that is unknown, and the rule says so."""
    evenings = structs.replace(CAMPAIGN, time_basis="viewer", time_slots=(TimeSlot(start="18:00", end="22:00"),))
    case = case_of(evenings, CREATIVE, datetime(2026, 3, 10, 12, tzinfo=UTC))
    told = structs.replace(case, request=structs.replace(REQUEST, geo=Geo(utcoffset=0)))
    assert [stop and stop.name for stop in map(first_stop, (case, told))] == ["viewer_time_unknown", "campaign_hours"]


def test_hours_that_cross_midnight_belong_to_the_day_they_began_on() -> None:
    """At one in the morning of a Tuesday it is still Monday night, for a campaign as well as for a creative."""
    night = {"time_slots": (TimeSlot(start="22:00", end="02:00"),)}
    named = []
    for weekday in ("monday", "tuesday"):
        nightly = structs.replace(CAMPAIGN, weekdays=(weekday,), timezone="UTC", **night)
        stop = first_stop(case_of(nightly, structs.replace(CREATIVE, **night), datetime(2026, 3, 10, 1, tzinfo=UTC)))
        named.append(stop and stop.name)
    assert named == [None, "campaign_hours"]


def test_hours_that_cross_midnight_need_the_day_they_begin_on() -> None:
    """At eleven in the evening of a Monday a night of Mondays has begun, and one of Sundays is over."""
    night = {"time_slots": (TimeSlot(start="22:00", end="02:00"),)}
    named = []
    for weekday in ("monday", "sunday"):
        nightly = structs.replace(CAMPAIGN, weekdays=(weekday,), timezone="UTC", **night)
        stop = first_stop(case_of(nightly, structs.replace(CREATIVE, **night), datetime(2026, 3, 9, 23, tzinfo=UTC)))
        named.append(stop and stop.name)
    assert named == [None, "campaign_hours"]

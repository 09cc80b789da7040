"""Rules: what keeps a creative out has a name."""

from datetime import UTC, datetime
from typing import Any, Final

import pytest
from msgspec import structs

from domain.ad_request import Content, Device, Geo, Site
from domain.rules import Case, first_stop
from domain.terms import CampaignTerms, CreativeTerms
from domain.values import ContentRating, Target, TimeSlot
from tests.domain.catalogues import (
    CAMPAIGN,
    CAMPAIGN_ID,
    CREATIVE,
    CREATIVE_ID,
    REQUEST,
    SLOT,
    catalogue_of,
    chosen,
)

NOON: Final = datetime(2026, 3, 10, 12, tzinfo=UTC)
COLOGNE: Final = Target(country="DE", region="NW", cities=("Köln",))
CENTRE: Final = Target(postcodes=("5 06*", "10115"))


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
    case = case_of(evenings, CREATIVE, NOON)
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


@pytest.mark.parametrize(
    ("rule", "campaign", "stopped", "let_pass"),
    [
        ("place", {"targeting": (COLOGNE,)}, {"geo": Geo()}, {"geo": Geo(country="DEU", region="NW", city="KÖLN")}),
        ("place", {"targeting": (COLOGNE,)}, {"geo": Geo(country="DE", region="NW", city="Bonn")}, None),
        ("place", {"targeting": (CENTRE,)}, {"geo": Geo(zip="5 1667")}, {"geo": Geo(zip="50 667")}),
        ("place", {"targeting": (CENTRE,)}, {"geo": Geo(zip="101150")}, {"geo": Geo(zip="10115")}),
        ("place_excluded", {"excluded_targeting": (CENTRE,)}, {"geo": Geo(zip="50667")}, {"geo": Geo(zip="1011")}),
        ("keyword", {"keywords": ("Shoes",)}, {"site": Site(keywords=("boots",))}, {"site": Site(keywords=("SHOES",))}),
        ("language", {"languages": ("zh-Hans",)}, {"device": Device(language="zh")}, None),
        ("language", {"languages": ("zh",)}, {"device": Device()}, {"device": Device(language="zh_hans_CN")}),
        ("device_type", {"device_types": ("mobile",)}, {"device": Device()}, {"device": Device(type="tablet")}),
        ("device_type", {"device_types": ("phone",)}, {"device": Device(type="tablet")}, None),
        ("device_type", {"device_types": ("mobile",)}, {"device": Device(type="computer")}, None),
        (
            "domain",
            {"domains": ("a.example",)},
            {"site": Site(domain="ba.example")},
            {"site": Site(domain="A.example.")},
        ),
        ("domain", {"domains": ("a.example",)}, {}, {"site": Site(page="https://b.a.example/1")}),
        ("domain", {"domains": ("a.example",)}, {"site": Site(page="//[")}, None),
        ("domain_excluded", {"excluded_domains": ("example",)}, {"site": Site(domain="a.example")}, {}),
        ("key_values", {"key_values": {"seat": ("a", "b"), "row": ("1",)}}, {"key_values": {"seat": ("a",)}}, None),
        (
            "key_values",
            {"key_values": {"seat": ("a",)}},
            {"key_values": {"seat": ("c",)}},
            {"key_values": {"seat": ("a",)}},
        ),
        ("page_category", {"page_categories": ("IAB1",)}, {"site": Site(categories=("IAB10-2",))}, None),
    ],
)
def test_what_a_rule_stops_is_not_chosen(
    rule: str, campaign: dict[str, Any], stopped: dict[str, Any], let_pass: dict[str, Any] | None
) -> None:
    """What a request says, or does not, keeps a campaign out under the rule's name and when it is chosen alike."""
    terms = structs.replace(CAMPAIGN, **campaign)
    case = case_of(terms, CREATIVE, NOON)
    for said, name in ((stopped, rule), (let_pass, None)):
        if said is not None:
            request = structs.replace(REQUEST, **said)
            stop = first_stop(structs.replace(case, request=request))
            assert (stop and stop.name) == name
            assert chosen(catalogue_of(terms), request, now=NOON) == ([] if name else [CREATIVE_ID])


@pytest.mark.parametrize(
    ("rating", "allowed"),
    [(("MPAA", "PG"), True), (("MPAA", "R"), False), (("PEGI", "12"), True), (("PEGI", "18"), False), (None, False)],
)
def test_a_page_sets_a_label(rating: tuple[Any, str] | None, allowed: bool) -> None:
    """A page that names a label of one system is kept to in that of the creative; what nobody rated is kept out."""
    known = ContentRating(rating_system=rating[0], rating_label=rating[1]) if rating else ContentRating()
    creative = structs.replace(CREATIVE, content_rating=known)
    request = structs.replace(REQUEST, content=Content(rating_system="MPAA", rating_label="PG-13"))
    stop = first_stop(structs.replace(case_of(CAMPAIGN, creative, NOON), request=request))
    assert (stop and stop.name) == (None if allowed else "page_label")
    assert bool(chosen(catalogue_of(creative=creative), request, now=NOON)) == allowed


@pytest.mark.parametrize("night", [(), (TimeSlot(start="22:00", end="02:00"),)])
def test_a_campaign_keeps_to_its_weekdays(night: tuple[TimeSlot, ...]) -> None:
    """Of a Monday, or of the night that it begins, a campaign is shown neither before nor after."""
    terms = structs.replace(CAMPAIGN, weekdays=("monday",), time_slots=night)
    shown = []
    for day, hour in ((8, 23), (9, 1), (9, 23), (10, 1), (10, 3)):
        now = datetime(2026, 3, day, hour, tzinfo=UTC)
        shown.append(chosen(catalogue_of(terms), now=now) == [CREATIVE_ID])
        assert shown[-1] == (first_stop(case_of(terms, CREATIVE, now)) is None)
    assert shown == ([False, False, True, True, False] if night else [False, True, True, False, False])

"""Choosing: what fits is found, and is offered by priority and chance, the same way every time."""

from collections import Counter
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from msgspec import structs

from domain.ad_request import AdRequest, Blocked, Content, Geo, Placement, Privacy, Site
from domain.advertiser import Advertiser
from domain.campaign import Paused
from domain.choosing import Snapshot, eligible, index, of_campaigns
from domain.precedence import choose
from domain.slot import Slot
from domain.terms import AdvertiserTerms
from domain.values import ContentRating, Pricing, Target, TimeSlot
from tests.domain.catalogues import (
    ADVERTISER_ID,
    CAMPAIGN,
    CAMPAIGN_ID,
    CREATIVE,
    CREATIVE_ID,
    OTHER_SLOT_ID,
    PLACEMENT,
    REQUEST,
    SLOT,
    SLOT_ID,
    Catalogue,
    catalogue_of,
    catalogues,
    chosen,
    fitting,
    moments,
    placements,
    requests,
    weighted,
)
from tests.domain.strategies import law

NOON: Final = datetime(2026, 3, 10, 12, tzinfo=UTC)
draws: Final = st.integers(0, 2**256 - 1)


def is_shown(
    request: AdRequest = REQUEST,
    *,
    campaign: dict[str, Any] | None = None,
    creative: dict[str, Any] | None = None,
    slot: dict[str, Any] | None = None,
    now: datetime = NOON,
) -> bool:
    """Tell whether the one creative of a catalogue is shown, when these of its terms differ from what fits."""
    catalogue = catalogue_of(
        structs.replace(CAMPAIGN, **campaign or {}),
        structs.replace(CREATIVE, **creative or {}),
        structs.replace(SLOT, **slot or {}),
    )
    return chosen(catalogue, request, now=now) == [CREATIVE_ID]


def asking(**fields: Any) -> AdRequest:
    """Return a request that says more than the least."""
    return structs.replace(REQUEST, **fields)


def fixed_draws(count: int) -> list[int]:
    """Return draws as a keyed hash makes them, the same in every run."""
    return [int.from_bytes(sha256(str(number).encode()).digest()) for number in range(count)]


@settings(law, max_examples=200)
@for_all(catalogue=catalogues, request=requests, placement=placements, now=moments, draw=draws)
def test_what_fits_is_found(
    catalogue: Catalogue, request: AdRequest, placement: Placement, now: datetime, draw: int
) -> None:
    """The bitsets find what a plain look at every creative finds, each once, and priorities in strict order."""
    found = chosen(catalogue, request, placement=placement, now=now, draw=draw)
    assert len(found) == len(set(found))
    assert set(found) == fitting(catalogue, request, placement, now)
    campaigns = [catalogue.campaigns[catalogue.creatives[creative_id].terms.campaign_id] for creative_id in found]
    priorities = [campaign.terms.priority for campaign in campaigns]
    assert priorities == sorted(priorities)


@law
@for_all(catalogue=catalogues, request=requests, placement=placements, now=moments, draw=draws)
def test_an_auditor_can_repeat_a_choice(
    catalogue: Catalogue, request: AdRequest, placement: Placement, now: datetime, draw: int
) -> None:
    """The same catalogue, request, moment and draw give the same order for ever."""
    again = deepcopy(catalogue)
    first = chosen(catalogue, request, placement=placement, now=now, draw=draw)
    assert chosen(again, request, placement=placement, now=now, draw=draw) == first


def test_a_creative_that_fits_is_shown() -> None:
    """The example that the other tests change in one respect each is shown, with what answering needs of it."""
    assert is_shown()
    (candidate,) = catalogue_of().snapshot().lineups[SLOT_ID].candidates
    assert (candidate.campaign_id, candidate.creative_id) == (CAMPAIGN_ID, CREATIVE_ID)
    assert (candidate.campaign, candidate.creative) == (CAMPAIGN, CREATIVE)


@pytest.mark.parametrize(
    ("creative", "slot"),
    [
        ({"ad_type": "bottom_left_ad"}, {}),
        ({"width": 301}, {}),
        ({"height": 251}, {}),
        ({"width": 250, "height": 300}, {}),
        ({"media_type": "text", "width": None, "height": None}, {}),
        ({"media_type": "audio"}, {}),
        ({"media_type": "image"}, {"media_types": ("html", "video")}),
        ({}, {"max_rating": "over_12"}),
        ({}, {"floor_cpm_micros": 2_001}),
        ({}, {"status": "inactive"}),
    ],
)
def test_a_creative_has_to_fit_its_slot(creative: dict[str, Any], slot: dict[str, Any]) -> None:
    """Ad type, size, media type, rating and floor price all have to match, and the slot has to be active."""
    adult = {"content_rating": ContentRating(rating_system="MPAA", rating_label="R")}
    assert is_shown(creative=adult)
    assert not is_shown(creative=adult | creative, slot=slot)


@pytest.mark.parametrize(
    "other",
    [
        {"ad_type": "bottom_left_ad"},
        {"width": 728},
        {"height": 90},
        {"media_types": ("html",)},
        {"max_rating": "over_12"},
        {"floor_cpm_micros": 2_001},
    ],
)
def test_slots_that_differ_in_one_respect_are_told_apart(other: dict[str, Any]) -> None:
    """A creative that fits one slot is not shown in another that takes something else."""
    adult = structs.replace(CREATIVE, content_rating=ContentRating(rating_system="MPAA", rating_label="R"))
    for first, second in (({}, other), (other, {})):
        slots = {SLOT_ID: Slot(terms=structs.replace(SLOT, **first))}
        slots |= {OTHER_SLOT_ID: Slot(terms=structs.replace(SLOT, **second))}
        catalogue = structs.replace(catalogue_of(creative=adult), slots=slots)
        assert bool(chosen(catalogue)) == (not first)
        placement = Placement(id="p2", slot_id=OTHER_SLOT_ID)
        assert bool(chosen(catalogue, placement=placement)) == (not second)


@pytest.mark.parametrize("pricing", [Pricing(model="cpc", price_micros=1), Pricing(model="flat", price_micros=1)])
def test_a_floor_is_a_matter_of_cpm(pricing: Pricing) -> None:
    """A floor price says nothing about campaigns that are not paid by the thousand."""
    assert is_shown(campaign={"pricing": pricing}, slot={"floor_cpm_micros": 2_001})
    assert is_shown(slot={"floor_cpm_micros": 2_000})


@pytest.mark.parametrize(
    ("rating", "audience"),
    [
        (ContentRating(rating_system="PEGI", rating_label="3"), 1),
        (ContentRating(rating_system="MPAA", rating_label="PG-13"), 2),
        (ContentRating(rating_system="ESRB", rating_label="AO"), 3),
        (ContentRating(rating_system="ESRB"), 3),
        (ContentRating(), 3),
    ],
)
def test_a_page_sets_the_audience(rating: ContentRating, audience: int) -> None:
    """A page shows what is for its audience or a wider one; what nobody rated is for the narrowest."""
    creative = {"content_rating": rating}
    assert is_shown(asking(content=Content(max_rating="mature")), creative=creative)
    assert is_shown(asking(content=Content(max_rating="over_12")), creative=creative) == (audience <= 2)
    assert is_shown(asking(content=Content(max_rating="all_audiences")), creative=creative) == (audience == 1)
    assert is_shown(asking(privacy=Privacy(coppa=True)), creative=creative) == (audience == 1)
    open_page = Content(max_rating="mature")
    assert is_shown(asking(privacy=Privacy(coppa=True), content=open_page), creative=creative) == (audience == 1)


def test_what_is_blocked_is_not_shown() -> None:
    """A page blocks advertisers, creatives and categories; a campaign blocks categories of pages."""
    other = UUID(int=999)
    tagged = {"categories": ("IAB1", "IAB2", "IAB2"), "blocked_categories": ("IAB3", "IAB4", "IAB4")}
    assert is_shown(asking(blocked=Blocked(advertisers=(other,), creatives=(other,))))
    assert not is_shown(asking(blocked=Blocked(advertisers=(other, ADVERTISER_ID))))
    assert not is_shown(asking(blocked=Blocked(creatives=(other, CREATIVE_ID))))
    assert not is_shown(asking(blocked=Blocked(categories=("IAB9", "IAB2"))), campaign=tagged)
    assert not is_shown(asking(blocked=Blocked(categories=("IAB1", "IAB2"))), campaign=tagged)
    assert is_shown(asking(blocked=Blocked(categories=("IAB3",))), campaign=tagged)
    assert not is_shown(asking(site=Site(categories=("IAB9", "IAB4"))), campaign=tagged)
    assert is_shown(asking(site=Site(categories=("IAB1",))), campaign=tagged)


@pytest.mark.parametrize(
    ("target", "geo", "fits"),
    [
        (Target(), Geo(), True),
        (Target(country="CN"), Geo(country="CN"), True),
        (Target(country="CN"), Geo(country="CHN", region="216", city="217", zip="1"), True),
        (Target(country="CN"), Geo(country="US"), False),
        (Target(country="CN"), Geo(country="ZZZ"), False),
        (Target(country="CN"), Geo(), False),
        (Target(country="CN", region="216"), Geo(country="CN", region="217"), False),
        (Target(country="CN", region="216"), Geo(region="216"), False),
        (Target(region="216"), Geo(country="US", region="216"), True),
        (Target(cities=("Köln", "Straße")), Geo(city="STRASSE"), True),
        (Target(cities=("Köln", "Straße")), Geo(city="Koln"), False),
        (Target(cities=("Köln",)), Geo(), False),
        (Target(postcodes=("1", "2")), Geo(zip="2"), True),
        (Target(cities=("Köln",), postcodes=("1", "2")), Geo(city="Köln", zip="3"), False),
        (Target(country="DE", cities=("a", "b"), postcodes=("1", "2")), Geo(country="DEU", city="B", zip="2"), True),
    ],
)
def test_a_campaign_is_shown_where_it_targets(target: Target, geo: Geo, fits: bool) -> None:
    """All that a target names has to hold; cities are compared without case, countries by either code."""
    assert is_shown(asking(geo=geo), campaign={"targeting": (target,)}) == fits
    assert is_shown(asking(geo=geo), campaign={"targeting": (Target(country="FR"), target)}) == fits
    assert is_shown(asking(geo=geo), campaign={"targeting": (Target(), target)})


@pytest.mark.parametrize(
    ("timezone", "first", "after"),
    [
        ("UTC", datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 3, 9, tzinfo=UTC)),
        ("Asia/Shanghai", datetime(2026, 3, 7, 16, tzinfo=UTC), datetime(2026, 3, 8, 16, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 3, 8, 5, tzinfo=UTC), datetime(2026, 3, 9, 4, tzinfo=UTC)),
    ],
)
def test_flight_dates_are_those_of_the_campaigns_time_zone(timezone: str, first: datetime, after: datetime) -> None:
    """A flight runs from the first midnight to the last, also on a day of 23 hours, in the campaign's time zone.

    Of the dates of the campaign and the creative, the latest start and the earliest end count.
    """
    day, before, later, second = date(2026, 3, 8), date(2026, 3, 1), date(2026, 3, 31), timedelta(seconds=1)
    zoned = {"timezone": timezone}
    for campaign, creative in (
        ({"start_date": day, "end_date": day}, {}),
        ({"start_date": before, "expiry_date": later}, {"start_date": day, "end_date": day}),
        ({"start_date": day, "expiry_date": day}, {"start_date": before, "expiry_date": later}),
        ({"start_date": day, "end_date": later}, {"expiry_date": day}),
    ):
        terms: dict[str, Any] = {"campaign": campaign | zoned, "creative": creative}
        assert not is_shown(**terms, now=first - second)
        assert is_shown(**terms, now=first)
        assert is_shown(**terms, now=after - second)
        assert not is_shown(**terms, now=after)


@pytest.mark.parametrize(
    ("slots", "hours"),
    [
        (("08:00-10:00",), {8, 9}),
        (("22:00-02:00",), {22, 23, 0, 1}),
        (("08:00-10:00", "09:00-11:00", "23:00-00:00"), {8, 9, 10, 23}),
        (("06:00-06:00",), set(range(24))),
        ((), set(range(24))),
    ],
)
@pytest.mark.parametrize(
    ("timezone", "midnight"),
    [
        ("UTC", datetime(2026, 3, 10, tzinfo=UTC)),
        ("Asia/Shanghai", datetime(2026, 3, 9, 16, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 3, 10, 4, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 3, 7, 5, tzinfo=UTC)),
        ("Asia/Kolkata", datetime(2026, 3, 9, 18, 30, tzinfo=UTC)),
    ],
)
def test_time_slots_are_local_and_may_cross_midnight(
    slots: tuple[str, ...], hours: set[int], timezone: str, midnight: datetime
) -> None:
    """A time slot includes its first minute and not its last, by the clock of the campaign's time zone."""
    spans = tuple(TimeSlot(start=span[:5], end=span[6:]) for span in slots)
    for hour in range(24):
        for into in (timedelta(0), timedelta(minutes=59, seconds=59)):
            now = midnight + timedelta(hours=hour) + into
            shown_now = is_shown(campaign={"timezone": timezone}, creative={"time_slots": spans}, now=now)
            assert shown_now == (hour in hours), now


@pytest.mark.parametrize(
    ("start", "end"), [("08:15", "08:45"), ("08:15", "10:05"), ("23:50", "00:09"), ("00:00", "00:01")]
)
def test_time_slots_are_kept_to_the_minute(start: str, end: str) -> None:
    """A time slot begins with its first minute and ends before its last."""
    midnight, second = datetime(2026, 3, 10, tzinfo=UTC), timedelta(seconds=1)
    creative = {"time_slots": (TimeSlot(start=start, end=end),)}
    first, after = (midnight + timedelta(hours=int(clock[:2]), minutes=int(clock[3:])) for clock in (start, end))
    assert [is_shown(creative=creative, now=now) for now in (first - second, first)] == [False, True]
    assert [is_shown(creative=creative, now=now) for now in (after - second, after)] == [True, False]


def test_an_hour_that_the_clocks_skip_is_no_time_slot() -> None:
    """In the night in which clocks go forward, a slot within the missing hour is not shown at all."""
    spans = (TimeSlot(start="02:00", end="03:00"),)
    midnight = datetime(2026, 3, 8, 5, tzinfo=UTC)
    assert not any(
        is_shown(
            campaign={"timezone": "America/New_York"},
            creative={"time_slots": spans},
            now=midnight + timedelta(minutes=30 * half),
        )
        for half in range(46)
    )


def test_chance_follows_weight() -> None:
    """Of 6,000 draws, each creative comes first about as often as its weight says, and so it is for second places."""
    snapshot = weighted(1, 2, 7).snapshot()
    orders = [
        tuple(candidate.creative_id.int for candidate in choose(snapshot, 0b111, PLACEMENT, NOON, draw))
        for draw in fixed_draws(6_000)
    ]
    first = Counter(order[0] for order in orders)
    expected = {0: 600, 1: 1_200, 2: 4_200}
    chi_square = sum((first[number] - count) ** 2 / count for number, count in expected.items())
    assert chi_square < 13.8  # exceeded by chance once in 1,000
    second = Counter(order[1] for order in orders if order[0] == 2)
    assert abs(second[1] / (second[0] + second[1]) - 2 / 3) < 0.03
    assert {tuple(sorted(order)) for order in orders} == {(0, 1, 2)}


def test_priorities_come_strictly_one_after_the_other() -> None:
    """However heavy, a creative of a later priority never comes before one of an earlier."""
    catalogue = weighted(1_000, 1, 1_000, 1, 500, 2, priorities=(5, 1, 4, 1, 3, 2))
    for draw in fixed_draws(50):
        found = [creative_id.int for creative_id in chosen(catalogue, now=NOON, draw=draw)]
        assert sorted(found[:2]) == [1, 3]
        assert found[2:] == [5, 4, 2, 0]


def test_a_viewers_clock_has_to_be_told() -> None:
    """A campaign that keeps to the viewer's clock is not shown where that is unknown."""
    evenings = {"time_basis": "viewer", "time_slots": (TimeSlot(start="18:00", end="22:00"),)}
    assert [is_shown(asking(geo=Geo(utcoffset=ahead)), campaign=evenings) for ahead in (None, 0, 480)] == [
        False,
        False,
        True,
    ]


def test_campaigns_that_are_sold_out_can_be_left_out() -> None:
    """The caller takes away the bits of campaigns that have nothing left to promise."""
    snapshot = weighted(1, 1, 1, priorities=(1, 2, 1)).snapshot()
    sold_out = of_campaigns(snapshot.lineups[SLOT_ID], [UUID(int=101), UUID(int=999)])
    found = choose(snapshot, eligible(snapshot, REQUEST, PLACEMENT) & ~sold_out, PLACEMENT, NOON, 12345)
    assert [candidate.creative_id.int for candidate in found] == [1]
    assert of_campaigns(snapshot.lineups[SLOT_ID], []) == 0


@pytest.mark.parametrize("limits", [{}, {"budget_micros": 1}, {"daily_impression_budget": 1}])
def test_campaigns_with_a_limit_are_told_apart(limits: dict[str, Any]) -> None:
    """A snapshot names the campaigns whose impressions have to be leased, as far as they can be served."""
    terms = structs.replace(CAMPAIGN, **limits)
    snapshot = catalogue_of(terms).snapshot()
    assert snapshot.limited == ({CAMPAIGN_ID} if limits else set())
    assert [candidate.limited for candidate in snapshot.lineups[SLOT_ID].candidates] == [bool(limits)]
    paused = structs.replace(catalogue_of(), campaigns={CAMPAIGN_ID: Paused(terms=terms)})
    assert paused.snapshot().limited == set()


def test_an_unknown_slot_is_offered_nothing() -> None:
    """A placement of a slot that is not served has no candidates."""
    placement = Placement(id="p1", slot_id=OTHER_SLOT_ID)
    assert chosen(catalogue_of(), placement=placement, now=NOON) == []


def test_an_empty_snapshot_answers_every_request() -> None:
    """Before anything is known nothing is offered, and nothing fails."""
    request = asking(content=Content(max_rating="over_12"))
    for snapshot in (Snapshot(), Catalogue(campaigns={}, creatives={}, slots={SLOT_ID: Slot(terms=SLOT)}).snapshot()):
        assert list(choose(snapshot, eligible(snapshot, request, PLACEMENT), PLACEMENT, NOON, 1)) == []


def test_keys_open_the_active_slots() -> None:
    """A snapshot knows its position, its active slots, and which slot each valid key opens."""
    open_slot = Slot(terms=SLOT, keys={UUID(int=1): "aa", UUID(int=2): "bb"})
    closed = Slot(terms=structs.replace(SLOT, status="inactive"), keys={UUID(int=3): "cc"})
    catalogue = structs.replace(catalogue_of(), slots={SLOT_ID: open_slot, OTHER_SLOT_ID: closed})
    snapshot = catalogue.snapshot()
    assert snapshot.position == 7
    assert snapshot.slots == {SLOT_ID: SLOT}
    assert snapshot.slot_by_key_sha256 == {"aa": SLOT_ID, "bb": SLOT_ID}


def test_the_campaigns_of_an_inactive_advertiser_rest() -> None:
    """What an advertiser that was made inactive has running is not shown, and nobody else's rests with it."""
    active, things = AdvertiserTerms(name="Shoes"), structs.asdict(catalogue_of())
    for terms, shown_ones in ((active, 1), (structs.replace(active, status="inactive"), 0)):
        snapshot = index(position=1, advertisers={ADVERTISER_ID: Advertiser(terms=terms)}, **things)
        assert len(snapshot.lineups[SLOT_ID].candidates) == shown_ones

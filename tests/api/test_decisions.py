"""Asking for creatives: what fits is chosen by priority and chance, nothing else is, and no database is asked."""

import os
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psutil
import psycopg
import pytest

from tests.api.pages import Page, eventually, fresh, new_page, recorded, spent
from tests.running import Service
from tests.world import World

DECISION_SECONDS_MAX: Final = 1.0


@pytest.fixture
def page(world: World) -> Page:
    """A page with one slot."""
    return new_page(world)


def day(shift: int) -> str:
    """Return a date so many days from today, in UTC."""
    return str(datetime.now(UTC).date() + timedelta(days=shift))


def hours(shift: int) -> str:
    """Return a time of day so many hours from now, in UTC."""
    return f"{datetime.now(UTC) + timedelta(hours=shift):%H:%M}"


def test_placements_share_what_fits(page: Page) -> None:
    """Each placement gets as many creatives as it takes, none of them twice on the page, and the reason for a gap."""
    campaign_id, first = page.campaign()
    creatives = {first, *(page.creative(campaign_id) for _ in range(2))}
    page.known()
    one, two, three = page.ask(2, 2, 1)
    assert [len(placement["ads"]) for placement in (one, two, three)] == [2, 1, 0]
    assert [placement["no_bid_reason"] for placement in (one, two, three)] == [None, *["no_matching_creative"] * 2]
    assert [placement["placement_id"] for placement in (one, two, three)] == ["p0", "p1", "p2"]
    assert {ad["creative_id"] for placement in (one, two) for ad in placement["ads"]} == creatives
    assert len({ad["decision_id"] for placement in (one, two) for ad in placement["ads"]}) == 3


def test_slots_of_one_page_differ(world: World, page: Page) -> None:
    """The key of one slot asks for every slot of the ledger, and each gets what fits it."""
    other = new_page(world)
    shown = [each.campaign()[1] for each in (page, other)]
    page.known()
    found = page.ask(1, 1, slots=(page.slot_id, other.slot_id))
    assert [placement["ads"][0]["creative_id"] for placement in found] == shown


def test_an_ad_says_what_to_show_and_where_to_report(page: Page) -> None:
    """An ad carries the creative's media and size, the ids of whom it belongs to, and until when it holds."""
    advertiser_id = page.world.advertiser()
    campaign_id, creative_id = page.campaign(advertiser_id=advertiser_id)
    page.known()
    (ad,) = page.ask(1)[0]["ads"]
    assert (ad["campaign_id"], ad["creative_id"], ad["advertiser_id"]) == (campaign_id, creative_id, advertiser_id)
    assert (ad["media_type"], ad["media_url"], ad["media_content"]) == ("image", "https://cdn.example/banner.png", None)
    assert (ad["width"], ad["height"]) == (page.size["width"], page.size["height"])
    for name, letter in (("impression_url", "i"), ("view_url", "v"), ("click_url", "c")):
        assert ad[name].startswith(f"{page.world.service.url}/ads/v1/{letter}/")
    until = [datetime.fromisoformat(ad[name]) for name in ("hold_expires_at", "expires_at")]
    assert until[1] - until[0] == timedelta(seconds=86_400 - 60)
    assert abs(until[0] - datetime.now(UTC) - timedelta(seconds=60)) < timedelta(seconds=10)


@pytest.mark.parametrize(
    "other",
    [
        {"width": 9_999},
        {"height": 9_999},
        {"ad_type": "bottom_left_ad"},
        {
            "media_type": "video",
            "media_url": "https://cdn.example/a.mp4",
            "mime_type": "video/mp4",
            "bit_rate_kbps": 800,
            "duration_seconds": 5,
        },
        {"start_date": day(1)},
        {"start_date": day(-9), "end_date": day(-2)},
        {"expiry_date": day(-2)},
        {"time_slots": [{"start": hours(2), "end": hours(4)}]},
        {"content_rating": {"rating_system": "MPAA", "rating_label": "R"}},
    ],
    ids=" ".join,
)
def test_what_does_not_fit_is_not_shown(world: World, other: dict[str, Any]) -> None:
    """A creative of another size, ad type or media type, another day or hour, or rated too high is kept out."""
    page = new_page(world, max_rating="over_12")
    rated = {"content_rating": {"rating_system": "MPAA", "rating_label": "PG-13"}}
    campaign_id = world.campaign()
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    fits = page.creative(campaign_id, **rated)
    page.creative(campaign_id, **{**rated, **other})
    page.known()
    (placement,) = page.ask(2)
    assert [ad["creative_id"] for ad in placement["ads"]] == [fits]


@pytest.mark.parametrize(
    "fits",
    [
        {"start_date": day(-1), "end_date": day(1), "expiry_date": day(2)},
        {"time_slots": [{"start": hours(3), "end": hours(4)}, {"start": hours(-1), "end": hours(1)}]},
        {"time_slots": [{"start": hours(-12), "end": hours(-12)}]},
        {"media_type": "html", "media_url": None, "media_content": "<b>now</b>"},
    ],
    ids=["dates", "one of its hours", "all day", "media type"],
)
def test_what_fits_is_shown(page: Page, fits: dict[str, Any]) -> None:
    """A creative on its days, in one of its time slots, or of any media type the slot takes, is shown."""
    campaign_id = page.world.campaign()
    page.world.post(f"campaigns/{campaign_id}/activate", expect=200)
    creative_id = page.creative(campaign_id, **fits)
    page.known()
    assert page.shown() == creative_id


@pytest.mark.parametrize("timezone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_days_are_those_of_the_campaign(page: Page, timezone: str) -> None:
    """A campaign starts at midnight where it runs: where it is a day ahead, before UTC gets there."""
    ahead = timezone == "Pacific/Kiritimati"
    local = (datetime.now(UTC) + timedelta(hours=14 if ahead else -11)).date()
    _, running = page.campaign(timezone=timezone, start_date=str(local), end_date=str(local))
    page.campaign(timezone=timezone, start_date=str(local + timedelta(days=1)))
    page.known()
    assert [ad["creative_id"] for ad in page.ask(2)[0]["ads"]] == [running]


GEO: Final = {"country": "CN", "region": "216", "city": "Shanghai", "zip": "200000"}


@pytest.mark.parametrize(
    ("target", "geo", "fits"),
    [
        ({"country": "CN"}, GEO, True),
        ({"country": "CHN"}, GEO, True),
        ({"country": "CN"}, {**GEO, "country": "CHN"}, True),
        ({"country": "DE"}, GEO, False),
        ({"country": "CN"}, {}, False),
        ({"region": "216"}, GEO, True),
        ({"country": "CN", "region": "217"}, GEO, False),
        ({"cities": ["Beijing", "SHANGHAI"]}, GEO, True),
        ({"cities": ["Beijing"]}, GEO, False),
        ({"postcodes": ["200000", "1"]}, GEO, True),
        ({"cities": ["Shanghai"], "postcodes": ["1"]}, GEO, False),
    ],
)
def test_places_are_matched(page: Page, target: dict[str, Any], geo: dict[str, str], *, fits: bool) -> None:
    """A target asks for all that it names: country in either code, region, city in any case, postcode."""
    page.campaign(targeting=[{"country": "FR"}, target])
    page.known()
    assert (page.shown(geo=geo) is not None) is fits


def test_what_the_page_blocks_is_not_shown(page: Page) -> None:
    """Blocked advertisers, creatives and categories are kept out, and campaigns from pages that they block."""
    word, advertiser_id = fresh(), page.world.advertiser()
    _, creative_id = page.campaign(advertiser_id=advertiser_id, categories=[word], blocked_categories=["news"])
    page.known()
    assert page.shown(blocked={"advertisers": [str(uuid4())], "categories": ["x"]}) == creative_id
    assert page.shown(site={"categories": ["sports"]}) == creative_id
    for kept_out in (
        {"blocked": {"advertisers": [advertiser_id]}},
        {"blocked": {"creatives": [creative_id]}},
        {"blocked": {"categories": [word]}},
        {"site": {"categories": ["sports", "news"]}},
    ):
        assert page.shown(**kept_out) is None


def test_what_the_page_allows_bounds_the_rating(page: Page) -> None:
    """A page may ask for a milder rating than the slot's, and a child's page gets what is for all audiences only."""
    campaign_id, unrated = page.campaign()
    mild = page.creative(campaign_id, content_rating={"rating_system": "TV_PG", "rating_label": "TV-G"})
    page.known()

    def shown(**fields: Any) -> set[str]:
        return {ad["creative_id"] for ad in page.ask(2, **fields)[0]["ads"]}

    assert shown() == {unrated, mild}
    assert shown(content={"max_rating": "all_audiences"}) == {mild}
    assert shown(privacy={"coppa": True}, content={"max_rating": "mature"}) == {mild}


def test_only_what_is_active_is_shown(page: Page) -> None:
    """A paused campaign and an archived creative are not shown any more, an activated campaign is again."""
    campaign_id, creative_id = page.campaign()
    page.known()
    for step, shown in (("pause", None), ("activate", creative_id)):
        page.world.post(f"campaigns/{campaign_id}/{step}", expect=200)
        page.known()
        assert page.shown() == shown
    page.world.post(f"creatives/{creative_id}/archive", expect=200)
    page.known()
    assert page.shown() is None


def test_a_floor_keeps_cheap_campaigns_out(world: World) -> None:
    """Campaigns that pay less per thousand than the slot's floor are not shown in it; those that pay otherwise are."""
    page = new_page(world, floor_cpm_micros=5_000_000)
    page.campaign(pricing={"model": "cpm", "price_micros": 4_999_000})
    shown = {
        page.campaign(pricing={"model": "cpm", "price_micros": 5_000_000})[1],
        page.campaign(pricing={"model": "cpc", "price_micros": 1})[1],
    }
    page.known()
    assert {ad["creative_id"] for ad in page.ask(3)[0]["ads"]} == shown


def test_priority_comes_before_weight(page: Page) -> None:
    """The first priority is always shown before the others, and weights decide the chances within one."""
    (_, heavy), (_, light) = page.campaign(priority=2, weight=900), page.campaign(priority=2, weight=100)
    page.campaign(priority=3)
    page.known()
    drawn = Counter(page.shown() for _ in range(120))
    assert set(drawn) == {heavy, light}
    assert 90 <= drawn[heavy] <= 119
    _, first = page.campaign(priority=1)
    page.known()
    assert [page.shown() for _ in range(20)] == [first] * 20


def test_what_is_sold_out_is_said(page: Page) -> None:
    """When what fits has no budget left to promise, the reason is another than when nothing fits."""
    page.campaign(impression_budget=1)
    assert page.served()["creative_id"]
    (placement,) = page.ask(1)
    assert (placement["ads"], placement["no_bid_reason"]) == ([], "no_budget")
    assert page.ask(1, geo={"country": "FR"})[0]["no_bid_reason"] == "no_budget"
    assert page.ask(1, content={"max_rating": "all_audiences"})[0]["no_bid_reason"] == "no_matching_creative"


def test_an_unknown_slot_is_refused_and_holds_nothing(page: Page) -> None:
    """A page that names a slot that is not there, or not active, is refused, and nothing is held for it."""
    page.campaign(impression_budget=2)
    closed, _ = page.world.slot(status="inactive")
    page.known()
    held = page.served()
    for unknown in (closed, str(uuid4())):
        placements = [{"id": "a", "slot_id": page.slot_id}, {"id": "b", "slot_id": unknown}]
        answer = page.ads.post("/ads/v1/decisions", json={"id": "page", "placements": placements})
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_reference")
        assert answer.json()["errors"][0]["pointer"] == "/placements/1/slot_id"
    assert page.served()["decision_id"] != held["decision_id"]
    assert page.ask(1)[0]["no_bid_reason"] == "no_budget"


def test_only_valid_keys_are_answered(world: World, page: Page) -> None:
    """Without a key, with a forged, revoked or inactive slot's key, or with a person's token, there is no answer."""
    issued = world.post(f"slots/{page.slot_id}/keys")
    idle, idle_ads = world.slot()
    world.admin.patch(f"/api/v1/slots/{idle}", json={"status": "inactive"}).raise_for_status()
    world.admin.delete(f"/api/v1/slots/{page.slot_id}/keys/{issued['key_id']}").raise_for_status()
    page.known()
    good = page.ads.headers["Authorization"]
    body = {"id": "page", "placements": [{"id": "p", "slot_id": page.slot_id}]}
    for credentials in (
        None,
        "",
        "Bearer",
        "Bearer lsk_forged",
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        good.replace("Bearer", "Basic"),
        f"Bearer {issued['key']}",
        idle_ads.headers["Authorization"],
        world.admin.headers["Authorization"],
    ):
        headers = {} if credentials is None else {"Authorization": credentials}
        for answer in (
            httpx.post(f"{world.service.url}/ads/v1/decisions", json=body, headers=headers),
            httpx.get(f"{world.service.url}/ads/v1/slots", headers=headers),
        ):
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), credentials
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_test_decision_is_recorded_and_never_billed(page: Page) -> None:
    """A test takes nothing from the budget, and its impression and click are recorded with that reason."""
    campaign_id, _ = page.campaign(impression_budget=1, pricing={"model": "cpm", "price_micros": 7_000})
    page.known()
    ads = [page.ask(1, test=True)[0]["ads"][0] for _ in range(3)]
    for ad in ads:
        assert httpx.get(ad["impression_url"]).status_code == 204
    assert httpx.get(ads[0]["click_url"]).status_code == 302
    events = [entry["event"] for entry in recorded(page.world, ads[0]["decision_id"])]
    assert [(event["type"], event["billed"], event["reason"]) for event in events] == [
        ("impression_recorded", False, "test"),
        ("click_recorded", False, "test"),
    ]
    found = spent(page.world, campaign_id)
    assert [found[name] for name in ("impressions", "billed_impressions", "clicks", "spent_micros")] == [3, 0, 1, 0]
    assert page.served()["campaign_id"] == campaign_id


def test_a_viewer_is_known_by_a_pseudonym_or_not_at_all(page: Page) -> None:
    """The log names a viewer by a pseudonym, the same every time, and not at all where the viewer wants privacy."""
    campaign_id, _ = page.campaign()
    page.creative(campaign_id, content_rating={"rating_system": "IAB", "rating_label": "1"})
    page.known()
    name = f"viewer {fresh()}"

    def viewer(**privacy: bool) -> str | None:
        (ad,) = page.ask(1, viewer={"id": name}, privacy=privacy, geo=GEO)[0]["ads"]
        httpx.get(ad["impression_url"]).raise_for_status()
        (entry,) = recorded(page.world, ad["decision_id"])
        assert [entry["event"][place] for place in ("country", "region", "city")] == ["CN", "216", "Shanghai"]
        assert name not in str(entry)
        found: str | None = entry["event"]["viewer"]
        return found

    known = viewer()
    assert known is not None
    assert viewer() == known
    assert [viewer(gpc=True), viewer(dnt=True), viewer(coppa=True)] == [None] * 3


@contextmanager
def frozen(url: str) -> Iterator[None]:
    """A PostgreSQL of which every process stands still."""
    with psycopg.connect(url) as connection:
        (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        server = psutil.Process(pid).parent()
        assert server is not None
        standing = [server, *server.children(recursive=True)]
    try:
        _send(signal.SIGSTOP, standing)
        yield
    finally:
        _send(signal.SIGCONT, reversed(standing))


def _send(number: int, processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):  # a backend or a worker may just have ended
            os.kill(process.pid, number)


def test_no_database_is_asked(page: Page, service: Service, cluster_url: str) -> None:
    """While the database stands still, creatives are chosen, limited ones too, and slots listed, as fast as ever."""
    page.campaign()
    page.campaign(impression_budget=100, priority=1)
    eventually(lambda: len(page.ask(2)[0]["ads"]) == 2)
    with frozen(cluster_url):
        started = monotonic()
        found = [page.ask(2)[0]["ads"] for _ in range(10)]
        assert httpx.get(f"{service.url}/health/live", timeout=2).status_code == 200
        assert page.ads.get("/ads/v1/slots").status_code == 200
        seconds = monotonic() - started
    assert [len(ads) for ads in found] == [2] * 10
    assert seconds < DECISION_SECONDS_MAX
    assert len({UUID(ad["decision_id"]) for ads in found for ad in ads}) == 20
    assert [httpx.get(ad["impression_url"], timeout=30).status_code for ad in found[-1]] == [204, 204]

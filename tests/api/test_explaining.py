"""Explaining: for each rule a request that passes and one that it stops, which names it; and the past, made again."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import uuid4

import httpx
import pytest

from domain.rules import NO_CREATIVE, RULES
from tests.api.pages import Page, eventually, midday, new_page
from tests.running import Service
from tests.world import World

Fields = Mapping[str, Any]

NOTHING: Final[Fields] = MappingProxyType({})
RATED: Final = {"content_rating": {"rating_system": "MPAA", "rating_label": "PG-13"}}
ADULT: Final = {"content_rating": {"rating_system": "MPAA", "rating_label": "R"}}
NOON: Final = [{"start": "10:00", "end": "15:00"}]
NIGHT: Final = [{"start": "22:00", "end": "04:00"}]


class Made(NamedTuple):
    """A page of its own with one creative of one campaign."""

    page: Page
    advertiser_id: str
    campaign_id: str
    creative_id: str


class Row(NamedTuple):
    """A rule, with what is set up, and a request that passes; what is then asked or set up otherwise is stopped by it.

    `otherwise` holds fields of what is set up, by its name, and the steps that a campaign or a creative takes.
    """

    rule: str
    campaign: Fields = NOTHING
    creative: Fields = NOTHING
    passes: Fields = NOTHING
    stopped: Fields | Callable[[Made], Fields] = NOTHING
    otherwise: Fields = NOTHING


def ahead_of_noon() -> int:
    """Return by how many minutes the clock of a viewer is ahead of UTC for whom it is about noon."""
    return (12 - datetime.now(UTC).hour) * 60


def day(shift: int) -> str:
    """Return a date so many days from today, in UTC."""
    return str(datetime.now(UTC).date() + timedelta(days=shift))


TABLE: Final = (
    Row("advertiser_inactive", otherwise={"advertiser_status": "inactive"}),
    Row("campaign_not_active", otherwise={"campaign_steps": ()}),
    Row("not_approved", otherwise={"creative_steps": ("submit",)}),
    Row("creative_not_active", otherwise={"creative_steps": ("submit", "approve")}),
    Row("ad_type", otherwise={"creative": {"ad_type": "bottom_left_ad"}}),
    Row("size", otherwise={"creative": {"width": 9_998}}),
    Row("media_type", otherwise={"slot": {"media_types": ["html", "text"]}}),
    Row("floor_price", otherwise={"slot": {"floor_cpm_micros": 5_000_001}}),
    Row("slot_rating", creative=ADULT, otherwise={"slot": {"max_rating": "over_12"}}),
    Row("page_rating", creative=RATED, stopped={"content": {"max_rating": "all_audiences"}}),
    Row("child", creative=RATED, stopped={"privacy": {"coppa": True}}),
    Row("creative_blocked", stopped=lambda made: {"blocked": {"creatives": [made.creative_id]}}),
    Row("advertiser_blocked", stopped=lambda made: {"blocked": {"advertisers": [made.advertiser_id]}}),
    Row(
        "page_label",
        creative=RATED,
        passes={"content": {"rating_system": "MPAA", "rating_label": "PG-13"}},
        stopped={"content": {"rating_system": "MPAA", "rating_label": "PG"}},
    ),
    Row("category_blocked", {"categories": ["IAB7-1"]}, stopped={"blocked": {"categories": ["IAB7"]}}),
    Row("page_category_blocked", {"blocked_categories": ["IAB7"]}, stopped={"site": {"categories": ["IAB7-1"]}}),
    Row("page_category", {"page_categories": ["IAB7"]}, passes={"site": {"categories": ["IAB7-1"]}}),
    Row(
        "place_excluded",
        {"excluded_targeting": [{"country": "CN", "postcodes": ["20*"]}]},
        passes={"geo": {"country": "CN", "zip": "100 00"}},
        stopped={"geo": {"country": "CN", "zip": "2 0000"}},
    ),
    Row(
        "place", {"targeting": [{"country": "CN", "cities": ["217"]}]}, passes={"geo": {"country": "CN", "city": "217"}}
    ),
    Row("keyword", {"keywords": ["Shoes"]}, passes={"site": {"keywords": ["SHOES"]}}),
    Row(
        "language",
        {"languages": ["zh"]},
        passes={"device": {"language": "zh-CN"}},
        stopped={"device": {"language": "de"}},
    ),
    Row("device_type", {"device_types": ["mobile"]}, passes={"device": {"type": "phone"}}),
    Row("domain_excluded", {"excluded_domains": ["news.example"]}, stopped={"site": {"domain": "a.news.example"}}),
    Row("domain", {"domains": ["news.example"]}, passes={"site": {"page": "https://news.example/1"}}),
    Row("key_values", {"key_values": {"seat": ["a"]}}, passes={"key_values": {"seat": ["a", "b"]}}),
    Row("not_begun", otherwise={"creative": {"start_date": day(2)}}),
    Row("over", otherwise={"creative": {"start_date": day(-9), "end_date": day(-2)}}),
    Row(
        "viewer_time_unknown",
        {"time_basis": "viewer", "time_slots": NOON},
        passes={"geo": {"utcoffset": ahead_of_noon()}},
    ),
    Row("campaign_hours", {"timezone": midday(), "time_slots": NOON}, otherwise={"campaign": {"time_slots": NIGHT}}),
    Row("hours", {"timezone": midday()}, {"time_slots": NOON}, otherwise={"creative": {"time_slots": NIGHT}}),
)


def made(world: World, row: Row, otherwise: Fields) -> Made:
    """Set up a page and what a row names."""
    page = new_page(world, **otherwise.get("slot", {}))
    advertiser_id = world.advertiser()
    campaign_id = world.campaign(advertiser_id=advertiser_id, **{**row.campaign, **otherwise.get("campaign", {})})
    terms = {**page.size, **row.creative, **otherwise.get("creative", {})}
    creative_id = world.creative(campaign_id, approved=False, **terms)
    for step in otherwise.get("creative_steps", ("submit", "approve", "activate")):
        world.post(f"creatives/{creative_id}/{step}", expect=200)
    for step in otherwise.get("campaign_steps", ("activate",)):
        world.post(f"campaigns/{campaign_id}/{step}", expect=200)
    if status := otherwise.get("advertiser_status"):
        world.admin.patch(f"/api/v1/advertisers/{advertiser_id}", json={"status": status}).raise_for_status()
    return Made(page, advertiser_id, campaign_id, creative_id)


@pytest.fixture(scope="module")
def table(service: Service, admin: httpx.Client) -> Iterator[dict[str, tuple[Made, Made]]]:
    """What is set up for each rule: first what passes, then what is stopped, which is the same if nothing differs."""
    world = World(service, admin)
    found = {}
    for row in TABLE:
        fits = made(world, row, NOTHING)
        found[row.rule] = (fits, made(world, row, row.otherwise) if row.otherwise else fits)
    new_page(world).known()
    yield found
    for client in world.clients:
        client.close()


def told(page: Page, *counts: int, **fields: Any) -> list[Fields]:
    """Return what an admin is told about what each placement would get."""
    placements = [{"id": f"p{n}", "slot_id": page.slot_id, "count": count} for n, count in enumerate(counts or (1,))]
    body = {"id": "why", "placements": placements, "explain": True, **fields}
    answer = page.world.admin.post("/ads/v1/decisions", json=body)
    assert answer.status_code == 200, answer.text
    found: list[Fields] = answer.json()["decisions"]
    return found


def rules(explanation: Fields) -> dict[str, str]:
    """Return the rule that kept each creative out."""
    return {each["creative_id"]: each["rule"] for each in explanation["kept_out"] if each["creative_id"]}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.rule)
def test_a_rule_stops_and_is_named(table: dict[str, tuple[Made, Made]], row: Row) -> None:
    """One request gets the creative, another does not, and an admin is told the rule that kept it out."""
    fits, stopped = table[row.rule]
    assert fits.page.shown(**row.passes) == fits.creative_id
    (explained,) = told(fits.page, **row.passes)
    assert explained["explanations"][0]["chosen"]["creative_id"] == fits.creative_id
    assert explained["no_bid_reason"] is None

    request = row.stopped(stopped) if callable(row.stopped) else row.stopped
    assert stopped.page.shown(**request) is None
    (explained,) = told(stopped.page, **request)
    (explanation,) = explained["explanations"]
    assert (explanation["chosen"], explained["no_bid_reason"]) == (None, "no_matching_creative")
    assert rules(explanation)[stopped.creative_id] == row.rule


def test_every_rule_is_in_the_table() -> None:
    """No rule is without a row; what happened before to campaign, viewer and page is below."""
    assert [row.rule for row in TABLE] == [rule.name for rule in RULES]


def test_a_campaign_without_creatives_is_told(world: World) -> None:
    """A campaign of which nothing could be shown is not forgotten."""
    page = new_page(world)
    campaign_id = world.campaign()
    page.known()
    (explanation,) = told(page)[0]["explanations"]
    assert NO_CREATIVE.name in [each["rule"] for each in explanation["kept_out"] if each["campaign_id"] == campaign_id]


def test_ranks_and_chance_are_named(world: World) -> None:
    """Of others that fitted it is told whether a priority or chance kept them out; one for each that is shown."""
    page = new_page(world)
    (_, one), (_, other), (_, last) = page.campaign(), page.campaign(), page.campaign(priority=4)
    page.known()
    (placement,) = told(page)
    (explanation,) = placement["explanations"]
    chosen = explanation["chosen"]["creative_id"]
    named = rules(explanation)
    assert {chosen: "chosen", **named}.items() >= {**dict.fromkeys({one, other}, "not_drawn"), chosen: "chosen"}.items()
    assert named[last] == "outranked"
    first, second, third = told(page, 4)[0]["explanations"]
    assert rules(second)[first["chosen"]["creative_id"]] == "on_page"
    assert rules(third).items() >= dict.fromkeys({one, other}, "on_page").items()
    assert third["chosen"]["priority"] == 4


def test_what_a_page_keeps_apart_is_named(world: World) -> None:
    """Competitors and roadblocks are kept out of a page of two places, and not of a page of one."""
    page = new_page(world)
    _, blocking = page.campaign(priority=1, roadblock=True)
    _, first = page.campaign(priority=2, competitive_exclusion=["Shoes"])
    _, rival = page.campaign(priority=3, competitive_exclusion=["shoes"])
    page.known()
    assert page.shown() == blocking
    assert [[ad["creative_id"] for ad in each["ads"]] for each in page.ask(1, 1)] == [[first], []]
    shown, empty = told(page, 1, 1)
    assert shown["explanations"][0]["chosen"]["creative_id"] == first
    assert rules(shown["explanations"][0]).items() >= {blocking: "roadblock", rival: "outranked"}.items()
    kept_out = {blocking: "roadblock", first: "on_page", rival: "rival_on_page"}
    assert rules(empty["explanations"][0]).items() >= kept_out.items()
    world.post(f"creatives/{first}/pause", expect=200)
    page.known()
    assert page.ask(1, 1)[0]["ads"][0]["creative_id"] == rival


def test_what_is_used_up_is_named(world: World) -> None:
    """What a viewer has seen enough of, and what has no budget left, is told; and explaining uses up nothing."""
    page = new_page(world)
    day = {"max_view_count": 1, "max_view_duration": {"value": 1, "unit": "day"}}
    (_, capped), (_, limited) = page.campaign(priority=1, **day), page.campaign(priority=2, impression_budget=1)
    page.known()
    viewer = {"viewer": {"id": uuid4().hex}}
    eventually(lambda: told(page, 2, **viewer)[0]["no_bid_reason"] is None)
    for _ in range(3):
        both = told(page, 2, **viewer)[0]["explanations"]
        assert [each["chosen"]["creative_id"] for each in both] == [capped, limited]
    assert [page.shown(**viewer), page.shown(**viewer), page.shown(**viewer)] == [capped, limited, None]
    (placement,) = told(page, **viewer)
    assert placement["no_bid_reason"] == "no_budget"
    assert rules(placement["explanations"][0]).items() >= {capped: "frequency_capped", limited: "no_budget"}.items()
    assert told(page)[0]["explanations"][0]["chosen"]["creative_id"] == capped
    assert told(page, privacy={"gpc": True}, **viewer)[0]["explanations"][0]["chosen"]["creative_id"] == capped


def test_what_its_pace_holds_back_is_named(world: World) -> None:
    """A campaign that is ahead of its curve lets requests go by, and that is told."""
    page = new_page(world)
    _, creative_id = page.campaign(pacing="even", impression_budget=10, end_date=day(300))
    page.known()
    eventually(lambda: page.shown() is None and page.ask(1)[0]["no_bid_reason"] == "paced")

    def is_named() -> bool:
        (placement,) = told(page)
        (explanation,) = placement["explanations"]
        return explanation["chosen"] is None and rules(explanation)[creative_id] == "paced"

    eventually(is_named)


def test_a_past_decision_is_explained_as_it_was(world: World) -> None:
    """Whatever has changed since, a decision is explained as of its moment, equal to what was told then."""
    page, viewer = new_page(world), {"viewer": {"id": uuid4().hex}}
    day = {"max_view_count": 1, "max_view_duration": {"value": 1, "unit": "day"}}
    first = page.campaign(priority=1, **day)
    second = page.campaign(priority=2, keywords=["shoes"])
    stopped = page.campaign(priority=1, keywords=["boots"], time_basis="viewer")
    elsewhere = page.campaign(targeting=[{"country": "DE", "postcodes": ["10*"]}])
    page.known()
    request: dict[str, Any] = {
        "site": {"keywords": ["Shoes", "trees"]},
        "geo": {"country": "CN", "zip": "10115"},
        **viewer,
    }
    assert page.shown(**request) == first[1]
    (then,) = told(page, **request)[0]["explanations"]
    (ad,) = page.ask(1, **request)[0]["ads"]
    assert ad["creative_id"] == second[1] == then["chosen"]["creative_id"]
    path = f"/api/v1/decisions/{ad['decision_id']}/explanation"
    assert world.admin.get(path).status_code == 404  # nothing is recorded of it
    httpx.get(ad["impression_url"]).raise_for_status()

    world.post(f"campaigns/{second[0]}/pause", expect=200)
    world.admin.patch(f"/api/v1/campaigns/{stopped[0]}", json={"keywords": [], "priority": 5}).raise_for_status()
    world.admin.patch(f"/api/v1/campaigns/{elsewhere[0]}", json={"targeting": []}).raise_for_status()
    world.post(f"creatives/{first[1]}/archive", expect=200)
    page.campaign(priority=1)
    page.known()

    answer = world.admin.get(path)
    assert answer.status_code == 200, answer.text
    now = answer.json()
    assert rules(now).items() >= {first[1]: "frequency_capped", stopped[1]: "keyword", elsewhere[1]: "place"}.items()
    assert abs(datetime.fromisoformat(now.pop("at")) - datetime.fromisoformat(then.pop("at"))) < timedelta(seconds=60)
    assert now == then


def test_a_past_page_is_explained_as_it_was(world: World) -> None:
    """What stood on the page already, and its competitors, are named for a decision of the past."""
    page = new_page(world)
    _, first = page.campaign(priority=1, competitive_exclusion=["cars"])
    _, rival = page.campaign(priority=2, competitive_exclusion=["CARS"])
    _, second = page.campaign(priority=3)
    page.known()
    then = [each["explanations"][0] for each in told(page, 1, 1)]
    ads = [each["ads"][0] for each in page.ask(1, 1)]
    assert [ad["creative_id"] for ad in ads] == [first, second]
    now = {}
    for ad, told_then in zip(ads, then, strict=True):
        httpx.get(ad["impression_url"]).raise_for_status()
        now = world.admin.get(f"/api/v1/decisions/{ad['decision_id']}/explanation").json()
        assert rules(now) == rules(told_then)
        assert now["chosen"] == told_then["chosen"]
    assert rules(now).items() >= {first: "on_page", rival: "rival_on_page"}.items()


def test_only_those_who_manage_are_told(world: World) -> None:
    """Without a token, with a slot key, and as somebody who only reads, nothing is explained."""
    page = new_page(world)
    page.known()
    body = {"id": "why", "placements": [{"id": "p", "slot_id": page.slot_id}], "explain": True}
    assert page.ads.post("/ads/v1/decisions", json=body).status_code == 401
    assert httpx.post(f"{world.service.url}/ads/v1/decisions", json=body).status_code == 401
    assert world.admin.get(f"/api/v1/decisions/{uuid4()}/explanation").status_code == 404
    assert page.ads.get(f"/api/v1/decisions/{uuid4()}/explanation").status_code == 401

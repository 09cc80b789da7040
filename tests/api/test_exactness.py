"""Exactness under load: every impression counted once, none billed beyond a limit, and nothing left unsold."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import httpx
import pytest

from tests.api.pages import Page, eventually, midday, new_page, recorded, spent
from tests.running import Service
from tests.world import World

T = TypeVar("T")

THREADS: Final = 24
REQUESTS: Final = 200
PRICE_MICROS: Final = 5_000


@pytest.fixture(scope="module")
def web(service: Service) -> Iterator[httpx.Client]:
    """Many viewers, who have no key."""
    limits = httpx.Limits(max_connections=THREADS, max_keepalive_connections=THREADS)
    with service.client(limits=limits) as client:
        yield client


def at_once(work: Callable[[int], T], times: int) -> list[T]:
    """Do something many times in parallel, and return what came of each."""
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(work, range(times)))


def billed_at_most(world: World, campaign_id: str, limit: int) -> list[dict[str, Any]]:
    """Return the impressions of a campaign as the log has them, within its limit at every position."""
    found: list[dict[str, Any]] = []
    after = 0
    params: dict[str, Any] = {"type": "impression_recorded", "limit": 500}
    while items := world.admin.get("/audit/v1/events", params={**params, "after": after}).json()["items"]:
        after = items[-1]["position"]
        found += [
            event for item in items if (event := json.loads(item["entry"])["event"])["campaign_id"] == campaign_id
        ]
    total = 0
    for event in found:
        total += event["billed"]
        assert total <= limit
    return found


def test_beacons_sent_many_times_at_once_count_once(world: World, web: httpx.Client) -> None:
    """40 decisions whose impressions are each reported six times in parallel count 40."""
    page = new_page(world)
    campaign_id, _ = page.campaign()
    page.known()
    ads = [ad for _ in range(40) for ad in page.ask(1)[0]["ads"]]
    urls = [ad["impression_url"] for ad in ads for _ in range(6)]
    assert at_once(lambda n: web.get(urls[n]).status_code, len(urls)) == [204] * 240
    line = spent(world, campaign_id)
    assert (line["impressions"], line["billed_impressions"], line["spent_micros"]) == (40, 40, 40 * PRICE_MICROS)
    assert [len(recorded(world, ad["decision_id"])) for ad in ads] == [1] * 40


@pytest.mark.parametrize(
    "limits",
    [
        {"impression_budget": 10},
        {"budget_micros": 10 * PRICE_MICROS + 1},
        {"daily_impression_budget": 10},
        {"daily_budget_micros": 10 * PRICE_MICROS, "budget_micros": 20 * PRICE_MICROS},
    ],
    ids=lambda limits: next(iter(limits)),
)
def test_a_limit_is_met_exactly(world: World, web: httpx.Client, limits: dict[str, int]) -> None:
    """A campaign of ten impressions, by number or money, in all or a day, delivers and bills ten of 200 that ask."""
    page = new_page(world)
    campaign_id, _ = page.campaign(timezone=midday(), **limits)
    assert web.get(page.served()["impression_url"]).status_code == 204

    def visit(_number: int) -> int:
        ads = page.ask(1)[0]["ads"]
        return sum(web.get(ad["impression_url"]).status_code == 204 for ad in ads)

    delivered = [1, *at_once(visit, REQUESTS - 1)]

    def all_was_sold() -> bool:
        delivered.extend(at_once(visit, 20))
        return sum(delivered) >= 10

    eventually(all_was_sold)
    assert sum(delivered) == 10
    line = spent(world, campaign_id)
    assert (line["impressions"], line["billed_impressions"], line["spent_micros"]) == (10, 10, 10 * PRICE_MICROS)
    assert line["held"] == 0
    assert len(billed_at_most(world, campaign_id, 10)) == 10


def test_what_was_promised_and_not_shown_is_sold_again(world: World, web: httpx.Client) -> None:
    """What was held and never confirmed returns when its hold ends; who confirms after that is counted, not billed."""
    page = new_page(world, hold_seconds=3)
    campaign_id, _ = page.campaign(impression_budget=3)
    lost = [page.served() for _ in range(3)]
    assert page.ask(1)[0]["no_bid_reason"] == "no_budget"
    for _ in range(3):  # each is confirmed before it is too late for it as well
        assert web.get(page.served()["impression_url"]).status_code == 204
    assert [web.get(ad["impression_url"]).status_code for ad in lost] == [204] * 3
    found = billed_at_most(world, campaign_id, 3)
    assert [event["reason"] for event in found] == [None] * 3 + ["over_budget"] * 3
    assert spent(world, campaign_id)["billed_impressions"] == 3
    assert page.ask(1)[0]["no_bid_reason"] == "no_budget"


def test_a_raised_budget_goes_on_selling(world: World, web: httpx.Client) -> None:
    """A campaign that is sold out is shown again once its budget is raised, up to the new limit."""
    page = new_page(world)
    campaign_id, _ = page.campaign(impression_budget=1)
    web.get(page.served()["impression_url"]).raise_for_status()
    assert page.ask(1)[0]["no_bid_reason"] == "no_budget"
    world.admin.patch(f"/api/v1/campaigns/{campaign_id}", json={"impression_budget": 3}).raise_for_status()
    for _ in range(2):
        web.get(page.served()["impression_url"]).raise_for_status()
    eventually(lambda: page.ask(1)[0]["no_bid_reason"] == "no_budget")
    assert len(billed_at_most(world, campaign_id, 3)) == 3


def test_campaigns_do_not_take_from_one_another(world: World, web: httpx.Client) -> None:
    """Of several campaigns that compete for the same slot under load, each is sold to its own limit."""
    page = new_page(world)
    limits = {page.campaign(impression_budget=limit)[0]: limit for limit in (3, 5, 7)}

    def visit(_number: int) -> int:
        return sum(web.get(ad["impression_url"]).status_code == 204 for ad in page.ask(2)[0]["ads"])

    page.served()  # and lost: it is sold again only once its hold is over
    delivered: list[int] = []

    def all_was_sold() -> bool:
        delivered.extend(at_once(visit, 20))
        return sum(delivered) >= sum(limits.values()) - 1

    eventually(all_was_sold)  # what each campaign may sell is leased once it is asked for
    assert sum(delivered) == sum(limits.values()) - 1
    assert sum(at_once(visit, 20)) == 0
    for campaign_id, limit in limits.items():
        assert limit - 1 <= len(billed_at_most(world, campaign_id, limit)) <= limit


def test_a_limit_that_is_lowered_under_load_is_kept(world: World, web: httpx.Client) -> None:
    """While impressions pour in a budget is lowered step by step, as far as it may be, and never exceeded."""
    page: Page = new_page(world)
    campaign_id, _ = page.campaign(impression_budget=400)
    page.served()
    path = f"/api/v1/campaigns/{campaign_id}"

    def visit(number: int) -> tuple[int, int]:
        if number % 10 == 9:
            lowered = world.admin.patch(path, json={"impression_budget": 400 - number})
            return 0, lowered.status_code
        return sum(web.get(ad["impression_url"]).status_code == 204 for ad in page.ask(1)[0]["ads"]), 200

    found = at_once(visit, REQUESTS)
    assert {status for _, status in found} <= {200, 409, 422}
    limit = world.get(f"campaigns/{campaign_id}")["impression_budget"]
    line = spent(world, campaign_id)
    assert line["impressions"] == sum(shown for shown, _ in found)
    assert line["billed_impressions"] + line["leased"] <= limit
    billed_at_most(world, campaign_id, 400)

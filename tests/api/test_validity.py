"""Counting by the rules over HTTP: what is invalid is recorded with its reason, and moves no money."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx
import pytest

from tests.api.pages import Page, audited, eventually, fresh, new_page, recorded, spent
from tests.running import Service
from tests.world import World

PRICE_MICROS: Final = 5_000
CLICKS_A_MINUTE: Final = 60
BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CRAWLER: Final = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
URLS: Final = {"impression": "impression_url", "view": "view_url", "click": "click_url"}


@pytest.fixture(scope="module")
def web(service: Service) -> Iterator[httpx.Client]:
    """A viewer's browser, which has no key."""
    with service.client(headers={"User-Agent": BROWSER}) as client:
        yield client


@pytest.fixture
def page(world: World) -> Page:
    """A page that is shown in browsers alone, with a campaign of which ten impressions were sold."""
    made = new_page(world, traffic="browser", click_without_impression="invalid")
    made.campaign(impression_budget=10)
    made.known()
    return made


def reasons(page: Page, ad: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Return what the log has of a decision: each kind, and why it was not billed."""
    entries = [entry["event"] for entry in recorded(page.world, ad["decision_id"])]
    assert all(entry["rules"] == 1 for entry in entries)
    return [(entry["type"].removesuffix("_recorded"), entry["reason"]) for entry in entries]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"User-Agent": CRAWLER}, "invalid:crawler"),
        ({"Sec-Purpose": "prefetch;prerender"}, "invalid:prefetch"),
        ({"X-Purpose": "preview"}, "invalid:prefetch"),
        ({"X-Moz": "prefetch"}, "invalid:prefetch"),
        ({"User-Agent": "curl/8.5.0"}, "invalid:non_browser"),
        ({"User-Agent": ""}, "invalid:non_browser"),
        ({"X-Forwarded-For": "203.0.113.7"}, "invalid:data_centre"),
    ],
)
def test_what_is_invalid_is_marked_and_takes_nothing(
    page: Page, web: httpx.Client, headers: dict[str, str], reason: str
) -> None:
    """An invalid beacon is answered like any other and recorded once; a valid one after it counts, and is billed."""
    ad = page.served()
    for name in ("impression_url", "impression_url", "view_url", "click_url"):
        assert web.get(ad[name], headers=headers).status_code == (302 if name == "click_url" else 204)
    marked = [(kind, reason) for kind in URLS]
    assert reasons(page, ad) == marked
    assert spent(page.world, ad["campaign_id"])["spent_micros"] == 0
    for name in URLS.values():
        web.get(ad[name])
    web.get(ad["impression_url"], headers=headers)
    assert reasons(page, ad) == [*marked, *((kind, None) for kind in URLS)]
    line = spent(page.world, ad["campaign_id"])
    assert [line[name] for name in ("impressions", "billed_impressions", "views", "clicks", "spent_micros")] == [
        *(1, 1, 1, 1),
        PRICE_MICROS,
    ]


def test_whoever_has_a_slot_key_reports_for_others(page: Page) -> None:
    """A server that reports with a slot key is believed wherever it is, unless it names itself as a crawler does."""
    ads = [page.served() for _ in range(2)]
    headers = {"X-Forwarded-For": "203.0.113.7", "User-Agent": "python-requests/2.32"}
    tokens = [ad["impression_url"].rpartition("/")[2] for ad in ads]
    for token, agent, code in ((tokens[0], {}, None), (tokens[1], {"User-Agent": CRAWLER}, "invalid:crawler")):
        answer = page.ads.post("/ads/v1/events", json={"tokens": [token]}, headers=headers | agent)
        assert answer.json()["results"] == [{"result": "recorded"} | ({"code": code} if code else {})]
    with page.world.service.client(headers=headers) as stranger:
        answer = stranger.post("/ads/v1/events", json={"tokens": [page.served()["view_url"].rpartition("/")[2]]})
        assert answer.json()["results"] == [{"result": "recorded", "code": "invalid:non_browser"}]


def test_apps_and_players_may_report_where_a_slot_says_so(world: World) -> None:
    """Unless a slot is for browsers alone, libraries report valid deliveries, and clicks need no impression."""
    open_page = new_page(world)
    open_page.campaign()
    open_page.known()
    ad = open_page.served()
    with world.service.client(headers={"User-Agent": "okhttp/4.12.0"}) as player:
        assert [player.get(ad[name]).status_code for name in ("click_url", "impression_url")] == [302, 204]
    assert reasons(open_page, ad) == [("click", None), ("impression", None)]


def test_a_click_needs_an_impression_where_the_slot_says_so(page: Page, web: httpx.Client) -> None:
    """A click before its impression leads on all the same, and is marked; the click after it counts."""
    ad = page.served()
    for name, status in (("click_url", 302), ("impression_url", 204), ("click_url", 302)):
        assert web.get(ad[name]).status_code == status
    assert reasons(page, ad) == [("click", "invalid:no_impression"), ("impression", None), ("click", None)]


def test_nobody_clicks_all_day(world: World, web: httpx.Client) -> None:
    """Of what one viewer clicks within a minute, only so many clicks are valid; another viewer's go on counting."""
    busy = new_page(world)
    busy.campaign()
    busy.known()
    viewer = {"viewer": {"id": fresh()}}
    found = []
    for _ in range(2):  # a minute may end meanwhile, and hardly two
        first, other = busy.served(**viewer), busy.served(**viewer)
        for _ in range(CLICKS_A_MINUTE):
            web.get(first["click_url"])
        web.get(other["click_url"])
        found.append(reasons(busy, other))
    assert [("click", "invalid:activity")] in found
    calm = busy.served(viewer={"id": fresh()})
    web.get(calm["click_url"])
    assert reasons(busy, calm) == [("click", None)]


def test_reports_show_gross_and_net(world: World, web: httpx.Client) -> None:
    """Of forty beacons at once, some of them invalid, each is counted exactly, by its reason, and billed or not."""
    made = new_page(world, traffic="browser")
    campaign_id, _ = made.campaign(impression_budget=25)
    made.known()
    ads: list[dict[str, Any]] = []

    def promised() -> bool:
        ads.extend(made.ask(1)[0]["ads"])
        return len(ads) >= 25

    eventually(promised)
    agents = [CRAWLER] * 5 + ["curl/8.5.0"] * 3 + [BROWSER] * 17
    beacons = [(ad["impression_url"], agent) for ad, agent in zip(ads, agents, strict=True)]
    beacons += [(url, CRAWLER) for url, _ in beacons[:15]]
    with ThreadPoolExecutor(20) as threads:
        answers = threads.map(lambda beacon: web.get(beacon[0], headers={"User-Agent": beacon[1]}), beacons)
        assert {answer.status_code for answer in answers} == {204}
    line = spent(world, campaign_id)
    assert [line[name] for name in ("impressions", "billed_impressions", "spent_micros")] == [17, 17, 17 * PRICE_MICROS]
    (shown,) = world.get("reports/delivery", campaign_id=campaign_id)["items"]
    assert [shown[name] for name in ("impressions", "billed_impressions", "unbilled")] == [17, 17, {}]
    assert shown["gross_impressions"] == shown["impressions"] + sum(shown["invalid"].values())
    assert shown["invalid"].keys() <= {"invalid:crawler", "invalid:non_browser"}
    assert 8 <= sum(shown["invalid"].values()) <= 15  # a crawler that comes after the viewer adds nothing
    position = world.get("reports/delivery", campaign_id=campaign_id)["position"]
    (then,) = world.get("reports/delivery", campaign_id=campaign_id, as_of=position)["items"]
    assert then == shown
    table = world.admin.get("/api/v1/reports/delivery", params={"campaign_id": campaign_id, "format": "csv"}).text
    names, values = (row.split(",") for row in table.splitlines())
    assert dict(zip(names, values, strict=True))["gross_impressions"] == str(shown["gross_impressions"])
    audited(world)

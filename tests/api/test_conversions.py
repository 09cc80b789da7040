"""Conversions over HTTP: what clicks led to is attributed within a window, once, and reported."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest

from tests.api.pages import Page, audited, new_page
from tests.running import Service
from tests.world import World

BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CRAWLER: Final = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
VALUE_MICROS: Final = 59_900_000


@pytest.fixture(scope="module")
def shopper(service: Service) -> Iterator[httpx.Client]:
    """The browser of somebody who clicks and buys."""
    with service.client(headers={"User-Agent": BROWSER}) as client:
        yield client


class Shop:
    """An advertiser with one campaign on a page, and the URL that its pages report to."""

    def __init__(self, world: World, shopper: httpx.Client, **terms: Any) -> None:
        """Set it up."""
        self.world = world
        self.shopper = shopper
        self.advertiser_id = world.advertiser(**terms)
        self.page: Page = new_page(world)
        self.campaign_id, _ = self.page.campaign(advertiser_id=self.advertiser_id)
        self.page.known()
        self.url = world.get(f"advertisers/{self.advertiser_id}/conversion_url")["conversion_url"]

    def clicked(self) -> str:
        """Let the shopper click, and return the decision that was clicked."""
        ad = self.page.served()
        assert self.shopper.get(ad["impression_url"]).status_code == 204
        assert self.shopper.get(ad["click_url"]).status_code == 302
        return str(ad["decision_id"])

    def report(
        self,
        decision_id: str,
        *,
        expect: int = 204,
        agent: str = BROWSER,
        purpose: str | None = None,
        **said: Any,
    ) -> None:
        """Report a conversion."""
        ahead = {} if purpose is None else {"Sec-Purpose": purpose}
        headers = {"User-Agent": agent, **ahead}
        answer = self.shopper.get(self.url, params={"decision_id": decision_id, **said}, headers=headers)
        assert answer.status_code == expect, answer.text

    def line(self) -> dict[str, Any]:
        """Return the campaign's line of the report, when it has seen all of the log."""
        self.world.caught_up()
        (line,) = self.world.get("reports/delivery", campaign_id=self.campaign_id)["items"]
        return {name: line[name] for name in ("clicks", "conversions", "unattributed", "conversion_micros")}


@pytest.fixture
def shop(world: World, shopper: httpx.Client) -> Shop:
    """An advertiser as usual."""
    return Shop(world, shopper)


def test_a_conversion_is_attributed_once(shop: Shop) -> None:
    """However often and whenever an order is reported it counts once, also for two clicks; others count as well."""
    first, second = shop.clicked(), shop.clicked()
    with ThreadPoolExecutor(8) as threads:
        orders = ["order 1", "order 2"] * 8
        list(threads.map(lambda order: shop.report(first, id=order, value_micros=VALUE_MICROS), orders))
    shop.report(second, id="order 1", value_micros=1)
    for _ in range(2):
        shop.report(second)
    assert shop.line() == {
        "clicks": 2,
        "conversions": 3,
        "unattributed": {},
        "conversion_micros": 2 * VALUE_MICROS,
    }
    report = shop.world.get("reports/delivery", campaign_id=shop.campaign_id)
    (then,) = shop.world.get("reports/delivery", campaign_id=shop.campaign_id, as_of=report["position"])["items"]
    assert [then] == report["items"]
    assert then["conversion_rate"] == 1.5
    audited(shop.world)


def test_what_crawlers_report_is_marked(shop: Shop) -> None:
    """What is fetched by a crawler, or ahead of need, is marked, and takes nothing from a conversion after it."""
    decision_id = shop.clicked()
    assert shop.shopper.head(shop.url, params={"decision_id": decision_id}).status_code == 204
    for _ in range(2):
        shop.report(decision_id, agent=CRAWLER)
    assert shop.line()["unattributed"] == {"invalid:crawler": 1}
    shop.report(decision_id, agent="python-requests/2.32")
    shop.report(decision_id, agent=CRAWLER)
    shop.report(shop.clicked(), purpose="prefetch")
    line = shop.line()
    assert line["conversions"] == 1
    assert line["unattributed"] == {"invalid:crawler": 1, "invalid:prefetch": 1}


def test_clicks_that_do_not_count_lead_to_nothing(shop: Shop) -> None:
    """What follows from a crawler's click is marked as the click is; what follows from no click is not found."""
    ad = shop.page.served()
    shop.report(ad["decision_id"], expect=404)
    assert shop.shopper.get(ad["click_url"], headers={"User-Agent": CRAWLER}).status_code == 302
    shop.report(ad["decision_id"])
    tested = shop.page.served(test=True)
    shop.shopper.get(tested["click_url"])
    shop.report(tested["decision_id"])
    assert shop.line() | {"clicks": 0} == {
        "clicks": 0,
        "conversions": 0,
        "unattributed": {"invalid:crawler": 1, "test": 1},
        "conversion_micros": 0,
    }
    shop.report(str(uuid4()), expect=404)


def test_nobody_reports_for_others(shop: Shop, world: World, shopper: httpx.Client) -> None:
    """A URL of another advertiser finds no click, a forged one is refused, and tokens of decisions are no such URL."""
    decision_id = shop.clicked()
    Shop(world, shopper).report(decision_id, expect=404)
    ad = shop.page.served()
    for path in (shop.url[:-1], shop.url + "A", ad["click_url"].replace("/c/", "/x/")):
        answer = shopper.get(path, params={"decision_id": decision_id})
        assert (answer.status_code, answer.json()["code"]) == (403, "token_forged")
    assert shopper.get(shop.url.replace("/x/", "/i/")).status_code == 403
    assert shop.line()["conversions"] == 0


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"decision_id": "1"},
        {"decision_id": str(uuid4()), "value_micros": "-1"},
        {"decision_id": str(uuid4()), "value_micros": "1.5"},
        {"decision_id": str(uuid4()), "value_micros": str(10**20)},
        {"decision_id": str(uuid4()), "id": "a" * 201},
    ],
)
def test_what_is_out_of_shape_is_refused(shop: Shop, said: dict[str, str]) -> None:
    """A report without a decision, of less than nothing, or under a name without end, is refused."""
    assert shop.shopper.get(shop.url, params=said).status_code == 400


def test_pages_are_told_what_was_clicked(world: World, shopper: httpx.Client) -> None:
    """An advertiser that wants it is told the decision in the URL that a click leads to; others get theirs as it is."""
    named, plain = Shop(world, shopper, click_id_parameter="click"), Shop(world, shopper)
    for shop, said in ((named, ["{}"]), (plain, [])):
        ad = shop.page.served()
        target = shopper.get(ad["click_url"]).headers["Location"]
        told = parse_qs(urlsplit(target).query).get("click", [])
        assert told == [each.format(ad["decision_id"]) for each in said]


def test_an_unknown_advertiser_has_no_url(world: World) -> None:
    """Nothing can be reported for an advertiser that there is not."""
    assert world.admin.get(f"/api/v1/advertisers/{uuid4()}/conversion_url").status_code == 404

"""Funds: what an advertiser deposited is what all of its campaigns together can spend."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.api.pages import audited, eventually, spent
from tests.world import World

IMPRESSION_MICROS = 5_000


def funded(world: World, impressions: int) -> str:
    """Enter an advertiser with funds for so many impressions."""
    advertiser_id = world.advertiser()
    body = {"amount_micros": impressions * IMPRESSION_MICROS, "currency": "EUR"}
    world.post(f"advertisers/{advertiser_id}/deposit", expect=200, **body)
    return advertiser_id


def test_campaigns_share_the_funds_of_their_advertiser(world: World) -> None:
    """Of 200 parallel requests to two campaigns whose advertiser can pay ten impressions, ten are shown and billed.

    So it is at every position of the log, as an auditor finds who counts it anew. A deposit raises what can be sold.
    """
    advertiser_id = funded(world, 10)
    campaigns = [world.active_campaign(advertiser_id=advertiser_id, width=321, height=50)[0] for _ in range(2)]
    slot_id, slot = world.slot(width=321, height=50)
    world.served(slot, slot_id, test=True)

    def once(_: int) -> int:
        ads = world.decide(slot, slot_id)
        return sum(slot.get(ad["impression_url"]).status_code == 204 for ad in ads)

    def sell(requests: int) -> int:
        with ThreadPoolExecutor(12) as pool:
            return sum(pool.map(once, range(requests)))

    shown = [sell(200)]

    def is_sold_out() -> bool:
        shown.append(once(0))
        return sum(shown) >= 10

    eventually(is_sold_out)
    assert sum(shown) + sell(20) == 10
    funds = world.get(f"advertisers/{advertiser_id}/funds")
    assert (funds["spent_micros"], funds["remaining_micros"]) == (10 * IMPRESSION_MICROS, 0)
    lines = [spent(world, campaign_id) for campaign_id in campaigns]
    assert sum(line["billed_impressions"] for line in lines) == sum(line["impressions"] for line in lines) == 10
    refused = world.admin.post(
        f"/api/v1/advertisers/{advertiser_id}/withdraw", json={"amount_micros": 1, "currency": "EUR"}
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "funds_out_of_range")
    world.post(f"advertisers/{advertiser_id}/deposit", expect=200, amount_micros=IMPRESSION_MICROS, currency="EUR")
    late = world.served(slot, slot_id)
    assert slot.get(late["impression_url"]).status_code == 204
    assert world.get(f"advertisers/{advertiser_id}/funds")["spent_micros"] == 11 * IMPRESSION_MICROS
    audited(world)


def test_funds_are_not_kept_from_the_campaign_that_is_asked_for(world: World) -> None:
    """A campaign that nobody asks for gives back what it has of the funds, but for one impression."""
    advertiser_id = funded(world, 6)
    for width in (322, 323):
        world.active_campaign(advertiser_id=advertiser_id, width=width, height=50)
    slot_id, slot = world.slot(width=323, height=50)
    for _ in range(5):
        assert slot.get(world.served(slot, slot_id)["impression_url"]).status_code == 204
    funds = world.get(f"advertisers/{advertiser_id}/funds")
    assert (funds["spent_micros"], funds["leased_micros"]) == (5 * IMPRESSION_MICROS, IMPRESSION_MICROS)


def test_what_is_spent_cannot_be_withdrawn(world: World) -> None:
    """Money moves in the currency of the first deposit, and none is paid back that is spent or was never there."""
    advertiser_id = funded(world, 2)

    def refused(step: str, **body: Any) -> str:
        answer = world.admin.post(f"/api/v1/advertisers/{advertiser_id}/{step}", json=body)
        assert answer.status_code in {400, 422}, answer.text
        return str(answer.json()["code"])

    assert refused("deposit", amount_micros=1, currency="USD") == "currency_differs"
    assert refused("withdraw", amount_micros=2 * IMPRESSION_MICROS + 1, currency="EUR") == "funds_out_of_range"
    for wrong in (
        {"amount_micros": 0, "currency": "EUR"},
        {"amount_micros": 1.5, "currency": "EUR"},
        {"currency": "EUR"},
    ):
        assert refused("deposit", **wrong) == "invalid_body"
    world.post(f"advertisers/{advertiser_id}/withdraw", expect=200, amount_micros=IMPRESSION_MICROS, currency="EUR")
    advertiser = world.get(f"advertisers/{advertiser_id}")
    assert (advertiser["funds_micros"], advertiser["currency"]) == (IMPRESSION_MICROS, "EUR")
    campaign = {"advertiser_id": advertiser_id, "name": "Abroad", "start_date": "2026-01-01", "currency": "USD"}
    body = {**campaign, "pricing": {"model": "cpm", "price_micros": 1_000}}
    assert world.admin.post("/api/v1/campaigns", json=body).json()["code"] == "currency_differs"


def test_nobody_has_funds_who_deposited_none(world: World) -> None:
    """An advertiser without a deposit has no funds to show, and pays in arrears."""
    advertiser_id = world.advertiser()
    assert world.admin.get(f"/api/v1/advertisers/{advertiser_id}/funds").status_code == 404
    assert world.get(f"advertisers/{advertiser_id}")["funds_micros"] is None

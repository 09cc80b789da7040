"""The shortest story of the whole service."""

from tests.world import World

SIZE = {"width": 321, "height": 123}
"""Nobody else has creatives of it."""


def test_an_impression_is_counted_once(world: World) -> None:
    """A served creative whose impression is reported twice is counted and billed once."""
    campaign_id, _ = world.active_campaign(impression_budget=10, **SIZE)
    slot_id, ads = world.slot(**SIZE)
    ad = world.served(ads, slot_id)
    assert [ads.get(ad["impression_url"]).status_code for _ in range(2)] == [204, 204]
    world.caught_up()
    found = world.get("reports/budgets", campaign_id=campaign_id)["items"][0]
    assert (found["impressions"], found["billed_impressions"], found["spent_micros"]) == (1, 1, 5_000)

"""Frequency caps: a viewer is shown no more than the cap allows, and nobody is billed for what is beyond it."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.running import running
from tests.world import World

HOURLY = {"max_view_count": 2, "max_view_duration": {"value": 1, "unit": "hour"}}


@pytest.fixture(scope="module")
def two_workers() -> Iterator[World]:
    """An admin at work at a service with two web workers."""
    with TemporaryDirectory() as folder, running(Path(folder) / "data", workers=2) as service:
        world = World(service, service.signed_in())
        yield world
        for client in (world.admin, *world.clients):
            client.close()


def capped(world: World, width: int, **fields: Any) -> tuple[str, str, httpx.Client]:
    """Set up a campaign that alone fits a slot of that width; return it, the slot, and a client with the slot's key."""
    campaign_id, _ = world.active_campaign(width=width, height=90, **fields)
    slot_id, slot = world.slot(width=width, height=90)
    world.served(slot, slot_id, test=True)
    return campaign_id, slot_id, slot


def ask(slot: httpx.Client, slot_id: str, viewer: str | None, **fields: Any) -> dict[str, Any]:
    """Ask for one creative on behalf of a viewer."""
    body = {"id": "r", "placements": [{"id": "p", "slot_id": slot_id}], "viewer": {"id": viewer}, **fields}
    answer = slot.post("/ads/v1/decisions", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["decisions"][0]
    return found


def test_a_viewer_is_shown_no_more_than_the_cap_allows(world: World) -> None:
    """The third time within the hour there is nothing for this viewer, and still something for every other."""
    _, slot_id, slot = capped(world, 401, **HOURLY)
    viewer = str(uuid4())
    first = [ask(slot, slot_id, viewer) for _ in range(2)]
    assert [len(each["ads"]) for each in first] == [1, 1]
    for each in first:
        assert slot.get(each["ads"][0]["impression_url"]).status_code == 204
    assert ask(slot, slot_id, viewer) == {"placement_id": "p", "ads": [], "no_bid_reason": "frequency_capped"}
    assert ask(slot, slot_id, str(uuid4()))["ads"]
    for nobody in ({}, {"privacy": {"gpc": True}}, {"privacy": {"dnt": True}}, {"privacy": {"coppa": True}}):
        known = viewer if nobody else None
        assert all(ask(slot, slot_id, known, **nobody)["no_bid_reason"] != "frequency_capped" for _ in range(3))


def test_one_page_counts_its_own_placements(world: World) -> None:
    """A cap holds also among the placements of one request."""
    _, slot_id, slot = capped(world, 402, max_view_count=1, max_view_duration={"value": 1, "unit": "day"})
    body = {"id": "r", "viewer": {"id": str(uuid4())}, "placements": [{"id": p, "slot_id": slot_id} for p in "ab"]}
    decisions = slot.post("/ads/v1/decisions", json=body).json()["decisions"]
    assert [len(each["ads"]) for each in decisions] == [1, 0]


def test_a_creative_may_have_been_seen_enough(world: World) -> None:
    """`max_views` of a creative counts for each viewer, for ever."""
    campaign_id = world.campaign()
    world.creative(campaign_id, width=403, height=90, max_views=1)
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    slot_id, slot = world.slot(width=403, height=90)
    world.served(slot, slot_id, test=True)
    viewer = str(uuid4())
    assert ask(slot, slot_id, viewer)["ads"]
    assert ask(slot, slot_id, viewer)["no_bid_reason"] == "frequency_capped"


def test_across_workers_nothing_beyond_the_cap_is_billed(two_workers: World) -> None:
    """Of many requests at once for few viewers, through two workers, two impressions of each viewer are billed.

    Workers hear of one another within the time that the log takes to reach them, well under a second: what is delivered
    beyond the cap meanwhile is at most as much again for each other worker, counted as `over_cap`.
    """
    campaign_id, slot_id, _ = capped(two_workers, 404, **HOURLY)
    key = two_workers.clients[-1].headers["Authorization"]
    viewers = [str(uuid4()) for _ in range(8)]

    def once(number: int) -> int:
        with two_workers.service.client(headers={"Authorization": key}) as slot:  # whichever worker takes it
            ads = ask(slot, slot_id, viewers[number % len(viewers)])["ads"]
            return sum(slot.get(ad["impression_url"]).status_code == 204 for ad in ads)

    with ThreadPoolExecutor(16) as pool:
        shown = sum(pool.map(once, range(160)))
    two_workers.caught_up()
    report = two_workers.get("reports/delivery", group_by="campaign")
    (row,) = [row for row in report["items"] if row["campaign_id"] == campaign_id]
    over = Counter(row["unbilled"])["over_cap"]
    assert row["billed_impressions"] == 2 * len(viewers)
    assert row["impressions"] == shown == 2 * len(viewers) + over
    assert over <= 2 * len(viewers)

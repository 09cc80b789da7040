"""Pages: what their placements show together, over HTTP: competitors apart, roadblocks, house campaigns, warnings."""

from functools import partial
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.api.pages import Page, eventually, new_page
from tests.world import World

PAGES: Final = 40
ONCE_A_DAY: Final = {"max_view_count": 1, "max_view_duration": {"value": 1, "unit": "day"}}


@pytest.fixture
def page(world: World) -> Page:
    """A page with one slot."""
    return new_page(world)


def shown(page: Page, *counts: int, **fields: Any) -> list[str]:
    """Return the creatives that a page shows, place by place."""
    return [ad["creative_id"] for each in page.ask(*counts, **fields) for ad in each["ads"]]


def is_shown_once(page: Page, creatives: set[str], **fields: Any) -> bool:
    """Tell whether one of some creatives is shown, and then nothing more."""
    return page.shown(**fields) in creatives and page.shown(**fields) is None


def test_competitors_are_apart(page: Page) -> None:
    """Of campaigns that share a group one is on a page, and others beside it, its own creatives too."""
    campaign_id, first = page.campaign(competitive_exclusion=["Shoes", "boots"])
    own = page.creative(campaign_id)
    _, rival = page.campaign(competitive_exclusion=["SHOES"])
    _, neutral = page.campaign(competitive_exclusion=["cars"])
    page.known()
    found = [frozenset(shown(page, 1, 2, 1)) for _ in range(PAGES)]
    assert set(found) == {frozenset({first, own, neutral}), frozenset({rival, neutral})}
    assert {page.shown() for _ in range(PAGES)} >= {rival, neutral}


def test_a_roadblock_has_all_places_or_none(page: Page) -> None:
    """A roadblock shows its creatives in all placements of a page, or none of them beside others."""
    campaign_id, creative_id = page.campaign(roadblock=True, weight=2)
    blocking = {creative_id, page.creative(campaign_id)}
    others = {page.campaign()[1] for _ in range(2)}
    page.known()
    found = [frozenset(shown(page, 1, 1)) for _ in range(PAGES)]
    assert set(found) == {frozenset(blocking), frozenset(others)}
    assert {frozenset(shown(page, 2, 1)) for _ in range(PAGES)} == {frozenset(others)}
    assert {page.shown() for _ in range(PAGES)} >= others


@pytest.mark.parametrize("limit", [{"impression_budget": 1}, ONCE_A_DAY], ids=["budget", "cap"])
def test_a_roadblock_is_promised_whole(page: Page, limit: dict[str, Any]) -> None:
    """With budget or views left for one place alone, a page of two is not blocked, and trying uses up nothing."""
    campaign_id, first = page.campaign(roadblock=True, **limit)
    both = {first, page.creative(campaign_id)}
    page.known()
    viewer = {"viewer": {"id": uuid4().hex}}
    assert [shown(page, 1, 1, **viewer) for _ in range(3)] == [[]] * 3
    eventually(partial(is_shown_once, page, both, **viewer))
    # Who has no id has no caps.
    assert set(shown(page, 1, 1)) == (both if limit == ONCE_A_DAY else set())


def test_house_campaigns_come_last(page: Page) -> None:
    """A house campaign of the first priority is shown where no other campaign is left, of whatever priority."""
    _, house = page.campaign(house=True, priority=1)
    campaign_id, paid = page.campaign(priority=5)
    page.known()
    assert [shown(page, 1, 1, 1) for _ in range(5)] == [[paid, house]] * 5
    page.world.post(f"campaigns/{campaign_id}/pause", expect=200)
    page.known()
    assert page.shown() == house


def test_warnings_travel_with_the_answer(page: Page) -> None:
    """Whoever shows a creative is told whether to warn, and of what."""
    campaign_id = page.world.campaign()
    page.world.post(f"campaigns/{campaign_id}/activate", expect=200)
    page.creative(campaign_id, content_rating={"warning_required": True, "content_warnings": ["strobe", "gambling"]})
    page.known()
    (ad,) = page.ask(1)[0]["ads"]
    assert (ad["warning_required"], ad["content_warnings"]) == (True, ["strobe", "gambling"])


def test_a_page_that_names_no_label_of_a_system_is_refused(page: Page) -> None:
    """A label that is not one of its rating system's limits nothing, so that it is refused."""
    page.known()
    for content in ({"rating_system": "PEGI", "rating_label": "TV-MA"}, {"rating_label": "R"}):
        placements = [{"id": "p", "slot_id": page.slot_id}]
        body = {"id": "page", "placements": placements, "content": content}
        answer = page.ads.post("/ads/v1/decisions", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/content/rating_label")

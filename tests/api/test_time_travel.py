"""Time travel: an answer as of a position is what the service answered when the log stood there."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Any, NamedTuple

import httpx
import pytest

from tests.running import Service
from tests.world import World


class Seen(NamedTuple):
    """A live answer, and between which positions of the log it was given."""

    path: str
    params: dict[str, str]
    body: dict[str, Any]
    after: int
    before: int


class Evening(NamedTuple):
    """What was read while commands and deliveries came in."""

    campaign_id: str
    creative_id: str
    slot_id: str
    advertiser_id: str
    seen: list[Seen]


def head(world: World) -> int:
    """Return the position that the log has come to."""
    found = world.admin.get("/audit/v1/projections").json()
    return max(int(each["position"] + each["lag"]) for each in found)


def traffic(world: World, ids: tuple[str, str, str, str], ads: httpx.Client, over: Event) -> None:
    """Change a campaign and what belongs to it over and over, and report impressions and clicks of its creative."""
    campaign_id, creative_id, slot_id, advertiser_id = ids
    for number in range(1_000):
        if over.is_set():
            return
        ad = world.served(ads, slot_id)
        for url in [ad["impression_url"], *([ad["click_url"]] if number % 3 == 0 else [])]:
            assert httpx.get(url).status_code in {204, 302}
        for path, body in (
            (f"campaigns/{campaign_id}", {"name": f"Name {number}", "daily_budget_micros": 10**9 + number}),
            (f"advertisers/{advertiser_id}", {"name": f"Advertiser {number}"}),
            (f"slots/{slot_id}", {"name": f"Slot {number}"}),
            (f"creatives/{creative_id}", {"weight": 1 + number % 9}),
        ):
            world.admin.patch(f"/api/v1/{path}", json=body).raise_for_status()


@pytest.fixture(scope="module")
def evening(service: Service, admin: httpx.Client) -> Iterator[Evening]:
    """An evening of traffic, with what was read meanwhile."""
    world = World(service, admin)
    advertiser_id = world.advertiser()
    campaign_id, creative_id = world.active_campaign(advertiser_id=advertiser_id, budget_micros=10**12)
    slot_id, ads = world.slot()
    world.served(ads, slot_id)
    other, over, seen = World(service, service.signed_in()), Event(), list[Seen]()
    running = Thread(target=traffic, args=(other, (campaign_id, creative_id, slot_id, advertiser_id), ads, over))
    running.start()
    reads: list[tuple[str, dict[str, str]]] = [
        (f"campaigns/{campaign_id}", {}),
        (f"creatives/{creative_id}", {}),
        (f"advertisers/{advertiser_id}", {}),
        (f"slots/{slot_id}", {}),
        (f"campaigns/{campaign_id}/history", {"limit": "500"}),
        ("campaigns", {"sort": "name", "status": "active"}),
        ("advertisers", {"sort": "-updated_at"}),
        ("creatives", {"campaign_id": campaign_id}),
        ("slots", {"sort": "-updated_at"}),
        ("reports/budgets", {"advertiser_id": advertiser_id}),
        ("reports/delivery", {"group_by": "hour,creative,country"}),
        ("reports/delivery", {"group_by": "campaign,slot,advertiser"}),
        ("reports/delivery", {"group_by": "day,region,city", "campaign_id": campaign_id}),
    ]
    for number in range(12):
        if number == 6:
            world.post(f"creatives/{creative_id}/pause", expect=200)
            world.post(f"creatives/{creative_id}/activate", expect=200)
        for path, params in reads:
            after = head(world)
            body = world.get(path, **params)
            seen.append(Seen(path, params, body, after, head(world)))
    over.set()
    running.join()
    world.caught_up()
    yield Evening(campaign_id, creative_id, slot_id, advertiser_id, seen)
    other.admin.close()
    ads.close()


def as_seen(body: dict[str, Any]) -> dict[str, Any]:
    """Return an answer without what the log does not say."""
    if "items" not in body:
        return body
    unsaid = {"held", "leased"}
    return body | {
        "items": [{name: value for name, value in item.items() if name not in unsaid} for item in body["items"]]
    }


def test_as_of_a_position_is_what_was_answered_then(world: World, evening: Evening) -> None:
    """Every answer that was given while traffic ran is the answer as of the position at which it was given."""
    changed = set()
    for path, params, body, after, before in evening.seen:
        stood_at = [body["position"]] if path.startswith("reports") else range(after, before + 1)
        answers = (world.get(path, **params, as_of=position) for position in stood_at)
        assert as_seen(body) in map(as_seen, answers), (path, after, before)
        changed.add((path, json.dumps(as_seen(body), sort_keys=True)))
    assert len(changed) > len(evening.seen) / 2


def test_as_of_a_time_is_as_of_its_last_entry(world: World, evening: Evening) -> None:
    """A time means the last entry recorded by then: at its very moment it counts, a microsecond earlier it does not."""
    rows = world.get(f"campaigns/{evening.campaign_id}/history", limit=500)["items"]
    for row, later in ((rows[3], rows[4]), (rows[-2], rows[-1])):
        at = datetime.fromisoformat(row["recorded_at"])
        found = world.get(f"campaigns/{evening.campaign_id}", as_of=at.isoformat().replace("+00:00", "Z"))
        assert found["version"] == row["version"]
        just_before = datetime.fromisoformat(later["recorded_at"]) - timedelta(microseconds=1)
        earlier = world.get(f"campaigns/{evening.campaign_id}", as_of=just_before.isoformat().replace("+00:00", "Z"))
        assert earlier["version"] == row["version"]
        assert earlier == world.get(f"campaigns/{evening.campaign_id}", as_of=row["position"])


def test_lists_are_walked_as_of_a_position(world: World, evening: Evening) -> None:
    """Filters, sorting, limits and cursors do as of a position what they do in a live list."""
    made = [world.advertiser(name=f"{number % 2} then") for number in range(5)]
    then = head(world)
    world.admin.patch(f"/api/v1/advertisers/{made[0]}", json={"name": "now"}).raise_for_status()
    world.advertiser(name="0 then")
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = world.get("advertisers", sort="-name", limit=2, as_of=then, name="0 then", **cursor)
        assert len(page["items"]) <= 2
        found += [row["id"] for row in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert sorted(found) == sorted(made[::2])
    assert evening.advertiser_id in {row["id"] for row in world.get("advertisers", as_of=then, limit=500)["items"]}


def test_before_the_first_entry_there_was_nothing(world: World, evening: Evening) -> None:
    """As of position 0, or of a time before the ledger, lists are empty and nothing is found."""
    for moment in ("0", "1999-12-31T23:59:59Z"):
        for path in ("campaigns", "creatives", "advertisers", "slots", "reports/budgets", "reports/delivery"):
            assert world.get(path, as_of=moment)["items"] == []
        for path in (f"campaigns/{evening.campaign_id}", f"campaigns/{evening.campaign_id}/history"):
            assert world.admin.get(f"/api/v1/{path}", params={"as_of": moment}).status_code == 404


def test_the_delivery_report_as_csv_as_of_a_position(world: World, evening: Evening) -> None:
    """The report as of a position can be had as CSV as well."""
    seen = [seen for seen in evening.seen if seen.path == "reports/delivery"][3]
    answer = world.admin.get(
        "/api/v1/reports/delivery", params={**seen.params, "as_of": seen.body["position"], "format": "csv"}
    )
    lines = answer.text.splitlines()
    assert len(lines) == 1 + len(seen.body["items"])
    assert str(seen.body["items"][0]["impressions"]) in lines[1].split(",")


@pytest.mark.parametrize(
    ("moment", "status", "code"),
    [
        ("1000000", 422, "as_of_beyond_head"),
        ("2999-01-01T00:00:00Z", 422, "as_of_beyond_head"),
        ("-1", 400, "malformed_request"),
        ("1.5", 400, "malformed_request"),
        ("yesterday", 400, "malformed_request"),
        ("2026-03-01T00:00:00", 400, "malformed_request"),
        ("", 400, "malformed_request"),
    ],
)
def test_moments_that_are_refused(world: World, evening: Evening, moment: str, status: int, code: str) -> None:
    """What the log has not come to yet is refused, and what is no moment at all."""
    for path in ("campaigns", f"slots/{evening.slot_id}", "reports/delivery", "reports/budgets"):
        answer = world.admin.get(f"/api/v1/{path}", params={"as_of": moment})
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_the_history_says_what_was_before(world: World, evening: Evening) -> None:
    """Each event of a campaign has what the fields that it set were before, however long ago they were set."""
    campaign_id = world.campaign(name="Before", description="Once")
    for fields in ({"name": "After"}, {"description": "Now", "priority": 1}, {"name": "Later"}):
        world.admin.patch(f"/api/v1/campaigns/{campaign_id}", json=fields).raise_for_status()
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    before = [event["before"] for event in world.get(f"campaigns/{campaign_id}/history")["items"]]
    assert before == [{}, {"name": "Before"}, {"description": "Once", "priority": 3}, {"name": "After"}, {}]
    assert evening.seen


def test_what_changed_between_two_moments(world: World, evening: Evening) -> None:
    """The difference names campaigns with fields before and after, and what was delivered: the reports subtracted."""
    reports = [seen.body for seen in evening.seen if seen.path == "reports/budgets"]
    first, last = reports[2], reports[-1]
    answer = world.admin.get(
        "/audit/v1/diff", params={"from": first["position"], "to": last["position"], "limit": 500}
    ).json()
    assert (answer["from_position"], answer["to_position"]) == (first["position"], last["position"])
    (found,) = [item for item in answer["items"] if item["campaign_id"] == evening.campaign_id]
    (delivered,) = found["delivered"]
    for name in ("impressions", "billed_impressions", "clicks", "spent_micros"):
        assert delivered[name] == last["items"][0][name] - first["items"][0][name]
    assert found["fields"]["name"] == {"before": first["items"][0]["name"], "after": last["items"][0]["name"]}
    assert set(found["fields"]) == {"name", "daily_budget_micros", "version"}


def test_a_new_campaign_is_a_difference(world: World, evening: Evening) -> None:
    """A campaign that was not there before has its fields with nothing before; pages go on after the last campaign."""
    then = head(world)
    made = sorted(world.campaign(name=f"New {number}") for number in range(3))
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = world.admin.get("/audit/v1/diff", params={"from": then, "limit": 2, **cursor}).json()
        found += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert [item["campaign_id"] for item in found] == made
    assert found[0]["fields"]["status"] == {"before": None, "after": "draft"}
    assert found[0]["delivered"] == []
    nothing = world.admin.get("/audit/v1/diff", params={"from": head(world)}).json()
    assert (nothing["items"], nothing["next_cursor"]) == ([], None)
    assert evening.seen


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({"from": "5", "to": "4"}, 422, "moments_out_of_order"),
        ({"from": "0", "to": "1000000"}, 422, "as_of_beyond_head"),
        ({"from": "then"}, 400, "malformed_request"),
        ({}, 400, "malformed_request"),
    ],
)
def test_differences_that_are_refused(
    world: World, evening: Evening, params: dict[str, str], status: int, code: str
) -> None:
    """The moments of a difference are moments, in their order, and not ahead of the log."""
    answer = world.admin.get("/audit/v1/diff", params=params)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert evening.seen

"""Lists, history, reports and the log itself, as those read them who run campaigns and those who check them."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.running import Service
from tests.world import World

NDJSON: Final = "application/x-ndjson"
UNSEEN: Final[dict[str, Any]] = {
    "invalid": {},
    "invalid_views": {},
    "invalid_clicks": {},
    "unbilled_clicks": {},
    "progress": {},
    "completion_rate": 0,
    "conversions": 0,
    "unattributed": {},
    "conversion_rate": 0,
    "conversion_micros": 0,
}
"""The measures of what did not happen here."""

MEASURES: Final = {
    "currency",
    "impressions",
    "gross_impressions",
    "billed_impressions",
    "unbilled",
    "views",
    "gross_views",
    "clicks",
    "gross_clicks",
    "billed_clicks",
    "ctr",
    "spent_micros",
    *UNSEEN,
}


@dataclass(frozen=True)
class Delivered:
    """Two campaigns of an advertiser, with three impressions, a view and a click; one impression was not billed."""

    advertiser_id: str
    first_id: str
    second_id: str
    slot_id: str


@pytest.fixture(scope="module")
def delivered(service: Service, admin: httpx.Client) -> Iterator[Delivered]:
    """What the reports of this module are about."""
    world = World(service, admin)
    advertiser_id = world.advertiser()
    first_id, _ = world.active_campaign(
        advertiser_id=advertiser_id,
        width=336,
        height=280,
        budget_micros=5_000,
        daily_budget_micros=5_000,
    )
    second_id, _ = world.active_campaign(
        advertiser_id=advertiser_id, width=728, height=90, pricing={"model": "cpc", "price_micros": 40_000}
    )
    slot_id, ads = world.slot(width=336, height=280)
    other_slot_id, other_ads = world.slot(width=728, height=90)
    geo = {"country": "CN", "region": "216", "city": "217"}
    first = world.served(ads, slot_id, geo=geo)
    test = world.served(ads, slot_id, geo=geo, test=True)
    second = world.served(other_ads, other_slot_id)
    for url in (
        first["impression_url"],
        first["impression_url"],
        first["view_url"],
        test["impression_url"],
        second["impression_url"],
        second["click_url"],
    ):
        assert httpx.get(url).status_code in {204, 302}
    world.caught_up()
    yield Delivered(advertiser_id, first_id, second_id, slot_id)
    for client in world.clients:
        client.close()


def walk(world: World, path: str, **params: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield the pages of a list."""
    cursor: str | None = None
    while True:
        page = world.get(path, **params, **({} if cursor is None else {"cursor": cursor}))
        yield page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "name", "-name", "updated_at", "-status"])
def test_a_list_is_walked_while_it_grows(world: World, sort: str) -> None:
    """A list read page by page has every row exactly once, in order, whatever is entered meanwhile."""
    made = {world.advertiser(name=f"{number % 3} of {sort} {number}") for number in range(7)}
    rows: list[dict[str, Any]] = []
    for page in walk(world, "advertisers", sort=sort, limit=3):
        assert 1 <= len(page) <= 3
        rows += page
        if len(rows) < 12:
            world.advertiser(name=f"{len(rows) % 3} entered meanwhile")
    ids = [row["id"] for row in rows]
    assert len(set(ids)) == len(ids)
    assert made <= set(ids)
    field = sort.removeprefix("-")
    assert [row[field] for row in rows] == sorted((row[field] for row in rows), reverse=sort.startswith("-"))


def test_a_list_has_fifty_rows_a_page(world: World) -> None:
    """A page has 50 rows unless it is asked for another number, which is at most 500."""
    assert len(world.get("advertisers", limit=500)["items"]) <= 500
    for number in range(52):
        world.advertiser(name=f"Of many {number}")
    page = world.get("advertisers")
    assert len(page["items"]) == 50
    assert page["next_cursor"] is not None


def test_lists_are_filtered(world: World) -> None:
    """Filters leave the rows that have all of what is asked for."""
    advertiser_id = world.advertiser()
    draft, (active, creative_id) = world.campaign(advertiser_id=advertiser_id), world.active_campaign()
    slot_id = world.post("slots", name=f"Slot {uuid4()}", ad_type="top_bar_ad", status="inactive")["id"]

    def ids(things: str, **filters: str) -> set[str]:
        return {row["id"] for page in walk(world, things, limit=500, **filters) for row in page}

    assert ids("campaigns", advertiser_id=advertiser_id) == {draft}
    assert ids("campaigns", advertiser_id=advertiser_id, status="active") == set()
    assert active in ids("campaigns", status="active")
    assert draft not in ids("campaigns", status="active")
    assert ids("campaigns", name=world.get(f"campaigns/{draft}")["name"]) == {draft}
    assert ids("creatives", campaign_id=active, review="approved", status="active") == {creative_id}
    assert ids("creatives", campaign_id=active, review="denied") == set()
    assert slot_id in ids("slots", status="inactive")
    assert slot_id not in ids("slots", status="active")


@pytest.mark.parametrize(
    ("path", "params", "status", "code"),
    [
        ("advertisers", {"limit": "0"}, 400, "malformed_request"),
        ("advertisers", {"limit": "501"}, 400, "malformed_request"),
        ("advertisers", {"limit": "abc"}, 400, "malformed_request"),
        ("advertisers", {"status": "gone"}, 400, "malformed_request"),
        ("advertisers", {"name": "\x00"}, 400, "malformed_request"),
        ("advertisers", {"sort": "password"}, 422, "bad_sort"),
        ("advertisers", {"sort": "--name"}, 422, "bad_sort"),
        ("advertisers", {"cursor": "abc"}, 422, "bad_cursor"),
        ("advertisers", {"cursor": "WyJuYW1lIiwiYSIsImIiXQ", "sort": "-name"}, 422, "bad_cursor"),
        ("advertisers", {"cursor": "WyJuYW1lIiwiYSIsImIiXQ", "sort": "name"}, 422, "bad_cursor"),
        ("advertisers", {"cursor": "WyItY3JlYXRlZF9hdCIsIngiLCJ5Il0"}, 422, "bad_cursor"),
        ("advertisers", {"status": "null"}, 400, "malformed_request"),
        ("campaigns", {"advertiser_id": "abc"}, 400, "malformed_request"),
        ("campaigns", {"advertiser_id": "null"}, 400, "malformed_request"),
        ("creatives", {"review": "perhaps"}, 400, "malformed_request"),
        ("users", {"cursor": "abc"}, 400, "malformed_request"),
        ("reports/budgets", {"sort": "held"}, 422, "bad_sort"),
        ("reports/budgets", {"cursor": "WyItY3JlYXRlZF9hdCIsIngiLCJ5Il0"}, 422, "bad_cursor"),
        ("reports/delivery", {"campaign_id": "null"}, 400, "malformed_request"),
        ("reports/delivery", {"group_by": "colour"}, 400, "malformed_request"),
        ("reports/delivery", {"format": "xml"}, 400, "malformed_request"),
        ("reports/delivery", {"from": "yesterday"}, 400, "malformed_request"),
        ("reports/delivery", {"from": "1772323200"}, 400, "malformed_request"),
        ("reports/delivery", {"to": "2026-03-01T00:00:00"}, 400, "malformed_request"),
        ("reports/delivery", {"cursor": "next"}, 422, "bad_cursor"),
    ],
)
def test_what_cannot_be_read(world: World, path: str, params: dict[str, str], status: int, code: str) -> None:
    """A parameter that is not of its form, a field that nothing is sorted by, or a cursor of one's own is refused."""
    answer = world.admin.get(f"/api/v1/{path}", params=params)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert next(iter(params)) in answer.text


def test_the_history_of_a_campaign(world: World) -> None:
    """A campaign's history has each of its events, oldest first, with what it set, who did it and when."""
    campaign_id = world.campaign(name="Before")
    world.admin.patch(f"/api/v1/campaigns/{campaign_id}", json={"name": "After"}).raise_for_status()
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    events = [event for page in walk(world, f"campaigns/{campaign_id}/history", limit=1) for event in page]
    assert [event["type"] for event in events] == ["campaign_created", "campaign_changed", "campaign_activated"]
    assert [event["version"] for event in events] == [1, 2, 3]
    assert (events[0]["fields"]["name"], events[1]["fields"]) == ("Before", {"name": "After"})
    assert {event["actor"] for event in events} == {f"user:{world.get('auth/me')['id']}"}
    moments = [datetime.fromisoformat(event["recorded_at"]) for event in events]
    assert moments == sorted(moments)
    assert datetime.now(UTC) - moments[0] < timedelta(minutes=5)
    assert world.admin.get(f"/api/v1/campaigns/{uuid4()}/history").status_code == 404


def test_the_budget_report(world: World, delivered: Delivered) -> None:
    """The budget report says, per campaign, what was delivered and spent, today too, and what is left."""
    report = world.get("reports/budgets", advertiser_id=delivered.advertiser_id, sort="created_at")
    first, second = report["items"]
    assert (first["campaign_id"], second["campaign_id"]) == (delivered.first_id, delivered.second_id)
    assert first["today"].pop("date") in {str(datetime.now(UTC).date() - timedelta(days=days)) for days in (0, 1)}
    counts = {"impressions": 2, "billed_impressions": 1, "clicks": 0, "billed_clicks": 0, "spent_micros": 5_000}
    left = {"remaining_micros": 0, "remaining_impressions": None}
    assert first["today"] == counts | left
    assert first | counts | left | {"views": 1, "held": 0, "leased": 0} == first
    assert (second["clicks"], second["billed_clicks"], second["spent_micros"]) == (1, 1, 40_000)
    assert (second["remaining_micros"], second["impressions"]) == (None, 1)
    only = world.get("reports/budgets", campaign_id=delivered.first_id)
    assert [item["campaign_id"] for item in only["items"]] == [delivered.first_id]
    assert only["position"] >= report["position"] > 0


def test_the_delivery_report(world: World, delivered: Delivered) -> None:
    """The delivery report adds up what was delivered by whatever it is grouped by, and says what was not billed."""
    of_advertiser = {"advertiser_id": delivered.advertiser_id}
    total = world.get("reports/delivery", group_by="advertiser", **of_advertiser)["items"]
    assert total == [
        of_advertiser
        | {"currency": "EUR", "impressions": 3, "billed_impressions": 2, "unbilled": {"test": 1}, "views": 1}
        | {"clicks": 1, "billed_clicks": 1, "ctr": 1 / 3, "spent_micros": 45_000}
        | {"gross_impressions": 3, "gross_views": 1, "gross_clicks": 1}
        | UNSEEN
    ]
    places = world.get("reports/delivery", group_by="country,region,city", **of_advertiser)["items"]
    assert [(row["country"], row["region"], row["city"], row["impressions"]) for row in places] == [
        ("", "", "", 1),
        ("CN", "216", "217", 2),
    ]
    lines = world.get("reports/delivery", group_by="hour,day,campaign,creative,slot", **of_advertiser)["items"]
    assert sum(line["impressions"] for line in lines) == 3
    assert {line["campaign_id"] for line in lines} == {delivered.first_id, delivered.second_id}
    of_slot = world.get("reports/delivery", group_by="slot", slot_id=delivered.slot_id)["items"]
    assert [(line["slot_id"], line["impressions"]) for line in of_slot] == [(delivered.slot_id, 2)]


def test_the_delivery_report_of_a_span(world: World, delivered: Delivered) -> None:
    """From and to bound the hours that are reported: the first is in, the last is not."""
    (line,) = world.get("reports/delivery", group_by="hour", campaign_id=delivered.second_id)["items"]
    hour = datetime.fromisoformat(line["hour"])

    def impressions(**span: datetime) -> int:
        params = {name: moment.isoformat() for name, moment in span.items()}
        found = world.get("reports/delivery", group_by="", campaign_id=delivered.second_id, **params)["items"]
        return sum(row["impressions"] for row in found)

    before, after = hour - timedelta(hours=1), hour + timedelta(hours=1)
    assert impressions() == impressions(**{"from": hour}) == impressions(**{"from": hour, "to": after}) == 1
    assert impressions(to=hour) == impressions(**{"from": before, "to": hour}) == impressions(**{"from": after}) == 0


def test_the_delivery_report_as_csv(world: World, delivered: Delivered) -> None:
    """As CSV the report has the same lines, and says in a header how to go on."""
    params = {"group_by": "campaign,day", "advertiser_id": delivered.advertiser_id}
    expected = world.get("reports/delivery", **params)["items"]
    pages: list[dict[str, str]] = []
    cursor: dict[str, str] | None = {}
    while cursor is not None:
        answer = world.admin.get("/api/v1/reports/delivery", params={**params, **cursor, "format": "csv", "limit": 1})
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        pages += list(csv.DictReader(io.StringIO(answer.text)))
        following = answer.headers.get("X-Next-Cursor")
        cursor = None if following is None else {"cursor": following}
    assert set(pages[0]) == {"day", "campaign_id"} | MEASURES
    assert [(row["campaign_id"], int(row["spent_micros"]), row["unbilled"]) for row in pages] == [
        (line["campaign_id"], line["spent_micros"], "test=1" if line["unbilled"] else "") for line in expected
    ]
    assert [datetime.fromisoformat(row["day"]) for row in pages] == [
        datetime.fromisoformat(line["day"]) for line in expected
    ]


def test_the_log_is_read_in_order(world: World, delivered: Delivered) -> None:
    """The log has every position from 1 on, once; each entry is text, and says what happened to which stream."""
    items: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = world.admin.get("/audit/v1/events", params={"after": after, "limit": 100}).json()
        items += page["items"]
        after = page["next_after"]
    assert [item["position"] for item in items] == list(range(1, len(items) + 1))
    entries = [json.loads(item["entry"]) for item in items]
    assert {"stream", "version", "actor", "occurred_at", "recorded_at", "event"} <= set(entries[0])
    assert {f"campaign-{delivered.first_id}", f"campaign-{delivered.second_id}"} <= {each["stream"] for each in entries}
    assert {"campaign_created", "impression_recorded", "click_recorded"} <= {each["event"]["type"] for each in entries}


def test_the_log_is_filtered(world: World, delivered: Delivered) -> None:
    """An auditor can ask for the events of one type, or of one stream."""
    stream = f"campaign-{delivered.first_id}"
    of_stream = world.admin.get("/audit/v1/events", params={"stream": stream}).json()["items"]
    assert [json.loads(item["entry"])["version"] for item in of_stream] == [1, 2]
    of_type = world.admin.get("/audit/v1/events", params={"type": "view_recorded"}).json()["items"]
    assert [json.loads(item["entry"])["event"]["campaign_id"] for item in of_type] == [delivered.first_id]
    for name, value in [("after", "-1"), ("after", str(2**63)), ("limit", "501"), ("type", "\x00"), ("stream", "\x00")]:
        answer = world.admin.get("/audit/v1/events", params={name: value})
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_the_log_as_ndjson(world: World, delivered: Delivered) -> None:
    """As NDJSON the log has the same entries, an object a line, byte for byte."""
    params = {"limit": "20", "stream": f"campaign-{delivered.first_id}"}
    lines = world.admin.get("/audit/v1/events", params=params, headers={"Accept": NDJSON})
    assert lines.headers["Content-Type"].partition(";")[0] == NDJSON
    assert [json.loads(line) for line in lines.text.splitlines()] == (
        world.admin.get("/audit/v1/events", params=params).json()["items"]
    )


@pytest.mark.usefixtures("delivered")
def test_projections_say_how_far_they_have_come(world: World) -> None:
    """Every read model has a version, a position, its lag behind the log, and what it could not apply."""
    world.caught_up()
    found = world.admin.get("/audit/v1/projections").json()
    assert {each["name"] for each in found} == {
        "advertisers",
        "budgets",
        "campaigns",
        "creatives",
        "delivery",
        "history",
        "requests",
        "slots",
    }
    for each in found:
        assert set(each) == {"name", "version", "position", "lag", "parked", "updated_at"}
        assert (each["lag"], each["parked"]) == (0, 0)
        assert each["version"] >= 1

"""Advertisers, campaigns, creatives and slots: every field, every step, and the conditions a command may carry."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.api.terms import (
    ADVERTISER,
    CAMPAIGN,
    CREATIVE,
    OTHER_ADVERTISER,
    OTHER_CAMPAIGN,
    OTHER_CREATIVE,
    OTHER_SLOT,
    SLOT,
)
from tests.running import Service
from tests.world import CATCH_UP_SECONDS_MAX, World

STAMPS: Final = {"id", "version", "position", "created_at", "updated_at"}

# What is listed where, its command, what else it takes and shows, and every field of it twice.
THINGS: Final[dict[str, tuple[str, str | None, set[str], dict[str, Any], dict[str, Any]]]] = {
    "advertisers": (
        "CreateAdvertiser",
        None,
        {"currency", "funds_micros", "legal_hold", "erased_at"},
        ADVERTISER,
        OTHER_ADVERTISER,
    ),
    "campaigns": ("NewCampaign", "advertiser_id", {"status", "budget_request"}, CAMPAIGN, OTHER_CAMPAIGN),
    "creatives": ("CreateCreative", "campaign_id", {"status", "review", "denial_reason"}, CREATIVE, OTHER_CREATIVE),
    "slots": ("CreateSlot", None, {"keys"}, SLOT, OTHER_SLOT),
}


def owned(world: World, things: str) -> dict[str, str]:
    """Return the field that says to what a new thing belongs, if it belongs to something."""
    owner = THINGS[things][1]
    made: dict[str | None, Callable[[], str]] = {"advertiser_id": world.advertiser, "campaign_id": world.campaign}
    return {owner: made[owner]()} if owner is not None else {}


@pytest.mark.parametrize("things", THINGS)
def test_every_field_is_kept(world: World, things: str) -> None:
    """What is created is read back field by field, and so is what is then changed; answers name version and ETag."""
    command, _, shown, fields, others = THINGS[things]
    owner = owned(world, things)
    schemas = httpx.get(f"{world.service.url}/schema/openapi.json").json()["components"]["schemas"]
    assert set(fields) == set(others) == set(schemas[command]["properties"]) - set(owner)

    created = world.admin.post(f"/api/v1/{things}", json=fields | owner)
    assert created.status_code == 201, created.text
    receipt = created.json()
    assert set(receipt) == {"id", "version", "position"}
    path = f"/api/v1/{things}/{receipt['id']}"
    read = world.admin.get(path)
    found = read.json()
    assert {name: found[name] for name in fields | owner} == fields | owner
    assert set(found) == set(fields) | set(owner) | shown | STAMPS
    assert created.headers["ETag"] == read.headers["ETag"] == '"1"'
    assert (found["version"], found["position"]) == (1, receipt["position"])

    changed = world.admin.patch(path, json=others)
    assert changed.status_code == 200, changed.text
    read = world.admin.get(path)
    assert {name: read.json()[name] for name in others | owner} == others | owner
    assert changed.headers["ETag"] == read.headers["ETag"] == '"2"'
    assert (read.json()["created_at"], read.json()["version"]) == (found["created_at"], 2)

    unchanged = world.admin.patch(path, json=others)
    assert unchanged.json() == changed.json()
    assert world.admin.get(f"/api/v1/{things}/{uuid4()}").status_code == 404


def test_countries_are_kept_by_their_short_code(world: World) -> None:
    """A country that is named by three letters is kept by its two."""
    campaign_id = world.campaign(targeting=[{"country": "CHN"}])
    assert world.get(f"campaigns/{campaign_id}")["targeting"][0]["country"] == "CN"


def test_the_life_of_a_campaign(world: World) -> None:
    """A campaign takes the steps of its life cycle, and refuses those that it does not have from where it stands."""
    path = f"campaigns/{world.campaign()}"
    for step, status in [
        ("activate", "active"),
        ("pause", "paused"),
        ("activate", "active"),
        ("complete", "completed"),
        ("archive", "inactive"),
    ]:
        world.post(f"{path}/{step}", expect=200)
        assert world.get(path)["status"] == status
        assert world.post(f"{path}/{step}", expect=409)["code"] == "wrong_state"
    assert world.admin.patch(f"/api/v1/{path}", json={"name": "Again"}).json()["code"] == "wrong_state"


def test_the_life_of_a_creative(world: World) -> None:
    """A creative is reviewed before it is active; what is shown anew is reviewed anew; a denial says why."""
    terms = {name: value for name, value in OTHER_CREATIVE.items() if value is not None}
    path = f"creatives/{world.post('creatives', campaign_id=world.campaign(), **terms)['id']}"
    assert world.post(f"{path}/activate", expect=409)["code"] == "not_approved"
    world.post(f"{path}/submit", expect=200)
    world.post(f"{path}/deny", expect=200, reason="Too loud")
    assert (world.get(path)["review"], world.get(path)["denial_reason"]) == ("denied", "Too loud")
    assert world.post(f"{path}/approve", expect=409)["code"] == "content_not_affirmed"
    affirmed = {"content_rating": {"no_prohibited_content": True}}
    assert world.admin.patch(f"/api/v1/{path}", json=affirmed).status_code == 200
    world.post(f"{path}/approve", expect=200)
    world.post(f"{path}/activate", expect=200)
    assert world.admin.patch(f"/api/v1/{path}", json={"click_url": "https://new.example/"}).status_code == 200
    found = world.get(path)
    assert (found["status"], found["review"], found["denial_reason"]) == ("active", "pending", None)
    world.post(f"{path}/pause", expect=200)
    world.post(f"{path}/archive", expect=200)
    assert world.post(f"{path}/activate", expect=409)["code"] == "wrong_state"


def test_a_change_can_depend_on_the_version(world: World) -> None:
    """If-Match lets a change through while its version is the current one, and nothing is changed when it is not."""
    path = f"/api/v1/advertisers/{world.advertiser(name='First')}"

    def change(name: str, if_match: str) -> httpx.Response:
        return world.admin.patch(path, json={"name": name}, headers={"If-Match": if_match})

    assert change("Second", world.admin.get(path).headers["ETag"]).status_code == 200
    stale = change("Third", '"1"')
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert world.admin.get(path).json()["name"] == "Second"
    assert change("Fourth", "*").status_code == 200
    for malformed in ("three", '"-1"', '"1", "2"', '"9999999999"'):
        assert change("Fifth", malformed).json()["code"] == "malformed_request"


def test_a_step_can_depend_on_the_version(world: World) -> None:
    """A step that depends on a version that has passed is not taken."""
    path = f"/api/v1/campaigns/{world.campaign()}"
    world.admin.patch(path, json={"name": "Changed meanwhile"}).raise_for_status()
    assert world.admin.post(f"{path}/activate", headers={"If-Match": '"1"'}).status_code == 412
    assert world.admin.get(path).json()["status"] == "draft"


def test_a_request_sent_again_is_answered_again(world: World) -> None:
    """With an Idempotency-Key the same request gives the first answer, and another request is refused."""
    headers = {"Idempotency-Key": str(uuid4())}
    name = f"Once {uuid4()}"
    first = world.admin.post("/api/v1/advertisers", json={"name": name}, headers=headers)
    again = world.admin.post("/api/v1/advertisers", json={"name": name}, headers=headers)
    assert (again.status_code, again.json(), again.headers["ETag"]) == (201, first.json(), '"1"')
    other = world.admin.post("/api/v1/advertisers", json={"name": "Other"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    elsewhere = world.admin.post("/api/v1/slots", json={"name": name, "ad_type": "top_bar_ad"}, headers=headers)
    assert elsewhere.json()["code"] == "idempotency_key_reused"
    assert len(world.get("advertisers", name=name)["items"]) == 1


def test_a_refusal_is_the_answer_for_ever(world: World) -> None:
    """A step that was refused is refused again under its key, though it would be allowed by now."""
    path = f"/api/v1/campaigns/{world.campaign()}"
    headers = {"Idempotency-Key": str(uuid4())}
    refused = world.admin.post(f"{path}/pause", headers=headers)
    assert refused.status_code == 409
    world.admin.post(f"{path}/activate").raise_for_status()
    again = world.admin.post(f"{path}/pause", headers=headers)
    assert (again.status_code, again.json()) == (409, refused.json())
    assert world.admin.get(path).json()["status"] == "active"


def test_requests_sent_at_once_create_one_thing(world: World) -> None:
    """Eight identical requests under one key, all at once, are answered alike and create exactly one advertiser."""
    headers = {"Idempotency-Key": str(uuid4())}
    name = f"Once {uuid4()}"

    def create(_: int) -> tuple[int, Any]:
        answer = world.admin.post("/api/v1/advertisers", json={"name": name}, headers=headers)
        return answer.status_code, answer.json()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(create, range(8)))
    assert answers == [(201, answers[0][1])] * 8
    assert [row["id"] for row in world.get("advertisers", name=name)["items"]] == [answers[0][1]["id"]]


@pytest.mark.parametrize("key", ["", "k" * 201, "ключ"])
def test_an_idempotency_key_is_a_short_name(world: World, key: str) -> None:
    """An Idempotency-Key is a few printable characters of ASCII."""
    headers = {b"Idempotency-Key": key.encode()}
    answer = world.admin.post("/api/v1/advertisers", json={"name": "A"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_everybody_reads_their_own_writes(world: World) -> None:
    """What was just created is found at once, by its id and in the list, every time."""
    for number in range(50):
        name = f"Number {number} {uuid4()}"
        advertiser_id = world.post("advertisers", name=name)["id"]
        assert world.get(f"advertisers/{advertiser_id}")["name"] == name
        assert [row["id"] for row in world.get("advertisers", name=name)["items"]] == [advertiser_id]


def test_a_slot_has_two_keys_at_most(service: Service, world: World) -> None:
    """A key is shown once and works until it is revoked; two are valid at a time; the log holds neither."""
    slot_id = world.post("slots", **SLOT)["id"]
    first, second = (world.post(f"slots/{slot_id}/keys") for _ in range(2))
    assert set(first) == {"key_id", "key"}
    assert world.post(f"slots/{slot_id}/keys", expect=409)["code"] == "too_many_keys"

    assert slot_id in {slot["id"] for slot in wait_for_status(service, first["key"], 200).json()}
    wait_for_status(service, second["key"], 200)
    revoked = world.admin.delete(f"/api/v1/slots/{slot_id}/keys/{first['key_id']}")
    assert (revoked.status_code, revoked.json()["version"]) == (200, 4)
    assert wait_for_status(service, first["key"], 401).json()["code"] == "unauthenticated"
    wait_for_status(service, second["key"], 200)
    assert world.admin.delete(f"/api/v1/slots/{slot_id}/keys/{first['key_id']}").status_code == 404
    world.post(f"slots/{slot_id}/keys")

    found = world.admin.get(f"/api/v1/slots/{slot_id}")
    assert second["key_id"] in {key["key_id"] for key in found.json()["keys"]}
    log = world.admin.get("/audit/v1/events", params={"stream": f"slot-{slot_id}"}).text
    for issued in (first, second):
        assert issued["key"] not in found.text
        assert issued["key_id"] in log
        assert issued["key"] not in log


def wait_for_status(service: Service, key: str, status: int) -> httpx.Response:
    """Ask for the slots with a key until the answer has a status: workers learn of keys a moment later."""
    deadline = monotonic() + CATCH_UP_SECONDS_MAX
    while True:
        answer = httpx.get(f"{service.url}/ads/v1/slots", headers={"Authorization": f"Bearer {key}"})
        if answer.status_code == status or monotonic() > deadline:
            assert answer.status_code == status, answer.text
            return answer
        sleep(0.02)

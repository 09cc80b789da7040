"""What is held about people at advertisers: who reads it, who is told all of it, and how it is erased."""

import base64
import hmac
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.api.pages import audited
from tests.world import World

PASSWORD: Final = "a long sentence nobody guesses"


@pytest.fixture
def contact() -> dict[str, str]:
    """A contact that no other test uses."""
    return {"email": f"{uuid4().hex}@northwind.example", "phone": f"+{uuid4().int % 10**20}"}


def others(world: World) -> Iterator[tuple[str, httpx.Client]]:
    """A client of one person in each role."""
    for role in ("manager", "viewer", "auditor"):
        email = f"{role}-{uuid4().hex}@example.com"
        world.post("users", email=email, password=PASSWORD, role=role)
        client = world.service.signed_in(email, PASSWORD)
        yield role, client
        client.close()


def held(world: World, advertiser_id: str) -> dict[str, Any]:
    """Return all that is held about the person of an advertiser."""
    return world.get(f"advertisers/{advertiser_id}/personal-data")


def logged(world: World, advertiser_id: str) -> str:
    """Return what the log says of an advertiser."""
    return world.admin.get("/audit/v1/events", params={"stream": f"advertiser-{advertiser_id}"}).text


def test_who_reads_a_contact(world: World, contact: dict[str, str]) -> None:
    """Admins and managers read how people are reached, at any moment; to others it is what the log has: encrypted."""
    advertiser_id = world.advertiser(**contact)
    path = f"/api/v1/advertisers/{advertiser_id}"
    position = world.get(f"advertisers/{advertiser_id}")["position"]
    assert contact["email"] not in logged(world, advertiser_id)
    for role, client in others(world):
        for parameters in ({}, {"as_of": position}):
            shown = client.get(path, params=parameters).json()
            name = {"name": shown["name"], **parameters}
            (listed,) = client.get("/api/v1/advertisers", params=name).json()["items"]
            assert listed == shown
            if role == "manager":
                assert contact.items() <= shown.items()
            else:
                assert {shown[field].partition(":")[0] for field in contact} == {"encrypted"}
                assert shown["email"] in logged(world, advertiser_id)


def test_a_person_is_told_all_that_is_held(world: World, contact: dict[str, str]) -> None:
    """All that was ever entered is told, with where it stands in the log and what proves that it stands there."""
    advertiser_id = world.advertiser(email="first@northwind.example")
    world.admin.patch(f"/api/v1/advertisers/{advertiser_id}", json=contact).raise_for_status()
    found = held(world, advertiser_id)
    assert contact.items() <= found.items()
    assert [(each["field"], each["value"]) for each in found["entries"]] == [
        ("email", "first@northwind.example"),
        *contact.items(),
    ]
    for each in found["entries"]:
        said = "\n".join((found["ledger_id"], advertiser_id, each["field"], each["value"]))
        committed = hmac.digest(bytes.fromhex(each["salt"]), said.encode(), "sha256")
        assert base64.urlsafe_b64encode(committed).decode().rstrip("=") == each["commitment"]
        events = world.admin.get("/audit/v1/events", params={"after": each["position"] - 1, "limit": 1}).json()
        assert each["commitment"] in events["items"][0]["entry"]
    assert world.admin.get(f"/api/v1/advertisers/{uuid4()}/personal-data").status_code == 404


def test_a_contact_is_erased(world: World, contact: dict[str, str]) -> None:
    """An erased contact reads as null as of any moment, with when it was erased; proofs hold, and a new one goes."""
    advertiser_id = world.advertiser(**contact)
    path = f"advertisers/{advertiser_id}"
    before = world.get(path)
    headers = {"Idempotency-Key": uuid4().hex}
    erased = world.admin.post(f"/api/v1/{path}/erase", headers=headers)
    assert erased.status_code == 200
    assert world.admin.post(f"/api/v1/{path}/erase", headers=headers).json() == erased.json()
    for parameters in ({}, {"as_of": before["position"]}):
        shown = world.get(path, **parameters)
        assert (shown["email"], shown["phone"], shown["name"]) == (None, None, before["name"])
        assert shown["erased_at"] is not None
    told = held(world, advertiser_id)
    assert [(each["value"], each["salt"]) for each in told["entries"]] == [(None, None)] * 2
    assert all(each["commitment"] in logged(world, advertiser_id) for each in told["entries"])
    assert "personal_data_erased" in logged(world, advertiser_id)
    assert world.post(f"{path}/erase", expect=200)["version"] == erased.json()["version"]
    audited(world)
    world.admin.patch(f"/api/v1/{path}", json={"email": contact["email"]}).raise_for_status()
    assert world.get(path)["email"] == contact["email"]


def test_a_legal_hold_refuses_an_erasure(world: World, contact: dict[str, str]) -> None:
    """While a hold stands nothing is erased, and the refusal says why; when it is lifted it is."""
    path = f"advertisers/{world.advertiser(**contact)}"
    world.post(f"{path}/legal-hold", expect=200, reason="Case 17")
    assert world.get(path)["legal_hold"] == "Case 17"
    refused = world.post(f"{path}/erase", expect=409)
    assert (refused["code"], "Case 17" in refused["detail"]) == ("legal_hold", True)
    assert world.get(path)["email"] == contact["email"]
    assert world.admin.delete(f"/api/v1/{path}/legal-hold").status_code == 200
    assert world.get(path)["legal_hold"] is None
    world.post(f"{path}/erase", expect=200)
    assert world.get(path)["email"] is None


def test_the_same_request_is_the_same_though_it_is_encrypted_anew(world: World, contact: dict[str, str]) -> None:
    """A command that is sent again under its key is answered as the first time, and makes neither entry nor key."""
    headers = {"Idempotency-Key": uuid4().hex}
    body = {"name": f"Once {uuid4()}", **contact}
    first, again = (world.admin.post("/api/v1/advertisers", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.json()) == (201, first.json())
    path = f"/api/v1/advertisers/{first.json()['id']}"
    assert world.admin.patch(path, json=contact).json() == first.json()
    assert len(held(world, first.json()["id"])["entries"]) == len(contact)

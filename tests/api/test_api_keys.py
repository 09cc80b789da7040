"""API keys: what programs do with them, for how long, and what they cannot do."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.api.pages import eventually
from tests.running import Service
from tests.world import World

KEYS: Final = "/api/v1/api-keys"
ENDED_SECONDS: Final = 1.5


@pytest.fixture
def program(service: Service) -> Iterator[httpx.Client]:
    """A program that has no key yet."""
    with service.client() as client:
        yield client


def issued(world: World, program: httpx.Client, **fields: Any) -> str:
    """Give a program a key, and return the key's id."""
    made = world.post("api-keys", **{"name": "Nightly import", "role": "manager", **fields})
    program.headers["Authorization"] = f"Bearer {made['key']}"
    assert made["key"].startswith("lak_")
    return str(made["id"])


def listed(world: World, key_id: str) -> dict[str, Any]:
    """Return how a key is listed."""
    found: list[dict[str, Any]] = world.admin.get(KEYS).json()
    (key,) = (each for each in found if each["id"] == key_id)
    return key


def test_a_program_does_what_its_role_allows(world: World, program: httpx.Client) -> None:
    """What a program did is in the log under its key; what its role does not allow is refused."""
    key_id = issued(world, program)
    made = program.post("/api/v1/advertisers", json={"name": "From a file", "email": "a@northwind.example"})
    assert made.status_code == 201, made.text
    stream = {"stream": f"advertiser-{made.json()['id']}"}
    assert f'\\"actor\\":\\"key:{key_id}\\"' in world.admin.get("/audit/v1/events", params=stream).text
    world.caught_up()
    shown = program.get(f"/api/v1/advertisers/{made.json()['id']}").json()
    assert shown["email"] == "a@northwind.example"
    refused = program.get("/api/v1/users")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_a_key_does_no_more_than_its_scopes_say(world: World, program: httpx.Client) -> None:
    """A key with scopes does these of what its role may, and nothing else that the role may."""
    key_id = issued(world, program, role="finance", scopes=["read"])
    assert listed(world, key_id)["scopes"] == ["read"]
    advertiser_id = world.advertiser(email="a@northwind.example")
    funds = {"amount_micros": 1, "currency": "EUR"}
    assert program.post(f"/api/v1/advertisers/{advertiser_id}/deposit", json=funds).status_code == 403
    assert program.get(f"/api/v1/advertisers/{advertiser_id}").json()["email"] != "a@northwind.example"
    issued(world, program, role="finance", scopes=["spend"])
    assert program.post(f"/api/v1/advertisers/{advertiser_id}/deposit", json=funds).status_code == 200
    assert program.get(f"/api/v1/advertisers/{advertiser_id}").status_code == 403
    draft = world.campaign()
    issued(world, program, role="manager", scopes=["read", "draft", "change"])
    assert program.patch(f"/api/v1/campaigns/{draft}", json={"name": "Renamed"}).status_code == 200
    assert program.post(f"/api/v1/campaigns/{draft}/activate").status_code == 403
    world.post(f"campaigns/{draft}/activate", expect=200)
    assert program.patch(f"/api/v1/campaigns/{draft}", json={"name": "Renamed again"}).status_code == 403


def test_a_key_is_kept_by_its_hash_alone(world: World, program: httpx.Client) -> None:
    """A list of keys says what each is for, who made it and when it was used last, and has no key in it."""
    end = (datetime.now(UTC) + timedelta(days=90)).replace(microsecond=0)
    key_id = issued(world, program, name="Reports", role="viewer", expires_at=end.isoformat())
    found = listed(world, key_id)
    assert set(found) == {"id", "name", "role", "created_by", "created_at", "expires_at", "last_used_at"} | {
        "advertiser_ids",
        "scopes",
    }
    assert (found["name"], found["role"], found["last_used_at"]) == ("Reports", "viewer", None)
    assert datetime.fromisoformat(found["expires_at"]) == end
    assert found["created_by"] == world.get("auth/me")["id"]
    assert program.get("/api/v1/slots").status_code == 200
    eventually(lambda: listed(world, key_id)["last_used_at"] is not None)
    assert listed(world, key_id)["last_used_at"] > found["created_at"]


def test_a_key_that_was_revoked_or_has_expired_opens_nothing(world: World, program: httpx.Client) -> None:
    """A revoked key, one that expired and one that never was are refused alike."""
    key_id = issued(world, program)
    assert program.get("/api/v1/slots").status_code == 200
    assert world.admin.delete(f"{KEYS}/{key_id}").status_code == 204
    answers = [program.get("/api/v1/slots")]
    issued(world, program, expires_at=(datetime.now(UTC) + timedelta(seconds=ENDED_SECONDS)).isoformat())
    eventually(lambda: program.get("/api/v1/slots").status_code == 401)
    answers.append(program.get("/api/v1/slots"))
    program.headers["Authorization"] = "Bearer lak_" + "A" * 43
    answers.append(program.get("/api/v1/slots"))
    assert {(each.status_code, each.json()["code"], each.json()["detail"]) for each in answers} == {
        (401, "unauthenticated", answers[0].json()["detail"])
    }
    assert world.admin.delete(f"{KEYS}/{key_id}").status_code == 404


def test_a_key_makes_no_other_key(world: World, program: httpx.Client) -> None:
    """Not even the key of an admin makes, sees or revokes keys, or has an account; a person does."""
    key_id = issued(world, program, role="admin")
    assert program.get("/api/v1/users").status_code == 200
    for method, path in (
        ("POST", KEYS),
        ("GET", KEYS),
        ("DELETE", f"{KEYS}/{key_id}"),
        ("GET", "/api/v1/auth/me"),
        ("GET", "/api/v1/auth/sessions"),
    ):
        assert program.request(method, path).status_code == 403, path


@pytest.mark.parametrize(
    ("fields", "status", "code", "pointer"),
    [
        ({"expires_at": "2020-01-01T00:00:00Z"}, 422, "expiry_past", "/expires_at"),
        ({"expires_at": "2099-01-01T00:00:00"}, 400, "invalid_body", "/expires_at"),
        ({"role": "owner"}, 400, "invalid_body", "/role"),
        ({"name": ""}, 400, "invalid_body", "/name"),
        ({"scopes": ["read", "draft"]}, 422, "scopes_unfit", "/scopes"),
        ({"scopes": []}, 400, "invalid_body", "/scopes"),
        ({"role": "advertiser"}, 422, "advertisers_unfit", "/advertiser_ids"),
    ],
)
def test_which_keys_there_cannot_be(world: World, fields: dict[str, Any], status: int, code: str, pointer: str) -> None:
    """A key has a name, a role that there is, scopes within it, and an end that is to come."""
    problem = world.post("api-keys", expect=status, **{"name": str(uuid4()), "role": "viewer", **fields})
    assert (problem["code"], problem["errors"][0]["pointer"]) == (code, pointer)

"""Organisations beside one another: none sees or changes anything of its neighbour, and operators see no data."""

import asyncio
import re
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from infra.database import connect
from tests.api.organisations import PASSWORD, PIXEL, founded, operating
from tests.api.test_approvals import CURRENCY
from tests.api.test_sign_in import ALLOWED
from tests.running import Service
from tests.world import World

ITS_OWN: Final = frozenset({"read_checkpoint_of", "read_tile_of"})
"""What everybody may ask of any ledger: the tree over it and its signatures."""

OF_A_PERSON: Final = frozenset({"end_session", "remove_link"})
"""What is somebody's own, whatever organisation they are signed in to."""

OF_THE_LEDGER: Final = "ledger_id = %(ledger_id)s"
OWNED: Final = {
    "ledgers": OF_THE_LEDGER,
    "members": OF_THE_LEDGER,
    "api_keys": OF_THE_LEDGER,
    "invitations": OF_THE_LEDGER,
    "subject_keys": OF_THE_LEDGER,
    "events": f"{OF_THE_LEDGER} AND entry::jsonb ->> 'actor' LIKE 'user:%%'",
}
"""Where it stands what an organisation owns, but for what the service itself adds."""


@pytest.fixture(scope="module")
def things(service: Service, admin: httpx.Client) -> dict[str, str]:
    """One thing of each kind in the first organisation, by the parameter of paths that names it."""
    world = World(service, admin)
    campaign_id, creative_id = world.active_campaign()
    advertiser_id = world.get(f"campaigns/{campaign_id}")["advertiser_id"]
    slot_id, ads = world.slot()
    ad = world.served(ads, slot_id)
    assert ads.get(ad["impression_url"]).status_code == 204
    ads.close()
    email = f"{uuid4().hex}@example.com"
    policy = {"limits": [{"currency": CURRENCY, "above_micros": 1_000_000}]}
    admin.put("/api/v1/policy", json=policy).raise_for_status()
    asking = world.campaign(currency=CURRENCY, budget_micros=1_000_000)
    world.post(f"campaigns/{asking}/activate", expect=200)
    admin.patch(f"/api/v1/campaigns/{asking}", json={"budget_micros": 2_000_000}).raise_for_status()
    hook = world.post("webhooks", url="https://93.184.216.34/hook", event_types=["campaign_activated"])
    slot_key = world.post(f"slots/{slot_id}/keys")
    return {
        "advertiser_id": advertiser_id,
        "campaign_id": campaign_id,
        "creative_id": creative_id,
        "slot_id": slot_id,
        "decision_id": ad["decision_id"],
        "user_id": world.post("users", email=email, password=PASSWORD, role="viewer")["id"],
        "webhook_id": hook["id"],
        "key_id": slot_key["key_id"],
        "invitation_id": world.post("invitations", email=f"{uuid4().hex}@example.com", role="viewer")["id"],
        "request_id": world.get(f"campaigns/{asking}")["budget_request"]["request_id"],
        "api_key": world.post("api-keys", name="Ours", role="viewer")["id"],
    }


@pytest.fixture(scope="module")
def operations(service: Service) -> dict[str, tuple[str, str, Any]]:
    """Method, path and an example of the body of every operation for people, as the OpenAPI document has them."""
    document = httpx.get(f"{service.url}/schema/openapi.json").json()
    found = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.startswith(("/api/v1", "/audit/v1")):
                body = operation.get("requestBody", {}).get("content", {}).get("application/json")
                found[operation["operationId"]] = (method.upper(), path, body and example_of(document, body))
    return found


def example_of(document: dict[str, Any], body: dict[str, Any]) -> Any:
    """Return the first example of a body."""
    schema = body["schema"]
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    examples = body.get("examples") or schema.get("examples") or [body.get("example") or schema.get("example")]
    first = next(iter(examples.values())) if isinstance(examples, dict) else examples[0]
    return first["value"] if isinstance(first, dict) and "value" in first else first


@pytest.mark.parametrize("operation", sorted(set(ALLOWED) - ITS_OWN - OF_A_PERSON))
def test_nothing_of_one_organisation_is_there_for_another(
    operation: str, operations: dict[str, tuple[str, str, Any]], things: dict[str, str], neighbour: World
) -> None:
    """For the admin of the neighbour, what a path names of the first organisation does not exist; no list shows it."""
    method, path, body = operations[operation]
    named = re.findall(r"\{(\w+_id)\}", path)
    if operation == "revoke_api_key":
        path = path.replace("{key_id}", things["api_key"])
    for name in named:
        path = path.replace(f"{{{name}}}", things[name])
    if named:
        image = {"content": PIXEL, "headers": {"Content-Type": "image/gif"}}
        answer = neighbour.admin.request(method, path, **image if operation == "upload_media" else {"json": body})
        assert answer.status_code == 404, (path, body, answer.text)
    elif method == "GET" and "{" not in path:
        needed = {"prove_inclusion": {"position": 1}, "prove_consistency": {"from": 0}, "read_changes": {"from": 0}}
        answer = neighbour.admin.get(path, params=needed.get(operation))
        assert answer.status_code in {200, 403, 404, 422}, answer.text
        assert not [name for name, thing in things.items() if thing in answer.text]


@pytest.mark.usefixtures("things")
def test_what_is_done_next_door_changes_nothing_here(
    service: Service, operations: dict[str, tuple[str, str, Any]], admin: httpx.Client
) -> None:
    """Whatever an admin of the neighbour does that names nothing in its path, nothing of the first one is different."""
    founder, _, _ = founded(service)
    here = admin.get("/api/v1/organisation").json()["id"]
    before = asyncio.run(_standing(service, here))
    assert {*before} == {*OWNED}
    doing = {name: said for name, said in operations.items() if said[0] != "GET" and "{" not in said[1]}
    del doing["login"]  # of which the example is the first one's admin
    assert len(doing) > 25
    done = set()
    # A policy of the organisation keeps out who has no second factor, so it is the last.
    for operation in sorted(doing, key=lambda name: (name == "set_second_factor_policy", name)):
        method, path, body = doing[operation]
        email = f"{uuid4().hex}@example.com"
        person = {"email": email, "password": PASSWORD, "role": "admin"}
        founder.post("/api/v1/users", json=person).raise_for_status()
        client = service.signed_in(email, PASSWORD)
        answer = client.request(method, path, json=body)
        client.close()
        assert answer.status_code < 500, (operation, answer.text)
        done |= {operation} if answer.is_success else set()
        assert asyncio.run(_standing(service, here)) == before, (operation, answer.text)
    founder.close()
    assert {"create_advertiser", "create_slot", "create_user", "set_policy", "set_second_factor_policy"} <= done


async def _standing(service: Service, ledger_id: str) -> dict[str, str | None]:
    """Return a hash of what each table has of an organisation, and of what commands added to its log."""
    async with await connect(service.environment["LEDGER_DATABASE_URL"]) as connection:
        found = {}
        for table, kept in OWNED.items():
            rows = f"SELECT {table}::text AS said FROM {table} WHERE {kept}"
            cursor = await connection.execute(
                f"SELECT md5(string_agg(said, ',' ORDER BY said)) AS hash FROM ({rows}) AS rows".encode(),
                {"ledger_id": ledger_id},
            )
            row = await cursor.fetchone()
            assert row is not None
            found[table] = row["hash"]
    return found


def test_what_refers_to_the_neighbour_refers_to_nothing(neighbour: World, things: dict[str, str]) -> None:
    """No campaign is made for the neighbour's advertiser, no creative in its campaign, nobody sees its advertisers."""
    campaign = {
        "advertiser_id": things["advertiser_id"],
        "name": "Cuckoo",
        "start_date": "2020-01-01",
        "pricing": {"model": "cpm", "price_micros": 5_000_000},
        "currency": "EUR",
    }
    assert neighbour.post("campaigns", expect=422, **campaign)["code"] == "unknown_reference"
    with pytest.raises(AssertionError, match="unknown_reference"):
        neighbour.creative(things["campaign_id"])
    person = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "role": "advertiser"}
    refused = neighbour.post("users", expect=422, **person, advertiser_ids=[things["advertiser_id"]])
    assert refused["code"] == "unknown_reference"


def test_keys_and_tokens_open_the_doors_of_their_own_ledger(
    service: Service, neighbour: World, things: dict[str, str]
) -> None:
    """A slot key asks for its own organisation's slots alone and vouches for nobody else; so do API keys."""
    slot_id, ads = neighbour.slot()
    world = World(service, service.signed_in())
    own_slot, own_ads = world.slot()
    ad = world.served(own_ads, own_slot)
    neighbour.active_campaign()
    neighbour.served(ads, slot_id)
    asked = {"id": "r", "placements": [{"id": "p", "slot_id": things["slot_id"]}]}
    assert ads.post("/ads/v1/decisions", json=asked).status_code == 422
    assert things["slot_id"] not in ads.get("/ads/v1/slots").text
    claimed = {"token": ad["impression_url"].rpartition("/")[2], "occurred_at": "2026-01-01T00:00:00Z"}
    (refused,) = ads.post("/ads/v1/events", json={"tokens": [claimed]}).json()["results"]
    assert refused["result"] == "refused"
    (recorded,) = own_ads.post("/ads/v1/events", json={"tokens": [claimed]}).json()["results"]
    assert recorded["result"] == "recorded"
    mixed = [neighbour.served(ads, slot_id)["impression_url"].rpartition("/")[2], claimed["token"]]
    results = ads.post("/ads/v1/events", json={"tokens": mixed}).json()["results"]
    assert [each["result"] for each in results] == ["recorded", "repeated"]
    key = neighbour.post("api-keys", name="Theirs", role="admin")["key"]
    program = service.client(headers={"Authorization": f"Bearer {key}"})
    assert program.get(f"/api/v1/campaigns/{things['campaign_id']}").status_code == 404
    assert program.get("/api/v1/organisation").json()["id"] == neighbour.get("organisation")["id"]
    for client in (own_ads, program, world.admin):
        client.close()


def test_an_operator_sees_how_it_is_and_nothing_of_anybody(
    service: Service, neighbour: World, things: dict[str, str]
) -> None:
    """Operators see every ledger's size and delays by its id, no names, no money and no people, and have no data."""
    operator = operating(service)
    found = operator.get("/api/v1/installation", params={"limit": 500})
    assert found.status_code == 200, found.text
    ledgers = {each["ledger_id"]: each for each in found.json()["ledgers"]}
    assert found.json()["organisations"] == len(ledgers) >= 2
    own = ledgers[neighbour.get("organisation")["id"]]
    assert own["entries"] >= own["sealed_entries"] >= 0
    assert own["workers"] >= 1
    assert found.json()["database_bytes"] > 0
    assert neighbour.get("organisation")["name"] not in found.text
    assert not [thing for thing in things.values() if thing in found.text]
    assert operator.get("/api/v1/organisations").json() == []
    for path in ("campaigns", "users", "organisation", "reports/budgets"):
        assert operator.get(f"/api/v1/{path}").status_code == 403
    operator.close()

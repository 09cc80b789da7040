"""Organisations: how they begin, that people go from one to another, and that none sees anything of its neighbour."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from infra import users
from infra.database import connect
from infra.users import INSTALLATION
from tests.api.test_approvals import CURRENCY
from tests.api.test_invitations import tokens as mailed
from tests.api.test_sign_in import ALLOWED
from tests.running import ADMIN_EMAIL, ADMIN_PASSWORD, Service
from tests.world import World

PASSWORD: Final = "a sentence that nobody guesses"

PIXEL: Final = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")

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


def founded(service: Service, **fields: Any) -> tuple[httpx.Client, dict[str, Any], dict[str, Any]]:
    """Let the first admin begin an organisation, and return a client that is signed in to it, it and the tokens."""
    founder = service.signed_in()
    said = {"name": "Neighbour", "slug": f"neighbour-{uuid4().hex}", **fields}
    made = founder.post("/api/v1/organisations", json=said)
    assert made.status_code == 201, made.text
    founder.close()
    tokens = switched(service, signed_in(service)["refresh_token"], made.json()["id"])
    client = service.client(headers={"Authorization": f"Bearer {tokens['access_token']}"})
    return client, made.json(), tokens


def operating(service: Service) -> httpx.Client:
    """Return a client of a new operator of the installation."""
    email = f"{uuid4().hex}@example.com"

    async def add() -> None:
        async with await connect(service.environment["LEDGER_DATABASE_URL"]) as connection:
            await users.create(connection, INSTALLATION, email=email, password=PASSWORD, role="operator")

    asyncio.run(add())
    return service.signed_in(email, PASSWORD)


def signed_in(service: Service) -> dict[str, Any]:
    """Return the tokens of the first admin."""
    answer = httpx.post(f"{service.url}/api/v1/auth/login", json={"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD})
    tokens: dict[str, Any] = answer.raise_for_status().json()
    return tokens


def switched(service: Service, refresh_token: str, organisation_id: str, expect: int = 200) -> dict[str, Any]:
    """Go on with a session in another organisation, and return the answer."""
    body = {"refresh_token": refresh_token, "organisation_id": organisation_id}
    answer = httpx.post(f"{service.url}/api/v1/auth/switch", json=body)
    assert answer.status_code == expect, answer.text
    found: dict[str, Any] = answer.json()
    return found


def me(service: Service, tokens: dict[str, Any]) -> httpx.Response:
    """Ask who one is."""
    return httpx.get(f"{service.url}/api/v1/auth/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})


@pytest.fixture(scope="module")
def neighbour(service: Service) -> Iterator[World]:
    """The admin of another organisation at work: a person of that organisation alone."""
    founder, _, _ = founded(service)
    email = f"{uuid4().hex}@example.com"
    founder.post("/api/v1/users", json={"email": email, "password": PASSWORD, "role": "admin"}).raise_for_status()
    made = World(service, service.signed_in(email, PASSWORD))
    yield made
    for client in (founder, made.admin, *made.clients):
        client.close()


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


def test_an_organisation_begins_with_its_founder(service: Service, admin: httpx.Client) -> None:
    """Whoever makes an organisation is its admin, and goes there with the session that they have."""
    slug = f"northwind-{uuid4().hex}"
    said = {"name": "Northwind", "slug": slug, "timezone": "Europe/Stockholm", "currency": "SEK"}
    client, made, tokens = founded(service, **said)
    assert {name: made[name] for name in said} == said
    person = me(service, tokens).json()
    assert (person["email"], person["role"], person["ledger_id"]) == (ADMIN_EMAIL, "admin", made["id"])
    mine = {each["id"]: each for each in client.get("/api/v1/organisations").json()}
    assert (mine[made["id"]]["current"], mine[made["id"]]["role"]) == (True, "admin")
    assert [each["id"] for each in mine.values() if each["current"]] == [made["id"]]
    assert admin.get("/api/v1/organisations").json()[0]["current"]
    assert admin.post("/api/v1/organisations", json=said).json()["code"] == "slug_taken"
    client.close()


def test_an_organisation_is_made_once(admin: httpx.Client) -> None:
    """The same request under the same name is answered as the first time."""
    said, key = {"name": "Once", "slug": f"once-{uuid4().hex}"}, {"Idempotency-Key": uuid4().hex}
    first = admin.post("/api/v1/organisations", json=said, headers=key)
    again = admin.post("/api/v1/organisations", json=said, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()


@pytest.mark.parametrize(
    ("fields", "status", "code", "pointer"),
    [
        ({"slug": "Upper"}, 400, "invalid_body", "/slug"),
        ({"slug": "-a"}, 400, "invalid_body", "/slug"),
        ({"name": ""}, 400, "invalid_body", "/name"),
        ({"timezone": "Mars/Olympus"}, 422, "unknown_time_zone", "/timezone"),
        ({"currency": "sek"}, 400, "invalid_body", "/currency"),
        ({"logo_url": "http://plain.example/logo.png"}, 400, "invalid_body", "/logo_url"),
    ],
)
def test_what_an_organisation_cannot_be(
    neighbour: World, fields: dict[str, str], status: int, code: str, pointer: str
) -> None:
    """A slug fits into a URL, a time zone exists, a logo is fetched safely."""
    answer = neighbour.admin.patch("/api/v1/organisation", json=fields)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_what_an_organisation_looks_like(neighbour: World) -> None:
    """Its admin sets what it is called and its logo, by a URL or as a file, of which one takes the other's place."""
    url = "https://images.example/logo.png"
    changed = neighbour.admin.patch("/api/v1/organisation", json={"name": "Next door", "logo_url": url}).json()
    assert (changed["name"], changed["logo_url"], changed["logo_file"]) == ("Next door", url, None)
    answer = neighbour.admin.post("/api/v1/organisation/logo", content=PIXEL, headers={"Content-Type": "image/gif"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["logo_url"], answer.json()["logo_file"][-4:]) == (None, ".gif")
    assert neighbour.get("organisation") == answer.json()
    file = neighbour.admin.get(f"/ads/v1/media/{answer.json()['logo_file']}")
    assert file.headers["Content-Type"] == "image/gif"
    assert neighbour.admin.put(
        "/api/v1/organisation/logo", content=b"x", headers={"Content-Type": "text/plain"}
    ).is_error


def test_a_session_goes_on_elsewhere(service: Service, neighbour: World) -> None:
    """Switching uses the token up as prolonging does, tells nothing of where one does not belong, and leads back."""
    first = signed_in(service)
    home = me(service, first).json()["ledger_id"]
    foreign = neighbour.admin.get("/api/v1/auth/me").json()
    for elsewhere in (str(uuid4()), str(INSTALLATION)):
        assert switched(service, first["refresh_token"], elsewhere, expect=404)["code"] == "not_found"
    there = switched(service, first["refresh_token"], foreign["ledger_id"])
    assert me(service, there).json()["ledger_id"] == foreign["ledger_id"] != home
    back = switched(service, there["refresh_token"], home)
    assert me(service, back).json()["ledger_id"] == home
    assert switched(service, first["refresh_token"], home, expect=401)["code"] == "unauthenticated"
    assert switched(service, back["refresh_token"], home, expect=401)["code"] == "unauthenticated"
    assert neighbour.eventually(lambda: me(service, back).status_code == 401)


def test_being_let_go_of_one_organisation_is_no_end_to_another(service: Service, neighbour: World) -> None:
    """A session in an organisation that lets somebody go ends; one elsewhere goes on, and does not lead there."""
    away, home = signed_in(service), signed_in(service)
    foreign = neighbour.admin.get("/api/v1/auth/me").json()["ledger_id"]
    away = switched(service, away["refresh_token"], foreign)
    person = me(service, away).json()["id"]
    neighbour.admin.patch(f"/api/v1/users/{person}", json={"active": False}).raise_for_status()
    assert me(service, away).status_code == 401
    assert me(service, home).status_code == 200
    assert switched(service, home["refresh_token"], foreign, expect=404)["code"] == "not_found"
    listed = httpx.get(
        f"{service.url}/api/v1/organisations", headers={"Authorization": f"Bearer {home['access_token']}"}
    )
    assert foreign not in {each["id"] for each in listed.json()}
    neighbour.admin.patch(f"/api/v1/users/{person}", json={"active": True}).raise_for_status()


def test_who_is_invited_elsewhere_belongs_to_both(service: Service, world: World, neighbour: World) -> None:
    """Somebody with an account who accepts an invitation is a member of both, and no admin's to look after alone."""
    email = f"{uuid4().hex}@example.com"
    person = world.post("users", email=email, password=PASSWORD, role="viewer")
    neighbour.post("invitations", email=email, role="finance")
    (token,) = mailed(neighbour, email)
    owner = service.signed_in(email, PASSWORD)
    joined = owner.post("/api/v1/invitations/accept", json={"token": token})
    assert joined.status_code == 201, joined.text
    theirs = neighbour.get("organisation")["id"]
    assert (joined.json()["id"], joined.json()["role"], joined.json()["ledger_id"]) == (person["id"], "finance", theirs)
    roles = {each["id"]: (each["role"], each["current"]) for each in owner.get("/api/v1/organisations").json()}
    assert roles == {person["ledger_id"]: ("viewer", True), theirs: ("finance", False)}
    refused = world.admin.delete(f"/api/v1/users/{person['id']}/totp")
    assert (refused.status_code, refused.json()["code"]) == (409, "belongs_elsewhere")
    world.admin.patch(f"/api/v1/users/{person['id']}", json={"active": False}).raise_for_status()
    owner.close()
    owner = service.signed_in(email, PASSWORD)
    assert [each["id"] for each in owner.get("/api/v1/organisations").json()] == [theirs]
    owner.close()


def test_a_new_ledger_serves_at_once(neighbour: World, world: World) -> None:
    """Ads of a new organisation are shown and counted without a restart, and billed to nobody else."""
    campaign_id, creative_id = neighbour.active_campaign()
    slot_id, ads = neighbour.slot()
    ad = neighbour.served(ads, slot_id)
    assert ad["creative_id"] == creative_id
    for url, status in ((ad["impression_url"], 204), (ad["view_url"], 204), (ad["click_url"], 302)):
        assert ads.get(url).status_code == status
    neighbour.caught_up()
    (line,) = neighbour.get("reports/delivery", campaign_id=campaign_id)["items"]
    assert (line["impressions"], line["billed_impressions"], line["views"], line["clicks"]) == (1, 1, 1, 1)
    assert world.get("reports/delivery", campaign_id=campaign_id)["items"] == []


@pytest.mark.usefixtures("things")
def test_each_ledger_is_sealed_under_its_own_name(service: Service, neighbour: World, admin: httpx.Client) -> None:
    """Every ledger has its own checkpoints: anybody reads them by its id, its people where those of the first are."""
    ledger_id = neighbour.admin.get("/api/v1/auth/me").json()["ledger_id"]
    neighbour.active_campaign()
    nobody = service.client()

    def origin(client: httpx.Client, path: str) -> str:
        answer = client.get(path)
        return answer.text.partition("\n")[0] if answer.status_code == 200 else ""

    by_id = f"/audit/v1/ledgers/{ledger_id}/log/checkpoint"
    assert neighbour.eventually(lambda: origin(nobody, by_id)) == f"campaign-ledger/{ledger_id}"
    assert origin(neighbour.admin, "/audit/v1/log/checkpoint") == f"campaign-ledger/{ledger_id}"
    assert nobody.get(by_id.replace("checkpoint", "tile/0/000.p/1")).status_code == 200
    first = admin.get("/api/v1/auth/me").json()["ledger_id"]
    assert neighbour.eventually(lambda: origin(nobody, "/audit/v1/log/checkpoint")) == f"campaign-ledger/{first}"
    assert nobody.get(f"/audit/v1/ledgers/{uuid4()}/log/checkpoint").status_code == 404
    nobody.close()


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

"""Organisations: how they begin, what they look like, and that people go from one to another."""

from uuid import uuid4

import httpx
import pytest

from infra.users import INSTALLATION
from tests.api.organisations import PASSWORD, PIXEL, founded, me, signed_in, switched
from tests.api.test_invitations import tokens as mailed
from tests.running import ADMIN_EMAIL, Service
from tests.world import World


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
    logo = "https://images.example/logo.png"
    changed = neighbour.admin.patch("/api/v1/organisation", json={"name": "Next door", "logo_url": logo}).json()
    assert (changed["name"], changed["logo_url"], changed["logo_file"]) == ("Next door", logo, None)
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


def test_each_ledger_is_sealed_under_its_own_name(service: Service, neighbour: World, world: World) -> None:
    """Every ledger has its own checkpoints: anybody reads them by its id, its people where those of the first are."""
    ledger_id = neighbour.admin.get("/api/v1/auth/me").json()["ledger_id"]
    neighbour.active_campaign()
    world.active_campaign()
    nobody = service.client()

    def origin(client: httpx.Client, path: str) -> str:
        answer = client.get(path)
        return answer.text.partition("\n")[0] if answer.status_code == 200 else ""

    by_id = f"/audit/v1/ledgers/{ledger_id}/log/checkpoint"
    assert neighbour.eventually(lambda: origin(nobody, by_id)) == f"campaign-ledger/{ledger_id}"
    assert origin(neighbour.admin, "/audit/v1/log/checkpoint") == f"campaign-ledger/{ledger_id}"
    assert nobody.get(by_id.replace("checkpoint", "tile/0/000.p/1")).status_code == 200
    first = world.admin.get("/api/v1/auth/me").json()["ledger_id"]
    assert neighbour.eventually(lambda: origin(nobody, "/audit/v1/log/checkpoint")) == f"campaign-ledger/{first}"
    assert nobody.get(f"/audit/v1/ledgers/{uuid4()}/log/checkpoint").status_code == 404
    nobody.close()

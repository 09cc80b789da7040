"""Founding an organisation: who may, what its log says of it, and what holds for its campaigns from then on."""

import json
from uuid import uuid4

from tests.api.organisations import PASSWORD, founded
from tests.api.test_recovery import tokens as letters
from tests.mailbox import kept
from tests.running import Service


def test_what_is_said_of_an_organisation_is_in_its_log(service: Service) -> None:
    """The first entry of a ledger is who founded it; every change is another, and one that changes nothing is none."""
    client, made, _ = founded(service, currency="SEK")
    person = client.get("/api/v1/auth/me").json()["id"]
    for change in ({"name": "Renamed"}, {"name": "Renamed"}, {"timezone": "Europe/Stockholm", "currency": None}):
        assert client.patch("/api/v1/organisation", json=change).status_code == 200
    refused = client.patch("/api/v1/organisation", json={"name": "Other", "currency": "XXY"})
    assert refused.json()["code"] == "unknown_currency"
    stream = f"organisation-{made['id']}"
    items = client.get("/audit/v1/events", params={"stream": stream}).json()["items"]
    entries = [json.loads(each["entry"]) for each in items]
    assert items[0]["position"] == 1
    assert {entry["actor"] for entry in entries} == {f"user:{person}"}
    slug = made["slug"]
    said = {"name": "Renamed", "slug": slug, "timezone": "UTC", "currency": "SEK"}
    assert [{"timezone": "UTC", **entry["event"]} for entry in entries] == [
        said | {"type": "organisation_founded", "name": "Neighbour"},
        said | {"type": "organisation_changed"},
        {"type": "organisation_changed", "name": "Renamed", "slug": slug, "timezone": "Europe/Stockholm"},
    ]
    client.close()


def test_campaigns_are_in_what_their_organisation_says(service: Service) -> None:
    """Time zone and currency of the organisation hold for campaigns that name none; without any currency, none is."""
    client, _, _ = founded(service, timezone="Europe/Stockholm")
    advertiser = client.post("/api/v1/advertisers", json={"name": "Ours"}).json()["id"]
    drafted = {"advertiser_id": advertiser, "name": "Autumn", "start_date": "2026-09-01"}
    drafted["pricing"] = {"model": "cpm", "price_micros": 5_000_000}
    refused = client.post("/api/v1/campaigns", json=drafted)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/currency")
    assert client.patch("/api/v1/organisation", json={"currency": "SEK"}).status_code == 200
    for said in ({}, {"timezone": "Asia/Shanghai"}, {"currency": "CNY"}):
        made = client.post("/api/v1/campaigns", json=drafted | said)
        assert made.status_code == 201, made.text
        terms = client.get(f"/api/v1/campaigns/{made.json()['id']}").json()
        expected = {"timezone": "Europe/Stockholm", "currency": "SEK"} | said
        assert {name: terms[name] for name in expected} == expected
    client.close()


def test_anybody_signs_up_and_begins_an_organisation(service: Service) -> None:
    """Whoever reads the mail of an address chooses a password, belongs to nothing, and may begin an organisation."""
    email, nobody = f"{uuid4().hex}@example.com", service.client()
    asked = nobody.post("/api/v1/auth/register", json={"email": email})
    assert asked.status_code == 202, asked.text
    (token,) = letters(service, email, "Your account")
    weak = nobody.post("/api/v1/auth/register/confirm", json={"token": token, "password": "short"})
    assert (weak.status_code, weak.json()["code"]) == (422, "password_too_weak")
    proof = {"token": token, "password": PASSWORD, "name": "Newcomer"}
    made = nobody.post("/api/v1/auth/register/confirm", json=proof)
    assert (made.status_code, made.json()["email"], made.json()["email_verified"]) == (201, email, True)
    assert nobody.post("/api/v1/auth/register/confirm", json=proof).json()["code"] == "invalid_token"
    newcomer = service.signed_in(email, PASSWORD)
    assert newcomer.get("/api/v1/organisations").json() == []
    assert newcomer.get("/api/v1/campaigns").status_code == 403
    said = {"name": "Of my own", "slug": f"own-{uuid4().hex}"}
    own = newcomer.post("/api/v1/organisations", json=said)
    assert own.status_code == 201, own.text
    admin = service.signed_in(email, PASSWORD)
    assert admin.get("/api/v1/organisation").json()["id"] == own.json()["id"]
    again = nobody.post("/api/v1/auth/register", json={"email": email})
    assert (again.status_code, again.json()) == (202, asked.json())
    other = f"{uuid4().hex}@example.com"
    nobody.post("/api/v1/auth/register", json={"email": other}).raise_for_status()
    assert len(letters(service, other, "Your account")) == 1
    assert len(kept(service.data_dir, email, "Your account")) == 1
    for client in (nobody, newcomer, admin):
        client.close()

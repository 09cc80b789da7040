"""The audit of people over HTTP: who was let in, who was not, who changed what, and the report of it."""

import csv
import io
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pyotp
import pytest

from tests.api.pages import eventually
from tests.databases import fresh_database
from tests.mailbox import kept as letters
from tests.mailbox import token_in
from tests.running import Service, running
from tests.world import World

PASSWORD: Final = "a sentence that nobody guesses"
OTHER_PASSWORD: Final = "quite another sentence of mine"
NETWORK: Final = "198.51.100.0/24"
FROM: Final = {"X-Forwarded-For": "198.51.100.77"}


@pytest.fixture
def person(world: World) -> dict[str, Any]:
    """A viewer who has not signed in yet."""
    return world.post("users", email=f"{uuid4().hex}@example.com", password=PASSWORD, role="viewer")


def sign_in(service: Service, email: str, password: str = PASSWORD) -> Any:
    """Sign somebody in from an address in a network of the tests."""
    body = {"email": email, "password": password}
    return httpx.post(f"{service.url}/api/v1/auth/login", json=body, headers=FROM)


def client_of(service: Service, tokens: Any) -> httpx.Client:
    """Return a client with an access token, in that network."""
    return service.client(headers={"Authorization": f"Bearer {tokens['access_token']}", **FROM})


def kinds(report: dict[str, Any]) -> list[str]:
    """Return what a report says, the first first."""
    return [item["kind"] for item in reversed(report["items"])]


def test_what_a_person_does_and_has_done_to_them_is_reported(
    service: Service, world: World, person: dict[str, Any]
) -> None:
    """The report of a person says all that was done by and about them, by whom, from which network, and sums it up."""
    email = person["email"]
    tokens = sign_in(service, email).json()
    with client_of(service, tokens) as client:
        secret = client.post("/api/v1/auth/totp", json={"current_password": PASSWORD}).json()["secret"]
        code = {"code": pyotp.TOTP(secret).now()}
        recovery = client.post("/api/v1/auth/totp/confirm", json=code).json()["recovery_codes"]
        removal = {"current_password": PASSWORD, "code": recovery[0]}
        assert client.post("/api/v1/auth/totp/remove", json=removal).status_code == 204
        sign_in(service, email).raise_for_status()
        assert client.delete("/api/v1/auth/sessions").status_code == 204
        assert client.delete("/api/v1/auth/sessions").status_code == 204  # there are none, which is nothing to report
        passwords = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
        assert client.post("/api/v1/auth/password", json=passwords).status_code == 204
    for change in ({"role": "manager"}, {"role": "manager"}, {"active": False}, {"active": True}):
        world.admin.patch(f"/api/v1/users/{person['id']}", json=change).raise_for_status()
    report = world.get("reports/security", person=person["id"])
    assert kinds(report) == [
        *("person_added", "signed_in", "second_factor_enabled", "second_factor_disabled", "signed_in"),
        *("sessions_ended", "password_changed", "role_changed", "person_deactivated", "person_reactivated"),
    ]
    assert {item["subject"] for item in report["items"]} == {person["id"]}
    own = [item for item in report["items"] if item["actor"] == f"user:{person['id']}"]
    assert len(own) == 6
    assert {item["network"] for item in own} == {NETWORK}
    (changed,) = (item for item in report["items"] if item["kind"] == "role_changed")
    me = world.get("auth/me")["id"]
    assert (changed["actor"], changed["role"]) == (f"user:{me}", "manager")
    assert {each["kind"]: each["count"] for each in report["sums"]}["signed_in"] == 2
    assert sum(each["count"] for each in report["sums"]) == len(report["items"])


def test_how_sessions_end_is_reported(service: Service, world: World, person: dict[str, Any]) -> None:
    """Signing out, once however often, and a refresh token that is used again, are told apart."""
    left, stolen = (sign_in(service, person["email"]).json()["refresh_token"] for _ in range(2))
    for _ in range(2):
        httpx.post(f"{service.url}/api/v1/auth/logout", json={"refresh_token": left}, headers=FROM)
    for status in (200, 401, 401):
        answer = httpx.post(f"{service.url}/api/v1/auth/refresh", json={"refresh_token": stolen}, headers=FROM)
        assert answer.status_code == status
    report = world.get("reports/security", person=person["id"], kind="sessions_ended")
    assert [(item["reason"], item["network"]) for item in report["items"]] == [
        ("token_reused", NETWORK),
        ("signed_out", NETWORK),
    ]


def test_keys_and_exports_are_reported(world: World) -> None:
    """Keys that were made and revoked, webhooks, and what was exported are in the report; nothing secret is."""
    key = world.post("api-keys", name="Nightly", role="viewer")
    world.admin.delete(f"/api/v1/api-keys/{key['id']}").raise_for_status()
    slot = world.post("slots", name="Slot", ad_type="top_bar_ad")["id"]
    of_slot = world.post(f"slots/{slot}/keys")
    world.admin.delete(f"/api/v1/slots/{slot}/keys/{of_slot['key_id']}").raise_for_status()
    webhook = world.post("webhooks", url="https://hooks.example/secret-path", event_types=["webhook_deleted"])
    world.admin.delete(f"/api/v1/webhooks/{webhook['id']}").raise_for_status()
    advertiser = world.advertiser(email="anna@example.com")
    world.get(f"advertisers/{advertiser}/personal-data")
    answer = world.admin.get("/api/v1/reports/security", params={"limit": 500})
    found = [(item["kind"], item["subject"]) for item in reversed(answer.json()["items"])]
    subjects = {key["id"], slot, webhook["id"], advertiser}
    assert [each for each in found if each[1] in subjects] == [
        ("api_key_issued", key["id"]),
        ("api_key_revoked", key["id"]),
        ("slot_key_issued", slot),
        ("slot_key_revoked", slot),
        ("webhook_secret_issued", webhook["id"]),
        ("webhook_deleted", webhook["id"]),
        ("exported", advertiser),
    ]
    assert not any(secret in answer.text for secret in (key["key"], of_slot["key"], webhook["secret"], "secret-path"))


def test_invitations_and_addresses_are_reported(service: Service, world: World) -> None:
    """An invitation is reported when it is mailed, again too, withdrawn and accepted, and so is another address."""
    email, other = (f"{uuid4().hex}@example.com" for _ in range(2))
    gone, kept = (world.post("invitations", email=each, role="viewer")["id"] for each in (other, email))
    world.post(f"invitations/{gone}/send", expect=200)
    world.post(f"invitations/{gone}/withdraw", expect=200)
    said = {"token": mailed_token(service, email, "You are invited"), "password": PASSWORD}
    person = httpx.post(f"{service.url}/api/v1/invitations/accept", json=said, headers=FROM).json()["id"]
    with client_of(service, sign_in(service, email).json()) as client:
        body = {"email": other, "current_password": PASSWORD}
        assert client.post("/api/v1/auth/email", json=body).status_code == 202
    token = {"token": mailed_token(service, other, "Is this your")}
    httpx.post(f"{service.url}/api/v1/auth/verify", json=token, headers=FROM).raise_for_status()
    admin = f"user:{world.get('auth/me')['id']}"
    report = world.get("reports/security", limit=500)["items"]
    found = [(item["kind"], item["actor"], item["subject"], item["role"]) for item in reversed(report)]
    assert [each for each in found if each[2] in {gone, kept, person}] == [
        ("invitation_sent", admin, gone, "viewer"),
        ("invitation_sent", admin, kept, "viewer"),
        ("invitation_sent", admin, gone, "viewer"),
        ("invitation_withdrawn", admin, gone, ""),
        ("invitation_accepted", f"user:{person}", kept, ""),
        ("person_added", f"user:{person}", person, "viewer"),
        ("signed_in", f"user:{person}", person, ""),
        ("email_changed", f"user:{person}", person, ""),
    ]
    own = [item for item in report if item["actor"] == f"user:{person}"]
    assert {item["network"] for item in own} == {NETWORK}
    assert not any(address in str(report) for address in (email, other))


def test_who_takes_the_log_or_reports_is_reported_now_and_then(service: Service, world: World) -> None:
    """Entries as they stream and reports as files are exports, told once in a while; a page of a list is none."""
    email = f"{uuid4().hex}@example.com"
    auditor = world.post("users", email=email, password=PASSWORD, role="auditor")["id"]
    with client_of(service, sign_in(service, email).json()) as client:
        for path in ("/audit/v1/events", "/api/v1/reports/delivery", "/api/v1/reports/security"):
            client.get(path, params={"limit": "1"}).raise_for_status()
        assert [item["kind"] for item in exports(world, auditor)] == []
        for _ in range(2):
            stream = {"Accept": "application/x-ndjson"}
            client.get("/audit/v1/events", params={"limit": "1"}, headers=stream).raise_for_status()
        for path in ("/api/v1/reports/delivery", "/api/v1/reports/security"):
            client.get(path, params={"format": "csv"}).raise_for_status()
        elsewhere = {"X-Forwarded-For": "192.0.2.1"}
        client.get("/api/v1/reports/delivery", params={"format": "csv"}, headers=elsewhere).raise_for_status()
    assert [(item["reason"], item["network"]) for item in reversed(exports(world, auditor))] == [
        ("log", NETWORK),
        ("report", NETWORK),
        ("report", "192.0.2.0/24"),
    ]


def exports(world: World, person: str) -> list[dict[str, Any]]:
    """Return what somebody took with them, the last first."""
    found: list[dict[str, Any]] = world.get("reports/security", person=person, kind="exported")["items"]
    return found


def mailed_token(service: Service, email: str, about: str) -> str:
    """Wait for a letter to an address and return the token in it."""
    eventually(lambda: letters(service.data_dir, email, about))
    (letter,) = letters(service.data_dir, email, about)
    return token_in(letter)


def test_the_report_is_paged_and_limited_to_a_time(service: Service, world: World, person: dict[str, Any]) -> None:
    """Pages together are the whole, as JSON and as CSV; a time leaves what was recorded in it."""
    for _ in range(3):
        sign_in(service, person["email"]).raise_for_status()
    asked = {"person": person["id"]}
    whole = world.get("reports/security", **asked)["items"]
    for text in (False, True):
        paged: list[str] = []
        cursor: str | None = None
        while cursor is not None or not paged:
            params = (
                asked | {"limit": "1"} | ({"cursor": cursor} if cursor else {}) | ({"format": "csv"} if text else {})
            )
            page = world.admin.get("/api/v1/reports/security", params=params)
            page.raise_for_status()
            if text:
                paged += [row["position"] for row in csv.DictReader(io.StringIO(page.text))]
                cursor = page.headers.get("X-Next-Cursor")
            else:
                paged += [str(item["position"]) for item in page.json()["items"]]
                cursor = page.json()["next_cursor"]
        assert paged == [str(item["position"]) for item in whole]
    begin, end = whole[2]["recorded_at"], whole[0]["recorded_at"]
    within = world.get("reports/security", **asked, **{"from": begin, "to": end})
    assert [item["position"] for item in within["items"]] == [item["position"] for item in whole[1:3]]
    for wrong, status in (({"cursor": "1"}, 422), ({"kind": "gossip"}, 400), ({"from": "yesterday"}, 400)):
        assert world.admin.get("/api/v1/reports/security", params=wrong).status_code == status


def test_who_was_refused_is_reported(cluster_url: str, tmp_path: Path) -> None:
    """Failed sign-ins and denied accesses are counted, and are in the log when the worker ends, if not before."""
    settings = {"LEDGER_TRUSTED_PROXIES": "127.0.0.1"}
    with (
        fresh_database(cluster_url, "ledger") as url,
        running(tmp_path / "data", database_url=url, settings=settings) as service,
        closing(service.signed_in()) as admin,
    ):
        who = {"email": "vera@example.com", "password": PASSWORD, "role": "viewer"}
        person = admin.post("/api/v1/users", json=who).json()["id"]
        key = admin.post("/api/v1/api-keys", json={"name": "Program", "role": "viewer"}).json()
        tokens = sign_in(service, who["email"]).json()
        for email in (who["email"], who["email"], "nobody@example.com"):
            assert sign_in(service, email, "not the password at all").status_code == 401
        with client_of(service, tokens) as client:
            assert client.get("/api/v1/users").status_code == 403
            assert client.get("/api/v1/users", headers={"Authorization": f"Bearer {key['key']}"}).status_code == 403
            admin.patch(f"/api/v1/users/{person}", json={"active": False}).raise_for_status()
            assert client.get("/api/v1/auth/me").status_code == 401
        assert httpx.get(f"{service.url}/api/v1/users").status_code == 401  # nobody, and so in no ledger
        counted = httpx.get(f"{service.url}/metrics").text
        assert 'ledger_sign_ins_refused_total{reason="password"} 3.0' in counted
        service.stop()
        service.start()
        report = refused(service)
    lines = {(line["kind"], line["actor"], line["reason"], line["network"]): line["count"] for line in report["items"]}
    assert lines == {
        ("sign_in_refused", f"user:{person}", "password", NETWORK): 2,
        ("access_denied", f"user:{person}", "list_users", NETWORK): 1,
        ("access_denied", f"key:{key['id']}", "list_users", NETWORK): 1,
        ("access_denied", f"user:{person}", "session ended", NETWORK): 1,
    }
    assert {each["kind"]: each["count"] for each in report["sums"]} == {"sign_in_refused": 2, "access_denied": 3}


def refused(service: Service) -> dict[str, list[Any]]:
    """Return the report of who was refused, read line by line."""
    items, sums = list[Any](), list[Any]()
    with closing(service.signed_in()) as admin:
        for kind in ("sign_in_refused", "access_denied"):
            params = {"kind": kind, "limit": "1"}
            page = admin.get("/api/v1/reports/security", params=params).json()
            sums += page["sums"]
            items += page["items"]
            while page["next_cursor"]:
                page = admin.get("/api/v1/reports/security", params=params | {"cursor": page["next_cursor"]}).json()
                items += page["items"]
    return {"items": items, "sums": sums}

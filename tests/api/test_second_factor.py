"""One-time passwords: turned on by who proves both, asked for at sign-in, each good once."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pyotp
import pytest

from tests.running import ADMIN_EMAIL, ADMIN_PASSWORD, Service
from tests.world import World

PASSWORD: Final = "a sentence that nobody guesses"
TOTP: Final = "/api/v1/auth/totp"
DEMAND: Final = "/api/v1/policy/second-factor"
PROOF: Final = {"current_password": PASSWORD}


@pytest.fixture
def person(world: World) -> dict[str, Any]:
    """A viewer who has not signed in yet."""
    return world.post("users", email=f"{uuid4().hex}@example.com", password=PASSWORD, role="viewer")


@pytest.fixture
def client(service: Service, person: dict[str, Any]) -> Iterator[httpx.Client]:
    """The client of that person."""
    with_token = service.signed_in(person["email"], PASSWORD)
    yield with_token
    with_token.close()


def attempt(service: Service, person: dict[str, Any], code: str | None = None) -> tuple[int, str | None]:
    """Try to sign in with the right password, and return the status and the code of a refusal."""
    body = {"email": person["email"], "password": PASSWORD} | ({"code": code} if code else {})
    answer = httpx.post(f"{service.url}/api/v1/auth/login", json=body)
    return answer.status_code, answer.json().get("code")


def enabled(client: httpx.Client) -> tuple[list[str], list[str]]:
    """Turn one-time passwords on with what the app shows; return that and what it shows next, and recovery codes."""
    enrolment = client.post(TOTP, json=PROOF)
    assert enrolment.status_code == 201, enrolment.text
    app, now = pyotp.TOTP(enrolment.json()["secret"]), datetime.now(UTC)
    shown = [app.at(now + timedelta(seconds=30 * steps)) for steps in (0, 1, 20)]
    confirmed = client.post(f"{TOTP}/confirm", json={"code": shown[0]})
    assert confirmed.status_code == 200, confirmed.text
    return shown, confirmed.json()["recovery_codes"]


def test_a_second_factor_is_asked_for(service: Service, person: dict[str, Any], client: httpx.Client) -> None:
    """The password alone signs nobody in any more; with what the app shows it does, once."""
    assert attempt(service, person) == (200, None)
    (used, following, distant), codes = enabled(client)
    assert len(set(codes)) == 10
    assert client.get(TOTP).json() == {"enabled": True, "recovery_codes_left": 10}
    assert attempt(service, person) == (401, "second_factor_required")
    assert attempt(service, person, distant) == (401, "second_factor_required")
    assert attempt(service, person, used) == (401, "second_factor_required")
    assert attempt(service, person, following) == (200, None)
    assert attempt(service, person, following) == (401, "second_factor_required")


def test_a_recovery_code_is_good_once(service: Service, person: dict[str, Any], client: httpx.Client) -> None:
    """Without the app, each recovery code signs in once, in capitals too."""
    _, (first, second, *_) = enabled(client)
    assert attempt(service, person, first) == (200, None)
    assert attempt(service, person, first) == (401, "second_factor_required")
    assert attempt(service, person, second.upper()) == (200, None)
    assert client.get(TOTP).json()["recovery_codes_left"] == 8


def test_nothing_is_on_before_it_is_confirmed(service: Service, person: dict[str, Any], client: httpx.Client) -> None:
    """A secret that nobody has entered locks nobody out; the last one that was asked for counts."""
    first = client.post(TOTP, json=PROOF).json()
    uri = urlsplit(first["uri"])
    assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
    assert parse_qs(uri.query)["secret"] == [first["secret"]]
    assert attempt(service, person) == (200, None)
    second = client.post(TOTP, json=PROOF).json()
    refused = client.post(f"{TOTP}/confirm", json={"code": pyotp.TOTP(first["secret"]).now()})
    assert (refused.status_code, refused.json()["code"]) == (422, "wrong_code")
    assert client.get(TOTP).json() == {"enabled": False, "recovery_codes_left": 0}
    assert client.post(f"{TOTP}/confirm", json={"code": pyotp.TOTP(second["secret"]).now()}).status_code == 200
    again = client.post(TOTP, json=PROOF)
    assert (again.status_code, again.json()["code"]) == (409, "second_factor_enabled")


def test_both_are_asked_for_to_turn_it_off(service: Service, person: dict[str, Any], client: httpx.Client) -> None:
    """Neither the password nor the code alone turns one-time passwords off; both do."""
    assert client.post(TOTP, json={"current_password": "not the password"}).json()["code"] == "wrong_password"
    _, (code, *_) = enabled(client)

    def removed(password: str, said: str) -> tuple[int, str | None]:
        answer = client.post(f"{TOTP}/remove", json={"current_password": password, "code": said})
        return answer.status_code, answer.json()["code"] if answer.content else None

    assert removed("not the password", code) == (422, "wrong_password")
    assert removed(PASSWORD, "000000") == (422, "wrong_code")
    assert removed(PASSWORD, code) == (204, None)
    assert attempt(service, person) == (200, None)


def test_guessing_codes_is_slowed_down(service: Service, person: dict[str, Any], client: httpx.Client) -> None:
    """Who has the password does not try codes for long, at sign-in or where it is turned off."""
    enabled(client)
    refused = [attempt(service, person, "000000") for _ in range(5)]
    refused += [
        (answer.status_code, answer.json()["code"])
        for answer in (client.post(f"{TOTP}/remove", json={**PROOF, "code": "000000"}) for _ in range(6))
    ]
    assert refused == [(401, "second_factor_required")] * 5 + [(422, "wrong_code")] * 5 + [(429, "throttled")]


def test_an_admin_helps_who_lost_everything(
    service: Service, world: World, person: dict[str, Any], client: httpx.Client
) -> None:
    """An admin turns the one-time passwords of somebody off; whoever has none is not found."""
    enabled(client)
    path = f"/api/v1/users/{person['id']}/totp"
    assert client.delete(path).status_code == 403
    assert world.admin.delete(path).status_code == 204
    assert attempt(service, person) == (200, None)
    assert world.admin.delete(path).status_code == 404


def test_an_organisation_may_demand_it(service: Service) -> None:
    """Who has none may look after their own account and nothing else, until they turn one on; neighbours go on."""
    with closing(service.signed_in()) as founder:
        said = {"name": "Strict", "slug": f"strict-{uuid4().hex}"}
        strict = founder.post("/api/v1/organisations", json=said).raise_for_status().json()["id"]
    with closing(service.signed_in()) as elsewhere, closing(switched(service, strict)) as admin:
        email = f"{uuid4().hex}@example.com"
        admin.post("/api/v1/users", json={"email": email, "password": PASSWORD, "role": "admin"}).raise_for_status()
        key = admin.post("/api/v1/api-keys", json={"name": "Program", "role": "viewer"}).json()["key"]
        assert admin.get(DEMAND).json() == {"demanded": False}
        assert admin.put(DEMAND, json={"demanded": True}).status_code == 204
        with closing(service.signed_in(email, PASSWORD)) as client:
            for there in (client, admin):
                refused = there.get("/api/v1/campaigns")
                assert (refused.status_code, refused.json()["code"]) == (403, "second_factor_missing")
            assert client.put(DEMAND, json={"demanded": False}).status_code == 403
            assert client.get("/api/v1/auth/me").json()["email"] == email
            enabled(client)
            assert client.get(DEMAND).json() == {"demanded": True}
            program = {"Authorization": f"Bearer {key}"}
            assert client.get("/api/v1/campaigns", headers=program).status_code == 200
            assert elsewhere.get("/api/v1/campaigns").status_code == 200
            assert client.put(DEMAND, json={"demanded": False}).status_code == 204
            assert admin.get("/api/v1/campaigns").status_code == 200
            params = {"kind": "second_factor_policy_set"}
            report = client.get("/api/v1/reports/security", params=params).json()["items"]
        assert [item["reason"] for item in report] == ["left to each", "demanded"]


def switched(service: Service, organisation: str) -> httpx.Client:
    """Return a client of the first admin that is signed in to another organisation."""
    credentials = {"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}
    with service.client() as client:
        refresh = client.post("/api/v1/auth/login", json=credentials).json()["refresh_token"]
        body = {"refresh_token": refresh, "organisation_id": organisation}
        tokens = client.post("/api/v1/auth/switch", json=body).raise_for_status().json()
    return service.client(headers={"Authorization": f"Bearer {tokens['access_token']}"})

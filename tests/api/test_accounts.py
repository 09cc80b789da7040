"""People and their accounts over HTTP: what is taken back of somebody holds at once, and what is one's own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final
from uuid import uuid4

import httpx
import jwt
import pytest

from infra.keys import fresh_signing_key
from tests.api.conftest import on_fresh_database
from tests.api.organisations import operating
from tests.running import ADMIN_PASSWORD, Service
from tests.world import World

PASSWORD: Final = "a sentence that nobody guesses"
OTHER_PASSWORD: Final = "quite another sentence of mine"
SECONDS_MAX: Final = 5
FIREFOX: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture(scope="module")
def service(cluster_url: str) -> Iterator[Service]:
    """A service in which nobody else is an admin, and nobody has an account who was not given one."""
    with on_fresh_database(cluster_url, self_sign_up=False) as started:
        yield started


@pytest.fixture
def person(world: World) -> dict[str, Any]:
    """A manager who has not signed in yet."""
    return world.post("users", email=f"{uuid4().hex}@example.com", password=PASSWORD, role="manager")


def tokens_of(service: Service, person: dict[str, Any], password: str = PASSWORD, agent: str = FIREFOX) -> Any:
    """Sign somebody in."""
    body = {"email": person["email"], "password": password}
    answer = httpx.post(f"{service.url}/api/v1/auth/login", json=body, headers={"User-Agent": agent})
    assert answer.status_code == 200, answer.text
    return answer.json()


def client_of(service: Service, tokens: Any) -> httpx.Client:
    """Return a client with an access token."""
    return service.client(headers={"Authorization": f"Bearer {tokens['access_token']}"})


def eventually(ask: Callable[[], httpx.Response], status: int) -> httpx.Response:
    """Ask until the answer has a status, which it must within seconds."""
    deadline = monotonic() + SECONDS_MAX
    while (answer := ask()).status_code != status:
        assert monotonic() < deadline, answer.text
        sleep(0.05)
    return answer


def test_a_lowered_role_holds_for_tokens_that_say_more(service: Service, world: World, person: dict[str, Any]) -> None:
    """Who was made a viewer creates nothing any more with the token of a manager, and reads on; and back again."""
    with client_of(service, tokens_of(service, person)) as client:
        slot = {"name": "Slot", "ad_type": "top_bar_ad"}
        assert client.post("/api/v1/slots", json=slot).status_code == 201
        world.admin.patch(f"/api/v1/users/{person['id']}", json={"role": "viewer"}).raise_for_status()
        assert eventually(lambda: client.post("/api/v1/slots", json=slot), 403).json()["code"] == "forbidden"
        assert client.get("/api/v1/slots").status_code == 200
        world.admin.patch(f"/api/v1/users/{person['id']}", json={"role": "manager"}).raise_for_status()
        eventually(lambda: client.post("/api/v1/slots", json=slot), 201)


def test_who_is_deactivated_is_out(service: Service, world: World, person: dict[str, Any]) -> None:
    """The access token of somebody who was deactivated opens nothing any more; one of before stays shut afterwards."""
    with client_of(service, tokens_of(service, person)) as client:
        assert client.get("/api/v1/auth/me").status_code == 200
        world.admin.patch(f"/api/v1/users/{person['id']}", json={"active": False}).raise_for_status()
        assert eventually(lambda: client.get("/api/v1/auth/me"), 401).json()["code"] == "unauthenticated"
        world.admin.patch(f"/api/v1/users/{person['id']}", json={"active": True}).raise_for_status()
        eventually(lambda: client.get("/api/v1/auth/me"), 401)


def test_somebody_stays_who_looks_after_people(world: World, person: dict[str, Any]) -> None:
    """The last active admin is neither lowered nor deactivated; of two, one may go."""
    me = world.get("auth/me")
    for change in ({"role": "viewer"}, {"active": False}):
        refused = world.admin.patch(f"/api/v1/users/{me['id']}", json=change)
        assert (refused.status_code, refused.json()["code"]) == (409, "last_admin")
    refused = world.admin.post("/api/v1/auth/deactivate", json={"password": ADMIN_PASSWORD})
    assert (refused.status_code, refused.json()["code"]) == (409, "last_admin")
    path = f"/api/v1/users/{person['id']}"
    for change in ({"role": "admin"}, {"role": "viewer"}, {"role": "admin"}, {"active": False}):
        world.admin.patch(path, json=change).raise_for_status()
    assert world.admin.patch(f"/api/v1/users/{me['id']}", json={"role": "viewer"}).status_code == 409
    assert world.get("auth/me") == me


def test_a_person_is_added_once(world: World) -> None:
    """The same key and body give the same person, a refusal again, and the same key with another body is refused."""
    body = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "role": "viewer", "name": "Vera"}

    def added(key: str, **fields: str) -> httpx.Response:
        return world.admin.post("/api/v1/users", json=body | fields, headers={"Idempotency-Key": key})

    key = uuid4().hex
    first, again = added(key), added(key)
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert (first.status_code, first.json()["name"]) == (201, "Vera")
    reused = added(key, role="admin")
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    key = uuid4().hex
    assert [added(key).json()["code"] for _ in range(2)] == ["email_taken"] * 2


def test_ones_own_profile(service: Service, person: dict[str, Any]) -> None:
    """A person says what they are called and where they live, in a time zone that there is."""
    with client_of(service, tokens_of(service, person)) as client:
        changed = client.patch("/api/v1/auth/me", json={"name": "Zo\u00eb", "timezone": "Asia/Shanghai"})
        assert changed.json() == person | {"name": "Zo\u00eb", "timezone": "Asia/Shanghai"}
        assert client.get("/api/v1/auth/me").json() == changed.json()
        refused = client.patch("/api/v1/auth/me", json={"timezone": "Mars/Olympus"})
        assert (refused.status_code, refused.json()["code"]) == (422, "unknown_time_zone")
        assert client.patch("/api/v1/auth/me", json={"role": "admin"}).status_code == 400


def test_a_password_is_changed_by_who_knows_it(service: Service, person: dict[str, Any]) -> None:
    """The current password is asked for; the new one ends the other sessions, and the old one signs nobody in."""
    here, there = (tokens_of(service, person) for _ in range(2))
    with client_of(service, here) as client, client_of(service, there) as elsewhere:

        def changed(current: str, new: str) -> httpx.Response:
            return client.post("/api/v1/auth/password", json={"current_password": current, "new_password": new})

        wrong, weak = changed(OTHER_PASSWORD, OTHER_PASSWORD), changed(PASSWORD, "passwordpassword")
        assert (wrong.status_code, wrong.json()["code"]) == (422, "wrong_password")
        assert (weak.status_code, weak.json()["code"]) == (422, "password_too_weak")
        assert weak.json()["errors"][0]["pointer"] == "/new_password"
        assert elsewhere.get("/api/v1/auth/me").status_code == 200
        assert changed(PASSWORD, OTHER_PASSWORD).status_code == 204
        eventually(lambda: elsewhere.get("/api/v1/auth/me"), 401)
        assert client.get("/api/v1/auth/me").status_code == 200
    refreshed = [
        httpx.post(f"{service.url}/api/v1/auth/refresh", json={"refresh_token": each["refresh_token"]}).status_code
        for each in (here, there)
    ]
    assert refreshed == [200, 401]
    body = {"email": person["email"], "password": PASSWORD}
    assert httpx.post(f"{service.url}/api/v1/auth/login", json=body).status_code == 401
    tokens_of(service, person, OTHER_PASSWORD)


def test_guessing_the_current_password_is_slowed_down(service: Service, person: dict[str, Any]) -> None:
    """Who has somebody's token does not try passwords for long."""
    with client_of(service, tokens_of(service, person)) as client:
        body = {"current_password": "a wrong guess of it", "new_password": OTHER_PASSWORD}
        answers = [client.post("/api/v1/auth/password", json=body).status_code for _ in range(11)]
    assert answers == [422] * 10 + [429]


def test_sessions_are_listed_and_ended(service: Service, person: dict[str, Any]) -> None:
    """A person sees where they are signed in, from which network and with what, and signs out of one or all others."""
    first, second, third = (tokens_of(service, person, agent=agent) for agent in (FIREFOX, "curl/8.5.0", ""))
    with client_of(service, first) as here, client_of(service, second) as there, client_of(service, third) as yonder:
        listed = here.get("/api/v1/auth/sessions").json()
        assert [(each["agent"], each["current"]) for each in listed] == [
            ("", False),
            ("curl", False),
            ("Firefox", True),
        ]
        assert {each["address"] for each in listed} == {"127.0.0.0/24"}
        assert all(each["created_at"] == each["last_used_at"] < each["expires_at"] for each in listed)
        assert here.delete(f"/api/v1/auth/sessions/{listed[1]['id']}").status_code == 204
        eventually(lambda: there.get("/api/v1/auth/me"), 401)
        assert here.delete(f"/api/v1/auth/sessions/{listed[1]['id']}").status_code == 404
        httpx.post(f"{service.url}/api/v1/auth/refresh", json={"refresh_token": third["refresh_token"]})
        (last, _) = here.get("/api/v1/auth/sessions").json()
        assert last["id"] == listed[0]["id"]
        assert last["created_at"] < last["last_used_at"]
        assert here.delete("/api/v1/auth/sessions").status_code == 204
        eventually(lambda: yonder.get("/api/v1/auth/me"), 401)
        assert [each["current"] for each in here.get("/api/v1/auth/sessions").json()] == [True]
    refreshed = httpx.post(f"{service.url}/api/v1/auth/refresh", json={"refresh_token": second["refresh_token"]})
    assert refreshed.status_code == 401


def test_nobody_ends_the_session_of_another(service: Service, world: World, person: dict[str, Any]) -> None:
    """The id of somebody else's session is of no use, not even to an admin."""
    with client_of(service, tokens_of(service, person)) as client:
        (session,) = client.get("/api/v1/auth/sessions").json()
        assert world.admin.delete(f"/api/v1/auth/sessions/{session['id']}").status_code == 404
        assert client.get("/api/v1/auth/me").status_code == 200


def test_keys_are_rotated_without_signing_anybody_out(service: Service, person: dict[str, Any]) -> None:
    """A token of the key before is good until that key is gone, and the session goes on; both keys are published.

    It leaves the service with another key, and so comes last.
    """
    path = Path(service.environment["LEDGER_SIGNING_KEY_FILE"])
    before, fresh = path.read_bytes(), fresh_signing_key()
    tokens = tokens_of(service, person)
    with client_of(service, tokens) as client:

        def restarted(*held: bytes) -> int:
            service.stop()
            path.write_bytes(b"".join(held))
            service.start()
            return client.get("/api/v1/auth/me").status_code

        assert restarted(fresh, before) == 200
        published = httpx.get(f"{service.url}/.well-known/jwks.json").json()
        kids = [each["kid"] for each in published["keys"]]
        used = [jwt.get_unverified_header(each["access_token"])["kid"] for each in (tokens_of(service, person), tokens)]
        assert used == kids
        (key, _) = jwt.PyJWKSet.from_dict(published).keys
        access = tokens_of(service, person)["access_token"]
        claims = jwt.decode(access, key, audience="campaign-ledger")
        assert (claims["sub"], claims["role"]) == (person["id"], "manager")
        assert restarted(fresh) == 401
        body = {"refresh_token": tokens["refresh_token"]}
        assert httpx.post(f"{service.url}/api/v1/auth/refresh", json=body).status_code == 200


def test_where_nobody_signs_up_operators_begin_organisations(service: Service) -> None:
    """Where it is switched off, nobody makes an account by themselves, and no admin begins an organisation."""
    nobody, admin, operator = service.client(), service.signed_in(), operating(service)
    asked = nobody.post("/api/v1/auth/register", json={"email": "newcomer@example.com"})
    assert (asked.status_code, asked.json()["code"]) == (404, "not_found")
    proof = {"token": "t", "password": PASSWORD, "name": "Newcomer"}
    assert nobody.post("/api/v1/auth/register/confirm", json=proof).status_code == 404
    said = {"name": "Of my own", "slug": f"own-{uuid4().hex}"}
    assert admin.post("/api/v1/organisations", json=said).status_code == 403
    assert operator.post("/api/v1/organisations", json=said).status_code == 201
    for client in (nobody, admin, operator):
        client.close()

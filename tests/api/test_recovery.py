"""What people do about their accounts by mail, over HTTP: forgotten passwords, proven and changed addresses."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from ipaddress import IPv4Address
from random import getrandbits
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg
import pyotp
import pytest

from tests.api.pages import eventually
from tests.mailbox import kept, token_in
from tests.running import Service
from tests.world import World

PASSWORD: Final = "a sentence that nobody guesses"
OTHER_PASSWORD: Final = "quite another sentence of mine"
ATTEMPTS_PER_ACCOUNT_MAX: Final = 10


@pytest.fixture
def person(world: World) -> dict[str, Any]:
    """A viewer who has not signed in yet."""
    return world.post("users", email=f"{uuid4().hex}@example.com", password=PASSWORD, role="viewer")


@pytest.fixture
def client(service: Service, person: dict[str, Any]) -> Iterator[httpx.Client]:
    """The client of that person, at an address of their own."""
    with closing(service.signed_in(person["email"], PASSWORD)) as signed_in:
        signed_in.headers["X-Forwarded-For"] = somewhere()
        yield signed_in


@pytest.fixture
def stranger(service: Service) -> Iterator[httpx.Client]:
    """A client of nobody, at an address of its own."""
    with service.client(headers={"X-Forwarded-For": somewhere()}) as made:
        yield made


def somewhere() -> str:
    """Return an address that no other test comes from."""
    return str(IPv4Address(getrandbits(24) + (10 << 24)))


def tokens(service: Service, email: str, about: str, number: int = 1) -> list[str]:
    """Wait for so many letters to an address, and return the tokens in them."""
    eventually(lambda: len(kept(service.data_dir, email, about)) >= number)
    found = kept(service.data_dir, email, about)
    assert len(found) == number
    return [token_in(letter) for letter in found]


def signs_in(service: Service, email: str, password: str, **code: str) -> tuple[int, str | None]:
    """Try to sign in, and return the status and the code of a refusal."""
    answer = httpx.post(f"{service.url}/api/v1/auth/login", json={"email": email, "password": password, **code})
    return answer.status_code, answer.json().get("code")


def asked(stranger: httpx.Client, email: str) -> None:
    """Say that a password was forgotten."""
    answer = stranger.post("/api/v1/auth/forgotten", json={"email": email})
    assert answer.status_code == 202, answer.text


def reset(stranger: httpx.Client, token: str, password: str = OTHER_PASSWORD) -> tuple[int, str | None]:
    """Try to choose another password, and return the status and the code of a refusal."""
    answer = stranger.post("/api/v1/auth/reset", json={"token": token, "password": password})
    return answer.status_code, answer.json()["code"] if answer.content else None


def verified(stranger: httpx.Client, token: str) -> tuple[int, str | None]:
    """Try to prove an address, and return the status and the code of a refusal."""
    answer = stranger.post("/api/v1/auth/verify", json={"token": token})
    return answer.status_code, answer.json()["code"] if answer.content else None


def changed(client: httpx.Client, email: str, password: str = PASSWORD) -> tuple[int, str | None]:
    """Ask for another address, and return the status and the code of a refusal."""
    answer = client.post("/api/v1/auth/email", json={"email": email, "current_password": password})
    return answer.status_code, answer.json().get("code")


def me(client: httpx.Client) -> dict[str, Any]:
    """Return who is signed in."""
    found: dict[str, Any] = client.get("/api/v1/auth/me").json()
    return found


def refused(ask: Callable[[], httpx.Response]) -> None:
    """Wait until an access token opens nothing any more."""
    eventually(lambda: ask().status_code == 401)


def test_a_forgotten_password(
    service: Service, person: dict[str, Any], client: httpx.Client, stranger: httpx.Client
) -> None:
    """Who reads the mail of an account chooses another password, once; it ends all sessions and proves the address."""
    email = person["email"]
    for _ in range(2):
        asked(stranger, f" {email.upper()}")
    first, second = tokens(service, email, "Choose another password", 2)
    assert reset(stranger, first, "passwordpassword") == (422, "password_too_weak")
    assert reset(stranger, first, email) == (422, "password_too_weak")
    assert me(client)["email_verified"] is False
    assert reset(stranger, first) == (204, None)
    refused(lambda: client.get("/api/v1/auth/me"))
    assert [reset(stranger, token) for token in (first, second)] == [(422, "invalid_token")] * 2
    assert signs_in(service, email, PASSWORD)[0] == 401
    with closing(service.signed_in(email, OTHER_PASSWORD)) as again:
        assert me(again)["email_verified"] is True


def test_the_answer_is_the_same_for_everybody(
    service: Service, world: World, person: dict[str, Any], stranger: httpx.Client
) -> None:
    """Whether an address has an account, a closed one, or is none, the answer is the same, and one gets a letter."""
    closed = world.post("users", email=f"{uuid4().hex}@example.com", password=PASSWORD, role="viewer")
    assert world.admin.patch(f"/api/v1/users/{closed['id']}", json={"active": False}).status_code == 200
    unknown = f"{uuid4().hex}@example.com"
    addresses = (person["email"], closed["email"], unknown, "no address", "\x00@example.com")
    answers = [stranger.post("/api/v1/auth/forgotten", json={"email": email}) for email in addresses]
    assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}
    tokens(service, person["email"], "Choose another password")
    waiting = "SELECT count(*) FROM outbox WHERE subscriber = 'accounts' AND content ->> 'to' = ANY(%s)"
    with service.database() as url, psycopg.connect(url, autocommit=True) as owner:
        eventually(lambda: owner.execute(waiting, (list(addresses[:3]),)).fetchone() == (0,))
    assert [kept(service.data_dir, email) for email in (closed["email"], unknown)] == [[], []]


def test_asking_is_slowed_down(person: dict[str, Any], stranger: httpx.Client) -> None:
    """Known or not, an address has ten letters in a quarter of an hour, and signing in is not slowed down by it."""
    for email in (person["email"], f"{uuid4().hex}@example.com"):
        said = [
            stranger.post("/api/v1/auth/forgotten", json={"email": email}).status_code
            for _ in range(ATTEMPTS_PER_ACCOUNT_MAX + 1)
        ]
        assert said == [202] * ATTEMPTS_PER_ACCOUNT_MAX + [429]
    body = {"email": person["email"], "password": PASSWORD}
    assert stranger.post("/api/v1/auth/login", json=body).status_code == 200


def test_a_token_has_an_hour(service: Service, person: dict[str, Any], stranger: httpx.Client) -> None:
    """After an hour a token opens nothing; nor does one of another account's that was altered."""
    asked(stranger, person["email"])
    (token,) = tokens(service, person["email"], "Choose another password")
    alive = "SELECT expires_at - created_at FROM account_tokens WHERE user_id = %s"
    with service.database() as url, psycopg.connect(url, autocommit=True) as owner:
        assert [str(row[0]) for row in owner.execute(alive, (person["id"],))] == ["1:00:00"]
        owner.execute("UPDATE account_tokens SET expires_at = now() WHERE user_id = %s", (person["id"],))
    for each in (token, token[::-1], "A" * 64, "short"):
        assert reset(stranger, each) == (422, "invalid_token")
    assert signs_in(service, person["email"], PASSWORD)[0] == 200


def test_a_reset_does_not_get_around_the_second_factor(
    service: Service, person: dict[str, Any], client: httpx.Client, stranger: httpx.Client
) -> None:
    """After a reset, signing in asks for the one-time password as before."""
    secret = client.post("/api/v1/auth/totp", json={"current_password": PASSWORD}).json()["secret"]
    app = pyotp.TOTP(secret)
    assert client.post("/api/v1/auth/totp/confirm", json={"code": app.now()}).status_code == 200
    asked(stranger, person["email"])
    (token,) = tokens(service, person["email"], "Choose another password")
    assert reset(stranger, token) == (204, None)
    assert signs_in(service, person["email"], OTHER_PASSWORD) == (401, "second_factor_required")
    following = app.at(datetime.now(UTC), counter_offset=1)
    assert signs_in(service, person["email"], OTHER_PASSWORD, code=following) == (200, None)


def test_a_changed_password_makes_what_was_mailed_worthless(
    service: Service, person: dict[str, Any], client: httpx.Client, stranger: httpx.Client
) -> None:
    """Who knows the password and changes it need not fear letters that somebody else asked for."""
    thief = f"{uuid4().hex}@example.com"
    asked(stranger, person["email"])
    assert changed(client, thief)[0] == 202
    mailed = tokens(service, person["email"], "Choose another password") + tokens(service, thief, "Is this your")
    body = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
    assert client.post("/api/v1/auth/password", json=body).status_code == 204
    assert reset(stranger, mailed[0]) == verified(stranger, mailed[1]) == (422, "invalid_token")


def test_an_address_is_proven(
    service: Service, person: dict[str, Any], client: httpx.Client, stranger: httpx.Client
) -> None:
    """Who enters the token that was mailed has proven their address; a token is good once, and for this alone."""
    assert me(client)["email_verified"] is False
    for _ in range(2):
        assert client.post("/api/v1/auth/verification").status_code == 202
    first, second = tokens(service, person["email"], "Is this your", 2)
    assert reset(stranger, first) == (422, "invalid_token")
    assert verified(stranger, first) == (204, None)
    assert me(client)["email_verified"] is True
    assert verified(stranger, first) == (422, "invalid_token")
    again = client.post("/api/v1/auth/verification")
    assert (again.status_code, again.json()["code"]) == (409, "already_verified")
    assert verified(stranger, second) == (204, None)


def test_an_address_is_changed(
    service: Service, person: dict[str, Any], client: httpx.Client, stranger: httpx.Client
) -> None:
    """A new address counts once it is proven; then the one before is told, and mail to it opens nothing any more."""
    before, after = person["email"], f"{uuid4().hex}@example.com"
    assert changed(client, after, "not the password") == (422, "wrong_password")
    assert changed(client, "nobody") == (422, "invalid_email")
    asked(stranger, before)
    (old,) = tokens(service, before, "Choose another password")
    assert changed(client, after.upper()) == (202, None)
    (token,) = tokens(service, after, "Is this your")
    assert (me(client)["email"], signs_in(service, after, PASSWORD)[0]) == (before, 401)
    assert verified(stranger, token) == (204, None)
    assert me(client) == person | {"email": after, "email_verified": True}
    assert (signs_in(service, after, PASSWORD)[0], signs_in(service, before, PASSWORD)[0]) == (200, 401)
    eventually(lambda: kept(service.data_dir, before, "was changed"))
    assert kept(service.data_dir, after, "was changed") == []
    assert reset(stranger, old) == (422, "invalid_token")


def test_the_address_of_somebody_else(
    service: Service, world: World, person: dict[str, Any], client: httpx.Client, stranger: httpx.Client
) -> None:
    """That another account has an address is told to who reads its mail, and to nobody else."""
    other = world.post("users", email=f"{uuid4().hex}@example.com", password=PASSWORD, role="viewer")
    free = f"{uuid4().hex}@example.com"
    answers = [
        client.post("/api/v1/auth/email", json={"email": email, "current_password": PASSWORD}).content
        for email in (other["email"], free)
    ]
    assert answers[0] == answers[1]
    (token,) = tokens(service, other["email"], "Is this your")
    assert verified(stranger, token) == (409, "email_taken")
    assert (me(client)["email"], world.get(f"users/{other['id']}")) == (person["email"], other)


def test_closing_ones_own_account(
    service: Service, world: World, person: dict[str, Any], client: httpx.Client, stranger: httpx.Client
) -> None:
    """Who knows the password closes their account; nobody signs in to it, also not by mail, until an admin opens it."""

    def closed(by: httpx.Client, password: str) -> tuple[int, Any]:
        answer = by.post("/api/v1/auth/deactivate", json={"password": password})
        return answer.status_code, answer.json() if answer.content else None

    status, problem = closed(client, "not the password")
    assert (status, problem["code"], problem["errors"][0]["pointer"]) == (422, "wrong_password", "/password")
    asked(stranger, person["email"])
    (token,) = tokens(service, person["email"], "Choose another password")
    assert closed(client, PASSWORD) == (204, None)
    asked_for = {"type": "person_deactivated", "stream": f"access-{person['id']}"}
    (line,) = world.admin.get("/audit/v1/events", params=asked_for).json()["items"]
    assert json.loads(line["entry"])["actor"] == f"user:{person['id']}"
    refused(lambda: client.get("/api/v1/auth/me"))
    assert signs_in(service, person["email"], PASSWORD)[0] == 401
    assert reset(stranger, token) == (422, "invalid_token")
    assert world.admin.patch(f"/api/v1/users/{person['id']}", json={"active": True}).status_code == 200
    assert signs_in(service, person["email"], PASSWORD)[0] == 200

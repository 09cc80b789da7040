"""Mail about sign-ins from where, or with what, somebody was not of late: one letter for each, to who wants it."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.api.pages import eventually
from tests.mailbox import kept, text_of
from tests.running import Service
from tests.world import World

PASSWORD: Final = "a sentence that nobody guesses"
ABOUT: Final = "A new sign-in"
FIREFOX: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
HOME: Final = "198.51.100.1"
ABROAD: Final = "203.0.113.200"


@pytest.fixture
def person(world: World) -> dict[str, Any]:
    """A viewer who has not signed in yet."""
    return world.post("users", email=f"{uuid4().hex}@example.com", password=PASSWORD, role="viewer")


def signed_in(service: Service, person: dict[str, Any], address: str = HOME, agent: str = FIREFOX) -> None:
    """Sign in from an address, with a program."""
    headers = {"X-Forwarded-For": address, "User-Agent": agent}
    body = {"email": person["email"], "password": PASSWORD}
    answer = httpx.post(f"{service.url}/api/v1/auth/login", json=body, headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text


def waiting(service: Service, person: dict[str, Any]) -> int:
    """Return how many letters to somebody have not left yet."""
    letters = "SELECT count(*) FROM outbox WHERE subscriber = 'accounts' AND content ->> 'to' = %s"
    with service.database() as url, psycopg.connect(url, autocommit=True) as owner:
        (found,) = owner.execute(letters, (person["email"],)).fetchone() or (0,)
    return int(found)


def told(service: Service, person: dict[str, Any]) -> list[str]:
    """Wait until no letter waits, and return what those say that somebody got."""
    eventually(lambda: waiting(service, person) == 0)
    return [text_of(letter, "plain") for letter in kept(service.data_dir, person["email"], ABOUT)]


def test_a_new_place_is_told_of(service: Service, person: dict[str, Any]) -> None:
    """Neither the first sign-in of an account nor the next like it is told of; another network is, and once."""
    for address in (HOME, "198.51.100.77"):
        signed_in(service, person, address)
    assert told(service, person) == []
    for _ in range(2):
        signed_in(service, person, ABROAD)
    (letter,) = told(service, person)
    assert "203.0.113.0/24 with Firefox." in letter
    assert ABROAD not in letter
    assert "/api/v1/auth/me/notifications" in letter


def test_a_new_program_is_told_of(service: Service, person: dict[str, Any]) -> None:
    """Another program is told of; another version of the same is not."""
    for agent in (FIREFOX, FIREFOX.replace("140", "141"), "curl/8.5.0"):
        signed_in(service, person, agent=agent)
    (letter,) = told(service, person)
    assert "198.51.100.0/24 with curl." in letter


def test_sign_ins_at_once_are_one_letter(service: Service, person: dict[str, Any]) -> None:
    """Of several first sign-ins from a place at the same time, one is told of."""
    signed_in(service, person)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: signed_in(service, person, ABROAD), range(4)))
    assert len(told(service, person)) == 1


def test_what_is_longer_ago_counts_no_more(service: Service, person: dict[str, Any]) -> None:
    """A place of more than 30 days ago is told of again, also when there was no sign-in since."""
    signed_in(service, person)
    with service.database() as url, psycopg.connect(url, autocommit=True) as owner:
        long_ago = "SET issued_at = issued_at - interval '31 days' WHERE user_id = %s"
        owner.execute(f"UPDATE refresh_tokens {long_ago}".encode(), (person["id"],))
        owner.execute("UPDATE people SET created_at = created_at - interval '32 days' WHERE id = %s", (person["id"],))
    signed_in(service, person)
    assert len(told(service, person)) == 1


def test_who_does_not_want_it_is_not_told(service: Service, person: dict[str, Any]) -> None:
    """Somebody who chose not to hear of sign-ins does not; a wrong password from elsewhere is no sign-in."""
    with closing(service.signed_in(person["email"], PASSWORD)) as client:
        body = {"email": person["email"], "password": "not the password at all"}
        headers = {"X-Forwarded-For": ABROAD}
        assert httpx.post(f"{service.url}/api/v1/auth/login", json=body, headers=headers).status_code == 401
        assert client.patch("/api/v1/auth/me/notifications", json={"new_sign_in": False}).status_code == 200
    signed_in(service, person, ABROAD)
    assert told(service, person) == []

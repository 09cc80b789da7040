"""Invitations over HTTP: mailed, accepted once, and telling strangers nothing."""

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg
import pytest

from infra.event_log import CHANNEL
from tests.api.pages import eventually
from tests.mailbox import kept, text_of, token_in
from tests.running import Service
from tests.world import World

PASSWORD: Final = "a sentence that nobody guesses"
DAY_SECONDS: Final = 86_400


@pytest.fixture
def stranger(service: Service) -> Iterator[httpx.Client]:
    """A client of nobody."""
    with service.client() as client:
        yield client


def address() -> str:
    """Return an e-mail address that nobody has."""
    return f"{uuid4().hex}@example.com"


def invited(world: World, email: str, role: str = "manager", **fields: Any) -> dict[str, Any]:
    """Invite somebody."""
    return world.post("invitations", email=email, role=role, **fields)


def tokens(world: World, email: str, number: int = 1) -> list[str]:
    """Wait for so many letters to an address, and return the tokens in them."""
    data_dir = world.service.data_dir
    eventually(lambda: len(kept(data_dir, email, "You are invited")) >= number)
    found = kept(data_dir, email, "You are invited")
    assert len(found) == number
    return [token_in(letter) for letter in found]


def accepted(client: httpx.Client, token: str, **fields: str) -> tuple[int, Any]:
    """Try to accept, and return the status, and the person or the code of the refusal."""
    answer = client.post("/api/v1/invitations/accept", json={"token": token, **fields})
    return answer.status_code, answer.json() if answer.is_success else answer.json()["code"]


def expired(world: World, invitation: dict[str, Any]) -> None:
    """Let the time of an invitation be over."""
    with world.service.database() as url, psycopg.connect(url, autocommit=True) as owner:
        owner.execute("UPDATE invitations SET expires_at = now() WHERE id = %s", (invitation["id"],))


def status_of(world: World, invitation: dict[str, Any]) -> str:
    """Return what came of an invitation."""
    return str(world.get(f"invitations/{invitation['id']}")["status"])


def seconds(begin: str, end: str) -> float:
    """Return how much time lies between two times."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def test_who_is_invited_makes_an_account(world: World, stranger: httpx.Client) -> None:
    """The token in the letter and a password make an account in the role that was offered, whose address is proven."""
    email = address()
    invitation = invited(world, f" {email.upper()} ", "finance", name="Wanda")
    assert (invitation["email"], invitation["status"]) == (email, "open")
    assert seconds(invitation["created_at"], invitation["expires_at"]) == 7 * DAY_SECONDS
    (token,) = tokens(world, email)
    (letter,) = kept(world.service.data_dir, email)
    assert "as finance" in " ".join(text_of(letter, "plain").split())
    assert token not in world.admin.get("/api/v1/invitations").text
    status, person = accepted(stranger, token, password=PASSWORD)
    assert status == 201
    assert (person["email"], person["role"], person["name"], person["email_verified"]) == (
        email,
        "finance",
        "Wanda",
        True,
    )
    with closing(world.service.signed_in(email, PASSWORD)) as client:
        assert client.get("/api/v1/auth/me").json() == person
    found = world.get(f"invitations/{invitation['id']}")
    assert (found["status"], found["accepted_by"]) == ("accepted", person["id"])
    assert accepted(stranger, token, password=PASSWORD) == (422, "invalid_token")


def test_a_password_that_is_none_uses_nothing_up(world: World, stranger: httpx.Client) -> None:
    """A weak password or none is refused, and the token is as good as before; who accepts says what they are called."""
    email = address()
    invited(world, email, "viewer", name="Wanda")
    (token,) = tokens(world, email)
    assert accepted(stranger, token) == (422, "password_too_weak")
    assert accepted(stranger, token, password="passwordpassword") == (422, "password_too_weak")
    status, person = accepted(stranger, token, password=PASSWORD, name="Wanda Lindqvist")
    assert (status, person["name"]) == (201, "Wanda Lindqvist")


def test_what_opens_nothing(world: World, stranger: httpx.Client) -> None:
    """Expired, withdrawn, replaced and made-up tokens are refused in the same words."""
    late, gone, again = address(), address(), address()
    made = {email: invited(world, email, "viewer") for email in (late, gone, again)}
    first = {email: tokens(world, email)[0] for email in made}
    expired(world, made[late])
    withdrawn = world.post(f"invitations/{made[gone]['id']}/withdraw", expect=200)
    assert withdrawn["status"] == "withdrawn"
    world.post(f"invitations/{made[again]['id']}/send", expect=200)
    answers = [
        stranger.post("/api/v1/invitations/accept", json={"token": token, "password": PASSWORD})
        for token in (*first.values(), "A" * 64, "a token")
    ]
    assert {(answer.status_code, answer.content) for answer in answers} == {(422, answers[0].content)}
    assert [status_of(world, each) for each in made.values()] == ["expired", "withdrawn", "open"]


def test_a_letter_does_not_wait_for_every_event(world: World) -> None:
    """However much is heard at once, one pause follows it, not one for each: that would be 100 seconds here."""
    ledger_id = world.get("organisation")["id"]
    with world.service.database() as url, psycopg.connect(url, autocommit=True) as owner:
        for _ in range(400):
            owner.execute("SELECT pg_notify(%s, %s)", (CHANNEL, ledger_id))
    for email in (address(), address()):
        invited(world, email)
        assert tokens(world, email)


def test_an_invitation_is_sent_again(world: World, stranger: httpx.Client) -> None:
    """Sent again, also after its time, it has another token and as much time; accepted or withdrawn, it is over."""
    email = address()
    invitation = invited(world, email, "viewer", valid_days=3)
    (before,) = tokens(world, email)
    expired(world, invitation)
    with world.service.database() as url, psycopg.connect(url, autocommit=True) as owner:
        renew = "UPDATE invitations SET sent_at = expires_at - interval '3 days' WHERE id = %s"
        owner.execute(renew, (invitation["id"],))
    path = f"invitations/{invitation['id']}"
    renewed = world.post(f"{path}/send", expect=200)
    assert renewed["status"] == "open"
    assert seconds(renewed["sent_at"], renewed["expires_at"]) == 3 * DAY_SECONDS
    (after,) = set(tokens(world, email, 2)) - {before}
    assert accepted(stranger, after, password=PASSWORD)[0] == 201
    for step in ("send", "withdraw"):
        assert world.post(f"{path}/{step}", expect=409)["code"] == "invitation_over"
        assert world.post(f"invitations/{uuid4()}/{step}", expect=404)["code"] == "not_found"


def test_who_has_an_account_is_not_told_of(world: World, stranger: httpx.Client) -> None:
    """To a stranger with the token of somebody who has an account it is none; signed in, its owner gets the role."""
    email, other = address(), address()
    for each in (email, other):
        world.post("users", email=each, password=PASSWORD, role="viewer")
    invitation = invited(world, email, "manager")
    assert invitation | {"status": "open"} == invitation
    (token,) = tokens(world, email)
    with (
        closing(world.service.signed_in(email, PASSWORD)) as owner,
        closing(world.service.signed_in(other, PASSWORD)) as another,
    ):
        for client in (stranger, another):
            assert accepted(client, token, password=PASSWORD) == (422, "invalid_token")
            assert accepted(client, token, password=PASSWORD) == accepted(client, "A" * 64, password=PASSWORD)
        status, person = accepted(owner, token)
        assert (status, person["email"], person["role"], person["email_verified"]) == (201, email, "manager", True)
        assert accepted(owner, token) == (422, "invalid_token")
        eventually(lambda: owner.post("/api/v1/slots", json={"name": "S", "ad_type": "top_bar_ad"}).status_code == 201)


def test_an_advertiser_is_invited(world: World, stranger: httpx.Client) -> None:
    """Who is invited in the role of an advertiser sees what belongs to those that the invitation names."""
    advertiser_id, email = world.advertiser(), address()
    for named, code in (([], "advertisers_unfit"), ([str(uuid4())], "unknown_reference")):
        problem = world.post("invitations", expect=422, email=email, role="advertiser", advertiser_ids=named)
        assert (problem["code"], problem["errors"][0]["pointer"]) == (code, "/advertiser_ids")
    invited(world, email, "advertiser", advertiser_ids=[advertiser_id])
    (token,) = tokens(world, email)
    status, person = accepted(stranger, token, password=PASSWORD)
    assert (status, person["role"], person["advertiser_ids"]) == (201, "advertiser", [advertiser_id])


def test_one_invitation_for_each(world: World) -> None:
    """Somebody with an open invitation is not invited again, until that is withdrawn; nor is what is no address."""
    email = address()
    invitation = invited(world, email)
    body: dict[str, Any] = {"email": email.upper(), "role": "viewer"}
    assert world.post("invitations", expect=409, **body)["code"] == "already_invited"
    world.post(f"invitations/{invitation['id']}/withdraw", expect=200)
    assert world.post("invitations", **body)["status"] == "open"
    assert world.post("invitations", expect=422, email="nobody", role="viewer")["code"] == "invalid_email"
    assert world.post("invitations", expect=400, email=email, role="owner")["code"] == "invalid_body"


def test_an_invitation_is_made_once(world: World) -> None:
    """The same key and body make one invitation and one letter."""
    email, headers = address(), {"Idempotency-Key": uuid4().hex}
    body = {"email": email, "role": "viewer"}
    made = [world.admin.post("/api/v1/invitations", json=body, headers=headers) for _ in range(2)]
    assert made[0].status_code == made[1].status_code == 201
    assert made[0].json() == made[1].json()
    reused = world.admin.post("/api/v1/invitations", json=body | {"role": "admin"}, headers=headers)
    assert reused.json()["code"] == "idempotency_key_reused"
    tokens(world, email)


def test_one_address_is_not_written_to_all_the_time(world: World) -> None:
    """After ten letters to one address in a quarter of an hour there is no eleventh."""
    email = address()
    path = f"/api/v1/invitations/{invited(world, email)['id']}/send"
    assert [world.admin.post(path).status_code for _ in range(10)] == [200] * 9 + [429]


def test_invitations_are_listed(world: World) -> None:
    """Invitations are listed page by page, all or those of one status."""
    emails = [address() for _ in range(3)]
    made = [invited(world, email) for email in emails]
    world.post(f"invitations/{made[1]['id']}/withdraw", expect=200)

    def listed(**asked: str) -> list[str]:
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = world.get("invitations", limit=2, **asked, **cursor)
            found += [each["email"] for each in page["items"]]
            if page["next_cursor"] is None:
                return [email for email in found if email in emails]
            cursor = {"cursor": page["next_cursor"]}

    assert listed() == emails
    assert listed(status="open") == [emails[0], emails[2]]
    assert listed(status="withdrawn") == [emails[1]]
    assert world.admin.get("/api/v1/invitations", params={"status": "lost"}).status_code == 400

"""Who is let in, and to what: sessions, roles and people, over HTTP."""

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
from tests.running import ADMIN_EMAIL, ADMIN_PASSWORD, Service
from tests.world import World

PASSWORD: Final = "a sentence that nobody guesses"
PERSON: Final = frozenset(
    {"ledger_id", "id", "email", "role", "active", "created_at", "name", "timezone", "advertiser_ids", "email_verified"}
)
ATTEMPTS_PER_ACCOUNT_MAX: Final = 10

ROLES: Final = ("admin", "manager", "reviewer", "finance", "viewer", "auditor", "advertiser")
EVERYBODY: Final = frozenset({*ROLES, "operator", "newcomer", "nobody"})
SIGNED_IN: Final = frozenset(ROLES)
OPERATORS: Final = frozenset({"operator"})
PEOPLE: Final = SIGNED_IN | OPERATORS | {"newcomer"}
READERS: Final = SIGNED_IN - {"advertiser"}
MANAGERS: Final = frozenset({"admin", "manager"})
DRAFTERS: Final = frozenset({"admin", "manager", "advertiser"})
CHANGERS: Final = frozenset({"admin", "manager", "finance", "advertiser"})
REVIEWERS: Final = frozenset({"admin", "reviewer"})
FINANCE: Final = frozenset({"admin", "finance"})
ADMINS: Final = frozenset({"admin"})
AUDITORS: Final = frozenset({"admin", "auditor"})

# Every operation for people, and who may ask for it. An operation that has no line here fails a test.
ALLOWED: Final = {
    "login": EVERYBODY,
    "refresh": EVERYBODY,
    "logout": EVERYBODY,
    **dict.fromkeys(("list_providers", "start_oidc", "finish_oidc", "exchange_oidc"), EVERYBODY),
    **dict.fromkeys(("switch", "register", "confirm_registration"), EVERYBODY),
    **dict.fromkeys(("list_organisations", "create_organisation"), PEOPLE),
    "get_organisation": SIGNED_IN,
    **dict.fromkeys(("change_organisation", "upload_logo"), ADMINS),
    "get_installation": OPERATORS,
    "me": PEOPLE,
    "change_me": PEOPLE,
    "get_notifications": PEOPLE,
    "change_notifications": PEOPLE,
    "change_password": PEOPLE,
    **dict.fromkeys(("forget_password", "reset_password", "verify_email", "accept_invitation"), EVERYBODY),
    **dict.fromkeys(("send_verification", "change_email", "deactivate_me"), PEOPLE),
    "list_sessions": PEOPLE,
    "list_links": PEOPLE,
    "remove_link": PEOPLE,
    "end_session": PEOPLE,
    "end_sessions": PEOPLE,
    **dict.fromkeys(("get_second_factor", "enrol_second_factor", "confirm_second_factor"), PEOPLE),
    "remove_second_factor": PEOPLE,
    **dict.fromkeys(("list_api_keys", "issue_api_key", "revoke_api_key"), ADMINS),
    "list_advertisers": SIGNED_IN,
    "get_advertiser": SIGNED_IN,
    "create_advertiser": MANAGERS,
    "change_advertiser": MANAGERS,
    "deposit_funds": FINANCE,
    "withdraw_funds": FINANCE,
    "get_funds": SIGNED_IN,
    "get_conversion_url": MANAGERS,
    "get_personal_data": ADMINS,
    "erase_personal_data": ADMINS,
    "place_legal_hold": ADMINS,
    "lift_legal_hold": ADMINS,
    "list_campaigns": SIGNED_IN,
    "get_campaign": SIGNED_IN,
    "get_campaign_history": SIGNED_IN,
    "create_campaign": DRAFTERS,
    "change_campaign": CHANGERS,
    "activate_campaign": MANAGERS,
    "pause_campaign": MANAGERS,
    "complete_campaign": MANAGERS,
    "archive_campaign": MANAGERS,
    **dict.fromkeys(("get_policy", "get_second_factor_policy", "list_approvals"), READERS),
    **dict.fromkeys(("set_policy", "set_second_factor_policy"), ADMINS),
    **dict.fromkeys(("confirm_budget", "refuse_budget"), FINANCE),
    "list_creatives": SIGNED_IN,
    "get_creative": SIGNED_IN,
    "create_creative": DRAFTERS,
    "change_creative": DRAFTERS,
    "submit_creative": DRAFTERS,
    "upload_media": DRAFTERS,
    "approve_creative": REVIEWERS,
    "deny_creative": REVIEWERS,
    "activate_creative": MANAGERS,
    "pause_creative": MANAGERS,
    "archive_creative": MANAGERS,
    "list_slots": READERS,
    "get_slot": READERS,
    "create_slot": MANAGERS,
    "change_slot": MANAGERS,
    "issue_slot_key": MANAGERS,
    "revoke_slot_key": MANAGERS,
    "list_users": ADMINS,
    "get_user": ADMINS,
    "create_user": ADMINS,
    "change_user": ADMINS,
    "reset_second_factor": ADMINS,
    **dict.fromkeys(("list_invitations", "get_invitation", "create_invitation"), ADMINS),
    **dict.fromkeys(("send_invitation", "withdraw_invitation"), ADMINS),
    **dict.fromkeys(("list_countries", "list_subdivisions", "list_time_zones", "list_currencies"), SIGNED_IN),
    **dict.fromkeys(("list_content_ratings", "list_iab_categories"), SIGNED_IN),
    **dict.fromkeys(("list_webhooks", "get_webhook", "create_webhook", "delete_webhook"), ADMINS),
    **dict.fromkeys(("replay_webhook", "retry_webhook", "list_parked", "skip_parked"), ADMINS),
    "report_budgets": SIGNED_IN,
    "report_delivery": SIGNED_IN,
    "report_security": AUDITORS,
    "explain_decision": MANAGERS,
    "read_log": AUDITORS,
    "read_changes": AUDITORS,
    "list_projections": AUDITORS,
    "read_checkpoint": EVERYBODY,
    "read_tile": EVERYBODY,
    **dict.fromkeys(("read_checkpoint_of", "read_tile_of"), EVERYBODY),
    "read_entry_bundle": AUDITORS,
    "prove_inclusion": AUDITORS,
    "prove_consistency": AUDITORS,
}

# What programs may not ask for, whatever their role: what belongs to an account, and keys of programs.
FOR_PEOPLE: Final = frozenset(
    {"me", "change_me", "change_password", "list_sessions", "end_session", "end_sessions"}
    | {"list_links", "remove_link"}
    | {"get_notifications", "change_notifications"}
    | {"send_verification", "change_email", "deactivate_me"}
    | {"get_second_factor", "enrol_second_factor", "confirm_second_factor", "remove_second_factor"}
    | {"list_api_keys", "issue_api_key", "revoke_api_key", "list_organisations", "create_organisation"}
)


@pytest.fixture(scope="module")
def service(own_service: Service) -> Service:
    """A service that nobody else signs in at or writes to."""
    return own_service


@pytest.fixture(scope="module")
def operations(service: Service) -> dict[str, tuple[str, str]]:
    """Method and path of every operation for people, by its id, as the OpenAPI document has them."""
    document = httpx.get(f"{service.url}/schema/openapi.json").json()
    return {
        operation["operationId"]: (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if path.startswith(("/api/v1", "/audit/v1"))
    }


@pytest.fixture(scope="module")
def owned(admin: httpx.Client) -> dict[str, Any]:
    """What is to be said of whom besides the role: an advertiser has advertisers."""
    return {"advertiser": {"advertiser_ids": [admin.post("/api/v1/advertisers", json={"name": "Own"}).json()["id"]]}}


async def of_no_organisation(service: Service, role: users.Role) -> str:
    """Add an operator, as `ledger user create` does, or a newcomer, and return what they sign in with."""
    email = f"{role}-{uuid4().hex}@example.com"
    async with await connect(service.environment["LEDGER_DATABASE_URL"]) as connection:
        await users.create(connection, INSTALLATION, email=email, password=PASSWORD, role=role)
    return email


@pytest.fixture(scope="module")
def people(service: Service, admin: httpx.Client, owned: dict[str, Any]) -> Iterator[dict[str, httpx.Client]]:
    """A client of one person in each role, also those of no organisation, and of nobody."""
    clients = {"nobody": service.client()}
    outside: tuple[users.Role, ...] = ("operator", "newcomer")
    for each in outside:
        clients[each] = service.signed_in(asyncio.run(of_no_organisation(service, each)), PASSWORD)
    for role in ROLES:
        email = f"{role}-{uuid4().hex}@example.com"
        person = {"email": email, "password": PASSWORD, "role": role, **owned.get(role, {})}
        added = admin.post("/api/v1/users", json=person)
        assert added.status_code == 201, added.text
        clients[role] = service.signed_in(email, PASSWORD)
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture(scope="module")
def programs(service: Service, admin: httpx.Client, owned: dict[str, Any]) -> Iterator[dict[str, httpx.Client]]:
    """A client of one program in each role."""
    clients = {}
    for role in ROLES:
        made = admin.post("/api/v1/api-keys", json={"name": role, "role": role, **owned.get(role, {})})
        clients[role] = service.client(headers={"Authorization": f"Bearer {made.json()['key']}"})
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture
def account(world: World) -> dict[str, str]:
    """Id and e-mail address of a person who has not signed in yet."""
    email = f"{uuid4().hex}@example.com"
    added = world.post("users", email=email, password=PASSWORD, role="viewer")
    return {"id": added["id"], "email": email}


def sign_in(service: Service, email: str, password: str = PASSWORD) -> httpx.Response:
    """Try to sign in."""
    return httpx.post(f"{service.url}/api/v1/auth/login", json={"email": email, "password": password})


def refresh(service: Service, token: str) -> httpx.Response:
    """Try to prolong a session."""
    return httpx.post(f"{service.url}/api/v1/auth/refresh", json={"refresh_token": token})


def said(answer: httpx.Response) -> dict[str, Any]:
    """Return a refusal, which must be that nobody is known to have asked."""
    assert answer.status_code == 401, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == "unauthenticated"
    return problem


def test_signing_in_gives_tokens_that_say_who_one_is(service: Service) -> None:
    """The access token that signing in gives is a bearer token, and `me` names its owner."""
    tokens = sign_in(service, ADMIN_EMAIL, ADMIN_PASSWORD).json()
    assert set(tokens) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert (tokens["token_type"], tokens["expires_in"]) == ("bearer", 900)
    authorization = {"Authorization": f"Bearer {tokens['access_token']}"}
    me = httpx.get(f"{service.url}/api/v1/auth/me", headers=authorization).json()
    assert (me["email"], me["role"], me["active"]) == (ADMIN_EMAIL, "admin", True)
    assert set(me) == PERSON


def test_who_is_refused_is_not_told_why(service: Service, world: World, account: dict[str, str]) -> None:
    """A wrong password, an unknown account and a deactivated one are refused in the same words."""
    wrong = said(sign_in(service, ADMIN_EMAIL, "not the password at all"))
    unknown = said(sign_in(service, f"{uuid4().hex}@example.com"))
    world.admin.patch(f"/api/v1/users/{account['id']}", json={"active": False}).raise_for_status()
    assert wrong == unknown == said(sign_in(service, account["email"]))


def test_a_refresh_token_is_used_once(service: Service, account: dict[str, str]) -> None:
    """A refresh token gives the next, and used again it ends the session for whoever has its tokens."""
    first = sign_in(service, account["email"]).json()["refresh_token"]
    second = refresh(service, first).json()["refresh_token"]
    third = refresh(service, second).json()["refresh_token"]
    assert len({first, second, third}) == 3
    said(refresh(service, first))
    said(refresh(service, third))


def test_signing_out_ends_the_session(service: Service, account: dict[str, str]) -> None:
    """After signing out, the refresh token of the session gives nothing, and no second sign-out."""
    token = sign_in(service, account["email"]).json()["refresh_token"]
    left = httpx.post(f"{service.url}/api/v1/auth/logout", json={"refresh_token": token})
    assert (left.status_code, left.content) == (204, b"")
    said(refresh(service, token))


def test_who_is_deactivated_cannot_prolong_a_session(service: Service, world: World, account: dict[str, str]) -> None:
    """Deactivating a person ends their sessions; activated again, they sign in again."""
    token = sign_in(service, account["email"]).json()["refresh_token"]
    for active in (False, True):
        world.admin.patch(f"/api/v1/users/{account['id']}", json={"active": active}).raise_for_status()
        said(refresh(service, token))
    assert sign_in(service, account["email"]).status_code == 200


def test_guessing_a_password_is_slowed_down(service: Service, account: dict[str, str]) -> None:
    """After ten wrong passwords even the right one has to wait, and only for this account."""
    for _ in range(ATTEMPTS_PER_ACCOUNT_MAX):
        said(sign_in(service, account["email"], "not the password at all"))
    waiting = sign_in(service, account["email"])
    assert (waiting.status_code, waiting.json()["code"]) == (429, "throttled")
    assert 0 < int(waiting.headers["Retry-After"]) <= 900
    assert sign_in(service, ADMIN_EMAIL, ADMIN_PASSWORD).status_code == 200


def test_only_an_access_token_of_this_ledger_counts(service: Service, world: World) -> None:
    """Neither an altered token, nor a refresh token, nor a slot key, nor another scheme opens the door for people."""
    tokens = sign_in(service, ADMIN_EMAIL, ADMIN_PASSWORD).json()
    access: str = tokens["access_token"]
    slot = world.post("slots", name="Slot", ad_type="top_bar_ad")
    key = world.post(f"slots/{slot['id']}/keys")["key"]
    header, payload, signature = access.split(".")
    altered = f"{header}.{payload}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    unsigned = f"eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{payload}."
    bearers = [altered, unsigned, tokens["refresh_token"], key, access[:-1], "a b"]
    for authorization in [*(f"Bearer {token}" for token in bearers), "Bearer", f"Basic {access}", access]:
        said(httpx.get(f"{service.url}/api/v1/auth/me", headers={"Authorization": authorization}))


def test_every_operation_says_who_may_ask_for_it(operations: dict[str, tuple[str, str]]) -> None:
    """The table of this module has a line for each operation for people, and no other."""
    assert set(ALLOWED) == set(operations)


@pytest.mark.parametrize("operation", ALLOWED)
def test_roles(
    operation: str,
    operations: dict[str, tuple[str, str]],
    people: dict[str, httpx.Client],
    programs: dict[str, httpx.Client],
) -> None:
    """An operation is open exactly to whom the table allows it, before anything else about the request is looked at.

    It is open to a program as it is to a person in that role, but for what is for people alone.
    """
    method, path = operations[operation]
    path = re.sub(r"\{\w+_id\}", lambda _: str(uuid4()), path).format(
        level=0, number="000", position=1, provider="none"
    )
    callers = [(who, client, True) for who, client in people.items()]
    callers += [(who, client, operation not in FOR_PEOPLE) for who, client in programs.items()]
    for who, client, may_ask in callers:
        answer = client.request(method, path, json={} if method in {"POST", "PATCH"} else None)
        refused = 401 if who == "nobody" else 403
        if may_ask and who in ALLOWED[operation]:
            assert answer.status_code in {200, 202, 204, 400, 404, 415}, (who, answer.text)
        else:
            assert answer.status_code == refused, (who, answer.text)


def test_a_budget_is_proposed_by_who_plans_and_set_by_who_pays(people: dict[str, httpx.Client], world: World) -> None:
    """A manager sets the budget of a draft, and no more once it is active; finance sets budgets, and nothing else."""
    campaign_id = world.campaign(budget_micros=10_000_000)
    path = f"/api/v1/campaigns/{campaign_id}"

    def changed(role: str, **fields: Any) -> tuple[int, str | None]:
        answer = people[role].patch(path, json=fields)
        problem = answer.json()
        if answer.status_code == 403:
            assert (problem["code"], problem["errors"][0]["pointer"]) == ("not_allowed", f"/{min(fields)}")
        return answer.status_code, problem.get("code")

    assert changed("manager", budget_micros=20_000_000)[0] == 200
    assert changed("finance", budget_micros=15_000_000)[0] == 200
    assert changed("finance", name="Money talks")[0] == 403
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    assert changed("manager", budget_micros=30_000_000)[0] == 403
    assert changed("manager", name="Renamed", budget_micros=15_000_000)[0] == 200
    assert changed("finance", budget_micros=30_000_000, name="Renamed")[0] == 200
    assert changed("admin", budget_micros=31_000_000, name="Renamed again")[0] == 200
    world.caught_up()
    found = world.get(f"campaigns/{campaign_id}")
    assert (found["name"], found["budget_micros"]) == ("Renamed again", 31_000_000)


def test_people_are_added_and_changed(world: World, account: dict[str, str]) -> None:
    """An admin adds people, finds them, and sets what they may do; a password is never shown."""
    path = f"users/{account['id']}"
    found = world.get(path)
    assert set(found) == PERSON
    assert (found["email"], found["role"], found["active"]) == (account["email"], "viewer", True)
    changed = world.admin.patch(f"/api/v1/{path}", json={"role": "manager"}).json()
    assert changed == found | {"role": "manager"} == world.get(path)
    listed: list[dict[str, Any]] = []
    cursor: str | None = None
    while cursor is not None or not listed:
        page = world.get("users", limit=2, **({"cursor": cursor} if cursor else {}))
        listed += page["items"]
        cursor = page["next_cursor"]
    assert [each for each in listed if each["id"] == account["id"]] == [changed]
    assert len({each["id"] for each in listed}) == len(listed)


@pytest.mark.parametrize(
    ("fields", "status", "code", "pointer"),
    [
        ({"email": "nobody"}, 422, "invalid_email", "/email"),
        ({"password": "short"}, 422, "password_too_weak", "/password"),
        ({"email": "somebody@example.com", "password": "somebody@example.com"}, 422, "password_too_weak", "/password"),
        ({"email": ADMIN_EMAIL.upper()}, 409, "email_taken", "/email"),
        ({"role": "owner"}, 400, "invalid_body", "/role"),
        ({"name": "Ve\nra"}, 400, "invalid_body", "/name"),
    ],
)
def test_who_cannot_be_added(world: World, fields: dict[str, str], status: int, code: str, pointer: str) -> None:
    """A person needs an address that is one and that nobody else has, a password worth the name, and a role."""
    person = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "role": "viewer", **fields}
    problem = world.post("users", expect=status, **person)
    assert (problem["code"], problem["errors"][0]["pointer"]) == (code, pointer)


def test_a_change_of_a_person_names_what_is_set(world: World, account: dict[str, str]) -> None:
    """A field of a person is left out or set: null is neither, and an unknown person is not found."""
    path = f"/api/v1/users/{account['id']}"
    assert world.admin.patch(path, json={"role": None}).status_code == 400
    assert world.admin.patch(path, json={}).json() == world.get(f"users/{account['id']}")
    assert world.admin.patch(f"/api/v1/users/{uuid4()}", json={"role": "viewer"}).status_code == 404

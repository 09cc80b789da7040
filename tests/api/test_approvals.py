"""Budgets that need a second person: asked for, listed, confirmed by another, and in the log; over HTTP."""

from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.running import Service
from tests.world import World

PASSWORD: Final = "a sentence that nobody guesses"
POLICY: Final = "/api/v1/policy"
LIMIT: Final = 10_000_000
CURRENCY: Final = "ISK"
"""In which no other test has campaigns, so that the policy of a shared service concerns none of theirs."""


@pytest.fixture(scope="module")
def policy(admin: httpx.Client) -> dict[str, Any]:
    """A policy that budgets in a currency need a second person."""
    limits = {"limits": [{"currency": CURRENCY, "above_micros": LIMIT}]}
    admin.put(POLICY, json=limits).raise_for_status()
    return limits


@pytest.fixture(scope="module")
def finance(service: Service, admin: httpx.Client) -> Iterator[httpx.Client]:
    """A second person who looks after money."""
    person = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "role": "finance"}
    admin.post("/api/v1/users", json=person).raise_for_status()
    with_them = service.signed_in(person["email"], PASSWORD)
    yield with_them
    with_them.close()


@pytest.fixture
def campaign(world: World, policy: dict[str, Any]) -> str:
    """An active campaign with as large a budget as one person may set."""
    assert policy
    campaign_id = world.campaign(currency=CURRENCY, budget_micros=LIMIT)
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    return campaign_id


def asked(world: World, campaign_id: str, micros: int | None) -> dict[str, Any]:
    """Ask for a budget, and return the request that waits."""
    answer = world.admin.patch(f"/api/v1/campaigns/{campaign_id}", json={"budget_micros": micros})
    assert answer.status_code == 200, answer.text
    request: dict[str, Any] = world.get(f"campaigns/{campaign_id}")["budget_request"]
    return request


def waiting(world: World) -> set[str]:
    """Return the campaigns that are listed with a budget that waits."""
    return {each["id"] for each in world.get("approvals", limit=500)["items"]}


def test_a_second_person_confirms_a_budget(world: World, finance: httpx.Client, campaign: str) -> None:
    """It waits, and is listed; whoever asked cannot confirm it; once another does, it holds, as the history shows."""
    request = asked(world, campaign, 5 * LIMIT)
    assert (request["requested_micros"], request["asked_by"]) == (5 * LIMIT, world.get("auth/me")["id"])
    assert campaign in waiting(world)
    waits = world.get(f"campaigns/{campaign}")
    path = f"/api/v1/approvals/{request['request_id']}/confirm"
    refused = world.admin.post(path)
    assert (refused.status_code, refused.json()["code"]) == (403, "second_person_needed")
    named = {"Idempotency-Key": str(uuid4())}
    confirmed = finance.post(path, headers=named)
    assert confirmed.status_code == 200, confirmed.text
    assert finance.post(path, headers=named).json() == confirmed.json()
    again = finance.post(path)
    assert (again.status_code, again.json()["code"]) == (409, "nothing_asked")
    found = world.get(f"campaigns/{campaign}")
    assert (found["budget_micros"], found["budget_request"], found["version"]) == (
        5 * LIMIT,
        None,
        waits["version"] + 2,
    )
    assert campaign not in waiting(world)
    then = world.get(f"campaigns/{campaign}", as_of=waits["position"])
    assert (then["budget_micros"], then["budget_request"]) == (LIMIT, request)
    events = world.get(f"campaigns/{campaign}/history")["items"]
    assert [each["type"] for each in events[-3:]] == ["budget_requested", "budget_confirmed", "campaign_changed"]
    assert (events[-1]["before"], events[-1]["fields"]) == ({"budget_micros": LIMIT}, {"budget_micros": 5 * LIMIT})
    assert len({events[-3]["actor"], events[-1]["actor"]}) == 2
    world.caught_up()
    (report,) = world.get("reports/budgets", campaign_id=campaign)["items"]
    assert report["budget_micros"] == 5 * LIMIT


def test_a_program_is_no_second_person(world: World, finance: httpx.Client, campaign: str) -> None:
    """A key confirms nothing that the person asked for who made it, nor they what it asked for; of others it does."""
    request = asked(world, campaign, None)
    key = world.post("api-keys", name="Approves", role="finance")["key"]
    with world.service.client(headers={"Authorization": f"Bearer {key}"}) as program:
        refused = program.post(f"/api/v1/approvals/{request['request_id']}/confirm")
        assert (refused.status_code, refused.json()["code"]) == (403, "second_person_needed")
        program.patch(f"/api/v1/campaigns/{campaign}", json={"budget_micros": 2 * LIMIT}).raise_for_status()
        request = world.get(f"campaigns/{campaign}")["budget_request"]
        assert world.admin.post(f"/api/v1/approvals/{request['request_id']}/confirm").status_code == 403
        finance.patch(f"/api/v1/campaigns/{campaign}", json={"budget_micros": 3 * LIMIT}).raise_for_status()
        request = world.get(f"campaigns/{campaign}")["budget_request"]
        assert program.post(f"/api/v1/approvals/{request['request_id']}/confirm").status_code == 200
    assert world.get(f"campaigns/{campaign}")["budget_micros"] == 3 * LIMIT


def test_a_budget_that_is_refused_never_comes_to_be(world: World, finance: httpx.Client, campaign: str) -> None:
    """Whoever may spend turns it down, and the campaign goes on with what it has."""
    request = asked(world, campaign, 2 * LIMIT)
    assert finance.post(f"/api/v1/approvals/{request['request_id']}/refuse").status_code == 200
    assert finance.post(f"/api/v1/approvals/{request['request_id']}/confirm").status_code == 409
    found = world.get(f"campaigns/{campaign}")
    assert (found["budget_micros"], found["budget_request"]) == (LIMIT, None)


def test_a_campaign_starts_with_what_one_person_may_allow(world: World, policy: dict[str, Any]) -> None:
    """A draft with more, or with no limit, is activated with the limit while the rest waits."""
    assert policy
    for micros in (2 * LIMIT, None):
        campaign_id = world.campaign(currency=CURRENCY, budget_micros=micros)
        world.post(f"campaigns/{campaign_id}/activate", expect=200)
        found = world.get(f"campaigns/{campaign_id}")
        assert (found["status"], found["budget_micros"]) == ("active", LIMIT)
        assert found["budget_request"]["requested_micros"] == micros


def test_the_policy_is_in_the_log(world: World, policy: dict[str, Any]) -> None:
    """It is read by everybody who reads, replaced as a whole under its version, and every change of it is an entry."""
    shown = world.admin.get(POLICY)
    assert shown.json() == policy
    stale = world.admin.put(POLICY, json={"limits": []}, headers={"If-Match": '"0"'})
    assert stale.status_code == 412
    higher = {"limits": [*policy["limits"], {"currency": "KMF", "above_micros": 5}]}
    raised = world.admin.put(POLICY, json=higher, headers={"If-Match": shown.headers["ETag"]})
    assert raised.status_code == 200, raised.text
    assert world.admin.get(POLICY).json() == higher
    stream = {"stream": f"policy-{raised.json()['id']}"}
    entries = world.admin.get("/audit/v1/events", params=stream).json()["items"]
    assert len(entries) == raised.json()["version"] >= 2
    assert "budget_policy_set" in entries[-1]["entry"]
    for wrong, code in (({"currency": "XQQ"}, "unknown_currency"), ({"currency": CURRENCY}, "limits_inconsistent")):
        limits = [*policy["limits"], {"above_micros": 1, **wrong}]
        refused = world.admin.put(POLICY, json={"limits": limits})
        assert (refused.status_code, refused.json()["code"]) == (422, code)
        assert refused.json()["errors"][0]["pointer"] == "/limits/1/currency"

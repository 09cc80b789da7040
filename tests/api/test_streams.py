"""The log as it streams: all of it as NDJSON, and followed as server-sent events."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from msgspec import structs

from api import streams
from api.streams import Selection
from domain.events import CampaignChanged
from infra.database import Pool
from tests.running import Service
from tests.world import World
from tests.writing import appending, committed, drafted

EVENTS = "/audit/v1/events"
NDJSON = {"Accept": "application/x-ndjson"}
TAIL = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def service(own_service: Service) -> Service:
    """A service whose log is this module's alone."""
    return own_service


@pytest.fixture(scope="module")
def grown(service: Service, admin: httpx.Client) -> str:
    """A log of more than two pages, and the campaign that it is mostly about."""
    world = World(service, admin)
    lines(world, limit=1)  # of which the log is told, and not again for a while
    campaign_id, _ = world.active_campaign()
    slot_id, ads = world.slot()
    tokens: list[str] = []
    world.served(ads, slot_id)
    while len(tokens) < 1_100:
        placements = [{"id": str(number), "slot_id": slot_id, "count": 1} for number in range(20)]
        answer = ads.post("/ads/v1/decisions", json={"id": "r", "placements": placements}).json()
        tokens += [ad["impression_url"].rsplit("/")[-1] for each in answer["decisions"] for ad in each["ads"]]
    for first in range(0, len(tokens), 500):
        results = ads.post("/ads/v1/events", json={"tokens": tokens[first : first + 500]}).json()
        assert {each["result"] for each in results["results"]} == {"recorded"}
    ads.close()
    return campaign_id


def lines(world: World, **params: Any) -> list[dict[str, Any]]:
    """Return entries as NDJSON has them."""
    answer = world.admin.get(EVENTS, params=params, headers=NDJSON)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def followed(client: httpx.Client, count: int, last: int | None = None, **params: Any) -> list[tuple[int, Any]]:
    """Return the first events of a tail, each with its id."""
    headers = TAIL | ({} if last is None else {"Last-Event-ID": str(last)})
    found: list[tuple[int, Any]] = []
    with client.stream("GET", EVENTS, params=params, headers=headers) as answer:
        assert answer.headers["Content-Type"].partition(";")[0] == "text/event-stream"
        for event in events(answer.iter_lines()):
            found.append(event)
            if len(found) == count:
                break
    return found


def events(received: Iterator[str]) -> Iterator[tuple[int, Any]]:
    """Yield id and data of server-sent events."""
    position = 0
    for line in received:
        if line.startswith("id: "):
            position = int(line.removeprefix("id: "))
        elif line.startswith("data: "):
            yield position, json.loads(line.removeprefix("data: "))


def test_the_whole_log_streams(world: World, grown: str) -> None:
    """Without a limit NDJSON is the whole log, gapless, over however many pages; with one it is as many."""
    found = lines(world)
    assert [each["position"] for each in found] == list(range(1, len(found) + 1))
    assert len(found) > 1_100
    assert [each["position"] for each in lines(world, after=1_050, limit=7)] == list(range(1_051, 1_058))
    page = world.admin.get(EVENTS, params={"after": 3, "limit": 5}).json()
    assert page["items"] == found[3:8]
    assert len(world.admin.get(EVENTS).json()["items"]) == 50
    assert grown in found[-1]["entry"]


def test_entries_are_chosen_by_actor_and_time(world: World, grown: str) -> None:
    """Filters leave what one actor did, and what was recorded from one moment to another, both included."""
    user = f"user:{world.get('auth/me')['id']}"
    by_user = [json.loads(each["entry"]) for each in lines(world, actor=user)]
    assert {each["actor"] for each in by_user} == {user}
    assert len(by_user) < 50
    assert lines(world, actor="nobody") == []
    first, second, third = (datetime.fromisoformat(each["recorded_at"]) for each in by_user[:3])
    between = lines(world, **{"from": second.isoformat(), "to": third.isoformat()})
    assert [json.loads(each["entry"])["version"] for each in between] == [each["version"] for each in by_user[1:3]]
    past_first = (first + timedelta(microseconds=1)).isoformat()
    assert lines(world, **{"from": past_first, "to": second.isoformat()}) == between[:1]
    assert [each["position"] for each in lines(world, **{"from": 3, "to": 5})] == [3, 4, 5]
    for params, status in (({"to": 10**6}, 422), ({"from": "then"}, 400)):
        assert world.admin.get(EVENTS, params=params, headers=NDJSON).status_code == status
    assert grown


def test_the_log_is_followed(world: World, grown: str) -> None:
    """A tail has what is there and what is written while it is open, and resumes after the last event received."""
    found = lines(world)
    begun = followed(world.admin, 1_020)
    assert begun == [(each["position"], each) for each in found[:1_020]]
    other = world.service.signed_in()  # which is an entry as well
    last = lines(world)[-1]["position"]
    with world.admin.stream("GET", EVENTS, params={"after": last}, headers=TAIL) as answer:
        arriving = events(answer.iter_lines())
        other.patch(f"/api/v1/campaigns/{grown}", json={"name": "While it is followed"}).raise_for_status()
        position, data = next(arriving)
        assert position == last + 1
        assert "While it is followed" in data["entry"]
        other.close()
    assert followed(world.admin, 1, last=last) == [(last + 1, data)]
    assert followed(world.admin, 1, last=last - 1, after=3)[0][0] == last
    assert followed(world.admin, 1, type="campaign_changed") == [(last + 1, data)]


def test_changes_are_shown_with_what_was_before(world: World) -> None:
    """A change comes with what the fields that it sets were before, in each form; nothing else has a before."""
    campaign_id = world.campaign(name="First", budget_micros=1_000_000)
    for body in ({"name": "Second"}, {"name": "Third", "budget_micros": None, "description": "New"}):
        world.admin.patch(f"/api/v1/campaigns/{campaign_id}", json=body).raise_for_status()
    stream = {"stream": f"campaign-{campaign_id}"}
    expected = [
        None,
        {"name": "First"},
        {"name": "Second", "budget_micros": 1_000_000, "description": ""},
    ]
    page = world.admin.get(EVENTS, params=stream).json()["items"]
    assert [each.get("before") for each in page] == expected
    assert lines(world, **stream) == [data for _, data in followed(world.admin, 3, None, **stream)] == page
    assert [each["before"] for each in lines(world, **stream, type="campaign_changed", limit=1)] == expected[1:2]
    assert [each.get("before") for each in lines(world, **stream, after=page[1]["position"])] == expected[2:]


async def test_what_cannot_be_understood_can_be_read(pool: Pool, ledger_id: UUID) -> None:
    """An entry that no writer would write is shown as it is, and so is all that comes after it."""
    draft = appending(ledger_id, uuid4(), drafted(name="First"))
    change = structs.replace(draft, expected_version=1, events=(CampaignChanged(name="Second"),))
    async with pool.connection() as connection:
        await committed(connection, ledger_id, draft, change)
        read = await streams.read(pool, ledger_id, Selection(), limit=9)
        assert [each.before for each in read] == [None, {"name": "First"}]
        await connection.execute(
            """
            INSERT INTO events
            SELECT ledger_id, 3, stream_id, 3, type, recorded_at, replace(entry::text, '"Second"', '2')::json
            FROM events WHERE ledger_id = %s AND position = 2
            """,
            (ledger_id,),
        )
        found = await streams.read(pool, ledger_id, Selection(), limit=9)
    assert [each.entry for each in found[:2]] == [each.entry for each in read]
    assert '"name":2' in found[2].entry


@pytest.mark.parametrize("last", ["", "x", "-1", "2026-03-01T00:00:00Z"])
def test_what_cannot_be_resumed(world: World, last: str) -> None:
    """Last-Event-ID is a position."""
    for accepted in (TAIL, NDJSON, {}):
        answer = world.admin.get(EVENTS, headers=accepted | {"Last-Event-ID": last})
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_a_tail_is_for_auditors(service: Service) -> None:
    """Whoever has no token does not follow."""
    with service.client() as client:
        assert client.get(EVENTS, headers=TAIL).status_code == 401


def test_a_tail_does_not_keep_the_service_from_stopping(service: Service, grown: str) -> None:
    """The service stops while somebody follows, and takes no longer for it."""
    assert grown
    with closing(service.signed_in()) as client, client.stream("GET", EVENTS, headers=TAIL) as answer:
        arriving = events(answer.iter_lines())
        next(arriving)
        begun = monotonic()
        service.stop()
        assert monotonic() - begun < 15

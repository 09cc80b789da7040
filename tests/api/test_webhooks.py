"""Webhooks, told over HTTP by a real service to a real receiver, while the service is killed as well."""

import asyncio
import base64
import hmac
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple
from uuid import uuid4

import psycopg
import pytest
from standardwebhooks import Webhook

from projections import budgets, campaigns, rebuild
from tests.api.pages import eventually
from tests.databases import fresh_database
from tests.faults.test_points import GATE, gated
from tests.receiver import Receiver, Told, receiving
from tests.running import Service, killed, running
from tests.world import World

RETRIES: Final = 2
SETTINGS: Final = {
    "LEDGER_WEBHOOK_NETWORKS": "127.0.0.1",
    "LEDGER_MESSAGE_RETRY_SECONDS": ",".join(["0.05"] * RETRIES),
}
GATES: Final = {
    change: (
        f"""
        CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock_shared({GATE});
            RETURN NULL;
        END $$
        """,
        f"""
        CREATE CONSTRAINT TRIGGER gate AFTER {change} ON outbox DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait_at_gate()
        """,
        "DROP FUNCTION wait_at_gate CASCADE",
    )
    for change in ("INSERT", "UPDATE", "DELETE")
}
"""Whoever changes the outbox waits here, in the act of committing."""


class Subscribed(NamedTuple):
    """A webhook of a test: its id, its secret, and what its receiver got."""

    id: str
    secret: str
    told: Callable[[], list[Told]]
    answers: Callable[[int], None]


@contextmanager
def sending(cluster_url: str, settings: dict[str, str]) -> Iterator[Service]:
    """A service that sends messages, on a database of its own."""
    with (
        fresh_database(cluster_url, "ledger") as url,
        TemporaryDirectory() as folder,
        running(Path(folder) / "data", database_url=url, settings=settings) as started,
    ):
        yield started


@pytest.fixture(scope="module")
def service(cluster_url: str) -> Iterator[Service]:
    """A service that may call this machine."""
    with sending(cluster_url, SETTINGS) as started:
        yield started


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """A receiver in a process of its own."""
    with TemporaryDirectory() as folder, receiving(Path(folder)) as started:
        yield started


@pytest.fixture
def subscribe(world: World, receiver: Receiver) -> Iterator[Callable[..., Subscribed]]:
    """Subscribe a path of the receiver to types of events; deleted in the end, so that it disturbs no other test."""
    made: list[str] = []

    def subscribed(*event_types: str) -> Subscribed:
        path = uuid4().hex
        added = world.post("webhooks", url=receiver.url(path), event_types=event_types)
        made.append(added["id"])
        return Subscribed(
            added["id"], added["secret"], lambda: receiver.told(path), lambda status: receiver.answers(path, status)
        )

    yield subscribed
    for webhook in made:
        world.admin.delete(f"/api/v1/webhooks/{webhook}")


def types_of(told: list[Told]) -> list[str]:
    """Return the types of events that a receiver was told of."""
    return [each.said["type"] for each in told]


def renamed(world: World, campaign_id: str, *names: str) -> None:
    """Give a campaign one name after the other."""
    for name in names:
        assert world.admin.patch(f"/api/v1/campaigns/{campaign_id}", json={"name": name}).status_code == 200


def names_in(told: list[Told]) -> list[str]:
    """Return the names that campaigns were given, in the order in which they were told."""
    return [each.said["data"]["entry"]["event"]["name"] for each in told]


def test_a_message_holds_the_entry_and_is_signed(world: World, subscribe: Callable[..., Subscribed]) -> None:
    """A receiver is told of the types it asked for, with the entry's exact bytes, under the signature of its secret."""
    campaign_id = world.campaign()
    webhook = subscribe("campaign_changed", "campaign_activated")
    renamed(world, campaign_id, "Told")
    world.creative(campaign_id)
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    eventually(lambda: len(webhook.told()) == 2)
    changed, activated = webhook.told()
    assert types_of([changed, activated]) == ["campaign_changed", "campaign_activated"]
    for each in (changed, activated):
        Webhook(webhook.secret).verify(each.body, each.headers)
        # As the specification has it, without the library: base64 of the HMAC of id, time and body, with dots between.
        signed = f"{each.id}.{each.headers['webhook-timestamp']}.{each.body}".encode()
        key = base64.b64decode(webhook.secret.removeprefix("whsec_"))
        expected = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
        assert each.headers["webhook-signature"] == expected
        position = each.said["data"]["position"]
        answer = world.admin.get("/audit/v1/events", params={"after": position - 1, "limit": 1})
        (line,) = answer.json()["items"]
        assert line["entry"] in each.body
        assert each.said["timestamp"] == json.loads(line["entry"])["recorded_at"]
    assert activated.id != changed.id


def test_secrets_are_shown_once(world: World, subscribe: Callable[..., Subscribed]) -> None:
    """A secret is in the answer that adds a webhook and in no other; every webhook has its own."""
    first, second = subscribe("campaign_changed"), subscribe("campaign_changed")
    assert first.secret != second.secret
    assert len(base64.b64decode(first.secret.removeprefix("whsec_"))) == 32
    listed = world.admin.get("/api/v1/webhooks").text
    assert first.id in listed
    assert first.secret not in listed
    with world.service.database() as url, psycopg.connect(url) as connection:
        kept = connection.execute("SELECT secret FROM webhooks").fetchall()
    raw = base64.b64decode(first.secret.removeprefix("whsec_"))
    assert not any(raw in row[0] for row in kept)


def test_what_fails_is_tried_again_in_order(world: World, subscribe: Callable[..., Subscribed]) -> None:
    """A message that is not taken is sent again under its id, and what follows in its stream waits for it."""
    campaign_id, other = world.campaign(), world.campaign()
    webhook = subscribe("campaign_changed")
    webhook.answers(500)
    renamed(world, campaign_id, "One", "Two")
    renamed(world, other, "Other")
    eventually(lambda: {"One", "Other"} <= set(names_in(webhook.told())))
    assert "Two" not in names_in(webhook.told())
    webhook.answers(204)
    world.post(f"webhooks/{webhook.id}/retry", expect=200)
    eventually(lambda: "Two" in names_in(webhook.told()))
    tried = [each for each in webhook.told() if names_in([each]) == ["One"]]
    assert len(tried) > 1
    assert len({each.id for each in tried}) == 1
    assert len({each.body for each in tried}) == 1
    eventually(lambda: [world.get(f"webhooks/{webhook.id}")[name] for name in ("error", "waiting")] == ["", 0])


def test_what_is_never_taken_is_parked_and_shown(world: World, subscribe: Callable[..., Subscribed]) -> None:
    """What fails after the last wait is parked; its stream waits until it is skipped, or taken after all."""
    campaign_id = world.campaign()
    webhook = subscribe("campaign_changed")
    webhook.answers(503)
    renamed(world, campaign_id, "One", "Two")
    eventually(lambda: world.get(f"webhooks/{webhook.id}")["parked"] == 1)
    (parked,) = world.admin.get(f"/api/v1/webhooks/{webhook.id}/parked").json()
    assert (parked["stream"], parked["attempts"]) == (f"campaign-{campaign_id}", RETRIES + 1)
    assert "503" in parked["error"]
    assert names_in(webhook.told()) == ["One"] * (RETRIES + 1)
    shown = world.get(f"webhooks/{webhook.id}")
    assert (shown["waiting"], shown["delivered_at"]) == (1, None)
    webhook.answers(204)
    path = f"/api/v1/webhooks/{webhook.id}/parked/{parked['position']}"
    assert world.admin.delete(path).status_code == 204
    assert world.admin.delete(path).status_code == 404
    eventually(lambda: names_in(webhook.told())[-1] == "Two")


@pytest.mark.parametrize(("status", "attempts"), [(410, 1), (307, RETRIES + 1)])
def test_answers_that_are_not_yes(
    world: World, receiver: Receiver, subscribe: Callable[..., Subscribed], status: int, attempts: int
) -> None:
    """Who says Gone is not asked again, and whoever sends elsewhere is not followed."""
    campaign_id = world.campaign()
    webhook = subscribe("campaign_changed")
    webhook.answers(status)
    renamed(world, campaign_id, "One")
    eventually(lambda: world.get(f"webhooks/{webhook.id}")["parked"] == 1)
    assert len(webhook.told()) == attempts
    assert receiver.told("elsewhere") == []


def test_a_replay_tells_again_under_the_same_ids(world: World, subscribe: Callable[..., Subscribed]) -> None:
    """From a position on, a webhook is told again, of what was recorded before it was added as well."""
    campaign_id = world.campaign()
    receipt = world.admin.patch(f"/api/v1/campaigns/{campaign_id}", json={"name": "One"}).json()
    webhook = subscribe("campaign_changed")
    renamed(world, campaign_id, "Two")
    eventually(lambda: names_in(webhook.told()) == ["Two"])
    world.post(f"webhooks/{webhook.id}/replay", expect=200, position=receipt["position"] - 1)
    eventually(lambda: names_in(webhook.told()) == ["Two", "One", "Two"])
    first, _, again = webhook.told()
    assert (first.id, first.body) == (again.id, again.body)


def test_making_read_models_anew_tells_nobody(world: World, subscribe: Callable[..., Subscribed]) -> None:
    """What is sent hangs on the log and on its own position: a rebuild sends nothing."""
    campaign_id = world.campaign()
    webhook = subscribe("campaign_changed")
    renamed(world, campaign_id, "One")
    eventually(lambda: names_in(webhook.told()) == ["One"])
    with world.service.database() as url:
        for projection in (campaigns.PROJECTION, budgets.PROJECTION):
            asyncio.run(rebuild.rebuild(url, projection, lambda _: None))
    renamed(world, campaign_id, "Two")
    eventually(lambda: "Two" in names_in(webhook.told()))
    assert names_in(webhook.told()) == ["One", "Two"]


def test_who_is_deleted_is_told_nothing_more(world: World, subscribe: Callable[..., Subscribed]) -> None:
    """A deleted webhook is gone, with what waited for it."""
    campaign_id = world.campaign()
    webhook, witness = subscribe("campaign_changed"), subscribe("campaign_changed")
    webhook.answers(500)
    renamed(world, campaign_id, "One")
    eventually(lambda: names_in(webhook.told()) != [])
    assert world.admin.delete(f"/api/v1/webhooks/{webhook.id}").status_code == 204
    assert world.admin.get(f"/api/v1/webhooks/{webhook.id}").status_code == 404
    renamed(world, campaign_id, "Two")
    eventually(lambda: names_in(witness.told()) == ["One", "Two"])
    assert "Two" not in names_in(webhook.told())
    with world.service.database() as url, psycopg.connect(url) as connection:
        left = connection.execute("SELECT count(*) FROM outbox WHERE subscriber = %s", (webhook.id,)).fetchone()
    assert left == (0,)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"url": "https://10.0.0.1/hook"}, "destination_refused"),
        ({"url": "https://[::1]/hook"}, "destination_refused"),
        ({"url": "https://[::ffff:10.0.0.1]/hook"}, "destination_refused"),
        ({"url": "https://169.254.169.254/latest"}, "destination_refused"),
        ({"url": "http://192.0.2.1/hook"}, "destination_refused"),
        ({"event_types": ["campaign_changed", "campaign_vanished"]}, "unknown_event_type"),
    ],
)
def test_who_cannot_be_told(world: World, fields: dict[str, Any], code: str) -> None:
    """Nobody in a private network is told that the operator has not allowed, nor of events that there are not."""
    webhook = {"url": "https://hooks.example/", "event_types": ["campaign_changed"], **fields}
    assert world.post("webhooks", expect=422, **webhook)["code"] == code


def test_there_are_only_so_many(world: World, subscribe: Callable[..., Subscribed]) -> None:
    """A ledger has at most 20 webhooks."""
    for _ in range(20 - len(world.admin.get("/api/v1/webhooks").json())):
        subscribe("campaign_changed")
    refused = world.post("webhooks", expect=409, url="https://hooks.example/", event_types=["campaign_changed"])
    assert refused["code"] == "too_many_webhooks"


def killed_at(service: Service, change: str, act: Callable[[], None], reached: Callable[[], bool]) -> None:
    """Kill the background worker when it waits to commit a change of the outbox, which is undone."""
    with service.database() as url:
        with gated(url, *GATES[change]) as is_waiting:
            act()
            eventually(lambda: is_waiting() and reached())
            before = service.background()
            killed([before])
            with psycopg.connect(url, autocommit=True) as owner:  # the database learns of it only when it answers
                owner.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND wait_event_type = 'Lock' AND wait_event = 'advisory'"
                )
        eventually(lambda: service.background() != before)


def test_killed_between_event_and_message(service: Service, world: World, subscribe: Callable[..., Subscribed]) -> None:
    """A worker that dies before its message is in the outbox has moved no position: the next one sends it, once."""
    campaign_id = world.campaign()
    webhook = subscribe("campaign_changed")
    killed_at(service, "INSERT", lambda: renamed(world, campaign_id, "One"), lambda: webhook.told() == [])
    renamed(world, campaign_id, "Two")
    eventually(lambda: "Two" in names_in(webhook.told()))
    assert names_in(webhook.told()) == ["One", "Two"]


def test_killed_between_message_and_acknowledgement(
    service: Service, world: World, subscribe: Callable[..., Subscribed]
) -> None:
    """A worker that dies before it could note that a message was taken sends it again: the same one, by its id."""
    campaign_id = world.campaign()
    webhook = subscribe("campaign_changed")
    killed_at(
        service, "DELETE", lambda: renamed(world, campaign_id, "One"), lambda: names_in(webhook.told()) == ["One"]
    )
    renamed(world, campaign_id, "Two")
    eventually(lambda: "Two" in names_in(webhook.told()))
    assert names_in(webhook.told()) == ["One", "One", "Two"]
    assert len({(each.id, each.body) for each in webhook.told()}) == 2

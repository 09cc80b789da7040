"""Webhooks: signatures by the published examples, secrets that outlive the key they are kept under, and the outbox."""

import base64
import os
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from domain.errors import NotFound
from infra import clock, outbox, webhooks
from infra.database import Connection, Pool
from infra.keys import Keys
from infra.webhooks import Route, SecretLost

URL: Final = "https://hooks.example/"


def keys_of(*generations: bytes) -> Keys:
    """Return the secrets of a process with these generations."""
    return Keys(generations=generations, signing_key=Ed25519PrivateKey.generate(), public_keys={}, kid="")


def test_the_published_example_is_signed_so() -> None:
    """The example that implementations of Standard Webhooks publish has the signature that they publish."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    sent_at = datetime.fromtimestamp(1_614_265_330, UTC)
    headers = webhooks.signed(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', sent_at)
    assert headers["Webhook-Timestamp"] == "1614265330"
    assert headers["Webhook-Signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_entry_is_sent_as_it_is() -> None:
    """What is sent of an entry holds its very bytes, in whatever order its fields are."""
    entry = '{"b": 1,  "a": "\\u00e9"}'
    body = webhooks.body_of("campaign_changed", datetime(2026, 1, 2, tzinfo=UTC), 7, entry)
    assert entry in body.decode()
    assert msgspec.json.decode(body) == {
        "type": "campaign_changed",
        "timestamp": "2026-01-02T00:00:00Z",
        "data": {"position": 7, "entry": {"b": 1, "a": "é"}},
    }


async def added(connection: Connection, keys: Keys, ledger_id: UUID) -> tuple[Route, bytes]:
    """Add a webhook; return what sending to it takes, and its secret."""
    types = ["campaign_changed"]
    webhook_id, shown = await webhooks.create(
        connection, keys, ledger_id, url=URL, event_types=types, actor="user:somebody"
    )
    (route,) = [each for each in await webhooks.routes(connection) if each.id == webhook_id]
    return route, base64.b64decode(shown.removeprefix(webhooks.SECRET_PREFIX))


async def test_a_secret_outlives_the_key_it_is_kept_under(pool: Pool, ledger_id: UUID) -> None:
    """A secret that the key before opens is kept under the current one; when neither opens it, that is said."""
    old, new = os.urandom(32), os.urandom(32)
    async with pool.connection() as connection:
        route, secret = await added(connection, keys_of(old), ledger_id)
        assert webhooks.decrypted(keys_of(old), route) == (secret, True)
        assert webhooks.decrypted(keys_of(new, old), route) == (secret, False)
        with pytest.raises(SecretLost):
            webhooks.decrypted(keys_of(new), route)
        await webhooks.encrypt_again(connection, keys_of(new, old), route, secret)
        (renewed,) = await webhooks.routes(connection)
    assert webhooks.decrypted(keys_of(new), renewed) == (secret, True)


async def test_a_secret_is_bound_to_its_webhook(pool: Pool, ledger_id: UUID) -> None:
    """The secret of one webhook, copied into the row of another, opens there for nobody."""
    keys = keys_of(os.urandom(32))
    async with pool.connection() as connection:
        first, _ = await added(connection, keys, ledger_id)
        second, _ = await added(connection, keys, ledger_id)
    with pytest.raises(SecretLost):
        webhooks.decrypted(keys, msgspec.structs.replace(second, secret=first.secret))


async def test_another_ledger_has_other_webhooks(pool: Pool, ledger_id: UUID) -> None:
    """Nobody finds, deletes or replays a webhook from another ledger."""
    stranger = clock.fresh_id()
    async with pool.connection() as connection:
        route, _ = await added(connection, keys_of(os.urandom(32)), ledger_id)
        assert await webhooks.read(connection, stranger) == []
        for act in (webhooks.read_one, webhooks.delete, webhooks.retry, webhooks.parked):
            with pytest.raises(NotFound):
                await act(connection, stranger, route.id)
        with pytest.raises(NotFound):
            await webhooks.replay(connection, stranger, route.id, 0)
        assert len(await webhooks.read(connection, ledger_id)) == 1


async def test_of_each_stream_the_first_is_sent(pool: Pool, ledger_id: UUID) -> None:
    """What is behind another message of its stream is not due, while that one is put off or parked as well."""
    async with pool.connection() as connection:
        await outbox.begin(connection, ledger_id, "somebody")
        for name in ("one", "two"):
            assert await outbox.put(connection, ledger_id, "somebody", name)
            assert not await outbox.put(connection, ledger_id, "somebody", name)
        await connection.execute("UPDATE outbox SET stream = 'both', position = length(name) + (name > 'p')::int")
        (first,) = await outbox.due(connection, ledger_id, "somebody", limit=9)
        assert not await outbox.failed(connection, first, "no", [3_600])
        assert await outbox.due(connection, ledger_id, "somebody", limit=9) == []
        assert await outbox.failed(connection, first, "no", [])
        assert await outbox.due(connection, ledger_id, "somebody", limit=9) == []
        await outbox.forget(connection, first)
        (second,) = await outbox.due(connection, ledger_id, "somebody", limit=9)
        await outbox.sent(connection, second)
        assert await outbox.due(connection, ledger_id, "somebody", limit=9) == []
    assert [first.name, second.name] == ["one", "two"]

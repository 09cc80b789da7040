"""Webhooks: URLs that are told of events as they are recorded, signed by the rules of Standard Webhooks.

The secret of a webhook is shown once and kept encrypted, under a key that the secret of the process gives.
"""

import base64
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final, get_args
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Raw, Struct
from standardwebhooks import Webhook as Signer

from domain.errors import NotFound, Refusal
from domain.events import Event
from infra import clock, outbox
from infra.database import Connection, as_structs
from infra.keys import Keys
from infra.ledger_keys import derived

WEBHOOKS_MAX: Final = 20
SECRET_BYTES: Final = 32
NONCE_BYTES: Final = 12
SECRET_PREFIX: Final = "whsec_"  # noqa: S105  what every secret begins with
"""As Standard Webhooks has it, so that scanners of source code find one that was published by mistake."""

EVENT_TYPES: Final = frozenset(str(kind.__struct_config__.tag) for kind in get_args(Event))


class Webhook(Struct, frozen=True, kw_only=True):
    """A URL that is told of events of some types.

    It was told of all up to `position` but those that are `waiting` to be sent, or `parked` because they could not be
    sent; what follows one of these in its stream waits as well. `error` is what failed last, if nothing was sent since.
    """

    id: UUID
    url: str
    event_types: tuple[str, ...]
    created_at: datetime
    created_by: str
    position: int
    waiting: int
    parked: int
    delivered_at: datetime | None
    error: str


class Parked(Struct, frozen=True, kw_only=True):
    """An event that could not be sent, however often it was tried; what follows it in its stream waits."""

    position: int
    stream: str
    attempts: int
    error: str
    parked_at: datetime


class Route(Struct, frozen=True, kw_only=True):
    """What sending to a webhook takes; `secret` is encrypted."""

    ledger_id: UUID
    id: UUID
    url: str
    event_types: tuple[str, ...]
    secret: bytes


class SecretLost(Exception):
    """The secret of the webhook is encrypted under a LEDGER_SECRET_KEY that is not there any more."""


class TooManyWebhooks(Refusal):
    """A ledger has only so many webhooks."""

    kind = "conflict"
    code = "too_many_webhooks"


class UnknownEventType(Refusal):
    """There are no events of that type."""

    code = "unknown_event_type"


_INSERT: Final = """
    INSERT INTO webhooks (ledger_id, id, url, event_types, secret, created_at, created_by, error)
    VALUES (
        %(ledger_id)s, %(id)s, %(url)s, %(event_types)s, %(secret)s, %(created_at)s, %(created_by)s, ''
    )
"""

_READ: Final = """
    SELECT id, url, event_types, created_at, created_by, position, delivered_at, error, waiting, parked
    FROM webhooks
    JOIN subscribers ON subscribers.ledger_id = webhooks.ledger_id AND subscriber = id::text
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE parked_at IS NULL) AS waiting, count(parked_at) AS parked FROM outbox
        WHERE ledger_id = %(ledger_id)s AND subscriber = id::text AND sent_at IS NULL
    ) AS left_over
    WHERE webhooks.ledger_id = %(ledger_id)s AND (%(id)s::uuid IS NULL OR id = %(id)s) ORDER BY id
"""

_ROUTES: Final = f"SELECT {', '.join(Route.__struct_fields__)} FROM webhooks"

_PARKED: Final = """
    SELECT position, stream, attempts, error, parked_at FROM outbox
    WHERE ledger_id = %(ledger_id)s AND subscriber = %(subscriber)s AND parked_at IS NOT NULL AND sent_at IS NULL
    ORDER BY position
"""

_RETRY: Final = """
    UPDATE outbox SET parked_at = NULL, attempts = 0, due_at = %(now)s
    WHERE ledger_id = %(ledger_id)s AND subscriber = %(subscriber)s AND sent_at IS NULL
"""

_SKIP: Final = """
    DELETE FROM outbox WHERE ledger_id = %(ledger_id)s AND subscriber = %(subscriber)s AND position = %(position)s
        AND parked_at IS NOT NULL AND sent_at IS NULL
"""

# What a range of the log has for a webhook; the first so many, from which on it is read the next time.
_COLLECT: Final = """
    INSERT INTO outbox (ledger_id, subscriber, name, position, stream, created_at, attempts, due_at, error)
    SELECT ledger_id, %(subscriber)s, position::text AS name, position, stream_id, %(now)s, 0, %(now)s, ''
    FROM events
    WHERE ledger_id = %(ledger_id)s AND position > %(after)s AND position <= %(until)s AND type = ANY(%(types)s)
    ORDER BY position LIMIT %(limit)s
    RETURNING position
"""

_EVENT: Final = """
    SELECT type, recorded_at, entry::text AS entry FROM events
    WHERE ledger_id = %(ledger_id)s AND position = %(position)s
"""

_SAY: Final = """
    UPDATE webhooks SET delivered_at = coalesce(%(delivered_at)s, delivered_at), error = %(error)s
    WHERE ledger_id = %(ledger_id)s AND id = %(id)s
"""

SPAN_ENTRIES: Final = 100_000
"""So much of the log is looked through at once for events of some types."""


async def create(
    connection: Connection, keys: Keys, ledger_id: UUID, *, url: str, event_types: Sequence[str], actor: str
) -> tuple[UUID, str]:
    """Add a webhook, which is told of what is recorded from now on; return its id and its secret, shown this once.

    Raises UnknownEventType or TooManyWebhooks.
    """
    for number, name in enumerate(event_types):
        if name not in EVENT_TYPES:
            raise UnknownEventType(f"There are no events of the type {name}.", pointer=f"/event_types/{number}")
    webhook_id, secret = clock.fresh_id(), secrets.token_bytes(SECRET_BYTES)
    row = {"ledger_id": ledger_id, "id": webhook_id, "url": url, "event_types": list(dict.fromkeys(event_types))}
    row |= {"secret": encrypted(keys, ledger_id, webhook_id, secret), "created_at": clock.now(), "created_by": actor}
    async with connection.transaction():
        await connection.execute("SELECT FROM ledger_heads WHERE ledger_id = %s FOR UPDATE", (ledger_id,))
        if len(await read(connection, ledger_id)) >= WEBHOOKS_MAX:
            raise TooManyWebhooks(f"A ledger has at most {WEBHOOKS_MAX} webhooks; delete one first.")
        await connection.execute(_INSERT, row)
        await outbox.begin(connection, ledger_id, str(webhook_id))
    return webhook_id, SECRET_PREFIX + base64.b64encode(secret).decode()


async def read(connection: Connection, ledger_id: UUID) -> list[Webhook]:
    """Return the webhooks of a ledger, in the order in which they were added."""
    cursor = await connection.execute(_READ, {"ledger_id": ledger_id, "id": None})
    return as_structs(await cursor.fetchall(), Webhook)


async def read_one(connection: Connection, ledger_id: UUID, webhook_id: UUID) -> Webhook:
    """Return a webhook; raise NotFound."""
    cursor = await connection.execute(_READ, {"ledger_id": ledger_id, "id": webhook_id})
    found = as_structs(await cursor.fetchall(), Webhook)
    if not found:
        raise NotFound("webhook", webhook_id)
    return found[0]


async def delete(connection: Connection, ledger_id: UUID, webhook_id: UUID) -> None:
    """Delete a webhook and all that it was to be sent; raise NotFound."""
    async with connection.transaction():
        await read_one(connection, ledger_id, webhook_id)
        await connection.execute("DELETE FROM webhooks WHERE ledger_id = %s AND id = %s", (ledger_id, webhook_id))
        await outbox.end(connection, ledger_id, str(webhook_id))


async def replay(connection: Connection, ledger_id: UUID, webhook_id: UUID, position: int) -> None:
    """Send again what was recorded after a position, under the ids it had; raise NotFound."""
    await read_one(connection, ledger_id, webhook_id)
    await outbox.go_back(connection, ledger_id, str(webhook_id), position)


async def parked(connection: Connection, ledger_id: UUID, webhook_id: UUID) -> list[Parked]:
    """Return what could not be sent to a webhook, in the order of positions; raise NotFound."""
    await read_one(connection, ledger_id, webhook_id)
    cursor = await connection.execute(_PARKED, {"ledger_id": ledger_id, "subscriber": str(webhook_id)})
    return as_structs(await cursor.fetchall(), Parked)


async def retry(connection: Connection, ledger_id: UUID, webhook_id: UUID) -> None:
    """Try to send all that is parked or waits, at once and as often as if it was new; raise NotFound."""
    await read_one(connection, ledger_id, webhook_id)
    await connection.execute(_RETRY, {"ledger_id": ledger_id, "subscriber": str(webhook_id), "now": clock.now()})


async def skip(connection: Connection, ledger_id: UUID, webhook_id: UUID, position: int) -> None:
    """Give up what is parked, so that what follows it in its stream is sent; raise NotFound."""
    parameters = {"ledger_id": ledger_id, "subscriber": str(webhook_id), "position": position}
    if not (await connection.execute(_SKIP, parameters)).rowcount:
        raise NotFound("parked event", position)


async def routes(connection: Connection) -> list[Route]:
    """Return what sending to every webhook of every ledger takes."""
    return as_structs(await (await connection.execute(_ROUTES)).fetchall(), Route)


async def collect(connection: Connection, route: Route) -> bool:
    """Put what is in the log for a webhook into the outbox, as far as there is room; return whether there is more."""
    subscriber = str(route.id)
    reach = await outbox.reach_of(connection, route.ledger_id, subscriber)
    if reach is None or reach.position >= reach.head:
        return False  # found without a lock, which would be written
    async with connection.transaction():
        reach = await outbox.lock(connection, route.ledger_id, subscriber)
        room = 0 if reach is None else outbox.WAITING_MAX - reach.waiting
        if reach is None or reach.position >= reach.head or room <= 0:
            return False
        until = min(reach.head, reach.position + SPAN_ENTRIES)
        parameters = {"ledger_id": route.ledger_id, "subscriber": subscriber, "types": list(route.event_types)}
        parameters |= {"after": reach.position, "until": until, "limit": room, "now": clock.now()}
        positions = [row["position"] for row in await (await connection.execute(_COLLECT, parameters)).fetchall()]
        end = max(positions) if len(positions) == room else until
        await outbox.move(connection, route.ledger_id, subscriber, end)
    return end < reach.head


async def read_event(connection: Connection, ledger_id: UUID, position: int) -> tuple[str, datetime, str]:
    """Return the type of an entry, when it was recorded, and its exact text."""
    parameters = {"ledger_id": ledger_id, "position": position}
    row = await (await connection.execute(_EVENT, parameters)).fetchone()
    assert row is not None  # noqa: S101  positions have no gaps, and the log is never cut
    return row["type"], row["recorded_at"], row["entry"]


async def say(connection: Connection, route: Route, *, delivered: bool, error: str) -> None:
    """Keep how sending to a webhook went, for whoever looks after it."""
    parameters = {"ledger_id": route.ledger_id, "id": route.id, "error": error[: outbox.ERROR_CHARACTERS_MAX]}
    await connection.execute(_SAY, parameters | {"delivered_at": clock.now() if delivered else None})


def message_id(webhook_id: UUID, position: int) -> str:
    """Return the id of what a webhook is told of an entry: the same, however often it is sent."""
    return f"msg_{webhook_id.hex}_{position}"


def body_of(event_type: str, recorded_at: datetime, position: int, entry: str) -> bytes:
    """Return what a webhook is sent of an entry, whose exact bytes it holds, so that its proof can be checked."""
    data = {"position": position, "entry": Raw(entry.encode())}
    return msgspec.json.encode({"type": event_type, "timestamp": recorded_at, "data": data})


def signed(secret: bytes, name: str, body: bytes, now: datetime) -> dict[str, str]:
    """Return the headers that Standard Webhooks asks for; a receiver checks them with any library for it."""
    return {
        "Content-Type": "application/json",
        "Webhook-Id": name,
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Signer(secret).sign(name, now, body.decode()),
    }


def encrypted(keys: Keys, ledger_id: UUID, webhook_id: UUID, secret: bytes) -> bytes:
    """Return a secret as it is kept: AES-256-GCM, bound to its webhook."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    key = AESGCM(derived(keys.generations[0], "webhook", ledger_id))
    return nonce + key.encrypt(nonce, secret, webhook_id.bytes)


def decrypted(keys: Keys, route: Route) -> tuple[bytes, bool]:
    """Return the secret of a webhook, and whether the current key encrypts it; raise SecretLost when none opens it."""
    nonce, text = route.secret[:NONCE_BYTES], route.secret[NONCE_BYTES:]
    for generation in keys.generations:
        key = AESGCM(derived(generation, "webhook", route.ledger_id))
        try:
            return key.decrypt(nonce, text, route.id.bytes), generation == keys.generations[0]
        except InvalidTag:
            continue
    raise SecretLost(SecretLost.__doc__)


async def encrypt_again(connection: Connection, keys: Keys, route: Route, secret: bytes) -> None:
    """Keep a secret under the current key, so that the one before can be taken away."""
    renewed = encrypted(keys, route.ledger_id, route.id, secret)
    await connection.execute(
        "UPDATE webhooks SET secret = %s WHERE ledger_id = %s AND id = %s", (renewed, route.ledger_id, route.id)
    )

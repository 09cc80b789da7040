"""The outbox: what is to be sent to whom, one message for each reason, whoever dies when.

A subscriber, which is a webhook or the mail of a ledger, has a position: so far the log was read for what to send.
Messages are inserted in the transaction that moves it, under names that say their reasons; so every reason is one
message, which carries the same id however often it has to be sent. Read models play no part in it: making them anew
sends nothing. It is the log that waits, not the outbox: a subscriber for whom too much waits is read for no further.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from infra import clock
from infra.database import Connection, as_structs

WAITING_MAX: Final = 1_000
ERROR_CHARACTERS_MAX: Final = 300


class Message(Struct, frozen=True, kw_only=True):
    """Something to be sent, after all that was put into its stream before it; `attempts` is how often it was tried."""

    ledger_id: UUID
    subscriber: str
    name: str
    position: int
    stream: str
    content: dict[str, Any] | None
    created_at: datetime
    attempts: int


class Reach(Struct, frozen=True, kw_only=True):
    """How far the log was read for a subscriber, how far it goes, and how much waits to be sent, or is parked of it."""

    position: int
    head: int
    command_position: int
    waiting: int
    parked: int


BEGIN: Final = """
    INSERT INTO subscribers (ledger_id, subscriber, position)
    SELECT ledger_id, %(subscriber)s, least(coalesce(%(position)s, position), position)
    FROM ledger_heads WHERE ledger_id = %(ledger_id)s
    ON CONFLICT (ledger_id, subscriber) DO NOTHING
"""

REACH: Final = """
    SELECT reached.position, head.position AS head, head.command_position, waiting, parked
    FROM subscribers AS reached JOIN ledger_heads AS head USING (ledger_id) CROSS JOIN LATERAL (
        SELECT count(*) AS waiting, count(parked_at) AS parked FROM outbox
        WHERE ledger_id = %(ledger_id)s AND subscriber = %(subscriber)s AND sent_at IS NULL
    ) AS unsent
    WHERE ledger_id = %(ledger_id)s AND subscriber = %(subscriber)s
"""

LOCK: Final = f"{REACH} FOR UPDATE OF reached"

MOVE: Final = """
    UPDATE subscribers SET position = %(position)s WHERE ledger_id = %(ledger_id)s AND subscriber = %(subscriber)s
"""

PUT: Final = """
    INSERT INTO outbox (
        ledger_id, subscriber, name, position, stream, content, created_at, attempts, due_at, sent_at, error
    )
    SELECT
        %(ledger_id)s, %(subscriber)s, name, %(position)s, name, content::json, %(now)s, 0, %(now)s,
        %(sent_at)s::timestamptz, ''
    FROM unnest(%(names)s::text[], %(contents)s::text[]) AS said (name, content)
    ON CONFLICT (ledger_id, subscriber, name) DO NOTHING
"""

# Of each stream the first that was not sent: what is behind it waits for it, while it is parked as well.
DUE: Final = f"""
    SELECT {", ".join(Message.__struct_fields__)} FROM (
        SELECT DISTINCT ON (stream) * FROM outbox
        WHERE ledger_id = %(ledger_id)s AND subscriber = %(subscriber)s AND sent_at IS NULL
        ORDER BY stream, position, name
    ) AS first
    WHERE parked_at IS NULL AND due_at <= %(now)s ORDER BY position LIMIT %(limit)s
"""

# As above, where no message waits for another; whoever sends one keeps others from it until he has said so.
CLAIM: Final = f"""
    SELECT {", ".join(Message.__struct_fields__)} FROM outbox
    WHERE ledger_id = %(ledger_id)s AND subscriber = %(subscriber)s
        AND sent_at IS NULL AND parked_at IS NULL AND due_at <= %(now)s
    ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""

# One that was put there again meanwhile, because of a replay, is another.
_THIS: Final = """
    WHERE ledger_id = %(ledger_id)s AND subscriber = %(subscriber)s AND name = %(name)s AND created_at = %(created_at)s
"""

SENT: Final = f"UPDATE outbox SET sent_at = %(now)s, error = %(error)s {_THIS}"

FORGET: Final = f"DELETE FROM outbox {_THIS}"

FAILED: Final = f"""
    UPDATE outbox SET attempts = attempts + 1, error = %(error)s, due_at = coalesce(%(due_at)s, due_at),
        parked_at = CASE WHEN %(due_at)s::timestamptz IS NULL THEN %(now)s::timestamptz END
    {_THIS}
"""

EMPTY: Final = "DELETE FROM outbox WHERE ledger_id = %(ledger_id)s AND subscriber = %(subscriber)s"

END: Final = "DELETE FROM subscribers WHERE ledger_id = %(ledger_id)s AND subscriber = %(subscriber)s"


async def begin(connection: Connection, ledger_id: UUID, subscriber: str, position: int | None = None) -> bool:
    """Begin to read the log for a subscriber, after a position or (None) from now on; False: it was begun before."""
    parameters = {"ledger_id": ledger_id, "subscriber": subscriber, "position": position}
    return bool((await connection.execute(BEGIN, parameters)).rowcount)


async def end(connection: Connection, ledger_id: UUID, subscriber: str) -> None:
    """Forget a subscriber and all that was to be sent."""
    for statement in (END, EMPTY):
        await connection.execute(statement, {"ledger_id": ledger_id, "subscriber": subscriber})


async def reach_of(connection: Connection, ledger_id: UUID, subscriber: str) -> Reach | None:
    """Return how far the log was read for a subscriber; None, if it was never begun."""
    return await _reach(connection, REACH, ledger_id, subscriber)


async def lock(connection: Connection, ledger_id: UUID, subscriber: str) -> Reach | None:
    """Return how far the log was read for a subscriber, whom nobody else reads for until the transaction ends."""
    return await _reach(connection, LOCK, ledger_id, subscriber)


async def move(connection: Connection, ledger_id: UUID, subscriber: str, position: int) -> None:
    """Say how far the log was read for a subscriber, in the transaction that puts what was found."""
    await connection.execute(MOVE, {"ledger_id": ledger_id, "subscriber": subscriber, "position": position})


async def go_back(connection: Connection, ledger_id: UUID, subscriber: str, position: int) -> None:
    """Read the log again for a subscriber, after a position: what was to be sent is found again."""
    async with connection.transaction():
        reach = await lock(connection, ledger_id, subscriber)
        if reach is not None:
            await connection.execute(EMPTY, {"ledger_id": ledger_id, "subscriber": subscriber})
            await move(connection, ledger_id, subscriber, min(position, reach.head))


async def put(
    connection: Connection,
    ledger_id: UUID,
    subscriber: str,
    name: str,
    content: dict[str, Any] | None = None,
    *,
    position: int = 0,
    sent: bool = False,
) -> bool:
    """Put a message of a stream of its own, as if it was `sent` already if so; False: there is one of this name."""
    return await put_all(connection, ledger_id, subscriber, {name: content}, position=position, sent=sent) == 1


async def put_all(
    connection: Connection,
    ledger_id: UUID,
    subscriber: str,
    contents: Mapping[str, dict[str, Any] | None],
    *,
    position: int = 0,
    sent: bool = False,
) -> int:
    """Put messages by name, each of a stream of its own; return how many there were none of."""
    now = clock.now()
    parameters = {
        "ledger_id": ledger_id,
        "subscriber": subscriber,
        "names": list(contents),
        "contents": [None if each is None else msgspec.json.encode(each).decode() for each in contents.values()],
        "position": position,
        "now": now,
        "sent_at": now if sent else None,
    }
    return (await connection.execute(PUT, parameters)).rowcount


async def due(connection: Connection, ledger_id: UUID, subscriber: str, *, limit: int) -> list[Message]:
    """Return messages that can be sent now, each the first of its stream."""
    parameters = {"ledger_id": ledger_id, "subscriber": subscriber, "now": clock.now(), "limit": limit}
    return as_structs(await (await connection.execute(DUE, parameters)).fetchall(), Message)


async def claim(connection: Connection, ledger_id: UUID, subscriber: str) -> Message | None:
    """Return a message that can be sent now, and that nobody else sends until the transaction ends."""
    parameters = {"ledger_id": ledger_id, "subscriber": subscriber, "now": clock.now()}
    rows = as_structs(await (await connection.execute(CLAIM, parameters)).fetchall(), Message)
    return rows[0] if rows else None


async def sent(connection: Connection, message: Message, note: str = "") -> None:
    """Mark a message as sent; its name is not used again."""
    await connection.execute(SENT, _this(message) | {"now": clock.now(), "error": note})


async def forget(connection: Connection, message: Message) -> None:
    """Forget a message that was sent, where the position alone says what was."""
    await connection.execute(FORGET, _this(message))


async def failed(connection: Connection, message: Message, error: str, waits_seconds: Sequence[float]) -> bool:
    """Put a message off until it is tried again; park it, and return True, when it was tried as often as there are."""
    now = clock.now()
    left = waits_seconds[message.attempts :]
    due_at = now + timedelta(seconds=left[0]) if left else None
    said = {"error": error[:ERROR_CHARACTERS_MAX], "due_at": due_at, "now": now}
    await connection.execute(FAILED, _this(message) | said)
    return due_at is None


async def _reach(connection: Connection, query: str, ledger_id: UUID, subscriber: str) -> Reach | None:
    cursor = await connection.execute(query, {"ledger_id": ledger_id, "subscriber": subscriber})
    rows = as_structs(await cursor.fetchall(), Reach)
    return rows[0] if rows else None


def _this(message: Message) -> dict[str, object]:
    return {name: getattr(message, name) for name in ("ledger_id", "subscriber", "name", "created_at")}

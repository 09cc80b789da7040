"""Doing something once for an Idempotency-Key that is no entry of the log, and so not the writer's to remember."""

from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

import msgspec

from domain.errors import Refusal
from infra import clock
from infra.batch import Idempotency, Receipt, StoredAnswer, StoredReceipt, StoredRefusal, first_answer
from infra.commit import read_answer
from infra.database import Connection

# Two requests of one name that arrive at once are carried out one after the other.
LOCK_NAME: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"

REMEMBER: Final = """
    INSERT INTO idempotency_keys (ledger_id, actor, key, request_sha256, answer, created_at)
    VALUES (%(ledger_id)s, %(actor)s, %(key)s, %(request_sha256)s, %(answer)s::json, %(now)s)
"""


async def once(
    connection: Connection, ledger_id: UUID, asked: Idempotency | None, act: Callable[[], Awaitable[UUID]]
) -> UUID:
    """Return the id of what `act` made, on this connection, now or when it was first asked for under the same name.

    A Refusal is raised again as well. What was made and that it was are committed together.
    """
    if asked is None:
        return await act()
    async with connection.transaction():
        await connection.execute(LOCK_NAME, (f"{ledger_id} {asked.actor} {asked.key}",))
        first = await read_answer(connection, ledger_id, asked)
        answer = first_answer(first, asked) if first else await _answer(connection, ledger_id, asked, act)
    if isinstance(answer, Refusal):
        raise answer
    return answer.id


async def _answer(
    connection: Connection, ledger_id: UUID, asked: Idempotency, act: Callable[[], Awaitable[UUID]]
) -> Receipt | Refusal:
    answer: Receipt | Refusal
    stored: StoredAnswer
    try:
        answer = Receipt(id=await act(), version=0, position=0)
        stored = StoredReceipt(receipt=answer)
    except Refusal as refusal:
        answer = refusal
        stored = StoredRefusal(kind=refusal.kind, code=refusal.code, detail=refusal.detail, pointer=refusal.pointer)
    parameters = {
        "ledger_id": ledger_id,
        "actor": asked.actor,
        "key": asked.key,
        "request_sha256": asked.request_sha256,
        "answer": msgspec.json.encode(stored).decode(),
        "now": clock.now(),
    }
    await connection.execute(REMEMBER, parameters)
    return answer

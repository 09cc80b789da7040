"""One commit of one ledger: a round trip that locks the head and reads what deciding needs, and one that writes.

However many requests a batch holds, whatever they are about, it is the same few statements.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from domain.access import AccessRecorded, AccessRefused
from domain.budget import Budget, DeliveryKind
from domain.decider import stream_of
from domain.delivery import EVENT_OF, concerned, mark, viewings_of
from domain.events import DeliveryRecorded, FundsDeposited, FundsWithdrawn, RequestsTallied
from domain.frequency import Viewing
from domain.leasing import LEASE_SECONDS
from infra import event_log, subject_keys
from infra.batch import Appending, Facts, Idempotency, Leasing, Plan, Recording, Request, StoredAnswer, plan
from infra.database import Connection
from infra.event_log import Head

CONFIRMED_PER_NOTIFICATION: Final = 200
"""A payload holds less than 8,000 bytes, and an id takes 33."""

Cursor = AsyncCursor[DictRow]

_TRAFFIC: Final = (DeliveryRecorded, RequestsTallied, AccessRecorded, AccessRefused)
"""What no admin's read has to wait for."""

_KIND_BY_TAG: Final[dict[str, DeliveryKind]] = {
    str(event_type.__struct_config__.tag): kind for kind, event_type in EVENT_OF.items()
}

_READ_ANSWERS: Final = """
    SELECT actor, key, request_sha256, answer
    FROM idempotency_keys JOIN unnest(%(actors)s::text[], %(keys)s::text[]) AS asked (actor, key) USING (actor, key)
    WHERE ledger_id = %(ledger_id)s
"""

# The leases that deliveries were promised from, and those that a worker asks about.
_READ_LEASES: Final = """
    SELECT worker, campaign_id, impressions
    FROM leases JOIN unnest(%(workers)s::bigint[], %(campaigns)s::uuid[]) AS asked (worker, campaign_id)
        USING (worker, campaign_id)
    WHERE ledger_id = %(ledger_id)s
"""

# The clock of the database decides who is alive: it is one for all workers. Promises that were made when the longest
# hold was longer are still open, so that nobody falls silent earlier than was said before.
_HEAR_OF_WORKER: Final = """
    INSERT INTO workers (ledger_id, worker, alive_until, silent_from)
    VALUES (
        %(ledger_id)s, %(worker)s,
        clock_timestamp() + make_interval(secs => %(alive)s),
        clock_timestamp() + make_interval(secs => %(alive)s + %(hold)s)
    )
    ON CONFLICT (ledger_id, worker) DO UPDATE
    SET alive_until = EXCLUDED.alive_until, silent_from = GREATEST(workers.silent_from, EXCLUDED.silent_from)
"""

_COUNT_WORKERS: Final = """
    SELECT count(*) AS alive FROM workers WHERE ledger_id = %(ledger_id)s AND alive_until > clock_timestamp()
"""

# The leases of workers of which no promise can be open any more.
_FORGET_SILENT: Final = """
    WITH silent AS (
        DELETE FROM workers WHERE ledger_id = %(ledger_id)s AND silent_from <= clock_timestamp() RETURNING worker
    )
    DELETE FROM leases USING silent WHERE ledger_id = %(ledger_id)s AND leases.worker = silent.worker
    RETURNING leases.worker, leases.campaign_id, leases.impressions
"""

# Those of the campaigns concerned, of their advertisers' funds, and of all campaigns of advertisers whose funds move.
_READ_BUDGETS: Final = """
    SELECT * FROM budgets
    WHERE ledger_id = %(ledger_id)s AND (
        budget_id = ANY(%(campaigns)s)
        OR advertiser_id = ANY(%(funded)s)
        OR budget_id IN (
            SELECT advertiser_id FROM budgets WHERE ledger_id = %(ledger_id)s AND budget_id = ANY(%(campaigns)s)
        )
    )
"""

_READ_VIEWINGS: Final = """
    SELECT subject, viewer, views, times
    FROM viewings JOIN unnest(%(subjects)s::uuid[], %(viewers)s::text[]) AS asked (subject, viewer)
        USING (subject, viewer)
    WHERE ledger_id = %(ledger_id)s
"""

_WRITE_VIEWINGS: Final = """
    INSERT INTO viewings (ledger_id, subject, viewer, views, times, position)
    SELECT %(ledger_id)s, subject, viewer, views, times, %(position)s
    FROM json_populate_recordset(NULL::viewings, %(rows)s::json)
    ON CONFLICT (ledger_id, subject, viewer) DO UPDATE
    SET (views, times, position) = ROW(EXCLUDED.views, EXCLUDED.times, EXCLUDED.position)
"""

_WRITE_ANSWERS: Final = """
    INSERT INTO idempotency_keys (ledger_id, actor, key, request_sha256, answer, created_at)
    VALUES (%(ledger_id)s, %(actor)s, %(key)s, %(request_sha256)s, %(answer)s::json, %(now)s)
"""

_BUDGET_COLUMNS: Final = ", ".join(Budget.__struct_fields__)
WRITE_BUDGETS: Final = f"""
    INSERT INTO budgets (ledger_id, {_BUDGET_COLUMNS})
    SELECT %(ledger_id)s, {_BUDGET_COLUMNS} FROM json_populate_recordset(NULL::budgets, %(rows)s::json)
    ON CONFLICT (ledger_id, budget_id) DO UPDATE
    SET ({_BUDGET_COLUMNS}) = ROW({", ".join(f"EXCLUDED.{column}" for column in Budget.__struct_fields__)})
"""

_WRITE_LEASES: Final = """
    INSERT INTO leases (ledger_id, worker, campaign_id, impressions)
    SELECT %(ledger_id)s, worker, campaign_id, impressions
    FROM unnest(%(workers)s::bigint[], %(campaigns)s::uuid[], %(impressions)s::bigint[])
        AS changed (worker, campaign_id, impressions)
    ON CONFLICT (ledger_id, worker, campaign_id) DO UPDATE SET impressions = EXCLUDED.impressions
"""


async def commit(
    connection: Connection,
    ledger_id: UUID,
    requests: Sequence[Request],
    now: Callable[[], datetime],
    *,
    worker: int = 0,
) -> Plan:
    """Append a batch in one transaction, and return what was written once it is durable.

    `now` is asked under the lock: what waited for it must not be recorded as of before. Other workers than `worker` are
    told which of their promises the batch confirms.
    """
    async with connection.pipeline(), connection.transaction():
        facts = await _read(connection, ledger_id, requests)
        planned = plan(facts, requests, max(now(), facts.head.recorded_at))
        await _write(connection, ledger_id, facts.head, planned)
        for other in planned.confirmed.keys() - {worker}:
            await _tell(connection, other, planned.confirmed[other])
    return planned


async def read_answer(connection: Connection, ledger_id: UUID, asked: Idempotency) -> tuple[bytes, StoredAnswer] | None:
    """Return the first answer beside an idempotency key, if there is one."""
    rows = await _rows(
        connection, _READ_ANSWERS, {"ledger_id": ledger_id, "actors": [asked.actor], "keys": [asked.key]}
    )
    return _stored(rows[0]) if rows else None


async def _read(connection: Connection, ledger_id: UUID, requests: Sequence[Request]) -> Facts:
    appendings = [request for request in requests if isinstance(request, Appending)]
    leasings = [request for request in requests if isinstance(request, Leasing)]
    deliveries = [d for request in requests if isinstance(request, Recording) for d in request.deliveries]
    asked = [request.idempotency for request in appendings if request.idempotency is not None]
    leases = {(d.ticket.worker, d.ticket.campaign_id) for d in deliveries if d.ticket.worker}
    leases |= {(request.worker, want.campaign_id) for request in leasings for want in request.wants}
    campaigns = concerned(deliveries) | {request.subject for request in appendings} | {key[1] for key in leases}
    funded = [
        request.subject
        for request in appendings
        if any(isinstance(each, FundsDeposited | FundsWithdrawn) for each in request.events)
    ]
    here = {"ledger_id": ledger_id}
    head = await connection.execute(event_log.LOCK_HEAD, here)
    versions = await _found(
        connection, event_log.STREAM_VERSIONS, here, {"streams": "\n".join([request.stream for request in appendings])}
    )
    decisions = await _found(
        connection,
        event_log.DECISION_EVENTS,
        here,
        {"streams": "\n".join([stream_of("decision", d.ticket.decision_id) for d in deliveries])},
    )
    answers = await _found(
        connection,
        _READ_ANSWERS,
        here,
        {"actors": [each.actor for each in asked], "keys": [each.key for each in asked]},
    )
    leased = await _found(
        connection, _READ_LEASES, here, {"workers": [key[0] for key in leases], "campaigns": [key[1] for key in leases]}
    )
    viewers = viewings_of(deliveries)
    viewings = await _found(
        connection,
        _READ_VIEWINGS,
        here,
        {"subjects": [key[0] for key in viewers], "viewers": [key[1] for key in viewers]},
    )
    workers, silent = await _hear(connection, ledger_id, leasings)
    campaigns |= {key[1] for key in silent}
    budgets = await _rows(connection, _READ_BUDGETS, here | {"campaigns": list(campaigns), "funded": funded})
    recorded: dict[UUID, frozenset[str]] = {}
    for row in await _all(decisions):
        decision_id = UUID(row["stream_id"].removeprefix("decision-"))
        marked = mark(_KIND_BY_TAG[row["type"]], row["reason"])
        recorded[decision_id] = recorded.get(decision_id, frozenset()) | {marked}
    return Facts(
        head=msgspec.convert(await head.fetchone(), Head),
        versions={row["stream_id"]: row["version"] for row in await _all(versions)},
        recorded=recorded,
        budgets={row["budget_id"]: msgspec.convert(row, Budget) for row in budgets},
        leases={(row["worker"], row["campaign_id"]): row["impressions"] for row in await _all(leased)},
        viewings={
            (row["subject"], row["viewer"]): Viewing(row["views"], tuple(row["times"])) for row in await _all(viewings)
        },
        silent=silent,
        workers=workers,
        answers={(row["actor"], row["key"]): _stored(row) for row in await _all(answers)},
    )


async def _hear(
    connection: Connection, ledger_id: UUID, leasings: Sequence[Leasing]
) -> tuple[int, dict[tuple[int, UUID], int]]:
    """Note which workers are alive; return how many are, and the leases of those that have fallen silent."""
    if not leasings:
        return 0, {}
    for request in leasings:
        alive = 0 if request.ends else LEASE_SECONDS
        heard = {"ledger_id": ledger_id, "worker": request.worker, "alive": alive, "hold": request.hold_seconds}
        await connection.execute(_HEAR_OF_WORKER, heard)
    silent = await _rows(connection, _FORGET_SILENT, {"ledger_id": ledger_id})
    counted = await _rows(connection, _COUNT_WORKERS, {"ledger_id": ledger_id})
    return counted[0]["alive"], {(row["worker"], row["campaign_id"]): row["impressions"] for row in silent}


async def _write(connection: Connection, ledger_id: UUID, head: Head, planned: Plan) -> None:
    now = planned.now
    if planned.entries or planned.books.changed:
        # Also what only leases may have begun a new day, before which nothing can be recorded any more.
        commands = [n for n, each in enumerate(planned.entries, 1) if not isinstance(each.event, _TRAFFIC)]
        moved = {
            "ledger_id": ledger_id,
            "position": head.position + len(planned.entries),
            "command_position": head.position + commands[-1] if commands else head.command_position,
            "recorded_at": now,
        }
        await connection.execute(event_log.MOVE_HEAD, moved)
    if planned.entries:
        await connection.execute(
            event_log.INSERT_EVENTS, event_log.insert_parameters(ledger_id, head.position, planned.entries)
        )
        await connection.execute("SELECT pg_notify(%s, %s)", (event_log.CHANNEL, str(ledger_id)))
    if planned.books.changed:
        rows = msgspec.json.encode(list(planned.books.changed.values())).decode()
        await connection.execute(WRITE_BUDGETS, {"ledger_id": ledger_id, "rows": rows})
    if planned.viewings:
        seen = [
            {"subject": subject, "viewer": viewer, "views": viewing.views, "times": viewing.times}
            for (subject, viewer), viewing in planned.viewings.items()
        ]
        rows = msgspec.json.encode(seen).decode()
        position = head.position + len(planned.entries)
        await connection.execute(_WRITE_VIEWINGS, {"ledger_id": ledger_id, "position": position, "rows": rows})
    if planned.leases:
        columns = {
            "workers": [key[0] for key in planned.leases],
            "campaigns": [key[1] for key in planned.leases],
            "impressions": list(planned.leases.values()),
        }
        await connection.execute(_WRITE_LEASES, {"ledger_id": ledger_id, **columns})
    if planned.erased:
        erased = {"ledger_id": ledger_id, "subjects": planned.erased, "now": now}
        await connection.execute(subject_keys.DESTROY_KEYS, erased)
    for subject_key in planned.subject_keys:
        await connection.execute(subject_keys.WRITE_KEY, subject_keys.row_of(subject_key))
    for (actor, key), (request_sha256, stored) in planned.answers.items():
        await connection.execute(
            _WRITE_ANSWERS,
            {
                "ledger_id": ledger_id,
                "actor": actor,
                "key": key,
                "request_sha256": request_sha256,
                "answer": msgspec.json.encode(stored).decode(),
                "now": now,
            },
        )


async def _tell(connection: Connection, worker: int, confirmed: Sequence[UUID]) -> None:
    for first in range(0, len(confirmed), CONFIRMED_PER_NOTIFICATION):
        names = " ".join(each.hex for each in confirmed[first : first + CONFIRMED_PER_NOTIFICATION])
        await connection.execute("SELECT pg_notify(%s, %s)", (worker_channel(worker), names))


def worker_channel(worker: int) -> str:
    """Return the channel on which a worker hears which decisions were confirmed through others, by their hex ids."""
    return f"worker_{worker}"


async def _found(
    connection: Connection, statement: str, here: Mapping[str, Any], asked: Mapping[str, Sequence[Any]]
) -> Cursor | None:
    """Send a look-up, unless there is nothing to look up; what it finds is read when all look-ups are sent."""
    return await connection.execute(statement, {**here, **asked}) if any(asked.values()) else None


async def _all(cursor: Cursor | None) -> list[DictRow]:
    return [] if cursor is None else await cursor.fetchall()


async def _rows(connection: Connection, statement: str, parameters: dict[str, Any]) -> list[DictRow]:
    cursor = await connection.execute(statement, parameters)
    return await cursor.fetchall()


def _stored(row: DictRow) -> tuple[bytes, StoredAnswer]:
    return bytes(row["request_sha256"]), msgspec.convert(row["answer"], StoredAnswer)

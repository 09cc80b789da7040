"""One batch of one ledger: what is read under the lock of its head, what follows from it, what is written.

The middle part, `plan`, is a pure function of what was read and what was asked; all the rest is two round trips.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct, structs
from psycopg.rows import DictRow

from domain.budget import Budget, Charge, DeliveryKind, opened, relimited
from domain.decider import stream_of
from domain.delivery import EVENT_OF, Delivery, Settled, concerned, settle
from domain.errors import IdempotencyKeyReused, Kind, Refusal, VersionConflict
from domain.events import CampaignChanged, CampaignCreated, DeliveryRecorded, Entry, Event
from infra import event_log
from infra.database import Connection
from infra.event_log import Head

_KIND_BY_TAG: Final[Mapping[str, DeliveryKind]] = {
    str(event_type.__struct_config__.tag): kind for kind, event_type in EVENT_OF.items()
}


class Receipt(Struct, frozen=True, kw_only=True):
    """What a command is answered with: whose stream it wrote, the stream's version, and the log's position."""

    id: UUID
    version: int
    position: int


class StoredRefusal(Struct, frozen=True, kw_only=True, tag="refusal"):
    """A refusal as it is kept beside an idempotency key."""

    kind: Kind
    code: str
    detail: str
    pointer: str | None


class StoredReceipt(Struct, frozen=True, kw_only=True, tag="receipt"):
    """A receipt as it is kept beside an idempotency key."""

    receipt: Receipt


StoredAnswer = StoredReceipt | StoredRefusal


class Repeated(Refusal):
    """The first answer to a request that was asked before, which was a refusal."""

    def __init__(self, stored: StoredRefusal) -> None:
        """Take over everything of the first refusal."""
        super().__init__(stored.detail, pointer=stored.pointer)
        self.kind = stored.kind  # type: ignore[misc]  # this one class stands for all the others
        self.code = stored.code  # type: ignore[misc]  # as above


class Idempotency(Struct, frozen=True, kw_only=True):
    """A client's name for a request, and the SHA-256 of the request itself."""

    actor: str
    key: str
    request_sha256: bytes


class Appending(Struct, frozen=True, kw_only=True):
    """What a command decided: events for one stream, or a refusal to be remembered beside the idempotency key.

    The decision was made on the stream at `expected_version`, whose last entry stands at `position` (0: not begun).
    """

    ledger_id: UUID
    subject: UUID
    stream: str
    expected_version: int
    position: int
    events: tuple[Event, ...]
    actor: str
    correlation_id: str | None = None
    idempotency: Idempotency | None = None
    refusal: Refusal | None = None


class Recording(Struct, frozen=True, kw_only=True):
    """Deliveries that arrived together."""

    ledger_id: UUID
    deliveries: tuple[Delivery, ...]


Request = Appending | Recording
Result = Receipt | Refusal | tuple[Settled | None, ...]


class Facts(Struct, frozen=True, kw_only=True):
    """What is read under the lock."""

    head: Head
    versions: Mapping[str, int]
    recorded: Mapping[UUID, frozenset[DeliveryKind]]
    budgets: Mapping[UUID, Budget]
    answers: Mapping[tuple[str, str], tuple[bytes, StoredAnswer]]


class Plan(NamedTuple):
    """What is written, and the answer to each request: a Receipt, what was settled, or the exception to raise."""

    now: datetime
    entries: list[Entry]
    versions: dict[str, int]
    budgets: dict[UUID, Budget]
    answers: dict[tuple[str, str], tuple[bytes, StoredAnswer]]
    results: list[Result]


async def commit(
    connection: Connection,
    ledger_id: UUID,
    requests: Sequence[Request],
    *,
    held: Callable[[UUID], Charge],
    now: datetime,
) -> Plan:
    """Append a batch in one transaction, and return what was written once it is durable."""
    async with connection.pipeline(), connection.transaction():
        facts = await _read(connection, ledger_id, requests)
        planned = plan(facts, requests, held=held, now=max(now, facts.head.recorded_at))
        await _write(connection, ledger_id, facts.head, planned)
    return planned


def plan(facts: Facts, requests: Sequence[Request], *, held: Callable[[UUID], Charge], now: datetime) -> Plan:
    """Return what a batch adds: first what commands decided, in order, then all deliveries, settled together."""
    draft = Plan(now, [], dict(facts.versions), {}, {}, [()] * len(requests))
    for number, request in enumerate(requests):
        if isinstance(request, Appending):
            draft.results[number] = _answer(facts, draft, request, held)
    recordings = [(number, request) for number, request in enumerate(requests) if isinstance(request, Recording)]
    deliveries = [delivery for _, recording in recordings for delivery in recording.deliveries]
    settlement = settle(deliveries, recorded=facts.recorded, budgets={**facts.budgets, **draft.budgets}, now=draft.now)
    draft.budgets.update(settlement.budgets)
    outcomes = iter(settlement.outcomes)
    for number, recording in recordings:
        draft.results[number] = tuple(islice(outcomes, len(recording.deliveries)))
    draft.entries.extend(
        _delivery_entry(delivery, settled, draft.now)
        for delivery, settled in zip(deliveries, settlement.outcomes, strict=True)
        if settled is not None
    )
    position = facts.head.position + len(draft.entries)
    for campaign_id, budget in draft.budgets.items():
        draft.budgets[campaign_id] = structs.replace(budget, position=position)
    return draft


def _answer(facts: Facts, draft: Plan, request: Appending, held: Callable[[UUID], Charge]) -> Receipt | Refusal:
    asked = request.idempotency
    if asked is None:
        try:
            return _append(facts, draft, request, held)
        except Refusal as refusal:
            return refusal
    name = (asked.actor, asked.key)
    first = facts.answers.get(name) or draft.answers.get(name)
    if first is not None:
        return first_answer(first, asked)
    try:
        receipt = _append(facts, draft, request, held)
    except VersionConflict as conflict:
        return conflict
    except Refusal as refusal:
        stored = StoredRefusal(kind=refusal.kind, code=refusal.code, detail=refusal.detail, pointer=refusal.pointer)
        draft.answers[name] = (asked.request_sha256, stored)
        return refusal
    draft.answers[name] = (asked.request_sha256, StoredReceipt(receipt=receipt))
    return receipt


def first_answer(first: tuple[bytes, StoredAnswer], asked: Idempotency) -> Receipt | Refusal:
    """Return what a request was answered the first time, or the refusal of another request under the same key."""
    request_sha256, stored = first
    if request_sha256 != asked.request_sha256:
        return IdempotencyKeyReused("This Idempotency-Key was used before, with another request.")
    return stored.receipt if isinstance(stored, StoredReceipt) else Repeated(stored)


def _append(facts: Facts, draft: Plan, request: Appending, held: Callable[[UUID], Charge]) -> Receipt:
    if request.refusal is not None:
        raise request.refusal
    version = draft.versions.get(request.stream, 0)
    if version != request.expected_version:
        raise VersionConflict(request.stream, request.expected_version)
    entries = [
        Entry(
            stream=request.stream,
            version=version + number,
            actor=request.actor,
            occurred_at=draft.now,
            recorded_at=draft.now,
            correlation_id=request.correlation_id,
            idempotency_key=request.idempotency.key if request.idempotency else None,
            event=event,
        )
        for number, event in enumerate(request.events, start=1)
    ]
    event_log.check_size(entries)
    known = draft.budgets.get(request.subject) or facts.budgets.get(request.subject)
    for event in request.events:
        if isinstance(event, CampaignCreated):
            known = draft.budgets[request.subject] = opened(request.subject, event)
        elif isinstance(event, CampaignChanged) and known is not None:
            known = relimited(known, event, held=held(request.subject), now=draft.now)
            draft.budgets[request.subject] = known
    draft.entries.extend(entries)
    draft.versions[request.stream] = version + len(request.events)
    return Receipt(
        id=request.subject,
        version=draft.versions[request.stream],
        position=facts.head.position + len(draft.entries) if request.events else request.position,
    )


def _delivery_entry(delivery: Delivery, settled: Settled, now: datetime) -> Entry:
    return Entry(
        stream=stream_of("decision", delivery.ticket.decision_id),
        version=settled.version,
        actor=f"slot:{delivery.ticket.slot_id}",
        occurred_at=delivery.occurred_at,
        recorded_at=now,
        event=settled.event,
    )


async def read_answer(connection: Connection, ledger_id: UUID, asked: Idempotency) -> tuple[bytes, StoredAnswer] | None:
    """Return the first answer beside an idempotency key, if there is one."""
    cursor = await connection.execute(
        _READ_ANSWERS, {"ledger_id": ledger_id, "actors": [asked.actor], "keys": [asked.key]}
    )
    rows = await cursor.fetchall()
    return _stored(rows[0]) if rows else None


_READ_ANSWERS: Final = """
    SELECT actor, key, request_sha256, answer
    FROM idempotency_keys JOIN unnest(%(actors)s::text[], %(keys)s::text[]) AS asked (actor, key) USING (actor, key)
    WHERE ledger_id = %(ledger_id)s
"""

_READ_BUDGETS: Final = """
    SELECT * FROM budgets WHERE ledger_id = %(ledger_id)s AND campaign_id = ANY(%(campaigns)s)
"""

_WRITE_ANSWERS: Final = """
    INSERT INTO idempotency_keys (ledger_id, actor, key, request_sha256, answer, created_at)
    VALUES (%(ledger_id)s, %(actor)s, %(key)s, %(request_sha256)s, %(answer)s::json, %(now)s)
"""

_BUDGET_COLUMNS: Final = ", ".join(Budget.__struct_fields__)
_WRITE_BUDGETS: Final = f"""
    INSERT INTO budgets (ledger_id, {_BUDGET_COLUMNS})
    SELECT %(ledger_id)s, {_BUDGET_COLUMNS} FROM json_populate_recordset(NULL::budgets, %(rows)s::json)
    ON CONFLICT (ledger_id, campaign_id) DO UPDATE
    SET ({_BUDGET_COLUMNS}) = ROW({", ".join(f"EXCLUDED.{column}" for column in Budget.__struct_fields__)})
"""


async def _read(connection: Connection, ledger_id: UUID, requests: Sequence[Request]) -> Facts:
    appendings = [request for request in requests if isinstance(request, Appending)]
    deliveries = [d for request in requests if isinstance(request, Recording) for d in request.deliveries]
    asked = [request.idempotency for request in appendings if request.idempotency is not None]
    campaigns = concerned(deliveries) | {request.subject for request in appendings}
    head = await connection.execute(event_log.LOCK_HEAD, {"ledger_id": ledger_id})
    versions = await connection.execute(
        event_log.STREAM_VERSIONS, {"ledger_id": ledger_id, "streams": [request.stream for request in appendings]}
    )
    decisions = await connection.execute(
        event_log.DECISION_EVENTS,
        {"ledger_id": ledger_id, "streams": [stream_of("decision", d.ticket.decision_id) for d in deliveries]},
    )
    budgets = await connection.execute(_READ_BUDGETS, {"ledger_id": ledger_id, "campaigns": list(campaigns)})
    answers = await connection.execute(
        _READ_ANSWERS,
        {"ledger_id": ledger_id, "actors": [a.actor for a in asked], "keys": [a.key for a in asked]},
    )
    recorded: dict[UUID, frozenset[DeliveryKind]] = {}
    for row in await decisions.fetchall():
        decision_id = UUID(row["stream_id"].removeprefix("decision-"))
        recorded[decision_id] = recorded.get(decision_id, frozenset()) | {_KIND_BY_TAG[row["type"]]}
    return Facts(
        head=msgspec.convert(await head.fetchone(), Head),
        versions={row["stream_id"]: row["version"] for row in await versions.fetchall()},
        recorded=recorded,
        budgets={row["campaign_id"]: msgspec.convert(row, Budget) for row in await budgets.fetchall()},
        answers={(row["actor"], row["key"]): _stored(row) for row in await answers.fetchall()},
    )


async def _write(connection: Connection, ledger_id: UUID, head: Head, planned: Plan) -> None:
    now = planned.now
    if planned.entries:
        commands = sum(not isinstance(entry.event, DeliveryRecorded) for entry in planned.entries)  # they come first
        moved = {
            "ledger_id": ledger_id,
            "position": head.position + len(planned.entries),
            "command_position": head.position + commands if commands else head.command_position,
            "recorded_at": now,
        }
        await connection.execute(
            event_log.INSERT_EVENTS, event_log.insert_parameters(ledger_id, head.position, planned.entries)
        )
        await connection.execute(event_log.MOVE_HEAD, moved)
        await connection.execute("SELECT pg_notify(%s, %s)", (event_log.CHANNEL, str(ledger_id)))
    if planned.budgets:
        rows = msgspec.json.encode(list(planned.budgets.values())).decode()
        await connection.execute(_WRITE_BUDGETS, {"ledger_id": ledger_id, "rows": rows})
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


def _stored(row: DictRow) -> tuple[bytes, StoredAnswer]:
    return bytes(row["request_sha256"]), msgspec.convert(row["answer"], StoredAnswer)

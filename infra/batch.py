"""What follows from a batch of requests to one ledger: a pure function of what was asked and of what stands there."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple
from uuid import UUID

from msgspec import Struct

from domain.books import Books
from domain.budget import Budget, DeliveryKind, opened, relimited
from domain.decider import stream_of
from domain.delivery import EVENT_OF, Delivery, Settled, settle
from domain.errors import IdempotencyKeyReused, Kind, Refusal, VersionConflict
from domain.events import (
    CampaignChanged,
    CampaignCreated,
    Entry,
    Event,
    FundsDeposited,
    FundsWithdrawn,
    PersonalDataErased,
)
from domain.frequency import Viewing, ViewingKey
from domain.leasing import LeaseKey, Want, lease, reclaim
from domain.validity import is_invalid
from infra import event_log
from infra.event_log import Head
from infra.subject_keys import WrappedKey

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
        self.code = stored.code  # type: ignore[misc]  # as the line above


class Idempotency(Struct, frozen=True, kw_only=True):
    """A client's name for a request, and the keyed SHA-256 of the request itself.

    `earlier` are what that was under secrets that are being rotated out.
    """

    actor: str
    key: str
    request_sha256: bytes
    earlier: tuple[bytes, ...] = ()


class Appending(Struct, frozen=True, kw_only=True):
    """What a command decided: events for one stream, or a refusal to be remembered beside the idempotency key.

    The decision was made on the stream at `expected_version`, whose last entry stands at `position` (0: not begun);
    without a version nothing was decided, and what happened follows whatever the stream holds.
    `subject_key` is what decrypts the personal data in the events, where they are the first of their subject's.
    """

    ledger_id: UUID
    subject: UUID
    stream: str
    expected_version: int | None
    position: int
    events: tuple[Event, ...]
    actor: str
    correlation_id: str | None = None
    idempotency: Idempotency | None = None
    refusal: Refusal | None = None
    subject_key: WrappedKey | None = None


class Recording(Struct, frozen=True, kw_only=True):
    """Deliveries that arrived together."""

    ledger_id: UUID
    deliveries: tuple[Delivery, ...]


class Leasing(Struct, frozen=True, kw_only=True):
    """A worker that says it is alive, and what it wants to lease; its promises are open for `hold_seconds` at most."""

    ledger_id: UUID
    worker: int
    wants: tuple[Want, ...]
    hold_seconds: int
    ends: bool = False


Request = Appending | Recording | Leasing
Result = Receipt | Refusal | tuple[Settled | None, ...] | Mapping[UUID, int]


class Facts(Struct, frozen=True, kw_only=True):
    """What is read under the lock."""

    head: Head
    versions: Mapping[str, int]
    recorded: Mapping[UUID, frozenset[str]]
    budgets: Mapping[UUID, Budget]
    leases: Mapping[LeaseKey, int]
    viewings: Mapping[ViewingKey, Viewing]
    silent: Mapping[LeaseKey, int]
    workers: int
    answers: Mapping[tuple[str, str], tuple[bytes, StoredAnswer]]


class Plan(NamedTuple):
    """What is written, and the answer to each request: a Receipt or Refusal, what was settled, or what is leased.

    `subject_keys` are those of personal data in the entries, `erased` the subjects whose keys are destroyed.
    `confirmed` holds, by worker, the decisions whose impressions were recorded, so that it may close their holds.
    """

    now: datetime
    entries: list[Entry]
    versions: dict[str, int]
    books: Books
    leases: dict[LeaseKey, int]
    viewings: dict[ViewingKey, Viewing]
    confirmed: dict[int, list[UUID]]
    answers: dict[tuple[str, str], tuple[bytes, StoredAnswer]]
    results: list[Result]
    subject_keys: list[WrappedKey]
    erased: list[UUID]


def plan(facts: Facts, requests: Sequence[Request], now: datetime) -> Plan:
    """Return what a batch adds: what commands decided, in order; then all deliveries together; then the leases."""
    books = Books(facts.budgets, now)
    draft = Plan(now, [], dict(facts.versions), books, {}, {}, defaultdict(list), {}, [()] * len(requests), [], [])
    for number, request in enumerate(requests):
        if isinstance(request, Appending):
            draft.results[number] = _answer(facts, draft, request)
    _settle(facts, draft, requests)
    if facts.silent:
        # A lease that is reclaimed is gone, less what this very batch has charged to it.
        silent = {key: draft.leases.pop(key, impressions) for key, impressions in facts.silent.items()}
        reclaim(silent, books)
    for number, request in enumerate(requests):
        if isinstance(request, Leasing):
            draft.results[number] = _lease(facts, draft, request)
    return draft


def _settle(facts: Facts, draft: Plan, requests: Sequence[Request]) -> None:
    recordings = [(number, request) for number, request in enumerate(requests) if isinstance(request, Recording)]
    deliveries = [delivery for _, recording in recordings for delivery in recording.deliveries]
    settlement = settle(
        deliveries,
        recorded=facts.recorded,
        books=draft.books,
        leases=facts.leases,
        viewings=facts.viewings,
        now=draft.now,
    )
    draft.leases.update(settlement.leases)
    draft.viewings.update(settlement.viewings)
    outcomes = iter(settlement.outcomes)
    for number, recording in recordings:
        draft.results[number] = tuple(islice(outcomes, len(recording.deliveries)))
    for delivery, settled in zip(deliveries, settlement.outcomes, strict=True):
        if settled is not None:
            draft.entries.append(_delivery_entry(delivery, settled, draft.now))
            valid = not is_invalid(settled.event.reason)
            if valid and delivery.kind == "impression" and delivery.ticket.worker:
                draft.confirmed[delivery.ticket.worker].append(delivery.ticket.decision_id)


def _lease(facts: Facts, draft: Plan, request: Leasing) -> Mapping[UUID, int]:
    known = {key: left for key, left in facts.leases.items() if key not in facts.silent} | draft.leases
    leases = lease(request.worker, request.wants, workers=facts.workers, leases=known, books=draft.books)
    draft.leases.update({key: left for key, left in leases.items() if left != known.get(key, 0)})
    return {campaign_id: impressions for (_, campaign_id), impressions in leases.items()}


def _answer(facts: Facts, draft: Plan, request: Appending) -> Receipt | Refusal:
    asked = request.idempotency
    if asked is None:
        try:
            return _append(facts, draft, request)
        except Refusal as refusal:
            return refusal
    name = (asked.actor, asked.key)
    first = facts.answers.get(name) or draft.answers.get(name)
    if first is not None:
        return first_answer(first, asked)
    try:
        receipt = _append(facts, draft, request)
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
    if request_sha256 not in (asked.request_sha256, *asked.earlier):
        return IdempotencyKeyReused("This Idempotency-Key was used before, with another request.")
    return stored.receipt if isinstance(stored, StoredReceipt) else Repeated(stored)


def _append(facts: Facts, draft: Plan, request: Appending) -> Receipt:
    if request.refusal is not None:
        raise request.refusal
    version = draft.versions.get(request.stream, 0)
    if request.expected_version is not None and version != request.expected_version:
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
    for event in request.events:
        _enter(draft, request.subject, event)
    if request.subject_key is not None:
        draft.subject_keys.append(request.subject_key)
    draft.entries.extend(entries)
    draft.versions[request.stream] = version + len(request.events)
    return Receipt(
        id=request.subject,
        version=draft.versions[request.stream],
        position=facts.head.position + len(draft.entries) if request.events else request.position,
    )


def _enter(draft: Plan, subject: UUID, event: Event) -> None:
    """Let the books follow a command's event; raise the Refusal of what is spent and held already."""
    known = draft.books.find(subject)
    match event:
        case CampaignCreated():
            draft.books.enter(opened(subject, event))
        case CampaignChanged() if known is not None:
            draft.books.enter(relimited(known, event, draft.now))
        case FundsDeposited() | FundsWithdrawn():
            draft.books.fund(subject, event)
        case PersonalDataErased():
            draft.erased.append(subject)
        case _:
            pass


def _delivery_entry(delivery: Delivery, settled: Settled, now: datetime) -> Entry:
    return Entry(
        stream=stream_of("decision", delivery.ticket.decision_id),
        version=settled.version,
        actor=f"slot:{delivery.ticket.slot_id}",
        occurred_at=delivery.occurred_at,
        recorded_at=now,
        event=settled.event,
    )

"""Executing a command: load, decide, append; the same few lines for every aggregate."""

from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from msgspec import Struct, structs

from domain.advertiser import ADVERTISER
from domain.campaign import CAMPAIGN
from domain.creative import CREATIVE
from domain.decider import C, Context, Decider, E, S, fold, stream_of
from domain.errors import PreconditionFailed, Refusal, VersionConflict
from domain.policy import POLICY
from domain.rights import Rights
from domain.slot import SLOT
from infra import clock, personal_data
from infra.batch import Appending, Idempotency, Receipt, first_answer
from infra.commit import read_answer
from infra.database import Connection
from infra.event_log import Recorded, read_streams
from infra.subject_keys import Subject, read_subjects, wrap
from infra.writer import Log

ATTEMPTS_MAX: Final = 10
"""How often a command is decided anew when others write to its stream meanwhile."""

DECIDERS: Final[tuple[Decider[Any, Any, Any], ...]] = (ADVERTISER, CAMPAIGN, CREATIVE, SLOT, POLICY)
_DECIDER_BY_THING: Final[Mapping[str, Decider[Any, Any, Any]]] = {decider.thing: decider for decider in DECIDERS}


class Asked(Struct, frozen=True, kw_only=True):
    """Who asks for a command to be executed, and on what conditions."""

    ledger_id: UUID
    actor: str
    correlation_id: str | None = None
    if_match: int | None = None
    idempotency: Idempotency | None = None
    rights: Rights = Rights()
    person: UUID | None = None


async def execute(log: Log, decider: Decider[S, C, E], subject: UUID, command: C, asked: Asked) -> Receipt:
    """Execute a command on the thing `subject`; raise the Refusal, or LogBusy or LogUnavailable.

    The command is decided on the stream as it is and appended on the condition that the stream is still so; when it is
    not, it is decided anew. With an idempotency key, the first answer is the answer for ever. Personal data is decided
    on as it reads, and appended as the log holds it.
    """
    stream = stream_of(decider.thing, subject)
    for attempt in range(1, ATTEMPTS_MAX + 1):
        async with log.pool.connection() as connection:
            if asked.idempotency is not None:
                first = await read_answer(connection, asked.ledger_id, asked.idempotency)
                if first is not None:
                    return _raised(first_answer(first, asked.idempotency))
            streams = await read_streams(connection, asked.ledger_id, (stream, *decider.references(command)))
            person = await _person(connection, log, decider, subject, asked)
        if person is not None:
            streams[stream] = personal_data.decrypted_entries(person, streams[stream])
        decision = _decided(decider, subject, command, asked, streams)
        if isinstance(decision, Refusal):
            if asked.idempotency is None:
                raise decision
            return await log.writer.append(_appending(asked, subject, stream, streams[stream], (), refusal=decision))
        appending = _appending(asked, subject, stream, streams[stream], decision)
        if person is not None:
            appending = _encrypted(log, person, appending)
        if not decision and asked.idempotency is None:
            return Receipt(id=subject, version=len(streams[stream]), position=appending.position)
        try:
            return await log.writer.append(appending)
        except VersionConflict:
            if attempt == ATTEMPTS_MAX:
                raise
    raise AssertionError  # pragma: no cover  the loop returns or raises


async def _person(
    connection: Connection, log: Log, decider: Decider[S, C, E], subject: UUID, asked: Asked
) -> Subject | None:
    """Return whom the events of a stream are about, if they are about a person.

    Read after the stream: with keys that were destroyed meanwhile, nothing can be appended to what it was.
    """
    if decider.thing != ADVERTISER.thing:
        return None
    return (await read_subjects(connection, log.masters, asked.ledger_id, [subject]))[subject]


def _encrypted(log: Log, person: Subject, appending: Appending) -> Appending:
    events, fresh = personal_data.encrypted(person, appending.events)
    wrapped = None if fresh is None else wrap(log.masters, person, fresh)
    return structs.replace(appending, events=events, subject_key=wrapped)


def state_of(stream: str, recorded: Iterable[Recorded]) -> object | None:
    """Return the state that a stream's entries lead to, whatever kind of thing it is about."""
    decider = _DECIDER_BY_THING[stream.partition("-")[0]]
    return fold(decider, None, (each.entry.event for each in recorded))


def _decided(
    decider: Decider[S, C, E], subject: UUID, command: C, asked: Asked, streams: Mapping[str, list[Recorded]]
) -> tuple[E, ...] | Refusal:
    stream = stream_of(decider.thing, subject)
    context = Context(
        now=clock.now(),
        actor=asked.actor,
        subject=subject,
        others={name: state_of(name, recorded) for name, recorded in streams.items() if name != stream},
        rights=asked.rights,
        person=asked.person,
    )
    version = len(streams[stream])
    try:
        events = decider.decide(state_of(stream, streams[stream]), command, context)  # type: ignore[arg-type]  # of the stream's own kind
        if asked.if_match is not None and asked.if_match != version:
            raise PreconditionFailed(asked.if_match, version)
    except Refusal as refusal:
        return refusal
    return events


def _appending(
    asked: Asked,
    subject: UUID,
    stream: str,
    recorded: list[Recorded],
    events: tuple[Any, ...],
    *,
    refusal: Refusal | None = None,
) -> Appending:
    return Appending(
        ledger_id=asked.ledger_id,
        subject=subject,
        stream=stream,
        expected_version=len(recorded),
        position=recorded[-1].position if recorded else 0,
        events=events,
        actor=asked.actor,
        correlation_id=asked.correlation_id,
        idempotency=asked.idempotency,
        refusal=refusal,
    )


def _raised(answer: Receipt | Refusal) -> Receipt:
    if isinstance(answer, Refusal):
        raise answer
    return answer

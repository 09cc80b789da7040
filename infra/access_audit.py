"""The audit of people: the log is told who was let in, who was not, and who changed what somebody may do.

What is done is appended within the transaction that does it, before that commits: nothing comes to be that the log does
not hold, and while the log cannot be written, nobody signs in. Should the commit fail then, the log says what was about
to be done.

What is refused is up to attackers. It is counted in memory and appended once an interval, as tallies of requests are; a
worker that is killed takes the last interval with it. Each such entry has a stream of its own, so that one whose answer
was lost is not appended twice. Attempts at accounts that do not exist are of no ledger, and neither is what operators
do: metrics alone count them.
"""

import asyncio
from collections import defaultdict, deque
from contextlib import suppress
from time import monotonic
from typing import Final
from uuid import UUID

from msgspec import structs

from domain.access import AccessChange, AccessEvent, Exported, RefusalKind
from domain.decider import stream_of
from domain.errors import VersionConflict
from domain.refusals import Refusals
from infra import clock, metrics
from infra.batch import Appending
from infra.commit import commit
from infra.database import Connection
from infra.users import INSTALLATION, User
from infra.whereabouts import truncated
from infra.writer import LogBusy, LogUnavailable, Writer

INTERVAL_SECONDS: Final = 60.0
WAITING_MAX: Final = 1_000
"""How many entries wait at most for a log that cannot be written; then the oldest are lost."""

THING: Final = "access"
"""Streams are named after it; the index of the catalogue leaves them out."""

EXPORTS_EVERY_SECONDS: Final = 900.0
"""How often a worker tells at most that somebody reads the log, or reports: who follows the log would fill it."""

OPERATOR: Final = "operator"
"""Who works at the command line, which whoever reaches the database may."""


class AccessAudit:
    """What one worker tells the logs about people and keys."""

    def __init__(self, writer: Writer, worker: int) -> None:
        """Tell them through a writer; nobody was refused yet."""
        self._writer = writer
        self._worker = worker
        self._since = clock.now()
        self._refused: defaultdict[UUID, Refusals] = defaultdict(Refusals)
        self._waiting: deque[Appending] = deque(maxlen=WAITING_MAX)
        self._exported: dict[tuple[UUID, str, Exported], float] = {}

    async def record(
        self, ledger_id: UUID, subject: UUID, event: AccessChange, *, actor: str, correlation_id: str | None = None
    ) -> None:
        """Append what is being done about a person or key; raise LogBusy or LogUnavailable if that cannot be."""
        if ledger_id != INSTALLATION:
            appending = _appending(ledger_id, subject, event, actor)
            await self._writer.append(structs.replace(appending, correlation_id=correlation_id))

    async def record_past(self, ledger_id: UUID, subject: UUID, event: AccessChange, *, actor: str) -> None:
        """Append what has been done and must not wait for the log; where that cannot be done now, it is done later."""
        if ledger_id == INSTALLATION:
            return
        appending = _appending(ledger_id, subject, event, actor)
        try:
            await self._writer.append(appending)
        except (LogBusy, LogUnavailable):
            self._waiting.append(appending)

    async def record_export(self, ledger_id: UUID, event: Exported, *, actor: str) -> None:
        """Append that somebody takes entries or a report with them, unless that was said not long ago."""
        taken, now = (ledger_id, actor, event), monotonic()
        if self._exported.get(taken, 0.0) <= now:
            lately = {known: until for known, until in self._exported.items() if until > now}
            self._exported = lately | {taken: now + EXPORTS_EVERY_SECONDS}
            await self.record_past(ledger_id, ledger_id, event, actor=actor)

    def refuse_sign_in(self, user: User | None, reason: str, *, address: str) -> None:
        """Count somebody who was not let in, as whoever they said they are."""
        metrics.SIGN_INS_REFUSED.labels(reason).inc()
        if user is not None:
            self.refuse(user.ledger_id, "sign_in_refused", actor=actor_of(user), reason=reason, address=address)

    def refuse(self, ledger_id: UUID, kind: RefusalKind, *, actor: str, reason: str, address: str) -> None:
        """Count one that was refused; of its address the network is kept."""
        if ledger_id != INSTALLATION:
            self._refused[ledger_id].add(kind, actor=actor, reason=reason, network=truncated(address))

    async def keep(self) -> None:
        """Append whom was refused, every interval, until cancelled; then the rest."""
        try:
            while True:
                await asyncio.sleep(INTERVAL_SECONDS)
                await self.append()
        finally:
            await self.append()

    async def append(self) -> None:
        """Append whom was refused since the last time, and what waits; where that cannot be done now, it waits."""
        since, self._since = self._since, clock.now()
        refused, self._refused = self._refused, defaultdict(Refusals)
        for ledger_id, refusals in refused.items():
            for event in refusals.take(since):
                own = _appending(ledger_id, clock.fresh_id(), event, f"worker:{self._worker}")
                self._waiting.append(structs.replace(own, expected_version=0))
        with suppress(LogBusy, LogUnavailable):
            while self._waiting:
                with suppress(VersionConflict):  # the answer was lost, and it is in the log already
                    await self._writer.append(self._waiting[0])
                self._waiting.popleft()


async def append_alone(
    connection: Connection, ledger_id: UUID, subject: UUID, event: AccessEvent, *, actor: str
) -> None:
    """Append without a writer what is being done, in the transaction that is open on this connection, if one is."""
    if ledger_id != INSTALLATION:
        await commit(connection, ledger_id, [_appending(ledger_id, subject, event, actor)], clock.now)


def actor_of(user: User) -> str:
    """Return how the log calls a person who does something."""
    return f"user:{user.id}"


def _appending(ledger_id: UUID, subject: UUID, event: AccessEvent, actor: str) -> Appending:
    return Appending(
        ledger_id=ledger_id,
        subject=subject,
        stream=stream_of(THING, subject),
        expected_version=None,
        position=0,
        events=(event,),
        actor=actor,
    )

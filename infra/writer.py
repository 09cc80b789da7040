"""The writer: the one way into the log, by group commit.

Whatever arrives while a batch is being committed waits in a bounded queue and becomes the next batch. Whoever asked is
answered when its batch is durable.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby
from time import monotonic
from typing import Any, Final, NamedTuple, assert_never
from uuid import UUID

import psycopg
import structlog

from domain.delivery import Settled
from domain.errors import Refusal
from domain.holds import Holds
from infra import clock, metrics
from infra.batch import Appending, Leasing, Plan, Receipt, Recording, Request, Result
from infra.commit import commit
from infra.database import APPLICATION_ROLE, Connection, Pool, connect, see

QUEUE_EVENTS_MAX: Final = 20_000
BATCH_EVENTS_MAX: Final = 1_000
ANSWER_SECONDS_MAX: Final = 5

UNAVAILABLE: Final = (
    *(OSError, psycopg.OperationalError, psycopg.InterfaceError),
    *(psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.IdleInTransactionSessionTimeout),
)
"""What says that the database cannot be written to just now."""

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class LogBusy(Exception):
    """The log takes in as much as it can; try again in a moment."""


class LogUnavailable(Exception):
    """The log cannot be reached; what was asked may or may not be in it, so try again with the same key or token."""


class _Waiting(NamedTuple):
    request: Request
    answer: asyncio.Future[Result]


class Writer:
    """The queue of one process, and the task that commits what is in it."""

    def __init__(self, url: str, holds_of: Callable[[UUID], Holds | None] = lambda _: None) -> None:
        """Write to the database at `url`; `holds_of` a ledger, if any, are told what became of its budgets."""
        self._url = url
        self._holds_of = holds_of
        self._queue: deque[_Waiting] = deque()
        self._queued_events = 0
        self._arrived = asyncio.Event()
        self._closing = False
        self._connection: Connection | None = None
        self.recorded_at = datetime.min.replace(tzinfo=UTC)
        """The latest time of recording that this process knows of; no promise may be stamped with an earlier one."""

    async def append(self, appending: Appending) -> Receipt:
        """Append what a command decided; raise its Refusal, LogBusy or LogUnavailable."""
        result = await self._submit(appending, _events(appending))
        if isinstance(result, Refusal):
            raise result
        assert isinstance(result, Receipt)  # noqa: S101  what `plan` answers an Appending with
        return result

    async def record(self, recording: Recording) -> tuple[Settled | None, ...]:
        """Settle and append deliveries; None stands for one recorded before. Raise LogBusy or LogUnavailable."""
        result = await self._submit(recording, _events(recording))
        assert isinstance(result, tuple)  # noqa: S101  what `plan` answers a Recording with
        return result

    async def lease(self, leasing: Leasing) -> None:
        """Say that this process's worker is alive, and lease what it wants; raise LogBusy or LogUnavailable."""
        await self._submit(leasing, _events(leasing))

    async def run(self) -> None:
        """Commit batches until the writer is closed and its queue is empty."""
        try:
            while await self._something_to_do():
                await self._commit(self._next_batch())
        finally:
            self._fail_all()
            if self._connection is not None:
                await self._connection.close()

    def close(self) -> None:
        """Take nothing more in; `run` returns once everything accepted is durable."""
        self._closing = True
        self._arrived.set()

    async def _submit(self, request: Request, events: int) -> Result:
        if self._closing or self._queued_events + events > QUEUE_EVENTS_MAX:
            raise LogBusy
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._queued_events += events
        self._arrived.set()
        return await waiting.answer

    async def _something_to_do(self) -> bool:
        while not self._queue:
            if self._closing:
                return False
            self._arrived.clear()
            await self._arrived.wait()
        return True

    def _next_batch(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        events = 0
        while self._queue and (not taken or events + _events(self._queue[0].request) <= BATCH_EVENTS_MAX):
            waiting = self._queue.popleft()
            events += _events(waiting.request)
            taken.append(waiting)
        self._queued_events -= events
        return taken

    async def _commit(self, taken: Sequence[_Waiting]) -> None:
        by_ledger = sorted(taken, key=lambda waiting: waiting.request.ledger_id)  # stable: order within one is kept
        for ledger_id, group in groupby(by_ledger, key=lambda waiting: waiting.request.ledger_id):
            await self._commit_to(ledger_id, list(group))

    async def _commit_to(self, ledger_id: UUID, of_ledger: Sequence[_Waiting]) -> None:
        requests = [waiting.request for waiting in of_ledger]
        started = monotonic()
        try:
            planned = await _within_bound(self._attempt(ledger_id, requests))
        except UNAVAILABLE as error:
            await self._give_up(of_ledger, error)
            return
        except Exception as error:
            log.exception("batch refused", requests=len(requests))
            await self._commit_apart(ledger_id, of_ledger, error)
            return
        self.recorded_at = max(self.recorded_at, planned.now)
        metrics.BATCH_SECONDS.observe(monotonic() - started)
        metrics.BATCH_EVENTS.observe(len(planned.entries))
        try:
            self._update_holds(ledger_id, requests, planned, asked=started)
        except Exception:
            log.exception("holds not updated")  # what is durable is answered all the same; leases end by themselves
        for waiting, result in zip(of_ledger, planned.results, strict=True):
            _answer(waiting, result)

    async def _attempt(self, ledger_id: UUID, requests: Sequence[Request]) -> Plan:
        if self._connection is None:
            # A process that is frozen within a commit must not keep the others from theirs for long.
            self._connection = await connect(
                self._url, role=APPLICATION_ROLE, idle_in_transaction_seconds=ANSWER_SECONDS_MAX
            )
        await see(self._connection, ledger_id)
        holds = self._holds_of(ledger_id)
        return await commit(self._connection, ledger_id, requests, clock.now, worker=holds.worker if holds else 0)

    async def _commit_apart(self, ledger_id: UUID, of_ledger: Sequence[_Waiting], error: Exception) -> None:
        """Commit each of a batch by itself: one of them cannot be, and must not keep the others from it."""
        if len(of_ledger) == 1:
            _fail(of_ledger[0], error)
            return
        for waiting in of_ledger:
            await self._commit_to(ledger_id, [waiting])

    def _update_holds(self, ledger_id: UUID, requests: Sequence[Request], planned: Plan, *, asked: float) -> None:
        # Here, and not where the answers arrive: in the order of commits (see `Holds.granted`).
        holds = self._holds_of(ledger_id)
        if holds is None:
            return
        for decision_id in planned.confirmed.get(holds.worker, ()):
            holds.confirm(decision_id)
        for request, result in zip(requests, planned.results, strict=True):
            if isinstance(request, Leasing) and request.worker == holds.worker and isinstance(result, Mapping):
                holds.granted(result, asked=asked)

    async def _give_up(self, of_ledger: Sequence[_Waiting], error: Exception) -> None:
        metrics.BATCHES_FAILED.inc()
        log.warning("batch failed", error=type(error).__name__, requests=len(of_ledger))
        for waiting in of_ledger:
            _fail(waiting, LogUnavailable())
        # Whoever queued behind a database that does not answer is told now, not one time-out after the other.
        self._fail_all()
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError, psycopg.Error, TimeoutError):
                async with asyncio.timeout(1):
                    await connection.close()

    def _fail_all(self) -> None:
        while self._queue:
            _fail(self._queue.popleft(), LogUnavailable())
        self._queued_events = 0


class Log(NamedTuple):
    """How a process reaches the log: connections to read it with, the writer, and what decrypts personal data in it."""

    pool: Pool
    writer: Writer
    masters: tuple[bytes, ...] = ()


async def _within_bound(attempt: Coroutine[Any, Any, Plan]) -> Plan:
    """Return what an attempt leads to; TimeoutError when that takes too long, whatever cancelling it takes then."""
    task = asyncio.ensure_future(attempt)
    done, _ = await asyncio.wait({task}, timeout=ANSWER_SECONDS_MAX)
    if not done:
        task.cancel()
        _abandoned.add(task)
        task.add_done_callback(_abandoned.discard)
        raise TimeoutError
    return task.result()


_abandoned: Final[set[asyncio.Future[Plan]]] = set()
"""Attempts that were given up and are still being cancelled: a server that is frozen does not answer that either."""


def _events(request: Request) -> int:
    match request:
        case Appending():
            return max(1, len(request.events))  # what only remembers a refusal takes its place, too
        case Recording():
            return len(request.deliveries)
        case Leasing():
            return len(request.wants) + 1
        case _:
            assert_never(request)


def _answer(waiting: _Waiting, result: Result) -> None:
    if not waiting.answer.done():  # whoever asked may have gone away meanwhile
        waiting.answer.set_result(result)


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)

"""Filling a read model from the log as fast as it goes: what counts is counted ahead, on two connections at once."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from math import ceil
from typing import Any, Final
from uuid import UUID

from infra.database import Connection, connect, connect_to
from projections import counting, runner
from projections.counting import Counting, Span
from projections.runner import AnyProjection

LANES: Final = 2
"""Connections that count; a third adds, which takes little."""

AHEAD_MAX: Final = LANES + 1
"""Bounds how many sums are kept in memory that are not added yet."""

Lanes = tuple[Connection, ...]


@asynccontextmanager
async def opened(url: str, projection: AnyProjection, ledger_id: UUID | None = None) -> AsyncIterator[Lanes]:
    """Yield the connections on which a read model is counted ahead; none, where entries are folded one by one.

    They see the one ledger, if one is named.
    """
    async with AsyncExitStack() as stack:
        lanes = [
            await stack.enter_async_context(await (connect_to(url, ledger_id) if ledger_id else connect(url)))
            for _ in range(LANES if isinstance(projection, Counting) else 0)
        ]
        for lane in lanes:
            await counting.prepare(lane)
        yield tuple(lanes)


async def fill(
    connection: Connection,
    projection: AnyProjection,
    ledger_id: UUID,
    until: int,
    *,
    lanes: Lanes,
    limit: int | None = None,
) -> AsyncGenerator[int, None]:
    """Apply the log up to a position that is not after its head; yield each position that was come to.

    Each step is a transaction, and begins where the last one ended, whatever became of those ahead. `limit` bounds how
    many entries that are folded are taken at once.
    """
    reached = await runner.begin(connection, projection, ledger_id)
    if not isinstance(projection, Counting):
        while reached < until:
            reached = await runner.advance(connection, projection, ledger_id, until=until, limit=limit)
            yield reached
        return
    async with aclosing(_ahead(projection, ledger_id, reached, until, lanes)) as counted:
        async for span, sums in counted:
            yield await runner.advance(connection, projection, ledger_id, until=span.until, ahead=(span, sums))


async def _ahead(
    projection: Counting, ledger_id: UUID, after: int, until: int, lanes: Lanes
) -> AsyncGenerator[tuple[Span, asyncio.Task[Any]], None]:
    """Yield the ranges of a log in order, each with the task that counts it."""
    begun: deque[tuple[Span, asyncio.Task[Any]]] = deque()
    try:
        rounds = ceil((until - after) / (len(lanes) * runner.RANGE_ENTRIES_MAX))  # each lane has as much to do
        step = ceil((until - after) / (len(lanes) * rounds)) if rounds else 1
        for number, first in enumerate(range(after, until, step)):
            span = Span(ledger_id, first, min(until, first + step))
            begun.append((span, asyncio.ensure_future(projection.tally(lanes[number % len(lanes)], span))))
            if len(begun) == AHEAD_MAX:
                yield begun.popleft()
        while begun:
            yield begun.popleft()
    finally:
        for _, task in begun:
            task.cancel()
        await asyncio.gather(*(task for _, task in begun), return_exceptions=True)

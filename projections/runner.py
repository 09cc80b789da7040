"""The runner: keeps every read model up to its log, each batch and its checkpoint in one transaction.

One runner per projection works across all processes: an advisory lock elects it, and the checkpoint's row lock fences
off one that lost the election without noticing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
import psycopg
import structlog
from msgspec import Struct
from sqlalchemy import Table

from domain.events import Event
from infra import clock, election, metrics
from infra.database import Connection, connect
from infra.event_log import CHANNEL, Recorded, Text, decode_entry, read_head, read_texts
from projections import counting
from projections.counting import Counting, Span

BATCH_ENTRIES_MAX: Final = 5_000
POSITION_MAX: Final = 2**62
RANGE_ENTRIES_MAX: Final = 2_000_000
"""How many are counted at once: as much is lost, and done again, when making a read model anew is interrupted."""

PAUSE_SECONDS: Final = 0.1
"""Deliveries gather so long before they are counted, unless a command comes, so that fewer rows are written."""

POLL_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 1.0

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class Projection(NamedTuple):
    """A read model that is folded, entry by entry, as the runner sees it.

    `write` folds a batch, all of event types that are handled, into `table`; `key` names the row an entry ends up
    in, which is what is parked when an entry cannot be applied. `catalogue_only` says that it handles no delivery.
    """

    name: str
    version: int
    handles: tuple[type[Event], ...]
    key: Callable[[Recorded], str]
    write: Callable[[Connection, UUID, Sequence[Recorded]], Awaitable[None]]
    table: Table
    catalogue_only: bool = True


AnyProjection = Projection | Counting


class _Bell(NamedTuple):
    """What wakes the keeper of a projection: that there are more entries, and that there are commands among them."""

    entries: asyncio.Event
    commands: asyncio.Event


class _Envelope(Struct, frozen=True, kw_only=True):
    """As much of an entry as every version of the program can read."""

    stream: str


async def run(url: str, projections: Iterable[AnyProjection]) -> None:
    """Keep the projections up to their logs until cancelled."""
    bells = {projection: _Bell(asyncio.Event(), asyncio.Event()) for projection in projections}
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_listen(url, list(bells.values())))
        for projection, bell in bells.items():
            tasks.create_task(_keep(url, projection, bell))


async def catch_up(connection: Connection, projection: AnyProjection) -> None:
    """Apply all that is in the logs and not yet in the projection."""
    while behind := await _ledgers_behind(connection, projection):
        for ledger_id in behind:
            await advance(connection, projection, ledger_id)


async def advance(
    connection: Connection,
    projection: AnyProjection,
    ledger_id: UUID,
    *,
    until: int = POSITION_MAX,
    limit: int | None = None,
    ahead: tuple[Span, Awaitable[Any]] | None = None,
) -> int:
    """Apply the next entries of one ledger, nothing after `until`; return the position that the projection has come to.

    Not more than `limit` are taken at once. It works on the tables that the connection finds: those of a schema in
    front of the live one, where there are any. `ahead` is a range of it, and what that was counted to elsewhere.
    """
    async with connection.transaction():
        position, head = await _begin(connection, projection, ledger_id)
        # Whoever had to wait for the checkpoint has an old head, maybe one that the other runner has passed.
        end = max(position, min(head, until))
        if isinstance(projection, Counting):
            end = min(end, position + (limit or RANGE_ENTRIES_MAX))
            span = Span(ledger_id, position, end, await counting.parked_keys(connection, ledger_id, projection.name))
            sums = ahead[1] if ahead is not None and ahead[0] == span else None
            await counting.apply(connection, projection, span, sums)
        else:
            end = await _advance_folded(connection, projection, ledger_id, position, end, limit or BATCH_ENTRIES_MAX)
        await _reach(connection, projection, ledger_id, end)
    if until == POSITION_MAX:
        metrics.PROJECTION_LAG.labels(projection.name).set(max(0, head - end))
    return end


async def _advance_folded(
    connection: Connection, projection: Projection, ledger_id: UUID, position: int, end: int, limit: int
) -> int:
    texts = await read_texts(
        connection, ledger_id, position, until=end, catalogue_only=projection.catalogue_only, limit=limit
    )
    await _apply(connection, projection, ledger_id, texts)
    return texts[-1].position if len(texts) == limit else end  # a page that is not full has seen everything up to there


async def _reach(connection: Connection, projection: AnyProjection, ledger_id: UUID, position: int) -> None:
    await connection.execute(
        """
        UPDATE checkpoints SET position = %(position)s, updated_at = %(now)s
        WHERE ledger_id = %(ledger_id)s AND projection = %(projection)s
        """,
        {"position": position, "now": clock.now(), "ledger_id": ledger_id, "projection": projection.name},
    )


async def _parked(connection: Connection, projection: Projection, ledger_id: UUID) -> dict[str, int]:
    """Return the keys that are parked, each with its first position."""
    cursor = await connection.execute(
        "SELECT key, min(position) AS since FROM parked_events WHERE ledger_id = %s AND projection = %s GROUP BY key",
        (ledger_id, projection.name),
    )
    return {row["key"]: row["since"] for row in await cursor.fetchall()}


async def _listen(url: str, bells: Sequence[_Bell]) -> None:
    commanded: dict[str, int] = {}
    while True:
        with suppress(OSError, psycopg.Error):
            async with await connect(url) as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                _ring(bells, commands=True)  # what nobody heard of
                while True:
                    for ledger in {notice.payload async for notice in connection.notifies(stop_after=1)}:
                        position = (await read_head(connection, UUID(ledger))).command_position
                        _ring(bells, commands=commanded.get(ledger) != position)
                        commanded[ledger] = position
        await asyncio.sleep(RETRY_SECONDS)


def _ring(bells: Sequence[_Bell], *, commands: bool) -> None:
    for bell in bells:
        bell.entries.set()
        if commands:
            bell.commands.set()


async def _keep(url: str, projection: AnyProjection, bell: _Bell) -> None:
    while True:
        try:
            async with await connect(url) as connection:
                # After a crash of the database what was lost is applied again: rows and checkpoint are lost together.
                await connection.execute("SET synchronous_commit TO off")
                await counting.prepare(connection)
                await election.win(connection, f"projection {projection.name}")
                while True:
                    bell.entries.clear()
                    bell.commands.clear()
                    await catch_up(connection, projection)
                    if not projection.catalogue_only:
                        await _rung(bell.commands, PAUSE_SECONDS)
                    await _rung(bell.commands if projection.catalogue_only else bell.entries, POLL_SECONDS)
        except (OSError, psycopg.Error) as error:
            log.warning("projection interrupted", projection=projection.name, error=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)


async def _rung(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or as long as that."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def _ledgers_behind(connection: Connection, projection: AnyProjection) -> list[UUID]:
    cursor = await connection.execute(
        """
        SELECT head.ledger_id FROM ledger_heads AS head
        LEFT JOIN checkpoints AS reached ON reached.ledger_id = head.ledger_id AND reached.projection = %s
        WHERE coalesce(reached.position, 0) < CASE WHEN %s THEN head.command_position ELSE head.position END
        """,
        (projection.name, projection.catalogue_only),
    )
    return [row["ledger_id"] for row in await cursor.fetchall()]


async def begin(connection: Connection, projection: AnyProjection, ledger_id: UUID) -> int:
    """Return where a projection stands; one that has not begun begins now."""
    position, _ = await _begin(connection, projection, ledger_id)
    return position


async def _begin(connection: Connection, projection: AnyProjection, ledger_id: UUID) -> tuple[int, int]:
    await connection.execute(
        """
        INSERT INTO checkpoints (ledger_id, projection, version, position, updated_at)
        VALUES (%s, %s, %s, 0, %s) ON CONFLICT DO NOTHING
        """,
        (ledger_id, projection.name, projection.version, clock.now()),
    )
    cursor = await connection.execute(
        """
        SELECT reached.position, head.position AS head
        FROM checkpoints AS reached JOIN ledger_heads AS head USING (ledger_id)
        WHERE ledger_id = %s AND projection = %s FOR UPDATE OF reached
        """,
        (ledger_id, projection.name),
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101  inserted above, and no head is ever deleted
    return row["position"], row["head"]


async def _apply(connection: Connection, projection: Projection, ledger_id: UUID, texts: Sequence[Text]) -> None:
    batch: list[Recorded] = []
    for text in texts:
        try:
            recorded = Recorded(position=text.position, entry=decode_entry(text.entry))
        except msgspec.DecodeError as error:
            await _park(
                connection,
                projection,
                ledger_id,
                key=_stream_of(text),
                positions=[text.position],
                error=error,
            )
            continue
        if isinstance(recorded.entry.event, projection.handles):
            batch.append(recorded)
    batch = await _without_parked(connection, projection, ledger_id, batch)
    if not batch:
        return
    try:
        async with connection.transaction():
            await projection.write(connection, ledger_id, batch)
    except psycopg.OperationalError:
        raise
    except Exception:
        # One of them is poison: apply each key by itself, so that only what cannot be applied stays behind.
        log.exception("batch refused", projection=projection.name)
        for key, group in groupby(sorted(batch, key=projection.key), key=projection.key):
            await _apply_key(connection, projection, ledger_id, key, list(group))


async def _apply_key(
    connection: Connection, projection: Projection, ledger_id: UUID, key: str, batch: list[Recorded]
) -> None:
    # One at a time: what a key has before its poison is applied, wherever the batch was cut.
    for number, recorded in enumerate(batch):
        try:
            async with connection.transaction():
                await projection.write(connection, ledger_id, [recorded])
        except psycopg.OperationalError:
            raise
        except Exception as error:  # noqa: BLE001  whatever a fold stumbles over is what parking is for
            positions = [behind.position for behind in batch[number:]]
            await _park(connection, projection, ledger_id, key=key, positions=positions, error=error)
            return


async def _without_parked(
    connection: Connection, projection: Projection, ledger_id: UUID, batch: list[Recorded]
) -> list[Recorded]:
    parked = await _parked(connection, projection, ledger_id)
    if not parked:
        return batch
    kept: list[Recorded] = []
    for recorded in batch:
        key = projection.key(recorded)
        if recorded.position < parked.get(key, recorded.position + 1):
            kept.append(recorded)
        else:
            error = ValueError("an earlier event of the same key is parked")
            await _park(connection, projection, ledger_id, key=key, positions=[recorded.position], error=error)
    return kept


async def _park(
    connection: Connection,
    projection: Projection,
    ledger_id: UUID,
    *,
    key: str,
    positions: Sequence[int],
    error: Exception,
) -> None:
    log.error("events parked", projection=projection.name, key=key, positions=positions, error=repr(error))
    await connection.execute(
        """
        INSERT INTO parked_events (ledger_id, projection, key, position, error, parked_at)
        SELECT %(ledger_id)s, %(projection)s, %(key)s, position, %(error)s, %(now)s
        FROM unnest(%(positions)s::bigint[]) AS position
        """,
        {
            "ledger_id": ledger_id,
            "projection": projection.name,
            "key": key,
            "error": repr(error),
            "now": clock.now(),
            "positions": list(positions),
        },
    )


def _stream_of(text: Text) -> str:
    """Return the stream of an entry that cannot be read, where what follows in it is parked as well."""
    try:
        return msgspec.json.decode(text.entry, type=_Envelope).stream
    except msgspec.DecodeError:
        return f"position {text.position}"

"""Rebuild: a read model made anew beside the live one, compared with it at the same position, and swapped in.

What is made anew is in tables of the schema `rebuild`, with a checkpoint of its own, so that the runner fills it like
the live one, and whoever was interrupted goes on where the last batch ended. Swapping changes only the rows that
differ, in one transaction: readers see all of it or nothing, and wait for nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from time import monotonic
from typing import Final, NamedTuple
from uuid import UUID

import psycopg
import structlog

from infra import clock, election, metrics
from infra.database import Connection, connect
from projections import filling
from projections.comparison import Comparison, compared
from projections.filling import Lanes
from projections.replay import LIVE, ROOM, put_in_front
from projections.runner import BATCH_ENTRIES_MAX, AnyProjection

SHADOW: Final = "rebuild"
"""The schema of the tables that are made anew."""

LOOK_EVERY_SECONDS: Final = 5.0

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class RebuildRunning(Exception):
    """The read model {name} is being rebuilt or compared by somebody else."""

    def __init__(self, name: str) -> None:
        """Name the read model."""
        super().__init__(str(self.__doc__).format(name=name))


class Progress(NamedTuple):
    """How many entries of how many are applied, and how long the rest may take: None as long as nobody can tell."""

    done: int
    entries: int
    seconds_left: float | None


Told = Callable[[Progress], None]


async def rebuild(url: str, projection: AnyProjection, told: Told) -> Comparison:
    """Make a read model anew, compare it, and swap it in; return how the two differed. Raise RebuildRunning."""
    async with _shadow(url, projection) as (connection, lanes):
        await _fill(connection, lanes, projection, told)
        comparison = await _compare(connection, lanes, projection, told)
        async with connection.transaction():
            await _stop_live(connection, projection)
            await _fill(connection, lanes, projection, told, whole=True)
            await _swap(connection, projection)
            await _drop(connection, projection)
    return comparison


async def compare(url: str, projection: AnyProjection, told: Told) -> Comparison:
    """Make a read model anew, return how the live one differs from it, and throw it away. Raise RebuildRunning."""
    async with _shadow(url, projection) as (connection, lanes):
        await _fill(connection, lanes, projection, told)
        comparison = await _compare(connection, lanes, projection, told)
        await _drop(connection, projection)
    metrics.PROJECTION_DIFFERENCES.labels(projection.name).set(comparison.differing_keys)
    return comparison


async def discard(url: str, projection: AnyProjection) -> bool:
    """Throw away what an interrupted rebuild has left; return whether there was any. Raise RebuildRunning."""
    async with _alone(url, projection) as connection:
        left = await _resumable(connection, projection)
        await _drop(connection, projection)
    return left


async def follow_versions(url: str, projections: Sequence[AnyProjection]) -> None:
    """Rebuild every read model of an older version than its projection, until cancelled."""
    while True:
        try:
            async with await connect(url) as connection:
                outdated = await _outdated(connection, projections)
            for projection in outdated:
                await _renew(url, projection)
        except (OSError, psycopg.Error) as error:
            log.warning("rebuild interrupted", error=type(error).__name__)
        await asyncio.sleep(LOOK_EVERY_SECONDS)


async def _renew(url: str, projection: AnyProjection) -> None:
    log.info("rebuild begins", projection=projection.name, version=projection.version)
    try:
        found = await rebuild(url, projection, lambda _: None)
    except RebuildRunning:
        return
    log.info(
        "rebuild swapped in", projection=projection.name, version=projection.version, differing=found.differing_keys
    )


async def _outdated(connection: Connection, projections: Sequence[AnyProjection]) -> list[AnyProjection]:
    cursor = await connection.execute("SELECT projection, min(version) AS version FROM checkpoints GROUP BY projection")
    versions = {row["projection"]: row["version"] for row in await cursor.fetchall()}
    return [each for each in projections if versions.get(each.name, each.version) < each.version]


@asynccontextmanager
async def _alone(url: str, projection: AnyProjection) -> AsyncIterator[Connection]:
    """Yield a connection that nobody else has who makes this read model anew, and that finds those tables first."""
    async with await connect(url) as connection:
        if not await election.try_to_win(connection, f"rebuild {projection.name}"):
            raise RebuildRunning(projection.name)
        await put_in_front(connection, SHADOW)
        try:
            yield connection
        finally:
            # The server learns of a closed connection a moment later, and whoever comes next would be refused.
            with suppress(psycopg.Error):
                await connection.execute("SELECT pg_advisory_unlock_all()")


@asynccontextmanager
async def _shadow(url: str, projection: AnyProjection) -> AsyncIterator[tuple[Connection, Lanes]]:
    """Yield such a connection with tables to fill, kept if they still fit, and the lanes."""
    async with _alone(url, projection) as connection, filling.opened(url, projection) as lanes:
        if not await _resumable(connection, projection):
            async with connection.transaction():
                await _drop(connection, projection)
                table = projection.table.name
                await connection.execute(f"CREATE TABLE {SHADOW}.{table} (LIKE {LIVE}.{table} INCLUDING ALL) {ROOM}")
        yield connection, lanes


async def _resumable(connection: Connection, projection: AnyProjection) -> bool:
    """Return whether there are tables of this version, and of the shape that the live one has."""
    cursor = await connection.execute(
        f"""
        SELECT shape.live = shape.anew AND NOT EXISTS (
            SELECT FROM {SHADOW}.checkpoints WHERE projection = %(projection)s AND version <> %(version)s
        ) AS resumable
        FROM (
            SELECT (
                SELECT array_agg(ROW(attname, atttypid, attnotnull)::text ORDER BY attnum) FROM pg_attribute
                WHERE attrelid = to_regclass(%(live)s) AND attnum > 0 AND NOT attisdropped
            ) AS live, (
                SELECT array_agg(ROW(attname, atttypid, attnotnull)::text ORDER BY attnum) FROM pg_attribute
                WHERE attrelid = to_regclass(%(anew)s) AND attnum > 0 AND NOT attisdropped
            ) AS anew
        ) AS shape
        """,
        {
            "projection": projection.name,
            "version": projection.version,
            "live": f"{LIVE}.{projection.table.name}",
            "anew": f"{SHADOW}.{projection.table.name}",
        },
    )
    row = await cursor.fetchone()
    return row is not None and bool(row["resumable"])


async def _fill(
    connection: Connection, lanes: Lanes, projection: AnyProjection, told: Told, *, whole: bool = False
) -> None:
    """Apply what the live read model has applied: all of it, or all but what a batch takes."""
    started, first = monotonic(), None
    while True:
        wanted = await _positions(connection, LIVE, projection)
        reached = dict(await _positions(connection, SHADOW, projection))
        behind = {ledger: to for ledger, to in wanted.items() if reached.get(ledger, 0) < to}
        first = _done(wanted, reached) if first is None else first
        _tell(told, wanted, reached, first, monotonic() - started)
        if not behind or (not whole and sum(wanted.values()) - _done(wanted, reached) < BATCH_ENTRIES_MAX):
            return
        for ledger_id, until in behind.items():
            steps = filling.fill(connection, projection, ledger_id, until, lanes=lanes, limit=BATCH_ENTRIES_MAX)
            async with aclosing(steps):
                async for reached[ledger_id] in steps:
                    _tell(told, wanted, reached, first, monotonic() - started)


def _done(wanted: Mapping[UUID, int], reached: Mapping[UUID, int]) -> int:
    return sum(min(reached.get(ledger, 0), to) for ledger, to in wanted.items())


def _tell(told: Told, wanted: Mapping[UUID, int], reached: Mapping[UUID, int], first: int, seconds: float) -> None:
    entries, done = sum(wanted.values()), _done(wanted, reached)
    rate = (done - first) / max(seconds, 0.001)
    told(Progress(done, entries, (entries - done) / rate if rate else None))


async def _compare(connection: Connection, lanes: Lanes, projection: AnyProjection, told: Told) -> Comparison:
    """Compare the two at the positions of the live one, in a snapshot of it: it goes on meanwhile."""
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await _fill(connection, lanes, projection, told, whole=True)
        positions = await _positions(connection, LIVE, projection)
        cursor = await connection.execute(
            f"SELECT min(version) AS version FROM {LIVE}.checkpoints WHERE projection = %s", (projection.name,)
        )
        row = await cursor.fetchone()
        live_version = projection.version if row is None or row["version"] is None else row["version"]
        return await compared(
            connection,
            projection.table,
            schemas=(LIVE, SHADOW),
            projection=projection.name,
            versions=(live_version, projection.version),
            positions=positions,
        )


async def _positions(connection: Connection, schema: str, projection: AnyProjection) -> Mapping[UUID, int]:
    cursor = await connection.execute(
        f"SELECT ledger_id, position FROM {schema}.checkpoints WHERE projection = %s ORDER BY ledger_id",
        (projection.name,),
    )
    return {row["ledger_id"]: row["position"] for row in await cursor.fetchall()}


async def _stop_live(connection: Connection, projection: AnyProjection) -> None:
    """Keep the runner of the live read model from its next batch until the transaction ends."""
    await connection.execute(
        f"SELECT FROM {LIVE}.checkpoints WHERE projection = %s ORDER BY ledger_id FOR UPDATE", (projection.name,)
    )


async def _swap(connection: Connection, projection: AnyProjection) -> None:
    """Make the live rows, what is parked and the version those of the tables made anew."""
    table = projection.table.name
    columns = ", ".join(column.name for column in projection.table.columns)
    same_key = " AND ".join(f"live.{column.name} = anew.{column.name}" for column in projection.table.primary_key)
    live, anew = (
        f"ROW({', '.join(f'{side}.{column.name}' for column in projection.table.columns)})::text"
        for side in ("live", "anew")
    )
    await connection.execute(f"ANALYZE {SHADOW}.{table}")
    await connection.execute(
        f"""
        DELETE FROM {LIVE}.{table} AS live
        WHERE NOT EXISTS (SELECT FROM {SHADOW}.{table} AS anew WHERE {same_key} AND {anew} = {live})
        """
    )
    await connection.execute(
        f"""
        INSERT INTO {LIVE}.{table} ({columns}) SELECT {columns} FROM {SHADOW}.{table} AS anew
        WHERE NOT EXISTS (SELECT FROM {LIVE}.{table} AS live WHERE {same_key})
        """
    )
    await connection.execute(f"DELETE FROM {LIVE}.parked_events WHERE projection = %s", (projection.name,))
    await connection.execute(
        f"INSERT INTO {LIVE}.parked_events SELECT * FROM {SHADOW}.parked_events WHERE projection = %s",
        (projection.name,),
    )
    await connection.execute(
        f"UPDATE {LIVE}.checkpoints SET version = %s, updated_at = %s WHERE projection = %s",
        (projection.version, clock.now(), projection.name),
    )


async def _drop(connection: Connection, projection: AnyProjection) -> None:
    async with connection.transaction():
        await connection.execute(f"DROP TABLE IF EXISTS {SHADOW}.{projection.table.name}")
        await connection.execute(f"DELETE FROM {SHADOW}.checkpoints WHERE projection = %s", (projection.name,))
        await connection.execute(f"DELETE FROM {SHADOW}.parked_events WHERE projection = %s", (projection.name,))

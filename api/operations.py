"""The door for those who run the service: is it alive, is it ready, what does it count."""

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import Final, Literal
from uuid import UUID

import psycopg
from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY
from psycopg_pool import PoolTimeout

from api.open_ledgers import OpenLedgers
from api.problems import NOT_READY_STATUS
from api.services import Services
from domain.events import ProjectionCompared
from infra import clock, event_log, schema, tree
from infra.database import Connection, see
from infra.metrics import PROJECTION_DIFFERENCES, PROJECTION_LAG, SEALED_ENTRIES, UNSEALED_SECONDS
from projections import status
from projections.catalogue import PROJECTIONS

CONNECTION_SECONDS_MAX: Final = 2
BEHIND_MAX: Final = timedelta(seconds=15)
"""How long a projection may not have moved, with events waiting for it, before the service is not ready.

An entry that has waited that long for its seal has waited too long as well.
"""

Check = Literal["ok", "failed", "behind"]


class Alive(Struct, frozen=True, kw_only=True):
    """The process answers."""

    status: Literal["live"] = "live"


class Readiness(Struct, frozen=True, kw_only=True):
    """Whether the service can do its work, and what keeps it from it.

    `seal` says whether the log is sealed as it grows; where it is not, nothing is lost, and the service is ready.
    """

    status: Literal["ready", "not ready"]
    database: Check
    schema: Check
    projections: Check
    serving: Check
    seal: Check


class OperationsController(Controller):
    """Health and metrics."""

    tags = ("operations",)

    @get("/health/live", operation_id="live", sync_to_thread=False)
    def live(self) -> Alive:
        """Answer, if the process can."""
        return Alive()

    @get(
        "/health/ready",
        operation_id="ready",
        responses={NOT_READY_STATUS: ResponseSpec(Readiness, description="Not ready.", generate_examples=False)},
    )
    async def ready(self, services: NamedDependency[Services]) -> Response[Readiness]:
        """Check the database, its schema, and that the read models keep up."""
        found = await _readiness(services)
        return Response(found, status_code=200 if found.status == "ready" else NOT_READY_STATUS)

    @get("/metrics", operation_id="metrics", media_type="text/plain")
    async def metrics(self, services: NamedDependency[Services]) -> Response[bytes]:
        """Show what all workers have counted, and how far the read models are behind, in Prometheus' text format."""
        with suppress(psycopg.Error, PoolTimeout, OSError):  # what was counted is wanted most when the database is gone
            async with services.log.pool.connection(timeout=CONNECTION_SECONDS_MAX) as connection:
                await _measure_background(connection, services.ledgers)
        counted = await asyncio.to_thread(generate_latest, _registry())
        return Response(counted, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _measure_background(connection: Connection, ledgers: OpenLedgers) -> None:
    """Take from the database what background workers have come to: none has a door, and some are on other machines.

    Of several ledgers, sums are shown where things are counted, and the worst where they are late.
    """
    lags, differences = Counter[str](), Counter[str]()
    sealed_entries, unsealed_seconds = 0, 0.0
    for ledger in ledgers:
        await see(connection, ledger.id)
        for projection in await status.read_status(connection, ledger.id):
            lags[projection.name] = max(lags[projection.name], projection.lag)
        sealed = await tree.read_checkpoint(connection, ledger.id)
        sealed_entries += sealed.size if sealed else 0
        since = await tree.unsealed_since(connection, ledger.id)
        unsealed_seconds = max(unsealed_seconds, (clock.now() - since).total_seconds() if since else 0)
        for recorded in await event_log.read_last(connection, ledger.id, ProjectionCompared, limit=len(PROJECTIONS)):
            event = recorded.entry.event
            if isinstance(event, ProjectionCompared):
                differences[event.projection] += event.differing_keys
    for name, lag in lags.items():
        PROJECTION_LAG.labels(name).set(lag)
    for name, differing in differences.items():
        PROJECTION_DIFFERENCES.labels(name).set(differing)
    SEALED_ENTRIES.set(sealed_entries)
    UNSEALED_SECONDS.set(unsealed_seconds)


def _registry() -> CollectorRegistry:
    """Return what is counted in this process or, where several share a folder, in all of them."""
    if values.ValueClass.__name__ != "MmapedValue":
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the package leaves it untyped
    return registry


async def _readiness(services: Services) -> Readiness:
    try:
        async with services.log.pool.connection(timeout=CONNECTION_SECONDS_MAX) as connection:
            right_schema = await _has_right_schema(connection)
            behind = unsealed = False
            for ledger in services.ledgers if right_schema else ():
                await see(connection, ledger.id)
                behind = behind or await _is_behind(connection, ledger.id)
                unsealed = unsealed or await _is_unsealed(connection, ledger.id)
    except (psycopg.Error, PoolTimeout, OSError):
        return Readiness(
            status="not ready",
            database="failed",
            schema="failed",
            projections="failed",
            serving="failed",
            seal="failed",
        )
    stale = monotonic() > services.ledgers.refreshed_at() + BEHIND_MAX.total_seconds()
    return Readiness(
        status="ready" if right_schema and not behind and not stale else "not ready",
        database="ok",
        schema="ok" if right_schema else "failed",
        projections="behind" if behind else "ok" if right_schema else "failed",
        serving="behind" if stale else "ok",
        seal="behind" if unsealed else "ok" if right_schema else "failed",
    )


async def _has_right_schema(connection: Connection) -> bool:
    return await schema.revision_of(connection) == schema.newest_revision()


async def _is_behind(connection: Connection, ledger_id: UUID) -> bool:
    found = await status.read_status(connection, ledger_id)
    late = clock.now() - BEHIND_MAX
    return any(projection.lag and projection.updated_at < late for projection in found)


async def _is_unsealed(connection: Connection, ledger_id: UUID) -> bool:
    since = await tree.unsealed_since(connection, ledger_id)
    return since is not None and since < clock.now() - BEHIND_MAX

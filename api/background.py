"""The background worker: read models, sealing, and what the clock asks for. Several may run; locks elect one a job."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

import psycopg
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from domain.campaign import CAMPAIGN, Campaign, due
from domain.decider import stream_of
from domain.errors import Refusal
from domain.holds import Holds
from infra import clock, cosigner, election, installation, sealer, sessions, throttle
from infra.cosigner import Witnesses
from infra.database import connect, open_pool
from infra.event_log import read_streams
from infra.execute import Asked, execute, state_of
from infra.log_keys import LogKeys
from infra.writer import Log, LogBusy, LogUnavailable, Writer
from projections import campaigns, rebuild
from projections.catalogue import PROJECTIONS
from projections.runner import run

CLOCK_ACTOR: Final = "clock"
DATES_EVERY_SECONDS: Final = 30
HOUSEKEEPING_EVERY_SECONDS: Final = 3_600
RETRY_SECONDS: Final = 2
COMPARE_AT_HOUR: Final = 3
"""Of the day in UTC: when read models are compared with what the log makes of them."""

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


async def work(url: str, keys: LogKeys, witnesses: Witnesses | None = None) -> None:
    """Do all background work until cancelled: sign the log with these keys, and have these witnesses cosign it.

    Raises SchemaUnfit or NotDurable when it must not begin.
    """
    async with open_pool(url, size_max=4) as pool:
        async with pool.connection() as connection:
            await installation.check(connection)
        writer = Writer(url, Holds())
        writing = asyncio.create_task(writer.run(), name="writer")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(run(url, PROJECTIONS), name="projections")
                tasks.create_task(rebuild.follow_versions(url, PROJECTIONS), name="rebuild")
                tasks.create_task(sealer.run(url, keys), name="sealer")
                if witnesses is not None:
                    tasks.create_task(cosigner.run(url, witnesses), name="cosigner")
                tasks.create_task(_keep_time(url, Log(pool, writer)), name="clock")
        finally:
            writer.close()
            await writing


async def follow_dates(ledger_log: Log) -> None:
    """Ask for every step that the dates of campaigns make due, however long ago; steps that others took are fine."""
    async with ledger_log.pool.connection() as connection:
        ending = [
            (ledger_id, campaign_id)
            for ledger_id in await installation.ledgers(connection)
            for campaign_id in await campaigns.ending(connection, ledger_id, clock.now().date() + timedelta(days=1))
        ]
    for ledger_id, campaign_id in ending:
        await _step(ledger_log, ledger_id, campaign_id)


async def _step(ledger_log: Log, ledger_id: UUID, campaign_id: UUID) -> None:
    stream = stream_of(CAMPAIGN.thing, campaign_id)
    async with ledger_log.pool.connection() as connection:
        recorded = (await read_streams(connection, ledger_id, [stream]))[stream]
    campaign = state_of(stream, recorded)
    step = due(campaign, clock.now()) if isinstance(campaign, Campaign) else None
    if step is None:
        return
    # On this version only: whoever moves a date meanwhile is not overtaken by what the old one asked for.
    asked = Asked(ledger_id=ledger_id, actor=CLOCK_ACTOR, if_match=len(recorded))
    try:
        await execute(ledger_log, CAMPAIGN, campaign_id, step, asked)
    except Refusal as refusal:
        log.info("step was not taken", campaign=str(campaign_id), code=refusal.code)


async def _keep_time(url: str, ledger_log: Log) -> None:
    while True:
        scheduler = AsyncIOScheduler(timezone="UTC", job_defaults={"coalesce": True, "misfire_grace_time": None})
        scheduler.add_job(
            _patiently,
            "interval",
            args=[follow_dates, ledger_log],
            seconds=DATES_EVERY_SECONDS,
            next_run_time=clock.now(),
        )
        scheduler.add_job(_patiently, "interval", args=[_tidy, ledger_log], seconds=HOUSEKEEPING_EVERY_SECONDS)
        scheduler.add_job(rebuild.compare_all, "cron", args=[url, PROJECTIONS], hour=COMPARE_AT_HOUR)
        try:
            async with await connect(url) as connection:
                await election.win(connection, "clock")
                scheduler.start()
                await election.hold(connection)
        except (OSError, psycopg.Error) as error:
            log.warning("clock interrupted", error=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)
        finally:
            if scheduler.running:
                scheduler.shutdown(wait=False)


async def _patiently(job: Callable[[Log], Awaitable[None]], ledger_log: Log) -> None:
    """Run a job; what the database keeps it from doing now, its next run does."""
    try:
        await job(ledger_log)
    except (OSError, psycopg.Error, LogBusy, LogUnavailable) as error:
        log.warning("job interrupted", job=job.__name__, error=type(error).__name__)


async def _tidy(ledger_log: Log) -> None:
    async with ledger_log.pool.connection() as connection:
        await sessions.forget_past(connection)
        await throttle.forget_past(connection)

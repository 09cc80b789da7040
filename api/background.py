"""The background worker: read models, sealing, and what the clock asks for. Several may run; locks elect one a job."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import psycopg
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from msgspec import Struct, structs

from api import mailing
from api.mailing import Mailing
from domain.campaign import CAMPAIGN, Campaign, due
from domain.decider import stream_of
from domain.errors import Refusal
from domain.events import ProjectionCompared
from infra import (
    account_letters,
    account_tokens,
    clock,
    cosigner,
    courier,
    election,
    installation,
    invitations,
    sealer,
    sessions,
    spent_codes,
    throttle,
)
from infra.batch import Appending
from infra.cosigner import Witnesses
from infra.database import connect, open_pool
from infra.destinations import Destinations
from infra.event_log import read_streams
from infra.execute import Asked, execute, state_of
from infra.keys import Keys
from infra.keys import read as read_keys
from infra.log_keys import LogKeys
from infra.mail import mail_of
from infra.settings import Settings
from infra.writer import Log, LogBusy, LogUnavailable, Writer
from projections import campaigns, rebuild
from projections.catalogue import PROJECTIONS
from projections.comparison import Comparison
from projections.forgetting import forget_viewings
from projections.rebuild import RebuildRunning
from projections.runner import AnyProjection, run

CLOCK_ACTOR: Final = "clock"
COMPARISON_THING: Final = "comparison"
DATES_EVERY_SECONDS: Final = 30
HOUSEKEEPING_EVERY_SECONDS: Final = 3_600
RETRY_SECONDS: Final = 2
COMPARE_AT_HOUR: Final = 3
"""Of the day in UTC: when read models are compared with what the log makes of them."""

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class Sending(Struct, frozen=True, kw_only=True):
    """What sending messages takes: the secrets, where webhooks may be, the waits after failures, and mail."""

    keys: Keys
    destinations: Destinations
    waits_seconds: tuple[float, ...]
    mailing: Mailing


def sending_of(found: Settings) -> Sending:
    """Return what sending messages takes, as the settings have it; raise as `keys.read` does."""
    keys = read_keys(found)
    return Sending(
        keys=keys,
        destinations=Destinations(found.webhook_networks),
        waits_seconds=found.message_retry_seconds,
        mailing=Mailing(
            mail=mail_of(found),
            keys=keys,
            sender=found.mail_from,
            public_url=found.public_url,
            console_url=found.public_url + found.console_path if found.public_url and found.console_path else "",
            waits_seconds=found.message_retry_seconds,
        ),
    )


async def work(url: str, keys: LogKeys, witnesses: Witnesses | None = None, sending: Sending | None = None) -> None:
    """Do all background work until cancelled: sign the log with these keys, and have these witnesses cosign it.

    Without `sending`, what is to be sent waits. Raises SchemaUnfit or NotDurable when it must not begin.
    """
    async with open_pool(url, size_max=4) as pool:
        async with pool.connection() as connection:
            await installation.check(connection)
            keys = structs.replace(keys, first=await installation.first_ledger(connection))
        writer = Writer(url)
        writing = asyncio.create_task(writer.run(), name="writer")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(run(url, PROJECTIONS), name="projections")
                tasks.create_task(rebuild.follow_versions(url, PROJECTIONS), name="rebuild")
                tasks.create_task(sealer.run(url, keys), name="sealer")
                if witnesses is not None:
                    tasks.create_task(cosigner.run(url, witnesses), name="cosigner")
                if sending is not None:
                    told = courier.run(url, sending.keys, sending.destinations, sending.waits_seconds)
                    tasks.create_task(told, name="webhooks")
                    tasks.create_task(mailing.run(url, sending.mailing), name="mail")
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


async def compare(url: str, ledger_log: Log, projections: Sequence[AnyProjection] = PROJECTIONS) -> None:
    """Compare read models, one after the other, with what the log makes of them: the results are metrics and events."""
    for projection in projections:
        try:
            found = await rebuild.compare(url, projection, lambda _: None)
            await _record(ledger_log, found)
        except RebuildRunning as error:
            log.info("read model not compared", projection=projection.name, reason=str(error))
        except (OSError, psycopg.Error, LogBusy, LogUnavailable, Refusal) as error:
            log.warning("read model not compared", projection=projection.name, reason=type(error).__name__)


async def _record(ledger_log: Log, found: Comparison) -> None:
    """Write what a comparison found into every log that it was made of."""
    tell = log.error if found.differing_keys else log.info
    tell("read model compared", projection=found.projection, differing=found.differing_keys)
    for ledger_id, position in found.positions.items():
        stream = stream_of(COMPARISON_THING, ledger_id)
        async with ledger_log.pool.connection() as connection:
            recorded = (await read_streams(connection, ledger_id, [stream]))[stream]
        event = ProjectionCompared(
            projection=found.projection,
            version=found.version,
            as_of=position,
            rows=found.live.rows,
            differing_keys=found.differing_keys,
        )
        await ledger_log.writer.append(
            Appending(
                ledger_id=ledger_id,
                subject=ledger_id,
                stream=stream,
                expected_version=len(recorded),
                position=0,
                events=(event,),
                actor=CLOCK_ACTOR,
            )
        )


async def _keep_time(url: str, ledger_log: Log) -> None:
    while True:
        scheduler = AsyncIOScheduler(timezone="UTC", job_defaults={"coalesce": True, "misfire_grace_time": None})
        scheduler.add_job(compare, "cron", args=[url, ledger_log], hour=COMPARE_AT_HOUR)
        # By the steady clock: a wall clock that is set back must not put off what the dates of campaigns ask for.
        often = ((follow_dates, DATES_EVERY_SECONDS), (_tidy, HOUSEKEEPING_EVERY_SECONDS))
        regular: list[asyncio.Task[None]] = []
        try:
            async with await connect(url) as connection:
                await election.win(connection, "clock")
                scheduler.start()
                regular = [asyncio.create_task(_every(seconds, job, ledger_log)) for job, seconds in often]
                await election.hold(connection)
        except (OSError, psycopg.Error) as error:
            log.warning("clock interrupted", error=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)
        finally:
            for task in regular:
                task.cancel()
            if scheduler.running:
                scheduler.shutdown(wait=False)


async def _every(seconds: float, job: Callable[[Log], Awaitable[None]], ledger_log: Log) -> None:
    while True:
        await _patiently(job, ledger_log)
        await asyncio.sleep(seconds)


async def _patiently(job: Callable[[Log], Awaitable[None]], ledger_log: Log) -> None:
    """Run a job; what the database keeps it from doing now, its next run does."""
    try:
        await job(ledger_log)
    except (OSError, psycopg.Error, LogBusy, LogUnavailable) as error:
        log.warning("job interrupted", job=job.__name__, error=type(error).__name__)


async def _tidy(ledger_log: Log) -> None:
    async with ledger_log.pool.connection() as connection:
        for each in (sessions, throttle, spent_codes, account_tokens, account_letters, invitations):
            await each.forget_past(connection)
        await forget_viewings(connection, clock.now())

"""Elections: of the processes that could do a job, one does it; advisory locks of the database decide which."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Final

import psycopg
import structlog

from infra.database import Connection, connect

ASK_EVERY_SECONDS: Final = 2.0
FROZEN_SECONDS_MAX: Final = 15
"""For so long whoever does a job may say nothing; then the database takes it for frozen, and another takes over."""

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


async def try_to_win(connection: Connection, job: str) -> bool:
    """Return whether this connection is the one that does a job, from now until it is closed or lost."""
    cursor = await connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0)) AS won", (job,))
    row = await cursor.fetchone()
    return row is not None and bool(row["won"])


async def win(connection: Connection, job: str) -> None:
    """Wait until this connection is the one that does a job; it is lost when nothing is asked on it for too long."""
    while not await try_to_win(connection, job):  # noqa: ASYNC110  what is waited for happens in another process
        await asyncio.sleep(ASK_EVERY_SECONDS)
    for setting in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
        await connection.execute(f"SET {setting} = '{FROZEN_SECONDS_MAX}s'".encode())


async def hold(connection: Connection) -> None:
    """Wait until the connection is lost, and with it the job: raise psycopg.OperationalError then."""
    while True:
        await asyncio.sleep(ASK_EVERY_SECONDS)
        await connection.execute("SELECT 1")


async def lead(url: str, job: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Do a job, on connections of its own, whenever this process is the one to do it; until cancelled."""
    while True:
        tasks: list[asyncio.Task[None]] = []
        try:
            async with await connect(url) as connection:
                await win(connection, job)
                tasks = [asyncio.create_task(work(), name=job), asyncio.create_task(hold(connection))]
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        except (OSError, psycopg.Error) as error:
            log.warning("job interrupted", job=job, error=type(error).__name__)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(ASK_EVERY_SECONDS)

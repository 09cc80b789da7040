"""Two of what there should be one of: each job is done once, also when one that was frozen resumes after takeover."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import psycopg
import pytest

from infra import election
from infra.database import connect
from tests.api.pages import Page, eventually
from tests.faults.aftermath import aftermath
from tests.faults.test_points import locked
from tests.faults.traffic import Traffic
from tests.running import Service

_ELECTED = """
    SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""


def elected(connection: psycopg.Connection) -> set[int]:
    """Return the backends of those that do a job."""
    return {pid for (pid,) in connection.execute(_ELECTED)}


@contextmanager
def working(service: Service) -> Iterator[None]:
    """Another background worker of the same service."""
    command = [sys.executable, "-m", "api.cli", "work", "--data-dir", str(service.data_dir)]
    worker = subprocess.Popen(command, env=service.environment, stderr=subprocess.DEVNULL)
    try:
        yield
        assert worker.poll() is None
    finally:
        worker.terminate()
        worker.wait(20)


@contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    """A process that is stopped, and goes on afterwards."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def test_a_frozen_worker_resumes_after_takeover(service: Service, page: Page, traffic: Traffic) -> None:
    """A worker that is frozen in the middle of a batch is overtaken; when it resumes nothing is done twice."""
    first = service.background()
    with (
        service.database() as url,
        psycopg.connect(url, autocommit=True) as owner,
        working(service),
        traffic.flowing(page),
    ):
        before = elected(owner)
        with locked(url, "deliveries", "deliveries") as is_reached:
            eventually(is_reached)
            first.suspend()
        with suppress(psutil.NoSuchProcess), frozen(first):
            for pid in before:  # as the database itself does after a while
                owner.execute("SELECT pg_terminate_backend(%s)", (pid,))
            eventually(lambda: len(elected(owner) - before) >= len(before))
            eventually(traffic.is_under_way)
        assert first.is_running()
        at = traffic.new_answers()
        eventually(lambda: traffic.new_answers() > at + 100)
    assert service.background() == first
    aftermath(page.world, traffic)
    verify = [sys.executable, "-m", "api.cli", "audit", "verify", "--data-dir", str(service.data_dir)]
    done = subprocess.run(verify, env=service.environment, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


async def test_who_says_nothing_loses_the_job(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does a job and falls silent, in a transaction or not, loses it to the next."""
    monkeypatch.setattr(election, "FROZEN_SECONDS_MAX", 1)
    monkeypatch.setattr(election, "ASK_EVERY_SECONDS", 0.05)
    async with await connect(database_url) as silent, await connect(database_url) as next_one:
        await election.win(silent, "job")
        await silent.execute("BEGIN")
        await asyncio.wait_for(election.win(next_one, "job"), 10)
        with pytest.raises(psycopg.Error, match="timeout"):
            await silent.execute("SELECT 1")

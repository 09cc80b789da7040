"""The background worker: what the dates of campaigns ask for is done once, by the clock, however late."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import pytest

from api import background
from api.background import compare, follow_dates, work
from domain.events import CampaignActivated, CampaignChanged, CampaignCompleted, CampaignPaused, Event
from domain.values import local_date
from infra import clock, election
from infra.database import Connection, Pool, open_pool
from infra.writer import Log
from projections import campaigns
from projections.catalogue import PROJECTIONS
from projections.runner import catch_up
from tests.sealing import log_keys_in
from tests.writing import appending, backends, committed, drafted, eventually, owning, rows, writing

LONG_AGO: Final = date(2020, 1, 31)
START: Final = date(2020, 1, 1)
ZONES: Final = ("Pacific/Kiritimati", "Asia/Shanghai", "UTC", "America/New_York", "Pacific/Pago_Pago")


@pytest.fixture
async def log(database_url: str, pool: Pool) -> AsyncIterator[Log]:
    """The way to the log, with a writer at work."""
    async with writing(database_url) as writer:
        yield Log(pool, writer)


async def planned(
    connection: Connection,
    ledger_id: UUID,
    *steps: Event,
    end: date | None = None,
    expiry: date | None = None,
    timezone: str = "UTC",
) -> UUID:
    """Append a campaign with these dates that has taken these steps, and let the read model know of it."""
    subject = uuid4()
    created = drafted(start_date=START, end_date=end, expiry_date=expiry, timezone=timezone)
    await committed(connection, ledger_id, appending(ledger_id, subject, created, *steps))
    await catch_up(connection, campaigns.PROJECTION)
    return subject


async def steps_of(connection: Connection, ledger_id: UUID, campaign_id: UUID) -> list[tuple[str, str]]:
    """Return type and actor of what happened to a campaign after it was drafted."""
    found = await rows(
        connection,
        "SELECT type, entry ->> 'actor' AS actor FROM events"
        " WHERE ledger_id = %s AND stream_id = %s AND version > 1 ORDER BY version",
        ledger_id,
        f"campaign-{campaign_id}",
    )
    return [(row["type"].removeprefix("campaign_"), row["actor"]) for row in found]


ACTIVATED: Final = ("activated", "user:somebody")


async def test_a_campaign_whose_end_date_has_passed_is_completed(log: Log, ledger_id: UUID) -> None:
    """The clock completes what is active or paused and over, and leaves drafts and what is over already alone."""
    async with log.pool.connection() as connection:
        active = await planned(connection, ledger_id, CampaignActivated(), end=LONG_AGO)
        paused = await planned(connection, ledger_id, CampaignActivated(), CampaignPaused(), end=LONG_AGO)
        draft = await planned(connection, ledger_id, end=LONG_AGO)
        over = await planned(connection, ledger_id, CampaignActivated(), CampaignCompleted(), end=LONG_AGO)
        endless = await planned(connection, ledger_id, CampaignActivated())
        await follow_dates(log)
        found = [await steps_of(connection, ledger_id, each) for each in (active, paused, draft, over, endless)]
    assert found[0] == [ACTIVATED, ("completed", "clock")]
    assert found[1] == [ACTIVATED, ("paused", "user:somebody"), ("completed", "clock")]
    assert found[2:] == [[], [ACTIVATED, ("completed", "user:somebody")], [ACTIVATED]]


async def test_a_campaign_whose_expiry_date_has_passed_is_expired(log: Log, ledger_id: UUID) -> None:
    """The clock expires whatever is not closed, drafts and completed campaigns included, catching up in one step."""
    async with log.pool.connection() as connection:
        lives: list[list[Event]] = [[], [CampaignActivated()], [CampaignActivated(), CampaignCompleted()]]
        ids = [await planned(connection, ledger_id, *steps, end=LONG_AGO, expiry=LONG_AGO) for steps in lives]
        await follow_dates(log)
        found = [await steps_of(connection, ledger_id, each) for each in ids]
    assert [len(steps) for steps in found] == [1, 2, 3]
    assert [steps[-1] for steps in found] == [("expired", "clock")] * 3


async def test_a_day_is_over_in_the_campaigns_own_time_zone(log: Log, ledger_id: UUID) -> None:
    """A campaign is completed once the day after its end date has begun where it runs, and not while it lasts there."""
    now = clock.now()
    async with log.pool.connection() as connection:
        ended, lasting = [], []
        for zone in ZONES:
            today = local_date(now, zone)
            yesterday = today - timedelta(days=1)
            ended.append(await planned(connection, ledger_id, CampaignActivated(), end=yesterday, timezone=zone))
            lasting.append(await planned(connection, ledger_id, CampaignActivated(), end=today, timezone=zone))
        await follow_dates(log)
        found = [len(await steps_of(connection, ledger_id, each)) for each in (*ended, *lasting)]
    if [local_date(clock.now(), zone) for zone in ZONES] == [local_date(now, zone) for zone in ZONES]:
        assert found == [2] * len(ZONES) + [1] * len(ZONES)


async def test_what_is_over_is_asked_for_once(log: Log, ledger_id: UUID, database_url: str) -> None:
    """However often and by however many the dates are followed, each step is taken once, and then not looked at."""
    tomorrow = clock.now().date() + timedelta(days=1)
    async with log.pool.connection() as connection, writing(database_url) as writer:
        over = [await planned(connection, ledger_id, CampaignActivated(), end=LONG_AGO) for _ in range(5)]
        assert set(await campaigns.ending(connection, ledger_id, tomorrow)) == set(over)
        other = Log(log.pool, writer)
        await asyncio.gather(follow_dates(log), follow_dates(other), follow_dates(log))
        await follow_dates(log)
        found = [await steps_of(connection, ledger_id, each) for each in over]
        await catch_up(connection, campaigns.PROJECTION)
        assert await campaigns.ending(connection, ledger_id, tomorrow) == []
    assert found == [[ACTIVATED, ("completed", "clock")]] * 5


async def test_dates_that_move_meanwhile_are_respected(log: Log, ledger_id: UUID, database_url: str) -> None:
    """A campaign whose end date is moved while the clock is looking at it goes on."""
    async with log.pool.connection() as connection, owning(database_url) as owner:
        campaign_id = await planned(connection, ledger_id, CampaignActivated(), end=LONG_AGO)
        async with open_pool(database_url, size_max=1) as narrow:
            async with owner.transaction():
                await owner.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
                following = asyncio.create_task(follow_dates(Log(narrow, log.writer)))
                await eventually(lambda: backends(owner, waiting_for_lock=True))
                # Next in line for the only connection: between the clock's look at the campaign and its command.
                between = asyncio.create_task(narrow.getconn())
                await asyncio.sleep(0)
            taken = await between
            later = CampaignChanged(end_date=date(2999, 1, 1))
            await committed(connection, ledger_id, appending(ledger_id, campaign_id, later, after=2))
            await narrow.putconn(taken)
            await following
        assert await steps_of(connection, ledger_id, campaign_id) == [ACTIVATED, ("changed", "user:somebody")]


@asynccontextmanager
async def working(url: str, folder: Path) -> AsyncIterator[asyncio.Task[None]]:
    """A background worker, ended at the end."""
    task = asyncio.create_task(work(url, log_keys_in(folder)))
    yield task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that look often."""
    monkeypatch.setattr(background, "DATES_EVERY_SECONDS", 0.2)
    monkeypatch.setattr(background, "HOUSEKEEPING_EVERY_SECONDS", 0.2)
    monkeypatch.setattr(election, "ASK_EVERY_SECONDS", 0.1)


@pytest.mark.usefixtures("impatient")
async def test_two_workers_do_it_once_and_one_takes_over(
    database_url: str, pool: Pool, ledger_id: UUID, tmp_path: Path
) -> None:
    """Two workers at once do each step once; when the elected one ends, or loses its connection, the other goes on."""
    async with pool.connection() as connection, owning(database_url) as owner:

        async def overdue() -> UUID:
            return await planned(connection, ledger_id, CampaignActivated(), end=LONG_AGO)

        async def is_completed(campaign_id: UUID) -> bool:
            return len(await steps_of(connection, ledger_id, campaign_id)) > 1

        first = await overdue()
        async with working(database_url, tmp_path) as one, working(database_url, tmp_path):
            await eventually(lambda: is_completed(first))
            one.cancel()
            second = await overdue()
            await eventually(lambda: is_completed(second))
            for pid in set(await backends(owner)) - {connection.info.backend_pid}:
                await owner.execute("SELECT pg_terminate_backend(%s)", (pid,))
            third = await overdue()
            await eventually(lambda: is_completed(third))
        for each in (first, second, third):
            assert await steps_of(connection, ledger_id, each) == [ACTIVATED, ("completed", "clock")]


@pytest.mark.usefixtures("impatient")
async def test_a_worker_keeps_the_read_models_and_tidies_up(
    database_url: str, pool: Pool, ledger_id: UUID, tmp_path: Path
) -> None:
    """A worker keeps every read model, and forgets what is past."""
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO login_attempts (subject_hash, failures, window_started_at) VALUES ('x', 1, '2020-01-01Z')"
        )
        await committed(connection, ledger_id, appending(ledger_id, uuid4(), drafted()))

        async def done() -> bool:
            attempts = await rows(connection, "SELECT FROM login_attempts")
            kept = await rows(connection, "SELECT projection FROM checkpoints WHERE ledger_id = %s", ledger_id)
            return not attempts and len(kept) == len(PROJECTIONS)

        async with working(database_url, tmp_path):
            await eventually(done)
        found = await rows(connection, "SELECT id FROM campaigns WHERE ledger_id = %s", ledger_id)
    assert len(found) == 1


async def test_read_models_are_compared_and_the_log_knows(log: Log, database_url: str, ledger_id: UUID) -> None:
    """What a comparison finds is an event: nothing where a read model is what the log makes of it, else how much."""
    async with log.pool.connection() as connection:
        await planned(connection, ledger_id, CampaignActivated())
        await compare(database_url, log, [campaigns.PROJECTION])
        async with owning(database_url) as owner:
            await owner.execute("UPDATE campaigns SET name = 'Another'")
        await compare(database_url, log, [campaigns.PROJECTION])
        found = await rows(
            connection,
            "SELECT version, entry -> 'event' AS event FROM events WHERE ledger_id = %s AND stream_id = %s"
            " ORDER BY version",
            ledger_id,
            f"comparison-{ledger_id}",
        )
    told = {"type": "projection_compared", "projection": "campaigns", "version": 1, "rows": 1}
    assert [row["version"] for row in found] == [1, 2]
    assert [row["event"] for row in found] == [
        {**told, "as_of": 2, "differing_keys": 0},
        {**told, "as_of": 2, "differing_keys": 1},
    ]

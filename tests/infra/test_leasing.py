"""Leases in the database: what workers set aside of one budget, whoever asks, delivers, falls silent or wakes up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import pytest

from domain.delivery import Ticket
from domain.holds import STOCK_IMPRESSIONS_MIN, Holds
from domain.leasing import LEASE_SECONDS, Want
from infra import clock
from infra.batch import Leasing
from infra.commit import commit, worker_channel
from infra.database import Pool, connect
from infra.leasing import leased_impressions
from infra.writer import Writer
from tests.writing import appending, beacon, drafted, owning, promised, recording, rows, writing

HOLD_SECONDS: Final = 60
PRICE_MICROS: Final = 5_000
LONG_AGO_SECONDS: Final = 1_000.0


class Worker(NamedTuple):
    """A web worker as far as budgets go: what it may promise, and its way into the log."""

    ledger_id: UUID
    holds: Holds
    writer: Writer

    async def restock(self, campaign_id: UUID) -> None:
        """Ask for what is missing, at once, whenever it was asked for in vain before."""
        self.holds.know({campaign_id})
        await self.lease(*self.holds.wants(monotonic()))

    async def lease(self, *wants: Want, ends: bool = False, hold_seconds: int = HOLD_SECONDS) -> None:
        """Say that this worker is alive, and what it wants."""
        if wants:
            self.holds.know({want.campaign_id for want in wants})
        await self.writer.lease(
            Leasing(
                ledger_id=self.ledger_id,
                worker=self.holds.worker,
                wants=wants,
                hold_seconds=hold_seconds,
                ends=ends,
            )
        )

    def promise(self, campaign_id: UUID, **fields: Any) -> Ticket | None:
        """Promise one impression, if there is one to promise."""
        ticket = promised(
            campaign_id,
            worker=self.holds.worker,
            hold_expires_at=int(clock.now().timestamp()) + HOLD_SECONDS,
            **fields,
        )
        took = self.holds.take(campaign_id, ticket.decision_id, tick=monotonic(), hold_seconds=HOLD_SECONDS)
        return ticket if took else None

    async def confirm(self, ticket: Ticket) -> str | None:
        """Report an impression; return why it was not billed, None when it was."""
        (settled,) = await self.writer.record(recording(self.ledger_id, beacon("impression", ticket)))
        assert settled is not None
        return settled.event.reason


@asynccontextmanager
async def working(url: str, ledger_id: UUID, count: int = 2) -> AsyncIterator[list[Worker]]:
    """Workers with numbers from 1, each with a writer of its own."""
    async with AsyncExitStack() as stack:
        workers = []
        for number in range(1, count + 1):
            holds = Holds(number)
            workers.append(Worker(ledger_id, holds, await stack.enter_async_context(writing(url, holds))))
        yield workers


async def campaign(worker: Worker, **limits: int) -> UUID:
    """Draft a campaign whose impressions cost 5,000 micros, and return its id."""
    campaign_id = uuid4()
    await worker.writer.append(appending(worker.ledger_id, campaign_id, drafted(**limits)))
    return campaign_id


async def standing(pool: Pool, ledger_id: UUID, campaign_id: UUID) -> tuple[dict[str, Any], dict[int, int]]:
    """Return a budget and the leases of it, which must agree, and be within every limit with what is spent."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        (budget,) = await rows(
            connection, "SELECT * FROM budgets WHERE ledger_id = %s AND budget_id = %s", ledger_id, campaign_id
        )
        leases = await rows(
            connection,
            "SELECT worker, impressions FROM leases WHERE ledger_id = %s AND campaign_id = %s AND impressions <> 0",
            ledger_id,
            campaign_id,
        )
    by_worker = {row["worker"]: row["impressions"] for row in leases}
    assert all(impressions > 0 for impressions in by_worker.values())
    assert budget["leased_impressions"] == sum(by_worker.values())
    assert budget["leased_micros"] == budget["leased_impressions"] * budget["impression_micros"]
    for limit, used in (
        ("budget_micros", budget["spent_micros"] + budget["leased_micros"]),
        ("daily_budget_micros", budget["day_spent_micros"] + budget["leased_micros"]),
        ("impression_budget", budget["impressions"] + budget["leased_impressions"]),
        ("daily_impression_budget", budget["day_impressions"] + budget["leased_impressions"]),
    ):
        assert budget[limit] is None or used <= budget[limit]
    return budget, by_worker


async def fall_silent(url: str, worker: Worker) -> None:
    """Let all the time pass in which a worker could have been heard of, or could have promises open."""
    async with owning(url) as owner:
        changed = await rows(
            owner,
            "UPDATE workers SET alive_until = alive_until - make_interval(secs => %s),"
            " silent_from = silent_from - make_interval(secs => %s) WHERE worker = %s RETURNING silent_from",
            LONG_AGO_SECONDS,
            LONG_AGO_SECONDS,
            worker.holds.worker,
        )
        assert len(changed) == 1


async def is_known(pool: Pool, worker: Worker) -> bool:
    """Tell whether the ledger knows of a worker."""
    async with pool.connection() as connection:
        return bool(await rows(connection, "SELECT FROM workers WHERE worker = %s", worker.holds.worker))


async def drain(worker: Worker, campaign_id: UUID) -> list[Ticket]:
    """Promise all that a worker has."""
    promises = []
    while (ticket := worker.promise(campaign_id)) is not None:
        promises.append(ticket)
    return promises


@pytest.mark.parametrize(
    "limits",
    [
        {"impression_budget": 20},
        {"daily_impression_budget": 20},
        {"budget_micros": 20 * PRICE_MICROS},
        {"daily_budget_micros": 20 * PRICE_MICROS + PRICE_MICROS - 1},
        {"impression_budget": 20, "budget_micros": 100 * PRICE_MICROS},
    ],
)
async def test_two_workers_promise_one_budget_once(
    database_url: str, pool: Pool, ledger_id: UUID, limits: dict[str, int]
) -> None:
    """Two workers that ask at the same time promise together just what the budget has, and its row says so."""
    async with working(database_url, ledger_id) as workers:
        campaign_id = await campaign(workers[0], **limits)
        promises: list[Ticket] = []
        for _ in range(20):
            await asyncio.gather(*(worker.restock(campaign_id) for worker in workers))
            promises += [ticket for worker in workers for ticket in await drain(worker, campaign_id)]
            _, leases = await standing(pool, ledger_id, campaign_id)
            assert leases == {worker.holds.worker: worker.holds.held(campaign_id) for worker in workers}
        assert len(promises) == 20
        assert (await standing(pool, ledger_id, campaign_id))[1].keys() == {1, 2}
        async with pool.connection() as connection:
            assert await leased_impressions(connection, ledger_id, [campaign_id]) == {campaign_id: 20}


async def test_a_budget_is_delivered_whole_by_many(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """Four workers that promise, and report through one another at once, bill all of a budget and nothing beyond it."""
    async with working(database_url, ledger_id, 4) as workers:
        campaign_id = await campaign(workers[0], impression_budget=150)

        async def sell(number: int) -> list[str | None]:
            seller, outcomes = workers[number], []
            for turn in range(60):
                await seller.restock(campaign_id)
                promises = [ticket for _ in range(3) if (ticket := seller.promise(campaign_id)) is not None]
                through = workers[(number + turn) % 4]
                outcomes += await asyncio.gather(*(through.confirm(ticket) for ticket in promises))
                seller.holds.confirm_elsewhere(ticket.decision_id for ticket in promises)  # as it would hear
                await standing(pool, ledger_id, campaign_id)
            return outcomes

        outcomes = [outcome for of_one in await asyncio.gather(*map(sell, range(4))) for outcome in of_one]
        budget, leases = await standing(pool, ledger_id, campaign_id)
    assert outcomes == [None] * 150
    assert (budget["impressions"], budget["spent_micros"], leases) == (150, 150 * PRICE_MICROS, {})


async def test_what_another_worker_records_is_charged_to_the_lease(
    database_url: str, pool: Pool, ledger_id: UUID
) -> None:
    """The impression that one worker promised and another recorded leaves the lease of the first, which is told."""
    async with working(database_url, ledger_id) as (first, second), await connect(database_url) as listener:
        await listener.execute(f"LISTEN {worker_channel(first.holds.worker)}")
        campaign_id = await campaign(first, impression_budget=10)
        await first.restock(campaign_id)
        promises = await drain(first, campaign_id)
        assert len(promises) == 10
        assert [await second.confirm(ticket) for ticket in promises[:4]] == [None] * 4
        budget, leases = await standing(pool, ledger_id, campaign_id)
        assert (budget["impressions"], leases) == (4, {1: 6})
        assert first.holds.held(campaign_id) == 10
        heard = [each.payload async for each in listener.notifies(timeout=5, stop_after=4)]
        first.holds.confirm_elsewhere(UUID(name) for payload in heard for name in payload.split())
        assert first.holds.held(campaign_id) == 6
        await first.restock(campaign_id)
        assert await drain(first, campaign_id) == []
        assert await first.confirm(promises[4]) is None
        assert first.holds.held(campaign_id) == 5


async def test_a_silent_worker_loses_its_leases(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """While it may have promises open a worker keeps its leases; then whoever is heard of next can have them."""
    async with working(database_url, ledger_id) as (first, second):
        campaign_id = await campaign(first, impression_budget=10)
        await first.restock(campaign_id)
        assert len(await drain(first, campaign_id)) == 10
        await second.restock(campaign_id)
        assert (await standing(pool, ledger_id, campaign_id))[1] == {1: 10}
        await fall_silent(database_url, first)
        await second.restock(campaign_id)
        assert (await standing(pool, ledger_id, campaign_id))[1] == {2: 10}
        assert not await is_known(pool, first)
        assert len(await drain(second, campaign_id)) == 10


async def test_a_worker_is_silent_after_its_longest_hold(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """A worker is counted as alive for its lease's time, and is silent when a hold from its end is over as well.

    Promises that were made while holds were longer are still open, so that saying less takes nothing back.
    """
    async with working(database_url, ledger_id, 1) as (worker,), pool.connection() as connection:
        for hold_seconds, longest in ((60, 60), (600, 600), (10, 600)):
            await worker.lease(hold_seconds=hold_seconds)
            (row,) = await rows(
                connection, "SELECT alive_until - now() AS alive, silent_from - now() AS heard FROM workers"
            )
            for found, expected in ((row["alive"], LEASE_SECONDS), (row["heard"], LEASE_SECONDS + longest)):
                assert timedelta(seconds=expected - 5) < found <= timedelta(seconds=expected)


async def test_a_zombie_cannot_spend_a_reclaimed_lease(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """What was promised from a lease that is gone is paid from what is free, or not at all."""
    async with working(database_url, ledger_id) as (zombie, other):
        campaign_id = await campaign(zombie, impression_budget=10)
        await zombie.restock(campaign_id)
        promises = await drain(zombie, campaign_id)
        await fall_silent(database_url, zombie)
        await other.lease(Want(campaign_id=campaign_id, impressions=7))
        assert [await zombie.confirm(ticket) for ticket in promises] == [None] * 3 + ["over_budget"] * 7
        budget, leases = await standing(pool, ledger_id, campaign_id)
        assert (budget["impressions"], leases) == (3, {2: 7})


async def test_a_zombie_promises_nothing_before_it_asked(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """A worker that slept is refused what it leased before, also once it was answered about something else."""
    async with working(database_url, ledger_id) as (zombie, other):
        campaign_id = await campaign(zombie, impression_budget=10)
        zombie.holds.know({campaign_id})
        await zombie.lease(Want(campaign_id=campaign_id, impressions=10))
        zombie.holds.granted({campaign_id: 10}, asked=monotonic() - LONG_AGO_SECONDS)  # so long ago, as it were
        assert zombie.promise(campaign_id) is None
        await fall_silent(database_url, zombie)
        await other.restock(campaign_id)
        await zombie.lease()
        assert await drain(zombie, campaign_id) == []
        await zombie.restock(campaign_id)
        assert await drain(zombie, campaign_id) == []
        assert len(await drain(other, campaign_id)) == 10
        assert (await standing(pool, ledger_id, campaign_id))[1] == {2: 10}


@pytest.mark.parametrize("asks", [False, True])
async def test_what_is_settled_and_reclaimed_at_once_counts_once(
    database_url: str, pool: Pool, ledger_id: UUID, asks: bool
) -> None:
    """In one batch impressions leave a lease, its rest returns, and the worker itself or another leases anew."""
    async with working(database_url, ledger_id) as (silent, other), await connect(database_url) as connection:
        campaign_id = await campaign(silent, impression_budget=10)
        await silent.restock(campaign_id)
        promises = await drain(silent, campaign_id)
        await fall_silent(database_url, silent)
        asking = Leasing(
            ledger_id=ledger_id,
            worker=(silent if asks else other).holds.worker,
            wants=(Want(campaign_id=campaign_id, impressions=5),),
            hold_seconds=HOLD_SECONDS,
        )
        confirming = recording(ledger_id, *(beacon("impression", ticket) for ticket in promises[:3]))
        planned = await commit(connection, ledger_id, [asking, confirming], clock.now)
        budget, leases = await standing(pool, ledger_id, campaign_id)
        # A worker that is heard of is not silent: it keeps the rest of its lease, of which nothing is taken back.
        assert planned.results[0] == {campaign_id: 10 - 3 if asks else 5}
        assert (budget["impressions"], leases) == (3, {1: 7} if asks else {2: 5})


async def test_a_worker_that_ends_gives_back_what_is_free(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """What a worker has not promised returns when it ends, the rest when its holds are over."""
    async with working(database_url, ledger_id) as (ending, other):
        campaign_id = await campaign(ending, impression_budget=10)
        await ending.restock(campaign_id)
        promises = [ending.promise(campaign_id) for _ in range(3)]
        await ending.lease(*ending.holds.all_free(), ends=True)
        assert (await standing(pool, ledger_id, campaign_id))[1] == {1: 3}
        assert ending.promise(campaign_id) is None
        await other.restock(campaign_id)
        assert (await standing(pool, ledger_id, campaign_id))[1] == {1: 3, 2: 7}
        assert promises[0] is not None
        assert await other.confirm(promises[0]) is None
        assert (await standing(pool, ledger_id, campaign_id))[1] == {1: 2, 2: 7}
        await fall_silent(database_url, ending)
        await other.lease()
        assert (await standing(pool, ledger_id, campaign_id))[1] == {2: 7}


@pytest.mark.parametrize("has_asked", [False, True])
async def test_a_worker_can_end_without_holds(database_url: str, pool: Pool, ledger_id: UUID, has_asked: bool) -> None:
    """A worker of which no promise can be open is forgotten with its end, and what it leased returns once."""
    async with working(database_url, ledger_id) as (ending, other):
        campaign_id = await campaign(ending, impression_budget=10)
        if has_asked:
            await ending.restock(campaign_id)
            await fall_silent(database_url, ending)
        await ending.lease(*ending.holds.all_free(), ends=True, hold_seconds=0)
        assert (await standing(pool, ledger_id, campaign_id))[1] == {}
        assert not await is_known(pool, ending)
        await other.restock(campaign_id)
        assert (await standing(pool, ledger_id, campaign_id))[1] == {2: 10}


async def test_only_the_living_share(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """A worker alone gets all it wants of what there is, one of two at most half of its share."""
    async with working(database_url, ledger_id) as (first, second):
        campaign_id = await campaign(first, impression_budget=24)
        want = Want(campaign_id=campaign_id, impressions=STOCK_IMPRESSIONS_MIN)
        await second.lease()
        await first.lease(want)
        assert (await standing(pool, ledger_id, campaign_id))[1] == {1: 6}
        await second.lease(ends=True)
        await first.lease(want)
        assert (await standing(pool, ledger_id, campaign_id))[1] == {1: 22}


async def test_an_idle_worker_keeps_one(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """What a worker offers goes to the one that is asked, but for the last impression."""
    async with working(database_url, ledger_id) as (idle, busy):
        campaign_id = await campaign(idle, impression_budget=STOCK_IMPRESSIONS_MIN)
        await idle.restock(campaign_id)
        sold = 0
        for _ in range(20):
            has = (await standing(pool, ledger_id, campaign_id))[1].get(idle.holds.worker, 0)
            idle.holds.know({campaign_id})
            await idle.lease(Want(campaign_id=campaign_id, impressions=0, offers=has))
            await busy.restock(campaign_id)
            for ticket in await drain(busy, campaign_id):
                assert await busy.confirm(ticket) is None
                sold += 1
        budget, leases = await standing(pool, ledger_id, campaign_id)
        assert (sold, budget["impressions"], leases) == (STOCK_IMPRESSIONS_MIN - 1, STOCK_IMPRESSIONS_MIN - 1, {1: 1})


async def test_what_asks_in_vain_writes_nothing(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """A worker that gets no more, and gives nothing back, leaves the rows of budget and lease as they are."""
    async with working(database_url, ledger_id, 1) as (worker,), pool.connection() as connection:
        campaign_id = await campaign(worker, impression_budget=10)
        query = """
            SELECT b.xmin::text AS b, l.xmin::text AS l FROM budgets AS b JOIN leases AS l ON campaign_id = budget_id
        """
        await worker.restock(campaign_id)
        before = await rows(connection, query)
        await worker.lease(Want(campaign_id=campaign_id, impressions=99))
        assert await rows(connection, query) == before
        await worker.lease(Want(campaign_id=campaign_id, impressions=-1))
        assert await rows(connection, query) != before


async def test_leases_are_counted_on_a_new_day(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """Yesterday's spending frees today's limit, while what is leased still counts."""
    async with working(database_url, ledger_id) as (first, second):
        campaign_id = await campaign(first, daily_impression_budget=10)
        await first.restock(campaign_id)
        promises = await drain(first, campaign_id)
        assert [await first.confirm(ticket) for ticket in promises[:6]] == [None] * 6
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        async with owning(database_url) as owner:
            await owner.execute("UPDATE budgets SET day = %s", (yesterday,))
        await second.lease(Want(campaign_id=campaign_id, impressions=99))
        await second.lease(Want(campaign_id=campaign_id, impressions=99))
        budget, leases = await standing(pool, ledger_id, campaign_id)
        assert (budget["day_impressions"], budget["impressions"], leases) == (0, 6, {1: 4, 2: 2 + 1})

"""The runner: every event takes effect in a read model once, whoever is killed, doubled or frozen meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest

from domain.advertiser import ADVERTISER
from domain.decider import stream_of
from domain.events import AdvertiserChanged, AdvertiserCreated, CampaignActivated, CampaignChanged, Event
from infra.database import Connection, Pool, connect
from infra.event_log import Recorded, encode_entry
from projections import advertisers, budgets, campaigns, delivery, runner
from projections.catalogue import PROJECTIONS
from projections.runner import AnyProjection, advance, catch_up, run
from projections.status import read_status
from tests.projections.histories import recorded_at
from tests.projections.rebuilding import caught_up, contents, rebuilt
from tests.writing import (
    appending,
    backends,
    beacon,
    committed,
    drafted,
    eventually,
    new_ledger,
    owning,
    promised,
    recording,
    rows,
    writing,
)

DELIVERY, ADVERTISERS = delivery.PROJECTION, advertisers.PROJECTION
VERSION_TOO_LARGE: Final = 3_000_000_000
"""An entry can say it, and the column of a read model cannot hold it."""


async def delivered(connection: Connection, ledger_id: UUID, count: int) -> None:
    """Append impressions of a campaign that nobody knows, in one batch."""
    await committed(
        connection,
        ledger_id,
        recording(ledger_id, *(beacon("impression", promised(UUID(int=7))) for _ in range(count))),
    )


async def told(connection: Connection, ledger_id: UUID, subject: UUID, *events: Event, after: int = 0) -> None:
    """Append events of an advertiser, one batch each."""
    for version, event in enumerate(events, start=after):
        asked = appending(ledger_id, subject, event, after=version, thing=ADVERTISER.thing)
        await committed(connection, ledger_id, asked)


async def stored(connection: Connection, ledger_id: UUID, stream: str, version: int, entry: bytes) -> None:
    """Put an entry at the end of the log that no writer would put there."""
    await connection.execute(
        "INSERT INTO events SELECT ledger_id, position + 1, %s, %s, 'x', now(), %s FROM ledger_heads"
        " WHERE ledger_id = %s",
        (stream, version, entry.decode(), ledger_id),
    )
    await connection.execute("UPDATE ledger_heads SET position = position + 1 WHERE ledger_id = %s", (ledger_id,))


async def poisoned(connection: Connection, ledger_id: UUID, subject: UUID, *, after: int) -> None:
    """Put an event of an advertiser into the log that can be read and not be applied."""
    stream = stream_of(ADVERTISER.thing, subject)
    entry = recorded_at(1, stream, VERSION_TOO_LARGE, AdvertiserChanged(name="Poison")).entry
    await stored(connection, ledger_id, stream, after + 1, encode_entry(entry))


async def impressions(connection: Connection, ledger_id: UUID) -> int:
    """Return how many impressions the delivery report has."""
    (row,) = await rows(
        connection, "SELECT coalesce(sum(impressions), 0) AS n FROM deliveries WHERE ledger_id = %s", ledger_id
    )
    return int(row["n"])


async def reached(connection: Connection, ledger_id: UUID, projection: AnyProjection = DELIVERY) -> int:
    """Return the position of a projection's checkpoint."""
    found = {each.name: each.position for each in await read_status(connection, ledger_id)}
    return found.get(projection.name, 0)


@asynccontextmanager
async def running(url: str, projections: Iterable[AnyProjection] = PROJECTIONS) -> AsyncIterator[asyncio.Task[None]]:
    """A runner at work, ended at the end."""
    task = asyncio.create_task(run(url, projections))
    yield task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runners that try again soon."""
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(runner, "RETRY_SECONDS", 0.1)


@pytest.mark.parametrize("moment", ["before the write", "after the write"])
async def test_a_batch_takes_effect_whole_or_not_at_all(
    database_url: str, pool: Pool, ledger_id: UUID, moment: str
) -> None:
    """Killed in the middle of a batch, a runner leaves neither rows nor checkpoint; the next one applies it once."""

    async def add_and_die(connection: Connection, ledger_id: UUID, sums: Any) -> None:
        if moment == "after the write":
            await DELIVERY.add(connection, ledger_id, sums)
            assert await impressions(connection, ledger_id) == 5
        async with owning(database_url) as killer:
            await killer.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
        if moment == "before the write":
            await DELIVERY.add(connection, ledger_id, sums)

    async with pool.connection() as connection:
        await delivered(connection, ledger_id, 3)
        await catch_up(connection, DELIVERY)
        await delivered(connection, ledger_id, 2)
        doomed = await connect(database_url)
        with pytest.raises(psycopg.OperationalError):
            await catch_up(doomed, DELIVERY._replace(add=add_and_die, in_place=None))
        assert doomed.closed
        assert (await impressions(connection, ledger_id), await reached(connection, ledger_id)) == (3, 3)
        await catch_up(connection, DELIVERY)
        assert (await impressions(connection, ledger_id), await reached(connection, ledger_id)) == (5, 5)
        assert await rows(connection, "SELECT FROM parked_events") == []


async def test_two_runners_apply_a_batch_once(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """Runners that work on the same log at the same time, without any election, do each batch once between them."""
    async with (
        await connect(database_url) as one,
        await connect(database_url) as other,
        pool.connection() as connection,
    ):
        for count in range(1, 9):
            await delivered(connection, ledger_id, count)
            await asyncio.gather(catch_up(one, DELIVERY), catch_up(other, DELIVERY))
        assert await impressions(connection, ledger_id) == await reached(connection, ledger_id) == 36


async def test_a_runner_that_was_overtaken_undoes_nothing(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """One that waited for the checkpoint goes on from where the other one left it, never back."""
    async with await connect(database_url) as late, owning(database_url) as watching, pool.connection() as connection:
        await delivered(connection, ledger_id, 2)
        await catch_up(connection, DELIVERY)
        await delivered(connection, ledger_id, 1)
        async with connection.transaction():
            await connection.execute("SELECT FROM checkpoints WHERE ledger_id = %s FOR UPDATE", (ledger_id,))
            advancing = asyncio.create_task(advance(late, DELIVERY, ledger_id))
            await eventually(lambda: backends(watching, waiting_for_lock=True))
            async with pool.connection() as third:
                await delivered(third, ledger_id, 4)
            # This is where the other runner applies all seven, the last four unknown to the one that waits.
            assert await advance(connection, DELIVERY, ledger_id) == 7
        assert await advancing == 7
        await catch_up(connection, DELIVERY)
        assert (await impressions(connection, ledger_id), await reached(connection, ledger_id)) == (7, 7)


async def test_a_long_log_is_applied_in_pages(pool: Pool, ledger_id: UUID) -> None:
    """What is more than a page is applied page by page, and what is not for a projection is passed over at once."""
    async with pool.connection() as connection:
        await told(connection, ledger_id, uuid4(), AdvertiserCreated(name="Shoes"))
        await delivered(connection, ledger_id, 29)
        assert [await advance(connection, DELIVERY, ledger_id, limit=10) for _ in range(4)] == [10, 20, 30, 30]
        assert await impressions(connection, ledger_id) == 29
        assert await advance(connection, ADVERTISERS, ledger_id) == 30
        assert (await read_status(connection, ledger_id))[0].lag == 0


async def test_every_ledger_is_kept(pool: Pool, ledger_id: UUID) -> None:
    """A runner keeps the read models of all ledgers, each on its own."""
    async with pool.connection() as connection:
        other_id = await new_ledger(connection)
        await delivered(connection, ledger_id, 2)
        await delivered(connection, other_id, 3)
        await catch_up(connection, DELIVERY)
        assert [await impressions(connection, each) for each in (ledger_id, other_id)] == [2, 3]
        assert [await reached(connection, each) for each in (ledger_id, other_id)] == [2, 3]


@pytest.mark.parametrize("at_once", [True, False])
async def test_poison_parks_its_key(pool: Pool, ledger_id: UUID, at_once: bool) -> None:
    """An event that cannot be applied is parked with its error and those of its key after it; all others go on.

    What was before it stays applied, however the events were cut into batches.
    """
    sick, well = uuid4(), uuid4()

    async def write(connection: Connection, ledger_id: UUID, batch: Sequence[Recorded]) -> None:
        await ADVERTISERS.write(connection, ledger_id, batch)
        if any(getattr(recorded.entry.event, "name", None) == "Poison" for recorded in batch):
            raise LookupError("what is this?")

    squeamish = ADVERTISERS._replace(write=write)
    async with pool.connection() as connection:
        for subject, after, name in (
            (sick, 0, "Shoes"),
            (well, 0, "Shoes"),
            (sick, 1, "Hats"),
            (sick, 2, "Poison"),
            (well, 1, "Hats"),
            (sick, 3, "Bags"),
        ):
            event = AdvertiserChanged(name=name) if after else AdvertiserCreated(name=name)
            await told(connection, ledger_id, subject, event, after=after)
            if not at_once:
                await catch_up(connection, squeamish)
        await catch_up(connection, squeamish)
        parked = await rows(connection, "SELECT key, position, error FROM parked_events ORDER BY position")
        found = await rows(connection, "SELECT id, name, version FROM advertisers")
        (seen,) = await read_status(connection, ledger_id)
    assert {(row["id"], row["name"], row["version"]) for row in found} == {(sick, "Hats", 2), (well, "Hats", 2)}
    assert [(row["key"], row["position"]) for row in parked] == [(f"advertiser-{sick}", 4), (f"advertiser-{sick}", 6)]
    assert "what is this?" in parked[0]["error"]
    assert (seen.parked, seen.position, seen.lag) == (2, 6, 0)


async def test_an_event_that_cannot_be_read_parks_its_stream(pool: Pool, ledger_id: UUID) -> None:
    """An entry this version of the program does not know is parked by its stream, where it is known; others go on."""
    sick, well = uuid4(), uuid4()
    stream = stream_of(ADVERTISER.thing, sick)
    from_the_future = {"stream": stream, "version": 2, "event": {"type": "advertiser_sold"}}
    async with pool.connection() as connection:
        await told(connection, ledger_id, sick, AdvertiserCreated(name="Shoes"))
        await stored(connection, ledger_id, stream, 2, msgspec.json.encode(from_the_future))
        await stored(connection, ledger_id, "x", 1, b'{"what": "is this?"}')
        await told(connection, ledger_id, sick, AdvertiserChanged(name="Hats"), after=2)
        await told(connection, ledger_id, well, AdvertiserCreated(name="Bags"))
        await catch_up(connection, ADVERTISERS)
        parked = await rows(connection, "SELECT key, position FROM parked_events ORDER BY position")
        found = await rows(connection, "SELECT name FROM advertisers ORDER BY name")
    assert [(row["key"], row["position"]) for row in parked] == [(stream, 2), ("position 3", 3), (stream, 4)]
    assert [row["name"] for row in found] == ["Bags", "Shoes"]


async def test_a_lost_connection_is_not_poison(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """Killed while it looks for the poison in a batch, a runner parks nothing; the next one finds it."""
    calls = 0

    async def write(connection: Connection, ledger_id: UUID, batch: Sequence[Recorded]) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            async with owning(database_url) as killer:
                await killer.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
        await ADVERTISERS.write(connection, ledger_id, batch)

    sick = uuid4()
    async with pool.connection() as connection:
        await told(connection, ledger_id, sick, AdvertiserCreated(name="Shoes"))
        await poisoned(connection, ledger_id, sick, after=1)
        async with await connect(database_url) as doomed:
            with pytest.raises(psycopg.OperationalError):
                await catch_up(doomed, ADVERTISERS._replace(write=write))
        assert await rows(connection, "SELECT FROM parked_events") == []
        await catch_up(connection, ADVERTISERS)
        assert len(await rows(connection, "SELECT FROM parked_events")) == 1


async def test_a_rebuild_gives_the_same_rows(pool: Pool, ledger_id: UUID) -> None:
    """Read models that were kept batch by batch are those that the whole log gives at once."""
    subject = uuid4()
    steps: list[Event] = [drafted(impression_budget=4), CampaignActivated(), CampaignChanged(name="New")]
    async with pool.connection() as connection:
        for version, event in enumerate(steps):
            await committed(connection, ledger_id, appending(ledger_id, subject, event, after=version))
            tickets = [promised(subject, city=f"{n}") for n in range(3)]
            beacons = [beacon(kind, ticket) for ticket in tickets for kind in ("impression", "click")]
            await committed(connection, ledger_id, recording(ledger_id, *beacons))
            await told(connection, ledger_id, sick := uuid4(), AdvertiserCreated(name=f"{version}"))
            await poisoned(connection, ledger_id, sick, after=1)
            await caught_up(connection)
        kept = await contents(connection, ledger_id)
        parked = await rows(connection, "SELECT projection, key, position, error FROM parked_events ORDER BY 1, 2, 3")
        assert await rebuilt(connection, ledger_id) == kept
        assert (
            await rows(connection, "SELECT projection, key, position, error FROM parked_events ORDER BY 1, 2, 3")
            == parked
        )
    assert [len(kept[table]) for table in ("campaigns", "spendings", "histories", "advertisers")] == [1, 1, 3, 3]
    assert kept["spendings"][0]["billed_impressions"] == 4
    assert len(parked) == 3


async def holders(watching: Connection) -> list[dict[str, Any]]:
    """Return which connections of this database hold the locks by which runners are elected."""
    return await rows(
        watching,
        "SELECT objid, array_agg(pid) AS pids FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE datname = current_database() AND locktype = 'advisory' AND granted GROUP BY objid",
    )


@pytest.mark.usefixtures("impatient")
async def test_one_runner_is_elected_and_another_takes_over(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """Of two runners one keeps each projection; when it ends, the other one goes on, and nothing is done twice."""
    async with owning(database_url) as watching, pool.connection() as connection:

        async def elected() -> bool:
            return len(await holders(watching)) == len(PROJECTIONS)

        async def up_to(position: int) -> None:
            async def caught() -> bool:
                return await reached(connection, ledger_id) == position

            await eventually(caught)

        async with running(database_url) as first:
            await eventually(elected)
            async with running(database_url):
                await delivered(connection, ledger_id, 3)
                await up_to(3)
                before = {pid for row in await holders(watching) for pid in row["pids"]}
                first.cancel()

                async def taken_over() -> bool:
                    pids = {pid for row in await holders(watching) for pid in row["pids"]}
                    return len(pids) == len(PROJECTIONS) and not pids & before

                await eventually(taken_over)
                await delivered(connection, ledger_id, 4)
                await up_to(7)
                after = {pid for row in await holders(watching) for pid in row["pids"]}
        assert len(before) == len(after) == len(PROJECTIONS)
        assert not before & after
        assert await impressions(connection, ledger_id) == 7


@pytest.mark.usefixtures("impatient")
async def test_effects_are_once_whatever_is_killed(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """Runners whose connections are killed over and over while events arrive end with the rows that a rebuild gives."""
    subject = uuid4()
    killed = 0
    async with owning(database_url) as watching, pool.connection() as connection, writing(database_url) as writer:
        await writer.append(appending(ledger_id, subject, drafted(impression_budget=100)))
        async with running(database_url), running(database_url):
            for _ in range(8):
                tickets = [promised(subject, region=f"{n % 3}") for n in range(25)]
                await writer.record(recording(ledger_id, *(beacon("impression", ticket) for ticket in tickets)))
                for row in await holders(watching):
                    for pid in row["pids"]:
                        await watching.execute("SELECT pg_terminate_backend(%s)", (pid,))
                        killed += 1

            async def caught() -> bool:
                found = await read_status(connection, ledger_id)
                return len(found) == len(PROJECTIONS) and all(each.lag == 0 for each in found)

            await eventually(caught)
            kept = await contents(connection, ledger_id)
        assert await rebuilt(connection, ledger_id) == kept
    assert killed >= len(PROJECTIONS)
    assert (kept["spendings"][0]["impressions"], kept["spendings"][0]["billed_impressions"]) == (200, 100)


async def test_a_notification_wakes_the_runner(
    database_url: str, pool: Pool, ledger_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runner hears of events without polling, also after its listening connection was lost."""
    monkeypatch.setattr(runner, "POLL_SECONDS", 60)
    monkeypatch.setattr(runner, "RETRY_SECONDS", 0.05)
    async with pool.connection() as connection, owning(database_url) as watching:

        async def listeners() -> list[dict[str, Any]]:
            return await rows(
                watching,
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND (query LIKE 'LISTEN%%' OR query LIKE 'SELECT position, command_position%%')",
            )

        async with running(database_url, [DELIVERY, budgets.PROJECTION, campaigns.PROJECTION]):
            for round_ in range(1, 3):
                await eventually(listeners)
                await eventually(lambda: holders(watching))
                await committed(connection, ledger_id, appending(ledger_id, uuid4(), drafted()))

                async def applied(expected: int = round_) -> bool:
                    return await reached(connection, ledger_id, campaigns.PROJECTION) == expected

                await eventually(applied)
                for row in await listeners():
                    await watching.execute("SELECT pg_terminate_backend(%s, 5000)", (row["pid"],))


def test_every_projection_says_what_it_handles() -> None:
    """Projections have names of their own, and those that see no traffic handle none."""
    assert len({projection.name for projection in PROJECTIONS}) == len(PROJECTIONS)
    for projection in PROJECTIONS:
        of_traffic = any(kind.__name__.endswith(("Recorded", "Tallied")) for kind in projection.handles)
        assert projection.catalogue_only == (not of_traffic)

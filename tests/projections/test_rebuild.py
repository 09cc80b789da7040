"""Rebuilding: made anew beside the live one, compared with it, and swapped in, while all goes on."""

import asyncio
from typing import Final
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from domain.advertiser import ADVERTISER
from domain.decider import stream_of
from domain.events import AdvertiserChanged, AdvertiserCreated, CampaignChanged, RequestsTallied
from infra import clock
from infra.database import Connection, Pool, connect
from infra.event_log import Recorded, encode_entry
from projections import advertisers, budgets, delivery, rebuild, runner
from projections.catalogue import PROJECTIONS
from projections.parking import retry
from projections.rebuild import Progress, RebuildRunning, compare, discard, follow_versions
from projections.runner import AnyProjection, catch_up
from tests.domain.stored import stored
from tests.projections.histories import recorded_at
from tests.projections.rebuilding import caught_up, contents
from tests.writing import (
    appending,
    beacon,
    committed,
    drafted,
    eventually,
    new_ledger,
    owning,
    promised,
    recording,
    rows,
)

CAMPAIGN: Final = UUID(int=7)
SHADOWS: Final = "SELECT tablename FROM pg_tables WHERE schemaname = 'rebuild' ORDER BY tablename"
LEFT: Final = "SELECT projection FROM rebuild.checkpoints"


def untold(_: Progress) -> None:
    """Take no notice."""


async def delivered(connection: Connection, ledger_id: UUID, count: int) -> None:
    """Append impressions, one in three with a click."""
    tickets = [promised(CAMPAIGN) for _ in range(count)]
    beacons = [beacon("impression", each) for each in tickets] + [beacon("click", each) for each in tickets[::3]]
    await committed(connection, ledger_id, recording(ledger_id, *beacons))


async def lived_in(connection: Connection) -> UUID:
    """Begin a ledger with a campaign, advertisers and deliveries, all read models caught up, and return its id."""
    ledger_id = await new_ledger(connection)
    await committed(connection, ledger_id, appending(ledger_id, CAMPAIGN, drafted(), CampaignChanged(name="Changed")))
    for number in range(20):
        event = stored(AdvertiserCreated)
        await committed(connection, ledger_id, appending(ledger_id, UUID(int=number), event, thing=ADVERTISER.thing))
    asked = appending(ledger_id, uuid4(), stored(RequestsTallied), stored(RequestsTallied), thing="requests")
    await committed(connection, ledger_id, asked)
    await delivered(connection, ledger_id, 30)
    await caught_up(connection)
    return ledger_id


@pytest.mark.parametrize("projection", PROJECTIONS, ids=[each.name for each in PROJECTIONS])
async def test_a_read_model_is_the_same_anew(pool: Pool, database_url: str, projection: AnyProjection) -> None:
    """Every read model made anew is the live one, and nothing of the rebuild is left."""
    async with pool.connection() as connection:
        ledger_id = await lived_in(connection)
        before = await contents(connection, ledger_id)
        found = await compare(database_url, projection, untold)
        assert (found.differing_keys, found.differing_buckets, found.differences) == (0, 0, [])
        assert found.live == found.anew
        assert found.live.rows == len(before[projection.table.name])
        assert (await rebuild.rebuild(database_url, projection, untold)).differing_keys == 0
        assert await contents(connection, ledger_id) == before
        assert [row["tablename"] for row in await rows(connection, SHADOWS)] == ["checkpoints", "parked_events"]
        assert await rows(connection, LEFT) == []


async def test_differences_are_found_and_repaired(pool: Pool, database_url: str) -> None:
    """A changed, a missing and an invented row are named with their columns; the swap takes them back."""
    async with pool.connection() as connection:
        ledger_id = await lived_in(connection)
        before = await contents(connection, ledger_id)
        await connection.execute("UPDATE advertisers SET name = 'Forged' WHERE id = %s", (UUID(int=3),))
        await connection.execute("DELETE FROM advertisers WHERE id = %s", (UUID(int=4),))
        await connection.execute(
            "INSERT INTO advertisers SELECT invented.* FROM advertisers AS known,"
            " jsonb_populate_record(known, jsonb_build_object('id', %s::uuid)) AS invented WHERE known.id = %s",
            (UUID(int=99), UUID(int=5)),
        )
        found = await compare(database_url, advertisers.PROJECTION, untold)
        by_id = {UUID(each.key["id"]).int: each for each in found.differences}
        assert by_id.keys() == {3, 4, 99}
        name = stored(AdvertiserCreated).name
        assert (by_id[3].live, by_id[3].anew) == ({"name": "Forged"}, {"name": name})
        assert (by_id[4].live, by_id[99].anew) == (None, None)
        assert found.differing_keys == 3
        assert await contents(connection, ledger_id) != before
        await rebuild.rebuild(database_url, advertisers.PROJECTION, untold)
        assert await contents(connection, ledger_id) == before


async def test_sums_tell_money_that_was_changed(pool: Pool, database_url: str) -> None:
    """The sums of amounts stand side by side."""
    async with pool.connection() as connection:
        await lived_in(connection)
        await connection.execute("UPDATE spendings SET spent_micros = spent_micros + 5, billed_clicks = 0")
        found = await compare(database_url, budgets.PROJECTION, untold)
        assert found.live.sums["spent_micros"] == found.anew.sums["spent_micros"] + 5
        assert found.differing_keys == 1


async def test_readers_and_the_runner_go_on(pool: Pool, database_url: str) -> None:
    """While traffic and the live runner go on, a rebuild is swapped in, and no reader ever sees a gap or a wait."""
    async with pool.connection() as connection, pool.connection() as live, pool.connection() as reader:
        ledger_id = await lived_in(connection)
        over = asyncio.Event()
        counts: list[int] = []

        async def traffic() -> None:
            while not over.is_set():
                await delivered(connection, ledger_id, 20)
                await catch_up(live, delivery.PROJECTION)

        async def reading() -> None:
            while not over.is_set():
                found = await rows(reader, "SELECT coalesce(sum(impressions), 0)::int AS n FROM deliveries")
                counts.append(found[0]["n"])

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(traffic())
            tasks.create_task(reading())
            for _ in range(3):
                found = await rebuild.rebuild(database_url, delivery.PROJECTION, untold)
                assert found.differing_keys == 0
            over.set()
        assert counts == sorted(counts)
        assert counts[0] >= 30
        await catch_up(live, delivery.PROJECTION)
        assert (await compare(database_url, delivery.PROJECTION, untold)).differing_keys == 0


async def test_a_swap_waits_for_no_reader(pool: Pool, database_url: str) -> None:
    """A reader in a long transaction keeps nobody from swapping, and sees the rows it began with."""
    async with pool.connection() as connection, pool.connection() as reader:
        await lived_in(connection)
        await connection.execute("UPDATE advertisers SET name = 'Forged'")
        async with reader.transaction():
            await reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            names = "SELECT DISTINCT name FROM advertisers"
            assert await rows(reader, names) == [{"name": "Forged"}]
            async with asyncio.timeout(10):
                await rebuild.rebuild(database_url, advertisers.PROJECTION, untold)
            assert await rows(reader, names) == [{"name": "Forged"}]
        assert await rows(reader, names) == [{"name": stored(AdvertiserCreated).name}]


async def test_an_interrupted_rebuild_is_resumed(
    pool: Pool, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed rebuild had done is not done again, and the live read model is as it was."""
    monkeypatch.setattr(runner, "RANGE_ENTRIES_MAX", 7)
    monkeypatch.setattr(rebuild, "BATCH_ENTRIES_MAX", 7)
    async with pool.connection() as connection:
        ledger_id = await lived_in(connection)
        await connection.execute("UPDATE spendings SET spent_micros = 0")
        before = await contents(connection, ledger_id)

        def killed(progress: Progress) -> None:
            if progress.done >= 21:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await rebuild.rebuild(database_url, budgets.PROJECTION, killed)
        assert await contents(connection, ledger_id) == before
        assert await rows(connection, LEFT) == [{"projection": "budgets"}]
        seen: list[Progress] = []
        found = await rebuild.rebuild(database_url, budgets.PROJECTION, seen.append)
        assert (seen[0].done, found.differing_keys) == (21, 1)
        assert seen[0].seconds_left is None
        assert [each.done for each in seen] == sorted(each.done for each in seen)
        assert (await contents(connection, ledger_id))["spendings"][0]["spent_micros"] > 0


async def test_a_rebuild_that_no_longer_fits_begins_anew(pool: Pool, database_url: str) -> None:
    """What an older version left, or a table of another shape, is thrown away; discarding does it by hand."""
    async with pool.connection() as connection:
        await lived_in(connection)
        for outdated in ("UPDATE rebuild.checkpoints SET version = 0", "ALTER TABLE rebuild.advertisers DROP phone"):
            with pytest.raises(KeyboardInterrupt):
                await rebuild.rebuild(database_url, advertisers.PROJECTION, _kill_at_the_end)
            await connection.execute(outdated.encode())
            seen: list[Progress] = []
            assert (await rebuild.rebuild(database_url, advertisers.PROJECTION, seen.append)).differing_keys == 0
            assert seen[0].done == 0
        with pytest.raises(KeyboardInterrupt):
            await rebuild.rebuild(database_url, advertisers.PROJECTION, _kill_at_the_end)
        assert await discard(database_url, advertisers.PROJECTION)
        assert await rows(connection, LEFT) == []
        assert not await discard(database_url, advertisers.PROJECTION)


def _kill_at_the_end(progress: Progress) -> None:
    if progress.done == progress.entries:
        raise KeyboardInterrupt


async def test_one_rebuild_at_a_time(pool: Pool, database_url: str) -> None:
    """Whoever would rebuild or compare what is being rebuilt is refused."""
    async with pool.connection() as connection, await connect(database_url) as other:
        await lived_in(connection)
        await other.execute("SELECT pg_advisory_lock(hashtextextended('rebuild slots', 0))")
        slots = next(each for each in PROJECTIONS if each.name == "slots")
        for attempt in (rebuild.rebuild(database_url, slots, untold), compare(database_url, slots, untold)):
            with pytest.raises(RebuildRunning, match="slots"):
                await attempt


async def test_a_newer_version_is_rebuilt_by_itself(pool: Pool, database_url: str) -> None:
    """A projection of a newer version than its read model is swapped in; an older program leaves a newer one alone."""

    def fold(row: advertisers.AdvertiserRow | None, recorded: Recorded) -> advertisers.AdvertiserRow:
        folded = advertisers.fold(row, recorded)
        return structs.replace(folded, name=folded.name.upper())

    model = advertisers.READ_MODEL._replace(fold=fold)
    newer = advertisers.PROJECTION._replace(version=advertisers.PROJECTION.version + 1, write=model.write)

    async def versions() -> dict[str, int]:
        async with pool.connection() as connection:
            found = await rows(connection, "SELECT projection, version FROM checkpoints")
        return {row["projection"]: row["version"] for row in found}

    async with pool.connection() as connection:
        await lived_in(connection)
        following = asyncio.create_task(follow_versions(database_url, [newer, delivery.PROJECTION]))

        async def renewed() -> bool:
            return (await versions())["advertisers"] == newer.version

        await eventually(renewed)
        following.cancel()
        name = stored(AdvertiserCreated).name
        assert await rows(connection, "SELECT DISTINCT name FROM advertisers") == [{"name": name.upper()}]
        assert (await versions())["delivery"] == 1
        assert await rebuild._outdated(connection, PROJECTIONS) == []  # noqa: SLF001  what the loop looks at


async def test_what_is_parked_is_swapped_as_well(pool: Pool, database_url: str) -> None:
    """A rebuild parks what it cannot apply either, and takes back what was parked only by an older fold."""
    async with pool.connection() as connection, owning(database_url) as owner:
        ledger_id = await lived_in(connection)
        stream = stream_of(ADVERTISER.thing, UUID(int=1))
        entry = recorded_at(1, stream, 3_000_000_000, AdvertiserChanged(name="Poison")).entry
        await owner.execute(
            "INSERT INTO events SELECT ledger_id, position + 1, %s, 2, 'x', now(), %s FROM ledger_heads"
            " WHERE ledger_id = %s",
            (stream, encode_entry(entry).decode(), ledger_id),
        )
        await owner.execute("UPDATE ledger_heads SET position = position + 1, command_position = position + 1")
        await catch_up(connection, advertisers.PROJECTION)
        await connection.execute(
            "INSERT INTO parked_events SELECT ledger_id, projection, 'gone', 1, error, %s FROM parked_events",
            (clock.now(),),
        )
        await rebuild.rebuild(database_url, advertisers.PROJECTION, untold)
        parked = "SELECT key FROM parked_events WHERE projection = 'advertisers'"
        assert await rows(connection, parked) == [{"key": stream}]
        assert (await compare(database_url, advertisers.PROJECTION, untold)).differing_keys == 0


async def test_a_malformed_delivery_is_parked_in_a_rebuild(pool: Pool, database_url: str) -> None:
    """Where the one statement for many deliveries stumbles, the poison among them is found and parked."""
    async with pool.connection() as connection, owning(database_url) as owner:
        ledger_id = await lived_in(connection)
        await owner.execute("ALTER TABLE events DISABLE TRIGGER USER")
        await owner.execute(
            "UPDATE events SET entry = replace(entry::text, '\"billed\":true', '\"billed\":7e7')::json"
            " WHERE position = (SELECT max(position) FROM events)"
        )
        found = await compare(database_url, delivery.PROJECTION, untold)
        assert found.differing_keys == 1
        assert found.live.sums["clicks"] == found.anew.sums["clicks"] + 1
        await rebuild.rebuild(database_url, delivery.PROJECTION, untold)
        (parked,) = await rows(connection, "SELECT position FROM parked_events WHERE projection = 'delivery'")
        assert [parked] == await rows(connection, "SELECT max(position) AS position FROM events")
        assert (await compare(database_url, delivery.PROJECTION, untold)).differing_keys == 0
        await owner.execute(
            "UPDATE events SET entry = replace(entry::text, '\"billed\":7e7', '\"billed\":true')::json"
            " WHERE ledger_id = %s",
            (ledger_id,),
        )
        (key,) = await rows(connection, "SELECT key FROM parked_events WHERE projection = 'delivery'")
        assert await retry(connection, delivery.PROJECTION, ledger_id, key["key"]) == 1
        assert (await compare(database_url, delivery.PROJECTION, untold)).differing_keys == 0

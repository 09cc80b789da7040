"""The log: gapless positions in the order of commits, exact bytes, and nothing that can be changed afterwards."""

import asyncio
import multiprocessing
from collections import Counter
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from domain.advertiser import ADVERTISER
from domain.events import AdvertiserChanged, AdvertiserCreated, CampaignCreated, Entry
from infra import clock, event_log
from infra.batch import Appending
from infra.database import Pool, connect
from infra.event_log import ENTRY_BYTES_MAX, Head, Recorded, decode_entry, encode_entry
from tests.domain.strategies import entries, law
from tests.writing import appending, beacon, committed, drafted, new_ledger, owning, promised, recording, rows, writing

REQUESTS_PER_WRITER = 60
ROUNDS = 4


def entered(ledger_id: UUID, name: str = "Shoes") -> Appending:
    """Return the beginning of some advertiser's stream."""
    return appending(ledger_id, uuid4(), AdvertiserCreated(name=name), thing=ADVERTISER.thing)


async def write_much(url: str, ledger_id: UUID) -> None:
    """Append single events, and deliveries in groups, from several tasks at once."""
    async with writing(url) as writer:
        for _ in range(ROUNDS):
            commands = [writer.append(entered(ledger_id)) for _ in range(REQUESTS_PER_WRITER // ROUNDS)]
            ticket = promised(uuid4())
            await asyncio.gather(
                *commands, writer.record(recording(ledger_id, beacon("impression", ticket), beacon("click", ticket)))
            )


def write_much_elsewhere(url: str, ledger_id: UUID) -> None:
    """Do the same in a process of its own."""
    asyncio.run(write_much(url, ledger_id))


async def tail(url: str, ledger_id: UUID, until: int) -> list[Head]:
    """Follow the log as a projection would, and return position and time of each event, as they were seen."""
    seen: list[Head] = []
    async with await connect(url) as connection:
        while len(seen) < until:
            found = await rows(
                connection,
                "SELECT position, 0 AS command_position, recorded_at FROM events"
                " WHERE ledger_id = %s AND position > %s ORDER BY position LIMIT 7",
                ledger_id,
                seen[-1].position if seen else 0,
            )
            seen += msgspec.convert(found, list[Head])
    return seen


async def test_positions_are_gapless_and_in_the_order_of_commits(database_url: str, ledger_id: UUID) -> None:
    """Whoever reads on from the last position it saw misses nothing that several processes write meanwhile."""
    spawning = multiprocessing.get_context("spawn")
    others = [spawning.Process(target=write_much_elsewhere, args=(database_url, ledger_id)) for _ in range(2)]
    for other in others:
        other.start()
    total = 5 * (REQUESTS_PER_WRITER + 2 * ROUNDS)
    async with asyncio.timeout(50):
        tailing = asyncio.create_task(tail(database_url, ledger_id, total))
        await asyncio.gather(*(write_much(database_url, ledger_id) for _ in range(3)))
        seen = await tailing
    for other in others:
        await asyncio.to_thread(other.join, 20)
    assert [other.exitcode for other in others] == [0, 0]
    assert [event.position for event in seen] == list(range(1, total + 1))
    times = [event.recorded_at for event in seen]
    assert times == sorted(times)
    async with await connect(database_url) as connection:
        assert (await event_log.read_head(connection, ledger_id)).position == total


async def test_versions_of_a_stream_are_dense_and_taken_once(database_url: str, ledger_id: UUID) -> None:
    """Of writers that expect the same version of a stream, one gets it and the others are told."""
    subject = uuid4()
    change = appending(ledger_id, subject, AdvertiserChanged(name="New"), after=1, thing=ADVERTISER.thing)
    async with writing(database_url) as one, writing(database_url) as other:
        await one.append(appending(ledger_id, subject, AdvertiserCreated(name="Old"), thing=ADVERTISER.thing))
        answers = await asyncio.gather(*(writer.append(change) for writer in (one, other) * 5), return_exceptions=True)
    assert Counter(type(answer).__name__ for answer in answers) == {"Receipt": 1, "VersionConflict": 9}
    async with await connect(database_url) as connection:
        recorded = (await event_log.read_streams(connection, ledger_id, [change.stream]))[change.stream]
    assert [each.entry.version for each in recorded] == [1, 2]


@settings(law, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_=st.lists(entries, min_size=1, max_size=8))
async def test_an_entry_is_kept_byte_for_byte(pool: Pool, batch_: list[Entry]) -> None:
    """What is stored is the very text that is hashed, whatever is in it, and its columns repeat what it says."""
    at = batch_[0].recorded_at
    written = [
        structs.replace(entry, stream=f"campaign-{number}", version=1, recorded_at=at)
        for number, entry in enumerate(batch_)
    ]
    async with pool.connection() as connection:
        ledger_id = await new_ledger(connection)
        await connection.execute(event_log.INSERT_EVENTS, event_log.insert_parameters(ledger_id, 0, written))
        found = await rows(
            connection,
            "SELECT position, stream_id, version, type, recorded_at, entry::text AS entry FROM events"
            " WHERE ledger_id = %s ORDER BY position",
            ledger_id,
        )
    assert [row["entry"].encode() for row in found] == [encode_entry(entry) for entry in written]
    for number, (row, entry) in enumerate(zip(found, written, strict=True), start=1):
        said = (number, entry.stream, entry.version, event_log.type_of(entry), entry.recorded_at)
        assert tuple(row[name] for name in ("position", "stream_id", "version", "type", "recorded_at")) == said
        assert decode_entry(row["entry"]) == entry


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET type = 'x'",
        "UPDATE events SET position = position + 1 WHERE position = 1",
        "DELETE FROM events",
        "TRUNCATE events",
        "INSERT INTO events SELECT * FROM events ON CONFLICT (ledger_id, position) DO UPDATE SET type = 'x'",
    ],
)
@pytest.mark.parametrize("who", ["the service", "the owner"])
async def test_the_log_cannot_be_changed(database_url: str, ledger_id: UUID, who: str, change: str) -> None:
    """The service has no right to change the log, and a trigger refuses even its owner; it stays as it was."""
    async with owning(database_url) as owner, await connect(database_url) as service:
        await committed(service, ledger_id, entered(ledger_id))
        before = await rows(owner, "SELECT position, type, entry::text AS entry FROM events")
        asked = owner if who == "the owner" else service
        reason = "append-only" if who == "the owner" else "permission denied"
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=reason):
            await asked.execute(change.encode())
        assert await rows(owner, "SELECT position, type, entry::text AS entry FROM events") == before


async def test_a_batch_is_announced_once(database_url: str, ledger_id: UUID) -> None:
    """Listeners are told once a batch which ledger has grown, and not at all when nothing was appended."""
    async with await connect(database_url) as listener, await connect(database_url) as connection:
        await listener.execute(f"LISTEN {event_log.CHANNEL}")
        ticket = promised(uuid4())
        await committed(connection, ledger_id, *[entered(ledger_id) for _ in range(5)])
        await committed(connection, ledger_id, recording(ledger_id, beacon("impression", ticket)))
        await committed(connection, ledger_id, recording(ledger_id, beacon("impression", ticket)))
        await connection.execute(f"NOTIFY {event_log.CHANNEL}, 'end'")
        told = [notice.payload async for notice in listener.notifies(timeout=10, stop_after=3)]
    assert told == [str(ledger_id), str(ledger_id), "end"]


async def test_the_head_says_where_commands_end(pool: Pool, ledger_id: UUID) -> None:
    """Deliveries move the position and leave the position of the last command where it was."""
    async with pool.connection() as connection:
        empty = await event_log.read_head(connection, ledger_id)
        await committed(connection, ledger_id, entered(ledger_id), entered(ledger_id))
        await committed(connection, ledger_id, recording(ledger_id, beacon("impression", promised(uuid4()))))
        after = await event_log.read_head(connection, ledger_id)
    assert (empty.position, empty.command_position) == (0, 0)
    assert (after.position, after.command_position) == (3, 2)


async def test_time_does_not_run_backwards_in_the_log(pool: Pool, ledger_id: UUID) -> None:
    """A batch of a process whose clock is behind is recorded at the time of the batch before it."""
    async with pool.connection() as connection:
        first = await committed(connection, ledger_id, entered(ledger_id))
        behind = clock.now() - timedelta(hours=1)
        later = await committed(connection, ledger_id, entered(ledger_id), now=behind)
        found = await rows(connection, "SELECT DISTINCT recorded_at FROM events WHERE ledger_id = %s", ledger_id)
    assert later.now == first.now
    assert [row["recorded_at"] for row in found] == [first.now]


async def test_reading_can_be_narrowed(pool: Pool, ledger_id: UUID) -> None:
    """The log is read on from a position, by type, by stream, without deliveries, and in pages."""
    campaign = appending(ledger_id, uuid4(), drafted())
    ticket = promised(campaign.subject)
    async with pool.connection() as connection:
        await committed(connection, ledger_id, campaign, entered(ledger_id, "a"), entered(ledger_id, "b"))
        await committed(connection, ledger_id, recording(ledger_id, beacon("impression", ticket)))

        async def positions(after: int = 0, **narrowed: object) -> list[int]:
            found = await event_log.read_texts(connection, ledger_id, after, **narrowed)  # type: ignore[arg-type]  # narrowed by name
            return [text.position for text in found]

        assert await positions() == [1, 2, 3, 4]
        assert await positions(2) == [3, 4]
        assert await positions(limit=2) == [1, 2]
        assert await positions(event_type="advertiser_created") == [2, 3]
        assert await positions(stream=campaign.stream) == [1]
        assert await positions(stream=campaign.stream, event_type="advertiser_created") == []
        assert await positions(catalogue_only=True) == [1, 2, 3]
        catalogue = [each async for each in event_log.read_catalogue(connection, ledger_id, 1)]
    assert [type(each) for each in catalogue] == [Recorded, Recorded]
    assert [each.position for each in catalogue] == [2, 3]


async def test_ledgers_do_not_see_each_other(pool: Pool, ledger_id: UUID) -> None:
    """Two ledgers in one database have positions, streams, budgets and answers of their own."""
    subject = uuid4()
    async with pool.connection() as connection:
        other_id = await new_ledger(connection)
        for each in (ledger_id, other_id):
            await committed(connection, each, appending(each, subject, drafted(impression_budget=1)))
        ticket = promised(subject)
        here = await committed(connection, ledger_id, recording(ledger_id, beacon("impression", ticket)))
        there = await committed(connection, other_id, recording(other_id, beacon("impression", ticket)))
        assert here.results != [(None,)]
        assert there.results != [(None,)]  # not a repetition: it is another ledger's
        await committed(connection, other_id, entered(other_id))
        heads = [(await event_log.read_head(connection, each)).position for each in (ledger_id, other_id)]
        stream = appending(ledger_id, subject).stream
        streams = await event_log.read_streams(connection, ledger_id, [stream, "campaign-none"])
        spent = await rows(connection, "SELECT ledger_id, impressions FROM budgets ORDER BY ledger_id")
        texts = [len(await event_log.read_texts(connection, each, 0)) for each in (ledger_id, other_id)]
    assert heads == texts == [2, 3]
    assert [len(recorded) for recorded in streams.values()] == [1, 0]
    assert [(row["ledger_id"], row["impressions"]) for row in spent] == sorted([(ledger_id, 1), (other_id, 1)])


async def test_a_ledger_begins_once(pool: Pool, ledger_id: UUID) -> None:
    """A ledger cannot begin again over one that is there."""
    async with pool.connection() as connection:
        with pytest.raises(psycopg.errors.UniqueViolation):
            await event_log.create_ledger(connection, ledger_id, "again", clock.now())
        assert (await event_log.read_head(connection, ledger_id)).position == 0


async def test_an_entry_has_a_bound(pool: Pool, ledger_id: UUID) -> None:
    """An event that would be larger than an entry may be is refused, whatever it is made of, and nothing is written."""
    large = structs.replace(
        drafted(), description="\N{GRINNING FACE}" * 5_000, keywords=("\N{GRINNING FACE}" * 100,) * 100
    )
    assert len(msgspec.json.encode(large)) > ENTRY_BYTES_MAX
    async with pool.connection() as connection:
        planned = await committed(connection, ledger_id, appending(ledger_id, uuid4(), large), entered(ledger_id))
        assert getattr(planned.results[0], "code", None) == "entry_too_large"
        assert (await event_log.read_head(connection, ledger_id)).position == 1


def test_the_stored_type_is_the_tag() -> None:
    """The type of an entry is the tag of its event."""
    entry = Entry(stream="s", version=1, actor="a", occurred_at=clock.now(), recorded_at=clock.now(), event=drafted())
    assert event_log.type_of(entry) == CampaignCreated.__struct_config__.tag == "campaign_created"

"""The writer: group commit with a bounded queue, answers that mean durable, and no caller left waiting."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from domain.advertiser import ADVERTISER
from domain.errors import NotFound, VersionConflict
from domain.events import AdvertiserCreated, CampaignActivated
from domain.values import MICROS_MAX, Pricing
from infra import writer
from infra.batch import Appending, Idempotency, Receipt
from infra.database import Connection
from infra.writer import ANSWER_SECONDS_MAX, LogBusy, LogUnavailable, Writer
from tests.databases import with_database
from tests.writing import (
    ACTOR,
    appending,
    backends,
    beacon,
    drafted,
    eventually,
    head_locked,
    owning,
    promised,
    recording,
    rows,
    writing,
)

SLACK_SECONDS = 3
"""What a caller may wait beyond the bound on a busy machine."""


def entered(ledger_id: UUID, name: str = "Shoes") -> Appending:
    """Return the beginning of some advertiser's stream."""
    return appending(ledger_id, uuid4(), AdvertiserCreated(name=name), thing=ADVERTISER.thing)


def refused(ledger_id: UUID) -> Appending:
    """Return a refusal that is to be remembered."""
    key = Idempotency(actor=ACTOR, key=str(uuid4()), request_sha256=b"0" * 32)
    return appending(ledger_id, uuid4(), idempotency=key, refusal=NotFound("campaign", uuid4()))


@asynccontextmanager
async def held_up(url: str, ledger_id: UUID, writing_: Writer) -> AsyncIterator[list[asyncio.Task[Receipt]]]:
    """A writer that is in the middle of a batch of one while more arrives; at the end the batch goes on."""
    async with owning(url) as watching, head_locked(url, ledger_id):
        tasks = [asyncio.create_task(writing_.append(entered(ledger_id)))]
        await eventually(lambda: backends(watching, waiting_for_lock=True))
        yield tasks


@asynccontextmanager
async def gone(url: str) -> AsyncIterator[None]:
    """A database that drops all connections and takes no new ones."""
    name = urlsplit(url).path.removeprefix("/")
    async with owning(with_database(url, "postgres")) as admin:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        yield
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())


async def batch_sizes(url: str, ledger_id: UUID) -> list[int]:
    """Return how many events each batch brought, in order."""
    async with owning(url) as connection:
        found = await rows(
            connection,
            "SELECT count(*) AS size FROM events WHERE ledger_id = %s GROUP BY recorded_at ORDER BY recorded_at",
            ledger_id,
        )
    return [row["size"] for row in found]


async def test_a_batch_holds_what_arrived_meanwhile(database_url: str, ledger_id: UUID) -> None:
    """While a batch is being committed whatever arrives waits, and becomes the next batch, whole."""
    async with writing(database_url) as one:
        async with held_up(database_url, ledger_id, one) as tasks:
            tasks += [asyncio.create_task(one.append(entered(ledger_id))) for _ in range(49)]
            await asyncio.sleep(0)
        receipts = await asyncio.gather(*tasks)
    assert [receipt.position for receipt in receipts] == list(range(1, 51))
    assert await batch_sizes(database_url, ledger_id) == [1, 49]


async def test_a_batch_is_bounded(database_url: str, ledger_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch ends before it grows beyond its bound; what alone is larger goes alone."""
    monkeypatch.setattr(writer, "BATCH_EVENTS_MAX", 10)
    large = recording(ledger_id, *(beacon("impression", promised(uuid4())) for _ in range(12)))
    async with writing(database_url) as one:
        async with held_up(database_url, ledger_id, one) as tasks:
            tasks += [asyncio.create_task(one.append(entered(ledger_id))) for _ in range(25)]
            await asyncio.sleep(0)
            recorded = asyncio.create_task(one.record(large))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, recorded)
    assert await batch_sizes(database_url, ledger_id) == [1, 10, 10, 5, 12]


async def test_the_queue_is_bounded(database_url: str, ledger_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the queue holds is turned away at once, and taken in again when there is room."""
    monkeypatch.setattr(writer, "QUEUE_EVENTS_MAX", 5)
    async with writing(database_url) as one:
        async with held_up(database_url, ledger_id, one) as tasks:
            tasks += [asyncio.create_task(one.append(entered(ledger_id))) for _ in range(5)]
            await asyncio.sleep(0)
            for more in (one.append(entered(ledger_id)), one.append(entered(ledger_id))):
                with pytest.raises(LogBusy):
                    await more
        await asyncio.gather(*tasks)
        assert (await one.append(entered(ledger_id))).position == 7


async def test_refusals_are_counted_in_the_queue(
    database_url: str, ledger_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What writes no event, because it only remembers a refusal, takes a place in the queue all the same."""
    monkeypatch.setattr(writer, "QUEUE_EVENTS_MAX", 5)
    async with writing(database_url) as one:
        async with held_up(database_url, ledger_id, one) as tasks:
            tasks += [asyncio.create_task(one.append(refused(ledger_id))) for _ in range(7)]
            await asyncio.sleep(0)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Receipt] + [NotFound] * 5 + [LogBusy] * 2


async def test_a_refusal_reaches_only_who_asked(database_url: str, ledger_id: UUID) -> None:
    """In a batch with refusals everybody gets the own answer."""
    subject = uuid4()
    async with writing(database_url) as one:
        asked = [
            one.append(appending(ledger_id, subject, drafted())),
            one.append(appending(ledger_id, subject, CampaignActivated(), after=7)),
            one.append(refused(ledger_id)),
            one.record(recording(ledger_id, beacon("impression", promised(subject)))),
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Receipt, VersionConflict, NotFound, tuple]
    assert await batch_sizes(database_url, ledger_id) == [2]


async def test_closing_drains_what_was_accepted(database_url: str, ledger_id: UUID) -> None:
    """What was accepted before the end is durable at the end; afterwards nothing is taken in."""
    async with writing(database_url) as one, held_up(database_url, ledger_id, one) as tasks:
        tasks += [asyncio.create_task(one.append(entered(ledger_id))) for _ in range(9)]
        await asyncio.sleep(0)
        one.close()
        with pytest.raises(LogBusy):
            await one.append(entered(ledger_id))
    assert all(task.done() for task in tasks)
    assert sum(await batch_sizes(database_url, ledger_id)) == len(await asyncio.gather(*tasks)) == 10


async def test_callers_that_go_away_do_not_hurt_others(database_url: str, ledger_id: UUID) -> None:
    """Who stops waiting leaves the batch as it is: the others are answered, each with its own position."""
    async with writing(database_url) as one:
        async with held_up(database_url, ledger_id, one) as tasks:
            tasks += [asyncio.create_task(one.append(entered(ledger_id))) for _ in range(10)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
        receipts = await asyncio.gather(*tasks[1::2])
        assert (await one.append(entered(ledger_id))).position == 12
    assert [receipt.position for receipt in receipts] == [2, 4, 6, 8, 10]
    assert all(task.cancelled() for task in tasks[::2])


async def test_a_database_that_went_away_is_said_and_found_again(database_url: str, ledger_id: UUID) -> None:
    """While the database is away callers are told so at once; when it is back, the writer goes on by itself."""
    async with writing(database_url) as one:
        assert (await one.append(entered(ledger_id))).position == 1
        async with gone(database_url):
            for _ in range(2):
                with pytest.raises(LogUnavailable):
                    await one.append(entered(ledger_id))
        assert (await one.append(entered(ledger_id))).position == 2


async def test_a_batch_that_was_interrupted_is_not_there(database_url: str, ledger_id: UUID) -> None:
    """Who was in a batch whose connection broke is told, as is who queued behind it, and nothing of it is kept."""
    async with writing(database_url) as one, owning(database_url) as watching:
        async with held_up(database_url, ledger_id, one) as tasks:
            tasks.append(asyncio.create_task(one.append(entered(ledger_id))))
            await asyncio.sleep(0)
            for pid in await backends(watching, waiting_for_lock=True):
                await watching.execute("SELECT pg_terminate_backend(%s)", (pid,))
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [LogUnavailable, LogUnavailable]
        assert (await one.append(entered(ledger_id))).position == 1


async def test_a_database_that_does_not_answer_is_given_up(database_url: str, ledger_id: UUID) -> None:
    """Callers wait no longer than the bound for a server that is frozen, and the writer works on another connection."""
    async with owning(database_url) as watching:
        before = set(await backends(watching))
        async with writing(database_url) as one:
            await one.append(entered(ledger_id))
            (frozen,) = set(await backends(watching)) - before
            os.kill(frozen, signal.SIGSTOP)
            try:
                started = monotonic()
                answers = await asyncio.gather(
                    *(one.append(entered(ledger_id)) for _ in range(3)), return_exceptions=True
                )
                waited = monotonic() - started
                assert [type(answer) for answer in answers] == [LogUnavailable] * 3
                assert (await one.append(entered(ledger_id))).position == 2
            finally:
                os.kill(frozen, signal.SIGCONT)
    assert ANSWER_SECONDS_MAX <= waited < ANSWER_SECONDS_MAX + SLACK_SECONDS


async def test_what_cannot_be_written_stops_nobody(database_url: str, ledger_id: UUID) -> None:
    """A defect in one request is its own: its neighbours in the batch and those after it are answered as ever."""
    async with writing(database_url) as one:
        async with held_up(database_url, ledger_id, one) as tasks:
            names = ["a", "\ud800", "b"]
            tasks += [asyncio.create_task(one.append(entered(ledger_id, name=name))) for name in names]
            await asyncio.sleep(0)
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert [type(answer) for answer in answers] == [Receipt, Receipt, UnicodeEncodeError, Receipt]
        assert (await asyncio.wait_for(one.append(entered(ledger_id)), 10)).position == 4


async def test_money_beyond_counting_is_not_billed(database_url: str, ledger_id: UUID) -> None:
    """A campaign without limits is billed only as far as its money can be counted; others are not held up by it."""
    subject = uuid4()
    priceless = Pricing(model="cpc", price_micros=MICROS_MAX)
    clicks = [beacon("click", promised(subject, pricing=priceless)) for _ in range(1_030)]
    async with writing(database_url) as one:
        await one.append(appending(ledger_id, subject, drafted(pricing=priceless)))
        settled = await one.record(recording(ledger_id, *clicks))
        assert (await one.append(entered(ledger_id))).position == 1_032
    assert {outcome.event.reason for outcome in settled if outcome} == {None, "over_budget"}


async def test_a_writer_with_nothing_to_do_holds_no_connection(database_url: str, ledger_id: UUID) -> None:
    """A connection is made for the first batch, kept for the next ones, and closed at the end."""
    async with owning(database_url) as watching:
        before = await backends(watching)
        async with writing(database_url) as one:
            assert await backends(watching) == before
            for position in (1, 2):
                assert (await one.append(entered(ledger_id))).position == position
                assert len(await backends(watching)) == len(before) + 1
        await eventually(lambda: same(watching, before))


async def same(watching: Connection, before: list[int]) -> bool:
    """Tell whether the connections are the same as before."""
    return sorted(await backends(watching)) == sorted(before)

"""Telling the log what was asked for: every interval once, whatever becomes of the answers."""

import asyncio
from uuid import UUID

import pytest

from domain.tally import Tally
from infra import tallying
from infra.database import Pool
from infra.tallying import Tallying
from tests.writing import backends, eventually, head_locked, owning, rows, writing

SLOT = UUID(int=1)
ASKED = """
    SELECT stream_id, version, (entry #>> '{event,lines,0,fills}')::int AS fills FROM events
    WHERE ledger_id = %s ORDER BY position
"""


def ask(tally: Tally, times: int) -> None:
    """Count as many creatives that were found."""
    tally.add(SLOT, "CN", second=10**9, asked=times, filled=times, reason=None)


async def test_every_interval_is_told(
    pool: Pool, database_url: str, ledger_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was counted in an interval is an entry, the rest is one at the end, and where nothing was asked is none."""
    monkeypatch.setattr(tallying, "INTERVAL_SECONDS", 0.01)
    tally = Tally()
    async with writing(database_url) as writer, pool.connection() as connection:
        keeping = asyncio.create_task(Tallying(ledger_id, 7, tally).keep(writer))
        for count in (1, 2):
            ask(tally, 3)

            async def told(count: int = count) -> bool:
                return len(await rows(connection, ASKED, ledger_id)) == count

            await eventually(told)
        ask(tally, 5)
        keeping.cancel()  # before it wakes again
        await asyncio.wait([keeping])
        found = await rows(connection, ASKED, ledger_id)
    assert [(row["version"], row["fills"]) for row in found] == [(1, 3), (2, 3), (3, 5)]
    assert len({row["stream_id"] for row in found}) == 1


async def test_an_append_whose_answer_was_lost_is_in_the_log_once(database_url: str, ledger_id: UUID) -> None:
    """Repeated as it was, it is refused by its version, and what was counted since comes after it."""
    tally = Tally()
    told = Tallying(ledger_id, 7, tally)
    ask(tally, 3)
    async with owning(database_url) as connection:
        async with writing(database_url) as writer:
            async with head_locked(database_url, ledger_id):
                lost = asyncio.create_task(told.append(writer))
                await eventually(lambda: backends(connection, waiting_for_lock=True))
                lost.cancel()
                await asyncio.wait([lost])
            ask(tally, 4)
            await told.append(writer)
            assert [row["fills"] for row in await rows(connection, ASKED, ledger_id)] == [3, 4]
        ask(tally, 5)
        await told.append(writer)  # it is closed, and takes nothing
        ask(tally, 6)
        async with writing(database_url) as writer:
            await told.append(writer)
        assert [row["fills"] for row in await rows(connection, ASKED, ledger_id)] == [3, 4, 5, 6]

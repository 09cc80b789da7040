"""How far read models have come, and who may rely on them."""

import asyncio
from uuid import UUID, uuid4

import pytest

from domain.advertiser import ADVERTISER
from domain.events import AdvertiserCreated
from infra.database import Connection, Pool
from projections import advertisers, delivery, status
from projections.runner import catch_up
from projections.status import ProjectionBehind, read_status, wait_for_commands
from tests.writing import appending, beacon, committed, new_ledger, promised, recording

NAME = advertisers.PROJECTION.name


async def entered(connection: Connection, ledger_id: UUID) -> None:
    """Append a command's event."""
    created = AdvertiserCreated(name="Shoes")
    await committed(connection, ledger_id, appending(ledger_id, uuid4(), created, thing=ADVERTISER.thing))


async def delivered(connection: Connection, ledger_id: UUID) -> None:
    """Append a delivery."""
    await committed(connection, ledger_id, recording(ledger_id, beacon("impression", promised(uuid4()))))


async def test_a_reader_sees_what_was_answered(pool: Pool, ledger_id: UUID) -> None:
    """Whoever reads waits until the read model holds the last command, and is then told the position it is at."""
    async with pool.connection() as connection, pool.connection() as other:
        assert await wait_for_commands(connection, ledger_id, NAME) == 0
        await entered(connection, ledger_id)
        waiting = asyncio.create_task(wait_for_commands(connection, ledger_id, NAME))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await catch_up(other, advertisers.PROJECTION)
        assert await waiting == 1


async def test_a_reader_does_not_wait_for_deliveries(pool: Pool, ledger_id: UUID) -> None:
    """Impressions that came after the last command keep nobody waiting."""
    async with pool.connection() as connection:
        await entered(connection, ledger_id)
        await catch_up(connection, advertisers.PROJECTION)
        await delivered(connection, ledger_id)
        assert await asyncio.wait_for(wait_for_commands(connection, ledger_id, NAME), 1) == 1


async def test_a_reader_does_not_wait_for_ever(pool: Pool, ledger_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody keeps the read model, the reader is told that it is behind."""
    monkeypatch.setattr(status, "CATCH_UP_SECONDS_MAX", 0.05)
    async with pool.connection() as connection:
        await entered(connection, ledger_id)
        with pytest.raises(ProjectionBehind):
            await wait_for_commands(connection, ledger_id, NAME)
        with pytest.raises(ProjectionBehind):
            await wait_for_commands(connection, uuid4(), NAME)


async def test_the_lag_is_what_is_missing(pool: Pool, ledger_id: UUID) -> None:
    """The status says how much of its own ledger a projection has not seen; deliveries, if it sees any at all."""
    async with pool.connection() as connection:
        other_id = await new_ledger(connection)
        await entered(connection, ledger_id)
        await entered(connection, other_id)
        for projection in (advertisers.PROJECTION, delivery.PROJECTION):
            await catch_up(connection, projection)
        await delivered(connection, ledger_id)
        await catch_up(connection, advertisers.PROJECTION)
        found = await read_status(connection, ledger_id)
        other = await read_status(connection, other_id)
    assert [(each.name, each.version, each.position, each.lag, each.parked) for each in found] == [
        (NAME, advertisers.PROJECTION.version, 1, 0, 0),
        (delivery.PROJECTION.name, 1, 1, 1, 0),
    ]
    assert [each.position for each in other] == [1, 1]

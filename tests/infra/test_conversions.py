"""Recording conversions: whoever comes second finds it recorded, and what comes too late says so."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import pytest

from domain.conversion import Reported
from domain.delivery import Ticket
from domain.errors import NotFound
from domain.events import CampaignActivated
from domain.values import CapWindow
from infra import clock
from infra.conversions import record
from infra.database import Pool
from infra.event_log import create_ledger, read_head
from infra.writer import Log
from tests.writing import appending, beacon, committed, drafted, promised, recording, writing

CAMPAIGN: Final = uuid4()
HOUR: Final = timedelta(hours=1)
MINUTE: Final = CapWindow(value=1, unit="minute")
TWENTY_AT_ONCE: Final = 20


@pytest.fixture
async def ledger_id(pool: Pool) -> UUID:
    """A ledger that is an hour old."""
    ledger = clock.fresh_id()
    async with pool.connection() as connection:
        await create_ledger(connection, ledger, "test", clock.now() - HOUR)
    return ledger


@pytest.fixture
async def log(pool: Pool, database_url: str, ledger_id: UUID) -> AsyncIterator[Log]:
    """The log of a ledger with one campaign."""
    async with pool.connection() as connection:
        begun = appending(ledger_id, CAMPAIGN, drafted(), CampaignActivated())
        await committed(connection, ledger_id, begun, now=clock.now() - HOUR)
    async with writing(database_url) as writer:
        yield Log(pool, writer)


async def clicked(pool: Pool, ledger_id: UUID, *, ago: timedelta) -> Ticket:
    """Return the ticket of a decision that was clicked so long ago."""
    ticket = promised(CAMPAIGN)
    async with pool.connection() as connection:
        clicks = recording(ledger_id, beacon("click", ticket))
        await committed(connection, ledger_id, clicks, now=clock.now() - ago)
    return ticket


def reported(ticket: Ticket, name: str | None = None) -> Reported:
    """Return the report of a conversion that follows from a decision."""
    return Reported(advertiser_id=ticket.advertiser_id, decision_id=ticket.decision_id, name=name)


async def test_a_conversion_that_is_reported_at_once_is_recorded_once(pool: Pool, log: Log, ledger_id: UUID) -> None:
    """Of twenty reports at the same time one gets into the log; commands do not wait for it."""
    ticket = await clicked(pool, ledger_id, ago=timedelta())
    async with pool.connection() as connection:
        before = await read_head(connection, ledger_id)
    asked = [record(log, ledger_id, reported(ticket, "order"), MINUTE) for _ in range(TWENTY_AT_ONCE)]
    outcomes = await asyncio.gather(*asked)
    (event,) = (outcome for outcome in outcomes if outcome is not None)
    assert (event.reason, event.campaign_id) == (None, CAMPAIGN)
    async with pool.connection() as connection:
        after = await read_head(connection, ledger_id)
    assert (after.position, after.command_position) == (before.position + 1, before.command_position)


async def test_what_comes_after_the_window_is_late(pool: Pool, log: Log, ledger_id: UUID) -> None:
    """A click of two minutes ago leads to nothing within a minute, and to something within the hour."""
    ticket = await clicked(pool, ledger_id, ago=timedelta(minutes=2))
    late = await record(log, ledger_id, reported(ticket, "first"), MINUTE)
    in_time = await record(log, ledger_id, reported(ticket, "second"), CapWindow(value=1, unit="hour"))
    assert late is not None
    assert in_time is not None
    assert [late.reason, in_time.reason] == ["late", None]


async def test_without_a_click_there_is_nothing_to_record(pool: Pool, log: Log, ledger_id: UUID) -> None:
    """What was seen and not clicked, or was never promised, is not found."""
    seen = promised(CAMPAIGN)
    async with pool.connection() as connection:
        await committed(connection, ledger_id, recording(ledger_id, beacon("impression", seen)))
    for ticket in (seen, promised(CAMPAIGN)):
        with pytest.raises(NotFound):
            await record(log, ledger_id, reported(ticket), MINUTE)

"""Viewings in the database: what viewers have seen of what is capped, kept in the transaction of the impressions."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from domain.delivery import Settled
from domain.frequency import Cap, Viewing
from infra import clock
from infra.database import Connection, Pool
from infra.viewings import Viewed, read_position_of_last, read_viewings
from tests.writing import appending, beacon, committed, drafted, promised, recording

CAMPAIGN: Final = uuid4()
CREATIVE: Final = UUID(int=201)
TWO_AN_HOUR: Final = Cap(views=2, seconds=3_600)
ONCE: Final = Cap(views=1, seconds=0)


@pytest.fixture
async def connection(pool: Pool, ledger_id: UUID) -> AsyncIterator[Connection]:
    """A connection to a ledger with one campaign."""
    async with pool.connection() as opened:
        await committed(opened, ledger_id, appending(ledger_id, CAMPAIGN, drafted()))
        yield opened


async def show(
    connection: Connection, ledger_id: UUID, *viewers: str | None, now: datetime | None = None, **caps: Any
) -> list[str | None]:
    """Report an impression to each viewer in one batch, under a cap of two an hour; return why it was not billed."""
    fields = {"campaign_cap": TWO_AN_HOUR, **caps}
    deliveries = [beacon("impression", promised(CAMPAIGN, viewer=viewer, **fields)) for viewer in viewers]
    planned = await committed(connection, ledger_id, recording(ledger_id, *deliveries), now=now)
    (outcomes,) = planned.results
    assert isinstance(outcomes, tuple)
    return [outcome.event.reason for outcome in outcomes if isinstance(outcome, Settled)]


async def test_a_cap_holds_across_batches(connection: Connection, ledger_id: UUID) -> None:
    """Of each viewer's impressions two an hour are billed, however they are gathered into batches."""
    noon = clock.now()
    assert await show(connection, ledger_id, "a", "b", None, now=noon) == [None, None, None]
    assert await show(connection, ledger_id, "a", "a", "b", None, None, now=noon) == [None, "over_cap", *[None] * 3]
    assert await show(connection, ledger_id, "a", "b", now=noon + timedelta(minutes=59)) == ["over_cap"] * 2
    assert await show(connection, ledger_id, "a", now=noon + timedelta(minutes=61)) == [None]


async def test_what_was_seen_is_read_from_where_it_was_left(connection: Connection, ledger_id: UUID) -> None:
    """Each viewing stands at the end of the batch that last changed it; what is over the cap changes none."""
    noon = clock.now()
    second = int(noon.timestamp())
    await show(connection, ledger_id, "a", "b", "a", now=noon, creative_cap=ONCE)
    first = await read_viewings(connection, ledger_id, 0)
    assert {(each.subject, each.viewer, each.viewing, each.position) for each in first} == {
        *((CAMPAIGN, viewer, Viewing(1, (second,)), 4) for viewer in "ab"),
        *((CREATIVE, viewer, Viewing(1, ()), 4) for viewer in "ab"),
    }
    await show(connection, ledger_id, "c", "b", now=noon + timedelta(seconds=1))
    later = await read_viewings(connection, ledger_id, 4)
    assert sorted(later, key=lambda each: each.viewer) == [
        Viewed(subject=CAMPAIGN, viewer="b", viewing=Viewing(2, (second, second + 1)), position=6),
        Viewed(subject=CAMPAIGN, viewer="c", viewing=Viewing(1, (second + 1,)), position=6),
    ]
    assert await show(connection, ledger_id, "b") == ["over_cap"]
    assert await read_viewings(connection, ledger_id, 6) == []
    assert await read_viewings(connection, uuid4(), 0) == []


async def test_those_who_came_last_are_known_first(connection: Connection, ledger_id: UUID) -> None:
    """A worker that starts reads about so many viewings as it can remember, and not all there ever were."""
    assert await read_position_of_last(connection, ledger_id, 2) == 0
    for viewer in "abcd":
        await show(connection, ledger_id, viewer)
    for count, viewers in ((2, "cd"), (3, "bcd"), (4, "abcd"), (9, "abcd")):
        after = await read_position_of_last(connection, ledger_id, count)
        assert "".join(each.viewer for each in await read_viewings(connection, ledger_id, after)) == viewers

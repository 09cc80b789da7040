"""The serving snapshot: what a process answers ad requests with follows the log, and so does what it may promise."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.campaign import CAMPAIGN
from domain.creative import CREATIVE
from domain.events import (
    CampaignActivated,
    CampaignPaused,
    CreativeActivated,
    CreativeApproved,
    CreativeArchived,
    CreativeChanged,
    CreativeCreated,
    CreativeSubmitted,
    Event,
    SlotChanged,
    SlotCreated,
    SlotKeyIssued,
)
from domain.holds import Holds
from domain.slot import SLOT
from infra.database import Connection, Pool, connect
from projections import serving
from projections.serving import Serving
from tests.writing import (
    appending,
    beacon,
    committed,
    drafted,
    eventually,
    new_ledger,
    promised,
    recording,
    rows,
    writing,
)

WORKER = 7
KEY_SHA256 = "0" * 64


async def told(connection: Connection, ledger_id: UUID, thing: str, *events: Event) -> UUID:
    """Append the first events of a thing, and return its id."""
    subject = uuid4()
    await committed(connection, ledger_id, appending(ledger_id, subject, *events, thing=thing))
    return subject


async def running_campaign(connection: Connection, ledger_id: UUID, **limits: int) -> tuple[UUID, UUID]:
    """Append an active campaign with one active creative, and return the ids of both."""
    campaign_id = await told(connection, ledger_id, CAMPAIGN.thing, drafted(**limits), CampaignActivated())
    made = CreativeCreated(
        campaign_id=campaign_id,
        name="Banner",
        ad_type="top_bar_ad",
        media_type="image",
        media_url="https://cdn.example/1.png",
        width=300,
        height=250,
        click_url="https://shop.example/",
    )
    steps = (CreativeSubmitted(), CreativeApproved(), CreativeActivated())
    return campaign_id, await told(connection, ledger_id, CREATIVE.thing, made, *steps)


async def slot(connection: Connection, ledger_id: UUID) -> UUID:
    """Append a slot that fits the creatives, with a key."""
    made = SlotCreated(name="Top", ad_type="top_bar_ad", width=300, height=250)
    return await told(connection, ledger_id, SLOT.thing, made, SlotKeyIssued(key_id=uuid4(), key_sha256=KEY_SHA256))


def served(found: Serving) -> set[UUID]:
    """Return the creatives that can be served in any slot."""
    return {each.creative_id for lineup in found.snapshot.lineups.values() for each in lineup.candidates}


async def test_the_snapshot_is_what_the_log_says(pool: Pool, ledger_id: UUID) -> None:
    """Approved active creatives of active campaigns are served, and keys open active slots, as of the last event."""
    async with pool.connection() as connection:
        found = Serving(ledger_id, Holds(WORKER))
        await found.refresh(connection)
        assert (found.position, served(found)) == (0, set())
        campaign_id, creative_id = await running_campaign(connection, ledger_id)
        slot_id = await slot(connection, ledger_id)
        await committed(connection, ledger_id, recording(ledger_id, beacon("impression", promised(campaign_id))))
        await found.refresh(connection)
        assert (found.position, found.snapshot.position, served(found)) == (8, 8, {creative_id})
        assert dict(found.snapshot.slot_by_key_sha256) == {KEY_SHA256: slot_id}
        await committed(connection, ledger_id, appending(ledger_id, campaign_id, CampaignPaused(), after=2))
        closed = appending(ledger_id, slot_id, SlotChanged(status="inactive"), after=2, thing=SLOT.thing)
        await committed(connection, ledger_id, closed)
        await found.refresh(connection)
        assert (served(found), dict(found.snapshot.slot_by_key_sha256)) == (set(), {})


async def test_a_snapshot_is_swapped_whole_and_only_for_what_it_holds(pool: Pool, ledger_id: UUID) -> None:
    """Deliveries leave the snapshot as it is; a change makes a new one, and leaves the old one as it was."""
    async with pool.connection() as connection:
        found = Serving(ledger_id, Holds(WORKER))
        await slot(connection, ledger_id)
        campaign_id, _ = await running_campaign(connection, ledger_id)
        await found.refresh(connection)
        first = found.snapshot
        await committed(connection, ledger_id, recording(ledger_id, beacon("impression", promised(campaign_id))))
        await found.refresh(connection)
        assert found.snapshot is first
        await committed(connection, ledger_id, appending(ledger_id, campaign_id, CampaignPaused(), after=2))
        await found.refresh(connection)
        assert found.snapshot is not first
        assert [len(lineup.candidates) for lineup in first.lineups.values()] == [1]


async def test_the_click_target_is_the_newest_of_the_catalogue(pool: Pool, ledger_id: UUID) -> None:
    """A creative's target follows its changes, also when it is not served any more; an unknown one has none."""
    async with pool.connection() as connection:
        found = Serving(ledger_id, Holds(WORKER))
        _, creative_id = await running_campaign(connection, ledger_id)
        await found.refresh(connection)
        assert found.click_url(creative_id) == "https://shop.example/"
        change = (CreativeChanged(click_url="https://new.example/"), CreativeArchived())
        await committed(
            connection, ledger_id, appending(ledger_id, creative_id, *change, after=4, thing=CREATIVE.thing)
        )
        await found.refresh(connection)
        assert found.click_url(creative_id) == "https://new.example/"
        assert found.click_url(uuid4()) is None


async def test_only_the_own_ledger_is_served(pool: Pool, ledger_id: UUID) -> None:
    """What another ledger in the same database runs is not served."""
    async with pool.connection() as connection:
        other_id = await new_ledger(connection)
        for each in (ledger_id, other_id):
            await slot(connection, each)
        await running_campaign(connection, other_id)
        _, creative_id = await running_campaign(connection, ledger_id)
        found = Serving(ledger_id, Holds(WORKER))
        await found.refresh(connection)
        assert served(found) == {creative_id}


class LostAfterOnePage:
    """A connection that is lost once it has answered one query."""

    def __init__(self, connection: Connection) -> None:
        """Answer from this connection."""
        self._connection = connection
        self._answered = False

    def __getattr__(self, name: str) -> Any:
        """Run a query, if it is the first one."""
        if name in {"cursor", "execute"}:
            if self._answered:
                self._connection.pgconn.finish()
            self._answered = True
        return getattr(self._connection, name)


async def test_a_refresh_that_was_interrupted_is_made_up_for(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """When the connection is lost after the last event was read, the next refresh makes the snapshot all the same."""
    async with pool.connection() as connection:
        await running_campaign(connection, ledger_id)
        await slot(connection, ledger_id)
        found = Serving(ledger_id, Holds(WORKER))
        async with await connect(database_url) as doomed:
            with pytest.raises(psycopg.OperationalError):
                await found.refresh(cast("Connection", LostAfterOnePage(doomed)))
        await found.refresh(connection)
        assert len(served(found)) == 1


def so(condition: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    """Return a condition to wait for."""

    async def holds() -> object:
        return condition()

    return holds


async def test_what_is_limited_is_leased_before_it_is_promised(
    database_url: str, pool: Pool, ledger_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker promises no more than it leased; what it leased stands in the budget, and returns when it ends."""
    monkeypatch.setattr(serving, "RESTOCK_SECONDS", 0.02)
    holds = Holds(WORKER)
    found = Serving(ledger_id, holds)

    def take() -> bool:
        return holds.take(campaign_id, uuid4(), tick=monotonic(), hold_seconds=60)

    async with pool.connection() as connection, writing(database_url, holds) as writer:
        campaign_id, _ = await running_campaign(connection, ledger_id, impression_budget=3)
        await found.refresh(connection)
        assert not take()
        stocking = asyncio.create_task(found.keep_stocked(writer))
        await eventually(so(lambda: not holds.sold_out()))
        assert [take() for _ in range(2)] == [True, True]
        (row,) = await rows(connection, "SELECT impressions, leased_impressions FROM budgets")
        assert (row["impressions"], row["leased_impressions"]) == (0, 3)
        stocking.cancel()
        with suppress(asyncio.CancelledError):
            await stocking
        assert not take()
        (row,) = await rows(connection, "SELECT leased_impressions FROM budgets")
        assert row["leased_impressions"] == holds.held(campaign_id) == 2

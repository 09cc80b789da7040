"""Forgetting viewings: what no cap can ask for any more is forgotten, and nothing else."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from domain.events import CampaignArchived, CampaignCreated, CampaignExpired, CreativeArchived, CreativeCreated
from domain.values import CapWindow
from infra.database import Connection, Pool, connect
from projections import campaigns, creatives
from projections.forgetting import TOKENS_LIVE_AT_MOST, forget_viewings
from tests.domain.stored import stored
from tests.projections.histories import recorded_at
from tests.writing import new_ledger, rows

NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
LONG_AGO: Final = NOW - TOKENS_LIVE_AT_MOST - timedelta(days=400)
LATELY: Final = NOW - TOKENS_LIVE_AT_MOST + timedelta(seconds=1)
DAY: Final = timedelta(days=1)
CAMPAIGN: Final = UUID(int=1)
CREATIVE: Final = UUID(int=2)
ONE_DAY: Final = CapWindow(value=1, unit="day")


async def made(
    connection: Connection, *, window: CapWindow | None = ONE_DAY, ends: tuple[Any, datetime] | None = None
) -> UUID:
    """Return a ledger with a campaign and its creative, one of which may have come to an end at a moment."""
    ledger_id = await new_ledger(connection)
    whole: dict[str, Any] = {"max_view_duration": window, "max_view_count": window and 3}
    campaign = [recorded_at(1, f"campaign-{CAMPAIGN}", 1, structs.replace(stored(CampaignCreated), **whole), LONG_AGO)]
    drafted = structs.replace(stored(CreativeCreated), campaign_id=CAMPAIGN)
    creative = [recorded_at(2, f"creative-{CREATIVE}", 1, drafted, LONG_AGO)]
    if ends is not None:
        event, at = ends
        of, thing = (creative, CREATIVE) if isinstance(event, CreativeArchived) else (campaign, CAMPAIGN)
        stream = of[0].entry.stream
        assert stream.endswith(str(thing))
        of.append(recorded_at(3, stream, 2, event, at))
    await campaigns.READ_MODEL.write(connection, ledger_id, campaign)
    await creatives.READ_MODEL.write(connection, ledger_id, creative)
    return ledger_id


async def seen(connection: Connection, ledger_id: UUID, subject: UUID, *times: datetime) -> None:
    """Let a viewer have seen something at some moments; without any, whenever."""
    seconds = [int(time.timestamp()) for time in times]
    await connection.execute(
        "INSERT INTO viewings (ledger_id, subject, viewer, views, times, position) VALUES (%s, %s, %s, 1, %s, 1)",
        (ledger_id, subject, uuid4().hex, seconds),
    )


@pytest.mark.parametrize(
    ("window", "ends", "times", "forgotten"),
    [
        (ONE_DAY, None, [LONG_AGO], True),
        (ONE_DAY, None, [LONG_AGO, LATELY - DAY], False),
        (ONE_DAY, None, [LONG_AGO, LATELY - DAY - timedelta(seconds=2)], True),
        (CapWindow(value=1, unit="month"), None, [LATELY - 2 * DAY], False),
        (None, None, [LONG_AGO], True),
        (ONE_DAY, (CampaignArchived(), LONG_AGO), [NOW], True),
        (ONE_DAY, (CampaignExpired(), LATELY), [NOW], False),
    ],
)
async def test_a_campaign_is_remembered_for_its_window(
    pool: Pool, window: CapWindow | None, ends: Any, times: list[datetime], forgotten: bool
) -> None:
    """What was seen before the window is forgotten once no token lives; and all of what is over."""
    async with pool.connection() as connection:
        await seen(connection, await made(connection, window=window, ends=ends), CAMPAIGN, *times)
        assert await forget_viewings(connection, NOW) == forgotten
        assert len(await rows(connection, "SELECT FROM viewings")) == 1 - forgotten


@pytest.mark.parametrize(
    ("ends", "forgotten"),
    [
        (None, False),
        ((CreativeArchived(), LONG_AGO), True),
        ((CreativeArchived(), LATELY), False),
        ((CampaignExpired(), LONG_AGO), True),
    ],
)
async def test_a_creative_is_remembered_as_long_as_it_lives(pool: Pool, ends: Any, forgotten: bool) -> None:
    """A creative's cap is for ever: how often it was seen is forgotten with it, or with its campaign."""
    async with pool.connection() as connection:
        await seen(connection, await made(connection, ends=ends), CREATIVE)
        assert await forget_viewings(connection, NOW) == forgotten


async def test_what_is_unknown_is_kept(pool: Pool) -> None:
    """What no read model knows yet is nothing to be forgotten, nor is what another ledger has of the same name."""
    async with pool.connection() as connection:
        await made(connection, ends=(CampaignArchived(), LONG_AGO))
        await seen(connection, await new_ledger(connection), CAMPAIGN, LONG_AGO)
        assert await forget_viewings(connection, NOW) == 0


async def test_much_is_forgotten_in_parts(pool: Pool, database_url: str) -> None:
    """However much there is, all of it goes, but for what is being written at that moment."""
    async with pool.connection() as connection, await connect(database_url) as other:
        ledger_id = await made(connection)
        for _ in range(10):
            await seen(connection, ledger_id, CAMPAIGN, LONG_AGO)
        async with other.transaction():
            await other.execute("SELECT FROM viewings ORDER BY viewer LIMIT 1 FOR UPDATE")
            assert await forget_viewings(connection, NOW, at_once=3) == 9
        assert await forget_viewings(connection, NOW) == 1

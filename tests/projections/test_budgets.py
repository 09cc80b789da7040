"""Budgets as they are read: counts and money of each campaign, in all and on its current day."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from domain.decider import stream_of
from domain.events import CampaignChanged, ClickRecorded, ImpressionRecorded, ViewRecorded
from domain.validity import is_invalid
from domain.values import local_date
from infra.database import Pool
from infra.event_log import Recorded
from projections.budgets import PROJECTION, READ_MODEL, SpendingRow, fold, report
from projections.parking import NotApplied, read_parked, retry
from projections.runner import catch_up
from projections.statements import spent_by
from tests.domain.strategies import law
from tests.projections.histories import CAMPAIGN_IDS, applied, cut, cuts, kept, recorded_at, traffic
from tests.writing import drafted, new_ledger, owning, rows

CAMPAIGN_ID, OTHER_ID = CAMPAIGN_IDS
TIME_ZONES = {CAMPAIGN_ID: "Asia/Shanghai", OTHER_ID: "America/New_York"}
CREATED = [
    recorded_at(position, stream_of("campaign", campaign_id), 1, drafted(timezone=TIME_ZONES[campaign_id]))
    for position, campaign_id in enumerate(CAMPAIGN_IDS, start=1)
]


def campaign_of(recorded: Recorded) -> UUID:
    """Return the campaign of a delivery."""
    event: Any = recorded.entry.event
    return UUID(str(event.campaign_id))


def counted(deliveries: Sequence[Recorded]) -> dict[str, int]:
    """Return counts and money of deliveries, counted one kind after the other."""
    events: list[Any] = [recorded.entry.event for recorded in deliveries]
    valid = [event for event in events if not is_invalid(event.reason)]
    impressions = [event for event in valid if isinstance(event, ImpressionRecorded)]
    clicks = [event for event in valid if isinstance(event, ClickRecorded)]
    return {
        "impressions": len(impressions),
        "billed_impressions": sum(event.billed for event in impressions),
        "clicks": len(clicks),
        "billed_clicks": sum(event.billed for event in clicks),
        "spent_micros": sum(event.price_micros for event in events if event.billed),
    }


@settings(law, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries=traffic, places=cuts, spaced=st.booleans())
async def test_a_row_counts_what_arrived(
    pool: Pool, deliveries: list[Recorded], places: list[int], spaced: bool
) -> None:
    """However the log is cut into ranges, each campaign's row equals an independent count, in all and for its day."""
    async with pool.connection() as connection:
        ledger_id = await new_ledger(connection)
        await kept(connection, ledger_id, [*CREATED, *deliveries], spaced=spaced)
        await applied(connection, PROJECTION, ledger_id, cut([*CREATED, *deliveries], places))
        for campaign_id in CAMPAIGN_IDS:
            row = await READ_MODEL.read(connection, ledger_id, campaign_id)
            assert row is not None
            of_campaign = [each for each in deliveries if campaign_of(each) == campaign_id]
            days = [local_date(each.entry.recorded_at, TIME_ZONES[campaign_id]) for each in of_campaign]
            of_day = [each for each, day in zip(of_campaign, days, strict=True) if day == max(days)]
            assert {name: getattr(row, name) for name in counted([])} == counted(of_campaign)
            assert {name: getattr(row, f"day_{name}") for name in counted([])} == counted(of_day)
            views = [each.entry.event for each in of_campaign if isinstance(each.entry.event, ViewRecorded)]
            assert row.views == sum(not is_invalid(event.reason) for event in views)
            assert row.day == max(days, default=date.min)
            assert row.position == max([CAMPAIGN_IDS.index(campaign_id) + 1, *(each.position for each in of_campaign)])


async def test_a_campaign_may_move_to_another_time_zone(pool: Pool, ledger_id: UUID) -> None:
    """What a range holds before a campaign's change counts for the day as it was then, and what follows as it is."""
    moved = recorded_at(3, stream_of("campaign", CAMPAIGN_ID), 2, CampaignChanged(timezone="UTC"), EVENING)
    after_midnight = EVENING + timedelta(minutes=20)
    recorded = [
        CREATED[0],
        recorded_at(2, "decision-1", 1, impression(), EVENING),
        moved,
        recorded_at(4, "decision-2", 1, impression(), after_midnight),
        recorded_at(5, "decision-3", 1, impression(), after_midnight + timedelta(days=1)),
    ]
    async with pool.connection() as connection:
        await kept(connection, ledger_id, recorded)
        for until, counts in ((4, (2, 2, date(2026, 3, 10))), (5, (3, 1, date(2026, 3, 11)))):
            await connection.execute("DELETE FROM spendings")
            await applied(connection, PROJECTION, ledger_id, [recorded[:until]])
            row = await READ_MODEL.read(connection, ledger_id, CAMPAIGN_ID)
            assert row is not None
            assert (row.impressions, row.day_impressions, row.day) == counts


async def test_deliveries_wait_for_their_campaign(pool: Pool, ledger_id: UUID, database_url: str) -> None:
    """Deliveries of a campaign that cannot be read yet are parked behind it, others count, and a retry counts all."""
    deliveries = [
        recorded_at(
            number, f"decision-{number}", 1, structs.replace(impression(), campaign_id=CAMPAIGN_IDS[number % 2])
        )
        for number in range(3, 33)
    ]
    async with pool.connection() as connection, owning(database_url) as owner:
        await kept(connection, ledger_id, [*CREATED, *deliveries])
        await owner.execute("UPDATE ledger_heads SET position = 32, command_position = 2")
        await owner.execute("ALTER TABLE events DISABLE TRIGGER USER")
        swapped = "UPDATE events SET entry = replace(entry::text, %s, %s)::json WHERE position = 1"
        await owner.execute(swapped, ('"name":', '"nome":'))
        await catch_up(connection, PROJECTION)
        (parked,) = await read_parked(connection, ledger_id)
        assert (parked.key, parked.position, parked.events) == (stream_of("campaign", CAMPAIGN_ID), 1, 16)
        assert (await rows(connection, "SELECT impressions FROM spendings")) == [{"impressions": 15}]
        with pytest.raises(NotApplied, match="nome"):
            await retry(connection, PROJECTION, ledger_id, parked.key)
        await owner.execute(swapped, ('"nome":', '"name":'))
        assert await retry(connection, PROJECTION, ledger_id, parked.key) == 16
        assert (await rows(connection, "SELECT impressions FROM spendings")) == [{"impressions": 15}] * 2


def impression(price_micros: int = 3) -> ImpressionRecorded:
    """Return an impression that is billed."""
    return ImpressionRecorded(
        campaign_id=CAMPAIGN_ID,
        creative_id=UUID(int=1),
        advertiser_id=UUID(int=1),
        slot_id=UUID(int=1),
        currency="CNY",
        price_micros=price_micros,
        billed=True,
    )


def spent(at: datetime, **limits: int | None) -> SpendingRow:
    """Return the row of a campaign in Shanghai that had one impression at a moment."""
    stream = stream_of("campaign", CAMPAIGN_ID)
    row = fold(None, recorded_at(1, stream, 1, drafted(timezone="Asia/Shanghai", **limits)))
    event = impression()
    return fold(row, spent_by(recorded_at(2, "decision-1", 1, event, at), event))


EVENING = datetime.fromisoformat("2026-03-10T15:59:59Z")
"""The last second of a day in Shanghai."""


def test_what_changes_is_named() -> None:
    """A change sets the limits and names it mentions, and nothing else; a limit can be taken away."""
    row = spent(EVENING, budget_micros=10, impression_budget=7)
    change = CampaignChanged(name="New", budget_micros=None, daily_budget_micros=5, priority=1)
    after = fold(row, recorded_at(3, stream_of("campaign", CAMPAIGN_ID), 2, change))
    assert after == structs.replace(row, position=3, name="New", budget_micros=None, daily_budget_micros=5)


def test_a_report_says_what_remains() -> None:
    """What remains is the limit less what was billed, never below nothing, and null where there is no limit."""
    row = spent(EVENING, budget_micros=10, daily_impression_budget=1)
    found = report(row, held=4, leased=6, now=EVENING)
    assert (found.remaining_micros, found.remaining_impressions, found.held, found.leased) == (7, None, 4, 6)
    assert (found.today.remaining_micros, found.today.remaining_impressions) == (None, 0)
    assert (found.today.date, found.today.impressions, found.today.spent_micros) == (date(2026, 3, 10), 1, 3)
    over = report(structs.replace(row, budget_micros=2), held=0, leased=0, now=EVENING)
    assert over.remaining_micros == 0


def test_a_new_day_begins_at_midnight_of_the_campaign() -> None:
    """A second later it is the next day in the campaign's time zone, on which nothing was spent yet."""
    row = spent(EVENING, daily_budget_micros=10)
    found = report(row, held=0, leased=0, now=EVENING + timedelta(seconds=1))
    assert (found.today.date, found.today.spent_micros, found.today.remaining_micros) == (date(2026, 3, 11), 0, 10)
    assert (found.spent_micros, found.impressions) == (3, 1)


def test_a_clock_that_steps_back_opens_no_old_day() -> None:
    """A report made by a clock that is behind shows the day of the last delivery."""
    found = report(spent(EVENING), held=0, leased=0, now=EVENING - timedelta(days=1))
    assert (found.today.date, found.today.impressions) == (date(2026, 3, 10), 1)

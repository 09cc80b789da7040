"""Days of budgets in the database: what a clock that steps does to them."""

from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from domain.leasing import Want
from infra import clock
from infra.batch import Leasing
from infra.commit import commit
from infra.database import connect
from tests.writing import appending, at, beacon, drafted, promised, recording

HOLD_SECONDS: Final = 60


async def test_no_day_is_sold_again_after_a_clock_steps_back(ledger_id: UUID, database_url: str) -> None:
    """When a lease has begun a day, nothing is recorded on the day before, though the clock returns to it."""
    midnight = (clock.now() + timedelta(days=2)).replace(hour=0, minute=0, second=0, microsecond=0)
    before = midnight - timedelta(minutes=10)
    campaign_id = uuid4()
    shown = recording(ledger_id, beacon("impression", promised(campaign_id)))
    asking = Leasing(
        ledger_id=ledger_id, worker=1, wants=(Want(campaign_id=campaign_id, impressions=1),), hold_seconds=HOLD_SECONDS
    )
    drafting = appending(ledger_id, campaign_id, drafted(daily_impression_budget=2))
    async with await connect(database_url) as connection:
        await commit(connection, ledger_id, [drafting], at(before))
        await commit(connection, ledger_id, [asking], at(midnight))
        planned = await commit(connection, ledger_id, [shown], at(before))
    assert [entry.recorded_at for entry in planned.entries] == [midnight]

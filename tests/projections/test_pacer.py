"""The pacer: what a worker knows of figures, and what follows from them for the campaigns that are spread evenly."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from domain.events import (
    CampaignActivated,
    CreativeActivated,
    CreativeApproved,
    CreativeCreated,
    CreativeSubmitted,
    RequestsTallied,
    RequestTally,
    SlotCreated,
)
from domain.holds import Holds
from domain.pacing import ALWAYS, Delivered, portions
from domain.values import ContentRating, Pricing
from infra import clock
from infra.database import Connection, Pool
from projections import figures, requests
from projections.runner import catch_up
from projections.serving import Serving
from tests.domain.stored import stored
from tests.writing import appending, beacon, committed, drafted, promised, recording

SLOT: Final = UUID(int=9)
WORKER: Final = 7


async def catalogue(connection: Connection, ledger_id: UUID, **terms: Any) -> UUID:
    """Write an active campaign that fits a slot, and return its id."""
    campaign_id, creative_id = uuid4(), uuid4()
    shown = {"ad_type": "top_bar_ad", "width": 300, "height": 250}
    created = {"start_date": clock.now().date() - timedelta(days=2), "pacing": "even", "targeting": (), **terms}
    created |= {"priority": 3, "keywords": (), "time_slots": (), "weekdays": ()}
    campaign = drafted(**created)
    creative = _like(
        CreativeCreated,
        campaign_id=campaign_id,
        media_type="image",
        time_slots=(),
        content_rating=ContentRating(),
        **shown,
    )
    slot = _like(SlotCreated, media_types=("image",), floor_cpm_micros=0, max_rating="mature", status="active", **shown)
    review = (CreativeSubmitted(), CreativeApproved(), CreativeActivated())
    await committed(
        connection,
        ledger_id,
        appending(ledger_id, campaign_id, campaign, CampaignActivated()),
        appending(ledger_id, creative_id, creative, *review, thing="creative"),
        appending(ledger_id, uuid4(), slot, thing="slot"),
    )
    return campaign_id


def _like(kind: type[Any], **fields: Any) -> Any:
    return structs.replace(stored(kind), **fields)


async def paced(connection: Connection, ledger_id: UUID, holds: Holds | None = None) -> Serving:
    """Return what a worker serves that has just read the log."""
    serving = Serving(ledger_id, holds or Holds(WORKER))
    await serving.refresh(connection)
    return serving


async def test_who_is_ahead_is_held_back(pool: Pool, ledger_id: UUID) -> None:
    """A campaign that delivered a day's budget within a second rests; who is not paced, or has no limits, never."""
    async with pool.connection() as connection:
        ahead = await catalogue(connection, ledger_id, daily_impression_budget=20)
        behind = await catalogue(connection, ledger_id, daily_impression_budget=1_000)
        asap = await catalogue(connection, ledger_id, daily_impression_budget=20, pacing="asap")
        free = await catalogue(connection, ledger_id)
        shown = [beacon("impression", promised(campaign)) for campaign in (ahead, asap) for _ in range(10)]
        await committed(connection, ledger_id, recording(ledger_id, *shown))
        serving = await paced(connection, ledger_id)
    paces = serving.snapshot.paces
    assert paces.keys() == {ahead, behind}
    assert paces[ahead].odds < ALWAYS / 1_000
    assert paces[behind].odds == ALWAYS
    assert asap not in paces
    assert free not in paces


async def test_what_is_promised_counts_as_delivered(pool: Pool, ledger_id: UUID) -> None:
    """Leased impressions count as far as this worker has promised what it leased, and as much with the others."""
    holds = Holds(WORKER)
    async with pool.connection() as connection:
        campaign_id = await catalogue(connection, ledger_id, daily_impression_budget=20)
        await connection.execute("UPDATE budgets SET leased_impressions = 16 WHERE budget_id = %s", (campaign_id,))
        holds.know([campaign_id])
        holds.granted({campaign_id: 8}, asked=0.0)
        assert (await paced(connection, ledger_id, holds)).snapshot.paces[campaign_id].odds == ALWAYS
        for _ in range(4):
            assert holds.take(campaign_id, uuid4(), tick=1.0, hold_seconds=60)
        assert holds.part_held(campaign_id) == 0.5
        assert (await paced(connection, ledger_id, holds)).snapshot.paces[campaign_id].odds < ALWAYS / 1_000


async def test_as_many_are_promised_as_may_be(pool: Pool, ledger_id: UUID) -> None:
    """Until the next look a worker promises its allowance and no more; others than the paced are not counted."""
    async with pool.connection() as connection:
        campaign_id = await catalogue(connection, ledger_id, daily_impression_budget=20)
        serving = await paced(connection, ledger_id)
        allowance = serving.snapshot.paces[campaign_id].allowance
        assert [serving.pacer.take(campaign_id) for _ in range(allowance + 2)] == [True] * allowance + [False] * 2
        assert not serving.pacer.is_due(0.0)
        assert serving.pacer.is_due(10**12)
        await serving.pacer.look(connection, ledger_id, serving.holds, clock.now())
        assert serving.pacer.take(campaign_id)


async def test_traffic_is_learned_from_tallies(pool: Pool, ledger_id: UUID) -> None:
    """What slots asked for in the weeks before is what is read, by hour of the week; the present hour is not over."""
    now = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
    hours = [now.replace(minute=0) - timedelta(hours=back) for back in (0, 1, 2, 169, 24 * 40)]
    lines = (RequestTally(slot_id=SLOT, country="CN", fills=3, no_fill={"paced": 2}),)
    events = [RequestsTallied(hour=hour, lines=lines) for hour in hours]
    async with pool.connection() as connection:
        await committed(connection, ledger_id, appending(ledger_id, uuid4(), *events, thing="requests"))
        await catch_up(connection, requests.PROJECTION)
        until = now.replace(minute=0)
        (asked,) = await figures.read_asked(connection, ledger_id, until - timedelta(weeks=4), until)
    first = int(hours[3].timestamp()) // 3_600
    week = {(first + at) % 168: count for at, count in ((0, 10), (167, 5))}
    assert (asked.slot_id, asked.first_hour, asked.requests) == (SLOT, first, week)


MIDNIGHT: Final = int(datetime(2026, 3, 10, tzinfo=UTC).timestamp())
CPC: Final = Pricing(model="cpc", price_micros=400_000)


@pytest.mark.parametrize(
    ("limits", "model", "right"),
    [
        ({}, "cpm", []),
        ({"impression_budget": 9}, "cpm", [(9, 104.0, 1.0, MIDNIGHT - 10, MIDNIGHT + 90_000)]),
        ({"budget_micros": 9}, "cpm", [(9, 500_000 + 20_000.0, 5_000.0, MIDNIGHT - 10, MIDNIGHT + 90_000)]),
        ({"daily_impression_budget": 9}, "cpm", [(9, 14.0, 1.0, MIDNIGHT, MIDNIGHT + 86_400)]),
        ({"daily_budget_micros": 9}, "cpm", [(9, 50_000 + 20_000.0, 5_000.0, MIDNIGHT, MIDNIGHT + 86_400)]),
        ({"budget_micros": 9}, "flat", []),
    ],
)
def test_every_limit_is_a_portion(limits: dict[str, int], model: str, right: list[tuple[float, ...]]) -> None:
    """Impressions and money, of the flight and of its day, with what is held; not a price that is paid once."""
    campaign = drafted(**limits, pricing=Pricing(model=model, price_micros=5_000_000))  # type: ignore[arg-type]  # a model's name
    delivered = Delivered(impressions=100, micros=500_000, day_impressions=10, day_micros=50_000, held=4)
    flight, day = (MIDNIGHT - 10, MIDNIGHT + 90_000), (MIDNIGHT, MIDNIGHT + 86_400)
    found = portions(campaign, delivered, flight=flight, day=day)
    assert [(each.limit, each.delivered, each.each, each.since, each.until) for each in found] == right


def test_clicks_are_expected_of_what_is_shown() -> None:
    """Of what was shown, some will be clicked: that is as good as spent; what was spent is spent."""
    campaign = drafted(pricing=CPC, budget_micros=10**9)
    flight = day = (MIDNIGHT, MIDNIGHT + 86_400)

    def spent(impressions: int, clicks: int) -> tuple[float, float]:
        delivered = Delivered(impressions=impressions, micros=clicks * 400_000)
        (only,) = portions(campaign, delivered, flight=flight, day=day)
        return only.delivered / 400_000, only.each / 400_000

    assert spent(0, 0) == (0, 1 / 500)
    assert spent(500, 0) == (0.5, 1 / 1_000)
    assert spent(99_500, 199) == pytest.approx((199, 0.002))
    assert spent(100, 50)[0] == 50
    assert portions(campaign, Delivered(), flight=(MIDNIGHT, None), day=day) == []

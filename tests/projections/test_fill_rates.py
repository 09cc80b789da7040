"""The report of delivery with requests: what was asked for stands in the line of its group, once."""

from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import pytest
from msgspec import structs

from domain.events import ImpressionRecorded, RequestsTallied, RequestTally
from infra.database import Pool
from projections import delivery, requests
from projections.delivery import DeliveryQuery, DeliveryReport, Dimension
from projections.fill_rates import read_report
from tests.projections.histories import applied, kept, recorded_at
from tests.projections.test_delivery import BILLED

SLOTS: Final = (UUID(int=1), UUID(int=2))
HOURS: Final = tuple(
    datetime(2026, 3, 10, 23, tzinfo=UTC).replace(day=day, hour=hour) for day, hour in ((10, 23), (11, 0))
)
REASON: Final = "no_matching_creative"


def _tally(number: int) -> RequestsTallied:
    lines = [
        RequestTally(slot_id=slot_id, country=country, fills=number + at, no_fill={REASON: 1 + at} if at else {})
        for at, (slot_id, country) in enumerate(((SLOTS[0], "CN"), (SLOTS[1], "CN"), (SLOTS[1], None)))
    ]
    return RequestsTallied(hour=HOURS[number % 2], lines=tuple(lines))


def _impression(number: int) -> ImpressionRecorded:
    """Return an impression in the first slot, of either currency: in the other slot nothing was delivered."""
    return structs.replace(BILLED, slot_id=SLOTS[0], currency=("CNY", "EUR")[number % 2])


def _group(name: Dimension, hour: datetime, line: RequestTally) -> object:
    match name:
        case "hour":
            return hour
        case "day":
            return hour.replace(hour=0)
        case "slot":
            return line.slot_id
        case _:
            return line.country or ""


def _of(line: DeliveryReport, name: Dimension) -> object:
    return getattr(line, "slot_id" if name == "slot" else name)


@pytest.mark.parametrize("group_by", [(), ("hour",), ("day",), ("slot",), ("country",), ("day", "slot", "country")])
async def test_requests_stand_in_the_line_of_their_group(
    pool: Pool, ledger_id: UUID, group_by: tuple[Dimension, ...]
) -> None:
    """Whatever lines are grouped by, requests, fills and reasons are those counted by hand; deliveries stay."""
    tallies = [recorded_at(n + 1, f"requests-{n}", 1, _tally(n)) for n in range(4)]
    shown = [recorded_at(n + 11, f"decision-{n}", 1, _impression(n), HOURS[0]) for n in range(6)]
    right: dict[tuple[object, ...], Counter[str]] = defaultdict(Counter)
    for event in (_tally(n) for n in range(4)):
        for each in event.lines:
            outcomes = right[tuple(_group(name, event.hour, each) for name in group_by)]
            outcomes.update({"": each.fills, **each.no_fill})
    async with pool.connection() as connection:
        await kept(connection, ledger_id, [*tallies, *shown])
        for projection in (requests.PROJECTION, delivery.PROJECTION):
            await applied(connection, projection, ledger_id, [tallies, shown])
        query = DeliveryQuery(group_by=group_by)
        found = await read_report(connection, ledger_id, query, limit=100, offset=0)
        alone = await delivery.read_report(connection, ledger_id, query, limit=100, offset=0)
        pages = [await read_report(connection, ledger_id, query, limit=1, offset=at) for at in range(len(found))]
    assert [line for page in pages for line in page] == found
    said: dict[tuple[object, ...], Any] = {}
    for line in found:
        if line.requests is not None:
            assert tuple(_of(line, name) for name in group_by) not in said
            said[tuple(_of(line, name) for name in group_by)] = +Counter({"": line.fills or 0, **(line.no_fill or {})})
            assert line.fill_rate == pytest.approx((line.fills or 0) / line.requests)
            assert line.requests == (line.fills or 0) + sum((line.no_fill or {}).values())
    assert said == {key: +outcomes for key, outcomes in right.items()}
    bare = [structs.replace(line, requests=None, fills=None, fill_rate=None, no_fill=None) for line in found]
    assert [line for line in bare if line.currency is not None] == alone
    assert all(line.impressions == 0 and line.unbilled == {} for line in bare if line.currency is None)


async def test_nobody_asks_for_a_campaign(pool: Pool, ledger_id: UUID) -> None:
    """Lines of campaigns, or about one, say nothing of requests; other hours and slots are left out."""
    tallies = [recorded_at(n + 1, f"requests-{n}", 1, _tally(n)) for n in range(2)]
    async with pool.connection() as connection:
        await kept(connection, ledger_id, tallies)
        await applied(connection, requests.PROJECTION, ledger_id, [tallies])

        async def asked(**fields: Any) -> list[int | None]:
            query = DeliveryQuery(**fields)
            return [line.requests for line in await read_report(connection, ledger_id, query, limit=100, offset=0)]

        assert await asked(group_by=("campaign", "slot")) == []
        assert await asked(campaign_id=UUID(int=1)) == []
        assert await asked() == [19]
        assert await asked(slot_id=SLOTS[0]) == [1]
        assert await asked(since=HOURS[1]) == [11]
        assert await asked(until=HOURS[1]) == [8]
        assert await asked(until=HOURS[0]) == []

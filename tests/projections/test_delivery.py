"""The delivery report: every delivery in exactly one line, whatever the lines are grouped by."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from itertools import combinations
from typing import Any, Final, get_args
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from domain.delivery import EVENT_OF, PLAYBACK
from domain.events import ClickRecorded, ConversionRecorded, DeliveryRecorded, ImpressionRecorded, ViewRecorded
from domain.values import MICROS_MAX
from infra.database import Connection, Pool
from infra.event_log import Recorded
from projections import delivery
from projections.delivery import PROJECTION, DeliveryQuery, DeliveryReport, Dimension, read_report
from projections.parking import read_parked
from projections.runner import catch_up
from projections.status import read_position
from tests.domain.strategies import law
from tests.projections.histories import CAMPAIGN_IDS, applied, cut, cuts, kept, recorded_at, traffic
from tests.writing import new_ledger, owning

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
BILLED = ImpressionRecorded(
    campaign_id=CAMPAIGN_IDS[0],
    creative_id=UUID(int=1),
    advertiser_id=UUID(int=1),
    slot_id=UUID(int=1),
    country="CN",
    currency="CNY",
    price_micros=5,
    billed=True,
)
REQUIRED = ("type", "campaign_id", "creative_id", "advertiser_id", "slot_id", "currency", "price_micros", "billed")
KINDS: Final[Mapping[str, type[DeliveryRecorded]]] = {
    "impressions": ImpressionRecorded,
    "views": ViewRecorded,
    "clicks": ClickRecorded,
}
MEASURES = (
    *("impressions", "billed_impressions", "unbilled", "gross_impressions", "invalid"),
    *("views", "gross_views", "invalid_views"),
    *("clicks", "billed_clicks", "unbilled_clicks", "gross_clicks", "invalid_clicks", "spent_micros"),
    *("conversions", "unattributed", "conversion_micros"),
)


def dimension_of(recorded: Recorded, name: Dimension) -> object:
    """Return what a delivery is grouped under, by a dimension's name."""
    event: Any = recorded.entry.event
    hour = recorded.entry.occurred_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    match name:
        case "hour":
            return hour
        case "day":
            return hour.replace(hour=0)
        case "country" | "region" | "city":
            return getattr(event, name) or ""
        case _:
            return getattr(event, f"{name}_id")


def counted(deliveries: list[Recorded], group_by: tuple[Dimension, ...]) -> dict[tuple[object, ...], dict[str, Any]]:
    """Return the lines of a report as an independent count gives them, by dimensions and currency."""
    groups: dict[tuple[object, ...], list[Any]] = defaultdict(list)
    for recorded in deliveries:
        key = (*(dimension_of(recorded, name) for name in group_by), recorded.entry.event.currency)  # type: ignore[union-attr]  # it is a delivery
        groups[key].append(recorded.entry.event)
    return {key: _measured(events) for key, events in groups.items()}


def _measured(events: list[Any]) -> dict[str, Any]:
    gross = {name: [event for event in events if isinstance(event, kind)] for name, kind in KINDS.items()}
    net = {name: [event for event in found if not _is_invalid(event)] for name, found in gross.items()}
    impressions, clicks = net["impressions"], net["clicks"]
    return {
        **{name: len(found) for name, found in net.items()},
        **{f"gross_{name}": len(found) for name, found in gross.items()},
        "invalid": dict(Counter(event.reason for event in gross["impressions"] if _is_invalid(event))),
        **{
            f"invalid_{name}": dict(Counter(event.reason for event in gross[name] if _is_invalid(event)))
            for name in ("views", "clicks")
        },
        "billed_impressions": sum(event.billed for event in impressions),
        "unbilled": dict(Counter(event.reason for event in impressions if not event.billed)),
        "billed_clicks": sum(event.billed for event in clicks),
        "unbilled_clicks": dict(Counter(event.reason for event in clicks if not event.billed)),
        "spent_micros": sum(event.price_micros for event in events if event.billed),
        "ctr": len(clicks) / len(impressions) if impressions else 0,
        **_converted(events, len(clicks)),
        **_played([event for event in events if not _is_invalid(event)]),
    }


def _is_invalid(event: Any) -> bool:
    return bool(event.reason) and event.reason.startswith("invalid:")


def _converted(events: list[Any], clicks: int) -> dict[str, Any]:
    conversions = [event for event in events if isinstance(event, ConversionRecorded)]
    attributed = [event for event in conversions if event.reason is None]
    return {
        "conversions": len(attributed),
        "unattributed": dict(Counter(event.reason for event in conversions if event.reason is not None)),
        "conversion_micros": sum(event.value_micros for event in attributed),
        "conversion_rate": len(attributed) / clicks if clicks else 0,
    }


def _played(events: list[Any]) -> dict[str, Any]:
    progress = {
        kind: count for kind in PLAYBACK if (count := sum(isinstance(event, EVENT_OF[kind]) for event in events))
    }
    starts = progress.get("start")
    return {"progress": progress, "completion_rate": progress.get("complete", 0) / starts if starts else 0}


def lines(found: list[DeliveryReport], group_by: tuple[Dimension, ...]) -> dict[tuple[object, ...], dict[str, Any]]:
    """Return the lines of a report by dimensions and currency."""
    names = [name if name in {"hour", "day", "country", "region", "city"} else f"{name}_id" for name in group_by]
    return {
        (*(getattr(line, name) for name in names), line.currency): {
            name: getattr(line, name) for name in (*MEASURES, "ctr", "conversion_rate", "progress", "completion_rate")
        }
        for line in found
    }


async def reported(connection: Connection, ledger_id: UUID, **asked: Any) -> list[DeliveryReport]:
    """Return a whole report."""
    return await read_report(connection, ledger_id, DeliveryQuery(**asked), limit=1_000, offset=0)


@settings(law, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries=traffic, places=cuts, spaced=st.booleans())
async def test_the_report_equals_an_independent_count(
    pool: Pool, deliveries: list[Recorded], places: list[int], spaced: bool
) -> None:
    """However the log is cut into ranges and whatever a report is grouped by, it equals a count over the events."""
    async with pool.connection() as connection:
        ledger_id = await new_ledger(connection)
        await kept(connection, ledger_id, deliveries, spaced=spaced)
        await applied(connection, PROJECTION, ledger_id, cut(deliveries, places))
        for group_by in [
            (),
            *((name,) for name in get_args(Dimension)),
            *list(combinations(get_args(Dimension), 2))[::5],
        ]:
            found = await reported(connection, ledger_id, group_by=group_by)
            assert lines(found, group_by) == counted(deliveries, group_by)
            assert len(found) == len(lines(found, group_by))


@settings(law, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries=traffic)
async def test_a_report_can_be_narrowed(pool: Pool, deliveries: list[Recorded]) -> None:
    """A report about one thing or one span of hours counts what belongs to it, the end excluded."""
    since, until = datetime(2026, 3, 9, tzinfo=UTC), datetime(2026, 3, 9, 12, tzinfo=UTC)
    async with pool.connection() as connection:
        ledger_id = await new_ledger(connection)
        await kept(connection, ledger_id, deliveries)
        await applied(connection, PROJECTION, ledger_id, [deliveries])
        for name in ("campaign_id", "creative_id", "advertiser_id", "slot_id"):
            wanted = CAMPAIGN_IDS[0] if name == "campaign_id" else UUID(int=1)
            of_it = [each for each in deliveries if getattr(each.entry.event, name) == wanted]
            assert lines(await reported(connection, ledger_id, **{name: wanted}), ()) == counted(of_it, ())
        in_span = [each for each in deliveries if since <= dimension_of(each, "hour") < until]  # type: ignore[operator]  # hours are moments
        found = await reported(connection, ledger_id, since=since, until=until, group_by=("hour",))
        assert lines(found, ("hour",)) == counted(in_span, ("hour",))


async def test_hours_are_those_of_utc(pool: Pool, ledger_id: UUID) -> None:
    """A delivery claimed in local time, half an hour off, belongs to the hour of UTC in which it occurred."""
    india = timezone(timedelta(hours=5, minutes=30))
    recorded = recorded_at(1, "decision-1", 1, BILLED, NOON)
    claimed = structs.replace(recorded.entry, occurred_at=datetime(2026, 3, 10, 10, 10, tzinfo=india))
    claim = [Recorded(position=1, entry=claimed)]
    async with pool.connection() as connection:
        await kept(connection, ledger_id, claim)
        await applied(connection, PROJECTION, ledger_id, [claim])
        (line,) = await reported(connection, ledger_id, group_by=("hour",))
    assert line.hour == datetime(2026, 3, 10, 4, tzinfo=UTC)


async def test_large_prices_do_not_overflow(pool: Pool, ledger_id: UUID) -> None:
    """As much as any one delivery can cost, a hundred times, is summed exactly."""
    event = structs.replace(BILLED, price_micros=MICROS_MAX)
    batch = [recorded_at(n, f"decision-{n}", 1, event) for n in range(1, 101)]
    async with pool.connection() as connection:
        await kept(connection, ledger_id, batch)
        await applied(connection, PROJECTION, ledger_id, [batch])
        (line,) = await reported(connection, ledger_id)
    assert line.spent_micros == 100 * MICROS_MAX


@pytest.mark.parametrize("broken", ["entry - 'occurred_at'", *(f"entry #- '{{event,{name}}}'" for name in REQUIRED)])
async def test_what_lacks_something_is_parked_alone(
    pool: Pool, ledger_id: UUID, database_url: str, broken: str
) -> None:
    """An entry without what every delivery has is parked under its stream; all others of its range are counted."""
    batch = [recorded_at(n, f"decision-{n}", 1, BILLED) for n in range(1, 41)]
    async with pool.connection() as connection, owning(database_url) as owner:
        await kept(connection, ledger_id, batch)
        await owner.execute("UPDATE ledger_heads SET position = 40")
        await owner.execute("ALTER TABLE events DISABLE TRIGGER USER")
        await owner.execute(
            f"UPDATE events SET entry = ({broken.replace('entry', 'entry::jsonb')})::json WHERE position = 17".encode()
        )
        await catch_up(connection, PROJECTION)
        (parked,) = await read_parked(connection, ledger_id)
        assert (parked.key, parked.position, parked.events) == ("decision-17", 17, 1)
        (line,) = await reported(connection, ledger_id)
        assert line.impressions == 39


async def test_lines_come_in_order_and_in_pages(pool: Pool, ledger_id: UUID) -> None:
    """Lines are sorted by what they are grouped by, so that pages follow one another."""
    batch = [
        recorded_at(n, f"decision-{n}", 1, structs.replace(BILLED, city=f"{n % 5}", currency=["CNY", "EUR"][n % 2]))
        for n in range(1, 41)
    ]
    async with pool.connection() as connection:
        await kept(connection, ledger_id, batch)
        await applied(connection, PROJECTION, ledger_id, [batch])
        query = DeliveryQuery(group_by=("city",))
        pages = [await read_report(connection, ledger_id, query, limit=3, offset=at) for at in range(0, 12, 3)]
        assert [(line.city, line.currency) for page in pages for line in page] == [
            (str(city), currency) for city in range(5) for currency in ("CNY", "EUR")
        ]
        assert [line.impressions for page in pages for line in page] == [4] * 10


async def test_the_report_says_where_it_stands(pool: Pool, ledger_id: UUID) -> None:
    """The position of the report is that of its checkpoint, and nought before there is one."""
    async with pool.connection() as connection:
        assert await read_position(connection, ledger_id, delivery.PROJECTION.name) == 0
        await connection.execute(
            "INSERT INTO checkpoints (ledger_id, projection, version, position, updated_at)"
            " VALUES (%s, %s, 1, 7, now())",
            (ledger_id, delivery.PROJECTION.name),
        )
        assert await read_position(connection, ledger_id, delivery.PROJECTION.name) == 7

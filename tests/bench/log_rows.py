"""Rows measured in process, on a PostgreSQL of their own: appending, commands, and pure deciding."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import cycle, islice
from statistics import median
from time import perf_counter
from typing import Final
from uuid import UUID

from msgspec import Struct

from domain.ad_request import AdRequest
from domain.choosing import Snapshot, eligible
from domain.delivery import Delivery
from domain.pacing import ALWAYS, Pace
from domain.precedence import choose, paced
from domain.slot import SLOT, CreateSlot
from infra import clock
from infra.batch import Recording
from infra.database import connect, open_pool
from infra.event_log import create_ledger
from infra.execute import Asked, execute
from infra.writer import Log, Writer
from tests.bench import catalogue, raw, servers
from tests.bench.catalogue import Catalogue
from tests.bench.load import run
from tests.bench.rounds import Plan, Row, in_turns

BATCH_EVENTS: Final = 500
EVENTS_A_SECOND: Final = 10_000
"""By how many events a round of given seconds is sized; it ends when they are in, however long that takes."""

COMMANDS_A_SECOND: Final = 500
COMMAND_CLIENTS: Final = 16
CHOICES: Final = 5_000


class Appended(Struct, frozen=True):
    """A ledger with a catalogue, on a database to which nobody else writes."""

    url: str
    ledger_id: UUID
    catalogue: Catalogue


def appending(plan: Plan) -> Iterator[Row]:
    """Events appended by the writer in batches of 500, one after the other, beside a raw INSERT of the same rows."""
    with servers.database() as url, raw.table(url) as table:
        log = run(begun(url, catalogue.mixed(1_000)))
        count = int(EVENTS_A_SECOND * plan.seconds) // BATCH_EVENTS * BATCH_EVENTS
        yield in_turns(
            plan.rounds,
            lambda: run(append(log, count)),
            lambda: table.insert(catalogue.tickets(log.catalogue, count), batch=BATCH_EVENTS),
        ).row(
            name="appending",
            what="events appended by the writer, batches of 500",
            beside="raw INSERT of 500 rows a statement, same table",
            unit="/s",
            target=0.75,
        )


def commands(plan: Plan) -> Iterator[Row]:
    """Single commands in process, from 16 clients at once."""
    with servers.database() as url:
        log = run(begun(url, catalogue.mixed(1)))
        rates = [run(create_slots(log, int(COMMANDS_A_SECOND * plan.seconds))) for _ in range(plan.rounds)]
        yield Row(
            name="commands",
            what="single commands in process (execute), 16 clients",
            unit="/s",
            figure=median(rates),
            note="beside PyPI's eventsourcing: make bench-peers",
        )


def growth(plan: Plan) -> Iterator[Row]:
    """What choosing alone costs with 10,000 campaigns beside 100, of which as many match."""
    large, small = (
        _chooser(made, catalogue.snapshot(made)) for made in map(catalogue.with_equal_matches, (10_000, 100))
    )
    yield in_turns(plan.rounds, large, small).row(
        name="growth",
        what="time of eligible and choose with 10,000 campaigns, in process",
        beside="with 100 campaigns, as many of them match",
        unit="us",
        target=1.3,
        limit="at most",
    )


def paced_elsewhere(plan: Plan) -> Iterator[Row]:
    """What choosing costs campaigns that are not paced when all others are, beside when none is."""
    made = catalogue.with_equal_matches(1_000)
    plain, held_back = catalogue.snapshot(made), Pace(odds=ALWAYS // 20, urgency=3, allowance=1)
    others = {each for each, terms in made.campaigns.items() if terms.targeting[0].country != "DE"}
    beside_paced = _chooser(made, paced(plain, dict.fromkeys(others, held_back)))
    yield in_turns(plan.rounds, beside_paced, _chooser(made, plain)).row(
        name="paced-elsewhere",
        what="time of eligible and choose for campaigns as soon as possible, with 970 others paced",
        beside="with no campaign paced",
        unit="us",
        target=1.1,
        limit="at most",
    )


async def create_slots(log: Appended, count: int) -> float:
    """Create slots from 16 clients at once, each a command of one event; return commands a second."""
    asked = Asked(ledger_id=log.ledger_id, actor="bench")
    command = CreateSlot(name="Front page", ad_type="top_bar_ad", width=300, height=250)
    async with _writing(log.url) as writer, open_pool(log.url) as pool:
        reached = Log(pool, writer)

        async def client() -> None:
            for _ in range(count // COMMAND_CLIENTS):
                await execute(reached, SLOT, clock.fresh_id(), command, asked)

        await execute(reached, SLOT, clock.fresh_id(), command, asked)  # opens the connections
        started = perf_counter()
        await asyncio.gather(*(client() for _ in range(COMMAND_CLIENTS)))
        return count // COMMAND_CLIENTS * COMMAND_CLIENTS / (perf_counter() - started)


async def begun(url: str, made: Catalogue) -> Appended:
    """Begin a ledger, and write a catalogue into its log."""
    ledger_id = clock.fresh_id()
    async with await connect(url) as connection:
        await create_ledger(connection, ledger_id, "bench", clock.now())
    async with _writing(url) as writer:
        await catalogue.write(made, writer, ledger_id)
    return Appended(url, ledger_id, made)


async def append(log: Appended, count: int) -> float:
    """Append impressions in batches, one after the other; return events a second."""
    now = clock.now()
    deliveries = iter(
        [
            Delivery(kind="impression", ticket=ticket, occurred_at=now)
            for ticket in catalogue.tickets(log.catalogue, count)
        ]
    )
    recordings = []
    while batch := tuple(islice(deliveries, BATCH_EVENTS)):
        recordings.append(Recording(ledger_id=log.ledger_id, deliveries=batch))
    async with _writing(log.url) as writer:
        started = perf_counter()
        for recording in recordings:
            await writer.record(recording)
        return count / (perf_counter() - started)


@asynccontextmanager
async def _writing(url: str) -> AsyncIterator[Writer]:
    writer = Writer(url)
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        writer.close()
        await task


def _chooser(made: Catalogue, snapshot: Snapshot) -> Callable[[], float]:
    asked = [catalogue.decoded(body) for body in catalogue.requests(made, 100, country="DE")]
    return partial(_choosing_microseconds, snapshot, asked)


def _choosing_microseconds(snapshot: Snapshot, asked: list[AdRequest]) -> float:
    now = datetime(2026, 3, 10, 12, tzinfo=UTC)
    started = perf_counter()
    for number, request in enumerate(islice(cycle(asked), CHOICES)):
        (placement,) = request.placements
        next(choose(snapshot, eligible(snapshot, request, placement), placement, now, number * 7_919 << 200))
    return (perf_counter() - started) / CHOICES * 1_000_000

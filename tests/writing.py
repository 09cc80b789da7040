"""Short words with which a test writes to a log without going through a door, and looks at what became of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from time import monotonic
from typing import Any, Final, LiteralString
from uuid import UUID

from msgspec import structs
from psycopg.rows import DictRow, dict_row

from domain.budget import DeliveryKind
from domain.campaign import CAMPAIGN
from domain.decider import stream_of
from domain.delivery import Delivery, Ticket
from domain.events import CampaignCreated, Event
from domain.holds import Holds
from domain.values import Pricing
from infra import clock
from infra.batch import Appending, Plan, Recording, Request
from infra.commit import commit
from infra.database import Connection, connect
from infra.event_log import create_ledger
from infra.writer import Writer
from tests.domain.deliveries import ticket
from tests.domain.stored import stored

ACTOR: Final = "user:somebody"
FAR_FUTURE_SECOND: Final = 4_000_000_000
WAIT_SECONDS_MAX: Final = 45


@asynccontextmanager
async def writing(url: str, holds: Holds | None = None) -> AsyncIterator[Writer]:
    """A writer at work, and at the end everything that it accepted durable."""
    writer = Writer(url, lambda _: holds)
    running = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        writer.close()
        await running


def at(moment: datetime) -> Callable[[], datetime]:
    """Return a clock that stands still."""
    return lambda: moment


async def new_ledger(connection: Connection) -> UUID:
    """Begin a ledger and return its id."""
    ledger_id = clock.fresh_id()
    await create_ledger(connection, ledger_id, "test", clock.now())
    return ledger_id


def appending(
    ledger_id: UUID, subject: UUID, *events: Event, after: int = 0, thing: str = CAMPAIGN.thing, **fields: Any
) -> Appending:
    """Return what a command decided: these events, on a stream that stands at the version `after`."""
    whole: dict[str, Any] = {
        "ledger_id": ledger_id,
        "subject": subject,
        "stream": stream_of(thing, subject),
        "expected_version": after,
        "position": 0,
        "events": events,
        "actor": ACTOR,
    }
    return Appending(**whole | fields)


def drafted(**fields: Any) -> CampaignCreated:
    """Return the event of a campaign without limits, in UTC, at 5,000 micros an impression."""
    unlimited = {
        "timezone": "UTC",
        "pricing": Pricing(model="cpm", price_micros=5_000_000),
        "end_date": None,
        "expiry_date": None,
        "budget_micros": None,
        "daily_budget_micros": None,
        "impression_budget": None,
        "daily_impression_budget": None,
    }
    return structs.replace(stored(CampaignCreated), **unlimited | fields)


def promised(campaign_id: UUID, **fields: Any) -> Ticket:
    """Return the ticket of a fresh decision for a campaign, good for decades."""
    whole: dict[str, Any] = {
        "decision_id": clock.fresh_id(),
        "campaign_id": campaign_id,
        "expires_at": FAR_FUTURE_SECOND,
        "pricing": Pricing(model="cpm", price_micros=5_000_000),
    }
    return structs.replace(ticket(), **whole | fields)


def beacon(kind: DeliveryKind, of: Ticket) -> Delivery:
    """Return a delivery that happens now."""
    return Delivery(kind=kind, ticket=of, occurred_at=clock.now())


def recording(ledger_id: UUID, *deliveries: Delivery) -> Recording:
    """Return deliveries that arrive together."""
    return Recording(ledger_id=ledger_id, deliveries=deliveries)


async def rows(connection: Connection, query: LiteralString, *parameters: object) -> list[DictRow]:
    """Return the rows of a query."""
    return await (await connection.execute(query, parameters)).fetchall()


@asynccontextmanager
async def owning(url: str) -> AsyncIterator[Connection]:
    """A connection of the database's owner, who is not held to the service's role."""
    async with await Connection.connect(
        url, autocommit=True, row_factory=dict_row, options="-c timezone=UTC"
    ) as connection:
        yield connection


async def eventually(condition: Callable[[], Awaitable[object]], *, seconds: float = WAIT_SECONDS_MAX) -> None:
    """Wait until a condition holds."""
    deadline = monotonic() + seconds
    while not await condition():
        assert monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def head_locked(url: str, ledger_id: UUID) -> AsyncIterator[None]:
    """Keep every writer waiting for the head of a ledger."""
    async with await connect(url) as connection, connection.transaction():
        await connection.execute("SELECT FROM ledger_heads WHERE ledger_id = %s FOR UPDATE", (ledger_id,))
        yield


async def backends(connection: Connection, *, waiting_for_lock: bool = False) -> list[int]:
    """Return the process ids of the other connections to this database, or of those that wait for a lock."""
    await connection.execute("SELECT pg_stat_clear_snapshot()")  # within a transaction, the first look would be kept
    found = await rows(
        connection,
        "SELECT pid, wait_event_type FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
    )
    return [row["pid"] for row in found if not waiting_for_lock or row["wait_event_type"] == "Lock"]


async def committed(connection: Connection, ledger_id: UUID, *requests: Request, now: datetime | None = None) -> Plan:
    """Append requests as one batch, without a writer, at some moment or now."""
    return await commit(connection, ledger_id, requests, clock.now if now is None else at(now))

"""A small ledger with a bit of everything, at times of its own: what exports and their tampering are tried on."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from shutil import copytree
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from domain.delivery import Delivery, Ticket
from domain.events import (
    AdvertiserChanged,
    AdvertiserCreated,
    CampaignActivated,
    CampaignChanged,
    CreativeApproved,
    CreativeCreated,
    CreativeSubmitted,
    FundsDeposited,
    FundsWithdrawn,
    RequestsTallied,
    RequestTally,
    SlotCreated,
)
from domain.leasing import Want
from domain.values import Pricing
from infra import mirror, tree
from infra.batch import Leasing, Request
from infra.commit import commit
from infra.database import Connection, connect
from infra.event_log import create_ledger, read_head
from infra.inspection import inspect_folder, policy_in
from infra.log_keys import LogKeys
from infra.sealer import Seal
from infra.verifier import Policy, Report, parse_policy
from projections import reconciliation, statements
from projections.catalogue import PROJECTIONS
from projections.runner import catch_up
from tests.databases import fresh_database
from tests.domain.stored import stored
from tests.writing import appending, at, drafted, promised, recording

LEDGER: Final = UUID("01900000-0000-7000-8000-000000000001")
BEGAN: Final = datetime(2026, 3, 9, 20, 30, tzinfo=UTC)
KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
CPM: Final = Pricing(model="cpm", price_micros=2_000_000)
CPC: Final = Pricing(model="cpc", price_micros=40_000)
FLAT: Final = Pricing(model="flat", price_micros=9_000_000)

# How each campaign is paid, its limits and its time zone; some limits are met within the evening, by day or in all.
CAMPAIGNS: Final[tuple[tuple[Pricing, dict[str, Any]], ...]] = (
    (CPM, {"daily_budget_micros": 40_000, "budget_micros": 70_000, "timezone": "Asia/Shanghai"}),
    (CPC, {"budget_micros": 400_000, "timezone": "America/New_York"}),
    (FLAT, {"impression_budget": 60}),
    (CPM, {}),
)
PAYER: Final = UUID("01900000-0000-7000-8000-000000000002")
PAYS_IN_ADVANCE: Final = 3
"""The campaign of another advertiser, who deposits money after the first batch, and not enough for the evening."""

WORKER: Final = UUID("01900000-0000-7000-8000-000000000003")
UNKNOWN: Final = promised(UUID(int=5), slot_id=UUID(int=6))

FUNDS_MOVED: Final = (
    FundsDeposited(amount_micros=130_000, currency="EUR"),
    FundsWithdrawn(amount_micros=6_000, currency="EUR"),
)
DELIVERY_BATCHES: Final = 12
DECISIONS_PER_BATCH: Final = 40


def keys_in(folder: Path) -> LogKeys:
    """Return the log's key, always the same, as if it lay in a folder."""
    return LogKeys(path=folder / "log.pem", ed25519=KEY)


async def spend(connection: Connection, *, batches: int = DELIVERY_BATCHES) -> None:
    """Begin the ledger: campaigns of every kind, and an evening of deliveries that runs past midnight."""
    ledger_id = LEDGER
    await create_ledger(connection, ledger_id, "evening", BEGAN)
    random = Random(17)
    now = BEGAN
    tickets = []
    advertiser_id, slot_id = UUID(int=random.getrandbits(128)), UUID(int=random.getrandbits(128))
    await commit(connection, ledger_id, _setting_up(ledger_id, advertiser_id, slot_id), at(now))
    for number, (pricing, limits) in enumerate(CAMPAIGNS):
        pays = PAYER if number == PAYS_IN_ADVANCE else advertiser_id
        campaign_id, creative_id = UUID(int=random.getrandbits(128)), UUID(int=random.getrandbits(128))
        created = drafted(advertiser_id=pays, pricing=pricing, currency="EUR", **limits)
        creative = structs.replace(stored(CreativeCreated), campaign_id=campaign_id)
        events = (creative, CreativeSubmitted(), CreativeApproved())
        await commit(
            connection,
            ledger_id,
            [
                appending(ledger_id, campaign_id, created, CampaignActivated()),
                appending(ledger_id, creative_id, *events, thing="creative"),
            ],
            at(now),
        )
        tickets.append(
            promised(
                campaign_id,
                creative_id=creative_id,
                advertiser_id=pays,
                slot_id=slot_id,
                pricing=pricing,
                currency="EUR",
            )
        )
    for batch in range(batches):
        now = BEGAN + timedelta(minutes=25 * (batch + 1))
        deliveries = list(_shown(random, tickets, now))
        tallied = appending(ledger_id, WORKER, _asked(batch, slot_id, now), after=batch, thing="requests")
        await commit(connection, ledger_id, [recording(ledger_id, *deliveries), tallied], at(now))
        if batch == 0:
            raised = CampaignChanged(name="Renamed", budget_micros=90_000)
            change = appending(ledger_id, tickets[0].campaign_id, raised, after=2)
            moved = appending(ledger_id, PAYER, *FUNDS_MOVED, thing="advertiser", after=1)
            await commit(connection, ledger_id, [change, moved], at(now))


async def more(connection: Connection, count: int, shown: Ticket = UNKNOWN) -> None:
    """Let as many decisions like one be reported; unless one is given, for a campaign that nobody knows."""
    now = BEGAN + timedelta(days=2)
    tickets = [structs.replace(shown, decision_id=uuid4()) for _ in range(count)]
    deliveries = [Delivery(kind="impression", ticket=ticket, occurred_at=now) for ticket in tickets]
    await commit(connection, LEDGER, [recording(LEDGER, *deliveries)], at(now))


async def begin_day(connection: Connection) -> list[UUID]:
    """Let a worker lease what campaigns with a daily limit have left, days later; return those of which it got some."""
    cursor = await connection.execute("SELECT budget_id FROM budgets WHERE daily_budget_micros IS NOT NULL")
    wants = tuple(Want(campaign_id=row["budget_id"], impressions=1) for row in await cursor.fetchall())
    leasing = Leasing(ledger_id=LEDGER, worker=1, wants=wants, hold_seconds=60)
    planned = await commit(connection, LEDGER, [leasing], at(BEGAN + timedelta(days=3)))
    return [campaign_id for (_, campaign_id), impressions in planned.leases.items() if impressions]


async def project(connection: Connection) -> None:
    """Bring every read model up to the log."""
    for projection in PROJECTIONS:
        await catch_up(connection, projection)


async def seal(connection: Connection, keys: LogKeys, *sizes: int) -> None:
    """Seal the log at these sizes, and at its end."""
    head = await read_head(connection, LEDGER)
    sealing = Seal(keys, LEDGER)
    await sealing.resume(connection, head.position)
    for size in (*sizes, head.position):
        await sealing.extend(connection, size)


async def export(connection: Connection, folder: Path) -> int:
    """Export the sealed log with its reports, and return its size."""
    sealed = await mirror.mirror(connection, LEDGER, folder, lambda _done, _of: None)
    policy = policy_in(folder)
    statements.write_reports(folder, policy.logs[0].name, mirror.entries_in(folder, sealed.size))
    return sealed.size


def inspected(folder: Path, *kept: str, policy: Policy | None = None, bean_check: bool = False) -> Report:
    """Inspect a folder, with checkpoints that an auditor kept, and return what was found."""
    report = Report()
    notes = [(f"kept {number}", note) for number, note in enumerate(kept)]
    inspect_folder(folder, policy or policy_in(folder), notes, report, bean_check=bean_check)
    return report


async def inspected_live(connection: Connection, *kept: str, within: bool = False) -> Report:
    """Inspect the live ledger, with checkpoints that an auditor kept, and return what was found.

    `within` says that it is to be seen as the open transaction has changed it.
    """
    report = Report()
    policy = parse_policy(await mirror.policy_of(connection, LEDGER))
    notes = [(f"kept {number}", note) for number, note in enumerate(kept)]
    inspect = reconciliation.inspect_within if within else reconciliation.inspect_database
    await inspect(connection, LEDGER, policy, notes, report, lambda _done, _of: None)
    return report


async def last_note(connection: Connection) -> str:
    """Return the last checkpoint."""
    sealed = await tree.read_checkpoint(connection, LEDGER)
    assert sealed is not None
    return sealed.note


async def prepared(url: str, folder: Path) -> Path:
    """Make the evening in an empty, migrated database, seal it on the way, export it, and return the export."""
    async with await connect(url) as connection:
        await spend(connection)
        await project(connection)
        await seal(connection, keys_in(folder), 1, 100, 256, 400)
        await export(connection, folder / "export")
    return folder / "export"


@contextmanager
def copied_database(url: str) -> Iterator[str]:
    """A copy of a database that nobody is connected to."""
    with fresh_database(url, urlsplit(url).path[1:]) as copy:
        yield copy


def copied_folder(folder: Path, to: Path) -> Path:
    """Return a copy of an export."""
    return Path(copytree(folder, to))


def _setting_up(ledger_id: UUID, advertiser_id: UUID, slot_id: UUID) -> list[Request]:
    return [
        appending(
            ledger_id,
            advertiser_id,
            AdvertiserCreated(name="Shoes"),
            AdvertiserChanged(phone="+49 30 1234"),
            thing="advertiser",
        ),
        appending(ledger_id, PAYER, AdvertiserCreated(name="Trains"), thing="advertiser"),
        appending(ledger_id, slot_id, stored(SlotCreated), thing="slot"),
    ]


def _asked(batch: int, slot_id: UUID, now: datetime) -> RequestsTallied:
    lines = [
        RequestTally(slot_id=slot_id, country=country, fills=10 * batch + at, no_fill={"no_budget": 1})
        for at, country in enumerate(("CN", "DE", None))
    ]
    return RequestsTallied(hour=now.replace(minute=0), lines=tuple(lines))


def _shown(random: Random, tickets: list[Ticket], now: datetime) -> Iterator[Delivery]:
    for _ in range(DECISIONS_PER_BATCH):
        ticket = structs.replace(
            random.choice(tickets),
            decision_id=UUID(int=random.getrandbits(128)),
            city=random.choice(["217", "218", None]),
            test=random.random() < 0.05,
            expires_at=int(now.timestamp()) + random.choice([-60, 600, 600, 600]),
        )
        yield Delivery(kind="impression", ticket=ticket, occurred_at=now - timedelta(seconds=random.randrange(90)))
        if random.random() < 0.3:
            yield Delivery(kind="view", ticket=ticket, occurred_at=now)
        if random.random() < 0.4:
            yield Delivery(kind="click", ticket=ticket, occurred_at=now)

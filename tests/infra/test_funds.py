"""Funds in the database: kept in the transaction of the events, for all campaigns of an advertiser, and recounted."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from domain.delivery import Settled, Ticket
from domain.errors import FundsOutOfRange
from domain.events import AdvertiserCreated, CampaignChanged, CampaignCreated, Event, FundsDeposited, FundsWithdrawn
from domain.leasing import Want
from infra.batch import Appending, Leasing, Receipt
from infra.database import Connection, Pool, connect
from infra.leasing import Funds, read_funds
from infra.recount import Recount
from infra.verifier import Report
from tests.writing import FAR_FUTURE_SECOND, appending, beacon, committed, drafted, owning, promised, recording, rows

PRICE_MICROS: Final = 5_000
LONG_AGO_SECONDS: Final = 1_000


@dataclass
class Payer:
    """An advertiser with two campaigns, whose impressions cost 5,000 micros, and its way into the log."""

    connection: Connection
    ledger_id: UUID
    id: UUID = field(default_factory=uuid4)
    campaigns: tuple[UUID, UUID] = field(default_factory=lambda: (uuid4(), uuid4()))
    version: int = 0

    async def enter(self, **limits: int) -> None:
        """Enter the advertiser, and draft its campaigns."""
        await self.append(AdvertiserCreated(name="Shoes"))
        for campaign_id in self.campaigns:
            draft = appending(self.ledger_id, campaign_id, drafted(advertiser_id=self.id, **limits))
            await committed(self.connection, self.ledger_id, draft)

    def next(self, *events: Event) -> Appending:
        """Return what was decided about the advertiser."""
        return appending(self.ledger_id, self.id, *events, thing="advertiser", after=self.version)

    async def append(self, *events: Event) -> Any:
        """Append events of the advertiser; return the receipt or refusal."""
        planned = await committed(self.connection, self.ledger_id, self.next(*events))
        if isinstance(planned.results[0], Receipt):
            self.version = planned.results[0].version
        return planned.results[0]

    async def deposit(self, impressions: int) -> Any:
        """Deposit what so many impressions cost."""
        return await self.append(FundsDeposited(amount_micros=impressions * PRICE_MICROS, currency="CNY"))

    async def lease(self, worker: int, campaign: int, impressions: int) -> int:
        """Lease impressions of a campaign to a worker; return how many it has."""
        campaign_id = self.campaigns[campaign]
        want = Want(campaign_id=campaign_id, impressions=impressions)
        asked = Leasing(ledger_id=self.ledger_id, worker=worker, wants=(want,), hold_seconds=60)
        (leases,) = (await committed(self.connection, self.ledger_id, asked)).results
        assert isinstance(leases, dict)
        return int(leases[campaign_id])

    def ticket(self, campaign: int = 0, **fields: Any) -> Ticket:
        """Return a fresh decision for one of the campaigns."""
        held = {"advertiser_id": self.id, "hold_expires_at": FAR_FUTURE_SECOND}
        return promised(self.campaigns[campaign], **held | fields)

    async def show(self, *tickets: Ticket) -> list[str | None]:
        """Report impressions together; return why each was not billed."""
        shown = recording(self.ledger_id, *(beacon("impression", ticket) for ticket in tickets))
        (outcomes,) = (await committed(self.connection, self.ledger_id, shown)).results
        assert isinstance(outcomes, tuple)
        return [outcome.event.reason for outcome in outcomes if isinstance(outcome, Settled)]

    async def funds(self) -> Funds | None:
        """Return what is kept of its funds."""
        return await read_funds(self.connection, self.ledger_id, self.id)


@pytest.fixture
async def payer(pool: Pool, ledger_id: UUID) -> AsyncIterator[Payer]:
    """An advertiser that has deposited nothing yet."""
    async with pool.connection() as connection:
        made = Payer(connection, ledger_id)
        await made.enter()
        yield made


def funds_of(deposited: int, spent: int, leased: int = 0) -> Funds:
    """Return funds as they should stand, by impressions."""
    amounts = {"deposited_micros": deposited, "spent_micros": spent, "leased_micros": leased}
    amounts["remaining_micros"] = deposited - spent
    return Funds(currency="CNY", **{name: count * PRICE_MICROS for name, count in amounts.items()})


async def test_campaigns_are_billed_to_the_same_funds(payer: Payer) -> None:
    """What was billed before the first deposit was owed; from then on all campaigns together are within the funds."""
    assert await payer.show(payer.ticket()) == [None]
    assert await payer.funds() is None
    await payer.deposit(3)
    assert await payer.show(payer.ticket(0), payer.ticket(1)) == [None, None]
    assert await payer.show(payer.ticket(0), payer.ticket(1)) == [None, "over_funds"]
    assert await payer.funds() == funds_of(3, 3)
    await payer.deposit(1)
    assert await payer.show(payer.ticket(0), payer.ticket(1)) == [None, "over_funds"]
    assert await payer.funds() == funds_of(4, 4)


async def test_a_campaign_drafted_beside_a_deposit_draws_from_it(payer: Payer) -> None:
    """A deposit, a campaign of the same advertiser and its first impression can share a batch."""
    one, other = uuid4(), payer.campaigns[1]
    deposit = payer.next(FundsDeposited(amount_micros=PRICE_MICROS, currency="CNY"))
    draft = appending(payer.ledger_id, one, drafted(advertiser_id=payer.id))
    shown = [beacon("impression", promised(campaign_id, advertiser_id=payer.id)) for campaign_id in (one, other)]
    planned = await committed(payer.connection, payer.ledger_id, draft, recording(payer.ledger_id, *shown), deposit)
    assert isinstance(planned.results[1], tuple)
    assert [outcome and outcome.event.reason for outcome in planned.results[1]] == [None, "over_funds"]
    assert await payer.funds() == funds_of(1, 1)


async def test_what_is_leased_is_set_aside_of_funds(payer: Payer) -> None:
    """Workers lease together no more than the funds pay, whichever campaign they lease; what is leased stays."""
    await payer.deposit(8)
    assert [await payer.lease(1, 0, 99), await payer.lease(1, 1, 99)] == [4, 2]
    assert [await payer.lease(2, 0, 99), await payer.lease(2, 1, 99)] == [1, 1]
    assert await payer.lease(1, 0, 99) == 4
    assert await payer.funds() == funds_of(8, 0, 8)
    refused = await payer.append(FundsWithdrawn(amount_micros=1, currency="CNY"))
    assert isinstance(refused, FundsOutOfRange)
    assert await payer.show(payer.ticket(0)) == ["over_funds"]
    held = [payer.ticket(1, worker=1) for _ in range(3)]
    assert await payer.show(*held) == [None, None, "over_funds"]
    assert await payer.funds() == funds_of(8, 2, 6)
    assert await payer.lease(1, 0, -4) == 0
    assert await payer.funds() == funds_of(8, 2, 2)


async def test_leases_of_silent_workers_return_to_funds(payer: Payer, database_url: str) -> None:
    """What a worker leased that fell silent can be leased of the funds by the next, for another campaign."""
    await payer.deposit(1)
    assert [await payer.lease(1, 0, 9), await payer.lease(2, 1, 9)] == [1, 0]
    async with owning(database_url) as owner:
        await owner.execute(
            "UPDATE workers SET silent_from = silent_from - make_interval(secs => %s) WHERE worker = 1",
            (LONG_AGO_SECONDS,),
        )
    assert await payer.lease(2, 1, 9) == 1
    assert await payer.funds() == funds_of(1, 0, 1)


async def test_the_first_deposit_pays_for_what_is_leased(payer: Payer) -> None:
    """What workers hold of all its campaigns when an advertiser deposits first is set aside, and no more is leased."""
    for campaign_id in payer.campaigns:
        change = appending(payer.ledger_id, campaign_id, CampaignChanged(impression_budget=10), after=1)
        await committed(payer.connection, payer.ledger_id, change)
    assert [await payer.lease(1, 0, 3), await payer.lease(2, 1, 2)] == [3, 2]
    await payer.deposit(4)
    assert await payer.funds() == funds_of(4, 0, 5)
    assert await payer.lease(1, 0, 1) == 3
    tickets = [payer.ticket(0, worker=1) for _ in range(3)] + [payer.ticket(1, worker=2) for _ in range(2)]
    reasons = await payer.show(*tickets)
    assert reasons.count(None) == 4
    assert await payer.funds() == funds_of(4, 4)


async def test_parallel_batches_keep_to_the_funds(payer: Payer, database_url: str) -> None:
    """Five connections that report at once, while money is paid in and out, bill what is there and no more."""
    await payer.deposit(20)

    async def pay() -> list[str | None]:
        async with await connect(database_url) as connection:
            mine = replace(payer, connection=connection)
            for _ in range(10):
                await mine.deposit(1)
                await mine.append(FundsWithdrawn(amount_micros=2 * PRICE_MICROS, currency="CNY"))
        return []

    async def report(campaign: int) -> list[str | None]:
        async with await connect(database_url) as connection:
            mine = replace(payer, connection=connection)
            return [reason for _ in range(10) for reason in await mine.show(mine.ticket(campaign))]

    reasons = await asyncio.gather(pay(), *(report(number % 2) for number in range(5)))
    billed = [reason for of_one in reasons for reason in of_one].count(None)
    funds = await payer.funds()
    assert funds is not None
    assert funds.spent_micros == billed * PRICE_MICROS <= funds.deposited_micros
    assert 0 < billed <= 30


async def recounted(payer: Payer, *more: Mapping[str, Any], **changed: Any) -> Report:
    """Count the log anew, with other fields in what was not billed for want of funds, and more of the advertiser."""
    found = await rows(payer.connection, "SELECT entry::text AS entry FROM events ORDER BY position")
    entries = [json.loads(row["entry"]) for row in found]
    for said in entries:
        if said["event"].get("reason") == "over_funds":
            said["event"].update(changed)
    for number, event in enumerate(more, start=1):
        stream = {"stream": f"advertiser-{payer.id}", "version": payer.version + number}
        entries.append({**entries[-1], **stream, "event": event})
    report = Report()
    with closing(Recount(report)) as recount:
        for position, said in enumerate(entries, start=1):
            recount.add(position, json.dumps(said).encode())
        recount.finish()
    return report


async def test_a_recount_finds_what_was_billed_beyond_the_funds(payer: Payer) -> None:
    """An auditor who counts the entries finds the one that was billed though the funds were spent, and no other."""
    await payer.deposit(3)
    await payer.append(FundsWithdrawn(amount_micros=PRICE_MICROS, currency="CNY"))
    assert await payer.show(*(payer.ticket(number % 2) for number in range(3))) == [None, None, "over_funds"]
    assert (await recounted(payer)).findings == []
    wrong = (await recounted(payer, billed=True, reason=None)).findings
    assert [(finding.check, finding.position) for finding in wrong] == [("money", 8)]
    assert "more than its funds, 10,000" in wrong[0].detail


async def test_a_recount_finds_withdrawals_of_what_was_spent(payer: Payer) -> None:
    """Paying back what was spent, or in another currency, is found as well."""
    await payer.deposit(1)
    assert await payer.show(payer.ticket()) == [None]
    withdrawn = {"type": "funds_withdrawn", "amount_micros": 1, "currency": "CNY"}
    assert [each.check for each in (await recounted(payer, withdrawn)).findings] == ["money"]
    abroad = (await recounted(payer, {**withdrawn, "type": "funds_deposited", "currency": "EUR"})).findings
    assert [each.detail for each in abroad] == [f"the funds of advertiser {payer.id} change their currency"]


async def test_a_campaign_in_another_currency_is_not_billed(payer: Payer) -> None:
    """What an advertiser deposited in one currency pays for no campaign in another, not even by mistake."""
    foreign = uuid4()
    created: CampaignCreated = structs.replace(drafted(advertiser_id=payer.id), currency="EUR")
    await committed(payer.connection, payer.ledger_id, appending(payer.ledger_id, foreign, created))
    await payer.deposit(10)
    ticket = structs.replace(payer.ticket(), campaign_id=foreign, currency="EUR")
    assert await payer.show(ticket) == ["over_funds"]
    assert await payer.funds() == funds_of(10, 0)

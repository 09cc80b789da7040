"""The aftermath itself: of each thing that must never be it says that it was."""

from collections.abc import AsyncIterator
from os import urandom
from typing import Final, NamedTuple
from uuid import UUID, uuid4

import pytest

from domain.advertiser import ADVERTISER
from domain.events import AdvertiserCreated
from infra.batch import Idempotency
from infra.beacon_tokens import BeaconTokens
from infra.database import Connection, Pool
from infra.ledger_keys import LedgerKeys
from tests.faults.aftermath import check_log
from tests.faults.traffic import Traffic
from tests.sealing import meddle
from tests.writing import ACTOR, appending, beacon, committed, drafted, owning, promised, recording

MOVE: Final = "UPDATE ledger_heads SET position ="
COPY: Final = "INSERT INTO events SELECT ledger_id, 7, stream_id, {version}, type, recorded_at, entry FROM events"
REPLACE: Final = "UPDATE events SET entry = replace(entry::text, '{}', '{}')::json WHERE position = 1"


class Past(NamedTuple):
    """A ledger with a campaign that is sold out, an advertiser, and what was asked for that."""

    url: str
    owner: Connection
    traffic: Traffic


@pytest.fixture
async def past(database_url: str, pool: Pool, ledger_id: UUID) -> AsyncIterator[Past]:
    """Three impressions and a click, of which two impressions were sold, and a command under a key."""
    tokens = BeaconTokens(LedgerKeys(ledger_id=ledger_id, beacon=(urandom(32),), viewer=b"", draw=b""))
    campaign_id, key, traffic = uuid4(), str(uuid4()), Traffic()
    asked = Idempotency(actor=ACTOR, key=key, request_sha256=b"0" * 32)
    entering = appending(ledger_id, uuid4(), AdvertiserCreated(name="A"), thing=ADVERTISER.thing, idempotency=asked)
    tickets = [promised(campaign_id) for _ in range(3)]
    beacons = [beacon("click", tickets[0]), *(beacon("impression", ticket) for ticket in tickets)]
    async with pool.connection() as connection, owning(database_url) as owner:
        await committed(connection, ledger_id, appending(ledger_id, campaign_id, drafted(impression_budget=2)))
        plan = await committed(connection, ledger_id, entering)
        await committed(connection, ledger_id, recording(ledger_id, *beacons))
        (receipt,) = plan.results
        traffic.receipts[key] = {name: getattr(receipt, name) for name in ("version", "position")} | {
            "id": str(entering.subject)
        }
        traffic.answered.update(tokens.sign(each.kind, each.ticket) for each in beacons)
        yield Past(database_url, owner, traffic)


async def test_nothing_is_said_of_what_is_right(past: Past) -> None:
    """Of a log that nobody meddled with everything is counted, and nothing is wrong."""
    counted = check_log(past.url, past.traffic)
    assert (counted.position, len(counted.delivered), counted.unbilled) == (6, 4, {"over_budget": 1})


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["DELETE FROM events WHERE position = 6", f"{MOVE} 5"], "answered, and not in the log"),
        (["DELETE FROM events WHERE position = 4"], "positions between 3 and 5 are missing"),
        ([f"{MOVE} 7"], "the log ends at 6, its head at 7"),
        ([f"{MOVE} 7", f"{COPY.format(version=4)} WHERE position = 6"], "version 4 at 7 is out of order"),
        ([f"{MOVE} 7", f"{COPY.format(version=2)} WHERE position = 6"], "the second time at 7"),
        ([REPLACE.format('"impression_budget":2', '"impression_budget":1')], "impression_budget 1 < 2"),
        (["UPDATE budgets SET impressions = 1"], "(10000, 1) is said to be spent, and (10000, 2) was billed"),
        (["UPDATE budgets SET leased_impressions = 1"], "1 leased, to workers 0"),
        (["UPDATE events SET recorded_at = recorded_at - interval '1 hour' WHERE position = 6"], "time runs backwards"),
    ],
    ids=["lost", "skipped", "no end", "disordered", "doubled", "overspent", "miscounted", "leaked", "back-dated"],
)
async def test_what_must_never_be_is_said(past: Past, statements: list[str], said: str) -> None:
    """An answer that was lost, a delivery twice, a gap, and one more than was sold are each found."""
    for statement in statements:
        await meddle(past.owner, statement)
    with pytest.raises(AssertionError) as found:
        check_log(past.url, past.traffic)
    assert said in str(found.value)


async def test_what_was_never_asked_is_said(past: Past) -> None:
    """What is in the log and was never sent, or another receipt than the log's, is found."""
    (key,) = past.traffic.receipts
    past.traffic.receipts[key]["position"] += 1
    with pytest.raises(AssertionError, match=key):
        check_log(past.url, past.traffic)
    past.traffic.receipts[key]["position"] -= 1
    past.traffic.answered.pop()
    with pytest.raises(AssertionError, match="never sent"):
        check_log(past.url, past.traffic)

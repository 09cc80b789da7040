"""Batches: what one adds to the log is a pure function of what was read and asked; refusals leave neighbours alone."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec import UNSET, structs

from domain.budget import Budget, DeliveryKind
from domain.decider import stream_of
from domain.errors import BudgetBelowSpent, IdempotencyKeyReused, NotFound, Refusal, VersionConflict
from domain.events import (
    AdvertiserCreated,
    CampaignActivated,
    CampaignChanged,
    CampaignPaused,
    ClickRecorded,
    DeliveryRecorded,
    ImpressionRecorded,
)
from domain.leasing import LeaseKey, Want
from domain.validity import RULES
from domain.values import Pricing
from infra import clock
from infra.batch import (
    Appending,
    Facts,
    Idempotency,
    Leasing,
    Plan,
    Receipt,
    Recording,
    Repeated,
    Request,
    StoredReceipt,
    StoredRefusal,
    plan,
)
from infra.commit import read_answer
from infra.database import Pool
from infra.event_log import Head
from tests.writing import ACTOR, FAR_FUTURE_SECOND, appending, beacon, committed, drafted, promised, recording, rows

LEDGER = UUID(int=1)
CAMPAIGN = UUID(int=2)
STREAM = stream_of("campaign", CAMPAIGN)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
KEY = Idempotency(actor=ACTOR, key="k", request_sha256=b"1" * 32)


def facts(
    *,
    position: int = 10,
    versions: Mapping[str, int] | None = None,
    recorded: Mapping[UUID, frozenset[DeliveryKind]] | None = None,
    budgets: Sequence[Budget] = (),
    leases: Mapping[LeaseKey, int] | None = None,
    silent: Mapping[LeaseKey, int] | None = None,
    workers: int = 0,
    answers: Mapping[tuple[str, str], Any] | None = None,
) -> Facts:
    """Return what was read under the lock of a log that stands at a position."""
    return Facts(
        head=Head(position=position, command_position=position, recorded_at=NOON),
        versions=versions or {},
        recorded=recorded or {},
        budgets={budget.budget_id: budget for budget in budgets},
        leases=leases or {},
        viewings={},
        silent=silent or {},
        workers=workers,
        answers=answers or {},
    )


def planned(read: Facts, *requests: Request, now: datetime = NOON) -> Plan:
    """Return what a batch adds at noon."""
    return plan(read, requests, now)


def budget(**fields: Any) -> Budget:
    """Return the budget of the campaign, in UTC."""
    return Budget(budget_id=CAMPAIGN, currency="CNY", timezone="UTC", day=date(2026, 3, 10), **fields)


def step(*events: Any, after: int = 1, **fields: Any) -> Appending:
    """Return what was decided about the campaign at a version."""
    return appending(LEDGER, CAMPAIGN, *events, after=after, **fields)


def test_commands_are_numbered_in_the_order_in_which_they_came() -> None:
    """Positions, versions and receipts go on from where log and streams stand, whatever else is in the batch."""
    other = appending(LEDGER, uuid4(), AdvertiserCreated(name="a"), thing="advertiser", correlation_id="req-1")
    found = planned(facts(versions={STREAM: 1}), step(CampaignActivated()), other, step(CampaignPaused(), after=2))
    assert [(entry.stream, entry.version) for entry in found.entries] == [(STREAM, 2), (other.stream, 1), (STREAM, 3)]
    assert found.results == [
        Receipt(id=CAMPAIGN, version=2, position=11),
        Receipt(id=other.subject, version=1, position=12),
        Receipt(id=CAMPAIGN, version=3, position=13),
    ]
    assert [entry.correlation_id for entry in found.entries] == [None, "req-1", None]
    assert {(entry.actor, entry.occurred_at, entry.recorded_at) for entry in found.entries} == {(ACTOR, NOON, NOON)}


def test_a_refusal_does_not_affect_its_neighbours() -> None:
    """What is refused writes nothing, and the batch is numbered as if it had not been asked."""
    found = planned(
        facts(versions={STREAM: 1}, budgets=[budget(spent_micros=100)]),
        step(CampaignActivated()),
        step(CampaignPaused(), after=1),
        step(CampaignChanged(budget_micros=99), after=2),
        step(CampaignPaused(), after=2),
    )
    assert [type(result) for result in found.results] == [Receipt, VersionConflict, BudgetBelowSpent, Receipt]
    assert [(entry.version, type(entry.event)) for entry in found.entries] == [
        (2, CampaignActivated),
        (3, CampaignPaused),
    ]
    assert found.books.changed == {}
    assert found.answers == {}


def test_deliveries_are_settled_after_the_commands_of_their_batch() -> None:
    """A delivery that arrives with a command sees the budget as the command left it, and each gets its own answer."""
    one, other = promised(CAMPAIGN), promised(CAMPAIGN)
    found = planned(
        facts(versions={STREAM: 1}, budgets=[budget(impressions=5)]),
        recording(LEDGER, beacon("impression", one), beacon("impression", one)),
        step(CampaignChanged(impression_budget=6)),
        recording(LEDGER, beacon("impression", other), beacon("click", other)),
    )
    assert [type(entry.event) for entry in found.entries[:2]] == [CampaignChanged, ImpressionRecorded]
    assert found.results[1] == Receipt(id=CAMPAIGN, version=2, position=11)
    settled = [[outcome and (outcome.version, outcome.event.reason) for outcome in found.results[n]] for n in (0, 2)]  # type: ignore[union-attr]  # of deliveries
    assert settled == [[(1, None), None], [(1, "over_budget"), (2, None)]]
    assert found.books.changed == {
        CAMPAIGN: budget(
            impression_budget=6, impressions=6, spent_micros=5_000, day_impressions=1, day_spent_micros=5_000
        )
    }


def test_deliveries_that_the_log_has_add_nothing() -> None:
    """What is recorded of a decision is not recorded again, and what comes later goes on from its version."""
    ticket = promised(CAMPAIGN)
    read = facts(recorded={ticket.decision_id: frozenset({"impression", "view"})}, budgets=[budget()])
    deliveries = [beacon(kind, ticket) for kind in ("view", "click", "impression")]
    found = planned(read, recording(LEDGER, *deliveries))
    assert [outcome and outcome.version for outcome in found.results[0]] == [None, 3, None]  # type: ignore[union-attr]  # of deliveries
    entry = found.entries[0]
    assert (entry.stream, entry.version) == (stream_of("decision", ticket.decision_id), 3)
    assert entry.actor == f"slot:{ticket.slot_id}"
    assert (entry.occurred_at, entry.recorded_at) == (deliveries[1].occurred_at, NOON)
    assert isinstance(entry.event, ClickRecorded)


@pytest.mark.parametrize(
    "limit", ["budget_micros", "daily_budget_micros", "impression_budget", "daily_impression_budget"]
)
@pytest.mark.parametrize("lowered", [6, 7, 8])
def test_a_limit_is_lowered_to_what_is_spent_and_leased(limit: str, lowered: int) -> None:
    """Under the lock a limit can be lowered to what is spent and set aside, and not below, in all and for the day."""
    spent = budget(spent_micros=4, impressions=4, day_spent_micros=4, day_impressions=4)
    read = facts(versions={STREAM: 1}, budgets=[structs.replace(spent, leased_impressions=3, leased_micros=3)])
    found = planned(read, step(CampaignChanged(**{limit: lowered})))  # type: ignore[arg-type]  # a limit by its name
    if lowered < 7:
        assert isinstance(found.results[0], BudgetBelowSpent)
        assert found.results[0].pointer == f"/{limit}"
        assert (found.entries, found.books.changed) == ([], {})
    else:
        assert getattr(found.books.changed[CAMPAIGN], limit) == lowered


def test_a_new_day_has_nothing_spent() -> None:
    """At midnight of the campaign's time zone the daily limits are as new, for changes and for deliveries."""
    spent = structs.replace(
        budget(day_spent_micros=9_000, spent_micros=9_000, impressions=2, day_impressions=2, daily_budget_micros=9_000),
        timezone="Asia/Shanghai",
    )
    beacons = recording(LEDGER, beacon("impression", promised(CAMPAIGN)))
    before, after = datetime(2026, 3, 10, 15, 59, 59, tzinfo=UTC), datetime(2026, 3, 10, 16, 0, tzinfo=UTC)
    assert [planned(facts(budgets=[spent]), beacons, now=now).entries[0].event for now in (before, after)] == [
        structs.replace(_impression(beacons), billed=False, reason="over_budget"),
        _impression(beacons),
    ]
    lower = step(CampaignChanged(daily_budget_micros=1))
    results = [
        planned(facts(versions={STREAM: 1}, budgets=[spent]), lower, now=now).results[0] for now in (before, after)
    ]
    assert [type(result) for result in results] == [BudgetBelowSpent, Receipt]


def _impression(asked: Recording) -> DeliveryRecorded:
    ticket = asked.deliveries[0].ticket
    fields = {
        name: getattr(ticket, name) for name in ImpressionRecorded.__struct_fields__ if name in ticket.__struct_fields__
    }
    return ImpressionRecorded(**fields | {"basis": ticket.basis or UNSET}, price_micros=5_000, billed=True, rules=RULES)


def test_a_campaign_opens_its_budget() -> None:
    """The event that drafts a campaign makes its budget row, which later commands of the batch already see."""
    found = planned(
        facts(position=0),
        step(drafted(budget_micros=10, timezone="Asia/Tokyo"), after=0),
        step(CampaignChanged(budget_micros=20)),
        recording(LEDGER, beacon("click", promised(CAMPAIGN, pricing=Pricing(model="cpc", price_micros=20)))),
    )
    row = found.books.changed[CAMPAIGN]
    assert (row.timezone, row.budget_micros, row.spent_micros) == ("Asia/Tokyo", 20, 20)


def test_a_change_that_decided_nothing_is_answered_with_where_the_stream_stands() -> None:
    """A command that changes nothing has the stream's version, and the position of its last entry."""
    found = planned(facts(versions={STREAM: 1}), step(position=7, idempotency=KEY))
    receipt = Receipt(id=CAMPAIGN, version=1, position=7)
    assert found.results == [receipt]
    assert found.answers == {(ACTOR, "k"): (KEY.request_sha256, StoredReceipt(receipt=receipt))}
    assert found.entries == []


def test_an_idempotency_key_is_answered_once() -> None:
    """The first request under a key is carried out; the same again in the batch is answered alike and adds nothing."""
    activate = step(CampaignActivated(), idempotency=KEY)
    found = planned(facts(versions={STREAM: 1}), activate, activate)
    assert found.results == [Receipt(id=CAMPAIGN, version=2, position=11)] * 2
    assert len(found.entries) == 1
    assert found.entries[0].idempotency_key == "k"
    later = planned(facts(versions={STREAM: 5}, answers=found.answers), activate)
    assert later.results == found.results[:1]
    assert (later.entries, later.answers) == ([], {})


def test_a_key_belongs_to_one_request_of_one_person() -> None:
    """The same key with another body is refused; the same key of somebody else is another key."""
    activate = step(CampaignActivated(), idempotency=KEY)
    other_body = step(CampaignPaused(), idempotency=structs.replace(KEY, request_sha256=b"2" * 32))
    other_actor = step(CampaignPaused(), after=2, idempotency=structs.replace(KEY, actor="user:else"))
    found = planned(facts(versions={STREAM: 1}), activate, other_body, other_actor)
    assert [type(result) for result in found.results] == [Receipt, IdempotencyKeyReused, Receipt]
    assert set(found.answers) == {(ACTOR, "k"), ("user:else", "k")}


def test_a_refusal_is_remembered_beside_its_key() -> None:
    """The same request is refused with the same words ever after, also when it could be carried out by then."""
    refused = step(idempotency=KEY, refusal=NotFound("campaign", CAMPAIGN))
    first = planned(facts(), refused)
    assert isinstance(first.results[0], NotFound)
    read = facts(versions={STREAM: 1}, answers=first.answers)
    again = planned(read, step(CampaignActivated(), idempotency=KEY)).results[0]
    assert isinstance(again, Repeated)
    assert (again.kind, again.code, again.detail, again.pointer) == (
        "missing",
        "not_found",
        f"There is no campaign {CAMPAIGN} in this ledger.",
        None,
    )


def test_a_refusal_under_the_lock_is_remembered_too() -> None:
    """What the budget row refuses is kept with its pointer, and does not open the way for the second request."""
    lower = step(CampaignChanged(budget_micros=1), idempotency=KEY)
    found = planned(facts(versions={STREAM: 1}, budgets=[budget(spent_micros=2)]), lower, lower)
    assert [getattr(result, "code", None) for result in found.results] == ["budget_below_spent"] * 2
    stored = found.answers[ACTOR, "k"][1]
    assert isinstance(stored, StoredRefusal)
    assert stored.pointer == "/budget_micros"


def test_a_version_conflict_is_not_remembered() -> None:
    """Who came too late decides anew, under the same key."""
    found = planned(facts(versions={STREAM: 2}), step(CampaignActivated(), idempotency=KEY))
    assert isinstance(found.results[0], VersionConflict)
    assert found.answers == {}


def test_leases_are_given_after_all_that_is_billed() -> None:
    """A worker leases what the deliveries of its batch leave, and what is confirmed in time is charged to its lease."""
    ticket = promised(CAMPAIGN, worker=7, hold_expires_at=FAR_FUTURE_SECOND)
    stood = budget(impression_budget=5, leased_impressions=2)
    leasing = Leasing(ledger_id=LEDGER, worker=9, wants=(Want(campaign_id=CAMPAIGN, impressions=10),), hold_seconds=60)
    read = facts(budgets=[stood], leases={(7, CAMPAIGN): 2}, workers=1)
    found = planned(read, leasing, recording(LEDGER, beacon("impression", ticket)))
    assert found.results[0] == {CAMPAIGN: 3}
    assert found.leases == {(7, CAMPAIGN): 1, (9, CAMPAIGN): 3}
    assert found.confirmed == {7: [ticket.decision_id]}
    assert found.books.changed[CAMPAIGN] == structs.replace(
        stood, impressions=1, day_impressions=1, spent_micros=5_000, day_spent_micros=5_000, leased_impressions=4
    )


def test_the_leases_of_silent_workers_return_less_what_is_confirmed() -> None:
    """What a silent worker had leased is free again in the same batch, less what of it is confirmed just then."""
    ticket = promised(CAMPAIGN, worker=7, hold_expires_at=FAR_FUTURE_SECOND)
    leasing = Leasing(ledger_id=LEDGER, worker=9, wants=(Want(campaign_id=CAMPAIGN, impressions=9),), hold_seconds=60)
    read = facts(
        budgets=[budget(impression_budget=3, leased_impressions=3)],
        leases={(7, CAMPAIGN): 3},
        silent={(7, CAMPAIGN): 3},
        workers=1,
    )
    found = planned(read, recording(LEDGER, beacon("impression", ticket)), leasing)
    assert found.results[1] == {CAMPAIGN: 2}
    assert found.leases == {(9, CAMPAIGN): 2}
    assert (found.books.changed[CAMPAIGN].impressions, found.books.changed[CAMPAIGN].leased_impressions) == (1, 2)


async def test_what_was_planned_is_what_is_kept(pool: Pool, ledger_id: UUID) -> None:
    """Budgets and answers are written in the transaction of the events, and are read back as they were."""
    lower = CampaignChanged(budget_micros=4_999)
    ticket = promised(CAMPAIGN, country=None)
    requests: list[Request] = [
        appending(ledger_id, CAMPAIGN, drafted(budget_micros=10_000, impression_budget=3), idempotency=KEY),
        recording(ledger_id, beacon("impression", ticket), beacon("view", ticket)),
        appending(ledger_id, CAMPAIGN, lower, after=1, idempotency=structs.replace(KEY, key="lower")),
    ]
    async with pool.connection() as connection:

        async def commit(*asked: Request, at: timedelta = timedelta(0)) -> Plan:
            return await committed(connection, ledger_id, *asked, now=clock.now() + at)

        first = await commit(*requests[:2])
        again = await commit(*requests, at=timedelta(days=1))
        assert again.results[0] == first.results[0] == Receipt(id=CAMPAIGN, version=1, position=1)
        assert again.results[1] == (None, None)
        assert isinstance(again.results[2], Refusal)
        repeated = await commit(requests[2])
        assert isinstance(repeated.results[0], Repeated)
        assert repeated.results[0].code == again.results[2].code
        await commit(recording(ledger_id, beacon("impression", promised(CAMPAIGN))), at=timedelta(days=1))
        kept = await rows(connection, "SELECT * FROM budgets WHERE ledger_id = %s", ledger_id)
        assert await read_answer(connection, ledger_id, structs.replace(KEY, actor="user:else")) is None
        assert await read_answer(connection, ledger_id, KEY) == first.answers[ACTOR, "k"]
    assert [(row["impressions"], row["spent_micros"]) for row in kept] == [(2, 10_000)]
    assert [(row["day_impressions"], row["day_spent_micros"]) for row in kept] == [(1, 5_000)]

"""Commands: loaded, decided and appended on the condition that nothing has changed, with the first answer kept."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.advertiser import ADVERTISER, ChangeAdvertiser, CreateAdvertiser
from domain.campaign import CAMPAIGN, ActivateCampaign, Active, ChangeCampaign, CreateCampaign, PauseCampaign
from domain.decider import copied, stream_of
from domain.errors import (
    IdempotencyKeyReused,
    NotFound,
    PreconditionFailed,
    Refusal,
    UnknownReference,
    VersionConflict,
    WrongState,
)
from domain.terms import CampaignTerms
from infra import event_log
from infra.batch import Idempotency, Receipt
from infra.database import Pool
from infra.execute import ATTEMPTS_MAX, Asked, execute, state_of
from infra.writer import Log
from tests.writing import ACTOR, drafted, head_locked, writing


@pytest.fixture
async def log(database_url: str, pool: Pool) -> AsyncIterator[Log]:
    """The way to the log, with a writer at work."""
    async with writing(database_url) as writer:
        yield Log(pool, writer)


@pytest.fixture
def asked(ledger_id: UUID) -> Asked:
    """Somebody who asks without conditions."""
    return Asked(ledger_id=ledger_id, actor=ACTOR)


def keyed(asked: Asked, body: str = "body", *, key: str = "k") -> Asked:
    """Return who asks, under an idempotency key."""
    named = Idempotency(actor=asked.actor, key=key, request_sha256=sha256(body.encode()).digest())
    return Asked(ledger_id=asked.ledger_id, actor=asked.actor, idempotency=named)


async def entered(log: Log, asked: Asked) -> UUID:
    """Enter an advertiser."""
    return (await execute(log, ADVERTISER, uuid4(), CreateAdvertiser(name="Shoes"), asked)).id


async def campaign(log: Log, asked: Asked, **fields: Any) -> UUID:
    """Draft a campaign."""
    terms = copied(CampaignTerms, drafted(advertiser_id=await entered(log, asked), **fields))
    command = CreateCampaign(**{name: getattr(terms, name) for name in terms.__struct_fields__})
    return (await execute(log, CAMPAIGN, uuid4(), command, asked)).id


async def head_of(log: Log, asked: Asked) -> int:
    """Return the position of the log."""
    async with log.pool.connection() as connection:
        return (await event_log.read_head(connection, asked.ledger_id)).position


async def test_a_command_is_answered_with_where_it_stands(log: Log, asked: Asked) -> None:
    """Receipts say whose stream was written, its version, and the position; the stream then holds the decision."""
    subject = await campaign(log, asked)
    receipt = await execute(log, CAMPAIGN, subject, ActivateCampaign(), asked)
    assert receipt == Receipt(id=subject, version=2, position=3)
    stream = stream_of("campaign", subject)
    async with log.pool.connection() as connection:
        recorded = (await event_log.read_streams(connection, asked.ledger_id, [stream]))[stream]
    assert isinstance(state_of(stream, recorded), Active)
    assert state_of(stream, ()) is None


async def test_what_changes_nothing_writes_nothing(log: Log, asked: Asked) -> None:
    """A change to what is there already is answered with where the thing stands, with a key and without."""
    subject = await entered(log, asked)
    await entered(log, asked)
    same = ChangeAdvertiser(name="Shoes")
    unchanged = Receipt(id=subject, version=1, position=1)
    assert await execute(log, ADVERTISER, subject, same, asked) == unchanged
    assert await execute(log, ADVERTISER, subject, same, keyed(asked)) == unchanged
    assert await execute(log, ADVERTISER, subject, same, keyed(asked)) == unchanged
    assert await head_of(log, asked) == 2


async def test_refusals_write_nothing(log: Log, asked: Asked) -> None:
    """What the domain refuses is raised to whoever asked, and the log stays as it is."""
    subject = await campaign(log, asked)
    for refused, command, thing in (
        (WrongState, PauseCampaign(), subject),
        (NotFound, PauseCampaign(), uuid4()),
        (UnknownReference, CreateCampaign(**_terms(uuid4())), uuid4()),
    ):
        with pytest.raises(refused):
            await execute(log, CAMPAIGN, thing, command, asked)
    assert await head_of(log, asked) == 2


def _terms(advertiser_id: UUID) -> dict[str, Any]:
    terms = drafted(advertiser_id=advertiser_id)
    return {name: getattr(terms, name) for name in CampaignTerms.__struct_fields__}


async def test_a_precondition_is_kept(log: Log, asked: Asked) -> None:
    """With If-Match a command is carried out on that version and no other."""
    subject = await campaign(log, asked)
    on_first = Asked(ledger_id=asked.ledger_id, actor=ACTOR, if_match=1)
    assert (await execute(log, CAMPAIGN, subject, ActivateCampaign(), on_first)).version == 2
    with pytest.raises(PreconditionFailed):
        await execute(log, CAMPAIGN, subject, PauseCampaign(), on_first)


async def test_of_commands_on_the_same_version_one_wins(log: Log, asked: Asked) -> None:
    """Of many commands that ask for the same version at once, one is carried out and the others are told."""
    subject = await campaign(log, asked)
    on_first = Asked(ledger_id=asked.ledger_id, actor=ACTOR, if_match=1)
    answers = await asyncio.gather(
        *(execute(log, CAMPAIGN, subject, ChangeCampaign(name=f"n{n}"), on_first) for n in range(8)),
        return_exceptions=True,
    )
    assert Counter(map(type, answers)) == {Receipt: 1, PreconditionFailed: 7}


async def test_conflicts_are_decided_anew(log: Log, asked: Asked) -> None:
    """Changes to one thing that arrive at once are all carried out, one after the other."""
    subject = await campaign(log, asked)
    changes = [ChangeCampaign(name=f"name {n}") for n in range(ATTEMPTS_MAX)]
    receipts = await asyncio.gather(*(execute(log, CAMPAIGN, subject, change, asked) for change in changes))
    assert sorted(receipt.version for receipt in receipts) == list(range(2, 2 + len(changes)))


async def test_too_much_conflict_is_said(
    log: Log, asked: Asked, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that always comes too late gives up after its attempts; what succeeded is there, each once."""
    monkeypatch.setattr("infra.execute.ATTEMPTS_MAX", 2)
    subject = await campaign(log, asked)
    async with head_locked(database_url, asked.ledger_id):
        changes = [
            asyncio.create_task(execute(log, CAMPAIGN, subject, ChangeCampaign(name=f"name {n}"), asked))
            for n in range(8)
        ]
        await asyncio.sleep(0)
    answers = await asyncio.gather(*changes, return_exceptions=True)
    found = Counter(map(type, answers))
    assert set(found) == {Receipt, VersionConflict}
    assert await head_of(log, asked) == 2 + found[Receipt]


async def test_the_first_answer_is_the_answer(log: Log, asked: Asked) -> None:
    """The same key and body are answered with the first receipt, also when the thing has moved on since."""
    subject = await campaign(log, asked)
    first = await execute(log, CAMPAIGN, subject, ActivateCampaign(), keyed(asked))
    await execute(log, CAMPAIGN, subject, PauseCampaign(), asked)
    assert await execute(log, CAMPAIGN, subject, ActivateCampaign(), keyed(asked)) == first
    assert await head_of(log, asked) == 4


async def test_a_first_refusal_is_the_answer(log: Log, asked: Asked) -> None:
    """What was refused under a key stays refused in the same words, also when it would be carried out by now."""
    subject = await campaign(log, asked)
    refusals = []
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            await execute(log, CAMPAIGN, subject, PauseCampaign(), keyed(asked))
        refusals.append(refused.value)
        await execute(log, CAMPAIGN, subject, ActivateCampaign(), keyed(asked, key="other"))
    assert len({(refusal.kind, refusal.code, refusal.detail, refusal.pointer) for refusal in refusals}) == 1
    assert await head_of(log, asked) == 3


async def test_a_key_with_another_body_is_refused(log: Log, asked: Asked) -> None:
    """A key belongs to its first request; another request under it is refused and writes nothing."""
    subject = await entered(log, keyed(asked))
    with pytest.raises(IdempotencyKeyReused):
        await execute(log, ADVERTISER, subject, ChangeAdvertiser(name="Hats"), keyed(asked, "another body"))
    assert await head_of(log, asked) == 1


async def test_the_same_key_at_once_is_carried_out_once(log: Log, asked: Asked, database_url: str) -> None:
    """Of the same request sent many times at the same moment, to two processes, one writes and all get its receipt."""
    async with writing(database_url) as other:
        logs = [log, Log(log.pool, other)] * 8
        receipts = await asyncio.gather(
            *(execute(each, ADVERTISER, uuid4(), CreateAdvertiser(name="Shoes"), keyed(asked)) for each in logs)
        )
    assert len(set(receipts)) == 1
    assert await head_of(log, asked) == 1


async def test_the_same_key_with_different_bodies_at_once(log: Log, asked: Asked) -> None:
    """Of different requests under one key at the same moment, one is carried out and the others are refused."""
    answers = await asyncio.gather(
        *(
            execute(log, ADVERTISER, uuid4(), CreateAdvertiser(name=f"n{n}"), keyed(asked, f"body {n}"))
            for n in range(6)
        ),
        return_exceptions=True,
    )
    assert Counter(map(type, answers)) == {Receipt: 1, IdempotencyKeyReused: 5}
    assert await head_of(log, asked) == 1

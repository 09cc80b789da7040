"""The ledgers that a process serves: each is noticed, followed, and known by its keys and tokens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api import open_ledgers
from api.open_ledgers import OpenLedger, OpenLedgers
from api.problems import Unauthenticated
from domain.events import SlotCreated, SlotKeyIssued
from domain.slot import SLOT
from infra import clock, slot_keys
from infra.beacon_tokens import BeaconTokens, TokenForged
from infra.database import Pool
from infra.keys import Keys
from infra.writer import Writer
from tests.infra.test_beacon_tokens import ticket
from tests.projections.test_serving import running_campaign, served, slot, told
from tests.writing import backends, eventually, new_ledger, owning, writing

KEYS = Keys(generations=(b"k" * 32,), signing_key=Ed25519PrivateKey.generate(), public_keys={}, kid="")
LEDGERS_MANY = 300
"""More than there are ids of keys, so that some ledgers share theirs."""


@asynccontextmanager
async def following(found: OpenLedgers, url: str, writer: Writer) -> AsyncIterator[None]:
    """Ledgers that are followed meanwhile."""
    task = asyncio.create_task(found.follow(url, writer))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await found.close()


def so(condition: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    """Return a condition to wait for."""

    async def holds() -> object:
        return condition()

    return holds


def is_served(opened: OpenLedger, creatives: int) -> bool:
    """Tell whether as many creatives of a ledger can be served."""
    return len(served(opened.serving)) == creatives


async def test_every_ledger_is_followed(
    database_url: str, pool: Pool, ledger_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is appended to any ledger is served soon, also of one that begins later, and after a lost connection."""
    monkeypatch.setattr(open_ledgers, "POLL_SECONDS", 0.2)
    found = OpenLedgers(KEYS, viewer_key_days=90)
    async with (
        pool.connection() as connection,
        owning(database_url) as watching,
        writing(database_url) as writer,
        following(found, database_url, writer),
    ):
        for each in (ledger_id, await new_ledger(connection)):
            await slot(connection, each)
            for count in (1, 2):
                await running_campaign(connection, each)

                await eventually(so(partial(is_served, found.of(each), count)))
                for pid in set(await backends(watching)) - {connection.info.backend_pid}:
                    await watching.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            assert found.of(each).serving.position == 14
        assert next(each.id for each in found) == found.first == ledger_id


async def test_a_slot_key_names_its_ledger(pool: Pool, ledger_id: UUID) -> None:
    """The ledger of a slot key is found, however many there are; a key that is none belongs to none."""
    found, keys = OpenLedgers(KEYS, viewer_key_days=90), {}
    async with pool.connection() as connection:
        for each in (ledger_id, await new_ledger(connection)):
            fresh = slot_keys.fresh()
            keys[each] = fresh.key
            issued = SlotKeyIssued(key_id=clock.fresh_id(), key_sha256=fresh.sha256)
            await told(connection, each, SLOT.thing, SlotCreated(name="Top", ad_type="top_bar_ad"), issued)
            await found.of(each).serving.refresh(connection)
    for _ in range(2):  # it is remembered
        assert [found.of_slot_key(key).id for key in keys.values()] == list(keys)
    with pytest.raises(Unauthenticated):
        found.of_slot_key("lsk_nobody's")


def test_a_token_names_its_ledger() -> None:
    """Of hundreds of ledgers, the one that signed a token is found, and no other; a token of none is forged."""
    found = OpenLedgers(KEYS, viewer_key_days=90)
    opened = [found.of(clock.fresh_id()) for _ in range(LEDGERS_MANY)]
    for each in opened:
        signed = ticket()
        for token, verify, said in (
            (each.beacon_tokens.sign("click", signed), BeaconTokens.verify, ("click", signed)),
            (each.beacon_tokens.sign_notice(signed), BeaconTokens.verify_notice, signed),
            (each.beacon_tokens.sign_advertiser(each.id), BeaconTokens.verify_advertiser, each.id),
        ):
            ledger, read = found.verified(token, verify)
            assert ledger is each
            assert read == said
    token = OpenLedgers(KEYS, viewer_key_days=90).of(clock.fresh_id()).beacon_tokens.sign("view", ticket())
    for forged in (token, "", "v", "v-", "ä" * 9):
        with pytest.raises(TokenForged):
            found.verified(forged, BeaconTokens.verify)

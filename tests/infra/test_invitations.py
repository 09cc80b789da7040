"""Invitations: one for each address, accepted once also at once, bounded, and forgotten in the end."""

import asyncio
from typing import Final
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra import account_letters, clock, invitations, outbox, users
from infra.database import Connection, Pool
from infra.invitations import OPEN_MAX, AlreadyInvited, TooManyInvitations
from infra.keys import Keys
from infra.mailed_tokens import TokenUnfit
from infra.throttle import ATTEMPTS_PER_ADDRESS_MAX, Throttled

KEYS: Final = Keys(generations=(b"k" * 32,), signing_key=Ed25519PrivateKey.generate(), public_keys={}, kid="")
PASSWORD: Final = "a long walk home"

FILL: Final = """
    INSERT INTO invitations
    SELECT ledger_id, gen_random_uuid(), number || email, name, role, advertiser_ids, gen_random_uuid(), created_by,
        created_at, sent_at, expires_at
    FROM invitations, generate_series(2, %s) AS number
"""


async def invite(connection: Connection, ledger_id: UUID, email: str = "vera@example.com") -> UUID:
    """Invite somebody as a viewer."""
    return await invitations.invite(connection, ledger_id, keys=KEYS, email=email, role="viewer", by="user:test")


async def letter(connection: Connection, ledger_id: UUID) -> str | None:
    """Return the token in the letter that is due, if it is still worth one."""
    message = await outbox.claim(connection, ledger_id, account_letters.SUBSCRIBER)
    assert message is not None
    await outbox.forget(connection, message)
    found = await account_letters.prepared(connection, KEYS, message)
    return str(found[1]["token"]) if found else None


async def test_of_two_at_once_one_is_made(pool: Pool) -> None:
    """Several admins who invite one person at the same time make one invitation, and one letter."""
    ledger_id = clock.fresh_id()

    async def tried() -> bool:
        async with pool.connection() as connection:
            try:
                await invite(connection, ledger_id)
            except AlreadyInvited:
                return False
            return True

    assert sum(await asyncio.gather(*(tried() for _ in range(4)))) == 1
    async with pool.connection() as connection:
        assert await letter(connection, ledger_id) is not None
        assert await outbox.claim(connection, ledger_id, account_letters.SUBSCRIBER) is None


async def test_it_is_accepted_once_also_at_once(pool: Pool) -> None:
    """Of several who have the token and use it at the same time, one makes the account."""
    ledger_id = clock.fresh_id()
    async with pool.connection() as connection:
        await invite(connection, ledger_id)
        token = await letter(connection, ledger_id)
    assert token is not None

    async def accepted(number: int) -> bool:
        async with pool.connection() as connection:
            said = {"password": f"{PASSWORD} {number}", "name": str(number)}
            try:
                await invitations.accept(connection, KEYS, token, **said, signed_in=None)
            except TokenUnfit:
                return False
            return True

    assert sum(await asyncio.gather(*map(accepted, range(4)))) == 1
    async with pool.connection() as connection:
        assert len(await users.page(connection, ledger_id)) == 1


async def test_what_was_withdrawn_is_not_sent(pool: Pool) -> None:
    """An invitation that is withdrawn before its letter left is not written of, nor one that was sent again instead."""
    ledger_id = clock.fresh_id()
    async with pool.connection() as connection:
        first = await invite(connection, ledger_id)
        await invitations.send_again(connection, KEYS, ledger_id, first)
        assert await letter(connection, ledger_id) is None
        await invitations.withdraw(connection, ledger_id, first)
        assert await letter(connection, ledger_id) is None


async def test_how_many_are_open_is_bounded(pool: Pool) -> None:
    """With so many open invitations no more are made, until one is over."""
    ledger_id = clock.fresh_id()
    async with pool.connection() as connection:
        first = await invite(connection, ledger_id)
        await connection.execute(FILL, (OPEN_MAX,))
        with pytest.raises(TooManyInvitations):
            await invite(connection, ledger_id, "wanda@example.com")
        await invitations.withdraw(connection, ledger_id, first)
        await invite(connection, ledger_id, "wanda@example.com")


async def test_a_ledger_writes_to_so_many_strangers(pool: Pool) -> None:
    """After fifty letters in a quarter of an hour a ledger has to wait, and another has not."""
    ledger_id = clock.fresh_id()
    async with pool.connection() as connection:
        for number in range(ATTEMPTS_PER_ADDRESS_MAX):
            await invite(connection, ledger_id, f"{number}@example.com")
        with pytest.raises(Throttled):
            await invite(connection, ledger_id, "one.more@example.com")
        await invite(connection, clock.fresh_id(), "one.more@example.com")


async def test_what_is_past_is_forgotten(pool: Pool) -> None:
    """What ended three months ago is deleted; what ended later, or goes on, is not."""
    ledger_id = clock.fresh_id()
    ago = "UPDATE invitations SET expires_at = now() - %s::interval WHERE id = %s"
    async with pool.connection() as connection:
        made = [await invite(connection, ledger_id, f"{number}@example.com") for number in range(3)]
        for invitation_id, interval in zip(made, ("91 days", "89 days"), strict=False):
            await connection.execute(ago, (interval, invitation_id))
        assert await invitations.forget_past(connection) == 1
        left = await invitations.page(connection, ledger_id, status=None, after=None, limit=10)
    assert [(each.id, each.status) for each in left] == [(made[1], "expired"), (made[2], "open")]

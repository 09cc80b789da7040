"""The throttle: so many attempts to sign in and no more, also when they are made at once."""

import asyncio
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra import throttle
from infra.clock import fresh_id
from infra.database import Pool
from infra.keys import Keys
from infra.throttle import ATTEMPTS_PER_ACCOUNT_MAX, ATTEMPTS_PER_ADDRESS_MAX, WINDOW_SECONDS, Throttled

KEYS = Keys(generations=(b"k" * 32,), signing_key=Ed25519PrivateKey.generate(), public_keys={}, kid="")


def somebody() -> str:
    """Return an account, or a name for an address, that no other test has."""
    return fresh_id().hex


async def attempt(pool: Pool, *, account: str, address: str) -> int:
    """Count an attempt, and return how many seconds must be waited before it may be made."""
    async with pool.connection() as connection:
        try:
            await throttle.count(connection, KEYS, account=account, address=address)
        except Throttled as throttled:
            return throttled.retry_after_seconds
    return 0


async def pass_time(pool: Pool, seconds: int) -> None:
    """Move all windows into the past."""
    async with pool.connection() as connection:
        await connection.execute(
            "UPDATE login_attempts SET window_started_at = window_started_at - %(by)s",
            {"by": timedelta(seconds=seconds)},
        )


async def test_an_account_has_so_many_attempts(pool: Pool) -> None:
    """Attempts on one account are refused after the tenth, from whatever address, until its window is over."""
    account = somebody()
    waits = [await attempt(pool, account=account, address=somebody()) for _ in range(ATTEMPTS_PER_ACCOUNT_MAX)]
    assert waits == [0] * ATTEMPTS_PER_ACCOUNT_MAX
    assert WINDOW_SECONDS - 30 < await attempt(pool, account=account, address=somebody()) <= WINDOW_SECONDS
    await pass_time(pool, WINDOW_SECONDS - 60)
    assert 0 < await attempt(pool, account=account, address=somebody()) <= 60
    await pass_time(pool, 60)
    assert await attempt(pool, account=account, address=somebody()) == 0


async def test_an_address_has_so_many_attempts(pool: Pool) -> None:
    """Attempts from one address are refused after the fiftieth, on whatever accounts."""
    address = somebody()
    waits = [await attempt(pool, account=somebody(), address=address) for _ in range(ATTEMPTS_PER_ADDRESS_MAX)]
    assert waits == [0] * ATTEMPTS_PER_ADDRESS_MAX
    assert await attempt(pool, account=somebody(), address=address) > 0


async def test_attempts_at_once_are_all_counted(pool: Pool) -> None:
    """Of many parallel attempts, exactly as many may be made as one after the other."""
    account = somebody()
    waits = await asyncio.gather(*(attempt(pool, account=account, address=somebody()) for _ in range(30)))
    assert waits.count(0) == ATTEMPTS_PER_ACCOUNT_MAX
    address = somebody()
    waits = await asyncio.gather(*(attempt(pool, account=somebody(), address=address) for _ in range(70)))
    assert waits.count(0) == ATTEMPTS_PER_ADDRESS_MAX


async def test_accounts_and_addresses_crosswise_do_not_deadlock(pool: Pool) -> None:
    """Attempts that meet in both orders, with successes among them, all come to an end."""
    names = [somebody() for _ in range(3)]

    async def both(account: str, address: str) -> None:
        await attempt(pool, account=account, address=address)
        async with pool.connection() as connection:
            await throttle.succeeded(connection, KEYS, account=account, address=address)

    pairs = [(account, address) for account in names for address in names]
    await asyncio.gather(*(both(*pair) for pair in pairs * 5))


async def test_an_address_that_must_wait_blocks_no_account(pool: Pool) -> None:
    """What a refused address tries on does not count against anybody's account."""
    address, account = somebody(), somebody()
    for _ in range(ATTEMPTS_PER_ADDRESS_MAX):
        await attempt(pool, account=somebody(), address=address)
    for _ in range(ATTEMPTS_PER_ACCOUNT_MAX + 1):
        assert await attempt(pool, account=account, address=address) > 0
    assert await attempt(pool, account=account, address=somebody()) == 0


async def test_success_clears_the_account(pool: Pool) -> None:
    """Who signed in has all attempts again, and the address has one less against it."""
    account, address = somebody(), somebody()
    for _ in range(ATTEMPTS_PER_ACCOUNT_MAX):
        assert await attempt(pool, account=account, address=address) == 0
    async with pool.connection() as connection:
        await throttle.succeeded(connection, KEYS, account=account, address=address)
    waits = [await attempt(pool, account=account, address=somebody()) for _ in range(ATTEMPTS_PER_ACCOUNT_MAX + 1)]
    assert [wait > 0 for wait in waits] == [False] * ATTEMPTS_PER_ACCOUNT_MAX + [True]
    left = ATTEMPTS_PER_ADDRESS_MAX - ATTEMPTS_PER_ACCOUNT_MAX + 1
    waits = [await attempt(pool, account=somebody(), address=address) for _ in range(left + 1)]
    assert [wait > 0 for wait in waits] == [False] * left + [True]


async def test_many_people_behind_one_address_can_sign_in(pool: Pool) -> None:
    """Successes never add up against an address."""
    address = somebody()
    async with pool.connection() as connection:
        for _ in range(ATTEMPTS_PER_ADDRESS_MAX + 5):
            account = somebody()
            await throttle.count(connection, KEYS, account=account, address=address)
            await throttle.succeeded(connection, KEYS, account=account, address=address)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "unix", False),
    ],
)
async def test_one_machine_is_one_address(pool: Pool, one: str, other: str, same: bool) -> None:
    """The addresses of an IPv6 network of 64 bits count together, as does IPv4 written as IPv6."""
    async with pool.connection() as connection:
        for _ in range(ATTEMPTS_PER_ADDRESS_MAX):
            await throttle.count(connection, KEYS, account=somebody(), address=one)
    assert (await attempt(pool, account=somebody(), address=other) > 0) is same


async def test_neither_account_nor_address_is_stored(pool: Pool) -> None:
    """Rows are named by hashes under a key, which differ with the key, and any text can be hashed."""
    async with pool.connection() as connection:
        for secret in (b"k" * 32, b"l" * 32):
            keys = Keys(generations=(secret,), signing_key=KEYS.signing_key, public_keys={}, kid="")
            await throttle.count(connection, keys, account="\x00\ud800@example.com", address="192.0.2.1")
        rows = await (await connection.execute("SELECT subject_hash FROM login_attempts")).fetchall()
    assert {len(row["subject_hash"]) for row in rows} == {32}
    assert len({row["subject_hash"] for row in rows}) == 4


async def test_what_is_past_is_forgotten(pool: Pool) -> None:
    """Windows that are over are deleted, and those that go on are not."""
    account = somebody()
    await attempt(pool, account=somebody(), address=somebody())
    await pass_time(pool, WINDOW_SECONDS)
    for _ in range(ATTEMPTS_PER_ACCOUNT_MAX):
        await attempt(pool, account=account, address=somebody())
    async with pool.connection() as connection:
        assert await throttle.forget_past(connection) == 2
        assert await throttle.forget_past(connection) == 0
    assert await attempt(pool, account=account, address=somebody()) > 0

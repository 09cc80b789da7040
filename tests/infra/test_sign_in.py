"""Signing in: right or refused, counted beforehand, and telling nobody which accounts exist."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from passlib.hash import argon2

from infra import clock, passwords, sessions, users
from infra.access_audit import AccessAudit
from infra.database import Pool, open_pool
from infra.keys import Keys
from infra.sessions import Session
from infra.sign_in import SignInRefused, sign_in
from infra.throttle import ATTEMPTS_PER_ACCOUNT_MAX, Throttled
from infra.users import User
from infra.writer import LogBusy
from tests.writing import new_ledger, rows, writing

KEYS = Keys(generations=(b"k" * 32,), signing_key=Ed25519PrivateKey.generate(), public_keys={}, kid="")
PASSWORD = "a long walk home"


async def person(pool: Pool) -> User:
    """Return somebody who was just added."""
    async with pool.connection() as connection:
        email = f"{clock.fresh_id().hex}@example.com"
        return await users.create(
            connection, await new_ledger(connection), email=email, password=PASSWORD, role="auditor"
        )


@pytest.fixture
async def audit(database_url: str) -> AsyncIterator[AccessAudit]:
    """What tells the log of it."""
    async with writing(database_url) as writer:
        yield AccessAudit(writer, 7)


async def attempt(pool: Pool, audit: AccessAudit, email: str, password: str) -> Session:
    """Try to sign in, from an address that nobody else has."""
    return await sign_in(pool, KEYS, audit, email=email, password=password, address=clock.fresh_id().hex)


async def test_the_right_password_begins_a_session(pool: Pool, audit: AccessAudit) -> None:
    """Who knows the password is signed in, however the address is written."""
    user = await person(pool)
    session = await attempt(pool, audit, f" {user.email.upper()} ", PASSWORD)
    assert session.user == user
    async with pool.connection() as connection:
        assert (await sessions.rotate(connection, session.refresh_token)).user == user


@pytest.mark.parametrize(
    "password", ["", "a wrong password", "A LONG WALK HOME", PASSWORD + "\x00", "\ud800", "x" * 10_000]
)
async def test_any_other_password_is_refused(pool: Pool, audit: AccessAudit, password: str) -> None:
    """A wrong password and an unknown address are refused in the same words."""
    user = await person(pool)
    for email in (user.email, "nobody@example.com", "", "no address", "\x00", "\ud800@example.com"):
        with pytest.raises(SignInRefused) as refused:
            await attempt(pool, audit, email, password)
        assert str(refused.value) == SignInRefused.__doc__


async def test_who_is_deactivated_cannot_sign_in(pool: Pool, audit: AccessAudit) -> None:
    """The right password of a deactivated account is refused like a wrong one."""
    user = await person(pool)
    async with pool.connection() as connection:
        await users.change(connection, user.ledger_id, user.id, active=False)
    with pytest.raises(SignInRefused):
        await attempt(pool, audit, user.email, PASSWORD)


async def test_guesses_are_bounded(pool: Pool, audit: AccessAudit) -> None:
    """Of many guesses at once only so many are looked at, and then even the right password must wait."""
    user = await person(pool)
    guesses = [attempt(pool, audit, user.email, "a wrong password") for _ in range(25)]
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(outcome, SignInRefused) for outcome in outcomes) == ATTEMPTS_PER_ACCOUNT_MAX
    assert sum(isinstance(outcome, Throttled) for outcome in outcomes) == 25 - ATTEMPTS_PER_ACCOUNT_MAX
    with pytest.raises(Throttled) as throttled:
        await attempt(pool, audit, user.email, PASSWORD)
    assert throttled.value.retry_after_seconds > 0


async def test_success_gives_the_attempts_back(pool: Pool, audit: AccessAudit) -> None:
    """Failures before a success do not count any more."""
    user = await person(pool)
    for _ in range(2):
        for _ in range(ATTEMPTS_PER_ACCOUNT_MAX - 1):
            with pytest.raises(SignInRefused):
                await attempt(pool, audit, user.email, "a wrong password")
        await attempt(pool, audit, user.email, PASSWORD)


async def test_unknown_accounts_are_throttled_alike(pool: Pool, audit: AccessAudit) -> None:
    """Whether an address has to wait does not tell whether it has an account."""
    for _ in range(ATTEMPTS_PER_ACCOUNT_MAX):
        with pytest.raises(SignInRefused):
            await attempt(pool, audit, "nobody@example.com", PASSWORD)
    with pytest.raises(Throttled):
        await attempt(pool, audit, "Nobody@example.com", PASSWORD)


async def test_an_unknown_account_takes_as_long(pool: Pool, audit: AccessAudit) -> None:
    """The work behind a refusal, hence its time, does not tell whether an account exists."""

    async def seconds(email: str) -> float:
        begin = time.process_time()
        with pytest.raises(SignInRefused):
            await attempt(pool, audit, email, "a wrong password")
        return time.process_time() - begin

    user = await person(pool)
    known, unknown = [], []
    for number in range(ATTEMPTS_PER_ACCOUNT_MAX):
        known.append(await seconds(user.email))
        unknown.append(await seconds(f"nobody{number}@example.com"))
    assert min(unknown) == pytest.approx(min(known), rel=0.5)


async def test_a_hash_of_old_parameters_is_made_anew(pool: Pool, audit: AccessAudit) -> None:
    """Who signs in with a password that was hashed at another cost has it hashed at today's, and stays signed in."""
    user = await person(pool)
    old = argon2.using(memory_cost=1_024, time_cost=1, parallelism=1).hash(PASSWORD)
    async with pool.connection() as connection:
        found = await users.by_email(connection, user.email)
        assert found is not None
        await users.rehash(connection, user, password_hash=found[1], better=old)
        session = await attempt(pool, audit, user.email, PASSWORD)
        found = await users.by_email(connection, user.email)
        assert found is not None
        assert not passwords.needs_rehash(found[1])
        await sessions.rotate(connection, session.refresh_token)
    await attempt(pool, audit, user.email, PASSWORD)


async def test_a_password_that_changes_meanwhile_is_refused(pool: Pool, audit: AccessAudit) -> None:
    """A password that was right when it was verified begins no session after it has changed."""
    user = await person(pool)
    async with pool.connection() as connection, connection.transaction():
        await users.set_password(connection, user.ledger_id, user.id, "another long walk")
        signing_in = asyncio.create_task(attempt(pool, audit, user.email, PASSWORD))
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        async with asyncio.timeout(60):
            while await (await connection.execute(waiting)).fetchone() is None:
                pass
    with pytest.raises(SignInRefused):
        await signing_in


async def test_no_connection_is_held_while_a_password_is_hashed(database_url: str, audit: AccessAudit) -> None:
    """While somebody signs in, others use the only connection there is."""
    async with open_pool(database_url, size_max=1) as pool:
        user = await person(pool)
        signing_in = asyncio.create_task(attempt(pool, audit, user.email, PASSWORD))
        turns = 0
        while not signing_in.done():
            async with pool.connection() as connection:
                await connection.execute("SELECT 1")
            turns += 1
        assert (await signing_in).user == user
        assert turns > 10


async def test_who_signs_in_is_in_the_log(pool: Pool, audit: AccessAudit) -> None:
    """A sign-in is an entry about the person, with the session and the network, and without name or address."""
    user = await person(pool)
    session = await sign_in(pool, KEYS, audit, email=user.email, password=PASSWORD, address="192.0.2.77")
    async with pool.connection() as connection:
        (row,) = await rows(connection, "SELECT stream_id, entry::text FROM events")
    assert row["stream_id"] == f"access-{user.id}"
    event = {"type": "signed_in", "network": "192.0.2.0/24", "session_id": str(session.id)}
    said = json.loads(row["entry"])
    assert (said["actor"], said["event"]) == (f"user:{user.id}", event)
    assert "example.com" not in row["entry"]
    assert ".77" not in row["entry"]


async def test_nobody_signs_in_unrecorded(pool: Pool, database_url: str) -> None:
    """A log that cannot be told of a sign-in lets nobody in, and no session is left behind."""
    user = await person(pool)
    async with writing(database_url) as writer:
        writer.close()
        with pytest.raises(LogBusy):
            await attempt(pool, AccessAudit(writer, 7), user.email, PASSWORD)
    async with pool.connection() as connection:
        assert await sessions.of_person(connection, user.id) == []
        assert await rows(connection, "SELECT FROM events") == []


async def test_who_is_refused_is_counted_by_account_and_reason(pool: Pool, audit: AccessAudit) -> None:
    """Refusals are one entry an interval, with a line for each reason; unknown accounts are of no ledger."""
    user = await person(pool)
    for _ in range(ATTEMPTS_PER_ACCOUNT_MAX + 2):
        for email in (user.email, "nobody@example.com"):
            with pytest.raises((SignInRefused, Throttled)):
                await sign_in(pool, KEYS, audit, email=email, password="a wrong password", address="192.0.2.77")
    await audit.append()
    await audit.append()
    async with pool.connection() as connection:
        (row,) = await rows(connection, "SELECT entry FROM events")
    known = {"kind": "sign_in_refused", "actor": f"user:{user.id}", "network": "192.0.2.0/24"}
    assert row["entry"]["event"]["lines"] == [
        known | {"reason": "password", "count": ATTEMPTS_PER_ACCOUNT_MAX},
        known | {"reason": "throttled", "count": 2},
    ]

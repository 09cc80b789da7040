"""Sessions: every refresh token is good for one use, and a second use ends the session, however the uses meet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256

import pytest

from infra import clock, sessions, users
from infra.database import Connection, Pool
from infra.sessions import SESSION_DAYS, Session, SessionRefused
from infra.users import User

PASSWORD = "a long walk home"
WAIT_SECONDS_MAX = 10


async def person(pool: Pool) -> tuple[User, str]:
    """Return somebody who was just added, and the hash of their password."""
    async with pool.connection() as connection:
        email = f"{clock.fresh_id().hex}@example.com"
        await users.create(connection, clock.fresh_id(), email=email, password=PASSWORD, role="manager")
        found = await users.by_email(connection, email)
    assert found is not None
    return found


async def started(pool: Pool) -> Session:
    """Return a new session of a new person."""
    user, password_hash = await person(pool)
    async with pool.connection() as connection:
        return await sessions.start(connection, user, password_hash=password_hash)


async def rotate(pool: Pool, token: str) -> Session | str:
    """Use a token, and return the session or why it was refused."""
    async with pool.connection() as connection:
        try:
            return await sessions.rotate(connection, token)
        except SessionRefused as refused:
            return refused.reason


async def rotated(pool: Pool, token: str) -> str:
    """Use a token that must be good, and return the next."""
    session = await rotate(pool, token)
    assert isinstance(session, Session)
    return session.refresh_token


@asynccontextmanager
async def somebody_waits(pool: Pool) -> AsyncIterator[Connection]:
    """Yield a connection in a transaction; it is committed when another connection waits for a lock of it."""
    async with pool.connection() as connection, connection.transaction():
        yield connection
        query = "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while await (await connection.execute(query)).fetchone() is None:
                pass


async def test_a_token_is_exchanged_for_the_next(pool: Pool) -> None:
    """Each use gives another token of the same person, and the session's end does not move."""
    first = await started(pool)
    second = await rotate(pool, first.refresh_token)
    assert isinstance(second, Session)
    third = await rotate(pool, second.refresh_token)
    assert isinstance(third, Session)
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert first.user == second.user == third.user
    assert first.expires_at == second.expires_at == third.expires_at
    assert timedelta(0) <= clock.now() + timedelta(days=SESSION_DAYS) - first.expires_at < timedelta(minutes=1)


async def test_only_the_hash_is_kept(pool: Pool) -> None:
    """The table holds the SHA-256 of a token, and neither the table nor a representation holds the token."""
    session = await started(pool)
    async with pool.connection() as connection:
        query = "SELECT *, refresh_tokens::text AS all FROM refresh_tokens WHERE user_id = %(user_id)s"
        rows = await (await connection.execute(query, {"user_id": session.user.id})).fetchall()
    assert [row["token_sha256"] for row in rows] == [sha256(session.refresh_token.encode()).digest()]
    assert session.refresh_token not in rows[0]["all"]
    assert session.refresh_token not in repr(session)


async def test_using_a_token_again_ends_its_session(pool: Pool) -> None:
    """A thief who comes late ends the session, and so does the person after a thief was faster."""
    first = await started(pool)
    second = await rotated(pool, first.refresh_token)
    assert await rotate(pool, first.refresh_token) == "used before"
    assert await rotate(pool, second) == "ended"
    assert await rotate(pool, first.refresh_token) == "ended"


async def test_other_sessions_of_the_person_go_on(pool: Pool) -> None:
    """A reused token ends the session it belongs to, and no other."""
    user, password_hash = await person(pool)
    async with pool.connection() as connection:
        here = await sessions.start(connection, user, password_hash=password_hash)
        there = await sessions.start(connection, user, password_hash=password_hash)
    await rotated(pool, here.refresh_token)
    assert await rotate(pool, here.refresh_token) == "used before"
    await rotated(pool, there.refresh_token)


async def test_of_uses_at_once_one_wins_and_the_session_ends(pool: Pool) -> None:
    """Parallel uses of one token give one next token, which the other uses have made worthless."""
    for _ in range(5):
        token = (await started(pool)).refresh_token
        outcomes = await asyncio.gather(*(rotate(pool, token) for _ in range(6)))
        winners = [outcome for outcome in outcomes if isinstance(outcome, Session)]
        assert len(winners) == 1
        assert sorted(outcome for outcome in outcomes if isinstance(outcome, str)) == ["ended"] * 4 + ["used before"]
        assert await rotate(pool, winners[0].refresh_token) == "ended"


async def test_a_reuse_ends_also_what_is_issued_at_that_moment(pool: Pool) -> None:
    """When an old token is used while the newest is being exchanged, the outcome of the exchange is worthless."""
    for _ in range(10):
        first = (await started(pool)).refresh_token
        second = await rotated(pool, first)
        reuse, exchange = await asyncio.gather(rotate(pool, first), rotate(pool, second))
        assert reuse == "used before"
        newest = exchange.refresh_token if isinstance(exchange, Session) else second
        assert await rotate(pool, newest) == "ended"


async def test_a_token_cannot_be_used_while_its_person_is_deactivated(pool: Pool) -> None:
    """A use that arrives during a deactivation waits for it, and is refused."""
    session = await started(pool)
    async with somebody_waits(pool) as connection:
        await users.change(connection, session.user.ledger_id, session.user.id, active=False)
        use = asyncio.create_task(rotate(pool, session.refresh_token))
    assert await use == "ended"


async def test_a_session_cannot_begin_while_the_password_changes(pool: Pool) -> None:
    """A sign-in whose password was verified just before it changed begins no session."""
    user, password_hash = await person(pool)

    async def start() -> None:
        async with pool.connection() as connection:
            await sessions.start(connection, user, password_hash=password_hash)

    async with somebody_waits(pool) as connection:
        await users.set_password(connection, user.ledger_id, user.id, "another long walk")
        beginning = asyncio.create_task(start())
    with pytest.raises(SessionRefused):
        await beginning


async def test_an_inactive_person_is_refused(pool: Pool) -> None:
    """Who is not active cannot prolong a session that nobody ended."""
    session = await started(pool)
    async with pool.connection() as connection:
        await connection.execute("UPDATE members SET active = false WHERE user_id = %(id)s", {"id": session.user.id})
    assert await rotate(pool, session.refresh_token) == "deactivated"


async def test_a_session_expires(pool: Pool) -> None:
    """After its end a session is refused; then its tokens are forgotten, and those of other sessions are not."""
    session, other = await started(pool), await started(pool)
    second = await rotated(pool, session.refresh_token)
    async with pool.connection() as connection:
        past = {"user_id": session.user.id, "expires_at": clock.now()}
        await connection.execute(
            "UPDATE refresh_tokens SET expires_at = %(expires_at)s WHERE user_id = %(user_id)s", past
        )
        assert await rotate(pool, second) == "expired"
        assert await sessions.forget_past(connection) == 2
    assert await rotate(pool, second) == "unknown"
    await rotated(pool, other.refresh_token)


async def test_a_session_that_nobody_uses_ends(pool: Pool) -> None:
    """Seven days after its last use a session is refused and not listed; what was used since goes on."""
    idle, used = await started(pool), await started(pool)
    idle_token, used_token = await rotated(pool, idle.refresh_token), used.refresh_token
    async with pool.connection() as connection:
        for session, days in ((idle, 7), (used, 6)):
            await connection.execute(
                "UPDATE refresh_tokens SET issued_at = %s WHERE user_id = %s",
                (clock.now() - timedelta(days=days), session.user.id),
            )
        assert await sessions.of_person(connection, idle.user.id) == []
        assert [each.id for each in await sessions.of_person(connection, used.user.id)] == [used.id]
        with pytest.raises(SessionRefused, match="has ended"):
            await sessions.rotate(connection, used_token, idle_days=6)
    assert await rotate(pool, idle_token) == "idle"
    assert await rotate(pool, idle.refresh_token) == "used before"
    await rotated(pool, await rotated(pool, used_token))


async def test_signing_out_ends_the_session(pool: Pool) -> None:
    """After signing out with any token of a session, none of it is good."""
    for use_first in (False, True):
        first = (await started(pool)).refresh_token
        newest = await rotated(pool, first) if use_first else first
        async with pool.connection() as connection:
            await sessions.end(connection, first)
            await sessions.end(connection, first)
        assert await rotate(pool, newest) == "ended"


@pytest.mark.parametrize("token", ["", "unknown", "A" * 43, "\x00", "\ud800", "x" * 1_000_000])
async def test_what_is_no_token_is_refused(pool: Pool, token: str) -> None:
    """Any other text neither prolongs nor ends a session."""
    assert await rotate(pool, token) == "unknown"
    async with pool.connection() as connection:
        with pytest.raises(SessionRefused):
            await sessions.end(connection, token)

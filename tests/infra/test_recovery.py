"""Forgotten passwords: what is done is the same for everybody, and what was mailed is good once, for a while."""

import asyncio
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from infra import account_letters, account_tokens, clock, mailed_tokens, outbox, recovery, users
from infra.account_letters import SUBSCRIBER
from infra.database import Connection, Pool
from infra.keys import Keys
from infra.mailed_tokens import TokenUnfit
from infra.users import User

KEYS: Final = Keys(generations=(b"k" * 32,), signing_key=Ed25519PrivateKey.generate(), public_keys={}, kid="")
PASSWORD: Final = "a long walk home"
OTHER_PASSWORD: Final = "a short walk elsewhere"


class Recorded(Connection):
    """A connection that keeps what it was asked."""

    said: Final[list[Any]] = []

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Keep the query, and run it."""
        self.said.append(query)
        return await super().execute(query, params, **options)


async def person(pool: Pool, *, active: bool = True) -> User:
    """Return somebody who was just added."""
    async with pool.connection() as connection:
        email = f"{clock.fresh_id().hex}@example.com"
        user = await users.create(connection, clock.fresh_id(), email=email, password=PASSWORD, role="viewer")
        return user if active else await users.change(connection, user.ledger_id, user.id, active=False)


async def asked(pool: Pool, email: str, ledger_id: UUID | None = None) -> None:
    """Ask for a token, from an address that nobody else has."""
    await recovery.ask(pool, KEYS, ledger_id or clock.fresh_id(), email=email, address=clock.fresh_id().hex)


async def letter(connection: Connection, ledger_id: UUID) -> dict[str, Any] | None:
    """Return what the letter says that is due, as whoever sends it would; it is sent then."""
    message = await outbox.claim(connection, ledger_id, SUBSCRIBER)
    assert message is not None
    await outbox.forget(connection, message)
    found = await account_letters.prepared(connection, KEYS, message)
    return None if found is None else {"to": found[0], **found[1]}


async def token_of(connection: Connection, user: User) -> str:
    """Return the token that is mailed to somebody."""
    said = await letter(connection, user.ledger_id)
    assert said is not None
    assert (said["to"], said["purpose"]) == (user.email, "reset")
    return str(said["token"])


async def test_what_is_done_does_not_tell_who_has_an_account(pool: Pool, database_url: str) -> None:
    """For a known address, a closed account and an unknown address the same statements write the same rows."""
    known, closed = await person(pool), await person(pool, active=False)
    counted = "SELECT (SELECT count(*) FROM account_tokens) AS tokens, (SELECT count(*) FROM outbox) AS letters"
    done = []
    options = {"autocommit": True, "row_factory": dict_row}
    recording: Pool = AsyncConnectionPool(database_url, connection_class=Recorded, open=False, kwargs=options)
    async with recording:
        for email in (known.email, closed.email, "nobody@example.com"):
            Recorded.said.clear()
            await asked(recording, email)
            said = list(Recorded.said)
            async with pool.connection() as connection:
                done.append((said, await (await connection.execute(counted)).fetchone()))
    assert done[0][0] == done[1][0] == done[2][0]
    assert len(done[0][0]) > 3
    assert [rows for _, rows in done] == [{"tokens": number, "letters": number} for number in (1, 2, 3)]


async def test_only_who_has_an_account_is_written_to(pool: Pool) -> None:
    """What was written for nobody, or for a closed account, becomes no letter; and is gone then."""
    known, closed, ledger_id = await person(pool), await person(pool, active=False), clock.fresh_id()
    for email in (known.email, closed.email, "nobody@example.com"):
        await asked(pool, email, ledger_id)
    async with pool.connection() as connection:
        assert await letter(connection, ledger_id) is None
        assert await letter(connection, closed.ledger_id) is None
        assert (await letter(connection, known.ledger_id) or {})["to"] == known.email
        assert await (await connection.execute("SELECT name FROM outbox")).fetchall() == []


async def test_a_token_is_nowhere_in_the_database(pool: Pool, database_url: str) -> None:
    """Neither the token nor its hash is stored: what stands there does not let anybody write it."""
    user = await person(pool)
    await asked(pool, user.email)
    with psycopg.connect(database_url) as owner:
        rows = owner.execute("SELECT t::text FROM account_tokens t UNION ALL SELECT o::text FROM outbox o").fetchall()
    async with pool.connection() as connection:
        token = await token_of(connection, user)
    assert len(rows) == 2
    assert not any(token[-20:] in row for (row,) in rows)


async def test_a_token_is_good_once_also_at_once(pool: Pool) -> None:
    """Of many who use one token at the same time, one sets the password; what else was mailed is worthless then."""
    user = await person(pool)
    async with pool.connection() as connection:
        tokens = []
        for _ in range(2):
            await asked(pool, user.email)
            tokens.append(await token_of(connection, user))

    async def used(number: int) -> int | None:
        async with pool.connection() as connection:
            try:
                await recovery.reset(connection, KEYS, tokens[0], password=f"{OTHER_PASSWORD} {number}")
            except TokenUnfit:
                return None
            return number

    winners = [number for number in await asyncio.gather(*map(used, range(4))) if number is not None]
    assert len(winners) == 1
    async with pool.connection() as connection:
        with pytest.raises(TokenUnfit):
            await recovery.reset(connection, KEYS, tokens[1], password=OTHER_PASSWORD)


async def test_a_token_is_good_for_its_purpose_and_its_ledger(pool: Pool) -> None:
    """A token to reset verifies nothing, and with another ledger, id or secret in it, it is none."""
    user = await person(pool)
    await asked(pool, user.email)
    async with pool.connection() as connection:
        token = await token_of(connection, user)
    ledger_id, token_id = mailed_tokens.read(KEYS, "reset", token)
    assert ledger_id == user.ledger_id
    later = Keys(generations=(b"l" * 32, b"k" * 32), signing_key=KEYS.signing_key, public_keys={}, kid="")
    assert mailed_tokens.read(later, "reset", token) == (ledger_id, token_id)
    forged = [
        mailed_tokens.written(KEYS, "verification", ledger_id, token_id),
        mailed_tokens.written(KEYS, "reset", clock.fresh_id(), token_id),
        mailed_tokens.written(KEYS, "reset", ledger_id, clock.fresh_id()),
        mailed_tokens.written(later, "reset", ledger_id, token_id),
        *(token[:-1], token + "A", token[:-1] + ("A" if token[-1] != "A" else "B"), "", "é" * 64, "A" * 64),
    ]
    async with pool.connection() as connection:
        for each in forged:
            with pytest.raises(TokenUnfit):
                await recovery.reset(connection, KEYS, each, password=OTHER_PASSWORD)
        await recovery.reset(connection, KEYS, token, password=OTHER_PASSWORD)


async def test_what_is_past_is_forgotten(pool: Pool) -> None:
    """Expired tokens are deleted, and letters that could not be sent after a month; what is good is not."""
    user = await person(pool)
    async with pool.connection() as connection:
        for _ in range(2):
            await asked(pool, user.email)
            await connection.execute("UPDATE outbox SET parked_at = now()")
        assert (await account_tokens.forget_past(connection), await account_letters.forget_past(connection)) == (0, 0)
        await connection.execute(
            "UPDATE account_tokens SET expires_at = now() WHERE id = (SELECT min(id::text)::uuid FROM account_tokens)"
        )
        await connection.execute(
            "UPDATE outbox SET parked_at = now() - interval '31 days' WHERE name = (SELECT min(name) FROM outbox)"
        )
        assert (await account_tokens.forget_past(connection), await account_letters.forget_past(connection)) == (1, 1)

"""Forgotten passwords: a token is mailed to the address, and whoever has it chooses another password.

Asking tells nobody who has an account. For an address that nobody has, the same rows are written, for an account that
there is not; that nobody can be written to is found out later, by who sends the letters.
"""

from uuid import UUID

from infra import account_tokens, addresses, clock, throttle, users
from infra.database import Connection, Pool
from infra.keys import Keys
from infra.mailed_tokens import TokenUnfit
from infra.users import User


async def ask(pool: Pool, keys: Keys, ledger_id: UUID, *, email: str, address: str) -> None:
    """Mail a token to who has an account with an address, if anybody has; raise Throttled."""
    account = users.canonical(email)
    async with pool.connection() as connection:
        await throttle.count(connection, keys, account=f"forgotten {account or email}", address=address)
        if account is None:
            return
        found = await users.by_email(connection, account)
        owner = (found[0].ledger_id, found[0].id) if found else (ledger_id, clock.fresh_id())
        await account_tokens.mail(connection, "reset", ledger_id=owner[0], user_id=owner[1], email=account)


async def reset(connection: Connection, keys: Keys, token: str, *, password: str) -> User:
    """Give somebody another password, which ends their sessions and whatever else was mailed to them; return them.

    A second factor is asked for at the next sign-in as ever. Raises TokenUnfit, or PasswordTooWeak, after which the
    token is as good as before.
    """
    async with connection.transaction():
        held = await account_tokens.used(connection, keys, "reset", token)
        if await addresses.proven(connection, held.ledger_id, held.user_id, held.email) is None:
            raise TokenUnfit
        return await users.set_password(connection, held.ledger_id, held.user_id, password)

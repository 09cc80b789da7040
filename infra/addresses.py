"""E-mail addresses of accounts: proven by what was mailed to them, and changed to another that was proven first."""

from typing import Final
from uuid import UUID

import msgspec
import psycopg

from domain.errors import Refusal
from infra import account_letters, account_tokens, clock, sign_in, throttle, users
from infra.access_audit import AccessAudit
from infra.account_letters import moment
from infra.account_tokens import Held
from infra.database import Connection, Pool
from infra.keys import Keys
from infra.mailed_tokens import TokenUnfit
from infra.users import END_TOKENS, EmailTaken, EmailUnfit, User


class AlreadyVerified(Refusal):
    """The e-mail address is proven already."""

    kind = "conflict"
    code = "already_verified"


_COLUMNS: Final = ", ".join(User.__struct_fields__)

# Note that somebody reads the mail of the address that they have.
PROVE: Final = f"""
    UPDATE people SET email_verified = true FROM members
    WHERE user_id = id AND ledger_id = %(ledger_id)s AND id = %(user_id)s AND email = %(email)s AND active
    RETURNING {_COLUMNS}
"""

LOCK: Final = """
    SELECT email FROM users WHERE ledger_id = %(ledger_id)s AND id = %(user_id)s AND active FOR UPDATE
"""

MOVE: Final = """
    UPDATE people SET email = %(email)s, email_verified = true WHERE id = %(user_id)s
"""


async def ask_again(pool: Pool, keys: Keys, user: User, *, address: str) -> None:
    """Mail somebody a token that proves their address; raise AlreadyVerified or Throttled."""
    if user.email_verified:
        raise AlreadyVerified("This e-mail address is proven already.")
    await _ask(pool, keys, user, email=user.email, address=address)


async def ask_to_change(
    pool: Pool, keys: Keys, audit: AccessAudit, user: User, *, email: str, password: str, address: str
) -> None:
    """Mail a token to the address that somebody wants to have; raise EmailUnfit, WrongPassword or Throttled.

    Whether another account has that address is not told: only who reads its mail will know.
    """
    wanted = users.canonical(email)
    if wanted is None:
        raise EmailUnfit("This is not an e-mail address.", pointer="/email")
    await sign_in.prove(pool, keys, audit, user, password=password, address=address)
    await _ask(pool, keys, user, email=wanted, address=address)


async def verify(connection: Connection, keys: Keys, token: str) -> Held | None:
    """Note that an address was proven; if its owner had another until now, tell that one, and mail to it opens nothing.

    Returns what the token was for, if it changed the address.

    Raises TokenUnfit, or EmailTaken to who has proven to read the mail of somebody else's address as well.
    """
    async with connection.transaction():
        held = await account_tokens.used(connection, keys, "verification", token)
        if await proven(connection, held.ledger_id, held.user_id, held.email) is not None:
            return None
        await _move(connection, held)
    return held


async def proven(connection: Connection, ledger_id: UUID, user_id: UUID, email: str) -> User | None:
    """Note that an active person reads the mail of the address that they have; None: it is not theirs."""
    named = {"ledger_id": ledger_id, "user_id": user_id, "email": email}
    row = await (await connection.execute(PROVE, named)).fetchone()
    return msgspec.convert(row, User) if row else None


async def _ask(pool: Pool, keys: Keys, user: User, *, email: str, address: str) -> None:
    async with pool.connection() as connection:
        await throttle.count(connection, keys, account=f"verification {email}", address=address)
        await account_tokens.mail(connection, "verification", ledger_id=user.ledger_id, user_id=user.id, email=email)


async def _move(connection: Connection, held: Held) -> None:
    named = msgspec.structs.asdict(held)
    before = await (await connection.execute(LOCK, named)).fetchone()
    if before is None:
        raise TokenUnfit
    try:
        await connection.execute(MOVE, named)
    except psycopg.errors.UniqueViolation as error:
        raise EmailTaken("Another account has this e-mail address.", pointer="/token") from error
    await connection.execute(END_TOKENS, named)
    at = moment(clock.now())
    await account_letters.put(connection, held.ledger_id, "email_changed", held.id, to=before["email"], at=at)

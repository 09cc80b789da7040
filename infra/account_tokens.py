"""What is mailed to somebody who has an account, or might have one, and is good once: for one purpose, for a while.

That a token was used is that it is gone. A change of the password takes all others of the same person with it.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from infra import account_letters, clock, mailed_tokens
from infra.account_letters import Reason, moment
from infra.database import Connection, see
from infra.keys import Keys
from infra.mailed_tokens import TokenUnfit

Purpose = Literal["registration", "reset", "verification"]

LIVES: Final[Mapping[Purpose, timedelta]] = {
    "registration": timedelta(days=1),
    "reset": timedelta(hours=1),
    "verification": timedelta(days=1),
}

_LETTERS: Final[Mapping[Purpose, Reason]] = {
    "registration": "registration",
    "reset": "password_reset",
    "verification": "verification",
}


class Held(Struct, frozen=True, kw_only=True):
    """Who a token was for, and the address that it was mailed to, whose mail whoever has it reads."""

    ledger_id: UUID
    id: UUID
    user_id: UUID
    email: str


INSERT: Final = """
    INSERT INTO account_tokens (ledger_id, id, user_id, purpose, email, created_at, expires_at)
    VALUES (%(ledger_id)s, %(id)s, %(user_id)s, %(purpose)s, %(email)s, %(now)s, %(expires_at)s)
"""

# Of two who use one token at once, the second waits and finds it gone.
USE: Final = """
    DELETE FROM account_tokens
    WHERE ledger_id = %(ledger_id)s AND id = %(id)s AND purpose = %(purpose)s AND expires_at > %(now)s
    RETURNING ledger_id, id, user_id, email
"""

FORGET_PAST: Final = "DELETE FROM account_tokens WHERE expires_at <= %(now)s"


async def mail(connection: Connection, purpose: Purpose, *, ledger_id: UUID, user_id: UUID, email: str) -> None:
    """Make a token, and the letter that takes it to an address, both or neither."""
    token_id, now = clock.fresh_id(), clock.now()
    expires_at = now + LIVES[purpose]
    row = {"ledger_id": ledger_id, "id": token_id, "user_id": user_id, "purpose": purpose, "email": email}
    await see(connection, ledger_id)  # whoever has forgotten a password is nowhere yet
    async with connection.transaction():
        await connection.execute(INSERT, row | {"now": now, "expires_at": expires_at})
        until = moment(expires_at)
        await account_letters.put(connection, ledger_id, _LETTERS[purpose], token_id, to=email, until=until)


async def used(connection: Connection, keys: Keys, purpose: Purpose, token: str) -> Held:
    """Use a token up, in the transaction of what it opens, and return who it was for; raise TokenUnfit.

    For the rest of the transaction, the connection looks at the ledger that the token was made in.
    """
    ledger_id, token_id = mailed_tokens.read(keys, purpose, token)
    await see(connection, ledger_id)
    asked = {"ledger_id": ledger_id, "id": token_id, "purpose": purpose, "now": clock.now()}
    found = await (await connection.execute(USE, asked)).fetchone()
    if found is None:
        raise TokenUnfit
    return msgspec.convert(found, Held)


async def forget_past(connection: Connection) -> int:
    """Delete tokens that have expired, and return how many; to be called now and then."""
    return (await connection.execute(FORGET_PAST, {"now": clock.now()})).rowcount

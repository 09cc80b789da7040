"""Letters about accounts: tokens, and what somebody should hear about an account of theirs.

They follow from no entry of the log, so whoever acts puts them into the outbox in the transaction that acts: neither is
there without the other. They wait there apart from news, and go before them. With a letter that was sent its row is
gone, and with it the address; the token of a letter was never in it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from infra import clock, mailed_tokens, outbox
from infra.database import Connection
from infra.keys import Keys
from infra.mailed_tokens import Purpose
from infra.outbox import Message

Reason = Literal["invitation", "registration", "verification", "password_reset", "email_changed", "new_sign_in"]

SUBSCRIBER: Final = "accounts"
PARKED_DAYS_MAX: Final = 30

PURPOSES: Final[Mapping[Reason, Purpose]] = {
    "invitation": "invitation",
    "registration": "registration",
    "verification": "verification",
    "password_reset": "reset",
}
"""Which letters hold a token, and what for."""

# A token that was used, replaced, withdrawn or has expired meanwhile, or that is nobody's, is not worth a letter.
GOOD: Final = """
    SELECT 1 FROM account_tokens AS token
    JOIN users AS person ON person.ledger_id = token.ledger_id AND person.id = token.user_id
    WHERE token.ledger_id = %(ledger_id)s AND token.id = %(token_id)s AND token.expires_at > %(now)s AND person.active
    UNION ALL
    SELECT 1 FROM account_tokens AS token
    WHERE ledger_id = %(ledger_id)s AND id = %(token_id)s AND expires_at > %(now)s AND purpose = 'registration'
        AND NOT EXISTS (SELECT FROM people WHERE people.email = token.email)
    UNION ALL
    SELECT 1 FROM invitations
    WHERE ledger_id = %(ledger_id)s AND token_id = %(token_id)s AND expires_at > %(now)s
        AND accepted_at IS NULL AND withdrawn_at IS NULL
"""

FORGET_PAST: Final = "DELETE FROM outbox WHERE subscriber = %(subscriber)s AND parked_at <= %(begin)s"


async def put(
    connection: Connection, ledger_id: UUID, reason: Reason, letter_id: UUID, *, to: str, **told: str | None
) -> None:
    """Put a letter into the outbox, in the transaction of what it is about; one with a token has the id of that."""
    content = {"reason": reason, "id": letter_id, "to": to, **told}
    await outbox.put(connection, ledger_id, SUBSCRIBER, f"{reason}/{letter_id}", content)


async def prepared(connection: Connection, keys: Keys, message: Message) -> tuple[str, dict[str, Any]] | None:
    """Return to whom a letter goes, and the token in it if it has one; None, when nobody could use it any more."""
    content = message.content or {}
    purpose = PURPOSES.get(content["reason"])
    if purpose is None:
        return content["to"], {}
    token_id = UUID(content["id"])
    asked = {"ledger_id": message.ledger_id, "token_id": token_id, "now": clock.now()}
    if not (await connection.execute(GOOD, asked)).rowcount:
        return None
    token = mailed_tokens.written(keys, purpose, message.ledger_id, token_id)
    return content["to"], {"purpose": purpose, "token": token}


async def forget_past(connection: Connection) -> int:
    """Delete letters that could not be sent a month ago, and return how many; to be called now and then."""
    asked = {"subscriber": SUBSCRIBER, "begin": clock.now() - timedelta(days=PARKED_DAYS_MAX)}
    return (await connection.execute(FORGET_PAST, asked)).rowcount


def moment(at: datetime) -> str:
    """Return a time as letters say it."""
    return f"{at:%Y-%m-%d %H:%M} UTC"

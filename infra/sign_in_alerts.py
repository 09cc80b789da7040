"""Alerts of sign-ins: who signs in from where, or with what, they were not of late is told by mail."""

from datetime import timedelta
from typing import Final

from infra import account_letters, clock, notifications
from infra.account_letters import moment
from infra.database import Connection
from infra.sessions import LOCK_PERSON
from infra.users import User
from infra.whereabouts import Whereabouts

KNOWN_DAYS: Final = 30

KNOWN: Final = """
    SELECT count(*) AS uses, bool_or(address = %(address)s) AND bool_or(agent = %(agent)s) AS known FROM refresh_tokens
    WHERE user_id = %(user_id)s AND issued_at > %(since)s
"""


async def alert(connection: Connection, user: User, found: Whereabouts) -> None:
    """Put a letter into the outbox, in the transaction that begins a session and before it does, if it is told of.

    Of two sign-ins at once the second waits, so that one place is told of once. The first sign-in of an account that is
    younger than what is looked at tells its owner nothing.
    """
    now = clock.now()
    since = now - timedelta(days=KNOWN_DAYS)
    asked = {"user_id": user.id, "since": since, **found._asdict()}
    await connection.execute(LOCK_PERSON, asked)
    before = await (await connection.execute(KNOWN, asked)).fetchone()
    is_first = before is not None and not before["uses"] and user.created_at > since
    if before is None or before["known"] or is_first or not await notifications.wants(connection, user, "new_sign_in"):
        return
    told = {"at": moment(now), "network": found.address, "program": found.agent}
    await account_letters.put(connection, user.ledger_id, "new_sign_in", clock.fresh_id(), to=user.email, **told)

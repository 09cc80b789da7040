"""Sessions: a chain of refresh tokens from one sign-in, each good for one use, kept as SHA-256.

Using a token gives the next. Using one again ends the session for whoever has its tokens, since one of the two users
is a thief (RFC 9700, section 4.14.2). There is no grace for a client that lost the answer and tries again: it cannot be
told from the thief, and signing in again is a small price. A session ends 30 days after its sign-in, however much it is
used (NIST SP 800-63B, assurance level 1).

**Invariant:** whoever changes a session holds the lock of its user's row, so that two uses of one token, or a use and
a deactivation, happen one after the other.
"""

import secrets
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import Struct
from psycopg.rows import DictRow

from infra import clock
from infra.database import Connection
from infra.users import User

SESSION_DAYS: Final = 30
TOKEN_BYTES: Final = 32

_REUSED: Final = "used before"


class Session(Struct, frozen=True, kw_only=True):
    """A person who is signed in, the one token that prolongs this, and when it ends at the latest."""

    user: User
    refresh_token: str
    expires_at: datetime

    def __repr__(self) -> str:
        """Show nothing secret."""
        return f"Session(user_id={self.user.id!r}, expires_at={self.expires_at!r})"


class SessionRefused(Exception):
    """The session has ended, or there was none; sign in again."""

    def __init__(self, reason: str) -> None:
        """Keep for the log what the client is not told."""
        super().__init__(self.__doc__)
        self.reason = reason


# Begin a session, if the person is still active and still has the password that was verified.
START: Final = """
    INSERT INTO refresh_tokens (ledger_id, user_id, family_id, token_sha256, issued_at, expires_at)
    SELECT ledger_id, id, %(family_id)s, %(token_sha256)s, %(now)s, %(expires_at)s FROM users
    WHERE ledger_id = %(ledger_id)s AND id = %(user_id)s AND active AND password_hash = %(password_hash)s
    FOR SHARE
"""

# Find whose token it is, and wait for whoever else changes a session of theirs.
LOCK: Final = """
    SELECT person.ledger_id, person.id, person.email, person.role, person.active, person.created_at
    FROM refresh_tokens AS token
    JOIN users AS person ON person.ledger_id = token.ledger_id AND person.id = token.user_id
    WHERE token.token_sha256 = %(token_sha256)s
    FOR NO KEY UPDATE OF person
"""

# Read a token under that lock: in a statement of its own, which sees what was committed while the lock was awaited.
STATE: Final = """
    SELECT ledger_id, user_id, family_id, expires_at, used_at, revoked_at FROM refresh_tokens
    WHERE token_sha256 = %(token_sha256)s
"""

# Use a token up and issue the next of its family.
ROTATE: Final = """
    WITH used AS (
        UPDATE refresh_tokens SET used_at = %(now)s WHERE token_sha256 = %(token_sha256)s
        RETURNING ledger_id, user_id, family_id, expires_at
    )
    INSERT INTO refresh_tokens (ledger_id, user_id, family_id, token_sha256, issued_at, expires_at)
    SELECT ledger_id, user_id, family_id, %(next_sha256)s, %(now)s, expires_at FROM used
"""

REVOKE: Final = """
    UPDATE refresh_tokens SET revoked_at = %(now)s
    WHERE ledger_id = %(ledger_id)s AND user_id = %(user_id)s AND family_id = %(family_id)s AND revoked_at IS NULL
"""

FORGET_PAST: Final = """
    DELETE FROM refresh_tokens WHERE expires_at <= %(now)s
"""


async def start(connection: Connection, user: User, *, password_hash: str) -> Session:
    """Begin a session of a person whose password was verified against that hash; raise SessionRefused."""
    token, now = _fresh_token(), clock.now()
    expires_at = now + timedelta(days=SESSION_DAYS)
    parameters = {
        "ledger_id": user.ledger_id,
        "user_id": user.id,
        "password_hash": password_hash,
        "family_id": clock.fresh_id(),
        "token_sha256": _digest(token),
        "now": now,
        "expires_at": expires_at,
    }
    if not (await connection.execute(START, parameters)).rowcount:
        raise SessionRefused("deactivated, or the password has changed")
    return Session(user=user, refresh_token=token, expires_at=expires_at)


async def rotate(connection: Connection, token: str) -> Session:
    """Exchange a refresh token for the next; raise SessionRefused, after ending its session if it was used before.

    To be called outside a transaction, or the end of the session would be rolled back with it.
    """
    next_token, now = _fresh_token(), clock.now()
    parameters = {"token_sha256": _digest(token), "now": now}
    async with connection.transaction():
        user, found = await _locked(connection, parameters)
        refused = _why_refused(user, found, now)
        if refused is None:
            await connection.execute(ROTATE, parameters | {"next_sha256": _digest(next_token)})
        elif refused == _REUSED:
            await connection.execute(REVOKE, found | parameters)
    if refused is not None:
        raise SessionRefused(refused)
    return Session(user=user, refresh_token=next_token, expires_at=found["expires_at"])


async def end(connection: Connection, token: str) -> None:
    """Sign out: end the session of a refresh token, used or not; raise SessionRefused when there was none."""
    parameters = {"token_sha256": _digest(token), "now": clock.now()}
    async with connection.transaction():
        _, found = await _locked(connection, parameters)
        await connection.execute(REVOKE, found | parameters)


async def forget_past(connection: Connection) -> int:
    """Delete the tokens of sessions that are over, and return how many; to be called now and then."""
    return (await connection.execute(FORGET_PAST, {"now": clock.now()})).rowcount


async def _locked(connection: Connection, parameters: dict[str, Any]) -> tuple[User, DictRow]:
    """Return a token and whose it is, for a transaction that keeps everybody else from changing sessions of theirs."""
    person = await (await connection.execute(LOCK, parameters)).fetchone()
    found = await (await connection.execute(STATE, parameters)).fetchone()
    if person is None or found is None:
        raise SessionRefused("unknown")
    return msgspec.convert(person, User), found


def _why_refused(user: User, found: DictRow, now: datetime) -> str | None:
    if found["expires_at"] <= now:
        return "expired"
    if found["revoked_at"] is not None:
        return "ended"
    if found["used_at"] is not None:
        return _REUSED
    return None if user.active else "deactivated"


def _fresh_token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def _digest(token: str) -> bytes:
    return sha256(token.encode(errors="surrogatepass")).digest()

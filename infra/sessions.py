"""Sessions: a chain of refresh tokens from one sign-in, each good for one use, kept as SHA-256.

Using a token gives the next. Using one again ends the session for whoever has its tokens, since one of the two users
is a thief (RFC 9700, section 4.14.2). There is no grace for a client that lost the answer and tries again: it cannot be
told from the thief, and signing in again is a small price. A session ends 30 days after its sign-in, however much it is
used (NIST SP 800-63B, assurance level 1), and sooner if nobody uses it for a time that the settings name.

**Invariant:** whoever changes a session holds the lock of its user's row, so that two uses of one token, or a use and
a deactivation, happen one after the other.
"""

import secrets
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct
from psycopg.rows import DictRow

from domain.errors import NotFound
from infra import clock, users
from infra.database import Connection
from infra.settings import SESSION_IDLE_DAYS
from infra.users import REVOKE_SESSIONS, User
from infra.whereabouts import Whereabouts

SESSION_DAYS: Final = 30
TOKEN_BYTES: Final = 32
SESSIONS_LISTED_MAX: Final = 500
NOWHERE: Final = Whereabouts()

_REUSED: Final = "used before"


class Session(Struct, frozen=True, kw_only=True):
    """A person who is signed in, the one token that prolongs this, and when it ends at the latest."""

    id: UUID
    user: User
    refresh_token: str
    expires_at: datetime

    def __repr__(self) -> str:
        """Show nothing secret."""
        return f"Session(user_id={self.user.id!r}, expires_at={self.expires_at!r})"


class OpenSession(Struct, frozen=True, kw_only=True):
    """A session as its owner may see it: since when, and when, from which network and with what it was used last."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    address: str
    agent: str
    current: bool = False


class SessionRefused(Exception):
    """The session has ended, or there was none; sign in again."""

    def __init__(self, reason: str) -> None:
        """Keep for the log what the client is not told."""
        super().__init__(self.__doc__)
        self.reason = reason


class TokenReused(SessionRefused):
    """A refresh token was used again, which ended the session."""

    def __init__(self, user: User, session_id: UUID) -> None:
        """Keep for the log whose session it was."""
        super().__init__(_REUSED)
        self.user = user
        self.session_id = session_id


# Begin a session, if the person is still active and still has the password that was verified.
START: Final = """
    INSERT INTO refresh_tokens (ledger_id, user_id, family_id, token_sha256, issued_at, expires_at, address, agent)
    SELECT ledger_id, id, %(family_id)s, %(token_sha256)s, %(now)s, %(expires_at)s, %(address)s, %(agent)s FROM users
    WHERE ledger_id = %(ledger_id)s AND id = %(user_id)s AND active AND password_hash = %(password_hash)s
    FOR SHARE
"""

# Find whose token it is, and wait for whoever else changes a session of theirs.
LOCK: Final = f"""
    SELECT {", ".join(f"person.{field}" for field in User.__struct_fields__)}
    FROM refresh_tokens AS token
    JOIN users AS person ON person.ledger_id = token.ledger_id AND person.id = token.user_id
    WHERE token.token_sha256 = %(token_sha256)s
    FOR NO KEY UPDATE OF person
"""

# Read a token under that lock: in a statement of its own, which sees what was committed while the lock was awaited.
STATE: Final = """
    SELECT ledger_id, user_id, family_id, issued_at, expires_at, used_at, revoked_at FROM refresh_tokens
    WHERE token_sha256 = %(token_sha256)s
"""

# Use a token up and issue the next of its family.
ROTATE: Final = """
    WITH used AS (
        UPDATE refresh_tokens SET used_at = %(now)s WHERE token_sha256 = %(token_sha256)s
        RETURNING user_id, family_id, expires_at
    )
    INSERT INTO refresh_tokens (ledger_id, user_id, family_id, token_sha256, issued_at, expires_at, address, agent)
    SELECT %(ledger_id)s, user_id, family_id, %(next_sha256)s, %(now)s, expires_at, %(address)s, %(agent)s FROM used
"""

LOCK_PERSON: Final = """
    SELECT id FROM people WHERE id = %(user_id)s FOR NO KEY UPDATE
"""

REVOKE: Final = """
    UPDATE refresh_tokens SET revoked_at = %(now)s
    WHERE user_id = %(user_id)s AND family_id = %(family_id)s AND revoked_at IS NULL
"""

# A session that goes on has one token that is not used yet, which says when and from where it was prolonged last.
LIST: Final = """
    SELECT family_id AS id, issued_at AS last_used_at, expires_at, address, agent, (
        SELECT min(first.issued_at) FROM refresh_tokens AS first
        WHERE first.user_id = last.user_id AND first.family_id = last.family_id
    ) AS created_at
    FROM refresh_tokens AS last
    WHERE user_id = %(user_id)s AND used_at IS NULL AND revoked_at IS NULL AND expires_at > %(now)s
        AND issued_at > %(idle_since)s
    ORDER BY issued_at DESC LIMIT %(limit)s
"""

FORGET_PAST: Final = """
    DELETE FROM refresh_tokens WHERE expires_at <= %(now)s
"""


async def start(connection: Connection, user: User, *, password_hash: str, found: Whereabouts = NOWHERE) -> Session:
    """Begin a session of a person whose password was verified against that hash; raise SessionRefused."""
    session_id, token, now = clock.fresh_id(), _fresh_token(), clock.now()
    expires_at = now + timedelta(days=SESSION_DAYS)
    parameters = {
        "ledger_id": user.ledger_id,
        "user_id": user.id,
        "password_hash": password_hash,
        "family_id": session_id,
        "token_sha256": _digest(token),
        "now": now,
        "expires_at": expires_at,
        **found._asdict(),
    }
    if not (await connection.execute(START, parameters)).rowcount:
        raise SessionRefused("deactivated, or the password has changed")
    return Session(id=session_id, user=user, refresh_token=token, expires_at=expires_at)


async def rotate(
    connection: Connection,
    token: str,
    *,
    found: Whereabouts = NOWHERE,
    into: UUID | None = None,
    idle_days: int = SESSION_IDLE_DAYS,
) -> Session:
    """Exchange a refresh token for the next; raise SessionRefused, after ending its session if it was used before.

    A token that nobody has used for so many days is not good any more.
    The session goes on in the same ledger, or `into` another one of the person's; raise NotFound when it is not one,
    and nothing has changed then. To be called outside a transaction, or the end of the session would be rolled back
    with it.
    """
    next_token, now = _fresh_token(), clock.now()
    parameters = {"token_sha256": _digest(token), "now": now}
    async with connection.transaction():
        user, last = await _locked(connection, parameters)
        refused = _why_refused(user, last, now, now - timedelta(days=idle_days))
        if refused is None:
            if into is not None:
                user = await _member(connection, into, user.id)
            prolonged = parameters | found._asdict() | {"next_sha256": _digest(next_token), "ledger_id": user.ledger_id}
            await connection.execute(ROTATE, prolonged)
        elif refused == _REUSED:
            await connection.execute(REVOKE, last | parameters)
    if refused == _REUSED:
        raise TokenReused(user, last["family_id"])
    if refused is not None:
        raise SessionRefused(refused)
    return Session(id=last["family_id"], user=user, refresh_token=next_token, expires_at=last["expires_at"])


async def end(connection: Connection, token: str) -> tuple[User, UUID] | None:
    """Sign out: end the session of a refresh token, used or not; raise SessionRefused when there was none.

    Returns whose session it was, and which, unless it had ended before.
    """
    parameters = {"token_sha256": _digest(token), "now": clock.now()}
    async with connection.transaction():
        user, found = await _locked(connection, parameters)
        ended = await connection.execute(REVOKE, found | parameters)
    return (user, found["family_id"]) if ended.rowcount else None


async def of_person(connection: Connection, user_id: UUID, *, idle_days: int = SESSION_IDLE_DAYS) -> list[OpenSession]:
    """Return the sessions of a person that go on, the last used first."""
    now = clock.now()
    asked = {"user_id": user_id, "now": now, "limit": SESSIONS_LISTED_MAX}
    asked["idle_since"] = now - timedelta(days=idle_days)
    return msgspec.convert(await (await connection.execute(LIST, asked)).fetchall(), list[OpenSession])


async def end_one(connection: Connection, user_id: UUID, session_id: UUID) -> None:
    """End a session of a person; raise NotFound when it does not go on."""
    ended = {"user_id": user_id, "family_id": session_id, "now": clock.now()}
    async with connection.transaction():
        await connection.execute(LOCK_PERSON, ended)
        if not (await connection.execute(REVOKE, ended)).rowcount:
            raise NotFound("session", session_id)


async def end_others(connection: Connection, user_id: UUID, *, kept: UUID | None) -> bool:
    """End the sessions of a person but the one that is kept, and return whether there were any."""
    ended = {"user_id": user_id, "kept": kept, "within": None, "now": clock.now()}
    async with connection.transaction():
        await connection.execute(LOCK_PERSON, ended)
        return bool((await connection.execute(REVOKE_SESSIONS, ended)).rowcount)


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


async def _member(connection: Connection, ledger_id: UUID, user_id: UUID) -> User:
    try:
        user = await users.by_id(connection, ledger_id, user_id)
    except NotFound:
        raise NotFound("organisation", ledger_id) from None
    if not user.active:
        raise NotFound("organisation", ledger_id)
    return user


def _why_refused(user: User, found: DictRow, now: datetime, idle_since: datetime) -> str | None:
    if found["expires_at"] <= now:
        return "expired"
    if found["revoked_at"] is not None:
        return "ended"
    if found["used_at"] is not None:
        return _REUSED
    if found["issued_at"] <= idle_since:
        return "idle"
    return None if user.active else "deactivated"


def _fresh_token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def _digest(token: str) -> bytes:
    return sha256(token.encode(errors="surrogatepass")).digest()

"""The people who use the service: who they are, what they may do, and whether they still may."""

import unicodedata
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.errors import NotFound, Refusal
from domain.values import Email
from infra import clock, passwords
from infra.database import Connection

Role = Literal["admin", "manager", "reviewer", "finance", "viewer", "auditor"]

USERS_PER_PAGE_MAX: Final = 500


class User(Struct, frozen=True, kw_only=True):
    """A person as others may see them: without the hash of the password."""

    ledger_id: UUID
    id: UUID
    email: str
    role: Role
    active: bool
    created_at: datetime


class EmailUnfit(Refusal):
    """The e-mail address is not one."""

    code = "invalid_email"


class EmailTaken(Refusal):
    """Another account has the e-mail address."""

    kind = "conflict"
    code = "email_taken"


# Add a person, unless somebody in the installation has the e-mail address.
INSERT_USER: Final = """
    INSERT INTO users (ledger_id, id, email, password_hash, role, active, created_at)
    VALUES (%(ledger_id)s, %(id)s, %(email)s, %(password_hash)s, %(role)s, %(active)s, %(created_at)s)
    ON CONFLICT (email) DO NOTHING
"""

# Find a person of whatever ledger by what they sign in with.
BY_EMAIL: Final = """
    SELECT ledger_id, id, email, role, active, created_at, password_hash FROM users WHERE email = %(email)s
"""

BY_ID: Final = """
    SELECT ledger_id, id, email, role, active, created_at FROM users
    WHERE ledger_id = %(ledger_id)s AND id = %(user_id)s
"""

# List the people of a ledger by id, which is by time.
PAGE: Final = """
    SELECT ledger_id, id, email, role, active, created_at FROM users
    WHERE ledger_id = %(ledger_id)s AND (%(after)s::uuid IS NULL OR id > %(after)s)
    ORDER BY id LIMIT %(limit)s
"""

# Set what is not NULL of a person, whose row is also the lock of their sessions.
CHANGE: Final = """
    UPDATE users
    SET role = coalesce(%(role)s, role),
        active = coalesce(%(active)s, active),
        password_hash = coalesce(%(password_hash)s, password_hash)
    WHERE ledger_id = %(ledger_id)s AND id = %(user_id)s
    RETURNING ledger_id, id, email, role, active, created_at
"""

# Replace a hash by a better one of the same password, unless the password has changed meanwhile.
REHASH: Final = """
    UPDATE users SET password_hash = %(better)s
    WHERE ledger_id = %(ledger_id)s AND id = %(user_id)s AND password_hash = %(password_hash)s
"""

REVOKE_SESSIONS: Final = """
    UPDATE refresh_tokens SET revoked_at = %(now)s
    WHERE ledger_id = %(ledger_id)s AND user_id = %(user_id)s AND revoked_at IS NULL
"""


async def create(connection: Connection, ledger_id: UUID, *, email: str, password: str, role: Role) -> User:
    """Add a person; raise EmailUnfit, PasswordTooWeak, or EmailTaken, which goes for all ledgers together."""
    address = canonical(email)
    if address is None:
        raise EmailUnfit("This is not an e-mail address.", pointer="/email")
    passwords.check(password, email=address)
    user = User(ledger_id=ledger_id, id=clock.fresh_id(), email=address, role=role, active=True, created_at=clock.now())
    row = msgspec.structs.asdict(user) | {"password_hash": await passwords.hashed(password)}
    if not (await connection.execute(INSERT_USER, row)).rowcount:
        raise EmailTaken("Another account has this e-mail address.", pointer="/email")
    return user


async def by_email(connection: Connection, email: str) -> tuple[User, str] | None:
    """Return the person of any ledger who has an e-mail address, and the hash of their password."""
    cursor = await connection.execute(BY_EMAIL, {"email": canonical(email)})
    row = await cursor.fetchone()
    return (msgspec.convert(row, User), row["password_hash"]) if row else None


async def by_id(connection: Connection, ledger_id: UUID, user_id: UUID) -> User:
    """Return a person of a ledger; raise NotFound."""
    return await _one(connection, BY_ID, {"ledger_id": ledger_id, "user_id": user_id})


async def page(connection: Connection, ledger_id: UUID, *, after: UUID | None = None, limit: int = 50) -> list[User]:
    """Return people of a ledger in the order in which they were added, beginning after one of them."""
    parameters = {"ledger_id": ledger_id, "after": after, "limit": min(limit, USERS_PER_PAGE_MAX)}
    cursor = await connection.execute(PAGE, parameters)
    return msgspec.convert(await cursor.fetchall(), list[User])


async def change(
    connection: Connection, ledger_id: UUID, user_id: UUID, *, role: Role | None = None, active: bool | None = None
) -> User:
    """Set what is given and return the person, whose sessions end with being deactivated; raise NotFound."""
    return await _changed(connection, ledger_id, user_id, role=role, active=active, ends_sessions=active is False)


async def set_password(connection: Connection, ledger_id: UUID, user_id: UUID, password: str) -> User:
    """Give a person another password, which ends their sessions; raise NotFound or PasswordTooWeak."""
    user = await by_id(connection, ledger_id, user_id)
    passwords.check(password, email=user.email)
    password_hash = await passwords.hashed(password)
    return await _changed(connection, ledger_id, user_id, password_hash=password_hash, ends_sessions=True)


async def rehash(connection: Connection, user: User, *, password_hash: str, better: str) -> None:
    """Keep a better hash of a person's password in place of the one it was verified against."""
    parameters = {"ledger_id": user.ledger_id, "user_id": user.id, "password_hash": password_hash, "better": better}
    await connection.execute(REHASH, parameters)


def canonical(email: str) -> str | None:
    """Return an e-mail address in the one form in which it is kept and compared; None when it is not an address."""
    address = unicodedata.normalize("NFC", email.strip()).lower()
    try:
        return msgspec.convert(address, Email) if address.isprintable() else None
    except msgspec.ValidationError:
        return None


async def _changed(
    connection: Connection,
    ledger_id: UUID,
    user_id: UUID,
    *,
    ends_sessions: bool,
    role: Role | None = None,
    active: bool | None = None,
    password_hash: str | None = None,
) -> User:
    parameters = {
        "ledger_id": ledger_id,
        "user_id": user_id,
        "role": role,
        "active": active,
        "password_hash": password_hash,
        "now": clock.now(),
    }
    async with connection.transaction():
        user = await _one(connection, CHANGE, parameters)
        if ends_sessions:
            await connection.execute(REVOKE_SESSIONS, parameters)
    return user


async def _one(connection: Connection, query: str, parameters: dict[str, Any]) -> User:
    cursor = await connection.execute(query, parameters)
    row = await cursor.fetchone()
    if row is None:
        raise NotFound("user", parameters["user_id"])
    return msgspec.convert(row, User)

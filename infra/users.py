"""The people who use the service: who they are, what they may do, and whether they still may."""

import asyncio
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.errors import NotFound, Refusal, UnknownTimeZone
from domain.values import Email, zone
from infra import clock, passwords
from infra.database import Connection

Role = Literal["admin", "manager", "reviewer", "finance", "viewer", "auditor", "advertiser", "operator", "newcomer"]
MemberRole = Literal["admin", "manager", "reviewer", "finance", "viewer", "auditor", "advertiser"]
"""The roles of an organisation: all but those of who runs the installation, and of who is in none yet."""

INSTALLATION: Final = UUID(int=0)
"""What stands in the place of a ledger for operators and newcomers, who belong to none: it has no log."""

USERS_PER_PAGE_MAX: Final = 500
ADVERTISERS_MAX: Final = 50
"""Whose campaigns a person in the role `advertiser` sees, at most: an access token names them all."""


class User(Struct, frozen=True, kw_only=True):
    """A person as others may see them: without the hash of the password.

    In the role `advertiser` somebody sees what belongs to the advertisers named, and nothing else.
    """

    ledger_id: UUID
    id: UUID
    email: str
    role: Role
    active: bool
    created_at: datetime
    name: str = ""
    timezone: str = "UTC"
    advertiser_ids: tuple[UUID, ...] = ()
    email_verified: bool = False


class EmailUnfit(Refusal):
    """The e-mail address is not one."""

    code = "invalid_email"


class EmailTaken(Refusal):
    """Another account has the e-mail address."""

    kind = "conflict"
    code = "email_taken"


class LastAdmin(Refusal):
    """Somebody has to be able to look after people."""

    kind = "conflict"
    code = "last_admin"


class AdvertisersUnfit(Refusal):
    """Advertisers belong to the role `advertiser`, which is nothing without, and to no other."""

    code = "advertisers_unfit"


class BelongsElsewhere(Refusal):
    """Who belongs to several organisations looks after their own account."""

    kind = "conflict"
    code = "belongs_elsewhere"


_COLUMNS: Final = ", ".join(User.__struct_fields__)
"""In SQL a person is called what the fields are."""

# Add a person, unless somebody in the installation has the e-mail address.
INSERT_USER: Final = """
    WITH person AS (
        INSERT INTO people (id, email, password_hash, created_at, name, timezone, email_verified)
        VALUES (
            %(id)s, %(email)s, %(password_hash)s, %(created_at)s, %(name)s, %(timezone)s, %(email_verified)s
        )
        ON CONFLICT (email) DO NOTHING RETURNING id, created_at
    )
    INSERT INTO members (ledger_id, user_id, role, active, joined_at, advertiser_ids)
    SELECT %(ledger_id)s, id, %(role)s, %(active)s, created_at, %(advertiser_ids)s::uuid[] FROM person
"""

# Find a person by what they sign in with, as a member of the organisation that they have been in for longest.
BY_EMAIL: Final = f"""
    SELECT {_COLUMNS}, password_hash FROM users WHERE email = %(email)s
    ORDER BY active DESC, ledger_id = %(nowhere)s, joined_at, ledger_id LIMIT 1
"""

# The same, for who is known by other means.
BY_PERSON: Final = BY_EMAIL.replace("email = %(email)s", "id = %(user_id)s")

BY_ID: Final = f"""
    SELECT {_COLUMNS} FROM users
    WHERE ledger_id = %(ledger_id)s AND id = %(user_id)s
"""

# List the people of a ledger by id, which is by time.
PAGE: Final = f"""
    SELECT {_COLUMNS} FROM users
    WHERE ledger_id = %(ledger_id)s AND (%(after)s::uuid IS NULL OR id > %(after)s)
    ORDER BY id LIMIT %(limit)s
"""

# Set what is not NULL of a person, whose row is also the lock of their sessions. Advertisers leave with their role.
CHANGE: Final = f"""
    WITH member AS (
        UPDATE members
        SET role = coalesce(%(role)s, role),
            active = coalesce(%(active)s, active),
            advertiser_ids = coalesce(
                %(advertiser_ids)s::uuid[],
                CASE WHEN coalesce(%(role)s, role) = 'advertiser' THEN advertiser_ids ELSE '{{}}' END
            ),
            changed_at = CASE WHEN %(permits)s THEN %(now)s ELSE changed_at END
        WHERE ledger_id = %(ledger_id)s AND user_id = %(user_id)s
        RETURNING ledger_id, user_id, role, active, advertiser_ids
    )
    UPDATE people
    SET password_hash = coalesce(%(password_hash)s, password_hash),
        name = coalesce(%(name)s, name),
        timezone = coalesce(%(timezone)s, timezone)
    FROM member WHERE people.id = member.user_id
    RETURNING {_COLUMNS}
"""

# Replace a hash by a better one of the same password, unless the password has changed meanwhile.
REHASH: Final = """
    UPDATE people SET password_hash = %(better)s WHERE id = %(user_id)s AND password_hash = %(password_hash)s
"""

# End a person's sessions, but for one of them perhaps; with `within`, those that are in that organisation now.
REVOKE_SESSIONS: Final = """
    UPDATE refresh_tokens SET revoked_at = %(now)s
    WHERE user_id = %(user_id)s AND revoked_at IS NULL AND family_id IS DISTINCT FROM %(kept)s::uuid
        AND (%(within)s::uuid IS NULL OR (ledger_id = %(within)s AND used_at IS NULL))
"""

# Make worthless whatever was mailed to a person: it was asked for by who knew the password before.
END_TOKENS: Final = "DELETE FROM account_tokens WHERE user_id = %(user_id)s"

# Add a person to an organisation, unless they belong to it.
JOIN: Final = """
    INSERT INTO members (ledger_id, user_id, role, active, joined_at, advertiser_ids)
    VALUES (%(ledger_id)s, %(user_id)s, %(role)s, true, %(now)s, %(advertiser_ids)s::uuid[])
    ON CONFLICT (ledger_id, user_id) DO NOTHING
"""

ELSEWHERE: Final = "SELECT FROM members WHERE user_id = %(user_id)s AND ledger_id <> %(ledger_id)s AND active"

# Find who may come in and look after people, and wait for whoever else changes that: of two admins who are let go at
# once, the second is seen to be the last.
LOCK_ADMINS: Final = """
    SELECT user_id AS id FROM members
    WHERE ledger_id = %(ledger_id)s AND role = 'admin' AND active ORDER BY user_id FOR NO KEY UPDATE
"""


async def create(
    connection: Connection,
    ledger_id: UUID,
    *,
    email: str,
    password: str,
    role: Role,
    name: str = "",
    advertiser_ids: Sequence[UUID] = (),
    email_verified: bool = False,
) -> User:
    """Add a person; raise EmailUnfit, PasswordTooWeak, AdvertisersUnfit, or EmailTaken, which goes for all ledgers."""
    check_advertisers(role, advertiser_ids)
    address = canonical(email)
    if address is None:
        raise EmailUnfit("This is not an e-mail address.", pointer="/email")
    await asyncio.to_thread(passwords.check, password, email=address)
    user = User(
        ledger_id=ledger_id,
        id=clock.fresh_id(),
        email=address,
        role=role,
        active=True,
        created_at=clock.now(),
        name=name,
        advertiser_ids=tuple(advertiser_ids),
        email_verified=email_verified,
    )
    row = msgspec.structs.asdict(user) | {"password_hash": await passwords.hashed(password)}
    row["advertiser_ids"] = list(user.advertiser_ids)
    if not (await connection.execute(INSERT_USER, row)).rowcount:
        raise EmailTaken("Another account has this e-mail address.", pointer="/email")
    return user


async def by_email(connection: Connection, email: str) -> tuple[User, str] | None:
    """Return the person of any ledger who has an e-mail address, and the hash of their password."""
    return await _with_hash(connection, BY_EMAIL, {"email": canonical(email)})


async def by_person(connection: Connection, user_id: UUID) -> tuple[User, str] | None:
    """Return a person, as `by_email` does, by their id alone."""
    return await _with_hash(connection, BY_PERSON, {"user_id": user_id})


async def by_id(connection: Connection, ledger_id: UUID, user_id: UUID) -> User:
    """Return a person of a ledger; raise NotFound."""
    return await _one(connection, BY_ID, {"ledger_id": ledger_id, "user_id": user_id})


async def page(connection: Connection, ledger_id: UUID, *, after: UUID | None = None, limit: int = 50) -> list[User]:
    """Return people of a ledger in the order in which they were added, beginning after one of them."""
    parameters = {"ledger_id": ledger_id, "after": after, "limit": min(limit, USERS_PER_PAGE_MAX)}
    cursor = await connection.execute(PAGE, parameters)
    return msgspec.convert(await cursor.fetchall(), list[User])


async def change(
    connection: Connection,
    ledger_id: UUID,
    user_id: UUID,
    *,
    role: Role | None = None,
    active: bool | None = None,
    advertiser_ids: Sequence[UUID] | None = None,
) -> User:
    """Set what is given and return the person, whose sessions end with being deactivated.

    Raises NotFound, AdvertisersUnfit, or LastAdmin when nobody would be left to look after people.
    """
    named = None if advertiser_ids is None else list(advertiser_ids)
    async with connection.transaction():
        if role not in {None, "admin"} or active is False:
            cursor = await connection.execute(LOCK_ADMINS, {"ledger_id": ledger_id})
            if [row["id"] for row in await cursor.fetchall()] == [user_id]:
                raise LastAdmin("This is the last active admin; make somebody else one first.")
        user = await _changed(connection, ledger_id, user_id, role=role, active=active, advertiser_ids=named)
        check_advertisers(user.role, user.advertiser_ids)
        if active is False:
            await end_sessions(connection, user, within=ledger_id)
    return user


def check_advertisers(role: Role, advertiser_ids: Sequence[UUID]) -> None:
    """Raise AdvertisersUnfit unless the role `advertiser` has some, and any other none."""
    if role == "advertiser" and not advertiser_ids:
        raise AdvertisersUnfit("Say whose campaigns an advertiser sees.", pointer="/advertiser_ids")
    if role != "advertiser" and advertiser_ids:
        raise AdvertisersUnfit(f"The role {role} is not limited to advertisers.", pointer="/advertiser_ids")


async def join(
    connection: Connection, ledger_id: UUID, user_id: UUID, *, role: Role, advertiser_ids: Sequence[UUID] = ()
) -> User:
    """Make a person a member of another organisation, or give who is one that role; raise as `change` does."""
    asked = {"ledger_id": ledger_id, "user_id": user_id, "role": role, "now": clock.now()}
    joined = await connection.execute(JOIN, asked | {"advertiser_ids": list(advertiser_ids)})
    if joined.rowcount:
        return await by_id(connection, ledger_id, user_id)
    return await change(connection, ledger_id, user_id, role=role, advertiser_ids=advertiser_ids)


async def check_only_here(connection: Connection, user: User) -> None:
    """Raise BelongsElsewhere for who is a member of another organisation as well, and so is not this one's alone."""
    cursor = await connection.execute(ELSEWHERE, {"ledger_id": user.ledger_id, "user_id": user.id})
    if cursor.rowcount:
        raise BelongsElsewhere("This person belongs to other organisations as well; only they can do this.")


async def describe(
    connection: Connection, ledger_id: UUID, user_id: UUID, *, name: str | None = None, timezone: str | None = None
) -> User:
    """Set what a person says about themselves; raise NotFound, or UnknownTimeZone."""
    if timezone is not None and zone(timezone) is None:
        raise UnknownTimeZone(f"There is no time zone {timezone}.", pointer="/timezone")
    return await _changed(connection, ledger_id, user_id, name=name, timezone=timezone)


async def set_password(
    connection: Connection,
    ledger_id: UUID,
    user_id: UUID,
    password: str,
    *,
    kept: UUID | None = None,
    pointer: str = "/password",
) -> User:
    """Give a person another password, which ends their sessions but `kept`; raise NotFound or PasswordTooWeak."""
    user = await by_id(connection, ledger_id, user_id)
    await asyncio.to_thread(passwords.check, password, email=user.email, pointer=pointer)
    password_hash = await passwords.hashed(password)
    async with connection.transaction():
        user = await _changed(connection, ledger_id, user_id, password_hash=password_hash)
        await end_sessions(connection, user, kept=kept)
    return user


async def end_sessions(
    connection: Connection, user: User, *, kept: UUID | None = None, within: UUID | None = None
) -> None:
    """End the sessions of a person whose row is locked, but `kept`, and what was mailed to them.

    With `within`, only those sessions that are in that ledger now.
    """
    parameters = {"user_id": user.id, "kept": kept, "within": within, "now": clock.now()}
    for statement in (REVOKE_SESSIONS, END_TOKENS):
        await connection.execute(statement, parameters)


async def rehash(connection: Connection, user: User, *, password_hash: str, better: str) -> None:
    """Keep a better hash of a person's password in place of the one it was verified against."""
    parameters = {"user_id": user.id, "password_hash": password_hash, "better": better}
    await connection.execute(REHASH, parameters)


def canonical(email: str) -> str | None:
    """Return an e-mail address in the one form in which it is kept and compared; None when it is not an address."""
    address = unicodedata.normalize("NFC", email.strip()).lower()
    try:
        return msgspec.convert(address, Email) if address.isprintable() else None
    except msgspec.ValidationError:
        return None


async def _changed(connection: Connection, ledger_id: UUID, user_id: UUID, **fields: object) -> User:
    nothing = dict.fromkeys(("role", "active", "password_hash", "name", "timezone", "advertiser_ids"))
    permits = any(fields.get(name) is not None for name in ("role", "active", "advertiser_ids"))
    parameters = nothing | {"ledger_id": ledger_id, "user_id": user_id, "permits": permits, "now": clock.now()} | fields
    return await _one(connection, CHANGE, parameters)


async def _with_hash(connection: Connection, query: str, asked: dict[str, Any]) -> tuple[User, str] | None:
    row = await (await connection.execute(query, asked | {"nowhere": INSTALLATION})).fetchone()
    return (msgspec.convert(row, User), row["password_hash"]) if row else None


async def _one(connection: Connection, query: str, parameters: dict[str, Any]) -> User:
    cursor = await connection.execute(query, parameters)
    row = await cursor.fetchone()
    if row is None:
        raise NotFound("user", parameters["user_id"])
    return msgspec.convert(row, User)

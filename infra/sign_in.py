"""Signing in, in the one order that tells nothing: count, look up, verify, and only then say yes or no."""

from uuid import UUID

from domain.access import PasswordChanged, SignedIn
from domain.errors import Refusal
from infra import passwords, second_factors, sessions, sign_in_alerts, throttle, users
from infra.access_audit import AccessAudit, actor_of
from infra.database import Connection, Pool, see
from infra.keys import Keys
from infra.second_factors import WrongCode
from infra.sessions import Session, SessionRefused
from infra.throttle import Throttled
from infra.users import User
from infra.whereabouts import Whereabouts, truncated, whereabouts


class SignInRefused(Exception):
    """E-mail address and password do not belong to an account that may sign in."""

    def __init__(self) -> None:
        """Tell nothing about which of them is wrong."""
        super().__init__(self.__doc__)


class WrongPassword(Refusal):
    """The current password is another."""

    code = "wrong_password"


class SecondFactorRequired(Exception):
    """Signing in to this account takes a one-time password of now as well, or a recovery code."""


async def sign_in(
    pool: Pool,
    keys: Keys,
    audit: AccessAudit,
    *,
    email: str,
    password: str,
    address: str,
    agent: str = "",
    code: str | None = None,
) -> Session:
    """Begin a session for who knows the password; raise Throttled, or SignInRefused after the same time in every case.

    Who has a second factor and does not show it is told so with SecondFactorRequired, but not before the password was
    right. No connection is held while a password is hashed, so that a flood of sign-ins does not starve everybody else.
    Raises LogBusy or LogUnavailable where the log cannot be told of it: nobody signs in unrecorded.
    """
    account = users.canonical(email) or email
    async with pool.connection() as connection:
        found = await users.by_email(connection, account)
        user, password_hash = found or (None, None)
        try:
            await throttle.count(connection, keys, account=account, address=address)
        except Throttled:
            audit.refuse_sign_in(user, "throttled", address=address)
            raise
    right = await passwords.verify(password, password_hash)
    if user is None or password_hash is None or not right or not user.active:
        audit.refuse_sign_in(user, "deactivated" if right else "password", address=address)
        raise SignInRefused
    better = await passwords.hashed(password) if passwords.needs_rehash(password_hash) else password_hash
    async with pool.connection() as connection:
        shown = await _second_factor(connection, keys, audit, user, code, address=address)
        await throttle.succeeded(connection, keys, account=account, address=address)
        if better != password_hash:
            await users.rehash(connection, user, password_hash=password_hash, better=better)
        found_at = whereabouts(address, agent)
        return await begin(connection, audit, user, better, found_at, method="password", second_factor=shown)


async def begin(
    connection: Connection,
    audit: AccessAudit,
    user: User,
    password_hash: str,
    found: Whereabouts,
    *,
    method: str,
    second_factor: bool,
) -> Session:
    """Begin a session of who has proven who they are, and tell the log; raise SignInRefused, LogBusy, LogUnavailable.

    `password_hash` is that of the time when they did: it must not have changed meanwhile.
    """
    await see(connection, user.ledger_id)
    try:
        async with connection.transaction():
            await sign_in_alerts.alert(connection, user, found)
            session = await sessions.start(connection, user, password_hash=password_hash, found=found)
            event = SignedIn(session_id=session.id, method=method, second_factor=second_factor, network=found.address)
            await audit.record(user.ledger_id, user.id, event, actor=actor_of(user))
    except SessionRefused:
        raise SignInRefused from None
    return session


async def prove(
    pool: Pool,
    keys: Keys,
    audit: AccessAudit,
    user: User,
    *,
    password: str,
    address: str,
    code: str | None = None,
    pointer: str = "/current_password",
) -> None:
    """Let pass who knows their password, and has their second factor where a code is given.

    Raises Throttled, since who has found a device could try passwords here, WrongPassword or WrongCode.
    """
    async with pool.connection() as connection:
        await throttle.count(connection, keys, account=user.email, address=address)
        found = await users.by_email(connection, user.email)
    if not await passwords.verify(password, found[1] if found else None):
        audit.refuse_sign_in(user, "password", address=address)
        raise WrongPassword("This is not the current password.", pointer=pointer)
    async with pool.connection() as connection:
        if code is not None and not await second_factors.passes(connection, keys.masters, user, code):
            audit.refuse_sign_in(user, "second_factor", address=address)
            raise WrongCode("This is no one-time password of now, and no recovery code.", pointer="/code")
        await throttle.succeeded(connection, keys, account=user.email, address=address)


async def change_password(
    pool: Pool,
    keys: Keys,
    audit: AccessAudit,
    user: User,
    *,
    current: str,
    new: str,
    address: str,
    session: UUID | None,
) -> None:
    """Give somebody another password, which ends their other sessions; raise as `prove` does, or PasswordTooWeak."""
    await prove(pool, keys, audit, user, password=current, address=address)
    async with pool.connection() as connection, connection.transaction():
        await users.set_password(connection, user.ledger_id, user.id, new, kept=session, pointer="/new_password")
        event = PasswordChanged(network=truncated(address))
        await audit.record(user.ledger_id, user.id, event, actor=actor_of(user))


async def _second_factor(
    connection: Connection, keys: Keys, audit: AccessAudit, user: User, code: str | None, *, address: str
) -> bool:
    """Return whether somebody has a second factor, which they have shown; else raise SecondFactorRequired."""
    if not (await second_factors.of_person(connection, user)).enabled:
        return False
    if code and await second_factors.passes(connection, keys.masters, user, code):
        return True
    if code:
        audit.refuse_sign_in(user, "second_factor", address=address)
    raise SecondFactorRequired

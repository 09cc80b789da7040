"""Signing in, in the one order that tells nothing: count, look up, verify, and only then say yes or no."""

from uuid import UUID

from domain.errors import Refusal
from infra import passwords, second_factors, sessions, sign_in_alerts, throttle, users
from infra.database import Pool
from infra.keys import Keys
from infra.second_factors import WrongCode
from infra.sessions import Session, SessionRefused
from infra.users import User
from infra.whereabouts import whereabouts


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
    pool: Pool, keys: Keys, *, email: str, password: str, address: str, agent: str = "", code: str | None = None
) -> Session:
    """Begin a session for who knows the password; raise Throttled, or SignInRefused after the same time in every case.

    Who has a second factor and does not show it is told so with SecondFactorRequired, but not before the password was
    right. No connection is held while a password is hashed, so that a flood of sign-ins does not starve everybody else.
    """
    account = users.canonical(email) or email
    async with pool.connection() as connection:
        await throttle.count(connection, keys, account=account, address=address)
        found = await users.by_email(connection, account)
    user, password_hash = found or (None, None)
    right = await passwords.verify(password, password_hash)
    if user is None or password_hash is None or not right or not user.active:
        raise SignInRefused
    better = await passwords.hashed(password) if passwords.needs_rehash(password_hash) else password_hash
    async with pool.connection() as connection:
        asked_for = (await second_factors.of_person(connection, user)).enabled
        if asked_for and not (code and await second_factors.passes(connection, keys.masters, user, code)):
            raise SecondFactorRequired
        await throttle.succeeded(connection, keys, account=account, address=address)
        if better != password_hash:
            await users.rehash(connection, user, password_hash=password_hash, better=better)
        found_at = whereabouts(address, agent)
        try:
            async with connection.transaction():
                await sign_in_alerts.alert(connection, user, found_at)
                return await sessions.start(connection, user, password_hash=better, found=found_at)
        except SessionRefused:
            raise SignInRefused from None


async def prove(
    pool: Pool,
    keys: Keys,
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
        raise WrongPassword("This is not the current password.", pointer=pointer)
    async with pool.connection() as connection:
        if code is not None and not await second_factors.passes(connection, keys.masters, user, code):
            raise WrongCode("This is no one-time password of now, and no recovery code.", pointer="/code")
        await throttle.succeeded(connection, keys, account=user.email, address=address)


async def change_password(
    pool: Pool, keys: Keys, user: User, *, current: str, new: str, address: str, session: UUID | None
) -> None:
    """Give somebody another password, which ends their other sessions; raise as `prove` does, or PasswordTooWeak."""
    await prove(pool, keys, user, password=current, address=address)
    async with pool.connection() as connection:
        await users.set_password(connection, user.ledger_id, user.id, new, kept=session, pointer="/new_password")

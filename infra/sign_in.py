"""Signing in, in the one order that tells nothing: count, look up, verify, and only then say yes or no."""

from infra import passwords, sessions, throttle, users
from infra.database import Pool
from infra.keys import Keys
from infra.sessions import Session, SessionRefused


class SignInRefused(Exception):
    """E-mail address and password do not belong to an account that may sign in."""

    def __init__(self) -> None:
        """Tell nothing about which of them is wrong."""
        super().__init__(self.__doc__)


async def sign_in(pool: Pool, keys: Keys, *, email: str, password: str, address: str) -> Session:
    """Begin a session for who knows the password; raise Throttled, or SignInRefused after the same time in every case.

    No connection is held while a password is hashed, so that a flood of sign-ins does not starve everybody else.
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
        await throttle.succeeded(connection, keys, account=account, address=address)
        if better != password_hash:
            await users.rehash(connection, user, password_hash=password_hash, better=better)
        try:
            return await sessions.start(connection, user, password_hash=better)
        except SessionRefused:
            raise SignInRefused from None

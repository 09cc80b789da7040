"""Self sign-up: an address is mailed a token, and whoever has that chooses a password and has an account.

It belongs to no organisation yet. Asking tells nobody who has an account: for an address that somebody has, the same
rows are written, and that it is written to nobody is found out later, by who sends the letters.
"""

from infra import account_tokens, clock, throttle, users
from infra.database import Connection, Pool
from infra.keys import Keys
from infra.mailed_tokens import TokenUnfit
from infra.users import INSTALLATION, EmailTaken, EmailUnfit, User


async def ask(pool: Pool, keys: Keys, *, email: str, address: str) -> None:
    """Mail a token to an address that nobody signs in with yet; raise EmailUnfit or Throttled."""
    wanted = users.canonical(email)
    if wanted is None:
        raise EmailUnfit("This is not an e-mail address.", pointer="/email")
    async with pool.connection() as connection:
        await throttle.count(connection, keys, account=f"registration {wanted}", address=address)
        await account_tokens.mail(
            connection, "registration", ledger_id=INSTALLATION, user_id=clock.fresh_id(), email=wanted
        )


async def finish(connection: Connection, keys: Keys, token: str, *, password: str, name: str) -> User:
    """Make the account that a token was mailed for; raise TokenUnfit, or PasswordTooWeak, which leaves it good."""
    async with connection.transaction():
        held = await account_tokens.used(connection, keys, "registration", token)
        try:
            return await users.create(
                connection,
                INSTALLATION,
                email=held.email,
                password=password,
                role="newcomer",
                name=name,
                email_verified=True,
            )
        except EmailTaken:
            raise TokenUnfit from None

"""Who has changed lately: what a process has to know of access tokens that say too much by now.

An access token says what its owner may do, for a quarter of an hour. Whose role or advertisers changed since, who was
deactivated, which sessions ended, and who lacks a second factor that is demanded are short lists, which each process
reads again every second; a request looks into them, and not into the database. What a list has lost no token can say
any more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

import psycopg
import structlog
from msgspec import structs
from psycopg_pool import PoolTimeout

from infra import clock
from infra.access_tokens import ACCESS_TOKEN_SECONDS, Claims, TokenRefused
from infra.database import Connection, Pool
from infra.users import Role

READ_EVERY_SECONDS: Final = 1.0
CLOCK_DIFFERENCE_SECONDS_MAX: Final = 60
"""How much longer than a token is valid a change is kept in mind, for clocks that differ."""

# Whose role or advertisers were set or who was deactivated within the life of a token.
READ_CHANGED: Final = """
    SELECT ledger_id, user_id, role, active, advertiser_ids FROM members WHERE changed_at > %(since)s
"""

READ_ENDED: Final = """
    SELECT DISTINCT family_id FROM refresh_tokens WHERE revoked_at > %(since)s
"""

# Who has no second factor, in organisations that demand one.
READ_WITHOUT_FACTOR: Final = """
    SELECT ledger_id, user_id FROM members JOIN ledgers USING (ledger_id)
    WHERE second_factor_demanded AND active AND NOT EXISTS (
        SELECT FROM second_factors WHERE second_factors.user_id = members.user_id AND confirmed
    )
"""

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class Standing(NamedTuple):
    """What a person may do by now, and with whose campaigns."""

    role: Role
    advertisers: tuple[UUID, ...]


class TokenTakenBack(TokenRefused):
    """The access token was valid and has not expired, but who has it is out."""

    def __init__(self, reason: str, claims: Claims) -> None:
        """Keep for the log what the client is not told."""
        super().__init__(reason)
        self.claims = claims


class Revocations:
    """What was taken back of the access tokens of the installation that may still be valid."""

    def __init__(self) -> None:
        """Begin with nothing taken back."""
        self._standings: Mapping[tuple[UUID, UUID], Standing | None] = {}
        self._ended: frozenset[UUID] = frozenset()
        self._without_factor: frozenset[tuple[UUID, UUID]] = frozenset()
        self._reading = asyncio.Lock()

    def checked(self, claims: Claims) -> Claims:
        """Return claims with what their owner may do by now; raise TokenRefused for who is out."""
        if claims.sid in self._ended:
            raise TokenTakenBack("session ended", claims)
        said = Standing(claims.role, claims.advertisers)
        found = self._standings.get((claims.ledger, claims.sub), said)
        if found is None:
            raise TokenTakenBack("deactivated", claims)
        return claims if found == said else structs.replace(claims, **found._asdict())

    def lacks_second_factor(self, claims: Claims) -> bool:
        """Tell whether somebody has no second factor where their organisation demands one."""
        return (claims.ledger, claims.sub) in self._without_factor

    async def refresh(self, connection: Connection) -> None:
        """Read again who has changed; what was read last counts."""
        since = clock.now() - timedelta(seconds=ACCESS_TOKEN_SECONDS + CLOCK_DIFFERENCE_SECONDS_MAX)
        asked = {"since": since}
        async with self._reading:
            changed = await (await connection.execute(READ_CHANGED, asked)).fetchall()
            ended = await (await connection.execute(READ_ENDED, asked)).fetchall()
            without = await (await connection.execute(READ_WITHOUT_FACTOR)).fetchall()
            self._without_factor = frozenset((row["ledger_id"], row["user_id"]) for row in without)
            self._standings = {
                (row["ledger_id"], row["user_id"]): Standing(row["role"], tuple(row["advertiser_ids"]))
                if row["active"]
                else None
                for row in changed
            }
            self._ended = frozenset(row["family_id"] for row in ended)


async def keep_fresh(pool: Pool, *refresh: Callable[[Connection], Awaitable[None]]) -> None:
    """Read again every second, until cancelled, what a process knows of access tokens and keys."""
    while True:
        await asyncio.sleep(READ_EVERY_SECONDS)
        try:
            async with pool.connection() as connection:
                for each in refresh:
                    await each(connection)
        except (OSError, psycopg.Error, PoolTimeout) as error:
            log.warning("revocations are not read", error=type(error).__name__)

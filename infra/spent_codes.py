"""Codes that are good once: those that were used are kept, as SHA-256, until they would have expired anyway."""

from datetime import datetime
from hashlib import sha256
from typing import Final

from infra import clock
from infra.database import Connection

SPEND: Final = """
    INSERT INTO spent_codes (code_sha256, expires_at) VALUES (%(code)s, %(expires_at)s) ON CONFLICT DO NOTHING
"""

FORGET_PAST: Final = "DELETE FROM spent_codes WHERE expires_at <= %(now)s"


async def spend(connection: Connection, code: str, *, expires_at: datetime) -> bool:
    """Use up a code that is not valid after a time; tell whether it was not used before."""
    spent = {"code": sha256(code.encode()).digest(), "expires_at": expires_at}
    return bool((await connection.execute(SPEND, spent)).rowcount)


async def forget_past(connection: Connection) -> int:
    """Delete what has expired, and return how much that was; to be called now and then."""
    return (await connection.execute(FORGET_PAST, {"now": clock.now()})).rowcount

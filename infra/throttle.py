"""How often somebody may try to sign in: counted per account and per address, in the database, for all processes.

An attempt is counted before the password is looked at, so that guesses made at once cannot slip past together; success
takes it back. An address that must wait does not count against accounts, so that one machine cannot keep more than a
few people out. A window is fixed, from its first attempt on: trying again too early prolongs nothing.
"""

import hmac
from datetime import timedelta
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from math import ceil
from typing import Final

from infra import clock
from infra.database import Connection
from infra.keys import Keys
from infra.ledger_keys import derived

ATTEMPTS_PER_ACCOUNT_MAX: Final = 10
ATTEMPTS_PER_ADDRESS_MAX: Final = 50
WINDOW_SECONDS: Final = 900
NETWORKS_KNOWN_MAX: Final = 1_024

_WINDOW: Final = timedelta(seconds=WINDOW_SECONDS)
_IPV6_PREFIX_BITS: Final = 64  # a customer of a provider has at least so many addresses to choose from


class Throttled(Exception):
    """There were too many attempts to sign in."""

    def __init__(self, retry_after_seconds: int) -> None:
        """Tell how long to wait."""
        super().__init__(self.__doc__)
        self.retry_after_seconds = retry_after_seconds


# Count an attempt for the address and then, if that is within its limit, for the account; return what is over a limit.
# Every statement here that locks both rows locks the address first.
COUNT: Final = """
    WITH of_address AS (
        INSERT INTO login_attempts AS known (subject_hash, failures, window_started_at)
        VALUES (%(address)s, 1, %(now)s)
        ON CONFLICT (subject_hash) DO UPDATE SET
            failures = CASE WHEN known.window_started_at > %(begin)s THEN known.failures + 1 ELSE 1 END,
            window_started_at =
                CASE WHEN known.window_started_at > %(begin)s THEN known.window_started_at ELSE %(now)s END
        RETURNING failures, window_started_at
    ), of_account AS (
        INSERT INTO login_attempts AS known (subject_hash, failures, window_started_at)
        SELECT %(account)s, 1, %(now)s FROM of_address WHERE failures <= %(per_address)s
        ON CONFLICT (subject_hash) DO UPDATE SET
            failures = CASE WHEN known.window_started_at > %(begin)s THEN known.failures + 1 ELSE 1 END,
            window_started_at =
                CASE WHEN known.window_started_at > %(begin)s THEN known.window_started_at ELSE %(now)s END
        RETURNING failures, window_started_at
    )
    SELECT window_started_at FROM of_address WHERE failures > %(per_address)s
    UNION ALL
    SELECT window_started_at FROM of_account WHERE failures > %(per_account)s
"""

# Take an attempt of an address back: it was none to guess.
TAKE_BACK: Final = """
    UPDATE login_attempts SET failures = failures - 1 WHERE subject_hash = %(address)s AND failures > 0
"""

FORGET_ACCOUNT: Final = """
    DELETE FROM login_attempts WHERE subject_hash = %(account)s
"""

FORGET_PAST: Final = """
    DELETE FROM login_attempts WHERE window_started_at <= %(begin)s
"""


async def count(connection: Connection, keys: Keys, *, account: str, address: str) -> None:
    """Count an attempt to sign in that is about to be made; raise Throttled when it must not be made yet."""
    now = clock.now()
    parameters = _subjects(keys, account=account, address=address) | {
        "now": now,
        "begin": now - _WINDOW,
        "per_account": ATTEMPTS_PER_ACCOUNT_MAX,
        "per_address": ATTEMPTS_PER_ADDRESS_MAX,
    }
    over = await (await connection.execute(COUNT, parameters)).fetchone()
    if over is not None:
        raise Throttled(max(1, ceil((over["window_started_at"] + _WINDOW - now).total_seconds())))


async def succeeded(connection: Connection, keys: Keys, *, account: str, address: str) -> None:
    """Forget the failures of an account that was signed in to, and do not hold the attempt against the address."""
    subjects = _subjects(keys, account=account, address=address)
    await connection.execute(TAKE_BACK, subjects)
    await connection.execute(FORGET_ACCOUNT, subjects)


async def forget_past(connection: Connection) -> int:
    """Delete what no longer counts, and return how much that was; to be called now and then."""
    return (await connection.execute(FORGET_PAST, {"begin": clock.now() - _WINDOW})).rowcount


def _subjects(keys: Keys, *, account: str, address: str) -> dict[str, object]:
    """Return both under a keyed hash: addresses are not stored, and a plain hash of one is undone in minutes."""
    key = derived(keys.generations[0], "throttle", None)
    return {
        "account": hmac.digest(key, b"account " + account.encode(errors="surrogatepass"), "sha256"),
        "address": hmac.digest(key, b"address " + network_of(address).encode(errors="surrogatepass"), "sha256"),
    }


@lru_cache(NETWORKS_KNOWN_MAX)
def network_of(address: str) -> str:
    """Return what stands for one machine: an IPv4 address, or the network of an IPv6 address."""
    try:
        parsed = ip_address(address)
    except ValueError:  # a proxy's name, or a socket without an address
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or IPv6Network((int(parsed), _IPV6_PREFIX_BITS), strict=False))

"""API keys: what programs prove themselves with that do what people do; shown once, kept as SHA-256.

A key has a role, may have scopes, which are some of what the role may do, and may have an end. Each process keeps the
keys of its ledger in memory and reads them again every second, so that a request asks the database nothing and a
revoked key is out within seconds; when keys were used last is written at the same time.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct
from psycopg.rows import DictRow

from domain.errors import NotFound, Refusal
from infra import clock
from infra.database import Connection
from infra.users import Role, check_advertisers

PREFIX: Final = "lak_"
"""Lets scanners of source code find a key that was published by mistake."""

API_KEY_BYTES: Final = 32
API_KEYS_MAX: Final = 200
"""Of a ledger: bounds what each process keeps in memory."""


class ApiKey(Struct, frozen=True, kw_only=True):
    """An API key as people may see it: what it is for and what it may do, never the key; `scopes` null: all of it."""

    id: UUID
    name: str
    role: Role
    created_by: UUID
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    advertiser_ids: tuple[UUID, ...]
    scopes: tuple[str, ...] | None


class KnownKey(NamedTuple):
    """What a process has to know of a key that is presented."""

    id: UUID
    role: Role
    expires_at: datetime | None
    created_by: UUID
    advertiser_ids: tuple[UUID, ...]
    scopes: frozenset[str] | None


class TooManyApiKeys(Refusal):
    """A ledger has so many keys and no more."""

    kind = "conflict"
    code = "too_many_api_keys"


class ExpiryPast(Refusal):
    """What is made now does not end before."""

    code = "expiry_past"


_COLUMNS: Final = ", ".join(ApiKey.__struct_fields__)
"""In SQL a key is called what the fields are."""

# Of two that are made at once, the second sees the first.
LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('api keys ' || %(ledger_id)s::text, 0))"

COUNT: Final = "SELECT count(*) AS keys FROM api_keys WHERE ledger_id = %(ledger_id)s"

INSERT: Final = f"""
    INSERT INTO api_keys (
        ledger_id, id, name, role, key_sha256, created_by, created_at, expires_at, advertiser_ids, scopes
    )
    VALUES (
        %(ledger_id)s, %(id)s, %(name)s, %(role)s, %(key_sha256)s, %(created_by)s, %(created_at)s, %(expires_at)s,
        %(advertiser_ids)s::uuid[], %(scopes)s::text[]
    )
    RETURNING {_COLUMNS}
"""

LIST: Final = f"SELECT {_COLUMNS} FROM api_keys WHERE ledger_id = %(ledger_id)s ORDER BY id"

READ: Final = """
    SELECT id, role, expires_at, created_by, advertiser_ids, scopes, key_sha256 FROM api_keys
    WHERE ledger_id = %(ledger_id)s
"""

DELETE: Final = "DELETE FROM api_keys WHERE ledger_id = %(ledger_id)s AND id = %(id)s"

# Several processes see one key used; the last use counts.
USED: Final = """
    UPDATE api_keys AS key SET last_used_at = used.at
    FROM unnest(%(ids)s::uuid[], %(at)s::timestamptz[]) AS used (id, at)
    WHERE key.ledger_id = %(ledger_id)s AND key.id = used.id
        AND (key.last_used_at IS NULL OR key.last_used_at < used.at)
"""


async def issue(
    connection: Connection,
    ledger_id: UUID,
    *,
    name: str,
    role: Role,
    created_by: UUID,
    expires_at: datetime | None,
    advertiser_ids: Sequence[UUID] = (),
    scopes: Sequence[str] | None = None,
) -> tuple[ApiKey, str]:
    """Make a key, and return it with what proves it; raise AdvertisersUnfit, ExpiryPast or TooManyApiKeys."""
    check_advertisers(role, advertiser_ids)
    key, now = PREFIX + secrets.token_urlsafe(API_KEY_BYTES), clock.now()
    if expires_at is not None and expires_at <= now:
        raise ExpiryPast("The key would have expired already.", pointer="/expires_at")
    row = {
        "ledger_id": ledger_id,
        "id": clock.fresh_id(),
        "name": name,
        "role": role,
        "key_sha256": _digest(key),
        "created_by": created_by,
        "created_at": now,
        "expires_at": expires_at,
        "advertiser_ids": list(advertiser_ids),
        "scopes": None if scopes is None else list(scopes),
    }
    async with connection.transaction():
        await connection.execute(LOCK, row)
        counted = await (await connection.execute(COUNT, row)).fetchone()
        if counted is not None and counted["keys"] >= API_KEYS_MAX:
            raise TooManyApiKeys(f"There are {API_KEYS_MAX} keys already; revoke one that is not used.")
        made = await (await connection.execute(INSERT, row)).fetchone()
    return msgspec.convert(made, ApiKey), key


async def of_ledger(connection: Connection, ledger_id: UUID) -> list[ApiKey]:
    """Return the keys of a ledger in the order in which they were made."""
    found = await (await connection.execute(LIST, {"ledger_id": ledger_id})).fetchall()
    return msgspec.convert(found, list[ApiKey])


async def revoke(connection: Connection, ledger_id: UUID, key_id: UUID) -> None:
    """Make a key invalid for ever; raise NotFound."""
    if not (await connection.execute(DELETE, {"ledger_id": ledger_id, "id": key_id})).rowcount:
        raise NotFound("API key", key_id)


class ApiKeys:
    """The keys of one ledger as a process knows them."""

    def __init__(self, ledger_id: UUID) -> None:
        """Begin without a key."""
        self.ledger_id: Final = ledger_id
        self._by_sha256: Mapping[bytes, KnownKey] = {}
        self._used: dict[UUID, datetime] = {}
        self._reading = asyncio.Lock()

    def known(self, presented: str) -> KnownKey | None:
        """Return the key that was presented, if it is one and has not expired, and remember that it was used."""
        found, now = self._by_sha256.get(_digest(presented)), clock.now()
        if found is None or (found.expires_at is not None and found.expires_at <= now):
            return None
        self._used[found.id] = now
        return found

    async def refresh(self, connection: Connection) -> None:
        """Write which keys were used, and read again which there are; what was read last counts."""
        async with self._reading:
            used, self._used = self._used, {}
            if used:
                told = {"ledger_id": self.ledger_id, "ids": list(used), "at": list(used.values())}
                await connection.execute(USED, told)
            rows = await (await connection.execute(READ, {"ledger_id": self.ledger_id})).fetchall()
            self._by_sha256 = {bytes(row.pop("key_sha256")): _known(row) for row in rows}


def _known(row: DictRow) -> KnownKey:
    scopes, advertisers = row["scopes"], tuple(row["advertiser_ids"])
    return KnownKey(**row | {"advertiser_ids": advertisers, "scopes": None if scopes is None else frozenset(scopes)})


def _digest(key: str) -> bytes:
    # A plain hash is enough, and to look it up tells nothing: 256 random bits cannot be guessed bit by bit.
    return sha256(key.encode(errors="surrogatepass")).digest()

"""The keys of personal data: each subject has its own, kept in the database and wrapped by a master key.

The master keys come from the settings, never from the database: the first wraps, all unwrap. A key is written in the
transaction that appends what it encrypts, and destroyed in the one that appends that it was: `infra/commit.py` calls
WRITE_KEY and DESTROY_KEYS. The row of a destroyed key stays without the key, so that no backup brings it back.
"""

import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct
from psycopg.rows import DictRow

from infra import clock
from infra.database import Connection

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
NAME_BYTES: Final = 8
REWRAPPED_AT_ONCE: Final = 500


class SubjectKey(Struct, frozen=True, kw_only=True):
    """A key of a subject; `fresh` before it was written."""

    key_id: UUID
    secret: bytes
    fresh: bool = False

    def __repr__(self) -> str:
        """Show nothing secret."""
        return f"SubjectKey(key_id={self.key_id!r})"


class Subject(Struct, frozen=True, kw_only=True):
    """Whom personal data is about, and what opens it: none of the keys once they were destroyed."""

    ledger_id: UUID
    id: UUID
    keys: tuple[SubjectKey, ...] = ()
    erased_at: datetime | None = None


class WrappedKey(Struct, frozen=True, kw_only=True):
    """A key of a subject as the database and its backup hold it, and the name of the master key that opens it."""

    ledger_id: UUID
    subject: UUID
    key_id: UUID
    wrapped: bytes
    master: str
    created_at: datetime


class MasterKeyUnknown(Exception):
    """Personal data is encrypted under the master key {name}, which LEDGER_ENCRYPTION_KEY does not hold."""

    def __init__(self, name: str) -> None:
        """Name the key, which tells nothing of it."""
        super().__init__(str(self.__doc__).format(name=name))


WRITE_KEY: Final = """
    INSERT INTO subject_keys (ledger_id, subject, key_id, wrapped, master, created_at)
    VALUES (%(ledger_id)s, %(subject)s, %(key_id)s, %(wrapped)s, %(master)s, %(created_at)s)
    ON CONFLICT (ledger_id, subject, key_id) DO NOTHING
"""

DESTROY_KEYS: Final = """
    UPDATE subject_keys SET wrapped = NULL, master = NULL, erased_at = %(now)s
    WHERE ledger_id = %(ledger_id)s AND subject = ANY(%(subjects)s) AND wrapped IS NOT NULL
"""

_READ: Final = """
    SELECT ledger_id, subject, key_id, wrapped, master, created_at, erased_at FROM subject_keys
    WHERE ledger_id = %s AND subject = ANY(%s) ORDER BY key_id
"""

# Some keys that another master wraps than the first one, by their primary key; whoever else does the same takes others.
_OUTDATED: Final = """
    SELECT ledger_id, subject, key_id, wrapped, master, created_at FROM subject_keys
    WHERE master <> %(master)s LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""

_REWRAP: Final = """
    UPDATE subject_keys SET wrapped = %(wrapped)s, master = %(master)s
    WHERE ledger_id = %(ledger_id)s AND subject = %(subject)s AND key_id = %(key_id)s
"""

_PAGE: Final = """
    SELECT ledger_id, subject, key_id, wrapped, master, created_at FROM subject_keys
    WHERE wrapped IS NOT NULL AND (ledger_id, subject, key_id) > (%(ledger_id)s, %(subject)s, %(key_id)s)
    ORDER BY ledger_id, subject, key_id LIMIT %(limit)s
"""

# Of a subject that was erased after its key was made, the key stays destroyed, wherever it comes from.
_RESTORE: Final = """
    INSERT INTO subject_keys (ledger_id, subject, key_id, wrapped, master, created_at)
    SELECT %(ledger_id)s, %(subject)s, %(key_id)s, %(wrapped)s, %(master)s, %(created_at)s
    WHERE NOT EXISTS (
        SELECT FROM events
        WHERE ledger_id = %(ledger_id)s AND stream_id = 'advertiser-' || %(subject)s::uuid
            AND type = 'personal_data_erased' AND recorded_at >= %(created_at)s
    )
    ON CONFLICT (ledger_id, subject, key_id) DO NOTHING
"""


def fresh_key() -> SubjectKey:
    """Return a new key."""
    return SubjectKey(key_id=clock.fresh_id(), secret=secrets.token_bytes(KEY_BYTES), fresh=True)


def master_name(master: bytes) -> str:
    """Return what a master key is called beside what it wraps: keyed BLAKE2b (RFC 7693) of nothing, 64 bits."""
    return blake2b(key=master, digest_size=NAME_BYTES).hexdigest()


def wrap(masters: Sequence[bytes], subject: Subject, key: SubjectKey) -> WrappedKey:
    """Return a key wrapped by the first master key: AES-256-GCM, bound to the ledger, the subject and its own id."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return WrappedKey(
        ledger_id=subject.ledger_id,
        subject=subject.id,
        key_id=key.key_id,
        wrapped=nonce + AESGCM(masters[0]).encrypt(nonce, key.secret, _bound_to(subject.ledger_id, subject.id, key)),
        master=master_name(masters[0]),
        created_at=clock.now(),
    )


def unwrap(masters: Sequence[bytes], wrapped: WrappedKey) -> SubjectKey:
    """Return a key that one of the master keys wraps; raise MasterKeyUnknown, or InvalidTag for an altered one."""
    master = next((each for each in masters if master_name(each) == wrapped.master), None)
    if master is None:
        raise MasterKeyUnknown(wrapped.master)
    key = SubjectKey(key_id=wrapped.key_id, secret=b"")
    nonce, text = wrapped.wrapped[:NONCE_BYTES], wrapped.wrapped[NONCE_BYTES:]
    secret = AESGCM(master).decrypt(nonce, text, _bound_to(wrapped.ledger_id, wrapped.subject, key))
    return SubjectKey(key_id=wrapped.key_id, secret=secret)


async def read_subjects(
    connection: Connection, masters: Sequence[bytes], ledger_id: UUID, ids: Iterable[UUID]
) -> dict[UUID, Subject]:
    """Return subjects by id, each with its keys, the last one last; raise MasterKeyUnknown."""
    wanted = list(ids)
    rows: dict[UUID, list[DictRow]] = {subject: [] for subject in wanted}
    for row in await (await connection.execute(_READ, (ledger_id, wanted))).fetchall():
        rows[row["subject"]].append(row)
    return {
        subject: Subject(
            ledger_id=ledger_id,
            id=subject,
            keys=tuple(unwrap(masters, _wrapped(row)) for row in found if row["wrapped"] is not None),
            erased_at=max((row["erased_at"] for row in found if row["erased_at"] is not None), default=None),
        )
        for subject, found in rows.items()
    }


async def check_masters(connection: Connection, masters: Sequence[bytes]) -> None:
    """Raise MasterKeyUnknown when a key is wrapped by a master key that is not there."""
    cursor = await connection.execute("SELECT DISTINCT master FROM subject_keys WHERE master IS NOT NULL")
    for row in await cursor.fetchall():
        if row["master"] not in map(master_name, masters):
            raise MasterKeyUnknown(row["master"])


async def count_keys(connection: Connection) -> dict[str, int]:
    """Return how many keys each master key wraps, by its name."""
    cursor = await connection.execute(
        "SELECT master, count(*) AS keys FROM subject_keys WHERE master IS NOT NULL GROUP BY master ORDER BY master"
    )
    return {row["master"]: row["keys"] for row in await cursor.fetchall()}


async def rewrap_some(connection: Connection, masters: Sequence[bytes]) -> int:
    """Let the first master key wrap some of the keys that another one wraps, in a transaction; return how many it did.

    Nothing is left to do when it is none. Raise MasterKeyUnknown.
    """
    asked = {"master": master_name(masters[0]), "limit": REWRAPPED_AT_ONCE}
    async with connection.transaction():
        rows = await (await connection.execute(_OUTDATED, asked)).fetchall()
        for row in rows:
            key = unwrap(masters, _wrapped(row))
            again = wrap(masters, Subject(ledger_id=row["ledger_id"], id=row["subject"]), key)
            await connection.execute(_REWRAP, row_of(again))
    return len(rows)


async def read_all(connection: Connection) -> AsyncIterator[WrappedKey]:
    """Yield every key that was not destroyed, as it is wrapped."""
    after = dict.fromkeys(("ledger_id", "subject", "key_id"), UUID(int=0))
    while rows := await (await connection.execute(_PAGE, after | {"limit": REWRAPPED_AT_ONCE})).fetchall():
        for row in rows:
            yield _wrapped(row)
        after = {name: rows[-1][name] for name in after}


async def restore(connection: Connection, wrapped: WrappedKey) -> bool:
    """Bring a key back from a backup, unless it is there or was destroyed since; return whether it was brought back."""
    return bool((await connection.execute(_RESTORE, row_of(wrapped))).rowcount)


def row_of(wrapped: WrappedKey) -> dict[str, object]:
    """Return a key's row by the names of its columns."""
    return {name: getattr(wrapped, name) for name in WrappedKey.__struct_fields__}


def _wrapped(row: DictRow) -> WrappedKey:
    return WrappedKey(**{name: row[name] for name in WrappedKey.__struct_fields__})


def _bound_to(ledger_id: UUID, subject: UUID, key: SubjectKey) -> bytes:
    return f"campaign-ledger 1 subject key\n{ledger_id}\n{subject}\n{key.key_id}".encode()

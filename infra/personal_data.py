"""Personal data in the log: each value encrypted under a key of whom it is about, beside a salted commitment to it.

Destroying the key (see `infra.subject_keys`) erases the value wherever the log went, and no byte of the log changes.
Who is told a value and its salt can check the commitment against the log, and so that this is what was entered.

A value is `encrypted:<key id>:<commitment>:<ciphertext>`, the id in hexadecimal, the others in base64url:

- the commitment is HMAC-SHA-256, keyed with a random salt, of ledger, subject, field and value, a line each;
- the ciphertext is a nonce and AES-256-GCM of the salt and the value, filled up with NUL so that its length tells
  little, with ledger, subject, field, key and commitment as associated data: it can be moved nowhere else.
"""

import base64
import hmac
import secrets
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct, structs

from domain.events import AdvertiserChanged, AdvertiserCreated
from domain.terms import CONTACT
from infra.event_log import Recorded
from infra.subject_keys import NONCE_BYTES, Subject, SubjectKey, fresh_key

PREFIX: Final = "encrypted:"
SALT_BYTES: Final = 32
BLOCK_BYTES: Final = 64

T = TypeVar("T", bound=Struct)


class Opened(NamedTuple):
    """A value of the log that could be decrypted, and the salt (hexadecimal) of its commitment."""

    value: str
    salt: str


def encrypt(subject: Subject, key: SubjectKey, field: str, value: str) -> str:
    """Return a value as the log holds it."""
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    committed = commitment(subject, field, value, salt)
    plain = salt + value.encode()
    padded = plain.ljust(-(-len(plain) // BLOCK_BYTES) * BLOCK_BYTES, b"\0")
    text = nonce + AESGCM(key.secret).encrypt(nonce, padded, _bound_to(subject, field, key, committed))
    return f"{PREFIX}{key.key_id.hex}:{committed}:{_base64url(text)}"


def decrypt(subject: Subject, field: str, text: str) -> Opened | None:
    """Return what an encrypted value says; None when its key was destroyed. InvalidTag says that it was altered."""
    _, key_id, committed, sealed = text.split(":")
    key = next((each for each in subject.keys if each.key_id.hex == key_id), None)
    if key is None:
        return None
    raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    bound_to = _bound_to(subject, field, key, committed)
    plain = AESGCM(key.secret).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], bound_to)
    return Opened(plain[SALT_BYTES:].rstrip(b"\0").decode(), plain[:SALT_BYTES].hex())


def commitment(subject: Subject, field: str, value: str, salt: bytes) -> str:
    """Return the commitment to a value: 43 characters of base64url."""
    said = f"{subject.ledger_id}\n{subject.id}\n{field}\n{value}"
    return _base64url(hmac.digest(salt, said.encode(), "sha256"))


def commitment_in(text: str) -> str:
    """Return the commitment that an encrypted value carries."""
    return text.split(":")[2]


def encrypted(subject: Subject, events: Sequence[T]) -> tuple[tuple[T, ...], SubjectKey | None]:
    """Return events of an advertiser as the log holds them, and the key to be written with them, if it is a new one."""
    key: SubjectKey | None = subject.keys[-1] if subject.keys else None
    found: list[T] = []
    for event in events:
        if isinstance(event, AdvertiserCreated | AdvertiserChanged) and _values_in(event):
            key = key or fresh_key()
            values = {field: encrypt(subject, key, field, value) for field, value in _values_in(event).items()}
            found.append(structs.replace(event, **values))
        else:
            found.append(event)
    return tuple(found), key if key is not None and key.fresh else None


def decrypted(subject: Subject, of: T) -> T:
    """Return an event, or whatever else is built on the terms of an advertiser, as it reads to who may read it.

    What was erased is None. What stood in the log before contacts were encrypted stays as it is.
    """
    values = {field: value for field, value in _values_in(of).items() if value.startswith(PREFIX)}
    opened = {field: decrypt(subject, field, value) for field, value in values.items()}
    return structs.replace(of, **{field: each and each.value for field, each in opened.items()}) if opened else of


def decrypted_entries(subject: Subject, entries: Iterable[Recorded]) -> list[Recorded]:
    """Return the entries of an advertiser's stream as they read to who may read them."""
    return [
        structs.replace(each, entry=structs.replace(each.entry, event=decrypted(subject, each.entry.event)))
        for each in entries
    ]


def _values_in(of: Struct) -> dict[str, str]:
    values = {field: getattr(of, field, None) for field in CONTACT}
    return {field: value for field, value in values.items() if isinstance(value, str)}


def _bound_to(subject: Subject, field: str, key: SubjectKey, committed: str) -> bytes:
    said = ("campaign-ledger 1 personal data", subject.ledger_id, subject.id, field, key.key_id, committed)
    return "\n".join(map(str, said)).encode()


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

"""The keys that sign the log, in files outside the database, and what the signer remembers beside them.

It remembers the last checkpoint that it signed, and signs none that does not continue it: who restores or edits the
database cannot make the ledger sign another history.
"""

import fcntl
import os
import secrets
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from msgspec import Struct

from infra import checkpoint, signed_note
from infra.checkpoint import Checkpoint, Signer
from infra.keys import SecretUnfit, ed25519_key, fresh_signing_key, keys_folder, made_once, private, private_key, synced
from infra.settings import SettingMissing, Settings
from infra.signed_note import COSIGNATURE_MLDSA44, ED25519, Note, NoteMalformed


class SigningRefused(Exception):
    """Nothing is signed any more: {reason}."""

    def __init__(self, reason: str) -> None:
        """Say what does not fit what was signed before."""
        super().__init__(str(self.__doc__).format(reason=reason))


class LogKeys(Struct, frozen=True, kw_only=True):
    """The private keys of a log, and where the first of them is kept; `origin` is what the log is called, if said.

    While the first replaces a previous one, both sign. The `first` ledger is called that; those after it have their own
    ids behind it.
    """

    path: Path
    ed25519: Ed25519PrivateKey
    previous_path: Path | None = None
    previous: Ed25519PrivateKey | None = None
    mldsa44: MLDSA44PrivateKey | None = None
    origin: str | None = None
    first: UUID | None = None

    def __repr__(self) -> str:
        """Show nothing secret."""
        return f"LogKeys(path={str(self.path)!r})"

    def origin_of(self, ledger_id: UUID) -> str:
        """Return what a ledger's log is called in every checkpoint, for ever."""
        if self.origin is None:
            return f"campaign-ledger/{ledger_id}"
        return self.origin if self.first in {None, ledger_id} else f"{self.origin}/{ledger_id}"

    def signers(self, ledger_id: UUID) -> tuple[Signer, ...]:
        """Return the keys under the name of a ledger's log: the Ed25519 key, the one before, the ML-DSA-44 key."""
        origin = self.origin_of(ledger_id)
        signers = [
            Signer(signed_note.verifier_key(origin, ED25519, key), key) for key in (self.ed25519, self.previous) if key
        ]
        if self.mldsa44 is not None:
            key = signed_note.verifier_key(origin, COSIGNATURE_MLDSA44, self.mldsa44)
            signers.append(Signer(key, self.mldsa44))
        return tuple(signers)

    def memory(self, ledger_id: UUID) -> Path:
        """Return the file that remembers the last checkpoint that was signed for a ledger."""
        return _memory_beside(self.path, ledger_id)

    def recalled(self, ledger_id: UUID) -> list[Note]:
        """Return what is remembered beside the key, and beside the one before; raise SigningRefused."""
        paths = [_memory_beside(path, ledger_id) for path in (self.path, self.previous_path) if path is not None]
        return [note for note in map(recall, paths) if note is not None]


def read(settings: Settings) -> LogKeys:
    """Return the log's keys that the settings name; an embedded install makes the first one itself.

    Raises SettingMissing for a key that nobody named, SecretUnfit for one that cannot be used.
    """
    mldsa44, previous = settings.log_mldsa44_key_file, settings.log_previous_key_file
    path, pem = _named(settings)
    return LogKeys(
        path=path,
        ed25519=ed25519_key(path, pem),
        previous_path=previous,
        previous=ed25519_key(previous, _held(previous)) if previous else None,
        mldsa44=_mldsa44_key(mldsa44) if mldsa44 else None,
        origin=settings.log_origin,
    )


def recall(path: Path) -> Note | None:
    """Return the last checkpoint that was signed, as the file remembers it; raise SigningRefused for a damaged one."""
    try:
        note = signed_note.parse(path.read_bytes())
        checkpoint.parse(note.text)
    except FileNotFoundError:
        return None
    except NoteMalformed as error:
        raise SigningRefused(f"{path} should hold the last checkpoint that was signed, but {error}") from error
    return note


def remember(path: Path, note: Note) -> None:
    """Remember a checkpoint before anybody can see it; raise SigningRefused when a later or another one was signed.

    Processes of one machine share the file. One that was frozen meanwhile must not put back what another has written.
    """
    new = checkpoint.parse(note.text)
    with path.with_suffix(".lock").open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        last = recall(path)
        if last is not None:
            _check_continues(checkpoint.parse(last.text), new)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(str(note))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        synced(path.parent)


def _memory_beside(path: Path, ledger_id: UUID) -> Path:
    return path.with_name(f"{path.stem}-{ledger_id}.checkpoint")


def _check_continues(last: Checkpoint, new: Checkpoint) -> None:
    if (new.origin, max(new.size, last.size)) != (last.origin, new.size):
        raise SigningRefused(
            f"{last.origin} at size {last.size:,} was signed since, before {new.origin} at {new.size:,}"
        )
    if new.size == last.size and new.root != last.root:
        raise SigningRefused(f"another tree of {last.size:,} entries was signed before")


def _named(settings: Settings) -> tuple[Path, bytes]:
    if settings.log_key_file is not None:
        return settings.log_key_file, _held(settings.log_key_file)
    if settings.embedded:
        path = keys_folder(settings.data_dir) / "log.pem"
        return path, made_once(path, fresh_signing_key)
    how = "(umask 077; openssl genpkey -algorithm ed25519 -out log.pem)"
    raise SettingMissing(f"LEDGER_LOG_KEY_FILE is not set. This makes one, in a folder that can be written to: {how}")


def _mldsa44_key(path: Path) -> MLDSA44PrivateKey:
    key = private_key(path, _held(path))
    if not isinstance(key, MLDSA44PrivateKey):
        raise SecretUnfit(str(path), "its key is not an ML-DSA-44 key")
    return key


def _held(path: Path) -> bytes:
    try:
        return private(path).read_bytes()
    except OSError as failure:
        raise SecretUnfit(str(path), str(failure.strerror)) from failure

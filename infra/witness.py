"""A witness: somebody who cosigns a log's checkpoints, once it is shown that each continues the one before.

What it promises (C2SP tlog-witness) is that it never cosigns two histories of one log, so that nobody who asks for its
cosignature can be shown another history than everybody else. It remembers the last checkpoint of each log in a file.
It cosigns with ML-DSA-44, as the specification advises, and with Ed25519, which more software can verify. What is
optional there, cosigning parts of a tree (sign-subtree), it does not do.
"""

import asyncio
import base64
import binascii
import fcntl
import os
import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from domain import merkle
from infra import checkpoint, clock, keys, mirror, signed_note
from infra.checkpoint import Signer
from infra.keys import SecretUnfit
from infra.signed_note import COSIGNATURE_ED25519, COSIGNATURE_MLDSA44, Note, NoteMalformed, VerifierKey

PROOF_LINES_MAX: Final = 63
REQUEST_BYTES_MAX: Final = 1 << 18

_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})")


class SubmissionMalformed(Exception):
    """The request is no old size, proof and checkpoint."""


class LogUnknown(Exception):
    """No log of that name is witnessed here."""


class NotTheLogs(Exception):
    """The checkpoint is not signed by the log."""


class NotContinued(Exception):
    """The proof does not show that the checkpoint continues the one that was cosigned."""


class SizeOutdated(Exception):
    """Another checkpoint was cosigned meanwhile."""

    def __init__(self, size: int) -> None:
        """Say how many entries the last one has."""
        super().__init__(f"the last checkpoint that was cosigned has {size} entries")
        self.size = size


class Submission(NamedTuple):
    """A checkpoint to cosign, and the proof that it continues the one of an old size."""

    old_size: int
    proof: Sequence[bytes]
    note: Note


class Witness:
    """A witness of some logs, which are known by their keys; all that it knows is in a folder."""

    def __init__(self, folder: Path, name: str, logs: Sequence[VerifierKey]) -> None:
        """Take up what the folder holds; a key is made in an empty one. Raise SecretUnfit or NoteMalformed."""
        self._folder = folder
        self._logs = logs
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.signers = (
            _signer(name, COSIGNATURE_ED25519, folder / "witness.pem", keys.fresh_signing_key),
            _signer(name, COSIGNATURE_MLDSA44, folder / "witness-mldsa44.pem", _fresh_mldsa44_key),
        )

    async def add_checkpoint(self, body: bytes) -> str:
        """Return the cosignatures of a checkpoint, remembered before anybody sees them; raise what is wrong with it."""
        submission = parse_submission(body)
        return await asyncio.to_thread(self._add, submission)

    def checkpoint_of(self, origin_sha256: str) -> str | None:
        """Return the last checkpoint of the log whose name has that SHA-256, with its cosignature."""
        known = {_named(key.name): key.name for key in self._logs}
        note = self._last(known[origin_sha256]) if origin_sha256 in known else None
        return None if note is None else str(note)

    def _add(self, submission: Submission) -> str:
        new = checkpoint.parse(submission.note.text)
        trusted = [key for key in self._logs if key.name == new.origin]
        if not trusted:
            raise LogUnknown(LogUnknown.__doc__)
        try:
            signed = checkpoint.signers_of(submission.note, trusted)
        except NoteMalformed as error:
            raise NotTheLogs(str(error)) from error
        if not signed:
            raise NotTheLogs(NotTheLogs.__doc__)
        if submission.old_size > new.size:
            raise SubmissionMalformed("the old size is larger than the new one")
        with (self._folder / "witness.lock").open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            last = self._last(new.origin)
            old = checkpoint.parse(last.text) if last else checkpoint.Checkpoint(new.origin, 0, merkle.EMPTY_ROOT)
            if submission.old_size != old.size:
                raise SizeOutdated(old.size)
            if not merkle.verify_consistency(old.size, new.size, submission.proof, old.root, new.root):
                raise NotContinued(NotContinued.__doc__)
            now = int(clock.now().timestamp())
            text, lines = submission.note
            cosignatures = [checkpoint.sign_text(text, signer, timestamp=now) for signer in self.signers]
            by_log = [line for line in lines if any(line.is_by(key) for key in signed)]
            self._remember(new.origin, Note(text, (*by_log, *cosignatures)))
        return "".join(map(str, cosignatures))

    def _last(self, origin: str) -> Note | None:
        path = self._folder / f"{_named(origin)}.checkpoint"
        return signed_note.parse(path.read_bytes()) if path.exists() else None

    def _remember(self, origin: str, note: Note) -> None:
        path = self._folder / f"{_named(origin)}.checkpoint"
        mirror.write(path, str(note).encode())
        for written in (path, self._folder):
            descriptor = os.open(written, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def parse_submission(body: bytes) -> Submission:
    """Return what a request to add a checkpoint asks for; raise SubmissionMalformed."""
    head, border, note = body.partition(b"\n\n")
    old, *lines = head.decode(errors="replace").split("\n")
    size = _OLD.fullmatch(old)
    try:
        proof = [base64.b64decode(line, validate=True) for line in lines]
        parsed = signed_note.parse(note)
        checkpoint.parse(parsed.text)
    except (binascii.Error, ValueError, NoteMalformed) as error:
        raise SubmissionMalformed(str(error)) from error
    if not border or size is None or len(proof) > PROOF_LINES_MAX:
        raise SubmissionMalformed(SubmissionMalformed.__doc__)
    return Submission(int(size[1]), proof, parsed)


def _signer(name: str, kind: int, path: Path, make: Callable[[], bytes]) -> Signer:
    key = keys.private_key(path, keys.made_once(path, make))
    if not isinstance(key, Ed25519PrivateKey if kind == COSIGNATURE_ED25519 else MLDSA44PrivateKey):
        raise SecretUnfit(str(path), "its key is of another kind")
    return Signer(signed_note.verifier_key(name, kind, key), key)


def _fresh_mldsa44_key() -> bytes:
    return MLDSA44PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _named(origin: str) -> str:
    return sha256(origin.encode()).hexdigest()

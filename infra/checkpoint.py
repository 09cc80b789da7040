"""Checkpoints (C2SP tlog-checkpoint v1.0.0): which tree a log stands at, as a signed note.

A log signs the text itself with Ed25519 (kind 0x01). Cosignatures (C2SP tlog-cosignature) also say when they were made:
those with Ed25519 (0x04) and with ML-DSA-44 (0x06) sign messages of their own, made of the text's lines and the time.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from struct import Struct as Layout
from struct import error as LayoutError  # noqa: N812  the standard library names it so
from typing import Final, NamedTuple

from domain.merkle import HASH_BYTES
from infra import signed_note
from infra.signed_note import (
    COSIGNATURE_MLDSA44,
    ED25519,
    Note,
    NoteMalformed,
    PrivateKey,
    Signature,
    VerifierKey,
)

TEXT_LINES_MIN: Final = 3
NAME_BYTES_MAX: Final = 255

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_TIME: Final = Layout(">Q")
_RANGE: Final = Layout(">QQ")


class Checkpoint(NamedTuple):
    """A tree: whose, how many leaves it has, and its root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


class Signer(NamedTuple):
    """A key that signs checkpoints."""

    key: VerifierKey
    private_key: PrivateKey


def parse(text: str) -> Checkpoint:
    """Return the tree that the text of a note speaks of; raise NoteMalformed."""
    lines = text.split("\n")
    if len(lines) <= TEXT_LINES_MIN or "" in lines[:-1] or not _SIZE.fullmatch(lines[1]):
        raise NoteMalformed("the note's text is no checkpoint")
    try:
        root = base64.b64decode(lines[2], validate=True)
    except (binascii.Error, ValueError):
        root = b""
    if len(root) != HASH_BYTES or base64.b64encode(root).decode() != lines[2]:
        raise NoteMalformed("the checkpoint's root is no SHA-256 hash")
    return Checkpoint(lines[0], int(lines[1]), root)


def sign(checkpoint: Checkpoint, signers: Iterable[Signer], *, timestamp: int) -> Note:
    """Return a checkpoint with the signatures of these keys; the time (POSIX seconds) goes into cosignatures only."""
    text = checkpoint.text
    return Note(text, tuple(sign_text(text, signer, timestamp=timestamp) for signer in signers))


def sign_text(text: str, signer: Signer, *, timestamp: int) -> Signature:
    """Return a key's signature over the text of a checkpoint."""
    key, private_key = signer
    if key.kind == ED25519:
        return signed_note.sign(text, key, private_key)
    stamped = _TIME.pack(timestamp) + private_key.sign(message(key, text, timestamp))
    return Signature(key.name, key.key_id, stamped)


def verifies(key: VerifierKey, text: str, signature: Signature) -> bool:
    """Tell whether a signature over the text of a checkpoint is by this key."""
    if not signature.is_by(key):
        return False
    if key.kind == ED25519:
        return key.verifies(text.encode(), signature.signature)
    timestamp = timestamp_of(signature)
    stamped = signature.signature[_TIME.size :]
    return timestamp is not None and key.verifies(message(key, text, timestamp), stamped)


def timestamp_of(signature: Signature) -> int | None:
    """Return when a cosignature says that it was made, in POSIX seconds, or None for one too short to say it."""
    try:
        return int(_TIME.unpack_from(signature.signature)[0])
    except LayoutError:
        return None


def signers_of(note: Note, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
    """Return which of these keys have signed a checkpoint; raise NoteMalformed when one's signature is wrong."""
    signed = []
    for key in keys:
        for signature in note.signatures:
            if signature.is_by(key):
                if not verifies(key, note.text, signature):
                    raise NoteMalformed(f"the signature of {key.name} is not over this checkpoint")
                signed.append(key)
    return signed


def message(key: VerifierKey, text: str, timestamp: int) -> bytes:
    """Return what a cosignature signs: for Ed25519 the whole text, for ML-DSA-44 the tree and the cosigner's name."""
    if key.kind != COSIGNATURE_MLDSA44:
        return f"cosignature/v1\ntime {timestamp}\n{text}".encode()
    origin, size, root = parse(text)
    stamped = _named(key.name) + _TIME.pack(timestamp) + _named(origin)
    return b"subtree/v1\n\x00" + stamped + _RANGE.pack(0, size) + root


def _named(name: str) -> bytes:
    encoded = name.encode()
    if not 0 < len(encoded) <= NAME_BYTES_MAX:
        raise NoteMalformed(f"a name has 1 to {NAME_BYTES_MAX} bytes")
    return bytes([len(encoded)]) + encoded

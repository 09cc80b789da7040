"""Signed notes (C2SP signed-note v1.0.0): a text, a blank line, and a line for each signature under it."""

import base64
import binascii
import re
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

ED25519: Final = 0x01
COSIGNATURE_ED25519: Final = 0x04
COSIGNATURE_MLDSA44: Final = 0x06
PUBLIC_KEY_BYTES: Final = {ED25519: 32, COSIGNATURE_ED25519: 32, COSIGNATURE_MLDSA44: 1_312}

NOTE_BYTES_MAX: Final = 1_000_000
SIGNATURES_MAX: Final = 100
KEY_ID_BYTES: Final = 4

_DASH: Final = "\N{EM DASH}"
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NAME: Final = re.compile(r"[^\s+]+")

PrivateKey = Ed25519PrivateKey | MLDSA44PrivateKey


class NoteMalformed(Exception):
    """The text is no signed note, or the key no verifier key."""


class VerifierKey(NamedTuple):
    """The public key of a signer: its name, the kind of its signatures (one of the numbers above), and its bytes."""

    name: str
    kind: int
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes with which every signature of this key begins."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public_key).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        """Return the key as it is written down and handed on."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(bytes([self.kind]) + self.public_key)}"

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Tell whether this key signed a message."""
        key: Ed25519PublicKey | MLDSA44PublicKey = (
            MLDSA44PublicKey.from_public_bytes(self.public_key)
            if self.kind == COSIGNATURE_MLDSA44
            else Ed25519PublicKey.from_public_bytes(self.public_key)
        )
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class Signature(NamedTuple):
    """A line under a note: whose key is said to have signed, and what follows the key's id."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        """Return the line."""
        return f"{_DASH} {self.name} {_base64(self.key_id + self.signature)}\n"

    def is_by(self, key: VerifierKey) -> bool:
        """Tell whether the line names this key; that says nothing about the signature."""
        return (self.name, self.key_id) == (key.name, key.key_id)


class Note(NamedTuple):
    """A text, which ends in a line feed, and the signatures under it, none of them verified."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        """Return the note as it is sent and stored."""
        return f"{self.text}\n{''.join(map(str, self.signatures))}"


def verifier_key(name: str, kind: int, private_key: PrivateKey) -> VerifierKey:
    """Return the public half of a key under a name; raise NoteMalformed for a name that no signature may carry."""
    if not _NAME.fullmatch(name):
        raise NoteMalformed("a key's name is not empty, and has neither spaces nor a plus sign")
    return VerifierKey(name, kind, private_key.public_key().public_bytes_raw())


def parse_key(text: str) -> VerifierKey:
    """Return the verifier key that a text holds; raise NoteMalformed."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    material = _unbase64(encoded)
    if _base64(material) != encoded:
        material = b""
    if not _NAME.fullmatch(name) or not material or len(material) - 1 != PUBLIC_KEY_BYTES.get(material[0]):
        raise NoteMalformed("this is no verifier key of a kind that is known here")
    key = VerifierKey(name, material[0], material[1:])
    if key.key_id.hex() != key_id:
        raise NoteMalformed("the verifier key does not have the id that it claims")
    return key


def parse(note: bytes) -> Note:
    """Return a note's text and signatures; raise NoteMalformed."""
    try:
        decoded = note.decode()
    except UnicodeDecodeError as error:
        raise NoteMalformed("the note is not UTF-8") from error
    text, border, lines = decoded.rpartition("\n\n")
    signatures = lines.split("\n")
    if len(note) > NOTE_BYTES_MAX or _CONTROL.search(decoded) or not border or signatures.pop():
        raise NoteMalformed("the note is not text, a blank line, and lines of signatures")
    if not 0 < len(signatures) <= SIGNATURES_MAX:
        raise NoteMalformed(f"a note has 1 to {SIGNATURES_MAX} signatures")
    return Note(f"{text}\n", tuple(map(parse_signature, signatures)))


def parse_signature(line: str) -> Signature:
    """Return what a line under a note says, without its line feed; raise NoteMalformed."""
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    signature = _unbase64(encoded)
    if dash != _DASH or not _NAME.fullmatch(name) or len(signature) <= KEY_ID_BYTES:
        raise NoteMalformed("a line under the note is no signature")
    return Signature(name, signature[:KEY_ID_BYTES], signature[KEY_ID_BYTES:])


def sign(text: str, key: VerifierKey, private_key: PrivateKey) -> Signature:
    """Sign a text as it stands, with an Ed25519 key."""
    return Signature(key.name, key.key_id, private_key.sign(text.encode()))


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _unbase64(text: str) -> bytes:
    """Return what a text encodes; nothing when it encodes nothing."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""

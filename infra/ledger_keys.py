"""The keys of one ledger, derived from the secret of the process, and the two hashes that are keyed with them."""

import base64
from hashlib import blake2b
from typing import Final, Literal
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from infra.keys import Keys

KEY_BYTES: Final = 32
PSEUDONYM_BYTES: Final = 16
DRAW_BYTES: Final = 32

Purpose = Literal["beacon", "draw", "mail", "request", "sign-in", "throttle", "viewer", "webhook"]


class LedgerKeys(Struct, frozen=True, kw_only=True):
    """The keys of a ledger: beacon tokens by generation with the current first, viewer pseudonyms, draws, requests.

    `request` keys, by generation as well, the fingerprints of what was asked for under an Idempotency-Key: without it,
    whoever guesses what a body said could find it confirmed, after it was erased as well.
    """

    ledger_id: UUID
    beacon: tuple[bytes, ...]
    viewer: bytes
    draw: bytes
    request: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        """Show nothing secret."""
        return f"LedgerKeys(ledger_id={self.ledger_id!r})"


def of_ledger(keys: Keys, ledger_id: UUID) -> LedgerKeys:
    """Return the keys of a ledger; nothing that one of them signs or hides means anything in another ledger."""
    current = keys.generations[0]
    return LedgerKeys(
        ledger_id=ledger_id,
        beacon=tuple(derived(secret, "beacon", ledger_id) for secret in keys.generations),
        viewer=derived(current, "viewer", ledger_id),
        draw=derived(current, "draw", ledger_id),
        request=tuple(derived(secret, "request", ledger_id) for secret in keys.generations),
    )


def derived(secret: bytes, purpose: Purpose, ledger_id: UUID | None) -> bytes:
    """Return the key for a purpose, in a ledger or (None) in the whole installation: HKDF-SHA256 (RFC 5869)."""
    info = f"campaign-ledger 1 {purpose} {ledger_id or '-'}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


def pseudonym(viewer_key: bytes, viewer_id: str) -> str:
    """Return the name under which a ledger knows a viewer: keyed BLAKE2b (RFC 7693) of 128 bits, 22 characters."""
    name = blake2b(viewer_id.encode(errors="surrogatepass"), key=viewer_key, digest_size=PSEUDONYM_BYTES).digest()
    return base64.urlsafe_b64encode(name)[:-2].decode()


def draw(draw_key: bytes, decision_id: UUID) -> int:
    """Return the number a decision is drawn with: keyed BLAKE2b (RFC 7693) of its id's 16 bytes, 256 bits, big-endian.

    Who holds the key can repeat it; who does not cannot foresee it. A rotated secret changes the draws after it only.
    """
    return int.from_bytes(blake2b(decision_id.bytes, key=draw_key, digest_size=DRAW_BYTES).digest(), "big")

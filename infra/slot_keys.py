"""Slot keys: what an ad slot proves itself with; shown once, kept as SHA-256."""

import secrets
from hashlib import sha256
from typing import Final, NamedTuple

PREFIX: Final = "lsk_"
"""Lets scanners of source code find a key that was published by mistake."""

SLOT_KEY_BYTES: Final = 32


class FreshSlotKey(NamedTuple):
    """A key that was just made, and what is kept of it."""

    key: str
    sha256: str

    def __repr__(self) -> str:
        """Show nothing secret."""
        return f"FreshSlotKey(sha256={self.sha256!r})"


def fresh() -> FreshSlotKey:
    """Return a new key: `lsk_` and 32 random bytes in base64url."""
    key = PREFIX + secrets.token_urlsafe(SLOT_KEY_BYTES)
    return FreshSlotKey(key, digest(key))


def digest(key: str) -> str:
    """Return the SHA-256 (hexadecimal) of a key as it was presented, whatever that may be.

    A plain hash is enough: 256 random bits cannot be guessed, however fast guesses are.
    """
    return sha256(key.encode(errors="surrogatepass")).hexdigest()

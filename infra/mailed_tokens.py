"""Mailed tokens: what proves that somebody reads the mail of an address. The database holds the id of one, and no more.

A token is 64 characters of base64url: the ledger, an id, and 128 bits of HMAC-SHA-256 of purpose and id, keyed with
what follows from LEDGER_SECRET_KEY for the ledger. So it is written when its letter is, each time the same, and
whoever reads the database, the outbox or a backup cannot write it. What it opens, whether it was used and until when it
is good is looked up under its id.
"""

import base64
import hmac
import re
from typing import Final, Literal
from uuid import UUID

from domain.errors import Refusal
from infra.keys import Keys
from infra.ledger_keys import derived

Purpose = Literal["invitation", "registration", "reset", "verification"]

ID_BYTES: Final = 16
MAC_BYTES: Final = 16

_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]{64}")


class TokenUnfit(Refusal):
    """The token opens nothing; why is not told, or it would tell a stranger who has an account."""

    code = "invalid_token"

    def __init__(self) -> None:
        """Say what holds for forged, foreign, used, withdrawn and expired ones alike."""
        super().__init__(
            "The token is not valid, or no longer. Who has an account accepts an invitation while signed in to it.",
            pointer="/token",
        )


def written(keys: Keys, purpose: Purpose, ledger_id: UUID, token_id: UUID) -> str:
    """Return the token with an id, for the letter that takes it to its reader."""
    mac = _mac(keys.generations[0], purpose, ledger_id, token_id)
    return base64.urlsafe_b64encode(ledger_id.bytes + token_id.bytes + mac).decode()


def read(keys: Keys, purpose: Purpose, token: str) -> tuple[UUID, UUID]:
    """Return the ledger and the id of a token that was written for a purpose, now or under the secret before.

    Raises TokenUnfit. Whether the token is still good, the id alone says.
    """
    if not _SHAPE.fullmatch(token):
        raise TokenUnfit
    raw = base64.urlsafe_b64decode(token)
    ledger_id, token_id = UUID(bytes=raw[:ID_BYTES]), UUID(bytes=raw[ID_BYTES : 2 * ID_BYTES])
    macs = (_mac(secret, purpose, ledger_id, token_id) for secret in keys.generations)
    if not any(hmac.compare_digest(raw[2 * ID_BYTES :], mac) for mac in macs):
        raise TokenUnfit
    return ledger_id, token_id


def _mac(secret: bytes, purpose: Purpose, ledger_id: UUID, token_id: UUID) -> bytes:
    key = derived(secret, "mail", ledger_id)
    return hmac.digest(key, purpose.encode() + b"\n" + token_id.bytes, "sha256")[:MAC_BYTES]

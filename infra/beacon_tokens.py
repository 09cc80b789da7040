"""Beacon tokens: what the URLs that report what became of a decision carry, signed, so that no lookup is needed.

`<letter of the kind><base64url: key id (1 byte), ticket (MessagePack), MAC (16 bytes)>`, where the MAC is keyed
BLAKE2b (RFC 7693, in a third of the time of HMAC-SHA256) over: format version, key id, ledger id, kind, ticket. Every
field before the ticket has a fixed length, so that no two tokens are signed over the same bytes. An expired ticket
verifies: it is recorded, as late.

Advertisers have a token of the same form for pages that report conversions, with their id in the place of the ticket.
Exchanges have one of the impression's ticket for the notice that they bill, which no page gets to see.
"""

import base64
import hmac
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final
from uuid import UUID

import msgspec

from domain.basis import Basis
from domain.budget import DeliveryKind, PlaybackKind
from domain.delivery import PLAYBACK, Ticket
from infra.ledger_keys import LedgerKeys

TOKEN_CHARACTERS_MAX: Final = 2_000
MAC_BYTES: Final = 16

_VERSION: Final = b"\x01"
_LETTERS: Final[dict[DeliveryKind, str]] = {
    "impression": "i",
    "view": "v",
    "click": "c",
    "start": "s",
    "first_quartile": "f",
    "midpoint": "m",
    "third_quartile": "t",
    "complete": "d",
    "error": "e",
}
_ADVERTISER: Final = "x"
"""The letter of the token by which an advertiser's pages report conversions."""

_NOTICE: Final = "b"
"""The letter of the token by which an exchange reports that it bills an impression."""

_KINDS: Final[dict[str, DeliveryKind]] = {letter: kind for kind, letter in _LETTERS.items()}

_NIL: Final = b"\xc0"
_UUID_BYTES: Final = 16

_encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_decode = msgspec.msgpack.Decoder(Ticket).decode


class TokenForged(Exception):
    """The token was not signed by this ledger, or was altered since."""

    def __init__(self) -> None:
        """Tell nothing about what was wrong with it."""
        super().__init__(self.__doc__)


class BeaconTokens:
    """Signs and verifies the beacon tokens of one ledger; after a rotation it still verifies the generation before."""

    def __init__(self, keys: LedgerKeys) -> None:
        """Prepare all that does not depend on the ticket."""
        self._generations = tuple(_Generation(key, keys.ledger_id) for key in keys.beacon)
        self._current = self._generations[0]

    def prefixes(self) -> Iterator[str]:
        """Yield what, after the letter, the tokens of this ledger begin with, though others' may as well."""
        for generation in self._generations:
            for rest in range(16):  # two characters hold the key's id and four bits of what follows
                yield base64.urlsafe_b64encode(generation.key_id + bytes([rest << 4]))[:2].decode()

    def sign(self, kind: DeliveryKind, ticket: Ticket) -> str:
        """Return the token that reports a delivery of that kind."""
        return self._current.token(_LETTERS[kind], _encode(ticket))

    def sign_all(self, ticket: Ticket, basis: Basis | None = None) -> tuple[str, str, str]:
        """Return the tokens for impression, view and click; the ticket, without a basis, is encoded once.

        The basis of the decision goes into the token of the impression, in its place near the end of the ticket.
        """
        token, encoded = self._current.token, _encode(ticket)
        end = _NIL if ticket.earlier is None else _encode(ticket.earlier)
        based = encoded if basis is None else encoded.removesuffix(_NIL + end) + _encode(basis) + end
        return token("i", based), token("v", encoded), token("c", encoded)

    def sign_playback(self, ticket: Ticket) -> dict[PlaybackKind, str]:
        """Return the tokens for what a player reports; the ticket is encoded once."""
        token, encoded = self._current.token, _encode(ticket)
        return {kind: token(_LETTERS[kind], encoded) for kind in PLAYBACK}

    def sign_notice(self, ticket: Ticket) -> str:
        """Return the token with which an exchange reports that it bills an impression."""
        return self._current.token(_NOTICE, _encode(ticket))

    def verify_notice(self, token: str) -> Ticket:
        """Return the ticket of an authentic token of a notice; for any other string raise TokenForged."""
        if token[:1] != _NOTICE or len(token) > TOKEN_CHARACTERS_MAX:
            raise TokenForged
        return self._ticket(token)

    def sign_advertiser(self, advertiser_id: UUID) -> str:
        """Return the token with which whoever has it reports conversions of an advertiser."""
        return self._current.token(_ADVERTISER, advertiser_id.bytes)

    def verify_advertiser(self, token: str) -> UUID:
        """Return whose conversions an authentic token reports; for any other string raise TokenForged."""
        if token[:1] != _ADVERTISER or len(token) > TOKEN_CHARACTERS_MAX:
            raise TokenForged
        encoded = self._verified(token)
        if len(encoded) != _UUID_BYTES:
            raise TokenForged
        return UUID(bytes=encoded)

    def verify(self, token: str) -> tuple[DeliveryKind, Ticket]:
        """Return the kind and the ticket of an authentic token; for any other string raise TokenForged."""
        kind = _KINDS.get(token[:1])
        if kind is None or len(token) > TOKEN_CHARACTERS_MAX:
            raise TokenForged
        return kind, self._ticket(token)

    def _ticket(self, token: str) -> Ticket:
        try:
            return _decode(self._verified(token))
        except msgspec.DecodeError:  # signed by another version of this program
            raise TokenForged from None

    def _verified(self, token: str) -> bytes:
        raw = _canonically_decoded(token[1:])
        key_id, encoded, mac = raw[:1], raw[1:-MAC_BYTES], raw[-MAC_BYTES:]
        for generation in self._generations:
            if key_id == generation.key_id and hmac.compare_digest(mac, generation.mac(token[0], encoded)):
                return encoded
        raise TokenForged


class _Generation:
    def __init__(self, key: bytes, ledger_id: UUID) -> None:
        self.key_id = _mac(key, b"key id")[:1]
        self._key = key
        self._heads = {
            letter: _VERSION + self.key_id + ledger_id.bytes + letter.encode()
            for letter in (*_LETTERS.values(), _ADVERTISER, _NOTICE)
        }

    def mac(self, letter: str, encoded: bytes) -> bytes:
        return _mac(self._key, self._heads[letter] + encoded)

    def token(self, letter: str, encoded: bytes) -> str:
        signed = self.key_id + encoded + self.mac(letter, encoded)
        return letter + base64.urlsafe_b64encode(signed).rstrip(b"=").decode()


def _mac(key: bytes, message: bytes) -> bytes:
    return blake2b(message, key=key, digest_size=MAC_BYTES).digest()


def _canonically_decoded(text: str) -> bytes:
    """Decode the one way of writing these bytes; the decoder alone would skip what it does not know, and spare bits."""
    try:
        digits = text.encode("ascii")
        raw = base64.urlsafe_b64decode(digits + b"=" * (-len(digits) % 4))
    except ValueError:
        raise TokenForged from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != digits:
        raise TokenForged
    return raw

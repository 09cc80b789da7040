"""Access tokens: who somebody is, for a quarter of an hour, signed with Ed25519 (RFC 9068, RFC 8037, RFC 8725)."""

import re
from datetime import timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

import jwt
import msgspec
from msgspec import Struct

from infra import clock
from infra.keys import Keys
from infra.users import Role, User

ACCESS_TOKEN_SECONDS: Final = 900
CLOCK_DIFFERENCE_SECONDS_MAX: Final = 5
"""How far the clocks of two machines may be apart: a token of one must be good on the other at once."""

TOKENS_KNOWN_MAX: Final = 1_024
"""So many tokens a process knows again: verifying a signature takes a twentieth of an ordinary read."""

ALGORITHM: Final = "EdDSA"
AUDIENCE: Final = "campaign-ledger"
TYPE: Final = "at+jwt"

# Bounded before anything is decoded; PyJWT would also take padding.
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]{1,500}\.[A-Za-z0-9_-]{1,4000}\.[A-Za-z0-9_-]{86}")


class Claims(Struct, frozen=True, kw_only=True):
    """What an access token says, under the names of RFC 9068; `ledger`, `role` and `advertisers` are ours.

    `sid` is the session that it was given in (OpenID Connect Front-Channel Logout, section 3).
    """

    iss: str
    aud: str
    sub: UUID
    exp: int
    iat: int
    nbf: int
    jti: UUID
    ledger: UUID
    role: Role
    sid: UUID
    advertisers: tuple[UUID, ...]


class TokenRefused(Exception):
    """The access token is not valid, or no longer."""

    def __init__(self, reason: str) -> None:
        """Keep for the log what the client is not told."""
        super().__init__(self.__doc__)
        self.reason = reason


def issue(user: User, *, keys: Keys, issuer: str, session: UUID) -> str:
    """Return a new access token for a person; `issuer` is the service's public URL."""
    now = int(clock.now().timestamp())
    claims = Claims(
        iss=issuer,
        aud=AUDIENCE,
        sub=user.id,
        exp=now + ACCESS_TOKEN_SECONDS,
        iat=now,
        nbf=now,
        jti=clock.fresh_id(),
        ledger=user.ledger_id,
        role=user.role,
        sid=session,
        advertisers=user.advertiser_ids,
    )
    header = {"kid": keys.kid, "typ": TYPE}
    return jwt.encode(msgspec.to_builtins(claims), keys.signing_key, algorithm=ALGORITHM, headers=header)


def verify(token: str, *, keys: Keys, issuer: str) -> Claims:
    """Return what a token says if this service signed it as an access token and it is valid now; else TokenRefused."""
    if not _SHAPE.fullmatch(token):
        raise TokenRefused("shape")
    try:
        header = jwt.get_unverified_header(token)
        key = keys.public_keys.get(header.get("kid", ""))
        if header.get("typ") != TYPE or key is None:
            raise TokenRefused("typ" if key else "kid")
        payload = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=issuer,
            leeway=timedelta(seconds=CLOCK_DIFFERENCE_SECONDS_MAX),
            options={"require": list(Claims.__struct_fields__), "strict_aud": True},
        )
        return msgspec.convert(payload, Claims)
    except jwt.PyJWTError as failure:
        raise TokenRefused(type(failure).__name__) from failure
    except msgspec.ValidationError as failure:
        raise TokenRefused(str(failure)) from failure


class KnownTokens:
    """The access tokens that a process has verified, by SHA-256: their signatures stay right, and only time passes."""

    def __init__(self, keys: Keys, *, issuer: str) -> None:
        """Begin with none; they have to be signed by one of the keys, for the issuer."""
        self._keys = keys
        self._issuer = issuer
        self._claims: dict[bytes, Claims] = {}

    def verified(self, token: str) -> Claims:
        """Return what `verify` does, or raise TokenRefused as it does."""
        digest = sha256(token.encode(errors="surrogatepass")).digest()
        known = self._claims.get(digest)
        if known is not None:
            now = clock.now().timestamp()
            if known.exp <= now - CLOCK_DIFFERENCE_SECONDS_MAX:
                raise TokenRefused("expired")
            if max(known.iat, known.nbf) > now + CLOCK_DIFFERENCE_SECONDS_MAX:  # the clock was set back
                raise TokenRefused("not yet valid")
            return known
        claims = verify(token, keys=self._keys, issuer=self._issuer)
        if len(self._claims) >= TOKENS_KNOWN_MAX:
            del self._claims[next(iter(self._claims))]  # the one that is known for longest
        self._claims[digest] = claims
        return claims

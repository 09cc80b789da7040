"""Access tokens that are none, though they resemble one."""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from infra import clock

Sign = Callable[[bytes], bytes]

OTHER_ALGORITHMS: Final = (
    *("none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "RS256", "PS256", "ES256", "ES256K", "ES384"),
    *("ES512", "Ed25519", "Ed448", "eddsa", "EDDSA", "EdDSA ", "dir", "A256KW", "RSA-OAEP"),
)
OTHER_KINDS: Final = {
    "null": None,
    "true": True,
    "zero": 0,
    "negative": -1,
    "fraction": 1.5,
    "empty": "",
    "text": "somebody else",
    "list": ["somebody else"],
    "object": {"somebody": "else"},
}


class Forger(NamedTuple):
    """Somebody who has a valid token, and (to show that what is signed is checked) the key that signs."""

    token: str
    key: Ed25519PrivateKey

    @property
    def header(self) -> dict[str, Any]:
        """What the token's header says."""
        return dict(json.loads(_decoded(self.token.split(".")[0])))

    @property
    def claims(self) -> dict[str, Any]:
        """What the token says."""
        return dict(json.loads(_decoded(self.token.split(".")[1])))

    @property
    def signature(self) -> str:
        """The token's signature, in base64url."""
        return self.token.rpartition(".")[2]

    def signed(self, header: dict[str, Any], claims: bytes | dict[str, Any], sign: Sign | None = None) -> str:
        """Return a token of any header and claims, with a signature over them."""
        text = f"{encoded(header)}.{encoded(claims)}"
        return f"{text}.{encoded((sign or self.key.sign)(text.encode()))}"

    def having(self, **claims: object) -> str:
        """Return a token of other claims, rightly signed."""
        return self.signed(self.header, self.claims | claims)

    def headed(self, **header: object) -> str:
        """Return a token of another header, rightly signed."""
        return self.signed(self.header | header, self.claims)

    def altered(self, header: dict[str, object], claims: dict[str, object]) -> str:
        """Return a token that says something else under the signature that it had."""
        return f"{encoded(self.header | header)}.{encoded(self.claims | claims)}.{self.signature}"


def encoded(part: bytes | dict[str, Any]) -> str:
    """Return a part of a token: bytes, or an object as JSON, in base64url."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(by: Forger) -> dict[str, str]:
    """Return every attack that is known, by name."""
    found: dict[str, str] = {}
    for attacks in (unsigned, by_another_key, for_something_else, at_another_time, of_another_kind, tampered, others):
        found |= dict(attacks(by))
    return found


def unsigned(by: Forger) -> Iterator[tuple[str, str]]:
    """Without a signature, or with one that somebody else could make (RFC 8725, section 2.1)."""
    public = by.key.public_key()
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    yield "two parts", by.token.rpartition(".")[0]
    yield "no signature", by.token.rpartition(".")[0] + "."
    for algorithm in OTHER_ALGORITHMS:
        yield f"alg {algorithm!r}, rightly signed", by.headed(alg=algorithm)
        yield f"alg {algorithm!r}, signature kept", by.altered({"alg": algorithm}, {})
        yield f"alg {algorithm!r}, no signature", f"{encoded(by.header | {'alg': algorithm})}.{encoded(by.claims)}."
    kid, x = by.header["kid"].encode(), encoded(raw).encode()
    for name, guessed in {"PEM": pem, "bytes": raw, "nothing": b"", "kid": kid, "x": x}.items():
        for bits in (256, 384, 512):
            sign = _hmac_with(guessed, f"sha{bits}")
            yield f"HS{bits} by {name}", by.signed(by.header | {"alg": f"HS{bits}"}, by.claims, sign)
        yield f"EdDSA said, HS512 by {name}", by.signed(by.header, by.claims, _hmac_with(guessed, "sha512"))
    elliptic = generate_private_key(SECP256R1())
    yield "ES256", jwt.encode(by.claims, elliptic, algorithm="ES256", headers=by.header | {"alg": "ES256"})
    yield "Ed448", by.signed(by.header, by.claims, Ed448PrivateKey.generate().sign)
    kinds: tuple[object, ...] = (None, 1, ["EdDSA"], {})
    for value in kinds:
        yield f"alg {value}", by.headed(alg=value)
    yield "no alg", by.signed({name: value for name, value in by.header.items() if name != "alg"}, by.claims)


def by_another_key(by: Forger) -> Iterator[tuple[str, str]]:
    """Under a key of somebody else's, or one that is not there."""
    thief = Ed25519PrivateKey.generate()
    x = encoded(thief.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    own = {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": x}}
    headers: dict[str, dict[str, Any]] = {
        "our kid": {},
        "jwk": own,
        "jwk and its kid": {**own, "kid": x},
        "jku": {"jku": "https://thief.example/keys"},
        "x5u": {"x5u": "https://thief.example/certificate"},
        "x5c": {"x5c": [x]},
    }
    for name, header in headers.items():
        yield f"other key, {name}", by.signed(by.header | header, by.claims, thief.sign)
    for kid in ("unknown", "", "../../etc/passwd", "/dev/null", "' OR 1=1 --", "\x00"):
        yield f"kid {kid!r}", by.headed(kid=kid)
    yield "most of our kid", by.headed(kid=by.header["kid"][:-1])
    yield "our kid in a list", by.headed(kid=[by.header["kid"]])
    kinds: tuple[object, ...] = (None, 7, {})
    for value in kinds:
        yield f"kid {value}", by.headed(kid=value)
    yield "no kid", by.signed({name: value for name, value in by.header.items() if name != "kid"}, by.claims)


def for_something_else(by: Forger) -> Iterator[tuple[str, str]]:
    """Signed by us as something else, for somebody else, or by somebody else."""
    for typ in ("JWT", "AT+JWT", "at+jwt ", "application/at+jwt", "refresh+jwt", "id+jwt", "", None, 1, ["at+jwt"]):
        yield f"typ {typ!r}", by.headed(typ=typ)
    yield "no typ", by.signed({name: value for name, value in by.header.items() if name != "typ"}, by.claims)
    yield "critical extension", by.headed(crit=["b64"], b64=False)
    yield "unknown critical extension", by.headed(crit=["unknown"], unknown=True)
    yield "detached payload", by.signed(by.header | {"b64": False, "crit": ["b64"]}, b"")
    for audience in ("another-service", ["campaign-ledger"], "campaign-ledger-2", "Campaign-Ledger", "*"):
        yield f"aud {audience!r}", by.having(aud=audience)
    for issuer in ("https://thief.example", by.claims["iss"] + "/", [by.claims["iss"]], by.claims["iss"].upper()):
        yield f"iss {issuer!r}", by.having(iss=issuer)


def at_another_time(by: Forger) -> Iterator[tuple[str, str]]:
    """Expired, or not valid yet."""
    now = by.claims["iat"]
    for name, claims in {
        "expired": {"exp": now - 60},
        "expired long ago": {"exp": 1},
        "exp text": {"exp": "tomorrow"},
        "exp digits": {"exp": str(now + 900)},
        "exp fraction": {"exp": now + 900.5},
        "exp infinite": {"exp": float("inf")},
        "exp not a number": {"exp": float("nan")},
        "nbf in the future": {"nbf": now + 600},
        "iat in the future": {"iat": now + 600},
        "issued tomorrow": {"iat": now + 86_400, "nbf": now + 86_400, "exp": now + 87_300},
    }.items():
        yield name, by.having(**claims)


def of_another_kind(by: Forger) -> Iterator[tuple[str, str]]:
    """Signed by us without what it has to say, or with what that cannot mean."""
    for claim in by.claims:
        yield f"no {claim}", by.signed(by.header, {name: said for name, said in by.claims.items() if name != claim})
        for name, value in OTHER_KINDS.items():
            if (claim, name) not in {("nbf", "zero"), ("nbf", "negative"), ("iat", "zero"), ("iat", "negative")}:
                yield f"{claim} {name}", by.having(**{claim: value})
    for role in ("owner", "Admin", "admin ", "operators"):
        yield f"role {role!r}", by.having(role=role)
    yield "roles", by.having(role=["admin", "manager"])
    for name, claims in {"no object": b"[]", "no JSON": b"{", "deep": b"[" * 1_400, "no UTF-8": b"\xff"}.items():
        yield f"claims {name}", by.signed(by.header, claims)


def tampered(by: Forger) -> Iterator[tuple[str, str]]:
    """Altered since it was signed."""
    yield "role raised", by.altered({}, {"role": "admin", "padding": ""})
    for claim in ("sub", "ledger", "sid", "jti"):
        yield f"other {claim}", by.altered({}, {claim: str(clock.fresh_id())})
    yield "longer", by.altered({}, {"exp": by.claims["exp"] + 86_400})
    yield "signature of another", by.altered({}, {"jti": by.claims["jti"].upper()})
    yield "signature zero", by.token.rpartition(".")[0] + "." + encoded(bytes(64))
    yield "signature short", by.token[:-2]
    yield "signature long", by.token + "AA"
    yield "signature padded", by.token + "=="
    yield "last bits", by.token[:-1] + chr(ord(by.token[-1]) + 1)
    yield "four parts", by.token + "." + by.signature
    yield "parts swapped", ".".join([by.token.split(".")[1], by.token.split(".")[0], by.signature])
    yield "standard alphabet", by.token.rpartition(".")[0] + "." + "+/" + by.signature[2:]


def others(_by: Forger) -> Iterator[tuple[str, str]]:
    """Something else altogether."""
    encrypted = {"alg": "dir", "enc": "A256GCM"}
    yield "encrypted", ".".join([encoded(encrypted), "", encoded(b"iv"), encoded(b"text"), encoded(b"tag")])
    yield "refresh token", secrets.token_urlsafe(32)
    yield "slot key", "lsk_" + secrets.token_urlsafe(32)
    yield "API key", "lak_" + secrets.token_urlsafe(32)
    yield "dots", ".."
    yield "garbage", "a.b.c"


def _hmac_with(key: bytes, digest: str) -> Sign:
    """Return how somebody signs who takes a public key for a shared secret."""
    return lambda text: hmac.digest(key, text, getattr(hashlib, digest))


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

"""Access tokens: only what this service signed as one, for itself, and that is valid now."""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from typing import Any, Final

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from infra import access_tokens, clock
from infra.access_tokens import ACCESS_TOKEN_SECONDS, TokenRefused
from infra.keys import Keys, thumbprint
from infra.users import User

ISSUER: Final = "https://ledger.example"
USER: Final = User(
    ledger_id=clock.fresh_id(),
    id=clock.fresh_id(),
    email="anna@example.com",
    role="manager",
    active=True,
    created_at=clock.now(),
)


def fresh_keys() -> Keys:
    """Return the keys of a new installation."""
    signing_key = Ed25519PrivateKey.generate()
    kid = thumbprint(signing_key.public_key())
    return Keys(
        generations=(secrets.token_bytes(32),),
        signing_key=signing_key,
        public_keys={kid: signing_key.public_key()},
        kid=kid,
    )


KEYS: Final = fresh_keys()
OTHER_KEYS: Final = fresh_keys()
PUBLIC_RAW: Final = KEYS.signing_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
PUBLIC_PEM: Final = KEYS.signing_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def verify(token: str) -> access_tokens.Claims:
    """Verify as the service does."""
    return access_tokens.verify(token, keys=KEYS, issuer=ISSUER)


def encoded(part: bytes | dict[str, Any]) -> str:
    """Return a part of a token: bytes, or an object as JSON, in base64url."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Return header, claims and signature of a token."""
    header, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    return json.loads(header), json.loads(claims), signature


def signed(
    header: dict[str, Any], claims: bytes | dict[str, Any], sign: Callable[[bytes], bytes] = KEYS.signing_key.sign
) -> str:
    """Return a token of any header and claims with a signature over them, as this service would sign."""
    text = f"{encoded(header)}.{encoded(claims)}"
    return f"{text}.{encoded(sign(text.encode()))}"


def hmac_with(key: bytes) -> Callable[[bytes], bytes]:
    """Return how somebody signs who takes a public key for a shared secret."""
    return lambda text: hmac.digest(key, text, hashlib.sha256)


TOKEN: Final = access_tokens.issue(USER, keys=KEYS, issuer=ISSUER)
HEADER, CLAIMS, SIGNATURE = parts(TOKEN)
NOW: Final = CLAIMS["iat"]


def without(claim: str) -> str:
    """Return a token that lacks a claim."""
    return signed(HEADER, {name: value for name, value in CLAIMS.items() if name != claim})


def having(**claims: object) -> str:
    """Return a token of other claims, rightly signed."""
    return signed(HEADER, CLAIMS | claims)


def headed(**header: object) -> str:
    """Return a token of another header, rightly signed."""
    return signed(HEADER | header, CLAIMS)


def test_a_token_says_who_somebody_is() -> None:
    """A token holds person, ledger and role, for a quarter of an hour, and an id of its own."""
    claims = verify(TOKEN)
    assert (claims.sub, claims.ledger, claims.role) == (USER.id, USER.ledger_id, USER.role)
    assert claims.exp - claims.iat == ACCESS_TOKEN_SECONDS == 900
    assert claims.nbf == claims.iat == pytest.approx(clock.now().timestamp(), abs=60)
    assert claims.jti != verify(access_tokens.issue(USER, keys=KEYS, issuer=ISSUER)).jti
    header, fields, _ = parts(TOKEN)
    assert header == {"alg": "EdDSA", "kid": KEYS.kid, "typ": "at+jwt"}
    assert "email" not in fields


def test_any_library_can_verify_it() -> None:
    """A token is an ordinary JWT under the public key that its `kid` names."""
    assert jwt.decode(TOKEN, PUBLIC_PEM, algorithms=["EdDSA"], audience="campaign-ledger") == CLAIMS


def test_a_key_that_is_rotated_out_still_verifies() -> None:
    """A token verifies under any public key the service knows, and no longer once that is gone."""
    both = Keys(
        generations=KEYS.generations,
        signing_key=OTHER_KEYS.signing_key,
        public_keys=KEYS.public_keys | OTHER_KEYS.public_keys,
        kid=OTHER_KEYS.kid,
    )
    assert access_tokens.verify(TOKEN, keys=both, issuer=ISSUER) == verify(TOKEN)
    with pytest.raises(TokenRefused):
        access_tokens.verify(TOKEN, keys=OTHER_KEYS, issuer=ISSUER)


def test_clocks_may_differ_a_little() -> None:
    """A token that another machine signed a moment ahead is good at once; one that has just expired still is."""
    ahead = having(iat=NOW + 3, nbf=NOW + 3, exp=NOW + 3 + ACCESS_TOKEN_SECONDS)
    assert verify(ahead).iat == NOW + 3
    assert verify(having(exp=int(clock.now().timestamp()) - 1)).sub == USER.id


FORGED: Final = {
    # Without a signature, or with one that somebody else could make (RFC 8725, section 2.1).
    "alg none": f"{encoded(HEADER | {'alg': 'none'})}.{encoded(CLAIMS)}.",
    "alg None": f"{encoded(HEADER | {'alg': 'None'})}.{encoded(CLAIMS)}.",
    "alg none, signature kept": f"{encoded(HEADER | {'alg': 'none'})}.{encoded(CLAIMS)}.{encoded(SIGNATURE)}",
    "alg none, rightly signed": headed(alg="none"),
    "no signature": TOKEN.rpartition(".")[0] + ".",
    "two parts": TOKEN.rpartition(".")[0],
    "HS256 by public PEM": signed(HEADER | {"alg": "HS256"}, CLAIMS, hmac_with(PUBLIC_PEM)),
    "HS256 by public bytes": signed(HEADER | {"alg": "HS256"}, CLAIMS, hmac_with(PUBLIC_RAW)),
    "HS512 by public bytes": signed(
        HEADER | {"alg": "HS512"}, CLAIMS, lambda text: hmac.digest(PUBLIC_RAW, text, hashlib.sha512)
    ),
    "HS256 by empty key": signed(HEADER | {"alg": "HS256"}, CLAIMS, hmac_with(b"")),
    "HS256 by kid": signed(HEADER | {"alg": "HS256"}, CLAIMS, hmac_with(KEYS.kid.encode())),
    "EdDSA said, HS256 done": signed(HEADER, CLAIMS, hmac_with(PUBLIC_RAW)),
    "ES256": jwt.encode(CLAIMS, generate_private_key(SECP256R1()), algorithm="ES256", headers={"kid": KEYS.kid}),
    "Ed448": signed(HEADER, CLAIMS, Ed448PrivateKey.generate().sign),
    "alg RS256": headed(alg="RS256"),
    "alg Ed25519": headed(alg="Ed25519"),
    "alg eddsa": headed(alg="eddsa"),
    "alg null": headed(alg=None),
    "alg list": headed(alg=["EdDSA"]),
    "no alg": signed({"kid": KEYS.kid, "typ": "at+jwt"}, CLAIMS),
    # Under a key of somebody else's.
    "other key, our kid": signed(HEADER, CLAIMS, OTHER_KEYS.signing_key.sign),
    "other installation": access_tokens.issue(USER, keys=OTHER_KEYS, issuer=ISSUER),
    "kid unknown": headed(kid="unknown"),
    "kid empty": headed(kid=""),
    "kid null": headed(kid=None),
    "kid number": headed(kid=7),
    "kid list": headed(kid=[KEYS.kid]),
    "kid path": headed(kid="../../etc/passwd"),
    "kid SQL": headed(kid="' OR 1=1 --"),
    "no kid": signed({"alg": "EdDSA", "typ": "at+jwt"}, CLAIMS),
    "key in the header": signed(
        HEADER
        | {"kid": OTHER_KEYS.kid, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": encoded(PUBLIC_RAW)}}
        | {"jku": "https://thief.example/keys"},
        CLAIMS,
        OTHER_KEYS.signing_key.sign,
    ),
    # Signed by us as something else.
    "typ JWT": headed(typ="JWT"),
    "typ missing": signed({"alg": "EdDSA", "kid": KEYS.kid}, CLAIMS),
    "typ in capitals": headed(typ="AT+JWT"),
    "typ list": headed(typ=["at+jwt"]),
    "critical extension": headed(crit=["b64"], b64=False),
    "unknown critical extension": headed(crit=["unknown"], unknown=True),
    "detached payload": signed(HEADER | {"b64": False, "crit": ["b64"]}, b""),
    # For somebody else, by somebody else.
    "aud other": having(aud="another-service"),
    "aud list": having(aud=["campaign-ledger"]),
    "aud empty": having(aud=""),
    "aud prefix": having(aud="campaign-ledger-2"),
    "iss other": having(iss="https://thief.example"),
    "iss with a slash": having(iss=ISSUER + "/"),
    "iss list": having(iss=[ISSUER]),
    # At another time.
    "expired": having(exp=NOW - 60),
    "expired long ago": having(exp=0),
    "exp negative": having(exp=-1),
    "exp text": having(exp="tomorrow"),
    "exp digits": having(exp=str(NOW + 900)),
    "exp fraction": having(exp=NOW + 900.5),
    "exp infinite": having(exp=float("inf")),
    "exp not a number": having(exp=float("nan")),
    "exp true": having(exp=True),
    "nbf in the future": having(nbf=NOW + 60),
    "iat in the future": having(iat=NOW + 60),
    **{f"no {claim}": without(claim) for claim in CLAIMS},
    **{f"{claim} null": having(**{claim: None}) for claim in CLAIMS},
    # Signed by us with what it cannot mean.
    "sub no UUID": having(sub="anna"),
    "sub number": having(sub=1),
    "ledger no UUID": having(ledger="*"),
    "jti number": having(jti=1),
    "role unknown": having(role="owner"),
    "role list": having(role=["admin", "manager"]),
    "claims no object": signed(HEADER, b"[]"),
    "claims no JSON": signed(HEADER, b"{"),
    "claims deep": signed(HEADER, b"[" * 1_400),
    "claims no UTF-8": signed(HEADER, b"\xff"),
    # Altered since it was signed.
    "role raised": f"{encoded(HEADER)}.{encoded(CLAIMS | {'role': 'admin'})}.{encoded(SIGNATURE)}",
    "other person": f"{encoded(HEADER)}.{encoded(CLAIMS | {'sub': str(clock.fresh_id())})}.{encoded(SIGNATURE)}",
    "signature of another": TOKEN.rpartition(".")[0]
    + "."
    + access_tokens.issue(USER, keys=KEYS, issuer=ISSUER).rpartition(".")[2],
    "signature zero": TOKEN.rpartition(".")[0] + "." + encoded(bytes(64)),
    "signature short": TOKEN[:-2],
    "signature long": TOKEN + "AA",
    "signature padded": TOKEN + "==",
    "last bits": TOKEN[:-1] + chr(ord(TOKEN[-1]) + 1),
    "space before": " " + TOKEN,
    "line after": TOKEN + "\n",
    "four parts": TOKEN + "." + encoded(SIGNATURE),
    "encrypted": ".".join(
        [encoded({"alg": "dir", "enc": "A256GCM"}), "", encoded(b"iv"), encoded(b"text"), encoded(b"tag")]
    ),
    # No token at all.
    "refresh token": secrets.token_urlsafe(32),
    "slot key": "lsk_" + secrets.token_urlsafe(32),
    "empty": "",
    "dots": "..",
    "garbage": "a.b.c",
    "NUL": "\x00",
    "surrogate": "\ud800",
    "other script": "\u89c2.\u4f17.\u4eba",
    "huge": "A" * 1_000_000,
    "huge header": "A" * 1_000_000 + "." + TOKEN.partition(".")[2],
    "huge claims": having(padding="A" * 1_000_000),
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED)
def test_any_other_token_is_refused(token: str) -> None:
    """Whatever differs from a valid token is refused in the same words, with a reason for the log only."""
    assert token != TOKEN
    with pytest.raises(TokenRefused) as refused:
        verify(token)
    assert str(refused.value) == TokenRefused.__doc__
    assert refused.value.reason


@given(st.text(alphabet=st.characters()) | st.from_regex(r"\A[A-Za-z0-9_-]{1,60}(\.[A-Za-z0-9_-]{1,86}){2}\Z"))
def test_no_text_is_an_error(token: str) -> None:
    """Any text is refused rather than an error."""
    with pytest.raises(TokenRefused):
        verify(token)


@given(
    st.integers(0, len(TOKEN) - 1), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
)
def test_no_character_can_be_altered(index: int, character: str) -> None:
    """A token in which one character is another is refused."""
    altered = TOKEN[:index] + character + TOKEN[index + 1 :]
    if altered != TOKEN:
        with pytest.raises(TokenRefused):
            verify(altered)


def test_a_longest_token_fits() -> None:
    """A service under a long URL issues tokens that it takes."""
    issuer = "https://" + "a" * 500 + ".example"
    token = access_tokens.issue(USER, keys=KEYS, issuer=issuer)
    claims = access_tokens.verify(token, keys=KEYS, issuer=issuer)
    assert msgspec.to_builtins(claims)["iss"] == issuer

"""Access tokens: only what this service signed as one, for itself, and that is valid now."""

import secrets
from datetime import timedelta
from typing import Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from infra import access_tokens, clock
from infra.access_tokens import ACCESS_TOKEN_SECONDS, TOKENS_KNOWN_MAX, KnownTokens, TokenRefused
from infra.keys import Keys, thumbprint
from infra.users import ADVERTISERS_MAX, User
from tests.infra.attacks import Forger, forged

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
KNOWN: Final = KnownTokens(KEYS, issuer=ISSUER)
PUBLIC_PEM: Final = KEYS.signing_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def verify(token: str) -> access_tokens.Claims:
    """Verify as the service does, which knows tokens again."""
    return KNOWN.verified(token)


def issued(issuer: str = ISSUER, user: User = USER) -> str:
    """Return a token of a session that has just begun."""
    return access_tokens.issue(user, keys=KEYS, issuer=issuer, session=clock.fresh_id())


TOKEN: Final = issued()
FORGER: Final = Forger(TOKEN, KEYS.signing_key)
NOW: Final = FORGER.claims["iat"]


def test_a_token_says_who_somebody_is() -> None:
    """A token holds person, ledger and role, for a quarter of an hour, and an id of its own."""
    claims = verify(TOKEN)
    assert (claims.sub, claims.ledger, claims.role) == (USER.id, USER.ledger_id, USER.role)
    assert claims.exp - claims.iat == ACCESS_TOKEN_SECONDS == 900
    assert claims.nbf == claims.iat == pytest.approx(clock.now().timestamp(), abs=60)
    assert claims.jti != verify(issued()).jti
    assert FORGER.header == {"alg": "EdDSA", "kid": KEYS.kid, "typ": "at+jwt"}
    assert "email" not in FORGER.claims


def test_any_library_can_verify_it() -> None:
    """A token is an ordinary JWT under the public key that its `kid` names."""
    assert jwt.decode(TOKEN, PUBLIC_PEM, algorithms=["EdDSA"], audience="campaign-ledger") == FORGER.claims


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
    ahead = FORGER.having(iat=NOW + 3, nbf=NOW + 3, exp=NOW + 3 + ACCESS_TOKEN_SECONDS)
    assert verify(ahead).iat == NOW + 3
    assert verify(FORGER.having(exp=int(clock.now().timestamp()) - 1)).sub == USER.id


FORGED: Final = forged(FORGER) | {
    # What no header of HTTP could carry.
    "nothing": "",
    "space before": " " + TOKEN,
    "line after": TOKEN + "\n",
    "NUL": "\x00",
    "surrogate": "\ud800",
    "other script": "\u89c2.\u4f17.\u4eba",
    "huge": "A" * 1_000_000,
    "huge header": "A" * 1_000_000 + "." + TOKEN.partition(".")[2],
    "huge claims": FORGER.having(padding="A" * 1_000_000),
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
    """A service under a long URL issues tokens that it takes, for who sees things of many advertisers as well."""
    issuer = "https://" + "a" * 500 + ".example"
    advertisers = tuple(clock.fresh_id() for _ in range(ADVERTISERS_MAX))
    token = issued(issuer, structs.replace(USER, role="advertiser", advertiser_ids=advertisers))
    claims = access_tokens.verify(token, keys=KEYS, issuer=issuer)
    assert (claims.iss, claims.advertisers) == (issuer, advertisers)


def test_a_token_that_is_known_expires_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was verified is known again, however many came in between, and refused once its time is over."""
    known, token = KnownTokens(KEYS, issuer=ISSUER), issued()
    claims = known.verified(token)
    assert known.verified(token) is claims
    for _ in range(TOKENS_KNOWN_MAX):
        known.verified(issued())
    assert known.verified(token) == claims
    expiring = FORGER.having(exp=int(clock.now().timestamp()) - 1)
    assert known.verified(expiring).sub == USER.id
    later = clock.now() + timedelta(seconds=6)
    monkeypatch.setattr(clock, "now", lambda: later)
    with pytest.raises(TokenRefused):
        known.verified(expiring)


def test_a_token_that_is_known_is_not_good_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the clock is set back, a token is from the future, and refused as if it had never been seen."""
    known, token, begun = KnownTokens(KEYS, issuer=ISSUER), issued(), clock.now()
    assert known.verified(token).sub == USER.id
    monkeypatch.setattr(clock, "now", lambda: begun - timedelta(seconds=60))
    with pytest.raises(TokenRefused):
        known.verified(token)
    monkeypatch.setattr(clock, "now", lambda: begun)
    assert known.verified(token).sub == USER.id

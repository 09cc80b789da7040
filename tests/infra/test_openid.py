"""Providers of OpenID Connect as the settings name them, and what is sealed for the way to them and back."""

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra import clock, settings
from infra.keys import Keys
from infra.openid import Attempt
from infra.provider_sign_in import ExchangeCode, Seal
from infra.settings import OidcProvider, SettingMissing, SettingUnfit

WHOLE = {
    "LEDGER_PUBLIC_URL": "https://ledger.example",
    "LEDGER_OIDC_PROVIDERS": "google, acme-co",
    "LEDGER_OIDC_GOOGLE_CLIENT_ID": "one",
    "LEDGER_OIDC_GOOGLE_CLIENT_SECRET": "first",
    "LEDGER_OIDC_ACME_CO_ISSUER": "https://sso.acme.example",
    "LEDGER_OIDC_ACME_CO_CLIENT_ID": "two",
    "LEDGER_OIDC_ACME_CO_CLIENT_SECRET": "second",
    "LEDGER_OIDC_ACME_CO_SECOND_FACTOR": "trusted",
}
ATTEMPT = Attempt(provider="google", state="s", nonce="n", verifier="v")


def keys(*generations: bytes) -> Keys:
    """Return the secrets of a process."""
    return Keys(generations=generations, signing_key=Ed25519PrivateKey.generate(), public_keys={}, kid="")


def test_providers_are_named_by_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google needs no issuer, others do, and no secret is shown."""
    assert settings.read().oidc_providers == ()
    for name, said in WHOLE.items():
        monkeypatch.setenv(name, said)
    google, acme = settings.read().oidc_providers
    assert google == OidcProvider(
        name="google", issuer="https://accounts.google.com", client_id="one", client_secret="first"
    )
    assert (acme.issuer, acme.client_id, acme.trusted) == ("https://sso.acme.example", "two", True)
    assert "second" not in repr(acme)


@pytest.mark.parametrize(
    ("name", "said", "refused"),
    [
        ("LEDGER_PUBLIC_URL", "", SettingMissing),
        ("LEDGER_OIDC_GOOGLE_CLIENT_SECRET", "", SettingMissing),
        ("LEDGER_OIDC_ACME_CO_ISSUER", "", SettingMissing),
        ("LEDGER_OIDC_ACME_CO_ISSUER", "http://sso.acme.example", SettingUnfit),
        ("LEDGER_OIDC_ACME_CO_SECOND_FACTOR", "yes", SettingUnfit),
        ("LEDGER_OIDC_PROVIDERS", "Google", SettingUnfit),
        ("LEDGER_OIDC_PROVIDERS", "a/b", SettingUnfit),
        ("LEDGER_OIDC_CONSOLE_URL", "http://console.example", SettingUnfit),
    ],
)
def test_providers_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, name: str, said: str, refused: type[Exception]
) -> None:
    """What is missing, or would send secrets in the clear, is refused by its name."""
    for known, value in WHOLE.items():
        monkeypatch.setenv(known, value)
    monkeypatch.setenv(name, said)
    with pytest.raises(refused, match=name):
        settings.read()


def test_only_what_was_sealed_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seal holds for its kind and its time, through a rotation of the secret, and for nobody else's text."""
    sealed = Seal(keys(b"1" * 32)).closed(ATTEMPT)
    assert "google" not in sealed
    rotated = Seal(keys(b"2" * 32, b"1" * 32))
    assert rotated.opened(sealed, Attempt, seconds_max=60) == ATTEMPT
    assert rotated.opened(sealed, ExchangeCode, seconds_max=60) is None
    assert Seal(keys(b"2" * 32)).opened(sealed, Attempt, seconds_max=60) is None
    for other in (f"{sealed}=", f"{sealed}A", f"!{sealed}", f"{sealed[:9]} {sealed[9:]}", sealed.rstrip("=") + "\n"):
        assert rotated.opened(other, Attempt, seconds_max=60) is None
    for other in ("", "x", "A" * 16, "A" * 20, sealed[:-1], sealed[:-4], sealed.swapcase(), "\xe9"):
        assert rotated.opened(other, Attempt, seconds_max=60) is None
    later = clock.now() + timedelta(seconds=62)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert rotated.opened(sealed, Attempt, seconds_max=60) is None

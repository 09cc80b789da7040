"""Attacks with tokens, over HTTP: each is refused, all in the same words."""

from pathlib import Path
from typing import Final

import httpx

from infra.keys import ed25519_key
from tests.infra.attacks import Forger, forged
from tests.running import ADMIN_EMAIL, ADMIN_PASSWORD, Service

ATTACKS_MIN: Final = 200


def signed_in(service: Service) -> dict[str, str]:
    """Begin a session, and return its tokens."""
    body = {"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}
    tokens: dict[str, str] = httpx.post(f"{service.url}/api/v1/auth/login", json=body).json()
    return tokens


def refused(service: Service, path: str, token: str) -> int:
    """Present a refresh token, and return the status."""
    return httpx.post(f"{service.url}/api/v1/auth/{path}", json={"refresh_token": token}).status_code


def test_no_forged_token_opens_a_door(service: Service) -> None:
    """Of all the tokens that could be made of a valid one, even with our own key, none says who somebody is."""
    path = Path(service.environment["LEDGER_SIGNING_KEY_FILE"])
    by = Forger(signed_in(service)["access_token"], ed25519_key(path, path.read_bytes()))
    attacks = forged(by)
    assert len(set(attacks.values())) >= ATTACKS_MIN
    with service.client() as client:

        def said(token: str) -> tuple[int, str, str]:
            answer = client.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"})
            return answer.status_code, answer.headers.get("WWW-Authenticate", ""), answer.json().get("code", "")

        answers = {name: said(token) for name, token in attacks.items()}
        assert {name: each for name, each in answers.items() if each != (401, "Bearer", "unauthenticated")} == {}
        assert said(by.token)[0] == 200


def test_a_token_is_good_for_one_thing(service: Service) -> None:
    """An access token prolongs nothing and ends nothing, and a refresh token opens no door."""
    tokens = signed_in(service)
    for path in ("refresh", "logout"):
        assert refused(service, path, tokens["access_token"][:200]) == 401
    headers = {"Authorization": f"Bearer {tokens['refresh_token']}"}
    assert httpx.get(f"{service.url}/api/v1/auth/me", headers=headers).status_code == 401
    assert refused(service, "refresh", tokens["refresh_token"]) == 200


def test_a_stolen_refresh_token_ends_the_session_for_both(service: Service) -> None:
    """Whoever comes second, thief or slow client, is refused, and so is everybody from then on."""
    tokens = signed_in(service)
    body = {"refresh_token": tokens["refresh_token"]}
    following = httpx.post(f"{service.url}/api/v1/auth/refresh", json=body).json()["refresh_token"]
    assert refused(service, "refresh", tokens["refresh_token"]) == 401
    assert refused(service, "refresh", following) == 401


def test_nothing_is_replayed_after_signing_out(service: Service) -> None:
    """After signing out neither token of the session is good for anything, and nor are those before them."""
    tokens = signed_in(service)
    body = {"refresh_token": tokens["refresh_token"]}
    later = httpx.post(f"{service.url}/api/v1/auth/refresh", json=body).json()
    assert refused(service, "logout", later["refresh_token"]) == 204
    for token in (tokens, later):
        assert refused(service, "refresh", token["refresh_token"]) == 401
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        assert httpx.get(f"{service.url}/api/v1/auth/me", headers=headers).status_code == 401

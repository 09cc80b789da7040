"""Signing in through OpenID Connect: with a provider that others wrote, and with one that lies."""

import base64
import hmac
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pyotp
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc.jwk import ECKey

from tests.api.openid_provider import CLIENT_ID, CLIENT_SECRET, EMAIL, Forger, Visit, forging, visit
from tests.api.test_invitations import tokens as mailed
from tests.databases import fresh_database
from tests.running import START_SECONDS_MAX, Service, free_port
from tests.world import World

PASSWORD: Final = "a sentence that nobody guesses"
VERIFIER: Final = "only-the-console-that-began-knows-this-0123"
CONSOLE: Final = "https://console.example/signed-in?theme=dark"
_OF_FORGER: Final = {"CLIENT_ID": CLIENT_ID, "CLIENT_SECRET": CLIENT_SECRET}


@pytest.fixture(scope="module")
def forger() -> Iterator[Forger]:
    """A provider that says what it is told to."""
    with forging() as started:
        yield started


@pytest.fixture(scope="module")
def acme() -> Iterator[dict[str, str]]:
    """Where a provider is that others wrote, in a process of its own, and the client that it knows."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    claims = {"sub": "vera", "email": EMAIL, "email_verified": True}
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-registration", "true"]
    process = subprocess.Popen([*command, "--user-claims", json.dumps(claims)], stderr=subprocess.DEVNULL)
    try:
        deadline = monotonic() + START_SECONDS_MAX
        while monotonic() < deadline and process.poll() is None:
            with suppress(httpx.HTTPError):
                httpx.get(url)
                break
            sleep(0.05)
        yield {"ISSUER": url}
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def service(
    cluster_url: str, tmp_path_factory: pytest.TempPathFactory, forger: Forger, acme: dict[str, str]
) -> Iterator[Service]:
    """A service that knows the provider that others wrote, and the forger under three names."""
    folder = tmp_path_factory.mktemp("openid")
    with fresh_database(cluster_url, "ledger") as url:
        started = Service(folder, database_url=url)
        back = f"{started.url}/api/v1/auth/oidc/acme/callback"
        client = httpx.post(f"{acme['ISSUER']}/oauth2/clients", json={"redirect_uris": [back]}).json()
        of_acme = acme | {"CLIENT_ID": client["client_id"], "CLIENT_SECRET": client["client_secret"]}
        started.environment |= {
            "LEDGER_PUBLIC_URL": started.url,
            "LEDGER_OIDC_PROVIDERS": "acme,forger,other,trusted",
            **{f"LEDGER_OIDC_ACME_{name}": value for name, value in of_acme.items()},
            **{
                f"LEDGER_OIDC_{provider}_{name}": value
                for provider in ("FORGER", "OTHER", "TRUSTED")
                for name, value in {**_OF_FORGER, "ISSUER": forger.url}.items()
            },
            "LEDGER_OIDC_TRUSTED_SECOND_FACTOR": "trusted",
        }
        started.start()
        try:
            yield started
        finally:
            started.stop()


@pytest.fixture
def browser(service: Service) -> Iterator[httpx.Client]:
    """A browser that nobody has used."""
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def vera(admin: httpx.Client) -> dict[str, Any]:
    """Somebody with the address that providers name."""
    added = admin.post("/api/v1/users", json={"email": EMAIL, "password": PASSWORD, "role": "viewer"})
    found: dict[str, Any] = added.json()
    return found


def answered(forger: Forger, there: Visit, id_token: str | None, **said: str) -> httpx.Response:
    """Return from the forger with a code that it answers with an ID token."""
    code = uuid4().hex
    forger.challenges[code] = there.challenge
    forger.tokens[code] = {} if id_token is None else {"id_token": id_token}
    return there.back(**{"code": code, "state": there.state} | said)


def refused(answer: httpx.Response) -> None:
    """Hold that nobody was let in, and that why is not told."""
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), answer.text


def me(service: Service, tokens: Any) -> Any:
    """Return who an access token belongs to."""
    authorization = {"Authorization": f"Bearer {tokens['access_token']}"}
    return httpx.get(f"{service.url}/api/v1/auth/me", headers=authorization).json()


def test_who_has_an_account_signs_in_through_a_provider(
    service: Service, browser: httpx.Client, vera: dict[str, Any], world: World
) -> None:
    """A browser goes to the provider, comes back with a code, and gets a session of the account with that address."""
    (named, *_) = browser.get("/api/v1/auth/providers").json()
    assert named == {"name": "acme", "start": "/api/v1/auth/oidc/acme/start"}
    sent = browser.get(named["start"])
    cookie = sent.headers["Set-Cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=lax", "Path=/api/v1/auth/oidc", "Max-Age=600"))
    agreed = httpx.post(sent.headers["Location"], data={"sub": "vera"})
    back = browser.get(agreed.headers["Location"])
    assert back.status_code == 200, back.text
    assert me(service, back.json())["id"] == vera["id"]
    assert "ledger-sign-in" not in browser.cookies
    report = world.get("reports/security", kind="signed_in", person=vera["id"])
    assert report["items"][0]["reason"] == "acme"
    refused(browser.get(agreed.headers["Location"]))


def test_a_right_answer_lets_in(service: Service, browser: httpx.Client, forger: Forger, vera: dict[str, Any]) -> None:
    """What the attacks below change one thing of is taken, and so is an address that only the userinfo names."""
    there = visit(browser)
    answer = answered(forger, there, forger.signed(forger.claims(there.nonce)))
    assert me(service, answer.json())["id"] == vera["id"]
    there = visit(browser)
    forger.userinfo = {"sub": EMAIL, "email": EMAIL.upper(), "email_verified": True}
    answer = answered(forger, there, forger.signed(forger.claims(there.nonce, email=None)), iss=forger.url)
    assert me(service, answer.json())["id"] == vera["id"]


def test_a_new_key_of_the_provider_is_asked_for(
    service: Service, browser: httpx.Client, forger: Forger, vera: dict[str, Any]
) -> None:
    """Each provider's keys are kept, and one that was never asked is asked."""
    there = visit(browser, "other")
    answer = answered(forger, there, forger.signed(forger.claims(there.nonce)), provider="other")
    assert me(service, answer.json())["id"] == vera["id"]


def test_who_was_linked_is_known_by_subject_alone(
    service: Service, browser: httpx.Client, forger: Forger, world: World
) -> None:
    """The address counts once; then it is issuer and subject, until the person removes that, who sees it."""
    first, second = (
        world.post("users", email=f"{uuid4().hex}@example.com", password=PASSWORD, role="viewer") for _ in range(2)
    )

    def back(subject: str, email: str) -> httpx.Response:
        there = visit(browser)
        return answered(forger, there, forger.signed(forger.claims(there.nonce, sub=subject, email=email)))

    assert me(service, back("a", first["email"]).json())["id"] == first["id"]
    assert me(service, back("a", second["email"]).json())["id"] == first["id"]
    assert me(service, back("a", "nobody@example.com").json())["id"] == first["id"]
    refused(back("b", first["email"]))
    assert me(service, back("b", second["email"]).json())["id"] == second["id"]
    with closing(service.signed_in(first["email"], PASSWORD)) as client:
        (link,) = client.get("/api/v1/auth/links").json()
        assert link["issuer"] == forger.url
        assert client.delete(f"/api/v1/auth/links/{link['id']}").status_code == 204
        assert client.delete(f"/api/v1/auth/links/{link['id']}").status_code == 404
        assert client.get("/api/v1/auth/links").json() == []
    refused(back("a", second["email"]))
    assert me(service, back("c", first["email"]).json())["id"] == first["id"]
    report = world.get("reports/security", person=first["id"])["items"]
    changes = [(item["kind"], item["reason"]) for item in reversed(report) if item["kind"].startswith("provider")]
    assert changes == [(f"provider_{done}", forger.url) for done in ("linked", "unlinked", "linked")]


def _unsigned(forger: Forger, nonce: str) -> str:
    header, payload = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none"}, forger.claims(nonce))
    )
    return f"{header}.{payload}."


def _with_shared_secret(forger: Forger, nonce: str, secret: str) -> str:
    header = {"alg": "HS256", "kid": "one"}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, forger.claims(nonce))
    ]
    signature = base64.urlsafe_b64encode(hmac.digest(secret.encode(), b".".join(parts), "sha256")).rstrip(b"=")
    return b".".join([*parts, signature]).decode()


def _tampered(forger: Forger, nonce: str) -> str:
    header, _, signature = forger.signed(forger.claims(nonce)).split(".")
    payload = json.dumps(forger.claims(nonce, email="admin@example.com")).encode()
    return f"{header}.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.{signature}"


def _said(**fields: Any) -> Callable[[Forger, str], str]:
    return lambda forger, nonce: forger.signed(forger.claims(nonce, **fields))


TOKENS: Final[dict[str, Callable[[Forger, str], str | None]]] = {
    "another nonce": _said(nonce="of somebody else"),
    "no nonce": _said(nonce=None),
    "another audience": _said(aud="somebody else"),
    "several audiences, for another": _said(aud=[CLIENT_ID, "somebody else"], azp="somebody else"),
    "no audience": _said(aud=None),
    "another issuer": _said(iss="https://accounts.google.com"),
    "no issuer": _said(iss=None),
    "expired": _said(exp=1_700_000_000),
    "no expiry": _said(exp=None),
    "not yet valid": _said(nbf=4_000_000_000),
    "issued tomorrow": _said(iat=4_000_000_000),
    "no subject": _said(sub=None),
    "a subject that is no text": _said(sub=1),
    "a subject without end": _said(sub="1" * 256),
    "another subject with the same address": _said(sub="who has the address now"),
    "another access token": _said(at_hash="of another token"),
    "address not verified": _said(email_verified=False),
    "address verified in words": _said(email_verified="true"),
    "address unproven": _said(email_verified=None),
    "unsigned": _unsigned,
    "signed with the client's secret": lambda forger, nonce: _with_shared_secret(forger, nonce, CLIENT_SECRET),
    "signed with the public key as a secret": lambda forger, nonce: _with_shared_secret(
        forger, nonce, forger.key.as_pem(private=False).decode()
    ),
    "signed with a key of its own": lambda forger, nonce: forger.signed(
        forger.claims(nonce), ECKey.generate_key("P-256", {"kid": "one"})
    ),
    "tampered": _tampered,
    "no token": lambda _forger, _nonce: None,
    "no JWT": lambda _forger, _nonce: "not a token",
}


@pytest.mark.parametrize("attack", TOKENS)
def test_a_false_token_lets_nobody_in(browser: httpx.Client, forger: Forger, vera: dict[str, Any], attack: str) -> None:
    """An ID token of which one thing is wrong is refused, whatever it is."""
    assert vera["email"] == EMAIL
    forger.userinfo = {}
    there = visit(browser)
    refused(answered(forger, there, TOKENS[attack](forger, there.nonce)))


def test_a_false_answer_lets_nobody_in(service: Service, forger: Forger, vera: dict[str, Any]) -> None:
    """An answer to what this browser did not ask, of another provider, or that was used before, is refused."""
    assert vera["email"] == EMAIL

    def right(there: Visit) -> str:
        return forger.signed(forger.claims(there.nonce))

    with service.client() as mine, service.client() as theirs:
        there = visit(mine)
        refused(answered(forger, there, right(there), state="of somebody else"))
        there = visit(mine)
        refused(answered(forger, there, right(there), iss="https://accounts.google.com"))
        there = visit(mine)
        refused(there.back(error="access_denied", state=there.state))
        there = visit(mine)
        refused(there.back(state=there.state))
        there = visit(mine)
        refused(answered(forger, there, right(there), provider="other"))
        there = visit(mine)
        refused(answered(forger, Visit(theirs, there.state, there.nonce, there.challenge), right(there)))
        other = visit(theirs)
        refused(answered(forger, Visit(theirs, there.state, there.nonce, there.challenge), right(there)))
        refused(answered(forger, Visit(mine, there.state, there.nonce, other.challenge), right(there)))
        there = visit(mine)
        kept = dict(mine.cookies)
        assert answered(forger, there, right(there)).status_code == 200
        mine.cookies.update(kept)
        refused(answered(forger, there, right(there)))
        mine.cookies.update({name: value[:-4] + "AAAA" for name, value in kept.items()})
        refused(answered(forger, there, right(there)))


def test_who_has_no_account_is_not_let_in(browser: httpx.Client, forger: Forger, world: World) -> None:
    """Neither an unknown address, nor that of somebody who was deactivated, begins a session."""
    gone = world.post("users", email=f"{uuid4().hex}@example.com", password=PASSWORD, role="viewer")
    world.admin.patch(f"/api/v1/users/{gone['id']}", json={"active": False}).raise_for_status()
    for email in ("nobody@example.com", gone["email"], "no address"):
        there = visit(browser)
        refused(answered(forger, there, forger.signed(forger.claims(there.nonce, email=email))))
    assert browser.get("/api/v1/auth/oidc/unknown/start").status_code == 404


def test_who_is_invited_comes_in_through_a_provider(
    service: Service, browser: httpx.Client, forger: Forger, world: World
) -> None:
    """Whom a provider knows by the address that was invited has accepted by signing in, with an account or without."""
    known = world.post("users", email=f"{uuid4().hex}@example.com", password=PASSWORD, role="viewer")["email"]
    for email, role in ((f"{uuid4().hex}@example.com", "finance"), (known, "reviewer")):
        world.post("invitations", email=email, role=role)
        (token,) = mailed(world, email)

        def back(address: str, invitation: str) -> httpx.Response:
            there = visit(browser, invitation=invitation)
            return answered(forger, there, forger.signed(forger.claims(there.nonce, email=address, sub=address)))

        refused(back(f"{uuid4().hex}@example.com", token))
        if email != known:
            refused(back(email, "made up"))
        for _ in range(2):  # it is accepted once, and nobody is kept out by that
            person = me(service, back(email, token).json())
            assert (person["email"], person["role"], person["email_verified"]) == (email, role, True)


def test_a_second_factor_is_asked_for(service: Service, browser: httpx.Client, forger: Forger, world: World) -> None:
    """Who has a second factor gets a code, good once and with it alone; a provider that is trusted need not wait."""
    person = world.post("users", email=f"{uuid4().hex}@example.com", password=PASSWORD, role="viewer")
    with closing(service.signed_in(person["email"], PASSWORD)) as client:
        secret = client.post("/api/v1/auth/totp", json={"current_password": PASSWORD}).json()["secret"]
        confirmed = client.post("/api/v1/auth/totp/confirm", json={"code": pyotp.TOTP(secret).now()})
        recovery, *_ = confirmed.json()["recovery_codes"]

    def back(provider: str) -> Any:
        there = visit(browser, provider)
        claims = forger.claims(there.nonce, email=person["email"])
        return answered(forger, there, forger.signed(claims), provider=provider).json()

    said = back("forger")
    assert said["second_factor_required"] is True
    for second_factor, status in ((None, 401), ("000000", 401), (recovery, 200), (recovery, 401)):
        body = {"code": said["code"]} | ({"second_factor": second_factor} if second_factor else {})
        answer = browser.post("/api/v1/auth/oidc/exchange", json=body)
        assert answer.status_code == status, answer.text
        if status == 200:
            assert me(service, answer.json())["id"] == person["id"]
    refused(browser.post("/api/v1/auth/oidc/exchange", json={"code": "made up"}))
    refused(
        browser.post("/api/v1/auth/oidc/exchange", json={"code": back("forger")["code"], "code_verifier": VERIFIER})
    )
    assert browser.get("/api/v1/auth/oidc/forger/start", params={"code_challenge": "x" * 43}).status_code == 400
    assert me(service, back("trusted"))["id"] == person["id"]


def test_a_console_gets_a_code_and_never_a_token(cluster_url: str, tmp_path: Path, forger: Forger) -> None:
    """Where there is a console, the browser goes there with a code, which gives tokens once, or with an error."""
    with fresh_database(cluster_url, "ledger") as url:
        started = Service(tmp_path, database_url=url)
        started.environment |= {
            "LEDGER_PUBLIC_URL": "https://ledger.example",
            "LEDGER_OIDC_PROVIDERS": "forger",
            "LEDGER_OIDC_FORGER_ISSUER": forger.url,
            "LEDGER_OIDC_CONSOLE_URL": CONSOLE,
            **{f"LEDGER_OIDC_FORGER_{name}": value for name, value in _OF_FORGER.items()},
        }
        started.start()
        try:
            with closing(started.signed_in()) as admin, started.client() as browser:
                admin.post("/api/v1/users", json={"email": EMAIL, "password": PASSWORD, "role": "viewer"})
                begun = "/api/v1/auth/oidc/forger/start?code_challenge="
                for unfit in ("", "x" * 42, f"{'x' * 42}%0A", "=" * 43):
                    assert browser.get(begun + unfit).status_code == 400
                sent = browser.get(begun + create_s256_code_challenge(VERIFIER))
                cookie = sent.headers["Set-Cookie"]
                assert cookie.startswith("__Host-ledger-sign-in=")
                assert all(word in cookie for word in ("HttpOnly", "SameSite=lax", "Path=/;", "Secure"))
                browser.headers["Cookie"] = next(iter(sent.headers.get_list("Set-Cookie"))).partition(";")[0]
                said = parse_qs(urlsplit(sent.headers["Location"]).query)
                there = Visit(browser, said["state"][0], said["nonce"][0], said["code_challenge"][0])
                gone_on = answered(forger, there, forger.signed(forger.claims(there.nonce)))
                assert gone_on.status_code == 302
                assert gone_on.headers["Location"].startswith(f"{CONSOLE}&code=")
                (code,) = parse_qs(urlsplit(gone_on.headers["Location"]).query)["code"]
                of_another_console: tuple[dict[str, str], ...] = ({}, {"code_verifier": VERIFIER[::-1]})
                for shown in of_another_console:
                    refused(browser.post("/api/v1/auth/oidc/exchange", json={"code": code} | shown))
                body = {"code": code, "code_verifier": VERIFIER}
                answers = [browser.post("/api/v1/auth/oidc/exchange", json=body) for _ in range(2)]
                assert [answer.status_code for answer in answers] == [200, 401]
                assert me(started, answers[0].json())["email"] == EMAIL
                again = answered(forger, there, forger.signed(forger.claims(there.nonce)))
                assert again.headers["Location"] == f"{CONSOLE}&error=sign_in_refused"
        finally:
            started.stop()

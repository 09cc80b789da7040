"""An OpenID Connect provider on loopback that says what a test wants it to: the truth, or what an attacker would."""

import base64
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey

from infra import clock

EMAIL: Final = "vera@example.com"
CLIENT_ID: Final = "ledger"
CLIENT_SECRET: Final = "a secret that the provider and the ledger share"


@dataclass
class Forger:
    """A provider that answers a code with the tokens that a test has put there."""

    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "one"}))
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    challenges: dict[str, str] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    url: str = ""

    def claims(self, given: str, /, **fields: Any) -> dict[str, Any]:
        """Return what an ID token has to say, but for some fields; those that are None are left out."""
        now = int(clock.now().timestamp())
        whole = {
            "iss": self.url,
            "sub": str(fields.get("email") or EMAIL),
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": given,
        }
        whole |= {"email": EMAIL, "email_verified": True} | fields
        return {name: value for name, value in whole.items() if value is not None}

    def signed(self, claims: Mapping[str, Any], key: ECKey | None = None) -> str:
        """Return an ID token, signed with the provider's key or another."""
        return jwt.encode({"alg": "ES256", "kid": "one"}, dict(claims), key or self.key)

    def answer(self, path: str, body: str) -> tuple[int, dict[str, Any]]:
        """Return what is answered to a request."""
        if path == "/.well-known/openid-configuration":
            named = {name: f"{self.url}/{name}" for name in ("authorize", "token", "jwks", "userinfo")}
            return 200, {
                "issuer": self.url,
                "authorization_endpoint": named["authorize"],
                "token_endpoint": named["token"],
                "jwks_uri": named["jwks"],
                "userinfo_endpoint": named["userinfo"],
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
            }
        if path == "/jwks":
            return 200, {"keys": [self.key.as_dict(private=False)]}
        if path == "/userinfo":
            return 200, self.userinfo
        said = {name: values[0] for name, values in parse_qs(body).items()}
        proven = base64.urlsafe_b64encode(sha256(said["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        known = (said["client_id"], said["client_secret"]) == (CLIENT_ID, CLIENT_SECRET)
        if not known or self.challenges.get(said["code"]) != proven:
            return 400, {"error": "invalid_grant"}
        return 200, {"token_type": "Bearer", "access_token": "for userinfo", **self.tokens[said["code"]]}


@contextmanager
def forging() -> Iterator[Forger]:
    """A forger that is listening."""
    forger = Forger()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status, said = forger.answer(urlsplit(self.path).path, self.rfile.read(length).decode())
            body = msgspec.json.encode(said)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  as http.server calls it

        def log_message(self, *_said: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    forger.url = f"http://127.0.0.1:{server.server_port}"
    listening = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    listening.start()
    try:
        yield forger
    finally:
        server.shutdown()
        server.server_close()
        listening.join()


@dataclass(frozen=True)
class Visit:
    """A browser that was sent to the forger, and what it carries there."""

    client: httpx.Client
    state: str
    nonce: str
    challenge: str

    def back(self, provider: str = "forger", **said: str) -> httpx.Response:
        """Return from the provider, with these parameters."""
        return self.client.get(f"/api/v1/auth/oidc/{provider}/callback", params=said)


def visit(client: httpx.Client, provider: str = "forger", **asked: str) -> Visit:
    """Begin to sign in."""
    sent = client.get(f"/api/v1/auth/oidc/{provider}/start", params=asked)
    assert sent.status_code == 302, sent.text
    said = {name: values[0] for name, values in parse_qs(urlsplit(sent.headers["Location"]).query).items()}
    assert said["code_challenge_method"] == "S256"
    return Visit(client, said["state"], said["nonce"], said["code_challenge"])

"""Signing in through others: OpenID Connect with an authorization code, PKCE, state and nonce (RFC 6749, 7636, 9700).

Authlib and joserfc speak the protocol; here stand what is asked of an answer before it is believed, and the requests.
Each provider has a redirect URI of its own and must name itself as it was configured, so that the answer of one is
never taken for another's (RFC 9207). Of all that a provider says, `sub` and an e-mail address that it has verified are
used.
"""

import asyncio
from time import monotonic
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
from authlib.common.errors import AuthlibBaseError
from authlib.common.security import generate_token
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import (
    parse_authorization_code_response,
    prepare_grant_uri,
    prepare_token_request,
)
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from msgspec import Struct

from infra import clock
from infra.settings import OidcProvider, is_safe_url

SCOPE: Final = "openid email"
SECRET_CHARACTERS: Final = 48
TIMEOUT_SECONDS: Final = 5.0
METADATA_SECONDS: Final = 3_600.0
KEYS_SECONDS_MIN: Final = 60.0
"""So long keys are not asked for again, though a token names another: whoever makes tokens up names many."""

CLOCK_DIFFERENCE_SECONDS_MAX: Final = 60
ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "Ed25519",
    "EdDSA",
)
"""Signatures with a key that only the provider has; neither none, nor a secret that two know."""

SUBJECT_CHARACTERS_MAX: Final = 255
"""OpenID Connect Core 1.0, section 2."""

CALLBACK: Final = "callback"
"""Where providers send people back to, below the path that is named after them."""

_METADATA_PATH: Final = "/.well-known/openid-configuration"


class Metadata(Struct, frozen=True, kw_only=True):
    """What a provider says of itself (OpenID Connect Discovery 1.0, section 3), as far as it is used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Attempt(Struct, frozen=True, kw_only=True):
    """What has to be known again when somebody comes back from a provider; it is kept by their browser, sealed."""

    provider: str
    state: str
    nonce: str
    verifier: str
    invitation: str = ""
    console_challenge: str = ""

    def __repr__(self) -> str:
        """Show nothing secret."""
        return f"Attempt(provider={self.provider!r})"


class Identity(Struct, frozen=True, kw_only=True):
    """Who somebody is at a provider, for ever, and which e-mail address of theirs it has verified."""

    issuer: str
    subject: str
    email: str


class AnswerRefused(Exception):
    """What the provider answered does not let anybody in; sign in again."""

    def __init__(self, reason: str) -> None:
        """Keep for the log what the client is not told."""
        super().__init__(self.__doc__)
        self.reason = reason


class ProviderUnavailable(Exception):
    """The provider of the sign-in cannot be reached; try again in a moment."""


class Provider:
    """One provider, as this process knows it."""

    def __init__(self, configured: OidcProvider, *, redirect_uri: str) -> None:
        """Know it by its settings alone; it is asked when somebody wants to sign in."""
        self.configured: Final = configured
        self._redirect_uri = redirect_uri
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS)
        self._asking = asyncio.Lock()
        self._metadata: tuple[Metadata, float] | None = None
        self._keys: tuple[KeySet, float] | None = None

    async def close(self) -> None:
        """Close the connections to it."""
        await self._client.aclose()

    async def begin(self) -> tuple[str, Attempt]:
        """Return where to send somebody who wants to sign in, and what to remember; raise ProviderUnavailable."""
        metadata = await self._discovered()
        state, nonce, verifier = (generate_token(SECRET_CHARACTERS) for _ in range(3))
        url: str = prepare_grant_uri(
            metadata.authorization_endpoint,
            self.configured.client_id,
            "code",
            redirect_uri=self._redirect_uri,
            scope=SCOPE,
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        return url, Attempt(provider=self.configured.name, state=state, nonce=nonce, verifier=verifier)

    async def identity(self, attempt: Attempt, answered: str) -> Identity:
        """Return who came back to the URL `answered`, with an e-mail address that the provider has verified.

        Raises AnswerRefused or ProviderUnavailable.
        """
        metadata = await self._discovered()
        code = self._code(metadata, attempt, answered)
        tokens = await self._exchange(metadata, attempt, code)
        claims = await self._claims(metadata, attempt, tokens)
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_CHARACTERS_MAX:
            raise AnswerRefused("no subject")
        if "email" not in claims and metadata.userinfo_endpoint:
            headers = {"Authorization": f"Bearer {tokens.get('access_token')}"}
            told = await self._asked(self._client.build_request("GET", metadata.userinfo_endpoint, headers=headers))
            if told.get("sub") != subject:
                raise AnswerRefused("userinfo of somebody else")
            claims = told
        if claims.get("email_verified") is not True or not isinstance(claims.get("email"), str):
            raise AnswerRefused("e-mail address not verified")
        return Identity(issuer=metadata.issuer, subject=subject, email=claims["email"])

    def _code(self, metadata: Metadata, attempt: Attempt, answered: str) -> str:
        if attempt.provider != self.configured.name:
            raise AnswerRefused("another provider's attempt")
        said = parse_qs(urlsplit(answered).query)
        named = said.get("iss", [])
        if named != [metadata.issuer] and (named or metadata.authorization_response_iss_parameter_supported):
            raise AnswerRefused("another provider's answer")
        try:
            code: str = parse_authorization_code_response(answered, state=attempt.state)["code"]
        except AuthlibBaseError as error:
            raise AnswerRefused(type(error).__name__) from error
        return code

    async def _exchange(self, metadata: Metadata, attempt: Attempt, code: str) -> dict[str, Any]:
        """Return the tokens that the provider gives for a code, which it does once."""
        body = prepare_token_request(
            "authorization_code", code=code, redirect_uri=self._redirect_uri, code_verifier=attempt.verifier
        )
        known = metadata.token_endpoint_auth_methods_supported
        method = "client_secret_basic" if "client_secret_basic" in known else "client_secret_post"
        auth = ClientAuth(self.configured.client_id, self.configured.client_secret, method)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        url, headers, body = auth.prepare("POST", metadata.token_endpoint, headers, body)
        return await self._asked(self._client.build_request("POST", url, headers=headers, content=body))

    async def _claims(self, metadata: Metadata, attempt: Attempt, tokens: dict[str, Any]) -> dict[str, Any]:
        """Return what the ID token says, once everything about it is right (OpenID Connect Core, 3.1.3.7)."""
        said = tokens.get("id_token")
        if not isinstance(said, str):
            raise AnswerRefused("no ID token")
        client_id = self.configured.client_id
        try:
            token = await self._decoded(metadata, said)
            claims = CodeIDToken(
                token.claims,
                token.header,
                options={
                    "iss": {"essential": True, "value": metadata.issuer},
                    "aud": {"essential": True, "value": client_id},
                },
                params={"nonce": attempt.nonce, "client_id": client_id, "access_token": tokens.get("access_token")},
            )
            claims.validate(now=int(clock.now().timestamp()), leeway=CLOCK_DIFFERENCE_SECONDS_MAX)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise AnswerRefused(f"ID token: {type(error).__name__}") from error
        return dict(claims)

    async def _decoded(self, metadata: Metadata, said: str) -> jwt.Token:
        try:
            return jwt.decode(said, await self._read_keys(metadata, METADATA_SECONDS), algorithms=ALGORITHMS)
        except (JoseError, ValueError):  # perhaps it was signed with a key that is new
            return jwt.decode(said, await self._read_keys(metadata, KEYS_SECONDS_MIN), algorithms=ALGORITHMS)

    async def _read_keys(self, metadata: Metadata, seconds_max: float) -> KeySet:
        async with self._asking:
            if self._keys is None or monotonic() - self._keys[1] > seconds_max:
                said = await self._asked(self._client.build_request("GET", metadata.jwks_uri))
                keys = KeySet.import_key_set(said)  # type: ignore[arg-type]  # an object of JSON, which is checked next
                self._keys = keys, monotonic()
            return self._keys[0]

    async def _discovered(self) -> Metadata:
        async with self._asking:
            if self._metadata is None or monotonic() - self._metadata[1] > METADATA_SECONDS:
                url = self.configured.issuer.rstrip("/") + _METADATA_PATH
                said = await self._asked(self._client.build_request("GET", url))
                try:
                    metadata = msgspec.convert(said, Metadata)
                except msgspec.ValidationError as error:
                    raise ProviderUnavailable from error
                endpoints = [metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri]
                endpoints += [metadata.userinfo_endpoint] if metadata.userinfo_endpoint else []
                if metadata.issuer != self.configured.issuer or not all(map(is_safe_url, endpoints)):
                    raise ProviderUnavailable
                self._metadata = metadata, monotonic()
            return self._metadata[0]

    async def _asked(self, request: httpx.Request) -> dict[str, Any]:
        """Return the JSON object that the provider answers with; raise AnswerRefused for what it refuses."""
        try:
            answer = await self._client.send(request)
            if answer.is_client_error:
                raise AnswerRefused(f"refused by the provider: {answer.status_code}")
            said = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderUnavailable from error
        if not isinstance(said, dict):
            raise ProviderUnavailable
        return said

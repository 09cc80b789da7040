"""The door for people who sign in through a provider of theirs (OpenID Connect)."""

from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import structlog
from litestar import Controller, Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter, RequestBody
from msgspec import Meta, Struct, structs

from api import problems
from api.access import address_of, agent_of
from api.invitations import accept_proven
from api.problems import Malformed
from api.services import Services
from api.sign_in import Code, Tokens, tokens_of
from domain.errors import NotFound
from infra import clock, provider_sign_in, spent_codes
from infra.mailed_tokens import TokenUnfit
from infra.openid import CALLBACK, AnswerRefused, Attempt, Provider
from infra.provider_sign_in import ATTEMPT_SECONDS_MAX, ExchangeCode, Seal
from infra.sign_in import SignInRefused

CODE_CHARACTERS_MAX: Final = 1_000
PROVIDERS_PATH: Final = "/api/v1/auth/oidc"

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


CodeChallenge = Annotated[
    str | None,
    QueryParameter(
        pattern="^[A-Za-z0-9_-]{43}$",
        description="Of a console: the SHA-256 of its `code_verifier`, in base64url without padding.",
    ),
]


class ProviderName(Struct, frozen=True, kw_only=True):
    """Somebody through whom people may sign in, and where their browser begins."""

    name: str
    start: str


class SecondFactorAsked(Struct, frozen=True, kw_only=True):
    """Who came back from the provider has a second factor: exchange the code together with it."""

    code: str
    second_factor_required: bool = True


class Exchange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The code that came with somebody back from a provider, and their second factor, if they have one.

    A console shows the `code_verifier` of which it made the challenge that it began with.
    """

    code: Annotated[str, Meta(min_length=1, max_length=CODE_CHARACTERS_MAX)]
    code_verifier: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._~-]{43,128}$")] | None = None
    second_factor: Code | None = None


class OpenIdController(Controller):
    """Signing in through a provider."""

    path = "/auth"
    tags = ("sign-in",)

    @get("/providers", operation_id="list_providers", responses=problems.PUBLIC)
    async def browse(self, services: NamedDependency[Services]) -> list[ProviderName]:
        """List through whom people may sign in."""
        if not services.providers:
            raise NotFound("provider", "to sign in through")
        return [ProviderName(name=name, start=f"{PROVIDERS_PATH}/{name}/start") for name in services.providers]

    @get("/oidc/{provider:str}/start", operation_id="start_oidc", status_code=302, responses=problems.PUBLIC)
    async def start(
        self,
        provider: FromPath[str],
        services: NamedDependency[Services],
        code_challenge: CodeChallenge = None,
        invitation: Annotated[
            str, QueryParameter(max_length=200, description="The token of an invitation to the address of the account.")
        ] = "",
    ) -> Response[bytes]:
        """Send a browser to a provider; a cookie keeps, sealed, what has to be known when it comes back.

        A console begins with a challenge (RFC 7636, S256), so that nobody can have it exchange the code of another.
        Whoever comes back with the address that an `invitation` was mailed to has accepted it.
        """
        known = _provider(services, provider)
        if bool(code_challenge) != bool(services.settings.oidc_console_url):
            raise Malformed("code_challenge is for where a console is named in the settings, and needed there.")
        url, attempt = await known.begin()
        attempt = structs.replace(attempt, console_challenge=code_challenge or "", invitation=invitation)
        cookie = _cookie(services, Seal(services.keys).closed(attempt), ATTEMPT_SECONDS_MAX)
        return Response(b"", status_code=302, headers={"Location": url}, cookies=[cookie])

    @get(f"/oidc/{{provider:str}}/{CALLBACK}", operation_id="finish_oidc", responses=problems.COMING_BACK)
    async def finish(
        self, provider: FromPath[str], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> Response[Tokens] | Response[SecondFactorAsked] | Response[bytes]:
        """Take a browser back from a provider, and begin a session for whoever is known there as who came.

        That is who came before as the same `sub`; the first time, who has the e-mail address that the provider has
        verified, and has not signed in through it yet.

        Where there is a console, the browser is sent there with a code, or with an `error`, in the query.
        """
        console = services.settings.oidc_console_url
        try:
            code, required = await _proven(_provider(services, provider), request, services)
        except (AnswerRefused, SignInRefused) as error:
            log.info("sign-in refused", provider=provider, reason=getattr(error, "reason", "account"))
            if not console:
                raise
            return _gone_on(services, console, error="sign_in_refused")
        if console:
            return _gone_on(services, console, code=code)
        if required:
            return Response(SecondFactorAsked(code=code), cookies=[_cookie(services, "", 0)])
        tokens = await _exchanged(services, request, Exchange(code=code))
        return Response(tokens, cookies=[_cookie(services, "", 0)])

    @post("/oidc/exchange", operation_id="exchange_oidc", status_code=200, responses=problems.EXCHANGING)
    async def exchange(
        self, data: RequestBody[Exchange], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> Tokens:
        """Begin a session for a code, which is good once; a second factor may be asked for."""
        if not services.providers:
            raise NotFound("provider", "to sign in through")
        return await _exchanged(services, request, data)


def _provider(services: Services, name: str) -> Provider:
    found = services.providers.get(name)
    if found is None:
        raise NotFound("provider", name)
    return found


async def _proven(provider: Provider, request: Request[Any, Any, Any], services: Services) -> tuple[str, bool]:
    """Return a code for whom a provider has sent back, and whether they have to show a second factor."""
    seal, address, pool = Seal(services.keys), address_of(request), services.log.pool
    try:
        attempt = await _attempt(seal, request, services)
        known = await provider.identity(attempt, str(request.url))
    except AnswerRefused:
        services.audit.refuse_sign_in(None, "provider", address=address)
        raise
    if attempt.invitation:
        with suppress(TokenUnfit):  # who has no account is refused as anybody is
            await accept_proven(request, attempt.invitation, known)
    name = provider.configured.name
    user = await provider_sign_in.admitted(pool, services.audit, known, address=address)
    required = await provider_sign_in.needs_second_factor(pool, user, trusted=provider.configured.trusted)
    code = ExchangeCode(
        provider=name,
        user_id=user.id,
        issuer=known.issuer,
        subject=known.subject,
        console_challenge=attempt.console_challenge,
    )
    return seal.closed(code), required


async def _attempt(seal: Seal, request: Request[Any, Any, Any], services: Services) -> Attempt:
    """Return the attempt that this browser has begun, once; raise AnswerRefused."""
    kept = request.cookies.get(_cookie_name(services), "")
    attempt = seal.opened(kept, Attempt, seconds_max=ATTEMPT_SECONDS_MAX)
    if attempt is None:
        raise AnswerRefused("not an attempt of this browser")
    async with services.log.pool.connection() as connection:
        expires_at = clock.now() + timedelta(seconds=ATTEMPT_SECONDS_MAX)
        if not await spent_codes.spend(connection, attempt.state, expires_at=expires_at):
            raise AnswerRefused("answered before")
    return attempt


async def _exchanged(services: Services, request: Request[Any, Any, Any], said: Exchange) -> Tokens:
    session = await provider_sign_in.exchange(
        services.log.pool,
        services.keys,
        services.audit,
        said.code,
        second_factor=said.second_factor,
        verifier=said.code_verifier,
        trusted=[name for name, provider in services.providers.items() if provider.configured.trusted],
        address=address_of(request),
        agent=agent_of(request),
    )
    return tokens_of(services, session)


def _gone_on(services: Services, console: str, **said: str) -> Response[bytes]:
    """Send a browser to the console; never with a token, for URLs are kept and passed on."""
    url = f"{console}{'&' if '?' in console else '?'}{urlencode(said)}"
    return Response(b"", status_code=302, headers={"Location": url}, cookies=[_cookie(services, "", 0)])


def _cookie(services: Services, value: str, seconds: int) -> Cookie:
    """Return the cookie of an attempt: for this host, no script, and what comes from another site by a link alone."""
    secure = _is_secure(services)
    path = "/" if secure else PROVIDERS_PATH
    name = _cookie_name(services)
    return Cookie(name, value=value, max_age=seconds, path=path, secure=secure, httponly=True, samesite="lax")


def _cookie_name(services: Services) -> str:
    # Browsers take a cookie of such a name from this very host alone, by https (RFC 6265bis, 4.1.3.2).
    return "__Host-ledger-sign-in" if _is_secure(services) else "ledger-sign-in"


def _is_secure(services: Services) -> bool:
    return services.settings.public_url.startswith("https:")

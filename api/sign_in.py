"""The door for people to sign in and out."""

from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import RequestBody
from msgspec import Meta, Struct

from api import audited, problems
from api.access import address_of, agent_of
from api.services import Services
from domain.access import SessionsEnded
from infra import access_tokens, sessions, sign_in
from infra.access_audit import actor_of
from infra.access_tokens import ACCESS_TOKEN_SECONDS
from infra.keys import JsonWebKey, web_key
from infra.sessions import Session, SessionRefused, TokenReused
from infra.whereabouts import whereabouts

KEYS_CACHED_SECONDS: Final = 300

Secret = Annotated[str, Meta(min_length=1, max_length=200)]
Code = Annotated[str, Meta(min_length=1, max_length=24, description="A one-time password, or a recovery code.")]


class Credentials(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody signs in with."""

    email: Annotated[str, Meta(min_length=1, max_length=254, examples=["admin@example.com"])]
    password: Secret
    code: Code | None = None


class RefreshToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The token that prolongs a session; it is used once, and answered with the next."""

    refresh_token: Secret


class Switch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The token that prolongs a session, and the organisation in which it is to go on."""

    refresh_token: Secret
    organisation_id: UUID


class Tokens(Struct, frozen=True, kw_only=True):
    """An access token for the API, valid for `expires_in` seconds, and the token that gets the next one."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "bearer"  # noqa: S105  the name of a scheme


class JsonWebKeys(Struct, frozen=True, kw_only=True):
    """The public keys that verify access tokens: that which signs them, and those that come or go."""

    keys: list[JsonWebKey]


class KeysController(Controller):
    """What others need to verify access tokens."""

    path = "/.well-known"
    tags = ("sign-in",)

    @get("/jwks.json", operation_id="read_keys", responses=problems.PUBLIC)
    async def show(self, services: NamedDependency[Services]) -> Response[JsonWebKeys]:
        """Read the public keys that verify access tokens (JWK Set, RFC 7517)."""
        found = JsonWebKeys(keys=[web_key(each) for each in services.keys.public_keys.values()])
        return Response(found, headers={"Cache-Control": f"public, max-age={KEYS_CACHED_SECONDS}"})


class SignInController(Controller):
    """Signing in and out."""

    path = "/auth"
    tags = ("sign-in",)

    @post("/login", operation_id="login", status_code=200, responses=problems.SIGNING_IN)
    async def login(
        self, data: RequestBody[Credentials], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> Tokens:
        """Begin a session."""
        session = await sign_in.sign_in(
            services.log.pool,
            services.keys,
            services.audit,
            email=data.email,
            password=data.password,
            address=address_of(request),
            agent=agent_of(request),
            code=data.code,
        )
        return tokens_of(services, session)

    @post("/refresh", operation_id="refresh", status_code=200, responses=problems.PROLONGING)
    async def refresh(
        self, data: RequestBody[RefreshToken], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> Tokens:
        """Prolong a session; a refresh token that is used twice ends it."""
        found = whereabouts(address_of(request), agent_of(request))
        try:
            async with services.log.pool.connection() as connection:
                session = await sessions.rotate(
                    connection, data.refresh_token, found=found, idle_days=services.settings.session_idle_days
                )
                return tokens_of(services, session)
        except TokenReused as reused:
            # The session has ended, whether or not the log can be told of it now.
            ended = SessionsEnded(session_id=reused.session_id, reason="token_reused", network=found.address)
            await services.audit.record_past(reused.user.ledger_id, reused.user.id, ended, actor=actor_of(reused.user))
            raise SessionRefused(reused.reason) from None

    @post("/switch", operation_id="switch", status_code=200, responses=problems.PROLONGING | problems.PUBLIC)
    async def switch(
        self, data: RequestBody[Switch], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> Tokens:
        """Go on with a session in another organisation that one belongs to; the token is used up as by `refresh`."""
        async with services.log.pool.connection() as connection:
            found = whereabouts(address_of(request), agent_of(request))
            session = await sessions.rotate(
                connection,
                data.refresh_token,
                found=found,
                into=data.organisation_id,
                idle_days=services.settings.session_idle_days,
            )
            return tokens_of(services, session)

    @post("/logout", operation_id="logout", status_code=204, responses=problems.PROLONGING)
    async def logout(
        self, data: RequestBody[RefreshToken], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> None:
        """End a session."""
        async with services.log.pool.connection() as connection:
            async with connection.transaction():
                ended = await sessions.end(connection, data.refresh_token)
                if ended is not None:
                    user, session_id = ended
                    event = SessionsEnded(session_id=session_id, reason="signed_out")
                    event = audited.seen_from(request, event)
                    await services.audit.record(user.ledger_id, user.id, event, actor=actor_of(user))
            await services.revocations.refresh(connection)


def tokens_of(services: Services, session: Session) -> Tokens:
    """Return what a session is answered with."""
    return Tokens(
        access_token=access_tokens.issue(session.user, keys=services.keys, issuer=services.issuer, session=session.id),
        refresh_token=session.refresh_token,
        expires_in=ACCESS_TOKEN_SECONDS,
    )

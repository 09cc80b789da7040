"""The door for people to sign in and out."""

from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import RequestBody
from msgspec import Meta, Struct

from api import problems
from api.access import claims_of, may_read
from api.services import Services
from infra import access_tokens, sessions, sign_in, users
from infra.access_tokens import ACCESS_TOKEN_SECONDS
from infra.sessions import Session
from infra.users import User

Secret = Annotated[str, Meta(min_length=1, max_length=200)]


class Credentials(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody signs in with."""

    email: Annotated[str, Meta(min_length=1, max_length=254, examples=["admin@example.com"])]
    password: Secret


class RefreshToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The token that prolongs a session; it is used once, and answered with the next."""

    refresh_token: Secret


class Tokens(Struct, frozen=True, kw_only=True):
    """An access token for the API, valid for `expires_in` seconds, and the token that gets the next one."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "bearer"  # noqa: S105  the name of a scheme


class SignInController(Controller):
    """Signing in and out."""

    path = "/auth"
    tags = ("sign-in",)

    @post("/login", operation_id="login", status_code=200, responses=problems.SIGNING_IN)
    async def login(
        self, data: RequestBody[Credentials], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> Tokens:
        """Begin a session."""
        address = request.client.host if request.client else "unknown"
        session = await sign_in.sign_in(
            services.log.pool, services.keys, email=data.email, password=data.password, address=address
        )
        return _tokens(services, session)

    @post("/refresh", operation_id="refresh", status_code=200, responses=problems.PROLONGING)
    async def refresh(self, data: RequestBody[RefreshToken], services: NamedDependency[Services]) -> Tokens:
        """Prolong a session; a refresh token that is used twice ends it."""
        async with services.log.pool.connection() as connection:
            return _tokens(services, await sessions.rotate(connection, data.refresh_token))

    @post("/logout", operation_id="logout", status_code=204, responses=problems.PROLONGING)
    async def logout(self, data: RequestBody[RefreshToken], services: NamedDependency[Services]) -> None:
        """End a session."""
        async with services.log.pool.connection() as connection:
            await sessions.end(connection, data.refresh_token)

    @get("/me", operation_id="me", guards=[may_read], responses=problems.READING_ONE)
    async def me(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> User:
        """Show who is signed in."""
        claims = claims_of(request)
        async with services.log.pool.connection() as connection:
            return await users.by_id(connection, claims.ledger, claims.sub)


def _tokens(services: Services, session: Session) -> Tokens:
    return Tokens(
        access_token=access_tokens.issue(session.user, keys=services.keys, issuer=services.issuer),
        refresh_token=session.refresh_token,
        expires_in=ACCESS_TOKEN_SECONDS,
    )

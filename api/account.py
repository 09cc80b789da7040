"""The door to one's own account: what one is called, the password, and where one is signed in."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, RequestBody
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from api import audited, problems
from api.access import address_of, claims_of, is_person
from api.services import Services
from domain.access import PersonDeactivated, ProviderUnlinked, SessionsEnded
from domain.values import TimeZoneName
from infra import provider_links, sessions, sign_in, users
from infra.provider_links import ProviderLink
from infra.sessions import OpenSession
from infra.users import User


class ProfileChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody says about themselves."""

    name: Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")] | UnsetType = UNSET
    timezone: TimeZoneName | UnsetType = UNSET


class PasswordChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The password that is, and the one that is to be."""

    current_password: Annotated[str, Meta(min_length=1, max_length=200)]
    new_password: Annotated[str, Meta(min_length=1, max_length=200)]


class Deactivation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The password, asked for again."""

    password: Annotated[str, Meta(min_length=1, max_length=200)]


class AccountController(Controller):
    """One's own account."""

    path = "/auth"
    tags = ("account",)
    guards = (is_person,)

    @get("/me", operation_id="me", responses=problems.READING_ONE)
    async def me(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> User:
        """Show who is signed in."""
        claims = claims_of(request)
        async with services.log.pool.connection() as connection:
            return await users.by_id(connection, claims.ledger, claims.sub)

    @patch("/me", operation_id="change_me", responses=problems.ACCOUNT)
    async def change(
        self, data: RequestBody[ProfileChange], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> User:
        """Set what one is called, and in which time zone one lives."""
        claims = claims_of(request)
        said = {name: value for name, value in structs.asdict(data).items() if value is not UNSET}
        async with services.log.pool.connection() as connection:
            return await users.describe(connection, claims.ledger, claims.sub, **said)

    @post("/password", operation_id="change_password", status_code=204, responses=problems.GUESSING)
    async def change_password(
        self, data: RequestBody[PasswordChange], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> None:
        """Choose another password, which ends one's other sessions."""
        claims = claims_of(request)
        async with services.log.pool.connection() as connection:
            user = await users.by_id(connection, claims.ledger, claims.sub)
        await sign_in.change_password(
            services.log.pool,
            services.keys,
            services.audit,
            user,
            current=data.current_password,
            new=data.new_password,
            address=address_of(request),
            session=claims.sid,
        )

    @post("/deactivate", operation_id="deactivate_me", status_code=204, responses=problems.GUESSING)
    async def deactivate(
        self, data: RequestBody[Deactivation], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> None:
        """Close one's account, which ends all sessions; only an admin can open it again, and the last admin stays."""
        claims, address = claims_of(request), address_of(request)
        async with services.log.pool.connection() as connection:
            user = await users.by_id(connection, claims.ledger, claims.sub)
        said = {"password": data.password, "address": address, "pointer": "/password"}
        await sign_in.prove(services.log.pool, services.keys, services.audit, user, **said)
        async with services.log.pool.connection() as connection:
            async with connection.transaction():
                await users.change(connection, claims.ledger, claims.sub, active=False)
                await audited.record(request, claims.sub, PersonDeactivated())
            await services.revocations.refresh(connection)

    @get("/sessions", operation_id="list_sessions", responses=problems.READING)
    async def browse(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> list[OpenSession]:
        """List where one is signed in, the last used first; addresses are networks, programs are families."""
        claims = claims_of(request)
        async with services.log.pool.connection() as connection:
            idle_days = services.settings.session_idle_days
            found = await sessions.of_person(connection, claims.sub, idle_days=idle_days)
        return [structs.replace(each, current=each.id == claims.sid) for each in found]

    @delete("/sessions/{session_id:uuid}", operation_id="end_session", responses=problems.READING_ONE)
    async def end(
        self, session_id: FromPath[UUID], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> None:
        """Sign out of one session; its access token ends within seconds."""
        claims = claims_of(request)
        async with services.log.pool.connection() as connection:
            async with connection.transaction():
                await sessions.end_one(connection, claims.sub, session_id)
                event = SessionsEnded(session_id=session_id, reason="ended_by_owner")
                await audited.record(request, claims.sub, event)
            await services.revocations.refresh(connection)

    @get("/links", operation_id="list_links", responses=problems.READING)
    async def links(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> list[ProviderLink]:
        """List through which providers one has signed in, each of which signs in to this account from then on."""
        async with services.log.pool.connection() as connection:
            return await provider_links.of_person(connection, claims_of(request).sub)

    @delete("/links/{link_id:uuid}", operation_id="remove_link", responses=problems.READING_ONE)
    async def unlink(
        self, link_id: FromPath[UUID], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> None:
        """Forget whom one is at a provider; who has one's e-mail address there will be linked next."""
        claims = claims_of(request)
        async with services.log.pool.connection() as connection, connection.transaction():
            issuer = await provider_links.remove(connection, claims.sub, link_id)
            await audited.record(request, claims.sub, ProviderUnlinked(issuer=issuer))

    @delete("/sessions", operation_id="end_sessions", responses=problems.READING)
    async def end_others(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> None:
        """Sign out of all sessions but this one."""
        claims = claims_of(request)
        async with services.log.pool.connection() as connection:
            async with connection.transaction():
                if await sessions.end_others(connection, claims.sub, kept=claims.sid):
                    await audited.record(request, claims.sub, SessionsEnded(reason="ended_by_owner"))
            await services.revocations.refresh(connection)

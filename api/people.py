"""The door to the people of a ledger."""

from collections.abc import Iterator
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter, RequestBody
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from api import problems
from api.access import may_administer
from api.audited import record
from api.lists import Limit
from api.services import Services
from domain.access import (
    PersonAdded,
    PersonDeactivated,
    PersonEvent,
    PersonReactivated,
    RoleChanged,
    SecondFactorDisabled,
)
from infra import second_factors, users
from infra.execute import Asked
from infra.once import once
from infra.ownership import check_known
from infra.users import ADVERTISERS_MAX, MemberRole, User
from projections.listing import LIMIT_DEFAULT, Page

AdvertiserIds = Annotated[
    tuple[UUID, ...],
    Meta(
        max_length=ADVERTISERS_MAX, description="Whose campaigns are seen in the role `advertiser`, and only in that."
    ),
]


class NewUser(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person to be added, and what they sign in with first."""

    email: Annotated[str, Meta(min_length=3, max_length=254)]
    password: Annotated[str, Meta(min_length=1, max_length=200)]
    role: MemberRole
    advertiser_ids: AdvertiserIds = ()
    name: Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""


class UserChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be set about a person."""

    role: MemberRole | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    advertiser_ids: AdvertiserIds | UnsetType = UNSET


class PeopleController(Controller):
    """People and their roles."""

    path = "/users"
    tags = ("people",)
    guards = (may_administer,)

    @get(operation_id="list_users", responses=problems.READING)
    async def browse(
        self,
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
        limit: Limit = LIMIT_DEFAULT,
        cursor: Annotated[UUID | None, QueryParameter(description="The `next_cursor` of the page before.")] = None,
    ) -> Page[User]:
        """List the people of the ledger, in the order in which they were added."""
        async with services.log.pool.connection() as connection:
            people = await users.page(connection, ledger_id, after=cursor, limit=limit)
        return Page(items=people, next_cursor=str(people[-1].id) if len(people) == limit else None)

    @get("/{user_id:uuid}", operation_id="get_user", responses=problems.READING_ONE)
    async def show(
        self, user_id: FromPath[UUID], ledger_id: NamedDependency[UUID], services: NamedDependency[Services]
    ) -> User:
        """Show a person."""
        async with services.log.pool.connection() as connection:
            return await users.by_id(connection, ledger_id, user_id)

    @post(operation_id="create_user", responses=problems.CREATING)
    async def create(
        self,
        data: RequestBody[NewUser],
        request: Request[Any, Any, Any],
        asked: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> User:
        """Add a person."""
        async with services.log.pool.connection() as connection:

            async def act() -> UUID:
                await check_known(connection, asked.ledger_id, data.advertiser_ids)
                async with connection.transaction():
                    added = await users.create(connection, asked.ledger_id, **structs.asdict(data))
                    event = PersonAdded(role=added.role, advertiser_ids=added.advertiser_ids)
                    await record(request, added.id, event)
                return added.id

            made = await once(connection, asked.ledger_id, asked.idempotency, act)
            return await users.by_id(connection, asked.ledger_id, made)

    @patch("/{user_id:uuid}", operation_id="change_user", responses=problems.ACCOUNT)
    async def change(
        self,
        user_id: FromPath[UUID],
        data: RequestBody[UserChange],
        request: Request[Any, Any, Any],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
    ) -> User:
        """Set a person's role and advertisers, or let them in or out; what they do with it ends within seconds."""
        role = None if data.role is UNSET else data.role
        active = None if data.active is UNSET else data.active
        named = None if data.advertiser_ids is UNSET else data.advertiser_ids
        async with services.log.pool.connection() as connection:
            await check_known(connection, ledger_id, named or ())
            async with connection.transaction():
                before = await users.by_id(connection, ledger_id, user_id)
                changed = await users.change(
                    connection, ledger_id, user_id, role=role, active=active, advertiser_ids=named
                )
                for event in _differences(before, changed):
                    await record(request, user_id, event)
            await services.revocations.refresh(connection)
        return changed

    @delete("/{user_id:uuid}/totp", operation_id="reset_second_factor", responses=problems.RESETTING)
    async def reset(
        self,
        user_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
    ) -> None:
        """Turn the one-time passwords of somebody off who lost both the app and the recovery codes."""
        async with services.log.pool.connection() as connection, connection.transaction():
            user = await users.by_id(connection, ledger_id, user_id)
            await users.check_only_here(connection, user)
            await second_factors.remove(connection, user)
            await record(request, user_id, SecondFactorDisabled())


def _differences(before: User, after: User) -> Iterator[PersonEvent]:
    if (after.role, after.advertiser_ids) != (before.role, before.advertiser_ids):
        yield RoleChanged(role=after.role, earlier=before.role, advertiser_ids=after.advertiser_ids)
    if after.active != before.active:
        yield PersonReactivated() if after.active else PersonDeactivated()

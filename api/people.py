"""The door to the people of a ledger."""

from typing import Annotated
from uuid import UUID

from litestar import Controller, get, patch, post
from litestar.params import Parameter
from msgspec import Meta, Struct

from api import problems
from api.access import may_administer
from api.lists import Limit
from api.services import Services
from infra import users
from infra.execute import Asked
from infra.users import Role, User
from projections.listing import LIMIT_DEFAULT, Page


class NewUser(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person to be added, and what they sign in with first."""

    email: Annotated[str, Meta(min_length=3, max_length=254)]
    password: Annotated[str, Meta(min_length=1, max_length=200)]
    role: Role


class UserChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be set about a person."""

    role: Role | None = None
    active: bool | None = None


class PeopleController(Controller):
    """People and their roles."""

    path = "/users"
    tags = ("people",)
    guards = (may_administer,)

    @get(operation_id="list_users", responses=problems.LISTING)
    async def browse(
        self,
        asked: Asked,
        services: Services,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Annotated[UUID | None, Parameter(description="`next_cursor` of the page before.")] = None,
    ) -> Page[User]:
        """List the people of the ledger, in the order in which they were added."""
        async with services.log.pool.connection() as connection:
            people = await users.page(connection, asked.ledger_id, after=cursor, limit=limit)
        return Page(items=people, next_cursor=str(people[-1].id) if len(people) == limit else None)

    @get("/{user_id:uuid}", operation_id="get_user", responses=problems.READING_ONE)
    async def show(self, user_id: UUID, asked: Asked, services: Services) -> User:
        """Show a person."""
        async with services.log.pool.connection() as connection:
            return await users.by_id(connection, asked.ledger_id, user_id)

    @post(operation_id="create_user", responses=problems.CREATING)
    async def create(self, data: NewUser, asked: Asked, services: Services) -> User:
        """Add a person."""
        async with services.log.pool.connection() as connection:
            return await users.create(
                connection, asked.ledger_id, email=data.email, password=data.password, role=data.role
            )

    @patch("/{user_id:uuid}", operation_id="change_user", responses=problems.CHANGING)
    async def change(self, user_id: UUID, data: UserChange, asked: Asked, services: Services) -> User:
        """Set a person's role, or let them in or out; who is out cannot prolong a session."""
        async with services.log.pool.connection() as connection:
            return await users.change(connection, asked.ledger_id, user_id, role=data.role, active=data.active)

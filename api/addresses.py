"""The door to the e-mail address of one's own account."""

from typing import Annotated, Any, Final

from litestar import Controller, Request, post
from litestar.di import NamedDependency
from litestar.params import RequestBody
from msgspec import Meta, Struct

from api import problems
from api.access import address_of, claims_of, is_person
from api.recovery import Mailed
from api.services import Services
from api.sign_in import Secret
from infra import addresses, users
from infra.users import User


class EmailChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The address that is to be, and the password, asked for again."""

    email: Annotated[str, Meta(min_length=3, max_length=254)]
    current_password: Secret


MAILED: Final = Mailed(detail="A letter is on its way to this address.")


class AddressController(Controller):
    """One's e-mail address."""

    path = "/auth"
    tags = ("account",)
    guards = (is_person,)

    @post("/verification", operation_id="send_verification", status_code=202, responses=problems.GUESSING)
    async def ask_again(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> Mailed:
        """Have a token mailed that proves one's address."""
        user = await _person(request, services)
        await addresses.ask_again(services.log.pool, services.keys, user, address=address_of(request))
        return MAILED

    @post("/email", operation_id="change_email", status_code=202, responses=problems.GUESSING)
    async def change(
        self, data: RequestBody[EmailChange], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> Mailed:
        """Have a token mailed to another address, which is one's own once that is proven, and not before."""
        await addresses.ask_to_change(
            services.log.pool,
            services.keys,
            services.audit,
            await _person(request, services),
            email=data.email,
            password=data.current_password,
            address=address_of(request),
        )
        return MAILED


async def _person(request: Request[Any, Any, Any], services: Services) -> User:
    claims = claims_of(request)
    async with services.log.pool.connection() as connection:
        return await users.by_id(connection, claims.ledger, claims.sub)

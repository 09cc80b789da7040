"""The door for who has no account and was not invited, where the operator has opened it."""

from typing import Annotated, Any, Final

from litestar import Controller, Request, post
from litestar.di import NamedDependency
from litestar.params import RequestBody
from msgspec import Meta, Struct

from api import problems
from api.access import address_of
from api.invitations import Name, Token
from api.recovery import Mailed
from api.services import Services
from domain.errors import NotFound
from infra import sign_up
from infra.users import User

REGISTERED: Final = Mailed(detail="If there is no account with this address, a letter is on its way to it.")


class Registration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The address of somebody who wants an account."""

    email: Annotated[str, Meta(min_length=3, max_length=254)]


class RegistrationProof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The token that was mailed, and what to sign in with from now on."""

    token: Token
    password: Annotated[str, Meta(min_length=1, max_length=200)]
    name: Name = ""


class SignUpController(Controller):
    """Signing up."""

    path = "/auth/register"
    tags = ("sign-in",)

    @post(operation_id="register", status_code=202, responses=problems.REGISTERING)
    async def register(
        self, data: RequestBody[Registration], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> Mailed:
        """Have a token mailed with which to make an account; the answer is the same for every address."""
        _check_open(services)
        await sign_up.ask(services.log.pool, services.keys, email=data.email, address=address_of(request))
        return REGISTERED

    @post("/confirm", operation_id="confirm_registration", responses=problems.REGISTERING)
    async def confirm(self, data: RequestBody[RegistrationProof], services: NamedDependency[Services]) -> User:
        """Make an account with a token; who has it may sign in, and begin an organisation or accept an invitation."""
        _check_open(services)
        async with services.log.pool.connection() as connection:
            return await sign_up.finish(connection, services.keys, data.token, password=data.password, name=data.name)


def _check_open(services: Services) -> None:
    """Raise NotFound where nobody has an account who was not given one."""
    if not services.settings.self_sign_up:
        raise NotFound("way to sign up", "by oneself")

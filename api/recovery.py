"""The door for who cannot sign in, or holds a letter: forgotten passwords, and addresses that are to be proven."""

from typing import Annotated, Any, Final

from litestar import Controller, Request, post
from litestar.di import NamedDependency
from litestar.params import RequestBody
from msgspec import Meta, Struct

from api import problems
from api.access import address_of
from api.audited import seen_from
from api.invitations import Token
from api.services import Services
from domain.access import EmailChanged, PasswordChanged
from infra import addresses, recovery
from infra.access_audit import actor_of


class Forgotten(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The address of somebody who has forgotten their password."""

    email: Annotated[str, Meta(min_length=1, max_length=254)]


class Reset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The token that was mailed, and the password that is to be."""

    token: Token
    password: Annotated[str, Meta(min_length=1, max_length=200)]


class Verification(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The token that was mailed to the address."""

    token: Token


class Mailed(Struct, frozen=True, kw_only=True):
    """What was asked for arrives by mail, if at all."""

    detail: str


FORGOTTEN: Final = Mailed(detail="If there is an account with this address, a letter is on its way to it.")


class RecoveryController(Controller):
    """What a letter opens."""

    path = "/auth"
    tags = ("account",)

    @post("/forgotten", operation_id="forget_password", status_code=202, responses=problems.FORGETTING)
    async def forgotten(
        self, data: RequestBody[Forgotten], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> Mailed:
        """Have a token mailed with which to choose another password; the answer is the same for every address."""
        await recovery.ask(
            services.log.pool, services.keys, services.ledgers.first, email=data.email, address=address_of(request)
        )
        return FORGOTTEN

    @post("/reset", operation_id="reset_password", status_code=204, responses=problems.PROVING)
    async def reset(
        self, data: RequestBody[Reset], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> None:
        """Choose another password with a token, which ends all sessions and makes all other tokens worthless."""
        async with services.log.pool.connection() as connection:
            async with connection.transaction():
                user = await recovery.reset(connection, services.keys, data.token, password=data.password)
                event = seen_from(request, PasswordChanged(method="letter"))
                await services.audit.record(user.ledger_id, user.id, event, actor=actor_of(user))
            await services.revocations.refresh(connection)

    @post("/verify", operation_id="verify_email", status_code=204, responses=problems.PROVING)
    async def verify(
        self, data: RequestBody[Verification], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> None:
        """Prove an address, which counts from now on if it is a new one; the one before is told."""
        async with services.log.pool.connection() as connection, connection.transaction():
            moved = await addresses.verify(connection, services.keys, data.token)
            if moved is not None:
                event, actor = seen_from(request, EmailChanged()), f"user:{moved.user_id}"
                await services.audit.record(moved.ledger_id, moved.user_id, event, actor=actor)

"""The door to one's second factor: one-time passwords of an app, turned on and off."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, get, post, put
from litestar.di import NamedDependency
from litestar.params import RequestBody
from msgspec import Meta, Struct

from api import problems
from api.access import address_of, claims_of, is_person, may_administer, may_read
from api.audited import record
from api.services import Services
from api.sign_in import Code, Secret
from domain.access import SecondFactorDisabled, SecondFactorEnabled, SecondFactorPolicySet
from infra import second_factors, sign_in, users
from infra.second_factors import Enrolment, SecondFactor
from infra.users import User


class Proof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The password, asked for again."""

    current_password: Secret


class Confirmation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The one-time password that the app shows."""

    code: Code


class Removal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The password, and a one-time password or a recovery code."""

    current_password: Secret
    code: Code


class RecoveryCodes(Struct, frozen=True, kw_only=True):
    """What stands in for one-time passwords, each once, should the app be lost; they are shown this once."""

    recovery_codes: Annotated[list[str], Meta(min_length=second_factors.RECOVERY_CODES)]


class SecondFactorPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether whoever has no second factor may do nothing in an organisation but turn one on."""

    demanded: bool


class SecondFactorPolicyController(Controller):
    """Whether an organisation demands a second factor of its people."""

    path = "/policy/second-factor"
    tags = ("people",)

    @get(operation_id="get_second_factor_policy", guards=[may_read], responses=problems.READING)
    async def show(self, ledger_id: NamedDependency[UUID], services: NamedDependency[Services]) -> SecondFactorPolicy:
        """Show whether a second factor is demanded."""
        async with services.log.pool.connection() as connection:
            return SecondFactorPolicy(demanded=await second_factors.is_demanded(connection, ledger_id))

    @put(
        operation_id="set_second_factor_policy",
        status_code=204,
        guards=[may_administer],
        responses=problems.ACCOUNT,
    )
    async def set(
        self,
        data: RequestBody[SecondFactorPolicy],
        request: Request[Any, Any, Any],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
    ) -> None:
        """Demand a second factor of everybody, or leave it to each.

        Within seconds, who has none can do nothing but look after their own account. Programs and their keys go on.
        """
        async with services.log.pool.connection() as connection:
            async with connection.transaction():
                await second_factors.demand(connection, ledger_id, demanded=data.demanded)
                await record(request, ledger_id, SecondFactorPolicySet(demanded=data.demanded))
            await services.revocations.refresh(connection)


class SecondFactorController(Controller):
    """One-time passwords."""

    path = "/auth/totp"
    tags = ("account",)
    guards = (is_person,)

    @get(operation_id="get_second_factor", responses=problems.READING_ONE)
    async def show(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> SecondFactor:
        """Show whether one-time passwords are on, and how many recovery codes are left."""
        user = await _person(request, services)
        async with services.log.pool.connection() as connection:
            return await second_factors.of_person(connection, user)

    @post(operation_id="enrol_second_factor", responses=problems.GUESSING)
    async def enrol(
        self, data: RequestBody[Proof], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> Enrolment:
        """Make the secret of one-time passwords, for an app; they are on once one of them is confirmed."""
        user = await _proven(request, services, data.current_password)
        async with services.log.pool.connection() as connection:
            return await second_factors.enrol(connection, services.keys.masters, user)

    @post("/confirm", operation_id="confirm_second_factor", status_code=200, responses=problems.ACCOUNT)
    async def confirm(
        self, data: RequestBody[Confirmation], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> RecoveryCodes:
        """Turn one-time passwords on, with the first that the app shows; from now on signing in asks for one."""
        user = await _person(request, services)
        async with services.log.pool.connection() as connection, connection.transaction():
            codes = await second_factors.confirm(connection, services.keys.masters, user, data.code)
            await record(request, user.id, SecondFactorEnabled())
        async with services.log.pool.connection() as connection:
            await services.revocations.refresh(connection)
        return RecoveryCodes(recovery_codes=codes)

    @post("/remove", operation_id="remove_second_factor", status_code=204, responses=problems.GUESSING)
    async def remove(
        self, data: RequestBody[Removal], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> None:
        """Turn one-time passwords off."""
        user = await _proven(request, services, data.current_password, data.code)
        async with services.log.pool.connection() as connection, connection.transaction():
            await second_factors.remove(connection, user)
            await record(request, user.id, SecondFactorDisabled())


async def _person(request: Request[Any, Any, Any], services: Services) -> User:
    claims = claims_of(request)
    async with services.log.pool.connection() as connection:
        return await users.by_id(connection, claims.ledger, claims.sub)


async def _proven(request: Request[Any, Any, Any], services: Services, password: str, code: str | None = None) -> User:
    """Return who asks, if they know their password, which who has found their device does not."""
    user, address = await _person(request, services), address_of(request)
    await sign_in.prove(
        services.log.pool, services.keys, services.audit, user, password=password, address=address, code=code
    )
    return user

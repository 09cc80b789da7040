"""The door to organisations: making them, what they are called, and which ones somebody belongs to."""

from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Controller, Request, get, patch, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter, RequestBody
from msgspec import UNSET, Struct, UnsetType, structs

from api import problems
from api.access import caller_of, claims_of, is_person, may_administer, may_found, may_operate, may_see
from api.lists import Limit
from api.problems import NotAnImage
from api.services import Services
from domain.terms import OrganisationTerms
from domain.values import CurrencyCode, HttpsUrl, Name, Slug, TimeZoneName
from infra import images, media, organisations
from infra.execute import Asked
from infra.once import once
from infra.organisations import Membership, Organisation
from projections import condition
from projections.condition import InstallationCondition
from projections.listing import LIMIT_DEFAULT

UNSAID_TYPE: Final = "application/octet-stream"


class NewOrganisation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An organisation to be; whoever makes it is its first admin."""

    name: Name
    slug: Slug
    timezone: TimeZoneName = "UTC"
    currency: CurrencyCode | None = None


class OrganisationChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be set about an organisation; a `logo_url` takes the place of an uploaded logo."""

    name: Name | UnsetType = UNSET
    slug: Slug | UnsetType = UNSET
    logo_url: HttpsUrl | None | UnsetType = UNSET
    timezone: TimeZoneName | UnsetType = UNSET
    currency: CurrencyCode | None | UnsetType = UNSET


class OrganisationsController(Controller):
    """The organisations that somebody belongs to."""

    path = "/organisations"
    tags = ("organisations",)
    guards = (is_person,)

    @get(operation_id="list_organisations", responses=problems.READING)
    async def browse(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> list[Membership]:
        """List the organisations that one belongs to."""
        claims = claims_of(request)
        async with services.log.pool.connection() as connection:
            return await organisations.of_person(connection, claims.sub, claims.ledger)

    @post(operation_id="create_organisation", guards=[may_found], responses=problems.CREATING)
    async def create(
        self,
        data: RequestBody[NewOrganisation],
        request: Request[Any, Any, Any],
        asked: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Organisation:
        """Begin an organisation with a ledger of its own, and become its admin; `auth/switch` leads there."""
        person = claims_of(request).sub
        async with services.log.pool.connection() as connection:

            async def act() -> UUID:
                return (await organisations.create(connection, person, OrganisationTerms(**structs.asdict(data)))).id

            made = await once(connection, asked.ledger_id, asked.idempotency, act)
            return await organisations.read(connection, made)


class OrganisationController(Controller):
    """The organisation that one is signed in to."""

    path = "/organisation"
    tags = ("organisations",)

    @get(operation_id="get_organisation", guards=[may_see], responses=problems.READING)
    async def show(self, ledger_id: NamedDependency[UUID], services: NamedDependency[Services]) -> Organisation:
        """Show the organisation."""
        async with services.log.pool.connection() as connection:
            return await organisations.read(connection, ledger_id)

    @patch(operation_id="change_organisation", guards=[may_administer], responses=problems.ACCOUNT)
    async def change(
        self,
        data: RequestBody[OrganisationChange],
        request: Request[Any, Any, Any],
        services: NamedDependency[Services],
    ) -> Organisation:
        """Set what the organisation is called and looks like, and what its campaigns are in that say nothing else."""
        caller = caller_of(request)
        said = {name: value for name, value in structs.asdict(data).items() if value is not UNSET}
        if "logo_url" in said:
            said["logo_file"] = None
        async with services.log.pool.connection() as connection:
            return await organisations.change(connection, caller.ledger, caller.actor, **said)

    @post(
        "/logo",
        operation_id="upload_logo",
        status_code=200,
        guards=[may_administer],
        responses=problems.ACCOUNT,
        request_max_body_size=images.BYTES_MAX,
        opt={"takes": (*images.TYPES.values(), UNSAID_TYPE)},
    )
    async def upload(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> Organisation:
        """Use an image as the logo, which is kept without its metadata; the body is the file itself."""
        said, _ = request.content_type
        if said not in {*images.TYPES.values(), UNSAID_TYPE, ""}:
            raise NotAnImage
        image = await images.cleaned(await request.body(), None if said in {UNSAID_TYPE, ""} else said)
        await media.keep(services.settings, image.name, image.content)
        caller, logo = caller_of(request), {"logo_url": None, "logo_file": image.name}
        async with services.log.pool.connection() as connection:
            return await organisations.change(connection, caller.ledger, caller.actor, **logo)


class InstallationController(Controller):
    """What operators look after."""

    path = "/installation"
    tags = ("operations",)
    guards = (may_operate,)

    @get(operation_id="get_installation", responses=problems.READING)
    async def show(
        self,
        services: NamedDependency[Services],
        limit: Limit = LIMIT_DEFAULT,
        cursor: Annotated[UUID | None, QueryParameter(description="The `next_cursor` of the page before.")] = None,
    ) -> InstallationCondition:
        """Show how the installation is: sizes and delays of every ledger, and nothing that anybody keeps there."""
        async with services.log.pool.connection() as connection:
            return await condition.read(connection, after=cursor, limit=limit)

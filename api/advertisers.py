"""The door to advertisers, and to their funds."""

from typing import Annotated
from uuid import UUID

from litestar import Controller, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter, RequestBody

from api import lists, problems
from api.access import may_manage, may_read
from api.lists import Moment
from api.services import Services
from domain.advertiser import ADVERTISER, ChangeAdvertiser, CreateAdvertiser, DepositFunds, WithdrawFunds
from domain.errors import NotFound
from domain.terms import Availability
from infra import clock
from infra.batch import Receipt
from infra.execute import Asked, execute
from infra.leasing import Funds, read_funds
from projections.advertisers import READ_MODEL, AdvertiserRow
from projections.listing import Listing, Page


class AdvertiserController(Controller):
    """Who pays for campaigns."""

    path = "/advertisers"
    tags = ("advertisers",)

    @get(operation_id="list_advertisers", guards=[may_read], responses=problems.LISTING)
    async def browse(
        self,
        ledger_id: NamedDependency[UUID],
        page: NamedDependency[Listing],
        services: NamedDependency[Services],
        as_of: NamedDependency[Moment | None],
        status: Annotated[Availability | None, QueryParameter(description="Only those with this status.")] = None,
        name: lists.Name = None,
    ) -> Page[AdvertiserRow]:
        """List advertisers."""
        return await lists.browse(services, ledger_id, READ_MODEL, page, as_of, status=status, name=name)

    @get("/{advertiser_id:uuid}", operation_id="get_advertiser", guards=[may_read], responses=problems.LISTING_OF_ONE)
    async def show(
        self,
        advertiser_id: FromPath[UUID],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
        as_of: NamedDependency[Moment | None],
    ) -> Response[AdvertiserRow]:
        """Show an advertiser."""
        return await lists.show(services, ledger_id, READ_MODEL, advertiser_id, as_of)

    @post(operation_id="create_advertiser", guards=[may_manage], responses=problems.CREATING)
    async def create(
        self, data: RequestBody[CreateAdvertiser], asked: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Enter an advertiser."""
        answer = await execute(services.log, ADVERTISER, clock.fresh_id(), data, asked)
        return lists.receipt(answer, created=True)

    @patch("/{advertiser_id:uuid}", operation_id="change_advertiser", guards=[may_manage], responses=problems.CHANGING)
    async def change(
        self,
        advertiser_id: FromPath[UUID],
        data: RequestBody[ChangeAdvertiser],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Set fields of an advertiser."""
        return lists.receipt(await execute(services.log, ADVERTISER, advertiser_id, data, asked_if))

    @post(
        "/{advertiser_id:uuid}/deposit",
        operation_id="deposit_funds",
        status_code=200,
        guards=[may_manage],
        responses=problems.CHANGING,
    )
    async def deposit(
        self,
        advertiser_id: FromPath[UUID],
        data: RequestBody[DepositFunds],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Take money in advance; from the first deposit on, the advertiser's campaigns spend no more than its funds."""
        return lists.receipt(await execute(services.log, ADVERTISER, advertiser_id, data, asked_if))

    @post(
        "/{advertiser_id:uuid}/withdraw",
        operation_id="withdraw_funds",
        status_code=200,
        guards=[may_manage],
        responses=problems.CHANGING,
    )
    async def withdraw(
        self,
        advertiser_id: FromPath[UUID],
        data: RequestBody[WithdrawFunds],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Pay back what the advertiser has neither spent nor promised."""
        return lists.receipt(await execute(services.log, ADVERTISER, advertiser_id, data, asked_if))

    @get("/{advertiser_id:uuid}/funds", operation_id="get_funds", guards=[may_read], responses=problems.LISTING_OF_ONE)
    async def show_funds(
        self, advertiser_id: FromPath[UUID], ledger_id: NamedDependency[UUID], services: NamedDependency[Services]
    ) -> Funds:
        """Show what an advertiser deposited, and what its campaigns have spent and set aside of it, at this moment."""
        async with services.log.pool.connection() as connection:
            funds = await read_funds(connection, ledger_id, advertiser_id)
        if funds is None:
            raise NotFound("deposit of advertiser", advertiser_id)
        return funds

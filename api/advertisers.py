"""The door to advertisers."""

from uuid import UUID

from litestar import Controller, Response, get, patch, post

from api import lists, problems
from api.access import may_manage, may_read
from api.lists import Filter
from api.services import Services
from domain.advertiser import ADVERTISER, ChangeAdvertiser, CreateAdvertiser
from infra import clock
from infra.batch import Receipt
from infra.execute import Asked, execute
from projections.advertisers import READ_MODEL, AdvertiserRow
from projections.listing import Listing, Page


class AdvertiserController(Controller):
    """Who pays for campaigns."""

    path = "/advertisers"
    tags = ("advertisers",)

    @get(operation_id="list_advertisers", guards=[may_read], responses=problems.LISTING)
    async def browse(
        self, asked: Asked, page: Listing, services: Services, status: Filter = None, name: Filter = None
    ) -> Page[AdvertiserRow]:
        """List advertisers."""
        return await lists.browse(services, asked.ledger_id, READ_MODEL, page, status=status, name=name)

    @get("/{advertiser_id:uuid}", operation_id="get_advertiser", guards=[may_read], responses=problems.READING_ONE)
    async def show(self, advertiser_id: UUID, asked: Asked, services: Services) -> Response[AdvertiserRow]:
        """Show an advertiser."""
        return await lists.show(services, asked.ledger_id, READ_MODEL, advertiser_id)

    @post(operation_id="create_advertiser", guards=[may_manage], responses=problems.CREATING)
    async def create(self, data: CreateAdvertiser, asked: Asked, services: Services) -> Response[Receipt]:
        """Enter an advertiser."""
        answer = await execute(services.log, ADVERTISER, clock.fresh_id(), data, asked)
        return lists.receipt(answer, created=True)

    @patch("/{advertiser_id:uuid}", operation_id="change_advertiser", guards=[may_manage], responses=problems.CHANGING)
    async def change(
        self, advertiser_id: UUID, data: ChangeAdvertiser, asked: Asked, services: Services
    ) -> Response[Receipt]:
        """Set fields of an advertiser."""
        return lists.receipt(await execute(services.log, ADVERTISER, advertiser_id, data, asked))

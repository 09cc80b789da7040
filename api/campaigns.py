"""The door to campaigns."""

from uuid import UUID

from litestar import Controller, Response, get, patch, post

from api import lists, problems
from api.access import may_manage, may_read
from api.lists import Filter, Limit
from api.services import Services
from domain.campaign import (
    CAMPAIGN,
    ActivateCampaign,
    ArchiveCampaign,
    CampaignStep,
    ChangeCampaign,
    CompleteCampaign,
    CreateCampaign,
    PauseCampaign,
)
from infra import clock
from infra.batch import Receipt
from infra.execute import Asked, execute
from projections import history
from projections.campaigns import READ_MODEL, CampaignRow
from projections.history import HistoryRow
from projections.listing import LIMIT_DEFAULT, Listing, Page
from projections.status import wait_for_commands


class CampaignController(Controller):
    """Who is shown what, when, where, and for how much."""

    path = "/campaigns"
    tags = ("campaigns",)

    @get(operation_id="list_campaigns", guards=[may_read], responses=problems.LISTING)
    async def browse(
        self,
        asked: Asked,
        page: Listing,
        services: Services,
        status: Filter = None,
        advertiser_id: UUID | None = None,
        name: Filter = None,
    ) -> Page[CampaignRow]:
        """List campaigns."""
        return await lists.browse(
            services, asked.ledger_id, READ_MODEL, page, status=status, advertiser_id=advertiser_id, name=name
        )

    @get("/{campaign_id:uuid}", operation_id="get_campaign", guards=[may_read], responses=problems.READING_ONE)
    async def show(self, campaign_id: UUID, asked: Asked, services: Services) -> Response[CampaignRow]:
        """Show a campaign."""
        return await lists.show(services, asked.ledger_id, READ_MODEL, campaign_id)

    @post(operation_id="create_campaign", guards=[may_manage], responses=problems.CREATING)
    async def create(self, data: CreateCampaign, asked: Asked, services: Services) -> Response[Receipt]:
        """Draft a campaign."""
        return lists.receipt(await execute(services.log, CAMPAIGN, clock.fresh_id(), data, asked), created=True)

    @patch("/{campaign_id:uuid}", operation_id="change_campaign", guards=[may_manage], responses=problems.CHANGING)
    async def change(
        self, campaign_id: UUID, data: ChangeCampaign, asked: Asked, services: Services
    ) -> Response[Receipt]:
        """Set fields of a campaign; budgets may be raised at any time, and lowered to what is spent and held."""
        return lists.receipt(await execute(services.log, CAMPAIGN, campaign_id, data, asked))

    @post(
        "/{campaign_id:uuid}/activate",
        operation_id="activate_campaign",
        status_code=200,
        guards=[may_manage],
        responses=problems.STEPPING,
    )
    async def activate(self, campaign_id: UUID, asked: Asked, services: Services) -> Response[Receipt]:
        """Let a campaign be served on its flight dates."""
        return await _step(services, campaign_id, ActivateCampaign(), asked)

    @post(
        "/{campaign_id:uuid}/pause",
        operation_id="pause_campaign",
        status_code=200,
        guards=[may_manage],
        responses=problems.STEPPING,
    )
    async def pause(self, campaign_id: UUID, asked: Asked, services: Services) -> Response[Receipt]:
        """Stop serving a campaign for the time being."""
        return await _step(services, campaign_id, PauseCampaign(), asked)

    @post(
        "/{campaign_id:uuid}/complete",
        operation_id="complete_campaign",
        status_code=200,
        guards=[may_manage],
        responses=problems.STEPPING,
    )
    async def complete(self, campaign_id: UUID, asked: Asked, services: Services) -> Response[Receipt]:
        """Bring a campaign to its end."""
        return await _step(services, campaign_id, CompleteCampaign(), asked)

    @post(
        "/{campaign_id:uuid}/archive",
        operation_id="archive_campaign",
        status_code=200,
        guards=[may_manage],
        responses=problems.STEPPING,
    )
    async def archive(self, campaign_id: UUID, asked: Asked, services: Services) -> Response[Receipt]:
        """Put a campaign away."""
        return await _step(services, campaign_id, ArchiveCampaign(), asked)

    @get(
        "/{campaign_id:uuid}/history",
        operation_id="get_campaign_history",
        guards=[may_read],
        responses=problems.READING_ONE,
    )
    async def read_history(
        self,
        campaign_id: UUID,
        asked: Asked,
        services: Services,
        limit: Limit = LIMIT_DEFAULT,
        cursor: lists.Cursor = None,
    ) -> Page[HistoryRow]:
        """Show what happened to a campaign, who did it and when, oldest first."""
        async with services.log.pool.connection() as connection:
            await wait_for_commands(connection, asked.ledger_id, history.PROJECTION.name)
            return await history.read(connection, asked.ledger_id, campaign_id, cursor=cursor, limit=limit)


async def _step(services: Services, campaign_id: UUID, step: CampaignStep, asked: Asked) -> Response[Receipt]:
    return lists.receipt(await execute(services.log, CAMPAIGN, campaign_id, step, asked))

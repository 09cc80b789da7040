"""The door to campaigns."""

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Controller, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter, RequestBody
from msgspec import UNSET, UnsetType, structs

from api import lists, problems
from api.access import may_change, may_draft, may_manage, may_see
from api.lists import Reader
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
from domain.values import CurrencyCode, TimeZoneName
from infra import clock, organisations
from infra.batch import Receipt
from infra.execute import Asked, execute
from projections import history
from projections.campaigns import READ_MODEL, CampaignRow
from projections.history import HistoryEvent
from projections.listing import LIMIT_DEFAULT, Listing, Page
from projections.replay import standing
from projections.status import wait_for_commands

Status = Literal["draft", "active", "paused", "completed", "expired", "inactive"]


class NewCampaign(CreateCampaign, frozen=True, kw_only=True):
    """A campaign to be, which need not say what its organisation says for all."""

    timezone: TimeZoneName | UnsetType = UNSET  # type: ignore[assignment]  # the command has one
    currency: CurrencyCode | UnsetType = UNSET  # type: ignore[assignment]  # as the line above


class CampaignController(Controller):
    """Who is shown what, when, where, and for how much."""

    path = "/campaigns"
    tags = ("campaigns",)

    @get(operation_id="list_campaigns", guards=[may_see], responses=problems.LISTING)
    async def browse(
        self,
        reader: NamedDependency[Reader],
        page: NamedDependency[Listing],
        status: Annotated[Status | None, QueryParameter(description="Only those with this status.")] = None,
        advertiser_id: Annotated[UUID | None, QueryParameter(description="Only those of this advertiser.")] = None,
        name: lists.Name = None,
    ) -> Page[CampaignRow]:
        """List campaigns."""
        return await reader.browse(READ_MODEL, page, status=status, advertiser_id=advertiser_id, name=name)

    @get("/{campaign_id:uuid}", operation_id="get_campaign", guards=[may_see], responses=problems.LISTING_OF_ONE)
    async def show(self, campaign_id: FromPath[UUID], reader: NamedDependency[Reader]) -> Response[CampaignRow]:
        """Show a campaign."""
        return await reader.show(READ_MODEL, campaign_id)

    @post(operation_id="create_campaign", guards=[may_draft], responses=problems.CREATING)
    async def create(
        self, data: RequestBody[NewCampaign], asked: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Draft a campaign; without `timezone` or `currency` it has its organisation's."""
        command = await _completed(services, asked.ledger_id, data)
        return lists.receipt(await execute(services.log, CAMPAIGN, clock.fresh_id(), command, asked), created=True)

    @patch("/{campaign_id:uuid}", operation_id="change_campaign", guards=[may_change], responses=problems.CHANGING)
    async def change(
        self,
        campaign_id: FromPath[UUID],
        data: RequestBody[ChangeCampaign],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Set fields of a campaign; budgets may be raised at any time, and lowered to what is spent and held.

        Once it has been activated, finance sets its budgets, and nobody else but admins.
        """
        return lists.receipt(await execute(services.log, CAMPAIGN, campaign_id, data, asked_if))

    @post(
        "/{campaign_id:uuid}/activate",
        operation_id="activate_campaign",
        status_code=200,
        guards=[may_manage],
        responses=problems.STEPPING,
    )
    async def activate(
        self, campaign_id: FromPath[UUID], asked_if: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Let a campaign be served on its flight dates."""
        return await _step(services, campaign_id, ActivateCampaign(), asked_if)

    @post(
        "/{campaign_id:uuid}/pause",
        operation_id="pause_campaign",
        status_code=200,
        guards=[may_manage],
        responses=problems.STEPPING,
    )
    async def pause(
        self, campaign_id: FromPath[UUID], asked_if: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Stop serving a campaign for the time being."""
        return await _step(services, campaign_id, PauseCampaign(), asked_if)

    @post(
        "/{campaign_id:uuid}/complete",
        operation_id="complete_campaign",
        status_code=200,
        guards=[may_manage],
        responses=problems.STEPPING,
    )
    async def complete(
        self, campaign_id: FromPath[UUID], asked_if: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Bring a campaign to its end."""
        return await _step(services, campaign_id, CompleteCampaign(), asked_if)

    @post(
        "/{campaign_id:uuid}/archive",
        operation_id="archive_campaign",
        status_code=200,
        guards=[may_manage],
        responses=problems.STEPPING,
    )
    async def archive(
        self, campaign_id: FromPath[UUID], asked_if: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Put a campaign away."""
        return await _step(services, campaign_id, ArchiveCampaign(), asked_if)

    @get(
        "/{campaign_id:uuid}/history",
        operation_id="get_campaign_history",
        guards=[may_see],
        responses=problems.LISTING_OF_ONE,
    )
    async def read_history(
        self,
        campaign_id: FromPath[UUID],
        reader: NamedDependency[Reader],
        limit: lists.Limit = LIMIT_DEFAULT,
        cursor: lists.Cursor = None,
    ) -> Page[HistoryEvent]:
        """Show what happened to a campaign, who did it and when, oldest first, with what the fields were before."""
        ledger_id, as_of = reader.ledger_id, reader.as_of
        async with reader.services.log.pool.connection() as connection:
            until = None if as_of is None else (await standing(connection, ledger_id, as_of)).position
            await wait_for_commands(connection, ledger_id, history.PROJECTION.name)
            return await history.read(connection, ledger_id, campaign_id, cursor=cursor, limit=limit, until=until)


async def _step(services: Services, campaign_id: UUID, step: CampaignStep, asked: Asked) -> Response[Receipt]:
    return lists.receipt(await execute(services.log, CAMPAIGN, campaign_id, step, asked))


async def _completed(services: Services, ledger_id: UUID, said: NewCampaign) -> CreateCampaign:
    """Return the command; raise msgspec.ValidationError when nobody says a currency."""
    fields = {name: value for name, value in structs.asdict(said).items() if value is not UNSET}
    if not {"timezone", "currency"} <= fields.keys():
        async with services.log.pool.connection() as connection:
            found = await organisations.read(connection, ledger_id)
        fields = {"timezone": found.timezone} | ({"currency": found.currency} if found.currency else {}) | fields
    return msgspec.convert(fields, CreateCampaign)

"""The door to budgets that need a second person: above which amounts they do, and those that wait."""

from uuid import UUID

from litestar import Controller, Response, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, RequestBody

from api import lists, problems
from api.access import may_administer, may_read, may_spend
from api.services import Services
from domain.campaign import CAMPAIGN, ConfirmBudget, RefuseBudget
from domain.policy import POLICY, POLICY_STREAM, SetBudgetPolicy
from domain.terms import BudgetPolicy
from domain.values import NIL
from infra.batch import Receipt
from infra.event_log import read_streams
from infra.execute import Asked, execute, state_of
from projections import campaigns, history
from projections.campaigns import CampaignRow
from projections.listing import Listing, Page
from projections.status import wait_for_commands


class PolicyController(Controller):
    """Above which amounts a budget takes effect only when a second person confirms it."""

    path = "/policy"
    tags = ("campaigns",)

    @get(operation_id="get_policy", guards=[may_read], responses=problems.READING)
    async def show(
        self, ledger_id: NamedDependency[UUID], services: NamedDependency[Services]
    ) -> Response[BudgetPolicy]:
        """Show the largest budget that one person may set alone, by currency; in others there is no limit."""
        async with services.log.pool.connection() as connection:
            entries = (await read_streams(connection, ledger_id, [POLICY_STREAM]))[POLICY_STREAM]
        found = state_of(POLICY_STREAM, entries)
        policy = found if isinstance(found, BudgetPolicy) else BudgetPolicy()
        return Response(policy, headers={"ETag": f'"{len(entries)}"'})

    @put(operation_id="set_policy", guards=[may_administer], responses=problems.CHANGING)
    async def set(
        self, data: RequestBody[SetBudgetPolicy], asked_if: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Say above which amounts budgets need a second person; what is set or waits already stays so."""
        return lists.receipt(await execute(services.log, POLICY, NIL, data, asked_if))


class ApprovalController(Controller):
    """Budgets that wait for a second person."""

    path = "/approvals"
    tags = ("campaigns",)

    @get(operation_id="list_approvals", guards=[may_read], responses=problems.LISTING)
    async def browse(
        self, ledger_id: NamedDependency[UUID], page: NamedDependency[Listing], services: NamedDependency[Services]
    ) -> Page[CampaignRow]:
        """List the campaigns with a budget that waits: `budget_request` says which, and who has asked for it."""
        async with services.log.pool.connection() as connection:
            await wait_for_commands(connection, ledger_id, campaigns.PROJECTION.name)
            return await campaigns.awaiting(connection, ledger_id, page)

    @post(
        "/{request_id:uuid}/confirm",
        operation_id="confirm_budget",
        status_code=200,
        guards=[may_spend],
        responses=problems.STEPPING,
    )
    async def confirm(
        self, request_id: FromPath[UUID], asked_if: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Let a budget take effect that somebody else has asked for; the receipt is the campaign's."""
        return await _answer(services, request_id, ConfirmBudget(request_id=request_id), asked_if)

    @post(
        "/{request_id:uuid}/refuse",
        operation_id="refuse_budget",
        status_code=200,
        guards=[may_spend],
        responses=problems.STEPPING,
    )
    async def refuse(
        self, request_id: FromPath[UUID], asked_if: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Leave a budget as it is; whoever has asked for another may take that back so as well."""
        return await _answer(services, request_id, RefuseBudget(request_id=request_id), asked_if)


async def _answer(
    services: Services, request_id: UUID, command: ConfirmBudget | RefuseBudget, asked: Asked
) -> Response[Receipt]:
    async with services.log.pool.connection() as connection:
        await wait_for_commands(connection, asked.ledger_id, history.PROJECTION.name)
        campaign_id = await history.campaign_asked(connection, asked.ledger_id, request_id)
    return lists.receipt(await execute(services.log, CAMPAIGN, campaign_id, command, asked))

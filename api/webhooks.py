"""The door to webhooks: which URLs are told of which events, and what could not be told."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, RequestBody
from msgspec import Meta, Struct

from api import problems
from api.access import may_administer
from api.audited import record, seen_from
from api.services import Services
from domain.access import WebhookDeleted, WebhookSecretIssued
from domain.errors import Refusal
from domain.values import ShortText, WebUrl
from infra import webhooks
from infra.access_audit import append_alone
from infra.destinations import DestinationRefused, Destinations
from infra.execute import Asked
from infra.webhooks import Parked, Webhook


class NewWebhook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A URL, and the types of events that it is to be told of from now on."""

    url: WebUrl
    event_types: Annotated[tuple[ShortText, ...], Meta(min_length=1, max_length=100)]


class CreatedWebhook(Struct, frozen=True, kw_only=True):
    """A webhook that was just added, and the secret that signs what it is told, shown this once."""

    id: UUID
    secret: str


class ReplayFrom(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """After which position of the log a webhook is to be told again."""

    position: Annotated[int, Meta(ge=0, le=2**53)]


class DestinationUnfit(Refusal):
    """The URL cannot be called."""

    code = "destination_refused"


class WebhookController(Controller):
    """URLs that are told of events as they are recorded, by the rules of Standard Webhooks."""

    path = "/webhooks"
    tags = ("webhooks",)
    guards = (may_administer,)

    @get(operation_id="list_webhooks", responses=problems.READING)
    async def browse(self, ledger_id: NamedDependency[UUID], services: NamedDependency[Services]) -> list[Webhook]:
        """List the webhooks of the ledger, which are few, in the order in which they were added."""
        async with services.log.pool.connection() as connection:
            return await webhooks.read(connection, ledger_id)

    @get("/{webhook_id:uuid}", operation_id="get_webhook", responses=problems.READING_ONE)
    async def show(
        self, webhook_id: FromPath[UUID], ledger_id: NamedDependency[UUID], services: NamedDependency[Services]
    ) -> Webhook:
        """Show a webhook: how far it was told, what waits, and what failed last."""
        async with services.log.pool.connection() as connection:
            return await webhooks.read_one(connection, ledger_id, webhook_id)

    @post(operation_id="create_webhook", responses=problems.CREATING)
    async def create(
        self,
        data: RequestBody[NewWebhook],
        request: Request[Any, Any, Any],
        asked: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> CreatedWebhook:
        """Add a webhook, and show its secret this once; a repeated request adds another."""
        try:
            Destinations(services.settings.webhook_networks).check(data.url)
        except DestinationRefused as refused:
            raise DestinationUnfit(str(refused), pointer="/url") from refused
        # It keeps the head of the log locked, so that no writer could append.
        async with services.log.pool.connection() as connection, connection.transaction():
            webhook_id, secret = await webhooks.create(
                connection,
                services.keys,
                asked.ledger_id,
                url=data.url,
                event_types=data.event_types,
                actor=asked.actor,
            )
            event = seen_from(request, WebhookSecretIssued())
            await append_alone(connection, asked.ledger_id, webhook_id, event, actor=asked.actor)
        return CreatedWebhook(id=webhook_id, secret=secret)

    @delete("/{webhook_id:uuid}", operation_id="delete_webhook", responses=problems.READING_ONE)
    async def remove(
        self,
        webhook_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
    ) -> None:
        """Delete a webhook; it is told nothing more, nor what waited for it."""
        async with services.log.pool.connection() as connection, connection.transaction():
            await webhooks.delete(connection, ledger_id, webhook_id)
            await record(request, webhook_id, WebhookDeleted())

    @post("/{webhook_id:uuid}/replay", operation_id="replay_webhook", status_code=200, responses=problems.ACCOUNT)
    async def replay(
        self,
        webhook_id: FromPath[UUID],
        data: RequestBody[ReplayFrom],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
    ) -> Webhook:
        """Tell a webhook again what was recorded after a position, under the ids that its messages had."""
        async with services.log.pool.connection() as connection:
            await webhooks.replay(connection, ledger_id, webhook_id, data.position)
            return await webhooks.read_one(connection, ledger_id, webhook_id)

    @get("/{webhook_id:uuid}/parked", operation_id="list_parked", responses=problems.READING_ONE)
    async def parked(
        self, webhook_id: FromPath[UUID], ledger_id: NamedDependency[UUID], services: NamedDependency[Services]
    ) -> list[Parked]:
        """List what a webhook did not take, however often it was tried."""
        async with services.log.pool.connection() as connection:
            return await webhooks.parked(connection, ledger_id, webhook_id)

    @post("/{webhook_id:uuid}/retry", operation_id="retry_webhook", status_code=200, responses=problems.READING_ONE)
    async def retry(
        self, webhook_id: FromPath[UUID], ledger_id: NamedDependency[UUID], services: NamedDependency[Services]
    ) -> Webhook:
        """Try at once to tell a webhook all that waits or is parked."""
        async with services.log.pool.connection() as connection:
            await webhooks.retry(connection, ledger_id, webhook_id)
            return await webhooks.read_one(connection, ledger_id, webhook_id)

    @delete("/{webhook_id:uuid}/parked/{position:int}", operation_id="skip_parked", responses=problems.READING_ONE)
    async def skip(
        self,
        webhook_id: FromPath[UUID],
        position: FromPath[int],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
    ) -> None:
        """Give up what is parked, so that what follows it in its stream is told."""
        async with services.log.pool.connection() as connection:
            await webhooks.skip(connection, ledger_id, webhook_id, position)

"""The door to slots and their keys."""

from typing import Annotated
from uuid import UUID

from litestar import Controller, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter, RequestBody
from msgspec import Struct, structs

from api import lists, problems
from api.access import may_manage, may_read
from api.lists import Reader
from api.services import Services
from domain.slot import SLOT, ChangeSlot, CreateSlot, IssueSlotKey, RevokeSlotKey, SlotCommand
from domain.terms import Availability
from infra import clock, slot_keys
from infra.batch import Receipt
from infra.execute import Asked, execute
from projections.listing import Listing, Page
from projections.slots import READ_MODEL, SlotRow


class IssuedKey(Struct, frozen=True, kw_only=True):
    """A slot key, shown this once."""

    key_id: UUID
    key: str


class SlotController(Controller):
    """Places where a creative can be shown."""

    path = "/slots"
    tags = ("slots",)

    @get(operation_id="list_slots", guards=[may_read], responses=problems.LISTING)
    async def browse(
        self,
        reader: NamedDependency[Reader],
        page: NamedDependency[Listing],
        status: Annotated[Availability | None, QueryParameter(description="Only those with this status.")] = None,
        name: lists.Name = None,
    ) -> Page[SlotRow]:
        """List slots."""
        return await reader.browse(READ_MODEL, page, status=status, name=name)

    @get("/{slot_id:uuid}", operation_id="get_slot", guards=[may_read], responses=problems.LISTING_OF_ONE)
    async def show(self, slot_id: FromPath[UUID], reader: NamedDependency[Reader]) -> Response[SlotRow]:
        """Show a slot."""
        return await reader.show(READ_MODEL, slot_id)

    @post(operation_id="create_slot", guards=[may_manage], responses=problems.CREATING)
    async def create(
        self, data: RequestBody[CreateSlot], asked: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Set up a slot."""
        return lists.receipt(await execute(services.log, SLOT, clock.fresh_id(), data, asked), created=True)

    @patch("/{slot_id:uuid}", operation_id="change_slot", guards=[may_manage], responses=problems.CHANGING)
    async def change(
        self,
        slot_id: FromPath[UUID],
        data: RequestBody[ChangeSlot],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Set fields of a slot."""
        return await _execute(services, slot_id, data, asked_if)

    @post("/{slot_id:uuid}/keys", operation_id="issue_slot_key", guards=[may_manage], responses=problems.STEPPING)
    async def issue_key(
        self, slot_id: FromPath[UUID], asked_if: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> IssuedKey:
        """Make a key for a slot, show it this once, and keep only its hash; two are valid at a time."""
        # The key is kept nowhere, so a repeated request cannot be answered with it again: it gets a key of its own.
        asked = structs.replace(asked_if, idempotency=None)
        fresh, key_id = slot_keys.fresh(), clock.fresh_id()
        await execute(services.log, SLOT, slot_id, IssueSlotKey(key_id=key_id, key_sha256=fresh.sha256), asked)
        return IssuedKey(key_id=key_id, key=fresh.key)

    @delete(
        "/{slot_id:uuid}/keys/{key_id:uuid}",
        operation_id="revoke_slot_key",
        status_code=200,
        guards=[may_manage],
        responses=problems.STEPPING,
    )
    async def revoke_key(
        self,
        slot_id: FromPath[UUID],
        key_id: FromPath[UUID],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Make a key of a slot invalid."""
        return await _execute(services, slot_id, RevokeSlotKey(key_id=key_id), asked_if)


async def _execute(services: Services, slot_id: UUID, command: SlotCommand, asked: Asked) -> Response[Receipt]:
    return lists.receipt(await execute(services.log, SLOT, slot_id, command, asked))

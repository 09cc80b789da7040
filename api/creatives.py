"""The door to creatives."""

from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Controller, Request, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter, RequestBody

from api import lists, problems
from api.access import may_draft, may_manage, may_review, may_see
from api.lists import Reader
from api.problems import NotAnImage
from api.services import Services
from domain.creative import (
    CREATIVE,
    ActivateCreative,
    ApproveCreative,
    ArchiveCreative,
    ChangeCreative,
    CreateCreative,
    CreativeCommand,
    CreativeStatus,
    DenyCreative,
    PauseCreative,
    Review,
    SetImage,
    SubmitCreative,
)
from infra import clock, images, media
from infra.batch import Receipt
from infra.execute import Asked, execute
from projections.creatives import READ_MODEL, CreativeRow
from projections.listing import Listing, Page

UNSAID_TYPE: Final = "application/octet-stream"
"""Of a body that does not say what kind of image it is."""


class CreativeController(Controller):
    """What is shown, its review, and where a click on it leads."""

    path = "/creatives"
    tags = ("creatives",)

    @get(operation_id="list_creatives", guards=[may_see], responses=problems.LISTING)
    async def browse(
        self,
        reader: NamedDependency[Reader],
        page: NamedDependency[Listing],
        status: Annotated[CreativeStatus | None, QueryParameter(description="Only those with this status.")] = None,
        review: Annotated[Review | None, QueryParameter(description="Only those whose review stands so.")] = None,
        campaign_id: Annotated[UUID | None, QueryParameter(description="Only those of this campaign.")] = None,
        name: lists.Name = None,
    ) -> Page[CreativeRow]:
        """List creatives."""
        filters = {"status": status, "review": review, "campaign_id": campaign_id, "name": name}
        return await reader.browse(READ_MODEL, page, **filters)

    @get("/{creative_id:uuid}", operation_id="get_creative", guards=[may_see], responses=problems.LISTING_OF_ONE)
    async def show(self, creative_id: FromPath[UUID], reader: NamedDependency[Reader]) -> Response[CreativeRow]:
        """Show a creative."""
        return await reader.show(READ_MODEL, creative_id)

    @post(operation_id="create_creative", guards=[may_draft], responses=problems.CREATING)
    async def create(
        self, data: RequestBody[CreateCreative], asked: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Draft a creative for a campaign."""
        return lists.receipt(await execute(services.log, CREATIVE, clock.fresh_id(), data, asked), created=True)

    @patch("/{creative_id:uuid}", operation_id="change_creative", guards=[may_draft], responses=problems.CHANGING)
    async def change(
        self,
        creative_id: FromPath[UUID],
        data: RequestBody[ChangeCreative],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Set fields of a creative; when what is shown changes after a review, it waits for the next one."""
        return await _execute(services, creative_id, data, asked_if)

    @post(
        "/{creative_id:uuid}/media",
        operation_id="upload_media",
        status_code=200,
        guards=[may_draft],
        responses=problems.CHANGING,
        request_max_body_size=images.BYTES_MAX,
        opt={"takes": (*images.TYPES.values(), UNSAID_TYPE)},
    )
    async def upload(
        self,
        creative_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Show an image, which is kept without its metadata; the body is the file itself."""
        said, _ = request.content_type
        if said not in {*images.TYPES.values(), UNSAID_TYPE, ""}:
            raise NotAnImage
        image = await images.cleaned(await request.body(), None if said in {UNSAID_TYPE, ""} else said)
        await media.keep(services.settings, image.name, image.content)
        command = SetImage(media_file=image.name, width=image.width, height=image.height)
        return await _execute(services, creative_id, command, asked_if)

    @post(
        "/{creative_id:uuid}/submit",
        operation_id="submit_creative",
        status_code=200,
        guards=[may_draft],
        responses=problems.STEPPING,
    )
    async def submit(
        self, creative_id: FromPath[UUID], asked_if: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Ask for the review of a creative."""
        return await _execute(services, creative_id, SubmitCreative(), asked_if)

    @post(
        "/{creative_id:uuid}/approve",
        operation_id="approve_creative",
        status_code=200,
        guards=[may_review],
        responses=problems.STEPPING,
    )
    async def approve(
        self, creative_id: FromPath[UUID], asked_if: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Let a creative pass its review."""
        return await _execute(services, creative_id, ApproveCreative(), asked_if)

    @post(
        "/{creative_id:uuid}/deny",
        operation_id="deny_creative",
        status_code=200,
        guards=[may_review],
        responses=problems.CHANGING,
    )
    async def deny(
        self,
        creative_id: FromPath[UUID],
        data: RequestBody[DenyCreative],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Turn a creative down, and say why."""
        return await _execute(services, creative_id, data, asked_if)

    @post(
        "/{creative_id:uuid}/activate",
        operation_id="activate_creative",
        status_code=200,
        guards=[may_manage],
        responses=problems.STEPPING,
    )
    async def activate(
        self, creative_id: FromPath[UUID], asked_if: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Let an approved creative be served."""
        return await _execute(services, creative_id, ActivateCreative(), asked_if)

    @post(
        "/{creative_id:uuid}/pause",
        operation_id="pause_creative",
        status_code=200,
        guards=[may_manage],
        responses=problems.STEPPING,
    )
    async def pause(
        self, creative_id: FromPath[UUID], asked_if: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Stop serving a creative for the time being."""
        return await _execute(services, creative_id, PauseCreative(), asked_if)

    @post(
        "/{creative_id:uuid}/archive",
        operation_id="archive_creative",
        status_code=200,
        guards=[may_manage],
        responses=problems.STEPPING,
    )
    async def archive(
        self, creative_id: FromPath[UUID], asked_if: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Put a creative away."""
        return await _execute(services, creative_id, ArchiveCreative(), asked_if)


async def _execute(services: Services, creative_id: UUID, command: CreativeCommand, asked: Asked) -> Response[Receipt]:
    return lists.receipt(await execute(services.log, CREATIVE, creative_id, command, asked))

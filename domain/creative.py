"""Creatives: what may be decided about one, its review and its life cycle.

The life cycle is the table `STEPS`; a review decides whether the step to active is open.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, assert_never

from msgspec import Struct, UnsetType, structs

from domain.booking import check_dates
from domain.campaign import Campaign, Expired, Inactive, status_of
from domain.decider import Context, Decider, absent, begun, changed, copied, differing_fields, existing, stream_of
from domain.errors import (
    ContentNotAffirmed,
    FieldFixed,
    ImageUnfit,
    MediaIncomplete,
    NotApproved,
    UnknownRating,
    UnknownReference,
    WrongState,
)
from domain.events import (
    CreativeActivated,
    CreativeApproved,
    CreativeArchived,
    CreativeChanged,
    CreativeCreated,
    CreativeDenied,
    CreativeEvent,
    CreativePaused,
    CreativeSubmitted,
)
from domain.rating import is_known
from domain.rights import check_change
from domain.terms import CreativeChanges, CreativeTerms
from domain.values import LongText, MediaFile, MediaType

CreativeStatus = Literal["draft", "active", "paused", "inactive"]
Review = Literal["unsubmitted", "pending", "approved", "denied"]


class CreateCreative(CreativeTerms, frozen=True, kw_only=True):
    """Draft a creative for a campaign."""


class ChangeCreative(CreativeChanges, frozen=True, kw_only=True):
    """Set fields of a creative; a change of what is shown asks for a new review."""


class SetImage(Struct, frozen=True, kw_only=True):
    """Show an image that was uploaded, which has so many pixels."""

    media_file: MediaFile
    width: int
    height: int


class SubmitCreative(Struct, frozen=True, kw_only=True):
    """Ask for the review of a creative."""


class ApproveCreative(Struct, frozen=True, kw_only=True):
    """Let a creative pass its review."""


class DenyCreative(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Turn a creative down."""

    reason: LongText


class ActivateCreative(Struct, frozen=True, kw_only=True):
    """Let a creative be served."""


class PauseCreative(Struct, frozen=True, kw_only=True):
    """Stop serving a creative for the time being."""


class ArchiveCreative(Struct, frozen=True, kw_only=True):
    """Put a creative away."""


CreativeStep = SubmitCreative | ApproveCreative | DenyCreative | ActivateCreative | PauseCreative | ArchiveCreative
CreativeCommand = CreateCreative | ChangeCreative | SetImage | CreativeStep


class Creative(Struct, frozen=True, kw_only=True):
    """A creative as it stands; it is shown when it is active and approved."""

    terms: CreativeTerms
    status: CreativeStatus = "draft"
    review: Review = "unsubmitted"
    denial_reason: str | None = None


class Step(NamedTuple):
    """A line of the life cycle: its name, and from which statuses and reviews it is open."""

    name: str
    statuses: tuple[CreativeStatus, ...]
    reviews: tuple[Review, ...]


_ANY_REVIEW: Final = ("unsubmitted", "pending", "approved", "denied")
_ANY_LIVING: Final = ("draft", "active", "paused")

STEPS: Final[Mapping[type[CreativeStep], Step]] = {
    SubmitCreative: Step("submit", _ANY_LIVING, ("unsubmitted", "denied")),
    ApproveCreative: Step("approve", _ANY_LIVING, ("pending", "denied")),
    DenyCreative: Step("deny", _ANY_LIVING, ("pending", "approved")),
    ActivateCreative: Step("activate", ("draft", "paused"), _ANY_REVIEW),
    PauseCreative: Step("pause", ("active",), _ANY_REVIEW),
    ArchiveCreative: Step("archive", _ANY_LIVING, _ANY_REVIEW),
}

_SHOWN_IN: Final = ("media_url", "media_content", "media_file")
_SHOWN_AS: Final[Mapping[MediaType, tuple[str, tuple[tuple[str, ...], ...]]]] = {
    "image": ("media_url", (("media_url",), ("media_file",), ())),
    "html": ("media_content", (("media_content",),)),
    "text": ("media_content", (("media_content",),)),
    "video": ("media_url", (("media_url",),)),
    "audio": ("media_url", (("media_url",),)),
}
"""For each media type the field that is missed, and what may be given; an image may be uploaded after the draft."""

_SHOWN: Final = (
    "media_type",
    "media_url",
    "media_content",
    "media_file",
    "mime_type",
    "alt_text",
    "click_url",
    "content_rating",
)
"""The fields a review looked at: changing one of them asks for a new review."""


def decide(state: Creative | None, command: CreativeCommand, context: Context) -> tuple[CreativeEvent, ...]:
    """Return what follows from a command; raise a Refusal when the rules do not allow it."""
    match command:
        case CreateCreative():
            absent("creative", state, context)
            return create(command, context)
        case ChangeCreative():
            _refuse_unseen_file(command.media_file)
            creative = existing("creative", state, context)
            check_change(context.rights, differing_fields(creative.terms, command), draft=creative.status == "draft")
            return change(creative, command)
        case SetImage():
            creative = existing("creative", state, context)
            check_change(context.rights, {"media_file"}, draft=creative.status == "draft")
            return set_image(creative, command)
        case SubmitCreative():
            check_step(existing("creative", state, context), command)
            _check_shown(existing("creative", state, context).terms)
            return (CreativeSubmitted(),)
        case ApproveCreative():
            return approve(existing("creative", state, context), command)
        case DenyCreative():
            check_step(existing("creative", state, context), command)
            return (CreativeDenied(reason=command.reason),)
        case ActivateCreative():
            return activate(existing("creative", state, context), command)
        case PauseCreative():
            check_step(existing("creative", state, context), command)
            return (CreativePaused(),)
        case ArchiveCreative():
            check_step(existing("creative", state, context), command)
            return (CreativeArchived(),)
        case _:
            assert_never(command)


def create(command: CreateCreative, context: Context) -> tuple[CreativeEvent, ...]:
    """Draft a creative for a campaign that is not closed."""
    campaign = context.others.get(stream_of("campaign", command.campaign_id))
    if not isinstance(campaign, Campaign) or not context.rights.knows(campaign.terms.advertiser_id):
        raise UnknownReference("campaign", command.campaign_id, pointer="/campaign_id")
    if isinstance(campaign, Expired | Inactive):
        raise WrongState("campaign", status_of(campaign), "take a new creative")
    _refuse_unseen_file(command.media_file)
    check_terms(command)
    return (copied(CreativeCreated, command),)


def change(creative: Creative, command: ChangeCreative) -> tuple[CreativeEvent, ...]:
    """Set fields of a creative; when what is shown changes after a review, it waits for the next one."""
    if creative.status == "inactive":
        raise WrongState("creative", creative.status, "change")
    fields = differing_fields(creative.terms, command)
    if not fields:
        return ()
    if creative.status != "draft" and "ad_type" in fields:
        raise FieldFixed("The ad_type of a creative is fixed once it has been activated.", pointer="/ad_type")
    if creative.terms.media_file and "media_file" not in fields and ("width" in fields or "height" in fields):
        raise FieldFixed("The image that was uploaded has these dimensions; upload another.", pointer="/width")
    event = CreativeChanged(**fields)
    terms = changed(creative.terms, event)
    check_terms(terms)
    if creative.review != "unsubmitted":
        _check_shown(terms)
    if creative.review in {"approved", "denied"} and any(name in fields for name in _SHOWN):
        return event, CreativeSubmitted()
    return (event,)


def set_image(creative: Creative, command: SetImage) -> tuple[CreativeEvent, ...]:
    """Show an uploaded image, whose dimensions are those of the creative or, for dense screens, twice those."""
    if creative.terms.media_type != "image":
        raise FieldFixed(f"A creative of media type {creative.terms.media_type} shows no uploaded image.")
    wanted = creative.terms.width or 0, creative.terms.height or 0
    if (command.width, command.height) not in {wanted, (2 * wanted[0], 2 * wanted[1])}:
        raise ImageUnfit(
            f"The image has {command.width}x{command.height} pixels; a creative of {wanted[0]}x{wanted[1]} takes that, "
            "or twice that."
        )
    return change(creative, ChangeCreative(media_file=command.media_file, media_url=None))


def approve(creative: Creative, command: ApproveCreative) -> tuple[CreativeEvent, ...]:
    """Let a creative pass of which it has been affirmed that it has no prohibited content."""
    check_step(creative, command)
    if not creative.terms.content_rating.no_prohibited_content:
        raise ContentNotAffirmed(
            "A creative is approved once its content_rating affirms no_prohibited_content.",
        )
    return (CreativeApproved(),)


def activate(creative: Creative, command: ActivateCreative) -> tuple[CreativeEvent, ...]:
    """Let an approved creative be served."""
    check_step(creative, command)
    if creative.review != "approved":
        raise NotApproved(f"Only an approved creative can be activated; the review of this one is {creative.review}.")
    return (CreativeActivated(),)


def check_step(creative: Creative, command: CreativeStep) -> None:
    """Raise WrongState when the life cycle does not have this step from where the creative stands."""
    step = STEPS[type(command)]
    if creative.status not in step.statuses:
        raise WrongState("creative", creative.status, step.name)
    if creative.review not in step.reviews:
        raise WrongState("creative", f"{creative.review} in its review", step.name)


def evolve(state: Creative | None, event: CreativeEvent) -> Creative:
    """Return the creative after an event."""
    match event:
        case CreativeCreated():
            return Creative(terms=copied(CreativeTerms, event))
        case CreativeChanged():
            creative = begun(state)
            return structs.replace(creative, terms=changed(creative.terms, event))
        case CreativeSubmitted():
            return structs.replace(begun(state), review="pending", denial_reason=None)
        case CreativeApproved():
            return structs.replace(begun(state), review="approved", denial_reason=None)
        case CreativeDenied():
            return structs.replace(begun(state), review="denied", denial_reason=event.reason)
        case CreativeActivated():
            return structs.replace(begun(state), status="active")
        case CreativePaused():
            return structs.replace(begun(state), status="paused")
        case CreativeArchived():
            return structs.replace(begun(state), status="inactive")
        case _:
            assert_never(event)


def references(command: CreativeCommand) -> tuple[str, ...]:
    """Return the streams whose state the decision needs."""
    return (stream_of("campaign", command.campaign_id),) if isinstance(command, CreateCreative) else ()


def check_terms(terms: CreativeTerms) -> None:
    """Raise the refusal of the first rule that the terms break."""
    if not is_known(terms.content_rating):
        raise UnknownRating(
            "The rating label is not one of its rating system's.", pointer="/content_rating/rating_label"
        )
    check_dates("creative", terms)
    _check_media(terms)


def _refuse_unseen_file(media_file: str | None | UnsetType) -> None:
    if isinstance(media_file, str):
        raise FieldFixed("A media_file is set by uploading it.", pointer="/media_file")


def _check_shown(terms: CreativeTerms) -> None:
    """Raise MediaIncomplete for an image that is neither at a URL nor uploaded, which is for drafts only."""
    if terms.media_type == "image" and terms.media_url is None and terms.media_file is None:
        raise MediaIncomplete("A creative has something to show before it is reviewed; upload it, or name its URL.")


def _check_media(terms: CreativeTerms) -> None:
    wanted, enough = _SHOWN_AS[terms.media_type]
    given = tuple(name for name in _SHOWN_IN if getattr(terms, name) is not None)
    if given not in enough:
        raise MediaIncomplete(
            f"A creative of media type {terms.media_type} has a {wanted} and nothing else to show.",
            pointer=f"/{wanted}",
        )
    if terms.media_type in {"image", "html", "video"} and (terms.width is None or terms.height is None):
        raise MediaIncomplete(
            f"A creative of media type {terms.media_type} has a width and a height.", pointer="/width"
        )
    if terms.media_type in {"video", "audio"} and terms.duration_seconds is None:
        raise MediaIncomplete(
            f"A creative of media type {terms.media_type} has a duration.", pointer="/duration_seconds"
        )
    if terms.media_type in {"video", "audio"}:
        _check_encoding(terms)


def _check_encoding(terms: CreativeTerms) -> None:
    # An application is a playlist, such as HLS has, which says itself what is in it.
    kinds = (f"{terms.media_type}/", "application/")
    if terms.mime_type is None or not terms.mime_type.startswith(kinds):
        raise MediaIncomplete(
            f"A creative of media type {terms.media_type} has a MIME type of that kind.", pointer="/mime_type"
        )
    if terms.bit_rate_kbps is None:
        raise MediaIncomplete(f"A creative of media type {terms.media_type} has a bit rate.", pointer="/bit_rate_kbps")


CREATIVE: Final = Decider("creative", decide, evolve, references)

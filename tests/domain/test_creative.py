"""Creatives: what can be drafted and changed, the review, and the life cycle."""

from datetime import date
from itertools import product
from typing import Any, Final, get_args
from uuid import UUID

import pytest
from hypothesis import given as for_all
from msgspec import structs

from domain.campaign import Active, Campaign, Completed, Draft, Expired, Inactive, Paused
from domain.creative import (
    CREATIVE,
    STEPS,
    ActivateCreative,
    ApproveCreative,
    ArchiveCreative,
    ChangeCreative,
    CreateCreative,
    Creative,
    CreativeCommand,
    CreativeStatus,
    CreativeStep,
    DenyCreative,
    PauseCreative,
    Review,
    SetImage,
    SubmitCreative,
)
from domain.errors import (
    AlreadyExists,
    ContentNotAffirmed,
    DateOutOfRange,
    DatesOutOfOrder,
    FieldFixed,
    ImageUnfit,
    MediaIncomplete,
    NotApproved,
    NotFound,
    Refusal,
    UnknownRating,
    UnknownReference,
    WrongState,
)
from domain.events import (
    CampaignCreated,
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
from domain.terms import CampaignTerms, CreativeTerms
from domain.values import ContentRating
from tests.domain.given import Given, given
from tests.domain.stored import stored
from tests.domain.strategies import drafted_creatives, law

CAMPAIGN_ID: Final = UUID(int=7)
CAMPAIGN_TERMS: Final = CampaignTerms(**structs.asdict(stored(CampaignCreated)))
OTHERS: Final = {f"campaign-{CAMPAIGN_ID}": Draft(terms=CAMPAIGN_TERMS)}
DRAFT: Final = CreateCreative(
    campaign_id=CAMPAIGN_ID,
    name="Banner",
    ad_type="top_bar_ad",
    media_type="image",
    media_url="https://media.example/1.png",
    width=300,
    height=250,
    click_url="https://shop.example",
    content_rating=ContentRating(no_prohibited_content=True),
)
CREATED: Final = CreativeCreated(**structs.asdict(DRAFT))
TERMS: Final = CreativeTerms(**structs.asdict(DRAFT))
SUBMITTED: Final = (CREATED, CreativeSubmitted())
APPROVED: Final = (*SUBMITTED, CreativeApproved())
DENIED: Final = (*SUBMITTED, CreativeDenied(reason="Too loud."))
FILE: Final = f"{'0' * 64}.png"
IMAGE: Final = SetImage(media_file=FILE, width=300, height=250)
IMAGE_SET: Final = CreativeChanged(media_file=FILE, media_url=None)

STATUSES: Final = pytest.mark.parametrize("status", get_args(CreativeStatus))
REVIEWS: Final = pytest.mark.parametrize("review", get_args(Review))

# Each step, the event it writes, and what it sets.
EFFECTS: Final[list[tuple[CreativeStep, CreativeEvent, dict[str, Any]]]] = [
    (SubmitCreative(), CreativeSubmitted(), {"review": "pending", "denial_reason": None}),
    (ApproveCreative(), CreativeApproved(), {"review": "approved", "denial_reason": None}),
    (DenyCreative(reason="No."), CreativeDenied(reason="No."), {"review": "denied", "denial_reason": "No."}),
    (ActivateCreative(), CreativeActivated(), {"status": "active"}),
    (PauseCreative(), CreativePaused(), {"status": "paused"}),
    (ArchiveCreative(), CreativeArchived(), {"status": "inactive"}),
]

# The life cycle as it was agreed: the statuses from which each step may be asked, and the reviews.
LIFE_CYCLE: Final = {
    "submit": ({"draft", "active", "paused"}, {"unsubmitted", "denied"}),
    "approve": ({"draft", "active", "paused"}, {"pending", "denied"}),
    "deny": ({"draft", "active", "paused"}, {"pending", "approved"}),
    "activate": ({"draft", "paused"}, {"approved"}),
    "pause": ({"active"}, set(get_args(Review))),
    "archive": ({"draft", "active", "paused"}, set(get_args(Review))),
}


def standing(status: CreativeStatus, review: Review) -> Given[Creative, CreativeCommand, CreativeEvent]:
    """Return a creative with this status and review, whether or not events can lead there."""
    reason = "Too loud." if review == "denied" else None
    return Given(CREATIVE, Creative(terms=TERMS, status=status, review=review, denial_reason=reason))


def test_a_creative_is_drafted_for_a_campaign() -> None:
    """Drafting a creative records all of its terms; it is neither shown nor reviewed yet."""
    state = given(CREATIVE).when(DRAFT, others=OTHERS).then(CREATED)
    assert state == Creative(terms=TERMS, status="draft", review="unsubmitted", denial_reason=None)


def test_a_creative_is_drafted_once() -> None:
    """A stream that has begun does not begin again."""
    given(CREATIVE, CREATED).when(DRAFT, others=OTHERS).then_refused(AlreadyExists)


@pytest.mark.parametrize("phase", [Draft, Active, Paused, Completed, Expired, Inactive])
def test_a_creative_needs_a_campaign_that_is_not_closed(phase: type[Campaign]) -> None:
    """Campaigns that have expired or were put away take no new creative."""
    answer = given(CREATIVE).when(DRAFT, others=dict.fromkeys(OTHERS, phase(terms=CAMPAIGN_TERMS)))
    if phase in {Expired, Inactive}:
        answer.then_refused(WrongState)
    else:
        answer.then(CREATED)


def test_a_creative_needs_a_campaign_that_exists() -> None:
    """A campaign that is unknown has no creatives; neither has anything else under its name."""
    given(CREATIVE).when(DRAFT).then_refused(UnknownReference, pointer="/campaign_id")
    others = dict.fromkeys(OTHERS, Creative(terms=TERMS))
    given(CREATIVE).when(DRAFT, others=others).then_refused(UnknownReference, pointer="/campaign_id")


def test_a_decision_sees_the_campaign() -> None:
    """Only drafting a creative needs the state of another stream."""
    assert CREATIVE.references(DRAFT) == tuple(OTHERS)
    assert CREATIVE.references(SubmitCreative()) == ()


INLINE: Final[dict[str, Any]] = {"media_url": None, "media_content": "<b>Shoes</b>"}
VIDEO: Final[dict[str, Any]] = {
    "media_type": "video",
    "mime_type": "video/mp4",
    "duration_seconds": 30,
    "bit_rate_kbps": 800,
}
AUDIO: Final = VIDEO | {"media_type": "audio", "mime_type": "audio/mpeg", "width": None, "height": None}
BROKEN_RULES: Final[list[tuple[dict[str, Any], type[Refusal], str]]] = [
    ({"content_rating": ContentRating(rating_label="12")}, UnknownRating, "/content_rating/rating_label"),
    ({"start_date": date(1969, 12, 31)}, DateOutOfRange, "/start_date"),
    ({"end_date": date.max}, DateOutOfRange, "/end_date"),
    ({"expiry_date": date.min}, DateOutOfRange, "/expiry_date"),
    ({"start_date": date(2026, 3, 2), "end_date": date(2026, 3, 1)}, DatesOutOfOrder, "/end_date"),
    ({"start_date": date(2026, 3, 2), "expiry_date": date(2026, 3, 1)}, DatesOutOfOrder, "/expiry_date"),
    ({"end_date": date(2026, 3, 2), "expiry_date": date(2026, 3, 1)}, DatesOutOfOrder, "/expiry_date"),
    ({"media_content": "<b>Shoes</b>"}, MediaIncomplete, "/media_url"),
    ({"media_url": None, "media_content": "<b>Shoes</b>"}, MediaIncomplete, "/media_url"),
    (VIDEO | {"media_url": None}, MediaIncomplete, "/media_url"),
    (AUDIO | {"media_url": None}, MediaIncomplete, "/media_url"),
    ({"media_type": "html"}, MediaIncomplete, "/media_content"),
    ({"media_type": "text"}, MediaIncomplete, "/media_content"),
    ({"media_type": "html", "media_content": "<b>Shoes</b>"}, MediaIncomplete, "/media_content"),
    ({"width": None}, MediaIncomplete, "/width"),
    ({"height": None}, MediaIncomplete, "/width"),
    ({"media_type": "html", "height": None, **INLINE}, MediaIncomplete, "/width"),
    (VIDEO | {"height": None}, MediaIncomplete, "/width"),
    (VIDEO | {"duration_seconds": None}, MediaIncomplete, "/duration_seconds"),
    (AUDIO | {"duration_seconds": None}, MediaIncomplete, "/duration_seconds"),
    (VIDEO | {"mime_type": None}, MediaIncomplete, "/mime_type"),
    (VIDEO | {"mime_type": "audio/mpeg"}, MediaIncomplete, "/mime_type"),
    (AUDIO | {"mime_type": "video/mp4"}, MediaIncomplete, "/mime_type"),
    (AUDIO | {"bit_rate_kbps": None}, MediaIncomplete, "/bit_rate_kbps"),
]


@pytest.mark.parametrize(("fields", "refusal", "pointer"), BROKEN_RULES)
def test_terms_that_break_a_rule_are_refused(fields: dict[str, Any], refusal: type[Refusal], pointer: str) -> None:
    """A rule is kept alike when a creative is drafted and when it is changed, and the field that breaks it is named."""
    given(CREATIVE).when(structs.replace(DRAFT, **fields), others=OTHERS).then_refused(refusal, pointer=pointer)
    given(CREATIVE, CREATED).when(ChangeCreative(**fields)).then_refused(refusal, pointer=pointer)


@pytest.mark.parametrize(
    "fields",
    [
        {"start_date": date(2026, 3, 1), "end_date": date(2026, 3, 1), "expiry_date": date(2026, 3, 1)},
        {"expiry_date": date(2026, 3, 1)},
        {"media_url": None},
        {"media_type": "html", **INLINE},
        {"media_type": "text", "width": None, "height": None, **INLINE},
        VIDEO,
        VIDEO | {"mime_type": "application/dash+xml"},
        AUDIO,
    ],
)
def test_terms_at_the_edge_of_a_rule_pass(fields: dict[str, Any]) -> None:
    """What just keeps a rule is recorded."""
    given(CREATIVE).when(structs.replace(DRAFT, **fields), others=OTHERS).then(structs.replace(CREATED, **fields))


@law
@for_all(command=drafted_creatives)
def test_terms_that_keep_the_rules_are_recorded_whole(command: CreateCreative) -> None:
    """Whatever keeps the rules can be drafted, and nothing of it is lost."""
    campaign = Draft(terms=CAMPAIGN_TERMS)
    answer = given(CREATIVE).when(command, others={f"campaign-{command.campaign_id}": campaign})
    assert answer.then(CreativeCreated(**structs.asdict(command))).terms == CreativeTerms(**structs.asdict(command))


def test_a_change_sets_the_fields_it_names() -> None:
    """A change records the fields that differ, and leaves status and other terms alone."""
    change = ChangeCreative(name="Banner", weight=5, max_views=9)
    state = given(CREATIVE, CREATED).when(change).then(CreativeChanged(weight=5, max_views=9))
    assert state == Creative(terms=structs.replace(TERMS, weight=5, max_views=9))


@STATUSES
def test_a_change_of_nothing_is_no_event(status: CreativeStatus) -> None:
    """A change to what is the case already records nothing, while changes are possible at all."""
    answer = standing(status, "approved").when(ChangeCreative(name="Banner", alt_text=""))
    if status == "inactive":
        answer.then_refused(WrongState)
    else:
        answer.then()


@STATUSES
def test_the_ad_type_is_fixed_after_the_draft(status: CreativeStatus) -> None:
    """A creative that has been active keeps its place on the page."""
    answer = standing(status, "unsubmitted").when(ChangeCreative(ad_type="bottom_left_ad"))
    if status == "draft":
        answer.then(CreativeChanged(ad_type="bottom_left_ad"))
    elif status == "inactive":
        answer.then_refused(WrongState)
    else:
        answer.then_refused(FieldFixed, pointer="/ad_type")


@pytest.mark.parametrize(
    "fields",
    [
        {"media_url": "https://media.example/2.png"},
        {"media_type": "text", **INLINE},
        {"alt_text": "Shoes"},
        {"click_url": "https://other.example"},
        {"content_rating": ContentRating(rating_system="PEGI", rating_label="3")},
    ],
)
@REVIEWS
def test_a_change_of_what_is_shown_asks_for_a_new_review(review: Review, fields: dict[str, Any]) -> None:
    """What a reviewer has seen is not swapped afterwards: a creative that was reviewed waits for a new review."""
    changed = CreativeChanged(**fields)
    answer = standing("active", review).when(ChangeCreative(**fields))
    if review in {"approved", "denied"}:
        state = answer.then(changed, CreativeSubmitted())
        assert (state.status, state.review, state.denial_reason) == ("active", "pending", None)
    else:
        assert answer.then(changed).review == review


@REVIEWS
def test_a_change_of_what_is_not_shown_keeps_the_review(review: Review) -> None:
    """Weight, dates and names are not reviewed."""
    change = {"name": "Summer", "weight": 7, "end_date": date(2026, 3, 9)}
    state = standing("active", review).when(ChangeCreative(**change)).then(CreativeChanged(**change))  # type: ignore[arg-type]  # any field by name
    assert state.review == review


@pytest.mark.parametrize("density", [1, 2])
def test_an_uploaded_image_takes_the_place_of_a_url(density: int) -> None:
    """An image of the creative's dimensions, or twice those, is shown in place of what was; again it is nothing new."""
    image = structs.replace(IMAGE, width=300 * density, height=250 * density)
    state = given(CREATIVE, CREATED).when(image).then(IMAGE_SET)
    assert (state.terms.media_file, state.terms.media_url) == (FILE, None)
    given(CREATIVE, CREATED, IMAGE_SET).when(image).then()
    given(CREATIVE, *APPROVED).when(image).then(IMAGE_SET, CreativeSubmitted())
    back = ChangeCreative(media_file=None, media_url="https://media.example/2.png", width=320)
    given(CREATIVE, CREATED, IMAGE_SET).when(back).then(CreativeChanged(**structs.asdict(back)))


def test_an_image_that_does_not_fit_is_refused() -> None:
    """An image is no larger or smaller than its creative, which is an image, and keeps its dimensions from then on."""
    for width, height in ((300, 249), (301, 250), (600, 250), (900, 750), (250, 300)):
        image = structs.replace(IMAGE, width=width, height=height)
        given(CREATIVE, CREATED).when(image).then_refused(ImageUnfit)
    text = structs.replace(CREATED, media_type="text", **INLINE)
    given(CREATIVE, text).when(IMAGE).then_refused(FieldFixed)
    given(CREATIVE).when(IMAGE).then_refused(NotFound)
    for change in (ChangeCreative(width=320), ChangeCreative(height=320)):
        given(CREATIVE, CREATED, IMAGE_SET).when(change).then_refused(FieldFixed, pointer="/width")
    html = ChangeCreative(media_type="html", media_content="<b>Shoes</b>")
    given(CREATIVE, CREATED, IMAGE_SET).when(html).then_refused(MediaIncomplete, pointer="/media_content")


def test_a_file_is_uploaded_and_not_named() -> None:
    """Whoever drafts or changes a creative cannot say that a file is its: it is checked when it is uploaded."""
    draft = structs.replace(DRAFT, media_url=None, media_file=FILE)
    given(CREATIVE).when(draft, others=OTHERS).then_refused(FieldFixed, pointer="/media_file")
    change = ChangeCreative(media_url=None, media_file=FILE)
    given(CREATIVE, CREATED).when(change).then_refused(FieldFixed, pointer="/media_file")


def test_what_is_reviewed_can_be_seen() -> None:
    """A draft may have its image to come; without it there is no review, and from then on it is not taken away."""
    bare = structs.replace(CREATED, media_url=None)
    given(CREATIVE, bare).when(SubmitCreative()).then_refused(MediaIncomplete)
    given(CREATIVE, bare, IMAGE_SET).when(SubmitCreative()).then(CreativeSubmitted())
    nothing = ChangeCreative(media_url=None)
    given(CREATIVE, CREATED).when(nothing).then(CreativeChanged(media_url=None))
    for before in (SUBMITTED, APPROVED, DENIED):
        given(CREATIVE, *before).when(nothing).then_refused(MediaIncomplete)


@pytest.mark.parametrize(("step", "event", "effect"), EFFECTS)
@REVIEWS
@STATUSES
def test_the_life_cycle_is_its_table(
    status: CreativeStatus, review: Review, step: CreativeStep, event: CreativeEvent, effect: dict[str, Any]
) -> None:
    """Every step of the table is taken and sets what it says; every other is refused; only the approved is shown."""
    line = STEPS[type(step)]
    before = standing(status, review)
    answer = before.when(step)
    if status not in line.statuses or review not in line.reviews:
        answer.then_refused(WrongState)
    elif isinstance(step, ActivateCreative) and review != "approved":
        answer.then_refused(NotApproved)
    else:
        assert before.state is not None
        assert answer.then(event) == structs.replace(before.state, **effect)


def test_the_table_is_the_life_cycle_that_was_agreed() -> None:
    """What can be done to creatives of each status and review is what the agreed table says."""
    assert {STEPS[type(step)].name for step, _, _ in EFFECTS} == LIFE_CYCLE.keys()
    for (step, _, _), status, review in product(EFFECTS, get_args(CreativeStatus), get_args(Review)):
        statuses, reviews = LIFE_CYCLE[STEPS[type(step)].name]
        taken = standing(status, review).when(step).refusal is None
        assert taken == (status in statuses and review in reviews), (step, status, review)


def test_a_denied_creative_can_come_back() -> None:
    """A creative is denied with a reason, changed, submitted again and approved; the reason is forgotten."""
    state = given(CREATIVE, *SUBMITTED).when(DenyCreative(reason="Too loud.")).then(CreativeDenied(reason="Too loud."))
    assert (state.review, state.denial_reason) == ("denied", "Too loud.")
    state = given(CREATIVE, *DENIED).when(SubmitCreative()).then(CreativeSubmitted())
    assert (state.review, state.denial_reason) == ("pending", None)
    state = given(CREATIVE, *DENIED).when(ApproveCreative()).then(CreativeApproved())
    assert (state.review, state.denial_reason) == ("approved", None)


def test_what_is_approved_was_affirmed_to_be_clean() -> None:
    """Nothing passes a review of which nobody affirmed that it has no prohibited content, nor once that is revoked."""
    silent, revoked = CreativeChanged(content_rating=ContentRating()), ChangeCreative(content_rating=ContentRating())
    given(CREATIVE, *SUBMITTED, silent).when(ApproveCreative()).then_refused(ContentNotAffirmed)
    given(CREATIVE, *DENIED, silent).when(ApproveCreative()).then_refused(ContentNotAffirmed)
    state = given(CREATIVE, *APPROVED).when(revoked).then(silent, CreativeSubmitted())
    Given(CREATIVE, state).when(ApproveCreative()).then_refused(ContentNotAffirmed)


def test_an_approved_creative_goes_live() -> None:
    """From draft to active takes a submission, an approval and an activation."""
    state = given(CREATIVE, *APPROVED).when(ActivateCreative()).then(CreativeActivated())
    assert (state.status, state.review) == ("active", "approved")


@pytest.mark.parametrize("command", [ChangeCreative(name="x"), *(step for step, _, _ in EFFECTS)])
def test_what_is_not_there_cannot_change(command: CreativeCommand) -> None:
    """A creative that was never drafted is not found."""
    given(CREATIVE).when(command).then_refused(NotFound)

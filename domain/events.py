"""The catalogue of every event the log can hold.

Tags are written by hand and never renamed; a new field has a default; a changed meaning is a new tag and an upcaster.
`*Terms` hold the fields a thing is created with and `*Changes` those a change may set: the commands and the read models
are built on the same two, so each field is declared once as a fact and once as a change.
"""

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from domain.values import (
    AdType,
    Audience,
    CapWindow,
    ContentRating,
    Count,
    CurrencyCode,
    DisplayTime,
    Email,
    Line,
    LongText,
    Markup,
    MediaType,
    Micros,
    Name,
    Phone,
    Pixels,
    PositiveMicros,
    Pricing,
    Target,
    TimeSlot,
    TimeZoneName,
    WebUrl,
    Words,
)

Availability = Literal["active", "inactive"]
Priority = Annotated[int, Meta(ge=1, le=5, description="1 is served first, 5 last.")]
Weight = Annotated[
    int, Meta(ge=1, le=1_000, description="Chance relative to the other creatives of the same priority.")
]
Targets = Annotated[tuple[Target, ...], Meta(max_length=500, description="Any of them; empty means everywhere.")]
TimeSlots = Annotated[tuple[TimeSlot, ...], Meta(max_length=24, description="Local times; empty means all day.")]
MediaTypes = Annotated[tuple[MediaType, ...], Meta(min_length=1, max_length=5)]
Seconds = Annotated[int, Meta(ge=1, le=604_800)]


class AdvertiserTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an advertiser is: who pays."""

    name: Name
    company_name: Line = ""
    email: Email | None = None
    phone: Phone | None = None
    status: Availability = "active"


class AdvertiserChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The fields of an advertiser that a change sets."""

    name: Name | UnsetType = UNSET
    company_name: Line | UnsetType = UNSET
    email: Email | None | UnsetType = UNSET
    phone: Phone | None | UnsetType = UNSET
    status: Availability | UnsetType = UNSET


class CampaignTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a campaign is: who is shown what, when, where, and for how much."""

    advertiser_id: UUID
    name: Name
    description: LongText = ""
    start_date: date
    end_date: date | None = None
    expiry_date: date | None = None
    timezone: TimeZoneName = "UTC"
    priority: Priority = 3
    pricing: Pricing
    currency: CurrencyCode
    budget_micros: Micros | None = None
    daily_budget_micros: Micros | None = None
    impression_budget: Count | None = None
    daily_impression_budget: Count | None = None
    pacing: Literal["even", "asap"] = "asap"
    max_view_count: Count | None = None
    max_view_duration: CapWindow | None = None
    targeting: Targets = ()
    keywords: Words = ()
    categories: Words = ()
    blocked_categories: Words = ()


class CampaignChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The fields of a campaign that a change sets."""

    name: Name | UnsetType = UNSET
    description: LongText | UnsetType = UNSET
    start_date: date | UnsetType = UNSET
    end_date: date | None | UnsetType = UNSET
    expiry_date: date | None | UnsetType = UNSET
    timezone: TimeZoneName | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    pricing: Pricing | UnsetType = UNSET
    currency: CurrencyCode | UnsetType = UNSET
    budget_micros: Micros | None | UnsetType = UNSET
    daily_budget_micros: Micros | None | UnsetType = UNSET
    impression_budget: Count | None | UnsetType = UNSET
    daily_impression_budget: Count | None | UnsetType = UNSET
    pacing: Literal["even", "asap"] | UnsetType = UNSET
    max_view_count: Count | None | UnsetType = UNSET
    max_view_duration: CapWindow | None | UnsetType = UNSET
    targeting: Targets | UnsetType = UNSET
    keywords: Words | UnsetType = UNSET
    categories: Words | UnsetType = UNSET
    blocked_categories: Words | UnsetType = UNSET


class CreativeTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a creative is: the thing that is shown, and where a click on it leads."""

    campaign_id: UUID
    name: Name
    description: LongText = ""
    ad_type: AdType
    media_type: MediaType
    media_url: WebUrl | None = None
    media_content: Markup | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    duration_seconds: Seconds | None = None
    alt_text: Line = ""
    click_url: WebUrl
    start_date: date | None = None
    end_date: date | None = None
    expiry_date: date | None = None
    impression_duration: DisplayTime | None = None
    in_view_duration: DisplayTime | None = None
    time_slots: TimeSlots = ()
    weight: Weight = 1
    max_views: Count | None = None
    content_rating: ContentRating = ContentRating()


class CreativeChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The fields of a creative that a change sets."""

    name: Name | UnsetType = UNSET
    description: LongText | UnsetType = UNSET
    ad_type: AdType | UnsetType = UNSET
    media_type: MediaType | UnsetType = UNSET
    media_url: WebUrl | None | UnsetType = UNSET
    media_content: Markup | None | UnsetType = UNSET
    width: Pixels | None | UnsetType = UNSET
    height: Pixels | None | UnsetType = UNSET
    duration_seconds: Seconds | None | UnsetType = UNSET
    alt_text: Line | UnsetType = UNSET
    click_url: WebUrl | UnsetType = UNSET
    start_date: date | None | UnsetType = UNSET
    end_date: date | None | UnsetType = UNSET
    expiry_date: date | None | UnsetType = UNSET
    impression_duration: DisplayTime | None | UnsetType = UNSET
    in_view_duration: DisplayTime | None | UnsetType = UNSET
    time_slots: TimeSlots | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    max_views: Count | None | UnsetType = UNSET
    content_rating: ContentRating | UnsetType = UNSET


class SlotTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a slot is: a place on a page, in an app or in a programme where a creative can be shown."""

    name: Name
    ad_type: AdType
    width: Pixels | None = None
    height: Pixels | None = None
    media_types: MediaTypes = ("image", "html", "text")
    floor_cpm_micros: Micros = 0
    max_rating: Audience = "mature"
    hold_seconds: Seconds = 60
    token_seconds: Seconds = 86_400
    status: Availability = "active"


class SlotChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The fields of a slot that a change sets."""

    name: Name | UnsetType = UNSET
    ad_type: AdType | UnsetType = UNSET
    width: Pixels | None | UnsetType = UNSET
    height: Pixels | None | UnsetType = UNSET
    media_types: MediaTypes | UnsetType = UNSET
    floor_cpm_micros: Micros | UnsetType = UNSET
    max_rating: Audience | UnsetType = UNSET
    hold_seconds: Seconds | UnsetType = UNSET
    token_seconds: Seconds | UnsetType = UNSET
    status: Availability | UnsetType = UNSET


class AdvertiserCreated(AdvertiserTerms, frozen=True, kw_only=True, tag="advertiser_created"):
    """An advertiser was entered."""


class AdvertiserChanged(AdvertiserChanges, frozen=True, kw_only=True, tag="advertiser_changed"):
    """Fields of an advertiser were set."""


class FundsDeposited(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="funds_deposited"):
    """An advertiser paid in advance; from its first deposit on, its campaigns spend no more than its funds."""

    amount_micros: PositiveMicros
    currency: CurrencyCode


class FundsWithdrawn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="funds_withdrawn"):
    """An advertiser was paid back what it had not spent."""

    amount_micros: PositiveMicros
    currency: CurrencyCode


class CampaignCreated(CampaignTerms, frozen=True, kw_only=True, tag="campaign_created"):
    """A campaign was drafted."""


class CampaignChanged(CampaignChanges, frozen=True, kw_only=True, tag="campaign_changed"):
    """Fields of a campaign were set."""


class CampaignActivated(Struct, frozen=True, kw_only=True, tag="campaign_activated"):
    """A campaign may be served, on its flight dates."""


class CampaignPaused(Struct, frozen=True, kw_only=True, tag="campaign_paused"):
    """A campaign is not served until it is activated again."""


class CampaignCompleted(Struct, frozen=True, kw_only=True, tag="campaign_completed"):
    """A campaign has come to its end."""


class CampaignExpired(Struct, frozen=True, kw_only=True, tag="campaign_expired"):
    """A campaign's expiry date has passed: nothing about it can change any more."""


class CampaignArchived(Struct, frozen=True, kw_only=True, tag="campaign_archived"):
    """A campaign was put away."""


class CreativeCreated(CreativeTerms, frozen=True, kw_only=True, tag="creative_created"):
    """A creative was drafted."""


class CreativeChanged(CreativeChanges, frozen=True, kw_only=True, tag="creative_changed"):
    """Fields of a creative were set."""


class CreativeSubmitted(Struct, frozen=True, kw_only=True, tag="creative_submitted"):
    """A creative waits for its review."""


class CreativeApproved(Struct, frozen=True, kw_only=True, tag="creative_approved"):
    """A reviewer let a creative pass."""


class CreativeDenied(Struct, frozen=True, kw_only=True, tag="creative_denied"):
    """A reviewer turned a creative down."""

    reason: LongText


class CreativeActivated(Struct, frozen=True, kw_only=True, tag="creative_activated"):
    """A creative may be served."""


class CreativePaused(Struct, frozen=True, kw_only=True, tag="creative_paused"):
    """A creative is not served until it is activated again."""


class CreativeArchived(Struct, frozen=True, kw_only=True, tag="creative_archived"):
    """A creative was put away."""


class SlotCreated(SlotTerms, frozen=True, kw_only=True, tag="slot_created"):
    """A slot was set up."""


class SlotChanged(SlotChanges, frozen=True, kw_only=True, tag="slot_changed"):
    """Fields of a slot were set."""


class SlotKeyIssued(Struct, frozen=True, kw_only=True, tag="slot_key_issued"):
    """A key was made for a slot; only its SHA-256 (hexadecimal) is known from now on."""

    key_id: UUID
    key_sha256: str


class SlotKeyRevoked(Struct, frozen=True, kw_only=True, tag="slot_key_revoked"):
    """A slot's key is no longer valid."""

    key_id: UUID


class DeliveryRecorded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What impressions, views and clicks have in common: what was shown where, and what it cost."""

    campaign_id: UUID
    creative_id: UUID
    advertiser_id: UUID
    slot_id: UUID
    country: str | None = None
    region: str | None = None
    city: str | None = None
    viewer: str | None = None
    currency: CurrencyCode
    price_micros: Micros
    billed: bool
    reason: str | None = None


class ImpressionRecorded(DeliveryRecorded, frozen=True, kw_only=True, tag="impression_recorded"):
    """A creative began to render."""


class ViewRecorded(DeliveryRecorded, frozen=True, kw_only=True, tag="view_recorded"):
    """An impression was viewable."""


class ClickRecorded(DeliveryRecorded, frozen=True, kw_only=True, tag="click_recorded"):
    """A creative was clicked."""


class LogKeyReplaced(Struct, frozen=True, kw_only=True, tag="log_key_replaced"):
    """From now on the log is signed with another key; both are verifier keys of signed notes."""

    old_key: str
    new_key: str


class ProjectionCompared(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="projection_compared"):
    """A read model was compared, as of a position, with the same one made anew from the log."""

    projection: str
    version: int
    as_of: int
    rows: int
    differing_keys: int


FundsMoved = FundsDeposited | FundsWithdrawn
AdvertiserEvent = AdvertiserCreated | AdvertiserChanged | FundsMoved
CampaignStepTaken = CampaignActivated | CampaignPaused | CampaignCompleted | CampaignExpired | CampaignArchived
CampaignEvent = CampaignCreated | CampaignChanged | CampaignStepTaken
CreativeEvent = (
    CreativeCreated
    | CreativeChanged
    | CreativeSubmitted
    | CreativeApproved
    | CreativeDenied
    | CreativeActivated
    | CreativePaused
    | CreativeArchived
)
SlotEvent = SlotCreated | SlotChanged | SlotKeyIssued | SlotKeyRevoked
DeliveryEvent = ImpressionRecorded | ViewRecorded | ClickRecorded
Event = (
    AdvertiserEvent | CampaignEvent | CreativeEvent | SlotEvent | DeliveryEvent | LogKeyReplaced | ProjectionCompared
)


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One event as the log keeps it, for ever; its JSON text is what is hashed.

    `occurred_at` is claimed by whoever reports the event, `recorded_at` is the server's; both are in UTC.
    """

    stream: str
    version: int
    actor: str
    occurred_at: datetime
    recorded_at: datetime
    correlation_id: str | None = None
    causation_id: str | None = None
    idempotency_key: str | None = None
    event: Event

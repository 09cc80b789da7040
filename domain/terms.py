"""What things are, field by field.

`*Terms` hold the fields a thing is created with and `*Changes` those a change may set: the commands, the events and the
read models are built on the same two, so each field is declared once as a fact and once as a change.
"""

from datetime import date
from typing import Annotated, Final, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from domain.values import (
    AdType,
    Audience,
    CapWindow,
    Contact,
    ContentRating,
    Count,
    CurrencyCode,
    DeviceType,
    DisplayTime,
    DomainName,
    HttpsUrl,
    KeyValues,
    LanguageRange,
    Line,
    LongText,
    Markup,
    MediaFile,
    MediaType,
    Micros,
    MimeType,
    Name,
    Pixels,
    Pricing,
    ShortText,
    Slug,
    Target,
    TimeSlot,
    TimeZoneName,
    WebUrl,
    Weekday,
)

Availability = Literal["active", "inactive"]
Priority = Annotated[int, Meta(ge=1, le=5, description="1 is served first, 5 last.")]
Weight = Annotated[int, Meta(ge=1, le=1_000, description="Chance relative to the campaign's other creatives.")]
CampaignWeight = Annotated[
    int, Meta(ge=1, le=1_000, description="Chance relative to the other campaigns of the same priority.")
]
Rotation = Annotated[
    Literal["weight", "optimise"],
    Meta(description="How a campaign's creatives take turns: by weight, or more often what is clicked more often."),
]
ExclusionGroups = Annotated[
    tuple[ShortText, ...],
    Meta(
        max_length=100, description="No two campaigns that share one of these are in one answer.", examples=[["cars"]]
    ),
]
Targets = Annotated[tuple[Target, ...], Meta(max_length=500, description="Any of them; empty means everywhere.")]
TimeSlots = Annotated[tuple[TimeSlot, ...], Meta(max_length=24, description="Local times; empty means all day.")]
ExcludedTargets = Annotated[tuple[Target, ...], Meta(max_length=500, description="In none of these places.")]
Keywords = Annotated[
    tuple[ShortText, ...],
    Meta(max_length=100, description="Only on pages with one of these keywords, in whatever case; empty: on any."),
]
Categories = Annotated[
    tuple[ShortText, ...],
    Meta(max_length=100, description="What the campaign is about, such as IAB7: pages may block it. IAB7-1 is IAB7."),
]
PageCategories = Annotated[
    tuple[ShortText, ...],
    Meta(max_length=100, description="Only on pages of one of these categories; empty: on any. IAB7-1 is IAB7."),
]
BlockedCategories = Annotated[
    tuple[ShortText, ...], Meta(max_length=100, description="On no page of these categories. IAB7-1 is IAB7.")
]
Languages = Annotated[
    tuple[LanguageRange, ...], Meta(max_length=100, description="Only to viewers of these languages; empty: to any.")
]
DeviceTypes = Annotated[
    tuple[DeviceType, ...], Meta(max_length=8, description="Only on these kinds of device; empty: on any.")
]
Domains = Annotated[tuple[DomainName, ...], Meta(max_length=200, description="Only on these domains; empty: on any.")]
ExcludedDomains = Annotated[tuple[DomainName, ...], Meta(max_length=200, description="On none of these domains.")]
Weekdays = Annotated[
    tuple[Weekday, ...], Meta(max_length=7, description="Days on which the time slots begin; empty: every day.")
]
TimeBasis = Annotated[
    Literal["campaign", "viewer"],
    Meta(description="Whose local time the time slots and weekdays are in: `timezone`, or the viewer's `utcoffset`."),
]
MediaTypes = Annotated[tuple[MediaType, ...], Meta(min_length=1, max_length=5)]
Seconds = Annotated[int, Meta(ge=1, le=604_800)]
Traffic = Annotated[
    Literal["any", "browser"],
    Meta(description="Who reports: browsers alone, so that nothing else is valid traffic, or also apps and players."),
]
AttributionWindow = Annotated[
    CapWindow, Meta(description="For how long after a click a conversion is taken for its consequence.")
]
ClickIdParameter = Annotated[
    str,
    Meta(
        max_length=50,
        pattern=r"^[A-Za-z0-9_.-]+$(?!\n)",
        description="The query parameter under which the pages that clicks lead to are told the decision; null: none.",
        examples=["ledger_click"],
    ),
]
ClickWithoutImpression = Annotated[
    Literal["counted", "invalid"], Meta(description="What a click is before an impression of the same decision counts.")
]
RefreshSeconds = Annotated[
    int, Meta(ge=30, le=86_400, description="After so long in view the tag asks for the next creative; null: never.")
]
Closable = Annotated[bool, Meta(description="Whether the tag shows a button that closes the creative.")]
KilobitsPerSecond = Annotated[int, Meta(ge=1, le=1_000_000, description="Kilobits a second, on average.")]


CONTACT: Final = ("email", "phone")
"""The fields of an advertiser that are about a person, and that the log holds encrypted."""


class AdvertiserTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an advertiser is: who pays."""

    name: Name
    company_name: Line = ""
    email: Contact | None = None
    phone: Contact | None = None
    status: Availability = "active"
    attribution_window: AttributionWindow = CapWindow(value=30, unit="day")
    click_id_parameter: ClickIdParameter | None = None


class AdvertiserChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The fields of an advertiser that a change sets."""

    name: Name | UnsetType = UNSET
    company_name: Line | UnsetType = UNSET
    email: Contact | None | UnsetType = UNSET
    phone: Contact | None | UnsetType = UNSET
    status: Availability | UnsetType = UNSET
    attribution_window: AttributionWindow | UnsetType = UNSET
    click_id_parameter: ClickIdParameter | None | UnsetType = UNSET


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
    excluded_targeting: ExcludedTargets = ()
    keywords: Keywords = ()
    categories: Categories = ()
    page_categories: PageCategories = ()
    blocked_categories: BlockedCategories = ()
    languages: Languages = ()
    device_types: DeviceTypes = ()
    domains: Domains = ()
    excluded_domains: ExcludedDomains = ()
    key_values: KeyValues = {}
    time_slots: TimeSlots = ()
    weekdays: Weekdays = ()
    time_basis: TimeBasis = "campaign"
    weight: CampaignWeight = 1
    rotation: Rotation = "weight"
    competitive_exclusion: ExclusionGroups = ()
    roadblock: bool = False
    house: bool = False


class BudgetRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody wants a campaign to spend at most, which another person has to confirm (null: no limit)."""

    request_id: UUID
    requested_micros: Micros | None
    requested_daily_micros: Micros | None
    currency: CurrencyCode
    asked_by: UUID | None


class BudgetLimit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The largest budget in a currency that one person may set alone."""

    currency: CurrencyCode
    above_micros: Micros


class OrganisationTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an organisation is called and looks like, and what its campaigns are in that say nothing else."""

    name: Name
    slug: Slug
    logo_url: HttpsUrl | None = None
    logo_file: str | None = None
    timezone: TimeZoneName = "UTC"
    currency: CurrencyCode | None = None


class BudgetPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Above which amounts budgets need a second person."""

    limits: Annotated[tuple[BudgetLimit, ...], Meta(max_length=200)] = ()


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
    excluded_targeting: ExcludedTargets | UnsetType = UNSET
    keywords: Keywords | UnsetType = UNSET
    categories: Categories | UnsetType = UNSET
    page_categories: PageCategories | UnsetType = UNSET
    blocked_categories: BlockedCategories | UnsetType = UNSET
    languages: Languages | UnsetType = UNSET
    device_types: DeviceTypes | UnsetType = UNSET
    domains: Domains | UnsetType = UNSET
    excluded_domains: ExcludedDomains | UnsetType = UNSET
    key_values: KeyValues | UnsetType = UNSET
    time_slots: TimeSlots | UnsetType = UNSET
    weekdays: Weekdays | UnsetType = UNSET
    time_basis: TimeBasis | UnsetType = UNSET
    weight: CampaignWeight | UnsetType = UNSET
    rotation: Rotation | UnsetType = UNSET
    competitive_exclusion: ExclusionGroups | UnsetType = UNSET
    roadblock: bool | UnsetType = UNSET
    house: bool | UnsetType = UNSET


class CreativeTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a creative is: the thing that is shown, and where a click on it leads."""

    campaign_id: UUID
    name: Name
    description: LongText = ""
    ad_type: AdType
    media_type: MediaType
    media_url: WebUrl | None = None
    media_content: Markup | None = None
    media_file: MediaFile | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    duration_seconds: Seconds | None = None
    mime_type: MimeType | None = None
    bit_rate_kbps: KilobitsPerSecond | None = None
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
    media_file: MediaFile | None | UnsetType = UNSET
    width: Pixels | None | UnsetType = UNSET
    height: Pixels | None | UnsetType = UNSET
    duration_seconds: Seconds | None | UnsetType = UNSET
    mime_type: MimeType | None | UnsetType = UNSET
    bit_rate_kbps: KilobitsPerSecond | None | UnsetType = UNSET
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
    traffic: Traffic = "any"
    click_without_impression: ClickWithoutImpression = "counted"
    refresh_seconds: RefreshSeconds | None = None
    closable: Closable = False
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
    traffic: Traffic | UnsetType = UNSET
    click_without_impression: ClickWithoutImpression | UnsetType = UNSET
    refresh_seconds: RefreshSeconds | None | UnsetType = UNSET
    closable: Closable | UnsetType = UNSET
    status: Availability | UnsetType = UNSET

"""The question of an ad slot: what may be shown here, now, to this viewer; in the words of OpenRTB 2.6."""

from typing import Annotated, Final
from uuid import UUID

from msgspec import Meta, Struct

from domain.values import ONE_LINE, Audience, CountryCode, DeviceType, KeyValues, Line, RatingSystem, ShortText, Words

PLACEMENTS_MAX: Final = 20
ADS_PER_PLACEMENT_MAX: Final = 10

MinutesAhead = Annotated[int, Meta(ge=-840, le=840, description="Minutes by which local time is ahead of UTC.")]
BlockedIds = Annotated[tuple[UUID, ...], Meta(max_length=1_000)]


class Placement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place on the page, and how many creatives it takes."""

    id: ShortText
    slot_id: UUID
    count: Annotated[int, Meta(ge=1, le=ADS_PER_PLACEMENT_MAX)] = 1


class Geo(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the viewer is, as far as the caller knows."""

    country: CountryCode | None = None
    region: ShortText | None = None
    city: ShortText | None = None
    zip: ShortText | None = None
    utcoffset: MinutesAhead | None = None


class Viewer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who looks, under a name that the caller chose; it is kept only as a keyed pseudonym."""

    id: ShortText | None = None


class Device(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the viewer looks with."""

    ua: Annotated[str, Meta(max_length=1_000, pattern=ONE_LINE)] | None = None
    language: ShortText | None = None
    type: DeviceType | None = None


class Site(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The page around the placements."""

    domain: ShortText | None = None
    page: Annotated[str, Meta(max_length=2_000, pattern=ONE_LINE)] | None = None
    keywords: Words = ()
    categories: Words = ()


class Content(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the page allows to be shown beside it: what is for an audience, or has a label, or is for a wider one."""

    max_rating: Audience | None = None
    rating_system: RatingSystem | None = None
    rating_label: ShortText | None = None


class Blocked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must not be shown here."""

    advertisers: BlockedIds = ()
    creatives: BlockedIds = ()
    categories: Words = ()


class Privacy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The viewer's privacy signals: Global Privacy Control, Do Not Track, and whether the viewer is a child."""

    gpc: bool = False
    dnt: bool = False
    coppa: bool = False


class AdRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request for creatives, for all placements of a page at once."""

    id: Line
    placements: Annotated[tuple[Placement, ...], Meta(min_length=1, max_length=PLACEMENTS_MAX)]
    geo: Geo = Geo()
    viewer: Viewer = Viewer()
    device: Device = Device()
    site: Site = Site()
    content: Content = Content()
    blocked: Blocked = Blocked()
    privacy: Privacy = Privacy()
    key_values: KeyValues = {}
    test: bool = False
    explain: bool = False


def may_identify(request: AdRequest) -> bool:
    """Tell whether the viewer's id may be used at all: not against GPC or DNT, and never a child's."""
    return not (request.privacy.gpc or request.privacy.dnt or request.privacy.coppa)

"""The vocabulary that commands, events and read models share: bounded texts, money, times, places."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Final, Literal, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

MICROS_MAX: Final = 9_000_000_000_000_000
"""The largest amount of money, in micros: below 2**53, so that every JSON reader keeps it exact."""

COUNT_MAX: Final = 1_000_000_000_000

NIL: Final = UUID(int=0)
"""The id of what a ledger has one of (RFC 9562, section 5.9)."""

DATE_MIN: Final = date(1970, 1, 1)
DATE_MAX: Final = date(2999, 12, 31)
"""Dates lie between these two, so that the day after a flight exists in every time zone."""

ONE_LINE: Final = r"^[^\x00-\x1f\x7f-\x9f]*$(?!\n)"

Micros = Annotated[int, Meta(ge=0, le=MICROS_MAX, description="Money in millionths of the currency's unit.")]
PositiveMicros = Annotated[int, Meta(ge=1, le=MICROS_MAX, description="Money in millionths of the currency's unit.")]
Count = Annotated[int, Meta(ge=1, le=COUNT_MAX)]
Pixels = Annotated[int, Meta(ge=1, le=10_000, description="Device-independent pixels.")]

Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern=r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$(?!\n)",
    ),
]
Line = Annotated[str, Meta(max_length=500, pattern=ONE_LINE)]
ShortText = Annotated[str, Meta(min_length=1, max_length=100, pattern=ONE_LINE)]
LongText = Annotated[str, Meta(max_length=5_000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
Markup = Annotated[str, Meta(min_length=1, max_length=30_000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
_OF_EMAIL: Final = r"[^@\s\x00-\x1f\x7f-\x9f,;:<>()\[\]\"\\]+"
"""Without what quoted names, groups and lists are made of (RFC 5322, 3.4): no address may lead to another as well."""

Email = Annotated[str, Meta(max_length=254, pattern=rf"^{_OF_EMAIL}@{_OF_EMAIL}\.{_OF_EMAIL}$(?!\n)")]
Phone = Annotated[str, Meta(max_length=40, pattern=r"^[0-9+(][0-9 ()./+-]*$(?!\n)")]
Contact = Annotated[
    str,
    Meta(
        max_length=2_000,
        pattern=ONE_LINE,
        description="How a person is reached; `encrypted:...` for whoever may not read it, as the log has it.",
        examples=["ads@northwind.example"],
    ),
]
WebUrl = Annotated[
    str,
    Meta(
        max_length=2_000,
        pattern=r"^https?://[^\s\x00-\x20\x7f-\x9f/?#@\\]+([/?#][^\s\x00-\x20\x7f-\x9f\\]*)?$(?!\n)",
        description="An absolute http or https URL without credentials.",
        examples=["https://shop.example/autumn"],
    ),
]
HttpsUrl = Annotated[
    str,
    Meta(
        max_length=2_000,
        pattern=r"^https://[^\s\x00-\x20\x7f-\x9f/?#@\\]+([/?#][^\s\x00-\x20\x7f-\x9f\\]*)?$(?!\n)",
        description="An absolute https URL without credentials.",
        examples=["https://www.example.com/logo.png"],
    ),
]
Slug = Annotated[
    str,
    Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$(?!\n)", description="A name for URLs."),
]
MimeType = Annotated[
    str,
    Meta(
        max_length=100,
        pattern=r"^[a-z]+/[A-Za-z0-9][A-Za-z0-9.+-]*$(?!\n)",
        description="What a media file is (RFC 6838); of video and audio it has to be declared.",
        examples=["video/mp4"],
    ),
]
MediaFile = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-f]{64}\.(gif|jpg|png|webp)$(?!\n)",
        description="An uploaded file, by the SHA-256 of what is in it; uploading sets it.",
    ),
]
CurrencyCode = Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)", description="ISO 4217.", examples=["EUR"])]
CountryCode = Annotated[
    str, Meta(pattern=r"^[A-Z]{2,3}$(?!\n)", description="ISO 3166-1 alpha-2; alpha-3 is accepted.", examples=["CN"])
]
TimeZoneName = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$(?!\n)", examples=["Asia/Shanghai"])
]
ClockTime = Annotated[
    str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$(?!\n)", description="Local time, HH:MM.", examples=["18:30"])
]
Words = Annotated[tuple[ShortText, ...], Meta(max_length=100)]
LanguageRange = Annotated[
    str,
    Meta(
        max_length=35,
        pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$(?!\n)",
        description="A language tag (BCP 47) or the beginning of one: `zh` also means `zh-Hans-CN`.",
        examples=["zh"],
    ),
]
DomainName = Annotated[
    str,
    Meta(
        max_length=253,
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$(?!\n)",
        description="A domain in lower case, and all below it.",
        examples=["news.example"],
    ),
]
KeyValues = Annotated[
    dict[ShortText, Annotated[tuple[ShortText, ...], Meta(min_length=1, max_length=50)]],
    Meta(max_length=15, description="Whatever publisher and advertiser agreed on: values by key."),
]

_NAMES_OF_THE_MACHINE: Final = frozenset({"Factory", "localtime", "posix", "posixrules", "right"})
"""Files that operating systems keep beside the time zones, and that mean something else on each machine."""

AdType = Literal[
    "top_bar_ad",
    "bottom_left_ad",
    "bottom_right_ad",
    "bottom_center_ad",
    "center_right_content_ad",
    "center_left_content_ad",
]
MediaType = Literal["image", "html", "text", "video", "audio"]
Audience = Literal["all_audiences", "over_12", "mature"]
"""Who may see a creative: AdCOM 1.0 'Media Ratings' 1 to 3, by name."""

AUDIENCES: Final[tuple[Audience, ...]] = ("all_audiences", "over_12", "mature")
"""From the widest audience to the narrowest."""


DeviceType = Literal[
    "mobile",
    "computer",
    "connected_tv",
    "phone",
    "tablet",
    "connected_device",
    "set_top_box",
    "out_of_home",
]
"""AdCOM 1.0 'Device Types' 1 to 8, by name; a mobile device is a phone or a tablet, whichever."""

RatingSystem = Literal["MPAA", "TV_PG", "PEGI", "ESRB", "IAB"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

WEEKDAYS: Final[tuple[Weekday, ...]] = get_args(Weekday)


class Pricing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is paid: per thousand impressions (cpm), per click (cpc), or once (flat)."""

    model: Literal["cpm", "cpc", "flat"]
    price_micros: PositiveMicros


CapUnit = Literal["minute", "hour", "day", "week", "month"]


class CapWindow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The span of time in which a frequency cap counts."""

    value: Annotated[int, Meta(ge=1, le=1_000)]
    unit: CapUnit


class DisplayTime(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a creative is shown or has to be in view."""

    value: Annotated[int, Meta(ge=1, le=86_400)]
    unit: Literal["second", "minute", "hour"]


class Target(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place: all that it names must hold, and any one city and any one postcode of its lists."""

    country: CountryCode | None = None
    region: ShortText | None = None
    cities: Annotated[tuple[ShortText, ...], Meta(max_length=200)] = ()
    postcodes: Annotated[
        tuple[ShortText, ...], Meta(max_length=200, description="`10*` means all that begin with 10.")
    ] = ()


class TimeSlot(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A daily span of local time, start included, end excluded; an end at or before the start is on the next day."""

    start: ClockTime
    end: ClockTime


class ContentRating(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a creative is rated, in the words of its rating system."""

    warning_required: bool = False
    rating_system: RatingSystem | None = None
    rating_label: ShortText | None = None
    content_warnings: Words = ()
    no_prohibited_content: bool = False


@lru_cache(maxsize=1_024)
def zone(name: str) -> ZoneInfo | None:
    """Return the IANA time zone of that name, or None when there is none."""
    if name.partition("/")[0] in _NAMES_OF_THE_MACHINE:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def local_date(moment: datetime, timezone: str) -> date:
    """Return the calendar date of a moment in a time zone known to exist."""
    return moment.astimezone(zone(timezone)).date()


def midnight(day: date, timezone: str) -> datetime:
    """Return, in UTC, the moment at which a day begins in a time zone known to exist."""
    return datetime.combine(day, time.min, tzinfo=zone(timezone)).astimezone(UTC)


def flight(start: date, end: date | None, timezone: str) -> tuple[datetime, datetime | None]:
    """Return the first moment of a flight and the first moment after it, in UTC; dates are inclusive."""
    return midnight(start, timezone), None if end is None else midnight(end + timedelta(days=1), timezone)

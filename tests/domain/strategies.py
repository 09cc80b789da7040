"""Strategies for everything that commands, events and deliveries are made of.

A mapping names a strategy for each field once, and `made` builds `*Terms`, `*Changes`, commands and events from it.
What is made so has the right shape; `drafted_campaigns` and `drafted_creatives` also keep the rules of the domain.
"""

import string
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, TypeVar, get_args
from uuid import UUID
from zoneinfo import available_timezones

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import Struct, structs

from domain import campaign, creative, events
from domain.access import ExportKind, RefusalKind, RefusalTally, SessionEnd
from domain.advertiser import (
    ChangeAdvertiser,
    CreateAdvertiser,
    DepositFunds,
    ErasePersonalData,
    LiftLegalHold,
    PlaceLegalHold,
    WithdrawFunds,
)
from domain.basis import Basis, Facts
from domain.booking import VIEWS_PER_CAP_MAX
from domain.campaign import (
    ActivateCampaign,
    ChangeCampaign,
    CreateCampaign,
    PauseCampaign,
)
from domain.creative import (
    ActivateCreative,
    ApproveCreative,
    ChangeCreative,
    CreateCreative,
    PauseCreative,
    SubmitCreative,
)
from domain.iso import COUNTRIES, CURRENCIES
from domain.rating import LABELS
from domain.slot import ChangeSlot, CreateSlot, IssueSlotKey, RevokeSlotKey
from domain.targeting import domains_of
from domain.values import (
    AUDIENCES,
    COUNT_MAX,
    DATE_MAX,
    DATE_MIN,
    MICROS_MAX,
    WEEKDAYS,
    CapWindow,
    ContentRating,
    DeviceType,
    DisplayTime,
    Pricing,
    Target,
    TimeSlot,
    zone,
)
from tests.domain.asking import BUDGET
from tests.domain.given import NOW

T = TypeVar("T", bound=Struct)

law: Final = settings(deadline=None, max_examples=60)
"""How hard a law is tried; with no deadline, because other tests run beside it."""

Fields = dict[str, SearchStrategy[Any]]


def made(kind: type[T], fields: Fields) -> SearchStrategy[T]:
    """Return structs of a kind: its required fields, and any of the others."""
    required = {field.name: fields[field.name] for field in structs.fields(kind) if field.required}
    optional = {field.name: fields[field.name] for field in structs.fields(kind) if not field.required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda named: kind(**named))


def evenly(*strategies: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Return what any of the strategies makes, each as often; `st.one_of` would weigh them by their own branches."""
    return st.sampled_from(strategies).flatmap(lambda strategy: strategy)


def changes(kind: type[T], fields: Fields) -> SearchStrategy[T]:
    """Return changes, most of them of a single field, because one of many fields is mostly refused."""
    single = evenly(*(st.fixed_dictionaries({name: fields[name]}) for name in kind.__struct_fields__))
    return evenly(*[single.map(lambda named: kind(**named))] * 3, made(kind, fields))


def _one_line(min_size: int, max_size: int) -> SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=min_size, max_size=max_size)


def _tuples_of(item: SearchStrategy[Any], max_size: int = 3) -> SearchStrategy[tuple[Any, ...]]:
    return st.lists(item, max_size=max_size).map(tuple)


NONE: Final = st.none()
names: Final = _one_line(1, 20).map(str.strip).filter(bool)
lines: Final = _one_line(0, 20)
short_texts: Final = _one_line(1, 10)
long_texts: Final = st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\t\n\r"), max_size=30)
words: Final = _tuples_of(short_texts)
hosts: Final = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8).map("{}.example".format)
emails: Final = hosts.map("post@{}".format)
phones: Final = st.from_regex(r"[0-9+(][0-9 ()./+-]{0,15}", fullmatch=True)
urls: Final = st.builds(
    "{}://{}{}".format, st.sampled_from(["http", "https"]), hosts, st.sampled_from(["", "/a?b=c#d"])
)
micros: Final = st.integers(0, MICROS_MAX) | st.integers(0, 3_000)
counts: Final = st.integers(1, COUNT_MAX) | st.integers(1, 10)
pixels: Final = st.integers(1, 10_000)
seconds: Final = st.integers(1, 604_800)
dates: Final = st.dates(date(2026, 3, 1), date(2026, 3, 20)) | st.dates(DATE_MIN, DATE_MAX)
moments: Final = st.integers(-10 * 86_400, 10 * 86_400).map(lambda second: NOW + timedelta(seconds=second))
utc_times: Final = st.datetimes(datetime(2000, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  given as naive, made aware
timezones: Final = st.sampled_from(sorted(name for name in available_timezones() if zone(name) is not None))
availabilities: Final = st.sampled_from(["active", "inactive"])
ad_types: Final = st.sampled_from(["top_bar_ad", "bottom_left_ad", "bottom_right_ad", "center_left_content_ad"])
media_types: Final = st.sampled_from(["image", "html", "text", "video", "audio"])
clock_times: Final = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
pricings: Final = st.builds(
    Pricing, model=st.sampled_from(["cpm", "cpc", "flat"]), price_micros=st.integers(1, MICROS_MAX // 1_000)
)
cap_windows: Final = st.builds(
    CapWindow, value=st.integers(1, 1_000), unit=st.sampled_from(["minute", "hour", "day", "week", "month"])
)
display_times: Final = st.builds(
    DisplayTime, value=st.integers(1, 86_400), unit=st.sampled_from(["second", "minute", "hour"])
)
postcodes: Final = st.sampled_from(["10115", "SW1A 1AA", "10*", "1*"])
targets: Final = st.builds(
    Target,
    country=NONE | st.sampled_from([*sorted(COUNTRIES), "CHN", "USA", "DEU"]),
    region=NONE | short_texts,
    cities=words,
    postcodes=_tuples_of(postcodes),
)
ratings: Final = st.builds(ContentRating, warning_required=st.booleans(), content_warnings=words) | st.sampled_from(
    [(system, label) for system, labels in LABELS.items() for label in labels]
).map(lambda known: ContentRating(rating_system=known[0], rating_label=known[1]))

ADVERTISER: Final[Fields] = {
    "name": names,
    "company_name": lines,
    "email": NONE | emails,
    "phone": NONE | phones,
    "status": availabilities,
    "attribution_window": cap_windows,
    "click_id_parameter": NONE | st.sampled_from(["ledger_click", "a.b-c"]),
}

CAMPAIGN: Final[Fields] = {
    "advertiser_id": st.uuids(),
    "name": names,
    "description": long_texts,
    "start_date": dates,
    "end_date": NONE | dates,
    "expiry_date": NONE | dates,
    "timezone": timezones,
    "priority": st.integers(1, 5),
    "pricing": pricings,
    "currency": st.sampled_from(sorted(CURRENCIES)),
    "budget_micros": NONE | micros,
    "daily_budget_micros": NONE | micros,
    "impression_budget": NONE | counts,
    "daily_impression_budget": NONE | counts,
    "pacing": st.sampled_from(["even", "asap"]),
    "max_view_count": NONE | st.integers(1, VIEWS_PER_CAP_MAX),
    "max_view_duration": NONE | cap_windows,
    "targeting": _tuples_of(targets),
    "excluded_targeting": _tuples_of(targets.filter(lambda target: target != Target())),
    "keywords": words,
    "categories": words,
    "page_categories": _tuples_of(st.sampled_from(["IAB1", "IAB1-2", "IAB19"])),
    "blocked_categories": words,
    "languages": _tuples_of(st.sampled_from(["zh", "de-AT", "zh-Hans-CN"])),
    "device_types": _tuples_of(st.sampled_from(get_args(DeviceType))),
    "domains": _tuples_of(hosts.map("www.{}".format)),
    "excluded_domains": _tuples_of(hosts.map("shop.{}".format)),
    "key_values": st.dictionaries(short_texts, st.lists(short_texts, min_size=1, max_size=3).map(tuple), max_size=3),
    "time_slots": _tuples_of(st.builds(TimeSlot, start=clock_times, end=clock_times)),
    "weekdays": _tuples_of(st.sampled_from(WEEKDAYS)),
    "time_basis": st.sampled_from(["campaign", "viewer"]),
    "weight": st.integers(1, 1_000),
    "rotation": st.sampled_from(["weight", "optimise"]),
    "competitive_exclusion": words,
    "roadblock": st.booleans(),
    "house": st.booleans(),
}

CREATIVE: Final[Fields] = {
    "campaign_id": st.uuids(),
    "name": names,
    "description": long_texts,
    "ad_type": ad_types,
    "media_type": media_types,
    "media_url": NONE | urls,
    "media_file": NONE,
    "media_content": NONE | long_texts.filter(bool),
    "width": NONE | pixels,
    "height": NONE | pixels,
    "duration_seconds": NONE | seconds,
    "mime_type": NONE | st.sampled_from(["video/mp4", "audio/mpeg", "application/vnd.apple.mpegurl"]),
    "bit_rate_kbps": NONE | st.integers(1, 1_000_000),
    "alt_text": lines,
    "click_url": urls,
    **dict.fromkeys(("start_date", "end_date", "expiry_date"), NONE | dates),
    "impression_duration": NONE | display_times,
    "in_view_duration": NONE | display_times,
    "time_slots": _tuples_of(st.builds(TimeSlot, start=clock_times, end=clock_times)),
    "weight": st.integers(1, 1_000),
    "max_views": NONE | counts,
    "content_rating": ratings,
}

SLOT: Final[Fields] = {
    "name": names,
    "ad_type": ad_types,
    "width": NONE | pixels,
    "height": NONE | pixels,
    "media_types": st.lists(media_types, min_size=1, max_size=5).map(tuple),
    "floor_cpm_micros": micros,
    "max_rating": st.sampled_from(AUDIENCES),
    "refresh_seconds": NONE | st.integers(30, 86_400),
    "closable": st.booleans(),
    "hold_seconds": seconds,
    "token_seconds": seconds,
    "traffic": st.sampled_from(["any", "browser"]),
    "click_without_impression": st.sampled_from(["counted", "invalid"]),
    "status": availabilities,
}

DELIVERY: Final[Fields] = {
    **dict.fromkeys(("campaign_id", "creative_id", "advertiser_id", "slot_id"), st.uuids()),
    **dict.fromkeys(("country", "region", "city", "viewer"), NONE | short_texts),
    "currency": CAMPAIGN["currency"],
    "price_micros": micros,
    "billed": st.booleans(),
    "reason": NONE | st.sampled_from(["late", "over_budget", "test", "invalid:crawler"]),
    "rules": st.integers(0, 3),
}

KEY: Final[Fields] = {
    "key_id": st.integers(1, 4).map(lambda number: UUID(int=number)),
    "key_sha256": st.binary(min_size=32, max_size=32).map(bytes.hex),
}

ENTRY: Final[Fields] = {
    "stream": short_texts,
    "version": counts,
    "actor": short_texts,
    **dict.fromkeys(("occurred_at", "recorded_at"), utc_times),
    **dict.fromkeys(("correlation_id", "causation_id", "idempotency_key"), NONE | short_texts),
}


def _sorted(*values: Any) -> list[Any]:
    """Return the values that are not None in order, each None where it was."""
    known = iter(sorted(value for value in values if value is not None))
    return [None if value is None else next(known) for value in values]


def _keeping_rules_of_campaigns(command: CreateCampaign) -> CreateCampaign:
    start, end, expiry = _sorted(command.start_date, command.end_date, command.expiry_date)
    daily, whole = _sorted(command.daily_budget_micros, command.budget_micros)
    price = command.pricing.price_micros * 1_000
    if command.pricing.model == "flat":
        daily, whole = (None if limit is None else max(limit, price) for limit in (daily, whole))
    daily_impressions, impressions = _sorted(command.daily_impression_budget, command.impression_budget)
    return structs.replace(
        command,
        start_date=start,
        end_date=end,
        expiry_date=expiry,
        pricing=structs.replace(command.pricing, price_micros=price),
        daily_budget_micros=daily,
        budget_micros=whole,
        daily_impression_budget=daily_impressions,
        impression_budget=impressions,
        max_view_count=command.max_view_duration and (command.max_view_count or 1),
        domains=tuple(name for name in command.domains if domains_of(name).isdisjoint(command.excluded_domains)),
    )


def _keeping_rules_of_creatives(command: CreateCreative) -> CreateCreative:
    start, end, expiry = _sorted(command.start_date, command.end_date, command.expiry_date)
    inline = command.media_type in {"html", "text"}
    return structs.replace(
        command,
        start_date=start,
        end_date=end,
        expiry_date=expiry,
        media_url=None if inline else command.media_url or "https://media.example/1",
        media_content=command.media_content or "<p>Hello</p>" if inline else None,
        width=command.width or 300,
        height=command.height or 250,
        duration_seconds=command.duration_seconds or 30,
        mime_type={"video": "video/mp4", "audio": "audio/mpeg"}.get(command.media_type, command.mime_type),
        bit_rate_kbps=command.bit_rate_kbps or 128,
    )


drafted_campaigns: Final = made(CreateCampaign, CAMPAIGN).map(_keeping_rules_of_campaigns)
drafted_creatives: Final = made(CreateCreative, CREATIVE).map(_keeping_rules_of_creatives)

# The steps that end a life come less often than those that go on with it.
campaign_steps: Final = st.sampled_from([*campaign.STEPS, *[ActivateCampaign, PauseCampaign] * 3]).map(
    lambda step: step()
)
creative_steps: Final = evenly(
    *(made(step, {"reason": long_texts}) for step in creative.STEPS),
    *[st.sampled_from([SubmitCreative(), ApproveCreative(), ActivateCreative(), PauseCreative()])] * 8,
)
FUNDS: Final[Fields] = {"amount_micros": st.integers(1, MICROS_MAX), "currency": st.sampled_from(["EUR", "USD", "XXY"])}
advertiser_commands: Final = evenly(
    made(CreateAdvertiser, ADVERTISER),
    *[changes(ChangeAdvertiser, ADVERTISER)] * 2,
    *(made(kind, FUNDS) for kind in (DepositFunds, WithdrawFunds)),
    st.builds(PlaceLegalHold, reason=short_texts) | st.builds(LiftLegalHold) | st.builds(ErasePersonalData),
)
campaign_commands: Final = evenly(drafted_campaigns, *[changes(ChangeCampaign, CAMPAIGN)] * 4, *[campaign_steps] * 8)
creative_commands: Final = evenly(drafted_creatives, *[changes(ChangeCreative, CREATIVE)] * 4, *[creative_steps] * 8)
slot_commands: Final = evenly(
    made(CreateSlot, SLOT), changes(ChangeSlot, SLOT), made(IssueSlotKey, KEY), made(RevokeSlotKey, KEY)
)
bases: Final = made(
    Basis,
    {
        "position": counts,
        "late_seconds": st.integers(-5, 5),
        "urgency": st.integers(1, 8),
        "out": st.dictionaries(st.sampled_from(["no_budget", "on_page"]), st.lists(counts, max_size=3).map(tuple)),
        "facts": NONE | st.builds(Facts, zip=NONE | short_texts, keywords=words, key_values=CAMPAIGN["key_values"]),
        "cut": st.booleans(),
    },
)
request_tallies: Final = made(
    events.RequestTally,
    {
        "slot_id": st.uuids(),
        "country": NONE | st.sampled_from(["CN", "DE"]),
        "fills": counts,
        "no_fill": st.dictionaries(st.sampled_from(["no_budget", "paced", "frequency_capped"]), counts),
    },
)
_REFUSAL: Final[Fields] = dict.fromkeys(("actor", "reason", "network"), lines) | {"count": counts}
refusal_tallies: Final = made(RefusalTally, _REFUSAL | {"kind": st.sampled_from(get_args(RefusalKind))})
ACCESS: Final[Fields] = {
    **dict.fromkeys(("network", "role", "earlier", "method", "issuer"), short_texts),
    "session_id": st.uuids(),
    "advertiser_ids": _tuples_of(st.uuids()),
    "scopes": NONE | words,
    "second_factor": st.booleans(),
    "expires_at": NONE | utc_times,
    "what": st.sampled_from(get_args(ExportKind)),
    "demanded": st.booleans(),
    "since": utc_times,
    "lines": st.lists(refusal_tallies, max_size=3).map(tuple),
}
_FIELDS_BY_BEGINNING_OF_TAG: Final[Mapping[str, Fields]] = {
    "advertiser": ADVERTISER,
    "funds": FUNDS,
    "legal": {"reason": lines},
    "personal": {},
    "campaign": CAMPAIGN,
    "budget": BUDGET,
    "creative": CREATIVE | {"reason": long_texts},
    "slot": SLOT | KEY,
    "projection": {"projection": long_texts} | dict.fromkeys(("version", "as_of", "rows", "differing_keys"), counts),
    "requests": {"hour": utc_times, "lines": st.lists(request_tallies, max_size=3).map(tuple)},
    "organisation": {"name": names, "timezone": timezones, "currency": NONE | CAMPAIGN["currency"]}
    | {"slug": st.just("a-1"), **dict.fromkeys(("logo_url", "logo_file"), NONE | st.just("https://a.example/b.png"))},
    "log": dict.fromkeys(("old_key", "new_key"), long_texts),
    **dict.fromkeys(("signed", "person", "role", "password", "email", "provider", "invitation", "second"), ACCESS),
    **dict.fromkeys(("api", "webhook", "exported", "access"), ACCESS),
    "sessions": ACCESS | {"reason": st.sampled_from(get_args(SessionEnd))},
    "impression": DELIVERY | {"basis": bases},
    **dict.fromkeys(("view", "click", "start", "first", "midpoint", "third", "complete"), DELIVERY),
    "conversion": DELIVERY | {"decision_id": st.uuids(), "value_micros": micros},
    "error": DELIVERY | {"code": NONE | st.integers(100, 999)},
}


def tag_of(event: type[Struct]) -> str:
    """Return the name of an event type in the log."""
    return str(event.__struct_config__.tag)


EVENT_TYPES: Final[tuple[type[Struct], ...]] = get_args(events.Event)
event_facts: Final = st.one_of(
    *(made(kind, _FIELDS_BY_BEGINNING_OF_TAG[tag_of(kind).partition("_")[0]]) for kind in EVENT_TYPES)
)
entries: Final = made(events.Entry, {**ENTRY, "event": event_facts})

"""The rules that keep a creative out of a placement, one by one and in order, as plainly as they can be said.

`choosing` finds by bitsets what no rule stops; `first_stop` says which rule stopped one. A law of the tests ties the
two together: a creative comes out of `choosing` exactly if nothing here stops it.
"""

import re
from collections.abc import Callable, Collection
from datetime import date, datetime, time, timedelta, timezone
from typing import Final, NamedTuple
from uuid import UUID

from msgspec import Struct

from domain.ad_request import AdRequest, Geo
from domain.campaign import Active, Campaign
from domain.creative import Creative
from domain.iso import alpha_2
from domain.rating import audience_of, is_within
from domain.targeting import domain_of
from domain.terms import SlotTerms
from domain.values import AUDIENCES, WEEKDAYS, Audience, Target, TimeSlot, Weekday, local_date, zone

WHOLE_DAY: Final = TimeSlot(start="00:00", end="00:00")


class Case(Struct, frozen=True, kw_only=True):
    """What the rules look at: a creative and its campaign, and the slot on a page that asks for one at a moment."""

    creative_id: UUID
    creative: Creative
    campaign: Campaign
    is_advertiser_active: bool = True
    request: AdRequest
    slot: SlotTerms
    now: datetime


class Rule(NamedTuple):
    """A rule: its stable name, what it says when it stops a creative, and whether it does."""

    name: str
    sentence: str
    stops: Callable[[Case], bool]


def first_stop(case: Case) -> Rule | None:
    """Return the first rule that keeps a creative out, or None when it may be shown."""
    return next((rule for rule in RULES if rule.stops(case)), None)


def _other_size(case: Case) -> bool:
    terms = case.creative.terms
    return (terms.width, terms.height) != (case.slot.width, case.slot.height)


def _below_floor(case: Case) -> bool:
    pricing = case.campaign.terms.pricing
    return pricing.model == "cpm" and pricing.price_micros < case.slot.floor_cpm_micros


def _is_beyond(case: Case, widest: Audience | None) -> bool:
    audience = audience_of(case.creative.terms.content_rating)
    return widest is not None and AUDIENCES.index(audience) > AUDIENCES.index(widest)


def _is_stricter(case: Case) -> bool:
    content, rating = case.request.content, case.creative.terms.content_rating
    if content.rating_system is None or content.rating_label is None:
        return False
    return not is_within(rating, content.rating_system, content.rating_label)


def _is_any_of(categories: Collection[str], of: Collection[str]) -> bool:
    """Tell whether one of some categories is, or is part of, one of others: IAB7-1 of IAB7."""
    parents = [matched[1] for each in categories if (matched := re.fullmatch(r"(IAB\d+)-\d+", each))]
    return any(each in of for each in (*categories, *parents))


def _blocks_category(case: Case) -> bool:
    return _is_any_of(case.campaign.terms.categories, case.request.blocked.categories)


def _avoids_page(case: Case) -> bool:
    return _is_any_of(case.request.site.categories, case.campaign.terms.blocked_categories)


def _is_other_page(case: Case) -> bool:
    wanted = case.campaign.terms.page_categories
    return bool(wanted) and not _is_any_of(case.request.site.categories, wanted)


def _is_left_out(case: Case) -> bool:
    return any(_is_in(case.request.geo, target) for target in case.campaign.terms.excluded_targeting)


def _is_elsewhere(case: Case) -> bool:
    targeting = case.campaign.terms.targeting
    return bool(targeting) and not any(_is_in(case.request.geo, target) for target in targeting)


def _is_in(geo: Geo, target: Target) -> bool:
    country = None if geo.country is None else alpha_2(geo.country)
    city = None if geo.city is None else geo.city.casefold()
    return (
        (target.country is None or target.country == country)
        and (target.region is None or target.region == geo.region)
        and (not target.cities or city in {name.casefold() for name in target.cities})
        and (not target.postcodes or any(_has_postcode(geo, postcode) for postcode in target.postcodes))
    )


def _has_postcode(geo: Geo, postcode: str) -> bool:
    here, wanted = ("".join(text.split()).casefold() for text in (geo.zip or "", postcode))
    return here.startswith(wanted[:-1]) if wanted.endswith("*") else here == wanted


def _lacks_keyword(case: Case) -> bool:
    wanted = {word.casefold() for word in case.campaign.terms.keywords}
    return bool(wanted) and wanted.isdisjoint(word.casefold() for word in case.request.site.keywords)


def _speaks_otherwise(case: Case) -> bool:
    wanted = case.campaign.terms.languages
    language = (case.request.device.language or "").replace("_", "-").casefold()
    return bool(wanted) and not any(f"{language}-".startswith(f"{each.casefold()}-") for each in wanted)


def _is_other_device(case: Case) -> bool:
    wanted, device = case.campaign.terms.device_types, case.request.device.type
    is_wanted = device in wanted or ("mobile" in wanted and device in {"phone", "tablet"})
    return bool(wanted) and not is_wanted


def _is_below(case: Case, domains: Collection[str]) -> bool:
    domain = f".{domain_of(case.request) or ''}".rstrip(".").casefold()
    return any(domain.endswith(f".{each}") for each in domains)


def _has_other_values(case: Case) -> bool:
    told = case.request.key_values
    return any(set(values).isdisjoint(told.get(key, ())) for key, values in case.campaign.terms.key_values.items())


def _today(case: Case) -> date:
    return local_date(case.now, case.campaign.terms.timezone)


def _is_early(case: Case) -> bool:
    first_days = (case.campaign.terms.start_date, case.creative.terms.start_date)
    return any(day is not None and _today(case) < day for day in first_days)


def _is_over(case: Case) -> bool:
    campaign, creative = case.campaign.terms, case.creative.terms
    last_days = (campaign.end_date, campaign.expiry_date, creative.end_date, creative.expiry_date)
    return any(day is not None and _today(case) > day for day in last_days)


def _has_hours(case: Case) -> bool:
    terms = case.campaign.terms
    return bool(terms.time_slots or terms.weekdays or case.creative.terms.time_slots)


def _knows_no_time(case: Case) -> bool:
    by_viewer = case.campaign.terms.time_basis == "viewer"
    return by_viewer and case.request.geo.utcoffset is None and _has_hours(case)


def _local(case: Case) -> datetime:
    terms = case.campaign.terms
    if terms.time_basis == "campaign":
        return case.now.astimezone(zone(terms.timezone))
    return case.now.astimezone(timezone(timedelta(minutes=case.request.geo.utcoffset or 0)))


def _is_outside_hours_of_campaign(case: Case) -> bool:
    terms = case.campaign.terms
    if not terms.time_slots and not terms.weekdays:
        return False
    return not _is_within(_local(case), terms.time_slots or (WHOLE_DAY,), terms.weekdays or WEEKDAYS)


def _is_outside_hours(case: Case) -> bool:
    slots = case.creative.terms.time_slots
    return bool(slots) and not _is_within(_local(case), slots, WEEKDAYS)


def _is_within(local: datetime, slots: Collection[TimeSlot], weekdays: Collection[Weekday]) -> bool:
    """Tell whether one of the slots that began today or yesterday, on one of the weekdays, goes on."""
    today, yesterday = WEEKDAYS[local.weekday()], WEEKDAYS[local.weekday() - 1]
    for slot in slots:
        start, end = time.fromisoformat(slot.start), time.fromisoformat(slot.end)
        if today in weekdays and start <= local.time() and (local.time() < end or end <= start):
            return True
        if yesterday in weekdays and end <= start and local.time() < end:
            return True
    return False


NO_CREATIVE: Final = Rule("no_creative", "The campaign has no creative.", lambda _case: True)
"""What keeps a campaign out of which nothing could be shown."""

RULES: Final = (
    Rule("advertiser_inactive", "The advertiser is inactive.", lambda case: not case.is_advertiser_active),
    Rule("campaign_not_active", "The campaign is not active.", lambda case: not isinstance(case.campaign, Active)),
    Rule("not_approved", "The creative is not approved.", lambda case: case.creative.review != "approved"),
    Rule("creative_not_active", "The creative is not active.", lambda case: case.creative.status != "active"),
    Rule("ad_type", "The slot is of another ad type.", lambda case: case.creative.terms.ad_type != case.slot.ad_type),
    Rule("size", "The slot has another size.", _other_size),
    Rule(
        "media_type",
        "The slot does not take this media type.",
        lambda case: case.creative.terms.media_type not in case.slot.media_types,
    ),
    Rule("floor_price", "The campaign pays less than the slot's floor price.", _below_floor),
    Rule("slot_rating", "The slot is for a wider audience.", lambda case: _is_beyond(case, case.slot.max_rating)),
    Rule(
        "page_rating",
        "The page is for a wider audience.",
        lambda case: _is_beyond(case, case.request.content.max_rating),
    ),
    Rule(
        "child",
        "A child is shown what is for all audiences.",
        lambda case: case.request.privacy.coppa and _is_beyond(case, AUDIENCES[0]),
    ),
    Rule(
        "creative_blocked",
        "The page blocks the creative.",
        lambda case: case.creative_id in case.request.blocked.creatives,
    ),
    Rule(
        "advertiser_blocked",
        "The page blocks the advertiser.",
        lambda case: case.campaign.terms.advertiser_id in case.request.blocked.advertisers,
    ),
    Rule("page_label", "The page's limit is stricter than the creative's rating.", _is_stricter),
    Rule("category_blocked", "The page blocks a category of the campaign.", _blocks_category),
    Rule("page_category_blocked", "The campaign avoids a category of the page.", _avoids_page),
    Rule("page_category", "The campaign is for pages of other categories.", _is_other_page),
    Rule("place_excluded", "The campaign leaves this place out.", _is_left_out),
    Rule("place", "The campaign is shown in other places.", _is_elsewhere),
    Rule("keyword", "The page has none of the campaign's keywords.", _lacks_keyword),
    Rule("language", "The campaign is for viewers of other languages.", _speaks_otherwise),
    Rule("device_type", "The campaign is for other kinds of device.", _is_other_device),
    Rule(
        "domain_excluded",
        "The campaign leaves this domain out.",
        lambda case: _is_below(case, case.campaign.terms.excluded_domains),
    ),
    Rule(
        "domain",
        "The campaign is for other domains.",
        lambda case: bool(case.campaign.terms.domains) and not _is_below(case, case.campaign.terms.domains),
    ),
    Rule("key_values", "The request lacks a key of the campaign, or has other values of it.", _has_other_values),
    Rule("not_begun", "The flight has not begun.", _is_early),
    Rule("over", "The flight is over.", _is_over),
    Rule("viewer_time_unknown", "The campaign keeps to the viewer's clock, which is not told.", _knows_no_time),
    Rule("campaign_hours", "The campaign is shown at other times of the week.", _is_outside_hours_of_campaign),
    Rule("hours", "The creative is shown at other times of the day.", _is_outside_hours),
)
"""In the order in which they are asked: first what concerns the creative, then the slot, the page and the time.

Those of what happened before on the page, and to the campaign, are the situations of `explanation`.
"""

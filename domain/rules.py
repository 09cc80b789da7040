"""The rules that keep a creative out of a placement, one by one and in order, as plainly as they can be said.

`choosing` finds by bitsets what no rule stops; `first_stop` says which rule stopped one. A law of the tests ties the
two together: a creative comes out of `choosing` exactly if nothing here stops it.
"""

from collections.abc import Callable, Collection
from datetime import date, datetime, time
from typing import Final, NamedTuple
from uuid import UUID

from msgspec import Struct

from domain.ad_request import AdRequest, Geo
from domain.campaign import Active, Campaign
from domain.creative import Creative
from domain.iso import alpha_2
from domain.rating import audience_of
from domain.terms import SlotTerms
from domain.values import AUDIENCES, Audience, Target, TimeSlot, local_date, zone


class Case(Struct, frozen=True, kw_only=True):
    """What the rules look at: a creative and its campaign, and the slot on a page that asks for one at a moment.

    `shown` are the creatives that other placements of the page show already.
    """

    creative_id: UUID
    creative: Creative
    campaign: Campaign
    is_advertiser_active: bool = True
    request: AdRequest
    slot: SlotTerms
    now: datetime
    shown: Collection[UUID] = ()


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


def _blocks_category(case: Case) -> bool:
    return not set(case.request.blocked.categories).isdisjoint(case.campaign.terms.categories)


def _avoids_page(case: Case) -> bool:
    return not set(case.request.site.categories).isdisjoint(case.campaign.terms.blocked_categories)


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
        and (not target.postcodes or geo.zip in target.postcodes)
    )


def _today(case: Case) -> date:
    return local_date(case.now, case.campaign.terms.timezone)


def _is_early(case: Case) -> bool:
    first_days = (case.campaign.terms.start_date, case.creative.terms.start_date)
    return any(day is not None and _today(case) < day for day in first_days)


def _is_over(case: Case) -> bool:
    campaign, creative = case.campaign.terms, case.creative.terms
    last_days = (campaign.end_date, campaign.expiry_date, creative.end_date, creative.expiry_date)
    return any(day is not None and _today(case) > day for day in last_days)


def _is_outside_hours(case: Case) -> bool:
    slots = case.creative.terms.time_slots
    local = case.now.astimezone(zone(case.campaign.terms.timezone)).time()
    return bool(slots) and not any(_is_within(local, slot) for slot in slots)


def _is_within(local: time, slot: TimeSlot) -> bool:
    start, end = time.fromisoformat(slot.start), time.fromisoformat(slot.end)
    return start <= local < end if start < end else local >= start or local < end


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
    Rule("category_blocked", "The page blocks a category of the campaign.", _blocks_category),
    Rule("page_category_blocked", "The campaign avoids a category of the page.", _avoids_page),
    Rule("place", "The campaign is shown in other places.", _is_elsewhere),
    Rule("not_begun", "The flight has not begun.", _is_early),
    Rule("over", "The flight is over.", _is_over),
    Rule("hours", "The creative is shown at other times of the day.", _is_outside_hours),
    Rule("on_page", "The page shows the creative already.", lambda case: case.creative_id in case.shown),
)
"""In the order in which they are asked: first what concerns the creative, then the slot, the page and the time."""

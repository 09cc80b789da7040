"""Booking: the rules that the terms of a campaign keep, whoever sets them, and creatives' dates with them."""

from typing import Final

from domain.errors import (
    DateOutOfRange,
    DatesOutOfOrder,
    LimitsInconsistent,
    PostcodeMalformed,
    PriceNotWhole,
    TargetEmpty,
    TargetingContradictory,
    TargetingTooWide,
    UnknownCountry,
    UnknownCurrency,
    UnknownTimeZone,
)
from domain.iso import CURRENCIES, alpha_2
from domain.targeting import categories_of, domains_of, postcode_of
from domain.terms import CampaignTerms, CreativeTerms
from domain.values import DATE_MAX, DATE_MIN, Target, zone

IMPRESSIONS_PER_CPM: Final = 1_000
PLACES_PER_TARGET_MAX: Final = 1_000
VIEWS_PER_CAP_MAX: Final = 1_000
"""Bounds what is remembered of each viewer: the time of every impression that a cap still counts."""


def check_terms(terms: CampaignTerms) -> None:
    """Raise the refusal of the first rule that the terms break."""
    if terms.currency not in CURRENCIES:
        raise UnknownCurrency(f"ISO 4217 has no currency {terms.currency}.", pointer="/currency")
    if zone(terms.timezone) is None:
        raise UnknownTimeZone(f"There is no time zone {terms.timezone}.", pointer="/timezone")
    if terms.pricing.model == "cpm" and terms.pricing.price_micros % IMPRESSIONS_PER_CPM:
        raise PriceNotWhole(
            "A CPM price is a multiple of 1,000 micros, so that one impression costs a whole number of them.",
            pointer="/pricing/price_micros",
        )
    check_dates("campaign", terms)
    _check_limits(terms)
    _check_targeting(terms)


def check_dates(thing: str, terms: CampaignTerms | CreativeTerms) -> None:
    """Raise the refusal of the first rule that the dates of a campaign or a creative break."""
    for name in ("start_date", "end_date", "expiry_date"):
        day = getattr(terms, name)
        if day is not None and not DATE_MIN <= day <= DATE_MAX:
            raise DateOutOfRange(f"The {name} lies before {DATE_MIN} or after {DATE_MAX}.", pointer=f"/{name}")
    if terms.start_date is not None and terms.end_date is not None and terms.end_date < terms.start_date:
        raise DatesOutOfOrder("The end date lies before the start date.", pointer="/end_date")
    last_day = terms.end_date or terms.start_date
    if terms.expiry_date is not None and last_day is not None and terms.expiry_date < last_day:
        raise DatesOutOfOrder(f"The expiry date lies before the {thing}'s last day.", pointer="/expiry_date")


def _check_limits(terms: CampaignTerms) -> None:
    for total, daily in (("budget_micros", "daily_budget_micros"), ("impression_budget", "daily_impression_budget")):
        whole, part = getattr(terms, total), getattr(terms, daily)
        if whole is not None and part is not None and part > whole:
            raise LimitsInconsistent(f"The {daily} is more than the {total}.", pointer=f"/{daily}")
    for name in ("budget_micros", "daily_budget_micros"):
        limit = getattr(terms, name)
        if terms.pricing.model == "flat" and limit is not None and limit < terms.pricing.price_micros:
            # It could never be billed, and would be served for nothing.
            raise LimitsInconsistent(f"The {name} is less than the flat price.", pointer=f"/{name}")
    if (terms.max_view_count is None) != (terms.max_view_duration is None):
        raise LimitsInconsistent(
            "A frequency cap needs both max_view_count and max_view_duration.", pointer="/max_view_count"
        )
    if terms.max_view_count is not None and terms.max_view_count > VIEWS_PER_CAP_MAX:
        raise LimitsInconsistent(
            f"A frequency cap allows at most {VIEWS_PER_CAP_MAX:,} impressions.", pointer="/max_view_count"
        )


def _check_targeting(terms: CampaignTerms) -> None:
    for index, target in enumerate(terms.targeting):
        _check_target(target, f"/targeting/{index}")
    for index, target in enumerate(terms.excluded_targeting):
        _check_target(target, f"/excluded_targeting/{index}")
        if target == Target():
            raise TargetEmpty("This would leave out every place.", pointer=f"/excluded_targeting/{index}")
    for index, domain in enumerate(terms.domains):
        if not domains_of(domain).isdisjoint(terms.excluded_domains):
            raise TargetingContradictory(f"The domain {domain} is excluded as well.", pointer=f"/domains/{index}")
    for index, category in enumerate(terms.page_categories):
        if not categories_of([category]).isdisjoint(terms.blocked_categories):
            raise TargetingContradictory(
                f"The category {category} is blocked as well.", pointer=f"/page_categories/{index}"
            )


def _check_target(target: Target, pointer: str) -> None:
    if target.country is not None and alpha_2(target.country) is None:
        raise UnknownCountry(f"ISO 3166-1 has no country {target.country}.", pointer=f"{pointer}/country")
    if max(1, len(target.cities)) * max(1, len(target.postcodes)) > PLACES_PER_TARGET_MAX:
        raise TargetingTooWide(
            f"A target names at most {PLACES_PER_TARGET_MAX:,} pairs of city and postcode.", pointer=pointer
        )
    for index, postcode in enumerate(target.postcodes):
        if "*" in postcode[:-1] or not postcode_of(postcode).rstrip("*"):
            raise PostcodeMalformed(
                "A beginning of postcodes is written with one asterisk after it, as 10*.",
                pointer=f"{pointer}/postcodes/{index}",
            )

"""Targeting: what a request says about viewer and page, and what campaigns ask for, in the same words.

Every word of a request stands for itself and for all that it is part of (a postcode for its beginnings, `zh-Hans` for
`zh`, a domain for those above it), so that what a campaign asks for is found by looking it up.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from itertools import chain, product
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from domain.ad_request import AdRequest, Geo
from domain.iso import alpha_2
from domain.terms import CampaignTerms
from domain.values import DeviceType, Target

Place = tuple[str | None, str | None, str | None, str | None]
"""Country, region, city (case-folded) and postcode; None where a target does not say."""

EVERYWHERE: Final[Place] = (None, None, None, None)

_SUBCATEGORY: Final = re.compile(r"(IAB\d+)-\d+")
_HANDHELD: Final[frozenset[DeviceType]] = frozenset({"phone", "tablet"})


class Facet(NamedTuple):
    """A respect in which campaigns choose: the words of a request, those that a campaign wants, and those it avoids."""

    name: str
    words: Callable[[AdRequest], Collection[str]]
    wanted: Callable[[CampaignTerms], Collection[str]]
    avoided: Callable[[CampaignTerms], Collection[str]]


def asked_by(terms: CampaignTerms) -> Iterator[str]:
    """Yield what a campaign goes by, besides the facets, that not every request has to tell."""
    if any(target.postcodes for target in (*terms.targeting, *terms.excluded_targeting)):
        yield "postcode"
    if terms.time_basis == "viewer":
        yield "viewer_time"


def places(targets: Iterable[Target]) -> frozenset[Place]:
    """Return the places that targets name."""
    return frozenset(
        (target.country, target.region, city and city.casefold(), postcode and postcode_of(postcode))
        for target in targets
        for city, postcode in product(target.cities or (None,), target.postcodes or (None,))
    )


def places_of(geo: Geo, beginnings: Iterable[int]) -> Iterable[Place]:
    """Return the places in which a viewer is, with the beginnings of the postcode that have these lengths."""
    postcodes: set[str | None] = {None}
    if geo.zip:
        postcode = postcode_of(geo.zip)
        postcodes.add(postcode)
        postcodes.update(f"{postcode[:length]}*" for length in beginnings if length <= len(postcode))
    country = geo.country and alpha_2(geo.country)
    return product({country, None}, {geo.region, None}, {geo.city and geo.city.casefold(), None}, postcodes)


def beginnings_of(terms: CampaignTerms) -> frozenset[int]:
    """Return how long the beginnings of postcodes are that a campaign names."""
    return frozenset(
        len(postcode_of(postcode)) - 1
        for target in (*terms.targeting, *terms.excluded_targeting)
        for postcode in target.postcodes
        if postcode[-1:] == "*"
    )


def postcode_of(text: str) -> str:
    """Return a postcode as it is compared: without blanks and case."""
    return "".join(text.split()).casefold()


def keywords_of(words: Iterable[str]) -> frozenset[str]:
    """Return keywords as they are compared."""
    return frozenset(map(str.casefold, words))


def categories_of(categories: Iterable[str]) -> frozenset[str]:
    """Return categories with those that they are part of."""
    return frozenset(chain.from_iterable(map(lineage_of, categories)))


@lru_cache(maxsize=4_096)
def lineage_of(category: str) -> tuple[str, ...]:
    """Return a category, and the one that it is part of: IAB7-1 is IAB7 as well (IAB Content Taxonomy 1.0)."""
    matched = _SUBCATEGORY.fullmatch(category)
    return (category,) if matched is None else (category, matched[1])


def languages_of(tag: str | None) -> frozenset[str]:
    """Return the language ranges that a tag lies in (RFC 4647, basic filtering): `zh-Hans-CN` in `zh-hans` and `zh`."""
    parts = (tag or "").replace("_", "-").casefold().split("-")
    return frozenset("-".join(parts[:count]) for count in range(1, len(parts) + 1)) - {""}


def devices_of(device: DeviceType | None) -> frozenset[DeviceType]:
    """Return the kinds that a device is of."""
    if device is None:
        return frozenset()
    return frozenset({device, "mobile"}) if device in _HANDHELD else frozenset({device})


def domains_of(domain: str | None) -> frozenset[str]:
    """Return a domain with those above it."""
    labels = (domain or "").rstrip(".").casefold().split(".")
    return frozenset(".".join(labels[number:]) for number in range(len(labels))) - {""}


def domain_of(request: AdRequest) -> str | None:
    """Return the domain of the page, if need be from its address."""
    if request.site.domain is not None or request.site.page is None:
        return request.site.domain
    try:
        return urlsplit(request.site.page).hostname
    except ValueError:
        return None


def _nothing(_terms: CampaignTerms) -> Collection[str]:
    return ()


FACETS: Final = (
    Facet(
        "keywords",
        lambda request: keywords_of(request.site.keywords),
        lambda terms: keywords_of(terms.keywords),
        _nothing,
    ),
    Facet(
        "categories",
        lambda request: categories_of(request.site.categories),
        lambda terms: terms.page_categories,
        lambda terms: terms.blocked_categories,
    ),
    Facet(
        "language",
        lambda request: languages_of(request.device.language),
        lambda terms: keywords_of(terms.languages),
        _nothing,
    ),
    Facet("device", lambda request: devices_of(request.device.type), lambda terms: terms.device_types, _nothing),
    Facet(
        "domain",
        lambda request: domains_of(domain_of(request)),
        lambda terms: terms.domains,
        lambda terms: terms.excluded_domains,
    ),
)

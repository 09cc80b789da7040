"""Reference data for forms and validation: what the codes are that commands take, and what they mean.

Countries, subdivisions and currencies are those of pycountry (ISO 3166-1, 3166-2, 4217), as far as commands take them;
time zones those of the IANA database. `iab_content_taxonomy.tsv` holds versions 1.0 and 3.1 of the Content Taxonomy by
IAB Tech Lab (github.com/InteractiveAdvertisingBureau/Taxonomies, Creative Commons Attribution 3.0): version, code,
parent and name, unchanged; no maintained package carries it.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Literal, TypeVar
from zoneinfo import available_timezones

import pycountry
from msgspec import Struct

from domain import iso
from domain.rating import LABELS
from domain.values import Audience, zone

Taxonomy = Literal["1.0", "3.1"]
C = TypeVar("C", bound="Code")


class Code(Struct, frozen=True, kw_only=True):
    """A code, and what it means."""

    code: str
    name: str


class Country(Code, frozen=True, kw_only=True):
    """A country by its ISO 3166-1 alpha-2 code; commands take the alpha-3 code as well."""

    alpha_3: str


class Subdivision(Code, frozen=True, kw_only=True):
    """A part of a country by its ISO 3166-2 code; `parent` is the subdivision that it is a part of."""

    country: str
    kind: str
    parent: str | None


class RatingLabel(Code, frozen=True, kw_only=True):
    """A label of a content rating system, as `content_rating` takes both, and who may see what carries it."""

    system: str
    label: str
    audience: Audience


class Category(Code, frozen=True, kw_only=True):
    """A category of the IAB Content Taxonomy; `parent` is the code of the category that it is a part of."""

    taxonomy: Taxonomy
    parent: str | None


@cache
def countries() -> tuple[Country, ...]:
    """Return the countries that commands take."""
    return _sorted(
        Country(code=each.alpha_2, name=each.name, alpha_3=each.alpha_3)
        for each in pycountry.countries
        if each.alpha_2 in iso.COUNTRIES
    )


@cache
def subdivisions() -> tuple[Subdivision, ...]:
    """Return the subdivisions of all countries."""
    return _sorted(
        Subdivision(code=each.code, name=each.name, country=each.country_code, kind=each.type, parent=each.parent_code)
        for each in pycountry.subdivisions
    )


@cache
def time_zones() -> tuple[Code, ...]:
    """Return the time zones that commands take."""
    return _sorted(
        Code(code=name, name=name.replace("_", " ")) for name in available_timezones() if zone(name) is not None
    )


@cache
def currencies() -> tuple[Code, ...]:
    """Return the currencies that commands take."""
    return _sorted(
        Code(code=each.alpha_3, name=each.name) for each in pycountry.currencies if each.alpha_3 in iso.CURRENCIES
    )


@cache
def content_ratings() -> tuple[RatingLabel, ...]:
    """Return the labels of every content rating system, each system's from the widest audience to the narrowest."""
    return tuple(
        RatingLabel(code=f"{system}:{label}", name=f"{system} {label}", system=system, label=label, audience=audience)
        for system, labels in LABELS.items()
        for label, audience in labels.items()
    )


@cache
def iab_categories() -> tuple[Category, ...]:
    """Return the categories of both versions of the Content Taxonomy, in their order."""
    lines = files("infra").joinpath("iab_content_taxonomy.tsv").read_text(encoding="utf-8").splitlines()
    rows: Iterable[list[str]] = (line.split("\t") for line in lines)
    return tuple(
        Category(taxonomy="1.0" if version == "1.0" else "3.1", code=code, parent=parent or None, name=name)
        for version, code, parent, name in rows
    )


def matching(codes: Sequence[C], search: str) -> list[C]:
    """Return those of which code or name contain what is searched for, whatever its case and accents."""
    wanted = _folded(search)
    return [each for each in codes if wanted in _text_of(each)]


@cache
def _text_of(code: Code) -> str:
    return _folded(f"{code.code}\n{getattr(code, 'alpha_3', '')}\n{code.name}")


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in decomposed if not unicodedata.combining(each))


def _sorted(codes: Iterable[C]) -> tuple[C, ...]:
    return tuple(sorted(codes, key=lambda each: (_folded(each.name), each.code)))

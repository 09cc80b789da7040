"""Organisations: how they describe themselves, and what a description cannot say."""

from domain.errors import UnknownCurrency, UnknownTimeZone
from domain.iso import CURRENCIES
from domain.terms import OrganisationTerms
from domain.values import zone


def check(terms: OrganisationTerms) -> None:
    """Raise UnknownTimeZone or UnknownCurrency."""
    if zone(terms.timezone) is None:
        raise UnknownTimeZone(f"There is no time zone {terms.timezone}.", pointer="/timezone")
    if terms.currency is not None and terms.currency not in CURRENCIES:
        raise UnknownCurrency(f"ISO 4217 has no currency {terms.currency}.", pointer="/currency")

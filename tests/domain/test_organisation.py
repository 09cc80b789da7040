"""Organisations: what they cannot say of themselves."""

import pytest

from domain import organisation
from domain.errors import UnknownCurrency, UnknownTimeZone
from domain.terms import OrganisationTerms


def test_a_description_is_checked() -> None:
    """A time zone and a currency exist, and the latter need not be said."""
    organisation.check(OrganisationTerms(name="Northwind", slug="northwind"))
    organisation.check(OrganisationTerms(name="N", slug="n", timezone="Europe/Stockholm", currency="SEK"))
    with pytest.raises(UnknownTimeZone):
        organisation.check(OrganisationTerms(name="N", slug="n", timezone="Mars/Olympus"))
    with pytest.raises(UnknownCurrency):
        organisation.check(OrganisationTerms(name="N", slug="n", currency="XXY"))

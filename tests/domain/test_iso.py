"""Currencies and countries: the tables are those of ISO 4217 and ISO 3166-1."""

import pycountry
import pytest

from domain.iso import COUNTRIES, CURRENCIES, alpha_2


def test_currencies_are_those_of_iso_4217() -> None:
    """Every active currency is known, and nothing else; the codes for no currency and for testing buy nothing."""
    assert {currency.alpha_3 for currency in pycountry.currencies} - {"XTS", "XXX"} == CURRENCIES


def test_countries_are_those_of_iso_3166() -> None:
    """Every country is known by its alpha-2 and by its alpha-3 code, and nothing else."""
    assert {country.alpha_2 for country in pycountry.countries} == COUNTRIES
    for country in pycountry.countries:
        assert alpha_2(country.alpha_2) == country.alpha_2
        assert alpha_2(country.alpha_3) == country.alpha_2


@pytest.mark.parametrize("code", ["", "cn", "chn", "XX", "ZZZ", "CHNA", "156", "EU", "UK"])
def test_other_countries_are_unknown(code: str) -> None:
    """What ISO 3166-1 does not have has no alpha-2 code."""
    assert alpha_2(code) is None

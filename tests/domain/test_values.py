"""Texts, numbers, times and places: what passes their bounds and what does not."""

import json
import unicodedata
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, get_args

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain import values
from domain.values import flight, local_date, midnight, zone
from tests.domain.shape import passes
from tests.domain.strategies import law, moments, timezones

CONTROL_CHARACTERS: Final = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Cc"]

# For each kind of text, texts that pass.
TEXTS: Final[list[tuple[Any, list[str]]]] = [
    (values.Name, ["x", "Zürich 2026", "名前", "a" * 200]),
    (values.Line, ["", " ", "a b", "x" * 500]),
    (values.ShortText, ["x", " ", "北京", "x" * 100]),
    (values.LongText, ["", "x" * 5_000]),
    (values.Markup, ["<b>", "x" * 30_000]),
    (values.Email, ["a@b.example", "first.last+tag@sub.host.example", "用户@例子.example"]),
    (values.Phone, ["1", "+49 (30) 123-45/67", "(030) 1.2", "+" + "1" * 39]),
    (values.WebUrl, ["http://a", "https://shop.example:8443/a?b=c#d", "https://a/?to=@me", "https://a/" + "x" * 1_990]),
    (values.CurrencyCode, ["EUR"]),
    (values.CountryCode, ["CN", "CHN"]),
    (values.TimeZoneName, ["UTC", "Asia/Shanghai", "America/Argentina/Buenos_Aires", "Etc/GMT+3", "x" * 64]),
    (values.ClockTime, ["00:00", "09:59", "19:30", "23:59"]),
]

# For each kind of text, texts that do not pass.
MISFITS: Final[list[tuple[Any, list[str]]]] = [
    (values.Name, ["", " ", " x", "x ", "\u00a0x", "x\u2003", "a" * 201]),
    (values.Line, ["x" * 501]),
    (values.ShortText, ["", "x" * 101]),
    (values.LongText, ["x" * 5_001]),
    (values.Markup, ["", "x" * 30_001]),
    (
        values.Email,
        ["", "a", "a@b", "@b.example", "a@", "a@b.", "a@@b.example", "a b@c.example", "a" * 243 + "@example.com"],
    ),
    (values.Phone, ["", "-1", "call me", "1x", "+" + "1" * 40]),
    (values.WebUrl, ["", "https://a b", "https://a/b c", " https://a", "https://a/\u00a0", "https://a/" + "x" * 1_991]),
    (values.CurrencyCode, ["", "EU", "EURO", "eur", "E1R", " EUR"]),
    (values.CountryCode, ["", "C", "CHNA", "cn", "C1"]),
    (values.TimeZoneName, ["", "../../etc/passwd", "Asia Shanghai", "Zürich", "x" * 65]),
    (values.ClockTime, ["", "24:00", "9:00", "09:60", "09:5", "09:30:00", "-1:00", "0\u0669:30"]),
]

NOT_WEB_URLS: Final = """
    shop.example //shop.example /path https: https:a https:/a https:// https:///a https://?a https://#a
    javascript:alert(1) JavaScript:alert(1) javascript://a/%0ahttps://a ftp://a/b file:///etc/passwd data:,x mailto:a@b
    https://me@a/ https://me:pw@a/ https://:pw@a https://a@b@c https://a\\@b/ https://a\\b https://a/\\b
"""

NO_TIME_ZONES: Final = """
    Mars/Olympus utc America Asia/ /etc/localtime ../UTC Asia/../UTC tzdata.zi
    Factory localtime posix/UTC posixrules right/UTC
"""

# For each kind of number, the bounds, both included.
NUMBERS: Final[list[tuple[Any, int, int]]] = [
    (values.Micros, 0, 9_000_000_000_000_000),
    (values.PositiveMicros, 1, 9_000_000_000_000_000),
    (values.Count, 1, 1_000_000_000_000),
    (values.Pixels, 1, 10_000),
]


@pytest.mark.parametrize(("kind", "texts"), TEXTS)
def test_texts_within_their_bounds_pass(kind: Any, texts: list[str]) -> None:
    """A text passes up to its greatest length, in every script."""
    assert [text for text in texts if not passes(kind, json.dumps(text))] == []


@pytest.mark.parametrize(("kind", "texts"), MISFITS)
def test_texts_out_of_bounds_are_refused(kind: Any, texts: list[str]) -> None:
    """A text that is too long, empty where it must not be, or not what it claims to be does not pass."""
    assert [text for text in texts if passes(kind, json.dumps(text))] == []


@pytest.mark.parametrize("url", NOT_WEB_URLS.split())
def test_only_web_addresses_without_credentials_pass(url: str) -> None:
    """A URL is absolute, http or https, and names no user."""
    assert not passes(values.WebUrl, json.dumps(url))


@pytest.mark.parametrize(("kind", "texts"), TEXTS)
def test_control_characters_are_refused(kind: Any, texts: list[str]) -> None:
    """No control character passes, in front, within or at the end; texts of many lines may have tabs and line ends."""
    refused = set(CONTROL_CHARACTERS) - (set("\t\n\r") if kind in {values.LongText, values.Markup} else set())
    text = texts[0]
    assert [
        changed
        for character in sorted(refused)
        for changed in (character + text, text[:1] + character + text[1:], text + character)
        if passes(kind, json.dumps(changed))
    ] == []
    assert len(CONTROL_CHARACTERS) == 65


def test_texts_of_many_lines_may_have_tabs_and_line_ends() -> None:
    """Descriptions and markup keep their lines."""
    assert passes(values.LongText, json.dumps("a\tb\r\nc\n"))
    assert passes(values.Markup, json.dumps("<p>\r\n\t</p>\n"))


@pytest.mark.parametrize("raw", [rb'"\ud800"', rb'"a\udfffb"', rb'"\ud800\ud800 "', b'"\xed\xa0\x80"', b'"\xff"'])
def test_what_is_not_unicode_is_refused(raw: bytes) -> None:
    """Lone surrogates and bytes that are no UTF-8 do not pass, in any text."""
    assert not any(passes(kind, raw) for kind, _ in TEXTS)


@pytest.mark.parametrize(("kind", "least", "most"), NUMBERS)
def test_numbers_pass_between_their_bounds(kind: Any, least: int, most: int) -> None:
    """A whole number passes between its bounds and not beyond."""
    assert passes(kind, f"{least}")
    assert passes(kind, f"{most}")
    assert not passes(kind, f"{least - 1}")
    assert not passes(kind, f"{most + 1}")


@pytest.mark.parametrize(
    "raw",
    ["1.0", "1.5", "1e3", '"1"', "true", "null", "[1]", "-1", str(2**63), str(2**64), "1" * 400, "01", "+1", "NaN"],
)
def test_what_is_no_whole_number_is_refused(raw: str) -> None:
    """Money and counts are never guessed from floats, texts, truth values or what overflows."""
    assert not any(passes(kind, raw) for kind, _, _ in NUMBERS)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (values.Pricing, '{"model":"cpm"}'),
        (values.Pricing, '{"model":"cpm","price_micros":0}'),
        (values.Pricing, '{"model":"cpx","price_micros":1000}'),
        (values.Pricing, '{"model":"cpm","price_micros":1000,"x":1}'),
        (values.CapWindow, '{"value":0,"unit":"day"}'),
        (values.CapWindow, '{"value":1001,"unit":"day"}'),
        (values.CapWindow, '{"value":1,"unit":"second"}'),
        (values.DisplayTime, '{"value":86401,"unit":"second"}'),
        (values.DisplayTime, '{"value":1,"unit":"day"}'),
        (values.Target, '{"country":"China"}'),
        (values.Target, '{"city":"Berlin"}'),
        (values.Target, '{"cities":"Berlin"}'),
        (values.Target, json.dumps({"cities": ["x"] * 201})),
        (values.Target, json.dumps({"postcodes": ["x"] * 201})),
        (values.TimeSlot, '{"start":"08:00"}'),
        (values.TimeSlot, '{"start":"08:00","end":"24:00"}'),
        (values.ContentRating, '{"warning_required":1}'),
        (values.ContentRating, '{"rating_system":"FSK"}'),
        (values.ContentRating, json.dumps({"content_warnings": ["x"] * 101})),
        (values.Words, json.dumps(["x"] * 101)),
        (values.Words, '[""]'),
        (values.AdType, '"pop_under_ad"'),
        (values.MediaType, '"flash"'),
        (values.Audience, '"everyone"'),
    ],
)
def test_compounds_out_of_shape_are_refused(kind: Any, raw: str) -> None:
    """Unknown words and fields, missing fields, and lists over their bounds do not pass."""
    assert not passes(kind, raw)


def test_audiences_are_listed_once_each() -> None:
    """The order of audiences has every audience."""
    assert get_args(values.Audience) == values.AUDIENCES


@pytest.mark.parametrize("name", ["UTC", "Asia/Shanghai", "America/New_York", "Europe/Berlin", "Etc/GMT+3"])
def test_time_zones_are_known_by_their_iana_names(name: str) -> None:
    """A time zone is found by its IANA name."""
    found = zone(name)
    assert found is not None
    assert found.key == name


@pytest.mark.parametrize("name", NO_TIME_ZONES.split())
def test_other_time_zones_are_unknown(name: str) -> None:
    """A name that is not IANA's has no time zone, even where the machine keeps a file of that name."""
    assert zone(name) is None


@pytest.mark.parametrize("name", ["", "UTC\x00", "x" * 300])
def test_what_can_be_no_file_name_is_no_time_zone(name: str) -> None:
    """Looking for a time zone never fails."""
    assert zone(name) is None


@law
@for_all(day=st.dates(date(2000, 1, 1), date(2999, 12, 30)), name=timezones)
def test_a_day_begins_with_its_first_moment(day: date, name: str) -> None:
    """The moment a day begins is on that day, and the moment before it is not."""
    begin = midnight(day, name)
    assert begin.tzinfo is UTC
    assert local_date(begin, name) >= day  # later only where a zone jumped over a whole day
    assert local_date(begin - timedelta(seconds=1), name) < day


@pytest.mark.parametrize(
    ("day", "name", "hours"),
    [
        (date(2026, 3, 8), "America/New_York", 23),
        (date(2026, 11, 1), "America/New_York", 25),
        (date(2026, 3, 29), "Europe/Berlin", 23),
        (date(2026, 10, 25), "Europe/Berlin", 25),
        (date(2026, 4, 5), "Australia/Lord_Howe", 24.5),
        (date(2026, 4, 24), "Africa/Cairo", 23),
        (date(2011, 12, 30), "Pacific/Apia", 0),
        (date(2026, 3, 8), "Asia/Shanghai", 24),
    ],
)
def test_a_day_is_as_long_as_its_time_zone_makes_it(day: date, name: str, hours: float) -> None:
    """A flight of one day lasts from midnight to midnight, whatever the clocks do in between."""
    begin, end = flight(day, day, name)
    assert end is not None
    assert end - begin == timedelta(hours=hours)


def test_a_flight_is_told_in_utc() -> None:
    """A flight begins at local midnight of its first day and ends at local midnight after its last; it may be open."""
    assert flight(date(2026, 3, 1), date(2026, 3, 2), "Asia/Shanghai") == (
        datetime(2026, 2, 28, 16, tzinfo=UTC),
        datetime(2026, 3, 2, 16, tzinfo=UTC),
    )
    assert flight(date(2026, 3, 1), None, "UTC") == (datetime(2026, 3, 1, tzinfo=UTC), None)


@pytest.mark.parametrize("name", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_outermost_dates_have_a_flight(name: str) -> None:
    """The day after the last possible date exists in the first and in the last time zone of the world."""
    begin, end = flight(values.DATE_MIN, values.DATE_MAX, name)
    assert end is not None
    assert begin < end


@law
@for_all(moment=moments, name=timezones)
def test_every_moment_is_within_its_day(moment: datetime, name: str) -> None:
    """A moment lies in the flight of the date that it has in the same time zone."""
    day = local_date(moment, name)
    begin, end = flight(day, day, name)
    assert end is not None
    assert begin <= moment < end

"""Conversions: each is recorded once, and attributed only to a click that counts, within the advertiser's window."""

from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec import structs

from domain.conversion import Click, Reported, click_of, convert, landing, subject_of
from domain.events import ClickRecorded, ConversionRecorded, Entry, ImpressionRecorded
from domain.validity import RULES, is_invalid
from domain.values import CapWindow
from tests.domain.given import NOW
from tests.domain.stored import stored
from tests.domain.strategies import law

CLICKED: Final = structs.replace(stored(ClickRecorded), billed=True, reason=None)
ADVERTISER_ID: Final = CLICKED.advertiser_id
DECISION_ID: Final = UUID(int=6)
DAY: Final = CapWindow(value=1, unit="day")
REPORTED: Final = Reported(advertiser_id=ADVERTISER_ID, decision_id=DECISION_ID, value_micros=7)


def click(reason: str | None = None) -> Click:
    """Return a click that was recorded a day ago."""
    return Click(event=structs.replace(CLICKED, reason=reason), recorded_at=NOW - timedelta(days=1))


def entry(event: Any) -> Entry:
    """Return an entry of the decision."""
    return Entry(stream="decision", version=1, actor="slot", occurred_at=NOW, recorded_at=NOW, event=event)


def test_a_conversion_says_what_was_clicked() -> None:
    """It happened where the click did, costs nothing, and names nobody."""
    event = convert(REPORTED, click(), (), window=DAY, now=NOW)
    assert event is not None
    for name in ("campaign_id", "creative_id", "advertiser_id", "slot_id", "country", "region", "city", "currency"):
        assert getattr(event, name) == getattr(CLICKED, name)
    assert (event.decision_id, event.value_micros, event.rules) == (DECISION_ID, 7, RULES)
    assert (event.viewer, event.price_micros, event.billed, event.reason) == (None, 0, True, None)


@pytest.mark.parametrize(
    ("clicked", "reported", "late", "reason"),
    [
        (None, None, 0, None),
        (None, None, 1, "late"),
        (None, "invalid:prefetch", 1, "invalid:prefetch"),
        ("late", None, 0, None),
        ("over_budget", None, 0, None),
        ("test", None, 0, "test"),
        ("invalid:crawler", None, 0, "invalid:crawler"),
        ("invalid:crawler", None, 1, "invalid:crawler"),
    ],
)
def test_what_does_not_count_says_why(clicked: str | None, reported: Any, late: int, reason: str | None) -> None:
    """What is a microsecond too late, reported by a crawler, or follows from an invalid click, is not attributed."""
    said = structs.replace(REPORTED, invalid=reported)
    event = convert(said, click(clicked), (), window=DAY, now=NOW + timedelta(microseconds=late))
    assert event is not None
    assert (event.reason, event.billed) == (reason, reason is None)


@law
@for_all(reports=st.lists(st.sampled_from([None, "invalid:prefetch", "invalid:crawler"]), max_size=8))
def test_a_conversion_counts_once(reports: list[Any]) -> None:
    """However it is reported, it is recorded as valid once at most, and before that as invalid once at most."""
    known: list[ConversionRecorded] = []
    for invalid in reports:
        event = convert(structs.replace(REPORTED, invalid=invalid), click(), known, window=DAY, now=NOW)
        known += [] if event is None else [event]
    seen = [is_invalid(event.reason) for event in known]
    assert seen in ([], [True], [False], [True, False])
    assert (False in seen) == (None in reports)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"name": "order 1"}, {"name": "order 1", "decision_id": UUID(int=7)}, True),
        ({"name": "order 1"}, {"name": "order 2"}, False),
        ({"name": "order 1"}, {"name": "order 1", "advertiser_id": UUID(int=8)}, False),
        ({}, {"name": ""}, True),
        ({}, {"decision_id": UUID(int=7)}, False),
        ({}, {"name": str(DECISION_ID)}, False),
    ],
)
def test_what_is_one_conversion(first: dict[str, Any], second: dict[str, Any], same: bool) -> None:
    """An advertiser's name is one conversion whatever was clicked; without a name, a click is."""
    ids = [subject_of(structs.replace(REPORTED, **fields)) for fields in (first, second)]
    assert (ids[0] == ids[1]) is same


def test_the_click_that_counts_is_taken() -> None:
    """Of two clicks the valid one is meant; without one of that advertiser, there is none."""
    invalid = structs.replace(CLICKED, billed=False, reason="invalid:activity")
    for entries in ([invalid, CLICKED], [CLICKED, invalid]):
        found = click_of(map(entry, [stored(ImpressionRecorded), *entries]), ADVERTISER_ID)
        assert found is not None
        assert found.event == CLICKED
    assert click_of([entry(CLICKED)], UUID(int=9)) is None
    assert click_of([entry(stored(ImpressionRecorded))], ADVERTISER_ID) is None


@pytest.mark.parametrize(
    "url", ["https://shop.example", "https://shop.example/a?b=c", "https://shop.example/?b=&b=d#e", "http://s:8/;p?#f"]
)
def test_a_page_is_told_which_click_led_to_it(url: str) -> None:
    """The decision is added to the query, and nothing else of the URL changes; unless it is wanted, nothing at all."""
    assert landing(url, None, DECISION_ID) == url
    before, after = urlsplit(url), urlsplit(landing(url, "ledger_click", DECISION_ID))
    told = parse_qs(after.query, keep_blank_values=True)
    assert told.pop("ledger_click") == [str(DECISION_ID)]
    assert told == parse_qs(before.query, keep_blank_values=True)
    assert after._replace(query="") == before._replace(query="")


def test_a_report_after_a_valid_one_adds_nothing() -> None:
    """An invalid report does not keep a valid one after it from counting; once one counted, nothing more is."""
    known: list[ConversionRecorded] = []
    for invalid, recorded in (
        ("invalid:crawler", 1),
        ("invalid:prefetch", 1),
        (None, 2),
        (None, 2),
        ("invalid:crawler", 2),
    ):
        event = convert(structs.replace(REPORTED, invalid=invalid), click(), known, window=DAY, now=NOW)
        known += [] if event is None else [event]
        assert len(known) == recorded
    assert [event.billed for event in known] == [False, True]

"""The shape of traffic: what is expected follows what was seen, is never nothing, and counts open hours alone."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.dayparts import Hours, hours_of, is_open, minute_of_week
from domain.traffic import (
    ALWAYS,
    CELL_SECONDS,
    FLAT,
    LEAST_PART,
    WEEK_CELLS,
    WEEK_HOURS,
    WEEK_SECONDS,
    curve,
    either,
    learned,
    openings,
    together,
)
from domain.values import WEEKDAYS, TimeSlot
from tests.domain.strategies import law

MONDAY = 4 * 24
"""The first hour of a Monday, in hours since 1970."""

clock_times = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
hours = st.builds(
    hours_of,
    st.lists(st.builds(TimeSlot, start=clock_times, end=clock_times), min_size=1, max_size=3),
    st.sets(st.sampled_from(WEEKDAYS)),
)
offsets = st.integers(-48, 56).map(lambda quarters: 900 * quarters)


def test_nothing_known_is_flat() -> None:
    """Where nothing was asked for yet, all hours are alike."""
    assert learned({}, 0, 0) == learned({}, 0, 1_000) == together([]) == FLAT


def test_what_was_seen_for_long_is_expected() -> None:
    """After a month, weekdays and weekends, days and nights are told apart; a silent night is not taken for nothing."""
    past = {
        hour: 1_000 if (hour - MONDAY) % 168 < 120 else 100
        for hour in range(MONDAY, MONDAY + 4 * WEEK_HOURS)
        if hour % 24 >= 6
    }
    shape = learned(past, MONDAY, MONDAY + 4 * WEEK_HOURS)
    assert shape[(MONDAY + 12) % 168] == pytest.approx(1_000, rel=0.1)
    assert shape[(MONDAY + 5 * 24 + 12) % 168] < 300
    assert 0 < shape[(MONDAY + 3) % 168] < 20


def test_an_hour_that_was_not_seen_is_like_that_of_other_days() -> None:
    """Of one day that is known, the others take their shape, flatter than it was."""
    past = {hour: 900 if 8 <= hour < 20 else 100 for hour in range(24)}
    shape = learned(past, 0, 24)
    assert shape[24 + 12] > 1.5 * shape[24 + 3]
    assert shape[24 + 12] < 900


@law
@for_all(past=st.dictionaries(st.integers(0, 400), st.integers(0, 10**6)), more=st.integers(1, 400))
def test_a_shape_is_never_nothing(past: dict[int, int], more: int) -> None:
    """Every hour is expected to have some part of an average one, whatever was seen."""
    shape = learned({hour: count for hour, count in past.items() if hour < more}, 0, more)
    assert len(shape) == WEEK_HOURS
    assert min(shape) >= 0.99 * LEAST_PART * sum(count for hour, count in past.items() if hour < more) / more
    assert min(shape) > 0


@law
@for_all(hours=st.lists(hours, max_size=2), ahead=offsets, second=st.integers(0, 2 * WEEK_SECONDS))
def test_openings_are_local(hours: list[Hours], ahead: int, second: int) -> None:
    """Of a quarter of an hour that part is open in which the local clock is within all of the hours."""
    begins = second - second % CELL_SECONDS
    local = [
        minute_of_week(datetime.fromtimestamp(begins + 60 * minute, timezone(timedelta(seconds=ahead))))
        for minute in range(15)
    ]
    part = sum(all(is_open(each, minute) for each in hours) for minute in local) / 15
    assert openings(hours, ahead)[begins // CELL_SECONDS % WEEK_CELLS] == part


@law
@for_all(
    hours=st.lists(hours, max_size=2),
    ahead=offsets,
    first=st.integers(0, 10**9),
    spans=st.lists(st.integers(0, 10**6)),
)
def test_traffic_only_grows(hours: list[Hours], ahead: int, first: int, spans: list[int]) -> None:
    """The more time goes by the more traffic is over, every week alike; while nothing may be shown it stands still."""
    shape = learned({hour: hour % 50 for hour in range(400)}, 0, 400)
    parts = openings(hours, ahead)
    used = curve(shape, parts)
    assert used.upto(first + WEEK_SECONDS) - used.upto(first) == pytest.approx(used.sums[-1], rel=1e-3)
    for span in spans:
        assert used.upto(first + span) >= used.upto(first)
    cell = first // CELL_SECONDS
    stands = used.upto((cell + 1) * CELL_SECONDS) == pytest.approx(used.upto(cell * CELL_SECONDS), abs=1e-9)
    assert stands == (not parts[cell % WEEK_CELLS] and any(parts)) or parts[cell % WEEK_CELLS] < 0.1


def test_what_is_open_for_one_of_several_is_open() -> None:
    """A campaign may be shown while any of its creatives may; one that never may is taken for one that always may."""
    morning, evening = (Hours(every=1_440, spans=((start * 60, end * 60),)) for start, end in ((6, 12), (18, 23)))
    both = either([openings([morning], 0), openings([evening], 0)])
    assert sum(both) == 7 * 4 * (6 + 5)
    assert curve(FLAT, (0.0,) * WEEK_CELLS) == curve(FLAT, ALWAYS)
    assert together([FLAT, FLAT])[0] == 2
    assert datetime.fromtimestamp(0, UTC).weekday() == 3

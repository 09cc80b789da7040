"""The shape of traffic: how many requests to expect at each hour of the week, and how much of them is over by a moment.

The week is that of UTC and begins where time does in seconds since 1970, on a Thursday. What is expected of an hour of
the week is what that hour saw before, drawn towards what that hour of the day saw on other days, and that towards the
hour that is average: the less is known, the flatter.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from domain.dayparts import DAY_MINUTES, WEEK_MINUTES, Hours

HOUR_SECONDS: Final = 3_600
DAY_HOURS: Final = 24
WEEK_HOURS: Final = 168
CELL_MINUTES: Final = 15
"""Time zones are as far from UTC as some quarters of an hour, and so are most time slots from full hours."""

HOUR_CELLS: Final = 60 // CELL_MINUTES
DAY_CELLS: Final = DAY_MINUTES // CELL_MINUTES
WEEK_CELLS: Final = 7 * DAY_CELLS
CELL_SECONDS: Final = CELL_MINUTES * 60
WEEK_SECONDS: Final = WEEK_CELLS * CELL_SECONDS

_FIRST_DAY: Final = 3
"""1970 began on a Thursday."""

LEAST_PART: Final = 0.02
"""No hour is expected to have less than this part of an average one: a silent night may be none tomorrow."""

Shape = tuple[float, ...]
"""Requests to expect at each of the 168 hours of the week."""

Openings = tuple[float, ...]
"""Of each quarter of an hour of the week, the part in which something may be shown."""

FLAT: Final[Shape] = (1.0,) * WEEK_HOURS
ALWAYS: Final[Openings] = (1.0,) * WEEK_CELLS


class Curve(Struct, frozen=True, kw_only=True):
    """The traffic of a week, summed up: how much of it is over at the beginning of each quarter of an hour."""

    sums: tuple[float, ...]

    def upto(self, second: float) -> float:
        """Return how much traffic there is from 1970 up to a moment, if all weeks are alike."""
        weeks, rest = divmod(second, WEEK_SECONDS)
        cell, part = divmod(rest, CELL_SECONDS)
        before = self.sums[int(cell)]
        return weeks * self.sums[-1] + before + (self.sums[int(cell) + 1] - before) * part / CELL_SECONDS


def learned(requests: Mapping[int, int], first_hour: int, last_hour: int) -> Shape:
    """Return the shape that hours of the past suggest, from the first up to the last, which is not among them.

    `requests` holds those that had any; hours are counted from 1970.
    """
    hours = last_hour - first_hour
    if hours <= 0 or not any(requests.values()):
        return FLAT
    sums, seen = [0.0] * WEEK_HOURS, [hours // WEEK_HOURS] * WEEK_HOURS
    for hour in range(last_hour - hours % WEEK_HOURS, last_hour):
        seen[hour % WEEK_HOURS] += 1
    for hour, count in requests.items():
        sums[hour % WEEK_HOURS] += count
    mean = sum(sums) / hours
    by_day = [(sum(sums[hour::DAY_HOURS]) + mean) / (sum(seen[hour::DAY_HOURS]) + 1) for hour in range(DAY_HOURS)]
    expected = ((sums[hour] + by_day[hour % DAY_HOURS]) / (seen[hour] + 1) for hour in range(WEEK_HOURS))
    return tuple(max(each, LEAST_PART * mean) for each in expected)


def together(shapes: Sequence[Shape]) -> Shape:
    """Return the shape of several slots as one; nothing is known of none."""
    return tuple(map(sum, zip(*shapes, strict=True))) if shapes else FLAT


def openings(hours: Iterable[Hours], ahead_seconds: int) -> Openings:
    """Return when something may be shown that has to be within all of these hours of a clock, so far ahead of UTC."""
    minutes = (1 << WEEK_MINUTES) - 1
    for each in hours:
        minutes &= _minutes(each)
    first = _FIRST_DAY * DAY_MINUTES + ahead_seconds // 60
    turned = (minutes << WEEK_MINUTES | minutes) >> first % WEEK_MINUTES
    cell = (1 << CELL_MINUTES) - 1
    return tuple((turned >> at * CELL_MINUTES & cell).bit_count() / CELL_MINUTES for at in range(WEEK_CELLS))


def either(openings_of_each: Iterable[Openings]) -> Openings:
    """Return when any of several things may be shown."""
    return tuple(map(max, zip(*openings_of_each, strict=True)))


def curve(shape: Shape, open_parts: Openings) -> Curve:
    """Return the traffic of a week as far as it may be used; where that is none of it, all of it."""
    used = open_parts if any(open_parts) else ALWAYS
    sums = [0.0]
    for cell, part in enumerate(used):
        sums.append(sums[-1] + shape[cell // HOUR_CELLS] / HOUR_CELLS * part)
    return Curve(sums=tuple(sums))


def _minutes(hours: Hours) -> int:
    """Return the bitset of the minutes of the week within some hours; the first is that of Monday."""
    bits = 0
    for start, end in hours.spans:
        for begins in range(start, WEEK_MINUTES, hours.every):
            bits |= (1 << end - start) - 1 << begins
    return bits & (1 << WEEK_MINUTES) - 1 | bits >> WEEK_MINUTES

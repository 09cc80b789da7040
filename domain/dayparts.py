"""Dayparts: the hours of local time, of every day or of some weekdays, in which something may be shown."""

from collections.abc import Collection
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Final

from msgspec import Struct

from domain.values import WEEKDAYS, TimeSlot, Weekday

DAY_MINUTES: Final = 1_440
WEEK_MINUTES: Final = 7 * DAY_MINUTES


class Hours(Struct, frozen=True, kw_only=True):
    """Spans of minutes, start included and end excluded, which come again every so many minutes, a day or a week.

    A span that goes on after the end of the day or the week ends after it.
    """

    every: int
    spans: tuple[tuple[int, int], ...]


def hours_of(time_slots: Collection[TimeSlot], weekdays: Collection[Weekday] = ()) -> Hours | None:
    """Return the hours of time slots that begin on some weekdays, or on all when none is named; None means always."""
    slots = [_span(slot) for slot in time_slots]
    if not weekdays:
        return Hours(every=DAY_MINUTES, spans=tuple(slots)) if slots else None
    mornings = [WEEKDAYS.index(day) * DAY_MINUTES for day in weekdays]
    return Hours(
        every=WEEK_MINUTES,
        spans=tuple(
            (morning + start, morning + end) for morning in mornings for start, end in slots or [(0, DAY_MINUTES)]
        ),
    )


def is_open(hours: Hours, minute: int) -> bool:
    """Tell whether a minute of the local week is within some hours."""
    first = minute % hours.every
    return any(start <= first < end or first + hours.every < end for start, end in hours.spans)


def minute_of_week(local: datetime) -> int:
    """Return the minute of the week that a local time is in; weeks begin on Monday."""
    return local.weekday() * DAY_MINUTES + local.hour * 60 + local.minute


def ahead(minutes: int) -> tzinfo:
    """Return the time zone whose clocks are so many minutes ahead of UTC."""
    return timezone(timedelta(minutes=minutes))


def _span(slot: TimeSlot) -> tuple[int, int]:
    start, end = _minute(slot.start), _minute(slot.end)
    return start, end if end > start else end + DAY_MINUTES


def _minute(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])

"""Scenes for pacing: campaigns' flights over the traffic of days, of a week, and of a recorded evening."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from math import pi, sin
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import structs

from domain.dayparts import Hours
from domain.pacing import Portion
from domain.traffic import ALWAYS, WEEK_SECONDS, Shape, curve, learned, openings
from tests.pacing.flights import Flown, fly

HOUR: Final = 3_600
DAY: Final = 24 * HOUR
MONDAY: Final = 2_899 * WEEK_SECONDS + 4 * DAY
"""The beginning of a Monday of 2025, in UTC."""

NOON: Final = MONDAY + 12 * HOUR

EVENINGS: Final = Hours(every=1_440, spans=((18 * 60, 23 * 60 + 30),))
RECORDED: Final = Path(__file__).parents[3] / "shared" / "data" / "ipinyou" / "impressions.tsv"
EVENING: Final = (18 * HOUR + 30 * 60, 23 * HOUR + 40 * 60)
"""From when to when the recorded evening lasts, in seconds since its midnight; then its record trickles away."""

Traffic = Callable[[int], float]


class Scene(NamedTuple):
    """A flight, and the moments at which it has to be on its curve."""

    flown: Flown
    moments: Sequence[int]

    @property
    def deviation(self) -> float:
        """The largest deviation at these moments, as a part of the curve."""
        return self.flown.deviation(self.moments)


def weekly(second: int) -> float:
    """Return the traffic of a moment of a week beside the average: still nights, busy evenings, quiet weekends."""
    weekend = 0.5 if (second - MONDAY) % WEEK_SECONDS >= 5 * DAY else 1.0
    return weekend * (1 + 0.9 * sin((second % DAY / DAY - 0.4) * 2 * pi))


def spiked(second: int) -> float:
    """Return traffic that is ten times as much for half an hour at noon."""
    return weekly(second) * (10 if 12 * HOUR <= second % DAY < 12.5 * HOUR else 1)


def silent(second: int) -> float:
    """Return traffic of which none comes from six to nine in the morning, though it is expected."""
    return 0.0 if 6 * HOUR <= second % DAY < 9 * HOUR else weekly(second)


def shape_of(traffic: Traffic) -> Shape:
    """Return what is learned of four weeks of some traffic."""
    first = MONDAY // HOUR - 4 * 168
    past = {hour: round(1_000 * traffic(hour * HOUR + HOUR // 2)) for hour in range(first, MONDAY // HOUR)}
    return learned(past, first, MONDAY // HOUR)


WEEKLY: Final = curve(shape_of(weekly), ALWAYS)


def portion(limit: int, days: int = 1, **fields: float) -> Portion:
    """Return a portion that begins with the Monday."""
    fresh = Portion(limit=limit, delivered=0, since=MONDAY, until=MONDAY + days * DAY)
    return structs.replace(fresh, **fields)


def asked(traffic: Traffic, limit: int, days: int, times: float) -> Traffic:
    """Return traffic in which so many times as many requests as a limit come within so many days."""
    whole = sum(traffic(MONDAY + quarter * 900) for quarter in range(days * 96)) * 900
    return lambda second: traffic(second) * limit * times / whole


def hours(days: int) -> list[int]:
    """Return the end of every hour of so many days."""
    return [MONDAY + hour * HOUR for hour in range(1, days * 24 + 1)]


def of_day(limit: int, traffic: Traffic, times: float) -> Scene:
    """Fly for a day over traffic that is expected to be as usual."""
    flown = fly([portion(limit)], WEEKLY, asked(traffic, limit, 1, times), (MONDAY, MONDAY + DAY), step=2)
    return Scene(flown, hours(1))


def of_week(limit: int, times: float, *, late: int = 1) -> Scene:
    """Fly for a week, in steps of ten seconds, by figures that are so many steps late."""
    span = (MONDAY, MONDAY + 7 * DAY)
    flown = fly([portion(limit, 7)], WEEKLY, asked(weekly, limit, 7, times), span, step=10, delay=late)
    return Scene(flown, hours(7))


def of_silent_night() -> Scene:
    """Fly for a day in which nothing comes for three hours; an hour later it should be on its curve again."""
    scene = of_day(20_000, silent, 4)
    return scene._replace(moments=[*scene.moments[:6], *scene.moments[9:]])


def of_evenings(limit: int = 10_000) -> Scene:
    """Fly for three days with a campaign that may be shown in the evenings alone."""
    used, of_days = curve(shape_of(weekly), openings([EVENINGS], 0)), portion(limit, days=3)

    def open_only(second: int) -> float:
        return weekly(second) if 18 * HOUR <= second % DAY < 23.5 * HOUR else 0.0

    flown = fly([of_days], used, asked(open_only, limit, 3, 10), (of_days.since, of_days.until), step=5)
    return Scene(flown, hours(3))


def of_overdue(limit: int = 10_000) -> Scene:
    """Fly from noon on with a campaign that should have begun at midnight; at two it should be on its curve."""
    overdue = portion(limit)
    flown = fly([overdue], WEEKLY, asked(weekly, limit, 1, 4), (NOON, overdue.until), step=2)
    return Scene(flown, hours(1)[13:])


def of_recorded_evening(limit: int = 2_000) -> Scene:
    """Fly through the recorded evening, of which the shape is known from days before; it has 10,000 requests."""
    begins, ends = (MONDAY + second for second in EVENING)
    requests: Counter[int] = Counter()
    for line in RECORDED.read_text(encoding="utf-8", errors="replace").splitlines():
        at = datetime.strptime(line.split("\t")[1][:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        requests[MONDAY + at.hour * HOUR + at.minute * 60 + at.second] += 1
    by_hour: Counter[int] = Counter()
    for second, count in requests.items():
        for day in range(1, 8):
            by_hour[second // HOUR - day * 24] += count
    used = curve(learned(by_hour, MONDAY // HOUR - 168, MONDAY // HOUR), ALWAYS)
    evening = portion(limit, since=begins, until=ends)
    flown = fly([evening], used, lambda second: float(requests[second]), (begins, ends))
    return Scene(flown, [*range(begins + HOUR, ends, HOUR), ends])


SCENES: Final[Mapping[str, Callable[[], Scene]]] = {
    "day": lambda: of_day(20_000, weekly, 20),
    "week": lambda: of_week(50_000, 8),
    "spike": lambda: of_day(20_000, spiked, 15),
    "silent-night": of_silent_night,
    "evenings-only": of_evenings,
    "overdue": of_overdue,
    "recorded-evening": lambda: of_recorded_evening(6_000),
}
"""By name; the recorded evening is only there where its record is."""

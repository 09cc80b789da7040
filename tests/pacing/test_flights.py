"""Pacing: whole flights simulated over the traffic of days, weeks and a recorded evening."""

from typing import Final

import pytest
from msgspec import structs

from domain.pacing import URGENCY_MAX, pace
from domain.traffic import ALWAYS as ANY_TIME
from domain.traffic import FLAT, curve
from tests.pacing import shared_evening
from tests.pacing.flights import LEAST, fly
from tests.pacing.scenes import (
    DAY,
    HOUR,
    MONDAY,
    NOON,
    RECORDED,
    WEEKLY,
    asked,
    hours,
    of_day,
    of_evenings,
    of_overdue,
    of_recorded_evening,
    of_silent_night,
    of_week,
    portion,
    shape_of,
    spiked,
    weekly,
)

DEVIATION_MAX: Final = 0.05


@pytest.mark.parametrize("times", [1.3, 20, 5_000])
def test_a_day_follows_the_curve(times: float) -> None:
    """At every hour within 5 % of the curve, all of it by midnight; with two workers, and figures two seconds late."""
    scene = of_day(5_000, weekly, times)
    assert scene.deviation <= DEVIATION_MAX
    assert scene.flown.delivered[-1] == 5_000


@pytest.mark.parametrize("late", [1, 2])
def test_a_week_follows_the_curve(late: int) -> None:
    """Weekend and nights are delivered as much less as there is less traffic, though figures are late by 20 s."""
    scene = of_week(50_000, 8, late=late)
    assert scene.deviation <= DEVIATION_MAX
    assert scene.flown.delivered[-1] == 50_000
    friday, saturday = (scene.flown.delivered[day * DAY // 10 - 1] for day in (5, 6))
    assert saturday - friday < 0.7 * friday / 5


def test_a_spike_changes_nothing() -> None:
    """Ten times the traffic for half an hour leaves the campaign where it should be, before it and after it."""
    scene = of_day(20_000, spiked, 15)
    assert scene.deviation <= DEVIATION_MAX
    assert scene.flown.delivered[-1] == 20_000


def test_what_a_silent_night_leaves_is_caught_up() -> None:
    """Where nothing came for hours though it was expected, the campaign is on its curve again an hour later."""
    scene = of_silent_night()
    assert scene.deviation <= DEVIATION_MAX
    assert scene.flown.deviation([MONDAY + 9 * HOUR]) > DEVIATION_MAX
    assert scene.flown.delivered[-1] == 20_000


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded evening is not here")
@pytest.mark.parametrize("limit", [500, 2_000, 6_000, 8_000])
def test_a_recorded_evening_follows_the_curve(limit: int) -> None:
    """Requests as people made them, by the second: on the curve at every hour, and all of it by the end."""
    scene = of_recorded_evening(limit)
    assert scene.deviation <= DEVIATION_MAX
    assert scene.flown.delivered[-1] == limit


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded evening is not here")
def test_campaigns_that_share_an_evening_all_follow_their_curves() -> None:
    """Whatever 199 others want, each is within a few impressions of it at every quarter, and delivered in full."""
    sold = shared_evening.sale()
    found = shared_evening.courses(sold, shared_evening.play(sold)).values()
    assert len(found) == shared_evening.COUNT
    assert max(course.off for course in found) <= LEAST
    assert [course.delivered[-1] for course in found] == [course.limit for course in found]
    assert sum(course.limit for course in found) == pytest.approx(len(sold.asked) / 2, rel=0.05)


def test_traffic_of_another_shape_is_corrected() -> None:
    """Where the shape is not known and taken for flat, all is delivered, and as evenly as requests come."""
    daily, flat = portion(20_000), curve(FLAT, ANY_TIME)
    flown = fly([daily], flat, asked(weekly, 20_000, 1, 40), (daily.since, daily.until), step=2)
    assert flown.deviation(hours(1)) <= DEVIATION_MAX
    assert flown.delivered[-1] == daily.limit


def test_a_campaign_of_the_evenings_is_delivered_in_the_evenings() -> None:
    """Hours in which nothing may be shown are left out of the curve, and the others have to be enough."""
    scene = of_evenings(10_000)
    assert scene.deviation <= DEVIATION_MAX
    assert scene.flown.delivered[-1] == 10_000


@pytest.mark.parametrize(("limit", "step"), [(20_000, 2), (100, 5)])
def test_a_night_with_nearly_nothing_due_is_no_black_out(limit: int, step: int) -> None:
    """Where next to nothing is expected for hours it goes on as far as due, and on time when the day has come."""
    awake = curve(shape_of(lambda second: 1.0 if second % DAY >= 8 * HOUR else 0.0), ANY_TIME)
    flown = fly([portion(limit)], awake, asked(weekly, limit, 1, 50), (MONDAY, MONDAY + DAY), step=step)
    by_hour = [flown.delivered[hour * HOUR // step - 1] for hour in range(1, 25)]
    assert 0 < by_hour[6] <= limit * 0.02
    assert by_hour[7] < by_hour[8]
    assert flown.deviation(hours(1)) <= DEVIATION_MAX
    assert flown.delivered[-1] == limit
    if limit > 100 * 8:  # so much that some is due in each hour of the night
        assert sorted(set(by_hour)) == by_hour


def test_money_by_day_and_in_all() -> None:
    """A daily budget of money within one of the flight: every day spends its own, and the flight no more than all."""
    total = portion(30_000 * 500, days=3, each=500)
    traffic = asked(weekly, 30_000, 3, 10)

    for midnight in range(MONDAY, MONDAY + 3 * DAY, DAY):
        day = portion(9_000 * 500, since=midnight, until=midnight + DAY, each=500)
        flown = fly([day, total], WEEKLY, traffic, (midnight, midnight + DAY), step=8)
        assert flown.delivered[-1] == 9_000
        total = structs.replace(total, delivered=total.delivered + flown.delivered[-1] * 500)


def test_a_campaign_that_is_overdue_catches_up() -> None:
    """Late by half of the flight, it is urgent, and delivered in full where there is enough to be had."""
    assert pace([portion(10_000)], WEEKLY, NOON).urgency == URGENCY_MAX
    scene = of_overdue(10_000)
    assert scene.flown.delivered[-1] == 10_000
    assert scene.deviation <= DEVIATION_MAX
